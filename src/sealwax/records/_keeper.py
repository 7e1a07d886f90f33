"""The rings of one ``Records``, the bounds on what they hold, and the thread that works beside the callers.

The thread looks at the store, fetches data keys again before their end, one at a time, and wipes old ones. Without it
(there may be no more threads) keys still end when they are asked for.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from sealwax._core import context as ctx
from sealwax._core import fork_locks
from sealwax._core.cache import wiping
from sealwax._core.format import payload
from sealwax._core.keyring import CLOCK, Keyring
from sealwax._core.lru import LruMap
from sealwax.errors import KeyStoreError, SealwaxError
from sealwax.records._field import Field
from sealwax.records._ring import Ring
from sealwax.records._store import KeyKind, KeyRow, KeyStore

_log: Final = logging.getLogger("sealwax")

_WALL_CLOCK: Final[int] = time.CLOCK_REALTIME
_read_clock: Final = time.clock_gettime
_KEEPER_END_SECONDS: Final = 5.0
# Processes that were started together must not all look at the store at one moment.
_JITTER: Final = 0.1
_WAKES_IN_MAX_AGE: Final = 10
_SHORTEST_PAUSE_SECONDS: Final = 0.05


class Keeper:
    """Holds the rings of one ``Records``; see the module."""

    def __init__(
        self,
        keyring: Keyring,
        store: KeyStore,
        *,
        max_age: float,
        serve_stale_for: float,
        recheck: float,
        capacity: int,
        record_keys: int,
    ) -> None:
        self.keyring = keyring
        self.store = store
        self.clocks, self.monotonic, self.wall = self._clocks, self._monotonic, self._wall
        self.max_age = max_age
        self.serve_stale_for = serve_stale_for
        self._recheck = recheck
        self._capacity = capacity
        self._most_record_keys = record_keys
        self.highest: LruMap[tuple[bytes, KeyKind], tuple[int, bytes]] = LruMap(self._scopes_seen)
        self.lost: dict[bytes, KeyRow] = {}
        self.outage_at: float | None = None
        self.store_is_away = False
        self.closed = False
        self._old_values: dict[str, list[int]] = {}
        self._renew()
        wiping.watch(self)
        fork_locks.renew_in_children(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        # A ring lives as long as a field uses it or it holds keys; those that hold keys are bounded.
        self._rings: weakref.WeakValueDictionary[tuple[bytes, KeyKind], Ring] = weakref.WeakValueDictionary()
        self._warm: dict[Ring, None] = {}
        self._record_keys: OrderedDict[tuple[weakref.ref[Field], bytes], None] = OrderedDict()
        self._keeper: threading.Thread | None = None
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._epoch = b""
        self._schedule_look()

    def _after_fork(self) -> tuple[()]:
        rings = list(self._rings.values())
        for ring in rings:
            ring.clear_in_child()
        if self._keeper is not None:
            wiping.threads_of_parents.append(self._keeper)
        self._renew()
        # Fields keep their rings: an empty ring loads its keys again.
        self._rings.update(((ring.scope_bytes, ring.kind), ring) for ring in rings)
        return ()

    # Tests replace these in a subclass.
    # Of how many scopes the newest generation is remembered, about 250 bytes each.
    _scopes_seen = 100_000
    # They ignore clocks that a test has frozen, which differ between threads.
    _monotonic = staticmethod(time.monotonic)
    _wall = staticmethod(time.time)

    @staticmethod
    def _clocks() -> tuple[float, float]:
        return _read_clock(CLOCK), _read_clock(_WALL_CLOCK)

    # --- rings and their bounds

    def _ring(self, scope: Mapping[str, str], kind: KeyKind) -> Ring:
        key = ctx.encode(scope), kind
        with self._lock:
            if self.closed:
                raise ValueError("this Records is closed")
            ring = self._rings.get(key)
            if ring is None:
                ring = self._rings[key] = Ring(self, scope, kind)
            return ring

    def _note_keys(self, ring: Ring) -> None:
        """Note that a ring holds keys, and wipe those of the ring that was used longest ago, beyond the capacity."""
        surplus: list[Ring] = []
        with self._lock:
            self._start_keeper()
            self._warm[ring] = None
            while len(self._warm) > self._capacity:
                surplus.append(min((each for each in self._warm if each is not ring), key=lambda each: each.used_at))
                del self._warm[surplus[-1]]
        for each in surplus:
            each.clear()

    def note_store_answer(self) -> None:
        """Note that the store is not away: keys beyond their age are not used any more, unless it is KMS that is."""
        if self.store_is_away:
            self.outage_at = None

    def note_old_value(self, field: str, form: str, *, read: bool) -> None:
        """Count a value that was read or written in the form that a field had before records, and log the first one."""
        with self._lock:
            first = field not in self._old_values
            self._old_values.setdefault(field, [0, 0])[0 if read else 1] += 1
        if first:
            _log.warning("'%s' still has values as %s, which have not been moved to records", field, form)

    def _count_old_values(self) -> tuple[dict[str, int], dict[str, int]]:
        with self._lock:
            counts = sorted(self._old_values.items())
            return {name: both[0] for name, both in counts if both[0]}, {
                name: both[1] for name, both in counts if both[1]
            }

    def note_record_key(self, field: Field, head: bytes) -> None:
        """Note that a field holds one more record key for opening, and drop the oldest ones beyond the bound."""
        with self._lock:
            noted = weakref.ref(field), head
            self._record_keys[noted] = None
            self._record_keys.move_to_end(noted)
            while len(self._record_keys) > self._most_record_keys:
                (reference, oldest), _ = self._record_keys.popitem(last=False)
                holder = reference()
                if holder is not None:
                    holder.drop(oldest)

    def _count_record_keys(self) -> int:
        with self._lock:
            noted = list(self._record_keys)
        return sum(field is not None and field.holds(head) for field, head in ((ref(), head) for ref, head in noted))

    # --- the end

    def clear(self) -> None:
        """Wipe all keys; they are fetched again when they are needed."""
        for ring in list(self._rings.values()):
            ring.clear()
        with self._lock:
            self._warm.clear()
            self._record_keys.clear()
        payload.leave_no_registers()

    def close(self) -> None:
        """Wipe all keys, and end the thread beside. Closing twice is harmless."""
        with self._lock:
            self.closed = True
        self.clear()
        self._wake.put(None)

    def _exchange(self, keyring: Keyring, store: KeyStore, *, closed: bool) -> None:
        """Take another keyring and store, and wipe all keys."""
        if self.closed and not closed:
            self.end_reaper()
        with self._lock:
            self.keyring, self.store, self._epoch = keyring, store, b""
            self.closed = closed
            rings = list(self._rings.values())
        for ring in rings:
            ring.clear()
        for ring in rings:
            ring.start_over()  # waits for whoever is loading a key
        self.highest.clear()
        self.lost.clear()
        self.outage_at = None

    # --- beside the caller

    def _start_keeper(self) -> None:
        """Start the thread. The lock is held."""
        if self._keeper is not None and self._keeper.is_alive():
            return
        wake = self._wake
        reference: weakref.ref[wiping.Wipeable] = weakref.ref(self, lambda _: wake.put(None))
        keeper = threading.Thread(
            target=_reap_later, args=(self._pause(), reference, wake), name="sealwax-records", daemon=True
        )
        with contextlib.suppress(RuntimeError):
            keeper.start()
            self._keeper = keeper

    def end_reaper(self) -> None:
        """Wait until the thread has ended."""
        self._wake.put(None)
        if self._keeper is not None:
            self._keeper.join(_KEEPER_END_SECONDS)

    def _schedule_look(self) -> None:
        jitter = 1 - _JITTER * random.random()  # noqa: S311  not for a secret
        self._checked_at = self.clocks()[0]
        self._look_after = self._recheck * jitter

    def wipe_old(self) -> float | None:
        """Do what has to be done beside the callers.

        Returns:
            The seconds until the next time; None once this is closed.
        """
        if self.closed or wiping.over:
            return None
        try:
            self._wipe_old()
            if self._look_is_due():
                self._schedule_look()
                self._look_at_store()
            self._refresh()
        except SealwaxError as error:
            _log.warning("looking after the data keys of records failed: %s", error)
        except Exception as error:  # of a store or keyring of the user's: the thread must go on
            if self.closed:
                return None
            _log.warning("looking after the data keys of records failed with %s", type(error).__name__)
        return self._pause()

    def _pause(self) -> float:
        due = self._checked_at + self._look_after - self.clocks()[0]
        return max(_SHORTEST_PAUSE_SECONDS, min(due, self.max_age / _WAKES_IN_MAX_AGE))

    def _look_is_due(self) -> bool:
        return self.clocks()[0] - self._checked_at >= self._look_after

    def _warm_rings(self) -> list[Ring]:
        with self._lock:
            return list(self._warm)

    def _wipe_old(self) -> None:
        empty = [ring for ring in self._warm_rings() if not ring.wipe_old()]
        with self._lock:
            for ring in empty:
                if not ring.held_ids():
                    self._warm.pop(ring, None)
        if empty:
            payload.leave_no_registers()

    def _look_at_store(self) -> None:
        """Wipe what was shredded, and find newer and lost keys. What fails is done again at the next look."""
        rings = self._warm_rings()
        key_ids = [key_id for ring in rings for key_id in ring.held_ids()]
        if not key_ids:
            return
        changes = self.store.check(key_ids)
        self.note_store_answer()
        changed, self._epoch = changes.epoch != self._epoch, b""
        for ring in rings:
            ring.drop_shredded(changes.states)
        failure: SealwaxError | None = None
        outage_at = self.outage_at
        for ring in rings:
            try:
                ring.recheck(changes, changed=changed)
            except SealwaxError as error:
                if self.outage_at != outage_at or (isinstance(error, KeyStoreError) and error.retryable):
                    raise  # the others would wait for KMS or the store in turn
                failure = failure or error  # such as a damaged row, which must not keep other scopes from being seen
        if failure is not None:
            raise failure
        self._epoch = changes.epoch

    def _refresh(self) -> None:
        """Fetch keys again that are in use and near their end, one at a time."""
        for ring in self._warm_rings():
            # While KMS is away, each call may take long; and shredded keys must be found in time.
            since = self.outage_at
            if self.closed or self._look_is_due() or (since is not None and self.clocks()[0] - since < self._recheck):
                return
            ring.refresh()


def _reap_later(seconds: float, reference: weakref.ref[wiping.Wipeable], wake: queue.SimpleQueue[None]) -> None:
    with contextlib.suppress(queue.Empty):
        wake.get(timeout=seconds)
    wiping.reap(reference, wake)
