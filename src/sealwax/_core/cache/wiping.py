"""When keys are wiped though nobody asks: at an age, at exit, and around a snapshot."""

from __future__ import annotations

import atexit
import contextlib
import queue
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sealwax._core.cache.keyring import CachingKeyring

# Whether the program is ending, so that nothing may be kept.
over = False

_caches: Final[weakref.WeakSet[CachingKeyring]] = weakref.WeakSet()


def watch(cache: CachingKeyring) -> None:
    """Wipe the cache's keys when the process ends, forks or is restored. The cache is not kept alive by this."""
    _caches.add(cache)


def reap(reference: weakref.ref[CachingKeyring], wake: queue.SimpleQueue[None]) -> None:
    """Wipe what is too old, as long as there is a cache that may hold more; woken by ``wake``."""
    while True:
        cache = reference()
        seconds = None if cache is None else cache._wipe_old()
        # Not held on to while waiting.
        del cache
        if seconds is None:
            return
        with contextlib.suppress(queue.Empty):
            wake.get(timeout=seconds)


def at_exit() -> None:
    """Wipe every key, and let no cache keep one from now on: exit handlers that come later may still seal."""
    global over
    over = True
    each(lambda cache: cache.clear())
    # A daemon's thread stops where it is when the modules are taken apart, and would keep the lock that it holds.
    each(lambda cache: cache._end_reaper())


def each(do: Callable[[CachingKeyring], None]) -> None:
    """Do something with each cache there is."""
    for cache in list(_caches):
        do(cache)


atexit.register(at_exit)
# AWS Lambda keeps a snapshot of the process and restores it, many times over; its runtime says so to who asks.
with contextlib.suppress(ImportError):
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    register_before_snapshot(each, lambda cache: cache.clear())
    register_after_restore(each, lambda cache: cache.clear())
