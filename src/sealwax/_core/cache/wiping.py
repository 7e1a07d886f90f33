"""Wipes held keys that are too old, at exit, and around a snapshot."""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Final, Protocol


class Wipeable(Protocol):
    """Holds keys that have to be wiped at some time."""

    def clear(self) -> None:
        """Wipe every key."""

    def wipe_old(self) -> float | None:
        """Wipe old keys; return the seconds until the next time, or None if there will not be one."""

    def end_reaper(self) -> None:
        """Wait until the thread that runs ``reap`` has ended."""


# Whether the program is ending: no key may be kept.
over = False

# Kept forever: in a child that a C library forked, Python 3.13 and later crash when such a thread's handle is freed.
threads_of_parents: Final[list[threading.Thread]] = []

_all: Final[weakref.WeakSet[Wipeable]] = weakref.WeakSet()


def watch(held: Wipeable) -> None:
    """Wipe keys when the process ends or is restored from a snapshot. This does not keep ``held`` alive."""
    _all.add(held)


def reap(reference: weakref.ref[Wipeable], wake: queue.SimpleQueue[None]) -> None:
    """Wipe old keys while there may be more of them; ``wake`` ends a pause."""
    while True:
        held = reference()
        seconds = None if held is None else held.wipe_old()
        # Not kept alive during the pause.
        del held
        if seconds is None:
            return
        with contextlib.suppress(queue.Empty):
            wake.get(timeout=seconds)


def at_exit() -> None:
    """Wipe every key and keep none from now on: exit handlers that run later may still encrypt."""
    global over
    over = True
    each(lambda held: held.clear())
    # A daemon thread stops where it is when the interpreter shuts down, and would keep the lock that it holds.
    each(lambda held: held.end_reaper())


def each(act: Callable[[Wipeable], None]) -> None:
    for held in list(_all):
        act(held)


atexit.register(at_exit)
# AWS Lambda restores a snapshot of the process many times, and its runtime calls these hooks.
with contextlib.suppress(ImportError):
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    register_before_snapshot(each, lambda held: held.clear())
    register_after_restore(each, lambda held: held.clear())
