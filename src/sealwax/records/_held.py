"""The data keys of one scope that are in memory: how long they are used, and how they are wiped.

Sealing and opening hold record keys under them, and are told when a data key goes.
"""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from sealwax._core import context as ctx
from sealwax._core.keyring import DataKey
from sealwax._core.lru import LruMap
from sealwax.errors import SealwaxError
from sealwax.records._store import KeyKind, KeyRow, KeyState, scope_hash

# If the two clocks differ by more than this, the machine slept or was restored from a snapshot.
_CLOCK_SKEW_SECONDS: Final = 5.0
# Keys of one age must not all be fetched again at one moment.
_JITTER: Final = 0.1
_REFRESH_AT: Final = 0.8
# For how many ids it is remembered that the store has no such key.
_MISSING_IDS: Final = 1024
# While KMS or the store is away, old keys are used at once for so long before another call is tried.
RETRY_SECONDS: Final = 10.0


class Listener(Protocol):
    """Holds record keys under the data keys of a ring."""

    def forget(self, key_ids: frozenset[bytes] | None) -> None:
        """Drop the record keys under these data keys; None for all."""


class HeldSettings(Protocol):
    """What the held keys of one ``Records`` share."""

    max_age: float
    serve_stale_for: float
    closed: bool
    highest: LruMap[tuple[bytes, KeyKind], tuple[int, bytes]]
    """The newest generation and its key id that were seen, by the hash of a scope and kind; they outlive the rings, but
    for scopes that were used longest ago."""
    lost: dict[bytes, KeyRow]
    """Rows that the store has lost, by key id."""

    @property
    def clocks(self) -> Callable[[], tuple[float, float]]: ...


class Held:
    """A data key in use, and the row that it came from."""

    __slots__ = ("age_limit", "key", "monotonic", "row", "wall")

    def __init__(self, key: DataKey, row: KeyRow, times: tuple[float, float], age_limit: float) -> None:
        self.key = key
        self.row = row
        self.monotonic, self.wall = times
        self.age_limit = age_limit

    def age(self, times: tuple[float, float]) -> float:
        elapsed, elapsed_wall = times[0] - self.monotonic, times[1] - self.wall
        if abs(elapsed - elapsed_wall) > _CLOCK_SKEW_SECONDS:
            return float("inf")
        return max(elapsed, elapsed_wall)


class ScopeKeys:
    """The data keys of one scope and kind in memory, and which of them is the newest."""

    def __init__(self, settings: HeldSettings, scope: Mapping[str, str], kind: KeyKind) -> None:
        self.scope = dict(scope)
        self.scope_bytes = ctx.encode(scope)
        self.kind = kind
        self._mark = scope_hash(scope), kind
        self._settings = settings
        self._lock = threading.RLock()  # guards all attributes, for moments
        self._loading = threading.Lock()  # one thread at a time waits for the store and KMS
        self._held: dict[bytes, Held] = {}
        self._newest: Held | None = None
        self._loaded: frozenset[bytes] = frozenset()
        self._failure: tuple[float, SealwaxError] | None = None
        self._missing: LruMap[bytes, float] = LruMap(_MISSING_IDS)
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self.used_at = 0.0

    def listen(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.add(listener)

    @property
    def highest(self) -> tuple[int, bytes]:
        """The newest generation that was seen, and its key id; ``(0, b"")`` before that."""
        return self._settings.highest.get(self._mark, (0, b""))

    def _used(self, held: Held | None, use: Callable[[Held, float], None], *, stale: bool = False) -> bool:
        with self._lock:
            if held is None or self._held.get(held.row.key_id) is not held:
                return False
            times = self._settings.clocks()
            self.used_at = times[0]
            until = held.monotonic + held.age_limit
            if held.age(times) >= held.age_limit:
                if not stale:
                    return False
                until = min(until + self._settings.serve_stale_for, self.used_at + RETRY_SECONDS)
            use(held, until)
            return True

    def _is_good(self, held: Held) -> bool:
        return held.age(self._settings.clocks()) < held.age_limit

    def _is_usable(self, held: Held | None) -> bool:
        if held is None:
            return False
        return held.age(self._settings.clocks()) < held.age_limit + self._settings.serve_stale_for

    def _keep(self, row: KeyRow, key: DataKey) -> Held:
        limit = self._settings.max_age * (1 - _JITTER * random.random())  # noqa: S311  not for a secret
        with self._lock:
            if self._settings.closed:
                key.close()
                raise ValueError("this Records is closed")
            old = self._held.pop(row.key_id, None)
            held = self._held[row.key_id] = Held(key, row, self._settings.clocks(), limit)
            self._missing.pop(row.key_id, None)
            self._settings.lost.pop(row.key_id, None)
            self.used_at = held.monotonic
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

    def _drop_before(self, generation: int) -> None:
        """Forget what was shredded when this generation was claimed, also what the store had lost before."""
        lost = self._settings.lost
        for row in self.rows():
            if row.generation <= generation:
                self.drop([row.key_id])
                lost.pop(row.key_id, None)

    def _note_lost(self, key_ids: Iterable[bytes]) -> None:
        with self._lock:
            for key_id in key_ids:
                if key_id in self._held:
                    self._settings.lost[key_id] = self._held[key_id].row

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

    def held_ids(self) -> list[bytes]:
        with self._lock:
            return list(self._held)

    def rows(self) -> list[KeyRow]:
        """Return the rows of the held keys, and those that the store has lost."""
        with self._lock:
            rows = {held.row.key_id: held.row for held in self._held.values()}
        for row in list(self._settings.lost.values()):
            if row.scope == self.scope and row.kind is self.kind:
                rows[row.key_id] = row
        return list(rows.values())

    def wipe_old(self) -> bool:
        """Wipe keys that may not be used any more; return whether any is left."""
        with self._lock:
            self.drop([key_id for key_id, held in self._held.items() if not self._is_usable(held)])
            return bool(self._held)

    def drop_shredded(self, states: Mapping[bytes, KeyState | None]) -> None:
        """Wipe what the store says is shredded."""
        self.drop([key_id for key_id, state in states.items() if state is KeyState.SHREDDED and key_id in self._held])

    def _is_due(self, held: Held, times: tuple[float, float]) -> bool:
        due = held.age(times) >= held.age_limit * _REFRESH_AT
        return due and self.used_at > held.monotonic + held.age_limit * _REFRESH_AT / 2

    def named(self) -> str:
        """Return the scope as messages show it: its pairs are no secret, KMS logs them."""
        return "{" + ", ".join(f"{name}={value}" for name, value in sorted(self.scope.items())) + "}"
