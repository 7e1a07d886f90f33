"""Records: the fields of a database, sealed one by one under data keys that a key store keeps."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Self

from sealwax._core import context as ctx
from sealwax._core import validate, watch
from sealwax._core.aio import in_thread
from sealwax._core.format.io import refuse_copies
from sealwax._core.keyring import Keyring, SupportsReady
from sealwax.events import KmsStats
from sealwax.records import _current, _explain
from sealwax.records._field import Field
from sealwax.records._index import Index
from sealwax.records._life import DataKeyLife
from sealwax.records._rows import RowType
from sealwax.records._store import KeyKind, KeyRow, KeyStore

_MOST: Final = 10_000_000


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
    old_values_read: Mapping[str, int] = field(default_factory=dict)
    old_values_written: Mapping[str, int] = field(default_factory=dict)


class Records(DataKeyLife):
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
        if not isinstance(scope, Mapping):
            raise TypeError(f"scope must be a mapping of str to str, not {type(scope).__name__}")
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

        docs/how-to/blind-indexes.md says what an index tells to those who see it, and how many bits it should have.

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
