"""Records: the fields of a database, sealed one by one under data keys that a key store keeps."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Self

from sealwax._core import context as ctx
from sealwax._core import validate, watch
from sealwax._core.aio import in_thread
from sealwax._core.format import payload
from sealwax._core.format.io import refuse_copies
from sealwax._core.keyring import Keyring, SupportsReady
from sealwax.errors import (
    ContextError,
    DataKeyError,
    KeyRowError,
    KeyStoreError,
    NotARecordError,
    WrappedKeyRefusedError,
)
from sealwax.events import KmsStats
from sealwax.records import _blob, _current, _explain, _form
from sealwax.records._field import Field
from sealwax.records._index import Index
from sealwax.records._keeper import Keeper
from sealwax.records._rows import RowType
from sealwax.records._store import KeyKind, KeyRow, KeyState, KeyStore

_MOST: Final = 10_000_000
_RESERVED: Final = f"'{ctx.RESERVED}' is reserved: Records adds it to each scope itself; use another name in the scope"


@dataclass(frozen=True, slots=True)
class RecordsStats:
    """What a ``Records`` holds now, and what it has asked of KMS.

    Attributes:
        scopes: scopes with data keys in memory.
        data_keys: data keys in memory.
        record_keys: record keys in memory that open.
        kms: the KMS requests of its keyring; zeros if the keyring does not count.
        old_values_read: values that were read in the form they had before records, by the name of the field; see
            ``sealwax.records.moving``.
        old_values_written: values that were written in that form.
    """

    scopes: int
    data_keys: int
    record_keys: int
    kms: KmsStats
    old_values_read: Mapping[str, int] = dataclasses.field(default_factory=dict)
    old_values_written: Mapping[str, int] = dataclasses.field(default_factory=dict)


class Records(Keeper):
    """Seals the fields of a database, each value by itself, bound to its field, its row and its scope.

    A *scope* is a map of text, such as ``{"app": "shop", "env": "prod", "tenant": "acme"}``. Each scope has a data key
    of its own. KMS has wrapped it, with the scope as encryption context, and the key store keeps it. Records are sealed
    under keys that are derived from it, without KMS. Rotating the KMS key re-wraps the rows of the key store and no
    record; ``shred`` destroys what is sealed for a scope.

    Any number of threads use it at once. ``close`` wipes all keys.

    Args:
        keyring: makes and unwraps the data keys; its allow-list and its ``limit`` count here too. Not a
            ``CachingKeyring``.
        store: where the wrapped data keys are kept.
        scope: the pairs that all fields share.
        local_scope: the names of pairs that bind records but that KMS never sees: one data key serves all their values,
            and IAM, CloudTrail and ``shred`` do not tell them apart.
        max_age: seconds for which a data key is used without asking KMS again; above 0.
        serve_stale_for: seconds for which it is used beyond that while KMS or the store is away.
        recheck: seconds between looks at the store for new, retired and shredded keys; they happen beside the caller.
        capacity: how many scopes keep their data keys in memory; those used last.
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
        super().__init__(
            validate.keyring(keyring),
            validate.able("store", store, ["newest", "create", "check"], "a key store"),
            max_age=validate.number("max_age", max_age, "seconds"),
            serve_stale_for=validate.number("serve_stale_for", serve_stale_for, "seconds", least=0),
            recheck=validate.number("recheck", recheck, "seconds"),
            capacity=validate.whole("capacity", capacity, 1, _MOST),
            record_keys=validate.whole("record_keys", record_keys, 1, _MOST),
        )
        self._local_names = frozenset(validate.texts("local_scope", local_scope, "names of pairs"))
        self._scope = dict(scope)
        ctx.encode(self._scope)

    # --- fields

    def field(self, name: str, /, *, row: RowType, **pairs: str) -> Field:
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
        scope, local = self._split(pairs)
        return Field(self, self._ring(scope, KeyKind.DATA), ctx.encode(local), _checked_name(name), row)

    def index(
        self, name: str, /, *, bits: int, normalize: str = "exact/1", shared: bool = False, **pairs: str
    ) -> Index:
        """Return the blind index of one field: by it, a database finds rows whose sealed values are equal.

        docs/blind-indexes.md says what an index tells to those who see it, and how many bits it should have.

        Args:
            name: the name of the field, as it is given to ``field``.
            bits: the length of an index, 1 to 256. With less than 128, other values have the same index.
            normalize: which values are the same: ``"exact/1"``, ``"casefold-nfc/1"``, ``"digits/1"`` or ``"email/1"``.
            shared: one index for all scopes, under the pairs that all fields share; no others are given.
            **pairs: the rest of the scope; equal values of two scopes have different indexes.

        Returns:
            The index. Make it once and keep it.

        Raises:
            TypeError: the name is not a str, or ``shared`` is given with pairs.
            ValueError: the name is too long, ``bits`` is out of range, or there is no such normalizer.
            ContextError: a pair of ``local_scope`` is missing, or the scope is unusable.
        """
        if shared and pairs:
            raise TypeError(f"a shared index is of all scopes, so it takes no pair; leave out {min(pairs)}=")
        scope, local = (self._kms_scope({}), {}) if shared else self._split(pairs)
        ring = self._ring(scope, KeyKind.INDEX)
        return Index(self, ring, ctx.encode(local), _checked_name(name), normalize, bits)

    def _split(self, pairs: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
        whole = self._whole(pairs)
        missing = self._local_names - whole.keys()
        if missing:
            raise ContextError(f"the scope lacks '{min(missing)}', which local_scope names")
        return ctx.split(whole, self._local_names)

    def _whole(self, pairs: Mapping[str, str]) -> dict[str, str]:
        whole = dict(self._scope)
        for name, value in pairs.items():
            if whole.setdefault(name, value) != value:
                raise ValueError(f"the scope has '{name}' already, with another value")
        if ctx.is_reserved(whole):
            raise ContextError(_RESERVED)
        return whole

    def _kms_scope(self, pairs: Mapping[str, str]) -> dict[str, str]:
        """Return the scope that KMS sees; pairs that it does not see need not be given."""
        return {name: value for name, value in self._whole(pairs).items() if name not in self._local_names}

    def scope(self, /, **pairs: str) -> AbstractContextManager[None]:
        """Set pairs of the scope for what runs within the block: the thread, or the asyncio task and those it starts.

        The types of ``sealwax.sqlalchemy`` that see a value but not its row take their pairs from here.

        Args:
            **pairs: such as ``tenant="acme"``; a block within a block adds to its pairs, or replaces their values.

        Returns:
            A context manager.

        Raises:
            TypeError: a value is not a str.

        Example:
            >>> with records.scope(tenant="acme"):
            ...     session.execute(insert(notes), [{"text": "..."}])
        """
        return _current.within(self, pairs)

    # --- data keys

    def ensure(self, /, **pairs: str) -> None:
        """Load the data keys of a scope, and make the first one if there is none; this waits for the store and KMS.

        If they are loaded already, it returns at once, so it may be called for each request.

        Args:
            **pairs: the scope, beside the pairs that all fields share.

        Raises:
            ShreddedError: the scope was shredded.
            KeyStoreError, KmsError, KeyRowError: a data key cannot be used; all others are loaded.

        IAM: kms:GenerateDataKey for a new scope, else kms:Decrypt.
        """
        ring = self._ring(self._kms_scope(pairs), KeyKind.DATA)
        if not ring.is_loaded():
            ring.load_all()

    async def ensure_async(self, /, **pairs: str) -> None:
        """Load the data keys of a scope as ``ensure`` does, without blocking the event loop.

        Args:
            **pairs: as for ``ensure``.
        """
        if not self._ring(self._kms_scope(pairs), KeyKind.DATA).is_loaded():
            await in_thread(functools.partial(self.ensure, **pairs))

    async def preload(self, values: Iterable[object], /, **pairs: str) -> None:
        """Load the data keys that some records need, without blocking the event loop.

        Args:
            values: what columns hold; values that are no records, such as None or what was cut off, are passed over.
            **pairs: as for ``ensure``.

        Raises:
            UnknownKeyError, ShreddedError, KeyStoreError, KmsError, KeyRowError: a key cannot be loaded; unless KMS or
                the store is away, all others are.
        """
        ring = self._ring(self._kms_scope(pairs), KeyKind.DATA)
        key_ids = set()
        for value in values:
            if _form.is_record(value):
                with contextlib.suppress(NotARecordError):  # opening it tells what is wrong
                    key_ids.add(_form.parse(value).key_id)  # type: ignore[arg-type]
        await in_thread(ring.load_many, key_ids)

    def roll(self, /, **pairs: str) -> KeyRow:
        """Make the next generation of a scope's data key; older ones still open.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The row of the new key.

        Raises:
            ShreddedError: the scope was shredded; ``reopen`` it.
            ConfigurationError: the keyring caches, and returned the same data key again.
            KeyStoreError, KmsError: there is no new key.

        IAM: kms:GenerateDataKey.
        """
        return self._ring(self._kms_scope(pairs), KeyKind.DATA).roll()

    async def roll_async(self, /, **pairs: str) -> KeyRow:
        """Make the next generation as ``roll`` does, without blocking the event loop.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The row of the new key.
        """
        return await in_thread(functools.partial(self.roll, **pairs))

    def retire(self, generation: int, /, **pairs: str) -> KeyRow:
        """Mark a generation as retired, once nothing is sealed under it any more; it still opens.

        Args:
            generation: any but the newest one.
            **pairs: as for ``ensure``.

        Returns:
            The row as it is now.

        Raises:
            KeyStoreError: there is no such generation, it is not live, or it is the newest.
        """
        for row in self.store.get_many(self._kms_scope(pairs)):
            if row.kind is KeyKind.DATA and row.claim == generation and self.store.retire(row):
                return dataclasses.replace(row, state=KeyState.RETIRED)
        raise KeyStoreError(f"generation {generation} cannot be retired: it is missing, not live, or the newest one")

    async def retire_async(self, generation: int, /, **pairs: str) -> KeyRow:
        """Mark a generation as retired as ``retire`` does, without blocking the event loop.

        Args:
            generation, **pairs: as for ``retire``.

        Returns:
            The row as it is now.
        """
        return await in_thread(functools.partial(self.retire, generation, **pairs))

    def shred(self, /, **pairs: str) -> list[KeyRow]:
        """Destroy the data keys of a scope: nothing that was sealed for it can be opened any more.

        Other processes may still open for ``recheck`` seconds. A backup of the key store brings the keys back; a Deny
        of kms:Decrypt for the scope then stops them.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The rows that were destroyed.

        Raises:
            KeyStoreError: the store cannot do it; nothing was destroyed.
        """
        scope = self._kms_scope(pairs)
        rings = [self._ring(scope, kind) for kind in KeyKind]
        rows = self.store.shred(scope)
        for ring in rings:
            ring.forget_shredded()
        payload.leave_no_registers()
        return rows

    async def shred_async(self, /, **pairs: str) -> list[KeyRow]:
        """Destroy the data keys of a scope as ``shred`` does, without blocking the event loop.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The rows that were destroyed.
        """
        return await in_thread(functools.partial(self.shred, **pairs))

    def reopen(self, /, **pairs: str) -> KeyRow:
        """Make a new data key for a scope that was shredded; a new index key is made when an index needs it.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The row of the new key.

        Raises:
            KeyStoreError: the scope is not shredded.
            KmsError: there is no new key.

        IAM: kms:GenerateDataKey.
        """
        return self._ring(self._kms_scope(pairs), KeyKind.DATA).reopen()

    async def reopen_async(self, /, **pairs: str) -> KeyRow:
        """Make a new data key as ``reopen`` does, without blocking the event loop.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The row of the new key.
        """
        return await in_thread(functools.partial(self.reopen, **pairs))

    # --- after a restore

    def repair(self, /, **pairs: str) -> list[KeyRow]:
        """Put back the rows of data keys that this process has and the store has lost; then it seals again.

        What was shredded meanwhile is not put back.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The rows that were put back.

        Raises:
            KeyStoreError: the store refuses, or the newest key is neither in the store nor in this process any more.
        """
        scope = self._kms_scope(pairs)
        return [row for kind in KeyKind for row in self._ring(scope, kind).repair()]

    async def repair_async(self, /, **pairs: str) -> list[KeyRow]:
        """Put rows back as ``repair`` does, without blocking the event loop.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The rows that were put back.
        """
        return await in_thread(functools.partial(self.repair, **pairs))

    def accept(self, /, **pairs: str) -> None:
        """Take the state of the store as the right one after a deliberate restore, though it is older.

        Args:
            **pairs: as for ``ensure``.
        """
        scope = self._kms_scope(pairs)
        for kind in KeyKind:
            self._ring(scope, kind).accept()

    async def accept_async(self, /, **pairs: str) -> None:
        """Take the state of the store as ``accept`` does, without blocking the event loop.

        Args:
            **pairs: as for ``ensure``.
        """
        await in_thread(functools.partial(self.accept, **pairs))

    def remove(self, row: KeyRow, /) -> None:
        """Delete a row that does not unwrap: it was altered or planted.

        Args:
            row: as ``rows`` returned it.

        Raises:
            ValueError: it does unwrap, or it marks a shredded scope; ``shred`` destroys keys that work.
            KmsError: KMS cannot tell, or its KMS key is not allowed here; ``store.remove`` does not ask.
            KeyStoreError: the store does not have the row.

        IAM: kms:Decrypt.
        """
        if row.state is KeyState.SHREDDED:
            raise ValueError("this row marks its scope as shredded; without it, new keys would be made unasked")
        try:
            _blob.unwrap(self.keyring, row).close()
        except (KeyRowError, WrappedKeyRefusedError, DataKeyError):
            if not self.store.remove(row):
                raise KeyStoreError("the key store does not have this row any more") from None
            return
        raise ValueError("this row holds a data key that works; shred() destroys the keys of a scope")

    async def remove_async(self, row: KeyRow, /) -> None:
        """Delete a row that does not unwrap as ``remove`` does, without blocking the event loop.

        Args:
            row: as for ``remove``.
        """
        await in_thread(self.remove, row)

    # --- looking

    def rows(self, /, **pairs: str) -> list[KeyRow]:
        """Return the rows of all scopes that have these pairs, and those that all fields share.

        Args:
            **pairs: as for ``ensure``, or fewer.
        """
        return list(self.store.list(self._kms_scope(pairs)))

    async def rows_async(self, /, **pairs: str) -> list[KeyRow]:
        """Return rows as ``rows`` does, without blocking the event loop.

        Args:
            **pairs: as for ``rows``.
        """
        return await in_thread(functools.partial(self.rows, **pairs))

    def explain(self, record: bytes | bytearray | memoryview | str, /) -> _explain.Explanation:
        """Tell which data key made a record, and for which scope, from the key store; nothing is opened.

        This reads the whole key store.

        Args:
            record: what ``seal`` or ``seal_text`` returned.

        Returns:
            The form of the record, and the row of its data key; not whether it opens.

        Raises:
            NotARecordError: it does not have the form of a record.
            KeyStoreError: the store cannot be read.
            TypeError: it is neither bytes nor a str.
        """
        return _explain.explain(self.store, record)

    async def explain_async(self, record: bytes | bytearray | memoryview | str, /) -> _explain.Explanation:
        """Tell which data key made a record as ``explain`` does, without blocking the event loop.

        Args:
            record: as for ``explain``.

        Returns:
            As ``explain``.
        """
        return await in_thread(self.explain, record)

    def stats(self) -> RecordsStats:
        """Return what is held now, what was asked of KMS, and which values were not records yet."""
        held = [len(ring.held_ids()) for ring in self._warm_rings()]
        return RecordsStats(
            sum(map(bool, held)),
            sum(held),
            self._count_record_keys(),
            watch.kms_stats(self.keyring),
            *self._count_old_values(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Records of {', '.join(f'{name}={value}' for name, value in sorted(self._scope.items()))}>"


def _checked_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a field is a str, not {type(name).__name__}")
    if not 1 <= len(name.encode()) <= 255:
        raise ValueError("the name of a field has 1 to 255 bytes")
    return name
