"""Exclusive file locks (flock). Any program that may read a file can lock it, so every wait is bounded."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from typing import Final

from sealwax._core.keyring import now
from sealwax._core.sources import AnyPath

# A shared rate limit is locked for microseconds, many times a second.
_PAUSE_SECONDS: Final = 0.001
# How long to reopen a file that other programs keep replacing.
_REPLACED_SECONDS: Final = 1.0


def is_at(path: AnyPath, descriptor: int, folder: int | None = None) -> bool:
    """Whether an open file is the one at ``path``, relative to the open ``folder`` if one is given."""
    try:
        there = os.stat(path, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def lock(open_file: Callable[[], int], is_current: Callable[[int], bool], *, patience: float = 0) -> int:
    """Open and lock a file, and return its descriptor. Closing it releases the lock.

    If the previous holder of the lock has replaced or removed the file, the new one is opened and locked instead.

    Args:
        open_file: opens the file by its name.
        is_current: whether an open file is still the one with that name.
        patience: how many seconds to wait for a lock that another program holds.

    Raises:
        BlockingIOError: another program holds the lock.
        OSError: the file cannot be opened, or its file system has no locks.
    """
    began = now()
    while True:
        descriptor = open_file()
        try:
            wait_for(descriptor, began + patience)
            if is_current(descriptor):
                return descriptor
            if now() >= began + max(patience, _REPLACED_SECONDS):
                raise BlockingIOError
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def wait_for(descriptor: int, until: float) -> None:
    """Lock an open file.

    Args:
        until: when to stop waiting for another program, in seconds of ``now()``.

    Raises:
        BlockingIOError: another program still holds the lock.
        OSError: the file system has no locks.
    """
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if now() >= until:
                raise
            time.sleep(_PAUSE_SECONDS)
