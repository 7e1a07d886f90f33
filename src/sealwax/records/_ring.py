"""The data keys of one scope, held for a while: where they come from, how long they are used, and how they are wiped.

A ring has one newest key, which seals, and any number of older ones, which open. Sealing and opening hold record keys
of their own and come here once in a while; only then does anything wait for the key store and KMS.

- A ring never goes back to a lower generation, and never seals under a key that is not durable in the store.
- A key is used for ``max_age`` at most, by both clocks; while KMS or the store is away, for ``serve_stale_for`` longer.
- A key that the store has lost goes on opening until then, and seals no more.
"""

from __future__ import annotations

import contextlib
import random
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from sealwax._core import context as ctx
from sealwax._core.keyring import DataKey, Keyring
from sealwax._core.lru import LruMap
from sealwax.errors import (
    KeyStoreError,
    KmsError,
    SealwaxError,
    ShreddedError,
    UnavailableError,
    UnknownKeyError,
)
from sealwax.records import _blob
from sealwax.records._store import MAX_GENERATION, KeyKind, KeyRow, KeyState, KeyStore

Clocks = Callable[[], tuple[float, float]]

# If the two clocks differ by more than this, the machine slept or was restored from a snapshot.
_CLOCK_SKEW_SECONDS: Final = 5.0
# Keys of one age must not all be fetched again at one moment.
_JITTER: Final = 0.1
_REFRESH_AT: Final = 0.8
# How long, and for how many ids, it is remembered that the store has no such key.
_MISSING_SECONDS: Final = 30.0
_MISSING_IDS: Final = 1024
# Another thread's call to the store and KMS; it has time limits of its own, which are shorter.
_LONGEST_WAIT_SECONDS: Final = 120.0
_CREATIONS: Final = 5


class Listener(Protocol):
    """Holds record keys under the data keys of a ring."""

    def forget(self, key_ids: frozenset[bytes] | None) -> None:
        """Drop the record keys under these data keys; None for all."""


class RingSettings(Protocol):
    """What the rings of one ``Records`` share."""

    keyring: Keyring
    store: KeyStore
    max_age: float
    serve_stale_for: float
    closed: bool

    def clocks(self) -> tuple[float, float]: ...


class Held:
    """A data key in use, and the row that it came from."""

    __slots__ = ("age_limit", "key", "monotonic", "row", "state", "wall")

    def __init__(self, key: DataKey, row: KeyRow, times: tuple[float, float], age_limit: float) -> None:
        self.key = key
        self.row = row
        self.monotonic, self.wall = times
        self.age_limit = age_limit
        self.state: KeyState | None = row.state

    def age(self, times: tuple[float, float]) -> float:
        elapsed, elapsed_wall = times[0] - self.monotonic, times[1] - self.wall
        if abs(elapsed - elapsed_wall) > _CLOCK_SKEW_SECONDS:
            return float("inf")
        return max(elapsed, elapsed_wall)


class Ring:
    """The held data keys of one scope and kind; see the module."""

    def __init__(self, settings: RingSettings, scope: Mapping[str, str], kind: KeyKind) -> None:
        self.scope = dict(scope)
        self.scope_bytes = ctx.encode(scope)
        self.kind = kind
        self._settings = settings
        self._lock = threading.RLock()  # guards all attributes, for moments
        self._loading = threading.Lock()  # one thread at a time waits for the store and KMS
        self._held: dict[bytes, Held] = {}
        self._newest: Held | None = None
        self._highest: tuple[int, bytes] = (0, b"")
        self._missing: LruMap[bytes, float] = LruMap(_MISSING_IDS)
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self.used_at = 0.0

    def listen(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.add(listener)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._loading.acquire(timeout=_LONGEST_WAIT_SECONDS):
            raise UnavailableError(
                f"another thread's call for a data key did not finish within {_LONGEST_WAIT_SECONDS:g} s: the key "
                "store or KMS hangs. Try again.",
                retryable=True,
            )
        try:
            yield
        finally:
            self._loading.release()

    # --- for sealing and opening

    def with_newest(self, use: Callable[[Held, float], None], *, wait: bool) -> bool:
        """Call ``use`` with the key that seals, and until when it may be used, by the monotonic clock.

        Args:
            wait: False returns False instead of waiting for the store or KMS.
        """
        return self._with(lambda: self._newest, self.load_newest, use, wait=wait)

    def with_key(self, key_id: bytes, use: Callable[[Held, float], None], *, wait: bool) -> bool:
        """Call ``use`` with the key that opens a record; as ``with_newest``."""
        return self._with(lambda: self._held.get(key_id), lambda: self._load(key_id), use, wait=wait)

    def _with(
        self,
        find: Callable[[], Held | None],
        load: Callable[[], Held],
        use: Callable[[Held, float], None],
        *,
        wait: bool,
    ) -> bool:
        if self._settings.closed:
            raise ValueError("this Records is closed")
        if self._used(find(), use):
            return True
        if not wait:
            return False
        with self._alone():
            # Another thread may have loaded it meanwhile. What was loaded may be stale: then KMS or the store is away.
            while not self._used(find(), use) and not self._used(load(), use, stale=True):
                pass
        return True

    def _used(self, held: Held | None, use: Callable[[Held, float], None], *, stale: bool = False) -> bool:
        with self._lock:
            if held is None or self._held.get(held.row.key_id) is not held or not (stale or self._is_good(held)):
                return False
            self.used_at = self._settings.clocks()[0]
            use(held, held.monotonic + held.age_limit + (self._settings.serve_stale_for if stale else 0))
            return True

    def _is_good(self, held: Held) -> bool:
        return held.age(self._settings.clocks()) < held.age_limit

    def _is_usable(self, held: Held | None) -> bool:
        if held is None:
            return False
        return held.age(self._settings.clocks()) < held.age_limit + self._settings.serve_stale_for

    # --- loading, one thread at a time

    def load_newest(self) -> Held:
        """Fetch the newest key, or make the first one.

        Raises:
            ShreddedError: the scope was shredded.
            KeyStoreError: the store is away, or has lost the newest key.
            KmsError, KeyRowError: the key cannot be unwrapped.
        """
        try:
            row = self._settings.store.newest(self.scope, self.kind)
            if row is None:
                self._refuse_lost(None)
                return self._make(1)
            return self._take_newest(row)
        except (KmsError, KeyStoreError) as error:
            held = self._newest
            if getattr(error, "retryable", False) and held is not None and self._is_usable(held):
                return held
            raise

    def _take_newest(self, row: KeyRow) -> Held:
        self._refuse_lost(row)
        if row.state is not KeyState.LIVE:
            self._newest = None
            raise self._gone(row)
        held = self._held.get(row.key_id)
        if held is None or not self._is_good(held):
            held = self._keep(row, _blob.unwrap(self._settings.keyring, row))
        self._promote(held)
        return held

    def _refuse_lost(self, row: KeyRow | None) -> None:
        """Refuse to go back: a store that was restored from an old copy, or lost rows, has an older key or none."""
        generation, key_id = self._highest
        if row is not None and (row.generation, row.key_id) == self._highest:
            return
        if generation and (row is None or row.generation <= generation):
            self._newest = None
            raise KeyStoreError(
                f"the key store has lost generation {generation} of the scope {self.named()} (key id {key_id.hex()}): "
                "it was restored from an older copy, or rows were deleted. Nothing is sealed until 'repair' puts the "
                "key back, or 'accept' says that the older state is right; what is held still opens."
            )

    def _promote(self, held: Held) -> None:
        with self._lock:
            if self._newest is not held:
                self._newest = held
                self._highest = held.row.generation, held.row.key_id
                self._tell(None)

    def _make(self, generation: int) -> Held:
        """Make a key and add it to the store; whoever is first wins."""
        row, key = _blob.make(self._settings.keyring, self.scope, self.kind, generation)
        try:
            winner = self._create(row)
            if winner.key_id == row.key_id:
                held = self._keep(winner, key.duplicate())
                self._promote(held)
                return held
        finally:
            key.close()
        return self._take_newest(winner)

    def _create(self, row: KeyRow) -> KeyRow:
        """Add a row; a call that failed may have taken effect, so it is made again until the answer is known."""
        for attempt in range(1, _CREATIONS + 1):
            try:
                return self._settings.store.create(row)
            except KeyStoreError as error:
                if attempt == _CREATIONS or not error.retryable:
                    raise
        raise AssertionError

    def _load(self, key_id: bytes) -> Held:
        now = self._settings.clocks()[0]
        if self._missing.get(key_id, 0.0) > now:
            raise self._unknown(key_id)
        held = self._held.get(key_id)
        try:
            rows = self._settings.store.get_many(self.scope, [key_id])
            row = next((row for row in rows if row.key_id == key_id and row.kind is self.kind), None)
            if row is None:
                if held is not None and self._is_usable(held):
                    return held
                self._missing[key_id] = now + _MISSING_SECONDS
                raise self._unknown(key_id)
            if row.state is KeyState.SHREDDED:
                self.drop([key_id])
                raise self._gone(row)
            return self._keep(row, _blob.unwrap(self._settings.keyring, row))
        except (KmsError, KeyStoreError) as error:
            if getattr(error, "retryable", False) and held is not None and self._is_usable(held):
                return held
            raise

    def load_all(self) -> None:
        """Fetch every key of the scope that is not shredded."""
        with self._alone():
            self.load_newest()
            for row in list(self._settings.store.list(self.scope)):
                if row.scope == self.scope and row.kind is self.kind and row.state is not KeyState.SHREDDED:
                    held = self._held.get(row.key_id)
                    if held is None or not self._is_good(held):
                        self._keep(row, _blob.unwrap(self._settings.keyring, row))

    def load_many(self, key_ids: Iterable[bytes]) -> None:
        """Fetch these keys, unless they are held."""
        for key_id in key_ids:
            self.with_key(key_id, lambda _held, _until: None, wait=True)

    def roll(self) -> KeyRow:
        """Make the next generation, and seal under it from now on."""
        with self._alone():
            newest = self._settings.store.newest(self.scope, self.kind)
            if newest is not None and newest.state is KeyState.SHREDDED:
                raise self._gone(newest)
            self._refuse_lost(newest)
            return self._make_next(0 if newest is None else newest.generation).row

    def reopen(self) -> KeyRow:
        """Make the first key after a scope was shredded."""
        with self._alone():
            newest = self._settings.store.newest(self.scope, self.kind)
            if newest is None or newest.state is not KeyState.SHREDDED:
                raise KeyStoreError(f"the scope {self.named()} is not shredded, so there is nothing to reopen")
            return self._make_next(newest.generation).row

    def _make_next(self, generation: int) -> Held:
        if generation >= MAX_GENERATION:
            raise KeyStoreError(f"generation {generation} is the last one that there can be")
        return self._make(generation + 1)

    def accept(self) -> None:
        """Take the state of the store as the right one, though it is older than what was seen."""
        with self._alone():
            self._highest = (0, b"")
            self._newest = None
            self._missing.clear()
            self._tell(None)

    def rows(self) -> list[KeyRow]:
        """Return the rows of the held keys, for a store that may have lost them."""
        with self._lock:
            return [held.row for held in self._held.values()]

    # --- keeping and dropping

    def _keep(self, row: KeyRow, key: DataKey) -> Held:
        limit = self._settings.max_age * (1 - _JITTER * random.random())  # noqa: S311  not for a secret
        with self._lock:
            old = self._held.pop(row.key_id, None)
            held = self._held[row.key_id] = Held(key, row, self._settings.clocks(), limit)
            self._missing.pop(row.key_id, None)
            if old is not None:
                old.key.close()
                if self._newest is old:
                    self._newest = held
            return held

    def drop(self, key_ids: Iterable[bytes]) -> None:
        """Wipe these keys, and the record keys under them."""
        with self._lock:
            dropped = frozenset(key_ids)
            self._tell(dropped)
            for key_id in dropped:
                held = self._held.pop(key_id, None)
                if held is not None:
                    held.key.close()
                    if self._newest is held:
                        self._newest = None

    def clear(self) -> None:
        """Wipe every key."""
        with self._lock:
            self.drop(list(self._held))

    def clear_in_child(self) -> None:
        """Wipe every key in a forked child, where nobody will release the locks of other threads."""
        self._lock, self._loading = threading.RLock(), threading.Lock()
        self.clear()

    def _tell(self, key_ids: frozenset[bytes] | None) -> None:
        for listener in list(self._listeners):
            listener.forget(key_ids)

    # --- beside the caller

    def held_ids(self) -> list[bytes]:
        with self._lock:
            return list(self._held)

    def wipe_old(self) -> bool:
        """Wipe keys that may not be used any more; return whether any is left."""
        with self._lock:
            self.drop([key_id for key_id, held in self._held.items() if not self._is_usable(held)])
            return bool(self._held)

    def recheck(self, states: Mapping[bytes, KeyState | None], *, newest_too: bool) -> None:
        """Take what the store says of the held keys: wipe what is shredded, and seal no more under what is gone."""
        with self._alone():
            self.drop([key_id for key_id in self._held if states.get(key_id) is KeyState.SHREDDED])
            newest = self._newest
            if newest is not None and states.get(newest.row.key_id) is not KeyState.LIVE:
                self._newest = None
                self._tell(None)
            if newest_too and (newest is not None or self._highest[0]):
                with contextlib.suppress(SealwaxError):  # sealing reports it
                    self.load_newest()

    def refresh(self) -> None:
        """Fetch again what is near its end, if the ring was used since it was fetched."""
        with self._alone():
            times = self._settings.clocks()
            for held in list(self._held.values()):
                due = held.age(times) >= held.age_limit * _REFRESH_AT
                if due and self.used_at > held.monotonic + held.age_limit * _REFRESH_AT / 2:
                    with contextlib.suppress(SealwaxError):  # it is used to its end, and sealing reports it then
                        self._load(held.row.key_id)

    # --- messages

    def named(self) -> str:
        """Return the scope as messages show it: its pairs are no secret, KMS logs them."""
        return "{" + ", ".join(f"{name}={value}" for name, value in sorted(self.scope.items())) + "}"

    def _gone(self, row: KeyRow) -> SealwaxError:
        if row.state is KeyState.SHREDDED:
            return ShreddedError(
                f"the data keys of the scope {self.named()} were shredded: what was sealed under them is gone. "
                "'reopen' makes a new key for new data."
            )
        return KeyStoreError(
            f"the newest data key of the scope {self.named()} (generation {row.generation}) is {row.state}, so nothing "
            "can be sealed; make a new one with 'roll'"
        )

    def _unknown(self, key_id: bytes) -> UnknownKeyError:
        return UnknownKeyError(
            f"no data key of the scope {self.named()} has the id {key_id.hex()}: the record is of another scope "
            "(another tenant or environment) or of another key store, or its key was lost",
            key_id,
        )
