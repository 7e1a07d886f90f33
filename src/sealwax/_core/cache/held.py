"""The data keys that a cache holds: lent within their bounds, and wiped."""

from __future__ import annotations

import contextlib
import queue
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Final, NamedTuple

from sealwax import events
from sealwax._core import fork_locks
from sealwax._core.cache import wiping
from sealwax._core.cache.entries import CacheEntry, CacheStats, identity_of
from sealwax._core.keyring import DataKey, WrappedKey
from sealwax._core.lru import LruMap
from sealwax._core.single_flight import Flights
from sealwax.errors import KmsError

Clocks = Callable[[], tuple[float, float]]

# An entry used in the last fifth of its life is replaced before it ends.
_REFRESH_AT: Final = 0.8
# If the two clocks differ by more than this, the machine slept or was restored from a snapshot.
_CLOCK_SKEW_SECONDS: Final = 5.0
# The number of entries for which a failed call is remembered.
_REMEMBERED_FAILURES: Final = 64
# The longest pause of the reaper, to notice a clock that was set.
_REAPER_PAUSE_SECONDS: Final = 60.0
# Its turns are short, and the program must end in any case.
_REAPER_END_SECONDS: Final = 5.0


class Taken(NamedTuple):
    """An entry on loan.

    Attributes:
        stale: whether it is older than ``max_age``.
        outage: why it is stale, if it has just become so: time for a warning.
        due: whether it is time for a refresh.
    """

    entry: CacheEntry
    stale: bool
    outage: KmsError | None
    due: bool


class HeldKeys:
    """Held data keys. ``lock`` guards all attributes; methods take it, except those that say that it is held.

    Args:
        max_age, max_messages, max_bytes, capacity, serve_stale_for: as for ``CachingKeyring``.
        clocks: returns the monotonic time and the time of day in seconds.
        on_event: called for every loan of a marked entry.
    """

    def __init__(
        self,
        *,
        max_age: float,
        max_messages: int,
        max_bytes: int,
        capacity: int,
        serve_stale_for: float,
        clocks: Clocks,
        on_event: events.OnEvent | None,
    ) -> None:
        self.max_age = max_age
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.capacity = capacity
        self.serve_stale_for = serve_stale_for
        self._refresh_from = max_age * _REFRESH_AT
        self._clocks = clocks
        self._on_event = on_event
        self.single_use = 0  # data keys in a row that were made and not used again
        self.hits = self.misses = self.calls = self.waits = 0
        self.refreshes = self.stale_serves = self.evictions = self.bypasses = 0
        self._renew()
        wiping.watch(self)
        fork_locks.renew_in_children(self)

    def _renew(self) -> None:
        self.lock = threading.Lock()
        self.entries: OrderedDict[Hashable, CacheEntry] = OrderedDict()
        self.marked: dict[Hashable, CacheEntry] = {}  # some of them, by mark: see Ready
        self._doomed: set[CacheEntry] = set()  # dropped, but still on loan
        self.flights: Flights[None] = Flights()
        # When and how the last call for an identity failed.
        self.failures: LruMap[Hashable, tuple[float, KmsError]] = LruMap(_REMEMBERED_FAILURES)
        self.refreshing = 0
        self.reaper: threading.Thread | None = None
        # A SimpleQueue can be put to from anywhere, even from the callback of a weak reference.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.closed = False

    def _after_fork(self) -> tuple[()]:
        # Other threads do not exist in the child: nothing is on loan, and nobody will release the locks.
        for entry in (*self.entries.values(), *self._doomed):
            self._unmark(entry)
            entry.key.close()
        if self.reaper is not None:
            wiping.threads_of_parents.append(self.reaper)
        closed = self.closed
        self._renew()
        self.closed = closed
        return ()

    # --- loans

    def age(self, entry: CacheEntry) -> float:
        monotonic, wall = self._clocks()
        elapsed, elapsed_wall = monotonic - entry.monotonic, wall - entry.wall
        if abs(elapsed - elapsed_wall) > _CLOCK_SKEW_SECONDS:
            return float("inf")
        return max(elapsed, elapsed_wall)

    def _is_due(self, entry: CacheEntry, age: float) -> bool:
        """Whether a refresh should begin, and none is in progress."""
        return age >= max(self._refresh_from, entry.retry_age) and entry.identity not in self.flights

    def take(self, identity: Hashable, size: int | None) -> Taken | None:
        """Lend an entry, or return None if a new one is needed. The lock is held.

        Args:
            size: the bytes of plaintext it will encrypt; None for decrypting, which has no such bound.
        """
        if self.closed:
            raise ValueError("the caching keyring is closed")
        entry = self.entries.get(identity)
        if entry is None:
            return None
        age = self.age(entry)
        stale = age >= self.max_age
        if age >= self.max_age + self.serve_stale_for:
            self.drop(identity)
            return None
        if stale and entry.outage is None:
            return None  # KMS is called first; if it is out of reach, the entry is still there
        if entry.messages >= self.max_messages or entry.bytes + (size or 0) > self.max_bytes:
            self.drop(identity)
            return None
        self.stale_serves += stale
        self.hits += 1
        if size is not None:
            self.single_use = 0
        outage = entry.outage if stale and not entry.stale else None
        entry.stale = stale
        return Taken(self._lend(entry, size), stale, outage, self._is_due(entry, age))

    def take_marked(self, mark: Hashable, size: int | None) -> CacheEntry | None:
        """Lend a marked entry if nothing but its use has to be counted; the caller gives it back.

        Args:
            size: as for ``take``.
        """
        fork_locks.notice()
        with self.lock:
            entry = self.marked.get(mark)
            if entry is None:
                return None
            # Usually it is far from its end by both clocks, which takes fewer steps than computing its age.
            monotonic, wall = self._clocks()
            elapsed, elapsed_wall = monotonic - entry.monotonic, wall - entry.wall
            young = elapsed < self._refresh_from and elapsed_wall < self._refresh_from
            if not (young and -_CLOCK_SKEW_SECONDS <= elapsed - elapsed_wall <= _CLOCK_SKEW_SECONDS):
                age = self.age(entry)
                if age >= self.max_age or self._is_due(entry, age):
                    return None
            if size is not None:
                if entry.messages >= self.max_messages or entry.bytes + size > self.max_bytes:
                    return None
                self.single_use = 0
            self._lend(entry, size)
            self.hits += 1
        if self._on_event is not None:
            self._on_event(events.CacheLookup("hit", decrypting=size is None))
        return entry

    def _lend(self, entry: CacheEntry, size: int | None) -> CacheEntry:
        if size is not None:
            entry.messages += 1
            entry.bytes += size
        entry.lends += 1
        self.entries.move_to_end(entry.identity)
        return entry

    def give_back(self, entry: CacheEntry) -> None:
        with self.lock:
            entry.lends -= 1
            if not entry.lends and entry in self._doomed:
                self._doomed.discard(entry)
                entry.key.close()

    # --- marks

    def find_unmarked(
        self, mark: Hashable, pairs: frozenset[tuple[str, str]], wrapped_keys: tuple[WrappedKey, ...] | None = None
    ) -> CacheEntry | None:
        """Return an entry by its KMS context and, for decrypting, its wrapped keys, unless it has this mark."""
        with self.lock:
            entry = self.entries.get(identity_of(pairs, wrapped_keys))
        return None if entry is None or entry.mark == mark else entry

    def mark(self, entry: CacheEntry, mark: Hashable, note: object) -> None:
        """Replace an entry's mark and note, unless it was dropped in the meantime."""
        with self.lock:
            if self.entries.get(entry.identity) is entry:
                self._unmark(entry)
                entry.note, entry.mark = note, mark
                self.marked[mark] = entry

    def _unmark(self, entry: CacheEntry) -> None:
        if entry.mark is not None:
            self.marked.pop(entry.mark, None)
            entry.mark = None  # the note stays: while the entry is on loan, it may be read

    # --- adding and dropping

    def insert(
        self,
        identity: Hashable,
        key: DataKey,
        wrapped_keys: tuple[WrappedKey, ...],
        size: int | None,
        flight: Future[None],
    ) -> CacheEntry:
        """Add an entry and lend it to the thread that fetched it before other threads can use it up."""
        with self.lock:
            if self.closed:
                key.close()
                raise ValueError("the caching keyring is closed")
            if self.is_void(identity, flight):
                # Everything was wiped during the call to KMS; this key is wiped when it is given back.
                entry = CacheEntry(identity, key, wrapped_keys, *self._clocks())
                entry.lends = 1
                self._doomed.add(entry)
                return entry
            return self._lend(self.replace(identity, key, wrapped_keys), size)

    def is_void(self, identity: Hashable, flight: Future[None]) -> bool:
        """Whether everything was wiped since a call began, or the program is ending. The lock is held."""
        return self.flights.get(identity) is not flight or wiping.over

    def replace(self, identity: Hashable, key: DataKey, wrapped_keys: tuple[WrappedKey, ...]) -> CacheEntry:
        """Add an entry in place of the old one. The lock is held."""
        self.drop(identity)
        self.failures.pop(identity, None)
        entry = self.entries[identity] = CacheEntry(identity, key, wrapped_keys, *self._clocks())
        while len(self.entries) > self.capacity:
            self.evictions += 1
            self.drop(next(iter(self.entries)))
        if self.reaper is None:
            self._start_reaper()
        elif len(self.entries) == 1:
            self._wake.put(None)  # entries end in the order they were added: a later one changes nothing
        return entry

    def drop(self, identity: Hashable) -> None:
        """Remove an entry and wipe its key, once it is not on loan. The lock is held."""
        entry = self.entries.get(identity)
        if entry is None:
            return
        # In this order: a child forked in between still finds the key, and wipes it.
        if entry.lends:
            self._doomed.add(entry)
        else:
            entry.key.close()
        self._unmark(entry)
        del self.entries[identity]

    def clear(self) -> None:
        with self.lock:
            self.flights.clear()
            for identity in list(self.entries):
                self.drop(identity)

    def close(self) -> None:
        with self.lock:
            self.closed = True
            for identity in list(self.entries):
                self.drop(identity)
        self._wake.put(None)

    # --- the reaper

    def _start_reaper(self) -> None:
        wake = self._wake
        # The end of the weak reference also wakes the reaper: a cache that is never closed leaves no thread behind.
        reference: weakref.ref[wiping.Wipeable] = weakref.ref(self, lambda _: wake.put(None))
        reaper = threading.Thread(target=wiping.reap, args=(reference, wake), name="sealwax-reaper", daemon=True)
        # If there are no more threads, an old entry is dropped when it is requested, and the next entry tries again.
        with contextlib.suppress(RuntimeError):
            reaper.start()
            self.reaper = reaper

    def end_reaper(self) -> None:
        self._wake.put(None)
        if self.reaper is not None:
            self.reaper.join(_REAPER_END_SECONDS)

    def wipe_old(self) -> float | None:
        end = self.max_age + self.serve_stale_for
        soonest = _REAPER_PAUSE_SECONDS
        with self.lock:
            if self.closed or wiping.over:
                return None
            for identity, entry in list(self.entries.items()):
                left = end - self.age(entry)
                if left <= 0:
                    self.drop(identity)
                else:
                    soonest = min(soonest, left)
        return soonest

    def stats(self) -> CacheStats:
        with self.lock:
            return CacheStats(
                self.hits,
                self.misses,
                self.calls,
                self.waits,
                self.refreshes,
                self.stale_serves,
                self.evictions,
                self.bypasses,
                tuple((entry.messages, entry.bytes) for entry in self.entries.values()),
            )
