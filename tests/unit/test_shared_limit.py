"""A rate limit's shared file is locked by somebody who does not let it go: every wait has an end, and says why."""

from __future__ import annotations

import fcntl
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import sealwax
from sealwax.lab import Lab

CONTEXT: Final = {"purpose": "limits"}
HELD: Final = "another process holds a lock on the file"


@pytest.fixture
def limit(tmp_path: Path) -> Iterator[sealwax.RateLimit]:
    """One whose file is locked, through another descriptor that may only read."""
    path = tmp_path / "limit"
    made = sealwax.RateLimit(100, shared=path)
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield made
    os.close(descriptor)


@pytest.mark.slow
@pytest.mark.parametrize(
    "use",
    [
        lambda limit: limit.acquire(time.monotonic() + 0.05),
        lambda limit: limit.acquire(time.monotonic() - 1),
        lambda limit: limit.throttled(time.monotonic()),
        lambda limit: limit.current_rate,
        lambda limit: sealwax.RateLimit(100, shared=limit.__getstate__()["shared"]),
    ],
    ids=["acquire", "too late", "throttled", "rate", "another"],
)
def test_a_held_lock_is_told(limit: sealwax.RateLimit, use: Callable[[sealwax.RateLimit], object]) -> None:
    with pytest.raises(sealwax.FileError, match=HELD):
        use(limit)


def test_all_threads_are_told(limit: sealwax.RateLimit) -> None:
    told: list[str] = []

    def work() -> None:
        try:
            limit.acquire(time.monotonic() + 0.1)
        except sealwax.FileError as error:
            told.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == len(threads)
    assert all(HELD in one for one in told)


def test_a_request_ends_by_its_deadline(tmp_path: Path, limit: sealwax.RateLimit) -> None:
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="demo")
        retries = sealwax.RetryPolicy(deadline=0.1)
        keyring = sealwax.KmsKeyring("alias/demo", session=lab.session(), retries=retries, limit=limit)
        with pytest.raises(sealwax.FileError, match=HELD):
            sealwax.Sealer(keyring).encrypt(b"x", context=CONTEXT)


def test_a_shared_limit_is_the_same_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    limit = sealwax.RateLimit(2, burst=2, shared="limit")
    pickled = pickle.dumps(limit)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    arrived = pickle.loads(pickled)
    limit.throttled(time.monotonic() + 1)
    assert arrived.current_rate < 2
    assert os.listdir() == []
