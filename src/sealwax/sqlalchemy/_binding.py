"""What joins tables to a ``Records``: which one seals them, and where their rows have the pairs of the scope."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from sealwax._core.lru import LruMap
from sealwax.errors import ContextError, KeyNotLoadedError, ModelError
from sealwax.records import Field, Index, Records, RowType
from sealwax.records._current import pairs_of

T = TypeVar("T")
Pairs = tuple[tuple[str, str], ...]
# Bits, normalizer, and whether all scopes share the index.
IndexSettings = tuple[int, str, bool]

RECORDS_INFO: Final = "sealwax_records"
_FIELDS: Final = 10_000


class Scope:
    """The pairs of the scope that the columns of a row hold.

    ``__sealed_scope__ = Scope(tenant="tenant_id")`` in a mapped class, or ``Sealed(str, scope=...)`` in a ``Table``. A
    column of text, integers or UUIDs can be one.

    Args:
        **columns: for each pair, the column or attribute that holds its value.

    Raises:
        TypeError: a column is not given by its name.

    Example:
        >>> Scope(tenant="tenant_id")
        Scope(tenant='tenant_id')
    """

    def __init__(self, **columns: str) -> None:
        for name, column in columns.items():
            if not isinstance(column, str):
                raise TypeError(f"Scope names the column of '{name}' by a str, not {type(column).__name__}")
        self.columns: Mapping[str, str] = MappingProxyType(dict(sorted(columns.items())))

    def __repr__(self) -> str:
        return f"Scope({', '.join(f'{name}={column!r}' for name, column in self.columns.items())})"


class RecordsBinding:
    """A ``Records``, and its fields that are in use."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._fields: LruMap[tuple[str, object, Pairs], Field] = LruMap(_FIELDS)
        self._indexes: LruMap[tuple[str, IndexSettings, Pairs], Index] = LruMap(_FIELDS)

    def field(self, name: str, row: RowType, pairs: Pairs) -> Field:
        key = name, row, pairs
        try:
            return self._fields[key]
        except KeyError:
            field = self._fields[key] = self.records.field(name, row=row, **dict(pairs))
            return field

    def index(self, name: str, settings: IndexSettings, pairs: Pairs) -> Index:
        key = name, settings, pairs
        try:
            return self._indexes[key]
        except KeyError:
            bits, normalize, shared = settings
            made = self.records.index(name, bits=bits, normalize=normalize, shared=shared, **dict(pairs))
            self._indexes[key] = made
            return made

    def index_of(self, name: str, settings: IndexSettings, pairs: Pairs, value: Any) -> bytes:
        """Return the index of a value; in an ``AsyncSession``, an index key that is missing is awaited."""
        index = self.index(name, settings, pairs)
        try:
            return index.of(value)
        except KeyNotLoadedError:
            if not can_await():
                raise
        await_only(index.ensure_async())
        return index.of(value)

    def seal(self, field: Field, pairs: Pairs, value: Any, row: Any) -> bytes:
        """Seal a value; in an ``AsyncSession``, a data key that is missing is awaited."""
        return self._awaiting(lambda: field.seal(value, row=row), pairs)

    def open(self, field: Field, pairs: Pairs, record: bytes | str, row: Any) -> Any:
        """Open a record; in an ``AsyncSession``, a data key that is missing is awaited."""
        return self._awaiting(lambda: field.open(record, row=row), pairs)

    def _awaiting(self, call: Callable[[], T], pairs: Pairs) -> T:
        try:
            return call()
        except KeyNotLoadedError:
            if not can_await():
                raise
        await_only(self.records.ensure_async(**dict(pairs)))
        return call()


def can_await() -> bool:
    """Whether this is the synchronous part of an asynchronous call of SQLAlchemy."""
    return asyncio._get_running_loop() is not None and in_greenlet()


def use_records(metadata: sa.MetaData, records: Records) -> None:
    """Seal the tables of some metadata with a ``Records``; call it before the first statement, again to change it.

    Args:
        metadata: such as ``Base.metadata``.
        records: keep it open as long as the tables are used.

    Raises:
        TypeError: an argument is something else.

    Example:
        >>> use_records(Base.metadata, records)
    """
    if not isinstance(metadata, sa.MetaData):
        raise TypeError(f"use_records takes the metadata of the tables, such as Base.metadata, not {metadata!r}")
    if not isinstance(records, Records):
        raise TypeError(f"use_records takes a Records, not {type(records).__name__}")
    metadata.info[RECORDS_INFO] = RecordsBinding(records)


def binding_of(table: sa.Table) -> RecordsBinding:
    """Return what seals a table.

    Raises:
        ModelError: nothing does.
    """
    binding = table.metadata.info.get(RECORDS_INFO)
    if not isinstance(binding, RecordsBinding):
        raise ModelError(
            f"the table '{table.fullname}' has sealed columns, and no Records seals them; call "
            "sealwax.sqlalchemy.use_records(Base.metadata, records) when the program starts"
        )
    return binding


def scope_of(table: sa.Table) -> Scope:
    """Return the scope that a table declares."""
    if table in _declared:
        return _declared[table]
    given = (getattr(column.type, "scope", None) for column in table.c)
    return next((scope for scope in given if isinstance(scope, Scope)), _NO_SCOPE)


def declare_scope(table: sa.Table, scope: Scope) -> None:
    _declared.setdefault(table, scope)


def current_pairs(binding: RecordsBinding, table: sa.Table) -> Pairs:
    """Return the pairs of a table's scope from the block of ``records.scope`` around the caller.

    Raises:
        ContextError: one is missing.
    """
    given = pairs_of(binding.records)
    names = scope_of(table).columns
    for name in names:
        if name not in given:
            raise ContextError(
                f"the scope of the table '{table.fullname}' has the pair '{name}', and it is not set here; run this "
                f"within records.scope({name}=...)"
            )
    return tuple((name, given[name]) for name in names)


def pair_text(value: object, name: str, column: str) -> str:
    """Return the value of a scope column as a pair has it.

    Raises:
        ContextError: it is NULL, or of a type with more than one text.
    """
    if type(value) is str:
        return value
    # The text of an Enum differs from what the database has of it.
    if isinstance(value, str | int | UUID) and not isinstance(value, bool | enum.Enum):
        return str.__str__(value) if isinstance(value, str) else str(value)
    if value is None:
        raise ContextError(f"the pair '{name}' of the scope is in '{column}', which this row does not have yet; set it")
    raise ContextError(f"the pair '{name}' of the scope is text, an integer or a UUID, not {type(value).__name__}")


_NO_SCOPE: Final = Scope()
# Not in Table.info, which Alembic writes into migrations.
_declared: Final[WeakKeyDictionary[sa.Table, Scope]] = WeakKeyDictionary()
