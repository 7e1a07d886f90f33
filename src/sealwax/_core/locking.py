"""Exclusive locks (flock) on files that may be replaced or removed by whoever holds the lock."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from typing import Final

from sealwax._core.keyring import now

_PAUSE_SECONDS: Final = 0.05


def is_at(path: str | os.PathLike[str], descriptor: int) -> bool:
    """Whether an open file is the one at ``path``."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))  # noqa: PTH116
    except FileNotFoundError:
        return False


def lock(open_file: Callable[[], int], is_current: Callable[[int], bool], *, patience: float = 0) -> int:
    """Open and lock a file, and return its descriptor. To close it is to unlock it.

    If the file was replaced or removed while its lock was waited for, the new one is opened and locked instead.

    Args:
        open_file: opens the file by its name.
        is_current: whether an open file is still the one with that name.
        patience: for how many seconds to wait for a lock that another process holds.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the file cannot be opened, or its file system does not support locks.
    """
    until = now() + patience
    while True:
        descriptor = open_file()
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if now() >= until:
                        raise
                    time.sleep(_PAUSE_SECONDS)
            if is_current(descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
