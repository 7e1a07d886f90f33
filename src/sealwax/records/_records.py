"""Records: the fields of a database, sealed one by one under data keys that a key store keeps."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from sealwax._core import context as ctx
from sealwax._core import fork_locks
from sealwax._core.aio import in_thread
from sealwax._core.cache import wiping
from sealwax._core.format import payload
from sealwax._core.format.io import refuse_copies
from sealwax._core.keyring import CLOCK, Keyring, SupportsReady
from sealwax.errors import ContextError, KeyRowError, KeyStoreError, WrappedKeyRefusedError
from sealwax.records import _blob, _form
from sealwax.records._field import Field
from sealwax.records._ring import Ring
from sealwax.records._rows import RowType
from sealwax.records._store import KeyKind, KeyRow, KeyState, KeyStore

_WALL_CLOCK: Final[int] = time.CLOCK_REALTIME
_read_clock: Final = time.clock_gettime
_KEEPER_END_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class RecordsStats:
    """What a ``Records`` holds now.

    Attributes:
        scopes: scopes with data keys in memory.
        data_keys: data keys in memory.
        record_keys: record keys in memory that open.
    """

    scopes: int
    data_keys: int
    record_keys: int


class Records:
    """Seals the fields of a database, each value by itself, bound to its field, its row and its scope.

    A *scope* is a map of text, such as ``{"app": "shop", "env": "prod", "tenant": "acme"}``. Each scope has a data key
    of its own. KMS has wrapped it, with the scope as encryption context, and the key store keeps it. Records are sealed
    under keys that are derived from it, without KMS. Rotating the KMS key re-wraps the rows of the key store and no
    record; ``shred`` destroys what is sealed for a scope.

    Any number of threads use it at once. ``close`` wipes all keys.

    Args:
        keyring: makes and unwraps the data keys; its allow-list counts for key rows too. Not a ``CachingKeyring``.
        store: where the wrapped data keys are kept.
        scope: the pairs that all fields share.
        local_scope: the names of pairs that bind records but that KMS never sees: one data key serves all their values,
            and IAM, CloudTrail and ``shred`` do not tell them apart.
        max_age: seconds for which a data key is used without asking KMS again; above 0.
        serve_stale_for: seconds for which it is used beyond that while KMS or the store is away.
        recheck: seconds between looks at the store for new, retired and shredded keys; they happen beside the caller.
        capacity: how many scopes keep their data keys in memory.
        record_keys: how many record keys are kept in memory for opening, about 1 KiB each.

    Raises:
        TypeError: the keyring caches data keys, or a name or value of the scope is not a str.
        ValueError: a number is out of range.
        ContextError: the scope is unusable.

    Example:
        >>> records = sealwax.Records(sealwax.KmsKeyring("alias/app"), SqlKeys(engine), scope={"app": "shop"})
        >>> card = records.field("users.card", row=int, tenant="acme")
        >>> card.open(card.seal(b"4111 1111 1111 1111", row=7), row=7)
        b'4111 1111 1111 1111'
    """

    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = refuse_copies

    def __init__(
        self,
        keyring: Keyring,
        store: KeyStore,
        *,
        scope: Mapping[str, str],
        local_scope: Sequence[str] = (),
        max_age: float = 3600.0,
        serve_stale_for: float = 0.0,
        recheck: float = 60.0,
        capacity: int = 1000,
        record_keys: int = 10_000,
    ) -> None:
        if isinstance(keyring, SupportsReady):
            raise TypeError(
                "Records takes a KmsKeyring, not a CachingKeyring: two generations could then share one data key, and "
                "rolling or shredding would change nothing. Records keeps its data keys itself"
            )
        for name, number in {"max_age": max_age, "recheck": recheck}.items():
            if not 0 < number < float("inf"):
                raise ValueError(f"{name} is a number of seconds above 0, not {number!r}")
        if not 0 <= serve_stale_for < float("inf"):
            raise ValueError(f"serve_stale_for is a number of seconds from 0 on, not {serve_stale_for!r}")
        if capacity < 1 or record_keys < 1:
            raise ValueError("capacity and record_keys are at least 1")
        self.keyring = keyring
        self.store = store
        self.max_age = max_age
        self.serve_stale_for = serve_stale_for
        self._recheck = recheck
        self._capacity = capacity
        self._most_record_keys = record_keys
        self._local_names = frozenset(local_scope)
        self._scope = dict(scope)
        ctx.encode(self._scope)
        self._renew()
        wiping.watch(self)
        fork_locks.renew_in_children(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._rings: OrderedDict[tuple[bytes, KeyKind], Ring] = OrderedDict()
        self._record_keys: deque[tuple[weakref.ref[Field], bytes]] = deque()
        self._keeper: threading.Thread | None = None
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._epoch = b""
        self._checked_at = self.clocks()[0]
        self.closed = False

    def _after_fork(self) -> tuple[()]:
        for ring in self._rings.values():
            ring.clear_in_child()
        if self._keeper is not None:
            wiping.threads_of_parents.append(self._keeper)
        rings, closed = list(self._rings.values()), self.closed
        self._renew()
        self.closed = closed
        # Fields keep their rings: an empty ring loads its keys again.
        self._rings.update(((ring.scope_bytes, ring.kind), ring) for ring in rings)
        return ()

    # Tests replace both in a subclass. They ignore clocks that a test has frozen, which differ between threads.
    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def _clocks() -> tuple[float, float]:
        return _read_clock(CLOCK), _read_clock(_WALL_CLOCK)

    def clocks(self) -> tuple[float, float]:
        return self._clocks()

    # --- fields

    def field(self, name: str, *, row: RowType, **pairs: str) -> Field:
        """Return one field of one scope.

        Args:
            name: a name that never changes, such as ``"users.card"``; what is sealed for another name does not open.
            row: the type of the rows: int, str, bytes, uuid.UUID, tuple, or ``UNBOUND`` for records of no row.
            **pairs: the rest of the scope.

        Returns:
            The field. Make it once and keep it: it holds the keys that make it fast.

        Raises:
            TypeError: there can be no rows of that type.
            ValueError: the name is empty or longer than 255 bytes, or a pair was given already with another value.
            ContextError: a pair of ``local_scope`` is missing, or the scope is unusable.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a field is a str, not {type(name).__name__}")
        if not 1 <= len(name.encode()) <= 255:
            raise ValueError("the name of a field has 1 to 255 bytes")
        scope, local = self._split(pairs)
        return Field(self, self._ring(scope, KeyKind.DATA), ctx.encode(local), name, row)

    def _split(self, pairs: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
        whole = dict(self._scope)
        for name, value in pairs.items():
            if whole.setdefault(name, value) != value:
                raise ValueError(f"the scope has '{name}' already, with another value")
        missing = self._local_names - whole.keys()
        if missing:
            raise ContextError(f"the scope lacks '{min(missing)}', which local_scope names")
        if any(name.casefold() == _blob.USE for name in whole):
            raise ContextError(f"the name '{_blob.USE}' is reserved")
        return ctx.split(whole, self._local_names)

    def _kms_scope(self, pairs: Mapping[str, str]) -> dict[str, str]:
        """Return the scope that KMS sees; pairs that it does not see need not be given."""
        whole = {**self._scope, **pairs}
        return {name: value for name, value in whole.items() if name not in self._local_names}

    def _ring(self, scope: Mapping[str, str], kind: KeyKind) -> Ring:
        key = ctx.encode(scope), kind
        with self._lock:
            if self.closed:
                raise ValueError("this Records is closed")
            ring = self._rings.get(key)
            if ring is None:
                ring = self._rings[key] = Ring(self, scope, kind)
                self._start_keeper()
            return ring

    # --- data keys

    def ensure(self, **pairs: str) -> None:
        """Load the data keys of a scope, and make the first one if there is none; this waits for the store and KMS.

        Args:
            **pairs: the scope, beside the pairs that all fields share.

        Raises:
            ShreddedError: the scope was shredded.
            KeyStoreError, KmsError, KeyRowError: there is no usable data key.

        IAM: kms:GenerateDataKey for a new scope, else kms:Decrypt.
        """
        self._ring(self._kms_scope(pairs), KeyKind.DATA).load_all()

    async def ensure_async(self, **pairs: str) -> None:
        """Load the data keys of a scope as ``ensure`` does, without blocking the event loop."""
        await in_thread(self.ensure, **pairs)

    async def preload(self, values: Iterable[object], **pairs: str) -> None:
        """Load the data keys that some records need; values that are no records are passed over.

        Raises:
            UnknownKeyError, ShreddedError, KeyStoreError, KmsError, KeyRowError: a key cannot be loaded.
        """
        ring = self._ring(self._kms_scope(pairs), KeyKind.DATA)
        key_ids = {_form.parse(value).key_id for value in values if _form.is_record(value)}  # type: ignore[arg-type]
        await in_thread(ring.load_many, key_ids)

    def roll(self, **pairs: str) -> KeyRow:
        """Make the next generation of a scope's data key; older ones still open.

        Returns:
            The row of the new key.

        Raises:
            ShreddedError: the scope was shredded; ``reopen`` it.
            KeyStoreError, KmsError: there is no new key.

        IAM: kms:GenerateDataKey.
        """
        return self._ring(self._kms_scope(pairs), KeyKind.DATA).roll()

    def retire(self, generation: int, **pairs: str) -> KeyRow:
        """Mark a generation as retired, once nothing is sealed under it any more; it still opens.

        Raises:
            KeyStoreError: there is no such generation, it is not live, or it is the newest.
        """
        scope = self._kms_scope(pairs)
        for row in self.rows(**pairs):
            if row.scope == scope and row.kind is KeyKind.DATA and row.claim == generation and self.store.retire(row):
                return dataclasses.replace(row, state=KeyState.RETIRED)
        raise KeyStoreError(f"generation {generation} cannot be retired: it is missing, not live, or the newest one")

    def shred(self, **pairs: str) -> list[KeyRow]:
        """Destroy the data keys of a scope: nothing that was sealed for it can be opened any more.

        Other processes may still open for ``recheck`` seconds. A backup of the key store brings the keys back; a Deny
        of kms:Decrypt for the scope then stops them.

        Returns:
            The rows that were destroyed.

        Raises:
            KeyStoreError: the store cannot do it; nothing was destroyed.
        """
        scope = self._kms_scope(pairs)
        rows = self.store.shred(scope)
        for kind in KeyKind:
            self._ring(scope, kind).clear()
        return rows

    def reopen(self, **pairs: str) -> KeyRow:
        """Make a new data key for a scope that was shredded.

        Raises:
            KeyStoreError: the scope is not shredded.
            KmsError: there is no new key.
        """
        return self._ring(self._kms_scope(pairs), KeyKind.DATA).reopen()

    def repair(self, **pairs: str) -> list[KeyRow]:
        """Put back the rows of data keys that this process holds and the store has lost.

        Returns:
            The rows that were put back.
        """
        ring = self._ring(self._kms_scope(pairs), KeyKind.DATA)
        put_back = [row for row in ring.rows() if self.store.put_back(row)]
        ring.accept()
        return put_back

    def accept(self, **pairs: str) -> None:
        """Take the state of the store as the right one after a deliberate restore, though it is older."""
        self._ring(self._kms_scope(pairs), KeyKind.DATA).accept()

    def remove(self, row: KeyRow) -> None:
        """Delete a row that does not unwrap.

        Raises:
            ValueError: it does unwrap; ``shred`` destroys keys that work.
            KeyStoreError: the store does not have the row.
        """
        try:
            _blob.unwrap(self.keyring, row).close()
        except (KeyRowError, WrappedKeyRefusedError):
            if not self.store.remove(row):
                raise KeyStoreError("the key store does not have this row any more") from None
            return
        raise ValueError("this row holds a data key that works; 'shred' destroys the keys of a scope")

    def rows(self, **pairs: str) -> list[KeyRow]:
        """Return the rows of all scopes that have these pairs, and those that all fields share."""
        return list(self.store.list(self._kms_scope(pairs)))

    def stats(self) -> RecordsStats:
        """Return what is held now."""
        with self._lock:
            rings = list(self._rings.values())
            record_keys = len(self._record_keys)
        held = [len(ring.held_ids()) for ring in rings]
        return RecordsStats(sum(map(bool, held)), sum(held), record_keys)

    def close(self) -> None:
        """Wipe all keys, and end the thread beside."""
        with self._lock:
            self.closed = True
        self.clear()
        self._wake.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Records of {', '.join(f'{name}={value}' for name, value in sorted(self._scope.items()))}>"

    # --- for fields and rings

    def note_record_key(self, field: Field, head: bytes) -> None:
        """Note that a field holds one more record key for opening, and drop the oldest ones beyond the bound."""
        with self._lock:
            self._record_keys.append((weakref.ref(field), head))
            while len(self._record_keys) > self._most_record_keys:
                reference, oldest = self._record_keys.popleft()
                holder = reference()
                if holder is not None:
                    holder.drop(oldest)

    # --- beside the caller

    def _start_keeper(self) -> None:
        """Start the thread that looks at the store, fetches keys again, and wipes old ones. The lock is held."""
        if self._keeper is not None:
            return
        wake = self._wake
        reference: weakref.ref[wiping.Wipeable] = weakref.ref(self, lambda _: wake.put(None))
        keeper = threading.Thread(target=wiping.reap, args=(reference, wake), name="sealwax-records", daemon=True)
        # If there are no more threads, keys still end when they are asked for.
        with contextlib.suppress(RuntimeError):
            keeper.start()
            self._keeper = keeper

    def clear(self) -> None:
        with self._lock:
            rings = list(self._rings.values())
        for ring in rings:
            ring.clear()
        payload.leave_no_registers()

    def end_reaper(self) -> None:
        self._wake.put(None)
        if self._keeper is not None:
            self._keeper.join(_KEEPER_END_SECONDS)

    def wipe_old(self) -> float | None:
        """Do what has to be done beside the callers; return the seconds until the next time."""
        if self.closed or wiping.over:
            return None
        with self._lock:
            rings = list(self._rings.values())
        for ring in rings:
            ring.wipe_old()
        self._bound_scopes()
        now = self.clocks()[0]
        if now - self._checked_at >= self._recheck:
            self._checked_at = now
            self._look_at_store(rings)
        for ring in rings:
            ring.refresh()
        return self._recheck

    def _look_at_store(self, rings: Sequence[Ring]) -> None:
        key_ids = [key_id for ring in rings for key_id in ring.held_ids()]
        if not key_ids:
            return
        try:
            changes = self.store.check(key_ids)
        except KeyStoreError:
            return  # keys are used to their end; the next look may succeed
        changed = changes.epoch != self._epoch
        self._epoch = changes.epoch
        for ring in rings:
            ring.recheck(changes.states, newest_too=changed)

    def _bound_scopes(self) -> None:
        """Wipe the keys of the scopes that were used longest ago, beyond the capacity."""
        with self._lock:
            rings = [ring for ring in self._rings.values() if ring.held_ids()]
        rings.sort(key=lambda ring: ring.used_at)
        for ring in rings[: max(0, len(rings) - self._capacity)]:
            ring.clear()
