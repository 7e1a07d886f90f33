"""CachingKeyring: wraps a keyring, calls KMS once, and lends a data key many times, within bounds.

For encrypting, a data key is lent no longer than ``max_age``, for no more than ``max_messages`` envelopes and
``max_bytes`` of plaintext. Each bound holds exactly, for any number of threads. For decrypting only the age is bounded:
opening more envelopes gives nobody more ciphertext.

An entry belongs to one context and, for decrypting, to one set of wrapped keys. KMS key, Region and allow-list are
those of the inner keyring, which never changes, so two policies never share an entry.

Keys are wiped when they are evicted, replaced or too old (by a thread), on close, at exit, in a forked child, and
around a snapshot. After that moment at exit, no key is kept, and calls go straight to the inner keyring.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from typing import ClassVar, Final, Self, TypeVar

from sealwax import events
from sealwax._core import fork_locks, pickling, validate, watch
from sealwax._core.cache import wiping
from sealwax._core.cache.entries import (
    CacheEntry,
    CacheStats,
    CacheWarning,
    identity_of,
    is_of_one_payload,
    is_outage,
)
from sealwax._core.cache.held import HeldKeys, Taken
from sealwax._core.cache.nowait import Ready
from sealwax._core.foreign.data_key import ForeignDataKey, rewrap_to, rewrapped_within, unwrap_foreign
from sealwax._core.keyring import CLOCK, DataKey, Keyring, NotReadyError, WrappedKey, asked_at, now
from sealwax._core.single_flight import wait_for
from sealwax.errors import KmsError

T = TypeVar("T")
_Fetched = tuple[DataKey, tuple[WrappedKey, ...]]

MAX_MESSAGES: Final = 2**32
MAX_BYTES: Final = 2**63 - 1
MAX_CAPACITY: Final = 2**31 - 1
# After a failure, KMS is left alone this long before a refresh or a stale entry calls it again.
_RETRY_SECONDS: Final = 1.0
# Entries that were made together end together.
_MOST_REFRESHES: Final = 8
# This many data keys in a row, each with a context of its own and none used twice, are not a coincidence.
_WARN_AFTER: Final = 100

_read_clock: Final = time.clock_gettime
_WALL_CLOCK: Final = time.CLOCK_REALTIME

_log: Final = logging.getLogger("sealwax")


class CachingKeyring:
    """Reuses the data keys of another keyring. One object serves a whole program and all its threads.

    Use it with ``Sealer(..., local_context=...)``, so that many values share one KMS context.

    A copy, or an unpickled one in another process, is an empty cache with the same bounds.

    IAM actions: those of the inner keyring.

    Args:
        keyring: supplies the data keys.
        max_age: seconds for which a data key is lent.
        max_messages: the most envelopes per data key, at most 2**32.
        max_bytes: the most bytes of plaintext per data key.
        capacity: the most data keys to hold; the least recently used is dropped first.
        serve_stale_for: seconds beyond ``max_age`` for which a data key is lent, with a warning, while KMS or the
            source of the credentials cannot be reached or throttles. 0: never.
        on_event: called with a ``sealwax.events.CacheLookup`` for every loan; it must be quick.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: a bound is not positive, or too large.

    Example:
        >>> keyring = sealwax.CachingKeyring(sealwax.KmsKeyring("alias/payments"), max_age=300)
        >>> sealer = sealwax.Sealer(keyring, local_context=["id"])
    """

    # Tests replace this and _clocks in a subclass.
    _longest_wait: ClassVar[float] = 120.0  # longer than any keyring of sealwax takes: the other thread is stuck

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
    ) -> None:
        validate.watcher(on_event)
        self._keyring = validate.keyring(keyring)
        self._watcher = on_event
        self._on_event = None if on_event is None else watch.guarded(on_event)
        self._warned_of_contexts = False
        self._held = HeldKeys(
            max_age=validate.number("max_age", max_age, "seconds"),
            max_messages=validate.whole("max_messages", max_messages, 1, MAX_MESSAGES),
            max_bytes=validate.whole("max_bytes", max_bytes, 0, MAX_BYTES),
            capacity=validate.whole("capacity", capacity, 1, MAX_CAPACITY),
            serve_stale_for=validate.number("serve_stale_for", serve_stale_for, "seconds", least=0),
            clocks=self._clocks,
            on_event=self._on_event,
        )

    @staticmethod
    def _clocks() -> tuple[float, float]:
        # These ignore clocks that a test has frozen, which differ between threads.
        return _read_clock(CLOCK), _read_clock(_WALL_CLOCK)

    def __getstate__(self) -> dict[str, object]:
        return {
            "keyring": self._keyring,
            "max_age": self._held.max_age,
            "max_messages": self._held.max_messages,
            "max_bytes": self._held.max_bytes,
            "capacity": self._held.capacity,
            "serve_stale_for": self._held.serve_stale_for,
            "on_event": pickling.carried(self._watcher, pickling.pack_watcher),
        }

    def __setstate__(self, state: dict[str, object]) -> None:
        # An empty cache: a second one with the same keys would use them beyond their bounds, and not wipe them.
        CachingKeyring.__init__(self, **pickling.arrived(state))

    def __repr__(self) -> str:
        return f"CachingKeyring({self._keyring!r}, max_age={self._held.max_age})"

    def _ready(self) -> Ready:
        """Return a keyring that lends what is in this cache now, and never waits. For ``Sealer`` only."""
        return Ready(self, self._held)

    def _is_overridden(self) -> bool:
        """Whether a subclass or a patch replaces ``generate`` or ``unwrap``."""
        kind, own = type(self), vars(self)
        return (
            kind.generate is not CachingKeyring.generate
            or kind.unwrap is not CachingKeyring.unwrap
            or "generate" in own
            or "unwrap" in own
        )

    # --- the keyring

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None,
    ) -> T:
        """Lend a cached data key, or a new one, to ``use``.

        Args:
            context: the KMS encryption context, bound to every wrapped key.
            use: called with the data key and its wrapped forms.
            plaintext_bytes: how many bytes the key will encrypt. If it is None (unknown) or above ``max_bytes``, the
                data key is new and not cached.

        Returns:
            What ``use`` returns.

        Raises:
            KmsError: there is no data key.
            ValueError: the cache is closed.
        """
        return self._generate(context, use, plaintext_bytes, wait=True)

    def _generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        size: int | None,
        *,
        wait: bool,
    ) -> T:
        fork_locks.notice()
        if size is None or size > self._held.max_bytes or self._is_over():
            self._bypass(wait, decrypting=False)
            return self._keyring.generate(context, use, plaintext_bytes=size)
        pairs = frozenset(context.items())

        def fetch() -> _Fetched:
            # From the pairs: the caller's map may have changed when a refresh runs.
            return self._keyring.generate(dict(pairs), lambda key, keys: (key.duplicate(), keys), plaintext_bytes=None)

        entry = self._find(identity_of(pairs), size, fetch, fetch, wait)
        try:
            return use(entry.key, entry.wrapped_keys)
        finally:
            self._held.give_back(entry)

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        """Lend the data key of an envelope to ``use``, from the cache if it was decrypted before.

        Args:
            wrapped_keys: those of the envelope.
            context: the KMS encryption context they are bound to.
            use: called with the data key.

        Returns:
            What ``use`` returns.

        Raises:
            KmsError: no wrapped key could be decrypted.
            ValueError: the cache is closed.
        """
        return self._unwrap(wrapped_keys, context, use, wait=True)

    def _unwrap_foreign(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[ForeignDataKey], T]
    ) -> T:
        # What is held has 32 bytes: a shorter key is unwrapped each time.
        self._bypass(wait=True, decrypting=True)
        return unwrap_foreign(self._keyring, wrapped_keys, context, use)

    def _unwrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T], *, wait: bool
    ) -> T:
        fork_locks.notice()
        keys = tuple(wrapped_keys)
        if self._is_over():
            self._bypass(wait, decrypting=True)
            return self._keyring.unwrap(keys, context, use)
        pairs = frozenset(context.items())
        results: list[T] = []

        def fetch() -> _Fetched:
            def use_and_keep(key: DataKey) -> DataKey:
                # Kept only after it fits a payload: with several wrapped keys, the first may not.
                results.append(use(key))
                return key.duplicate()

            return self._keyring.unwrap(keys, dict(pairs), use_and_keep), keys

        def refetch() -> _Fetched:
            return self._keyring.unwrap(keys, dict(pairs), DataKey.duplicate), keys

        entry = self._find(identity_of(pairs, keys), None, fetch, refetch, wait)
        try:
            return results[0] if results else use(entry.key)
        finally:
            self._held.give_back(entry)

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        """Re-wrap a data key with the inner keyring, without the cache.

        Args:
            wrapped_keys: those of the envelope.
            context: the KMS encryption context they are bound to.
            to: the complete new set of keys.

        Returns:
            The new wrapped keys.

        Raises:
            KmsError: no wrapped key could be re-wrapped.
        """
        return self._keyring.rewrap(wrapped_keys, context, to)

    def _rewrap_to(
        self,
        wrapped_keys: Sequence[WrappedKey],
        context: Mapping[str, str],
        to: Sequence[str],
        new_context: Mapping[str, str],
    ) -> tuple[WrappedKey, ...]:
        return rewrap_to(self._keyring, wrapped_keys, context, to, new_context)

    def _rewrapped_within(self, ciphertext: bytes, context: Mapping[str, str], key: str) -> bytes | None:
        return rewrapped_within(self._keyring, ciphertext, context, key)

    def close(self) -> None:
        """Wipe every data key and lend no more. A key on loan is wiped when it is given back. May be repeated."""
        self._held.close()

    def clear(self) -> None:
        """Wipe every data key and start over. Keys that are being fetched now are not kept."""
        self._held.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def kms_stats(self) -> events.KmsStats:
        """Return counts of the inner keyring's requests to KMS, and of the calls that this cache saved."""
        with self._held.lock:
            saved = self._held.hits + self._held.misses - self._held.calls
        return watch.kms_stats(self._keyring) + events.KmsStats(saved=max(0, saved))

    def stats(self) -> CacheStats:
        """Return what the cache has done so far."""
        return self._held.stats()

    # --- finding an entry

    def _is_over(self) -> bool:
        """Whether the program is ending: a cache that is not closed still works, but keeps no key."""
        return wiping.over and not self._held.closed

    def _bypass(self, wait: bool, *, decrypting: bool) -> None:
        if not wait:
            raise NotReadyError
        with self._held.lock:
            self._held.bypasses += 1
        self._report("bypass", decrypting)

    def _report(self, kind: str, decrypting: bool) -> None:
        if self._on_event is not None:
            self._on_event(events.CacheLookup(kind, decrypting))

    def _find(
        self,
        identity: Hashable,
        size: int | None,
        fetch: Callable[[], _Fetched],
        refetch: Callable[[], _Fetched],
        wait: bool,
    ) -> CacheEntry:
        """Return an entry on loan; the caller gives it back.

        The first thread that finds none calls ``fetch``; the others wait, and fail if it fails.

        Args:
            size: the bytes of plaintext it will encrypt; None for decrypting, which has no such bound.
            refetch: fetches a new key before the entry's end.
            wait: False raises NotReadyError instead of waiting.
        """
        held = self._held
        waited = False
        while True:
            with held.lock:
                taken = held.take(identity, size)
                if taken is not None:
                    if taken.due:
                        self._refresh(identity, refetch)
                elif not wait:
                    raise NotReadyError
                else:
                    if identity not in held.flights:
                        self._raise_recent_failure(identity)
                    flight, mine = held.flights.join(identity)
                    held.misses += mine
                    held.calls += mine
                    held.waits += not mine
            if taken is not None:
                return self._deliver(taken, waited, decrypting=size is None)
            if not mine:
                waited = True
                wait_for(flight, self._longest_wait)
            elif (entry := self._fetch(identity, flight, size, fetch)) is not None:
                self._report("miss", size is None)
                return entry

    def _raise_recent_failure(self, identity: Hashable) -> None:
        """Raise the last call's error if it ended after this request was made."""
        failure, requested = self._held.failures.get(identity), asked_at.get()
        if failure is not None and requested is not None and requested <= failure[0]:
            self._held.waits += 1
            raise copy.copy(failure[1])

    def _deliver(self, taken: Taken, waited: bool, *, decrypting: bool) -> CacheEntry:
        if taken.outage is not None:
            try:
                self._warn_of_staleness(taken.outage)
            except CacheWarning:  # if warnings are errors
                self._held.give_back(taken.entry)
                raise
        self._report("stale" if taken.stale else "wait" if waited else "hit", decrypting)
        return taken.entry

    def _fetch(
        self, identity: Hashable, flight: Future[None], size: int | None, fetch: Callable[[], _Fetched]
    ) -> CacheEntry | None:
        """Make a call for all threads that wait; return the new entry, or None if a stale one may be used now."""
        held = self._held
        failure: KmsError | None = None
        try:
            entry = held.insert(identity, *fetch(), size, flight)
        except KmsError as error:
            if self._tolerates(identity, error):
                return None
            if not is_of_one_payload(error):
                failure = copy.copy(error)
                with held.lock:
                    held.failures[identity] = (now(), failure)
            raise
        finally:
            # An error about one payload concerns no other thread: the next in line makes its own call.
            self._land(identity, flight, failure)
        if size is not None:
            self._warn_of_contexts()
        return entry

    def _land(self, identity: Hashable, flight: Future[None], failure: KmsError | None = None) -> None:
        with self._held.lock:
            self._held.flights.land(identity, flight)
        if failure is None:
            flight.set_result(None)
        else:
            flight.set_exception(failure)

    # --- before the end of an entry, and beyond it

    def _refresh(self, identity: Hashable, refetch: Callable[[], _Fetched]) -> None:
        """Fetch a new key in a thread. The lock is held."""
        held = self._held
        if held.refreshing >= _MOST_REFRESHES:
            return
        flight: Future[None] = Future()

        def run() -> None:
            try:
                key, wrapped_keys = refetch()
                with held.lock:
                    if held.closed or held.is_void(identity, flight):
                        key.close()
                    else:
                        held.replace(identity, key, wrapped_keys)
                        held.refreshes += 1
            except Exception as error:  # any error: it must neither be lost nor be repeated at once
                with held.lock:
                    entry = held.entries.get(identity)
                    if entry is not None:
                        self._postpone(entry, error)
                # Threads that wait by now make a call of their own, and get that one's error.
                _log.warning("refreshing a cached data key failed: %s", error)
            finally:
                with held.lock:
                    held.refreshing -= 1
                self._land(identity, flight)

        # A daemon: the program's end does not wait for KMS.
        thread = threading.Thread(target=run, name="sealwax-refresh", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads, or the program is ending
            _log.warning("refreshing a cached data key failed: %s", error)
            return
        # The thread cannot end its work before the lock is released.
        held.flights[identity] = flight
        held.refreshing += 1
        held.calls += 1

    def _postpone(self, entry: CacheEntry, error: Exception) -> None:
        """Leave KMS alone for a while. Only an outage allows a stale entry. The lock is held."""
        entry.retry_age = self._held.age(entry) + _RETRY_SECONDS
        entry.outage = error if isinstance(error, KmsError) and is_outage(error) else None

    def _tolerates(self, identity: Hashable, error: KmsError) -> bool:
        """Whether a stale entry may be used: KMS is out of reach, and the entry is not too old."""
        held = self._held
        if not is_outage(error):
            return False
        with held.lock:
            entry = held.entries.get(identity)
            if entry is None or held.age(entry) >= held.max_age + held.serve_stale_for:
                return False
            if entry.messages >= held.max_messages:
                return False
            self._postpone(entry, error)
        return True

    def _warn_of_staleness(self, error: KmsError) -> None:
        message = (
            f"KMS cannot be used: a data key is lent beyond max_age, for at most {self._held.serve_stale_for:g} s: "
            f"{error}"
        )
        _log.warning("%s", message)
        warnings.warn(message, CacheWarning, stacklevel=2)

    def _warn_of_contexts(self) -> None:
        with self._held.lock:
            self._held.single_use += 1
            count = self._held.single_use
            if self._warned_of_contexts or count < _WARN_AFTER:
                return
            self._warned_of_contexts = True
        warnings.warn(
            f"the last {count} data keys were each used only once, because every value has its own KMS context: the "
            "cache does not help. Name the context pairs that change with every value in Sealer(local_context=...).",
            CacheWarning,
            stacklevel=2,
        )
