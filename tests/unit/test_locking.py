"""The one lock on files that its holder may replace or remove."""

from __future__ import annotations

import functools
import os
import threading
from pathlib import Path

import pytest

from sealwax._core import locking


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


def test_a_lock_that_is_held_is_refused_and_free_once_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    take = functools.partial(locking.lock, lambda: opened(path), functools.partial(locking.is_at, path))
    first = take()
    before = os.listdir("/dev/fd")
    with pytest.raises(BlockingIOError):
        take()
    assert os.listdir("/dev/fd") == before
    os.close(first)
    os.close(take())


@pytest.mark.parametrize("successor", [None, b"another"])
def test_a_file_that_was_replaced_meanwhile_is_not_the_one_that_is_locked(
    tmp_path: Path, successor: bytes | None
) -> None:
    path = tmp_path / "lock"
    holder = locking.lock(lambda: opened(path), functools.partial(locking.is_at, path))
    waiting = threading.Event()

    def opened_and_told() -> int:
        descriptor = opened(path)
        waiting.set()
        return descriptor

    def replace() -> None:
        waiting.wait(60)
        path.unlink()
        if successor is not None:
            path.write_bytes(successor)
        os.close(holder)

    thread = threading.Thread(target=replace)
    thread.start()
    descriptor = locking.lock(opened_and_told, functools.partial(locking.is_at, path), patience=60)
    thread.join()
    assert locking.is_at(path, descriptor)
    assert os.pread(descriptor, 100, 0) == (successor or b"")
    os.close(descriptor)
