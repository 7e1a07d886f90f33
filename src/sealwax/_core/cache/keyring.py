"""CachingKeyring: a keyring around a keyring that asks KMS once and lends one data key many times, within bounds.

What the cache may do is bounded three ways for encrypting: a data key is lent no longer than ``max_age``, for no more
than ``max_messages`` envelopes and ``max_bytes`` of plaintext, and each bound holds exactly, however many threads there
are. For decrypting the age alone is bounded: opening more envelopes gives nobody more ciphertext.

An entry belongs to one context and, for decrypting, to one set of wrapped keys. The KMS key, its Region and the
allow-list are the inner keyring's, and a cache has one inner keyring for life, so two policies never share an entry.

Keys are wiped when they are evicted, replaced or too old (by a thread that waits for that moment), on close, at exit,
in a forked child and when a restored snapshot is noticed. After that moment at exit, none is kept any more, and calls
go straight to the inner keyring. There is no way to take them out of the process.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import queue
import threading
import time
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

from sealwax import events
from sealwax._core import fork_locks, pickling, validate, watch
from sealwax._core.cache import wiping
from sealwax._core.cache.entries import (
    CLOCK_SKEW_SECONDS,
    CacheStats,
    CacheWarning,
    Entry,
    Flight,
    identity_of,
    is_of_one_payload,
    is_outage,
)
from sealwax._core.cache.nowait import Ready
from sealwax._core.keyring import CLOCK, DataKey, Keyring, NotReadyError, WrappedKey, asked_at, now
from sealwax.errors import KmsError, UnavailableError

T = TypeVar("T")
_Fetched = tuple[DataKey, tuple[WrappedKey, ...]]

MAX_MESSAGES: Final = 2**32
MAX_BYTES: Final = 2**63 - 1
MAX_CAPACITY: Final = 2**31 - 1
# An entry that is used in the last fifth of its life is replaced before it ends.
_REFRESH_AT: Final = 0.8
# After a failure, KMS is left alone this long before a refresh or a stale entry asks it again.
_RETRY_SECONDS: Final = 1.0
# So many refreshes at once, and no more: entries that are made together end together.
_MOST_REFRESHES: Final = 8
# Of so many entries it is remembered that KMS refused them.
_MOST_FAILURES: Final = 64
# So many data keys in a row of contexts of their own, none used twice, are no accident.
_WARN_AFTER: Final = 100
# Longer than any keyring of sealwax's own takes: whoever makes the call that others wait for is stuck then.
_LONGEST_WAIT_SECONDS: Final = 120.0
# Its turns are short; whatever keeps it, the program ends.
_REAPER_SECONDS: Final = 5.0

_read_clock: Final = time.clock_gettime
_WALL_CLOCK: Final = time.CLOCK_REALTIME

_log: Final = logging.getLogger("sealwax")


def _clocks() -> tuple[float, float]:
    # Neither is one that a test has frozen: what is lent to one thread would be too old for another.
    return _read_clock(CLOCK), _read_clock(_WALL_CLOCK)


class CachingKeyring:
    """Lends data keys of ``keyring`` many times. One object serves a whole program, from any number of threads.

    Use it with ``Sealer(..., local_context=...)``, so that the KMS context stays the same for many values.

    Args:
        keyring: where data keys come from.
        max_age: how long a data key is lent, in seconds.
        max_messages: how many envelopes one data key serves, at most 2**32.
        max_bytes: how many bytes of plaintext one data key serves.
        capacity: how many data keys are held; the least recently used goes first.
        serve_stale_for: how many seconds beyond ``max_age`` an entry is lent while KMS, or whoever gives credentials,
            cannot be reached or throttles, with a warning each time that begins. 0: never.
        on_event: called with a :class:`~sealwax.events.CacheLookup` for every data key that is lent; it must be quick.

    A copy, and what a pickle of it makes in another process, is an empty cache with the same bounds.

    IAM actions: those of the inner keyring.

    Raises:
        TypeError: a parameter of another kind.
        ValueError: a bound that is not positive or too large.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        max_age: float,
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
        capacity: int = 1000,
        serve_stale_for: float = 0.0,
        on_event: events.OnEvent | None = None,
        _clocks: Callable[[], tuple[float, float]] = _clocks,
        _longest_wait: float = _LONGEST_WAIT_SECONDS,
    ) -> None:
        validate.watcher(on_event)
        self._keyring = validate.keyring(keyring)
        self._max_age = validate.number("max_age", max_age, "seconds")
        self._refresh_from = self._max_age * _REFRESH_AT
        self._max_messages = validate.whole("max_messages", max_messages, 1, MAX_MESSAGES)
        self._max_bytes = validate.whole("max_bytes", max_bytes, 0, MAX_BYTES)
        self._capacity = validate.whole("capacity", capacity, 1, MAX_CAPACITY)
        self._serve_stale_for = validate.number("serve_stale_for", serve_stale_for, "seconds", least=0)
        self._clocks = _clocks
        self._longest_wait = _longest_wait
        self._watcher = on_event
        self._on_event = None if on_event is None else watch.guarded(on_event)
        self._warned_of_contexts = False
        self._made_in_a_row = 0
        self._generation = 0
        self._hits = self._misses = self._calls = self._waits = 0
        self._refreshes = self._stale_serves = self._evictions = self._bypasses = 0
        self._start_anew()
        wiping.watch(self)
        fork_locks.renew_in_children(self)

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self._marked: dict[Hashable, Entry] = {}  # some of them, by their marks: see Ready
        self._doomed: set[Entry] = set()  # given up, but still lent
        self._flights: dict[Hashable, Flight] = {}
        # When the last call failed, and how: for who asked before, and comes after.
        self._failures: OrderedDict[Hashable, tuple[float, KmsError]] = OrderedDict()
        self._refreshing = 0
        self._reaper: threading.Thread | None = None
        # Of all the things to wait for, this one may be put to from anywhere, a weak reference's end included.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._closed = False

    def __getstate__(self) -> dict[str, Any]:
        return {
            "keyring": self._keyring,
            "max_age": self._max_age,
            "max_messages": self._max_messages,
            "max_bytes": self._max_bytes,
            "capacity": self._capacity,
            "serve_stale_for": self._serve_stale_for,
            "on_event": pickling.carried(self._watcher, pickling.pack_watcher),
            "_clocks": self._clocks,
            "_longest_wait": self._longest_wait,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        # An empty one: a second cache that held the same keys would use them beyond their bounds, and unwiped.
        CachingKeyring.__init__(self, **pickling.arrived(state))

    def __repr__(self) -> str:
        return f"CachingKeyring({self._keyring!r}, max_age={self._max_age})"

    def _ready(self) -> Ready:
        """Return a keyring that lends what is in this cache now, and raises NotReadyError instead of waiting."""
        own = type(self)
        # What a subclass does with each loan, it does with all of them.
        return Ready(self, marks=own.generate is CachingKeyring.generate and own.unwrap is CachingKeyring.unwrap)

    # --- the keyring

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None,
        wait: bool = True,
    ) -> T:
        """Lend a cached data key, or a new one. See :meth:`sealwax.Keyring.generate`.

        Plaintext of unknown size, or of more than ``max_bytes``, gets a data key of its own.
        """
        fork_locks.notice()
        if plaintext_bytes is None or plaintext_bytes > self._max_bytes or self._is_over():
            self._bypass(wait, decrypting=False)
            return self._keyring.generate(context, use, plaintext_bytes=plaintext_bytes)
        pairs = frozenset(context.items())
        identity = identity_of(pairs)

        def fetch() -> _Fetched:
            # From the pairs: the caller's own map may have changed by the time that a refresh runs.
            return self._keyring.generate(dict(pairs), lambda key, keys: (key.duplicate(), keys), plaintext_bytes=None)

        entry = self._find(identity, plaintext_bytes, fetch, fetch, wait)
        try:
            return use(entry.key, entry.wrapped_keys)
        finally:
            self._give_back(entry)

    def unwrap(
        self,
        wrapped_keys: Sequence[WrappedKey],
        context: Mapping[str, str],
        use: Callable[[DataKey], T],
        *,
        wait: bool = True,
    ) -> T:
        """Lend a data key that was opened before, or open it. See :meth:`sealwax.Keyring.unwrap`."""
        fork_locks.notice()
        keys = tuple(wrapped_keys)
        if self._is_over():
            self._bypass(wait, decrypting=True)
            return self._keyring.unwrap(keys, context, use)
        pairs = frozenset(context.items())
        identity = identity_of(pairs, keys)
        results: list[T] = []

        def fetch() -> _Fetched:
            def use_and_keep(key: DataKey) -> DataKey:
                # Kept only once it is known to fit a payload: of several wrapped keys, the first need not.
                results.append(use(key))
                return key.duplicate()

            return self._keyring.unwrap(keys, dict(pairs), use_and_keep), keys

        def refetch() -> _Fetched:
            return self._keyring.unwrap(keys, dict(pairs), DataKey.duplicate), keys

        entry = self._find(identity, None, fetch, refetch, wait)
        try:
            return results[0] if results else use(entry.key)
        finally:
            self._give_back(entry)

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        """Re-wrap with the inner keyring. See :meth:`sealwax.Keyring.rewrap`."""
        return self._keyring.rewrap(wrapped_keys, context, to)

    # --- entries

    def _is_over(self) -> bool:
        """Whether the program is ending, and what was not closed before still has to work, if without keeping a key."""
        return wiping.over and not self._closed

    def _bypass(self, wait: bool, *, decrypting: bool) -> None:
        if not wait:
            raise NotReadyError
        with self._lock:
            self._bypasses += 1
        if self._on_event is not None:
            self._on_event(events.CacheLookup("bypass", decrypting=decrypting))

    def _find(
        self,
        identity: Hashable,
        size: int | None,
        fetch: Callable[[], _Fetched],
        refetch: Callable[[], _Fetched],
        wait: bool,
    ) -> Entry:
        """Return an entry to lend; the caller gives it back.

        Whoever finds none first calls ``fetch``; the others wait, and are told when it failed.

        Args:
            size: the bytes of plaintext it will encrypt; None for decrypting, which is not counted.
            refetch: what to call for a new key ahead of the end of an entry.
            wait: whether to wait at all; NotReadyError is raised where not.
        """
        waited = begins = False
        while True:
            entry = flight = mine = None
            with self._lock:
                taken = self._take(identity, size)
                if taken is not None:
                    entry, age = taken
                    self._hits += 1
                    if size is not None:
                        self._made_in_a_row = 0
                    stale = age >= self._max_age
                    begins, entry.stale = stale and not entry.stale, stale
                    outage = entry.outage
                    if self._is_due(entry, age):
                        self._refresh_behind(identity, refetch)
                elif not wait:
                    raise NotReadyError
                else:
                    flight = self._flights.get(identity)
                    if flight is None:
                        self._tell_of_failure(identity)
                        self._misses += 1
                        self._calls += 1
                        mine = self._flights[identity] = Flight(self._generation)
                    else:
                        self._waits += 1
            if entry is not None:
                if begins:
                    try:
                        self._tell_of_staleness(outage)
                    except CacheWarning:  # where warnings are errors
                        self._give_back(entry)
                        raise
                if self._on_event is not None:
                    kind = "stale" if stale else "wait" if waited else "hit"
                    self._on_event(events.CacheLookup(kind, decrypting=size is None))
                return entry
            if mine is not None:
                entry = self._fly(identity, mine, size, fetch)
                if entry is not None:
                    if self._on_event is not None:
                        self._on_event(events.CacheLookup("miss", decrypting=size is None))
                    return entry
                continue
            assert flight is not None
            waited = True
            if not flight.done.wait(self._longest_wait):
                raise UnavailableError(
                    f"another thread's call for the same data key has not ended within {self._longest_wait:g} s; "
                    "KMS, or what the keyring stands on, hangs",
                    retryable=True,
                )
            if flight.error is not None:
                # A copy for each, since raising an error changes it.
                raise copy.copy(flight.error) from None

    def _tell_of_failure(self, identity: Hashable) -> None:
        """Raise what the last call failed with, where that ended after this one was asked for."""
        failure, asked = self._failures.get(identity), asked_at.get()
        if failure is not None and asked is not None and asked <= failure[0]:
            self._waits += 1
            raise copy.copy(failure[1])

    def _fly(self, identity: Hashable, flight: Flight, size: int | None, fetch: Callable[[], _Fetched]) -> Entry | None:
        """Make a call for everyone who waits; return the new entry, or None where a stale one may be taken now."""
        try:
            entry = self._insert(identity, *fetch(), size, flight.generation)
        except KmsError as error:
            if self._tolerate(identity, error):
                return None
            if not is_of_one_payload(error):
                flight.error = copy.copy(error)
                with self._lock:
                    self._failures[identity] = now(), flight.error
                    if len(self._failures) > _MOST_FAILURES:
                        self._failures.popitem(last=False)
            raise
        finally:
            # Errors that are about one payload are nobody else's: then the next in line makes its own call.
            self._land(identity, flight)
        if size is not None:
            self._warn_of_contexts()
        return entry

    def _land(self, identity: Hashable, flight: Flight) -> None:
        with self._lock:
            if self._flights.get(identity) is flight:
                del self._flights[identity]
        flight.done.set()

    def _age(self, entry: Entry) -> float:
        monotonic, wall = self._clocks()
        elapsed, elapsed_wall = monotonic - entry.monotonic, wall - entry.wall
        if abs(elapsed - elapsed_wall) > CLOCK_SKEW_SECONDS:
            return float("inf")
        return max(elapsed, elapsed_wall)

    def _is_due(self, entry: Entry, age: float) -> bool:
        """Whether a new key is to be fetched ahead of an entry's end, which nobody does yet."""
        return age >= max(self._refresh_from, entry.patience) and entry.identity not in self._flights

    def _take(self, identity: Hashable, size: int | None) -> tuple[Entry, float] | None:
        """Return an entry, now lent, and its age; None where a new one is needed."""
        if self._closed:
            raise ValueError("the caching keyring is closed")
        entry = self._entries.get(identity)
        if entry is None:
            return None
        age = self._age(entry)
        if age >= self._max_age + self._serve_stale_for:
            self._drop(identity)
            return None
        if age >= self._max_age and entry.outage is None:
            return None  # KMS is asked first; should it be out of reach, the entry is still there
        if entry.messages >= self._max_messages or entry.bytes + (size or 0) > self._max_bytes:
            self._drop(identity)
            return None
        if age >= self._max_age:
            self._stale_serves += 1
        return self._lend(entry, size), age

    def _lend(self, entry: Entry, size: int | None) -> Entry:
        if size is not None:
            entry.messages += 1
            entry.bytes += size
        entry.lends += 1
        self._entries.move_to_end(entry.identity)
        return entry

    def _insert(
        self,
        identity: Hashable,
        key: DataKey,
        wrapped_keys: tuple[WrappedKey, ...],
        size: int | None,
        generation: int,
    ) -> Entry:
        """Put a new entry in place of an old one, and lend it to who fetched it before anybody else can use it up."""
        with self._lock:
            if self._closed:
                key.close()
                raise ValueError("the caching keyring is closed")
            if generation != self._generation or wiping.over:
                # Everything was wiped while KMS was asked; this one goes when it is given back.
                entry = Entry(identity, key, wrapped_keys, self._clocks())
                entry.lends = 1
                self._doomed.add(entry)
                return entry
            entry = self._replace(identity, key, wrapped_keys)
            return self._lend(entry, size)

    def _replace(self, identity: Hashable, key: DataKey, wrapped_keys: tuple[WrappedKey, ...]) -> Entry:
        self._drop(identity)
        self._failures.pop(identity, None)
        entry = self._entries[identity] = Entry(identity, key, wrapped_keys, self._clocks())
        while len(self._entries) > self._capacity:
            self._evictions += 1
            self._drop(next(iter(self._entries)))
        if self._reaper is None:
            self._start_reaper()
        elif len(self._entries) == 1:
            self._wake.put(None)  # entries end in the order they came in: a later one changes nothing
        return entry

    def _drop(self, identity: Hashable) -> None:
        entry = self._entries.get(identity)
        if entry is None:
            return
        # In this order, a child that is forked in between still finds the key, and wipes it.
        if entry.lends:
            self._doomed.add(entry)
        else:
            entry.key.close()
        self._unmark(entry)
        del self._entries[identity]

    def _unmark(self, entry: Entry) -> None:
        if entry.mark is not None:
            self._marked.pop(entry.mark, None)
            entry.mark = None  # the note stays: the entry may be lent, and then it is still to be read

    def _give_back(self, entry: Entry) -> None:
        with self._lock:
            entry.lends -= 1
            if not entry.lends and entry in self._doomed:
                self._doomed.discard(entry)
                entry.key.close()

    # --- ahead of the end, and beyond it

    def _refresh_behind(self, identity: Hashable, refetch: Callable[[], _Fetched]) -> None:
        if self._refreshing >= _MOST_REFRESHES:
            return
        flight = Flight(self._generation)

        def refresh() -> None:
            try:
                key, wrapped_keys = refetch()
                with self._lock:
                    if self._closed or flight.generation != self._generation or wiping.over:
                        key.close()
                    else:
                        self._replace(identity, key, wrapped_keys)
                        self._refreshes += 1
            except Exception as error:  # whatever it is: it must neither be lost nor be tried again at once
                with self._lock:
                    entry = self._entries.get(identity)
                    if entry is not None:
                        self._postpone(entry, error)
                # Who waits by now makes a call of its own, and hears of that one's failure.
                _log.warning("refreshing a cached data key failed: %s", error)
            finally:
                with self._lock:
                    self._refreshing -= 1
                self._land(identity, flight)

        # A daemon: the end of the program does not wait for KMS.
        thread = threading.Thread(target=refresh, name="sealwax-refresh", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads, or the program is ending
            _log.warning("refreshing a cached data key failed: %s", error)
            return
        # The lock is held: the thread ends its work after this.
        self._flights[identity] = flight
        self._refreshing += 1
        self._calls += 1

    def _postpone(self, entry: Entry, error: Exception) -> None:
        """Note that no new key could be had: KMS is left alone for a while, and staleness is permitted by an outage."""
        entry.patience = self._age(entry) + _RETRY_SECONDS
        entry.outage = error if isinstance(error, KmsError) and is_outage(error) else None

    def _tolerate(self, identity: Hashable, error: KmsError) -> bool:
        """Whether the user permits an entry beyond its age now: KMS is out of reach, and the entry not too old."""
        if not is_outage(error):
            return False
        with self._lock:
            entry = self._entries.get(identity)
            if entry is None or self._age(entry) >= self._max_age + self._serve_stale_for:
                return False
            if entry.messages >= self._max_messages:
                return False
            self._postpone(entry, error)
        return True

    def _tell_of_staleness(self, error: KmsError | None) -> None:
        message = (
            f"KMS cannot be used; a data key is served beyond its age, for at most {self._serve_stale_for:g} s: {error}"
        )
        _log.warning("%s", message)
        warnings.warn(message, CacheWarning, stacklevel=2)

    def _warn_of_contexts(self) -> None:
        with self._lock:
            self._made_in_a_row += 1
            if self._warned_of_contexts or self._made_in_a_row < _WARN_AFTER:
                return
            self._warned_of_contexts = True
        warnings.warn(
            f"{self._made_in_a_row} data keys in a row were made, and none was used twice: each value has a KMS "
            "context of its own. Name the pairs that change with every value in Sealer(local_context=...).",
            CacheWarning,
            stacklevel=2,
        )

    # --- wiping

    def _start_reaper(self) -> None:
        wake = self._wake
        # The reference's end wakes the reaper too: a cache that nobody closed does not leave a thread behind.
        reference = weakref.ref(self, lambda _: wake.put(None))
        reaper = threading.Thread(target=wiping.reap, args=(reference, wake), name="sealwax-reaper", daemon=True)
        # Where there are no more threads, an entry that is too old goes when it is asked for, and another try is made.
        with contextlib.suppress(RuntimeError):
            reaper.start()
            self._reaper = reaper

    def _end_reaper(self) -> None:
        self._wake.put(None)
        if self._reaper is not None:
            self._reaper.join(_REAPER_SECONDS)

    def _wipe_old(self) -> float | None:
        """Wipe what is too old; return the seconds until there is more to do, or None where there never will be."""
        end = self._max_age + self._serve_stale_for
        # Now and then in any case: a clock that was set is noticed by looking.
        soonest = 60.0
        with self._lock:
            if self._closed or wiping.over:
                return None
            for identity, entry in list(self._entries.items()):
                left = end - self._age(entry)
                if left <= 0:
                    self._drop(identity)
                else:
                    soonest = min(soonest, left)
        return soonest

    def close(self) -> None:
        """Wipe every data key. What is lent is wiped when it is given back; nothing more is lent. May be repeated."""
        with self._lock:
            self._closed = True
            for identity in list(self._entries):
                self._drop(identity)
        self._wake.put(None)

    def clear(self) -> None:
        """Wipe every data key and start anew. What is being fetched now is not kept."""
        with self._lock:
            self._generation += 1
            self._flights.clear()
            for identity in list(self._entries):
                self._drop(identity)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _after_fork(self) -> tuple[()]:
        # No other thread lives on in the child, so nothing is lent, and the locks may be held by nobody.
        for entry in (*self._entries.values(), *self._doomed):
            self._unmark(entry)
            entry.key.close()
        closed = self._closed
        self._start_anew()
        self._closed = closed
        return ()

    def kms_stats(self) -> events.KmsStats:
        """Return what the inner keyring has asked of KMS, and how many calls this cache has saved."""
        with self._lock:
            saved = self._hits + self._misses - self._calls
        return watch.kms_stats(self._keyring) + events.KmsStats(saved=max(0, saved))

    def stats(self) -> CacheStats:
        """Return what the cache has done so far."""
        with self._lock:
            return CacheStats(
                self._hits,
                self._misses,
                self._calls,
                self._waits,
                self._refreshes,
                self._stale_serves,
                self._evictions,
                self._bypasses,
                tuple((entry.messages, entry.bytes) for entry in self._entries.values()),
            )
