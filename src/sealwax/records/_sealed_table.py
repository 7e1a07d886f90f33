"""Tables with columns of records, through SQLAlchemy Core: read page by page, and changed by compare and set."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import NoSuchTableError

from sealwax._text import printable
from sealwax.errors import TableError
from sealwax.records import _form
from sealwax.records._columns import SealedColumn
from sealwax.records._keys import KEY_ID_BYTES
from sealwax.records._rows import UNBOUND, Row, Unbound
from sealwax.records._sql_connect import shown_url
from sealwax.records._stored_column import Stored, StoredColumn
from sealwax.records._table_work import TableWork
from sealwax.records._value_swap import Change, Key, ValueSwap


class ColumnValue(NamedTuple):
    """A value of the column, with what it takes to open and to replace it.

    Attributes:
        key: the primary key.
        pairs: the values of the scope columns, in the order of ``SealedColumn.scope``; None where there is NULL.
        row: the row that the record is bound to; None if a part of it is NULL.
        value: what the column has.
        old: what the column has that values move from, if that is another one.
        witness: the same as text or bytes, to be compared when it is changed.
    """

    key: Key
    pairs: tuple[str | None, ...]
    row: Row | Unbound | None
    value: object
    old: object = None
    witness: Stored | None = None


class ColumnTally(NamedTuple):
    """How many values a column has, of each sort.

    Attributes:
        records: records, by their key ids.
        damaged: values that begin as a record does, and are not records.
        others: all other values; of a column that values move from, those that are in the old form.
        null: rows without a value.
    """

    records: Mapping[bytes, int]
    damaged: int
    others: int
    null: int


class SealedTable:
    """A sealed column in a database.

    Args:
        engine: the database.
        column: the column.
        index: the name of a column with its index: then the pages have only the rows that have a value, and no index.

    Raises:
        TableError: the table or a column is missing, or there can be no records in it.
    """

    def __init__(self, engine: Engine, column: SealedColumn, *, index: str | None = None) -> None:
        self.column = column
        self.dialect = engine.dialect
        self._work = TableWork(engine, column.table, column.named)
        self._table = table = self._reflected(engine)
        self._keys: Sequence[sa.Column[Any]] = list(table.primary_key)
        if not self._keys:
            raise TableError(
                f"the table '{printable(column.table)}' has no primary key, so its rows cannot be told apart; add one"
            )
        self.value = StoredColumn(self._column(column.column), self.dialect.name)
        if self.value.text is None:
            raise TableError(
                f"the column {column.named} is of type {self.value.column.type}, and records are in columns of text or "
                "bytes"
            )
        self.text = self.value.text
        self.source = self.value
        if column.moved_from is not None:
            self.source = StoredColumn(self._column(column.moved_from), self.dialect.name)
        self._into = ValueSwap(self._work, table, self._keys, self.source, self.value)
        self._within = ValueSwap(self._work, table, self._keys, self.value, self.value)
        self._out = ValueSwap(self._work, table, self._keys, self.value, self.source)
        self._index = None if index is None else StoredColumn(self._column(index), self.dialect.name)
        rows = {} if isinstance(column.row, Unbound) else column.row
        self._readers = [(name, _READERS[kind]) for name, kind in rows.items()]
        self._parts = [self._column(name) for name in rows]
        self._scope = [self._column(name) for name in column.scope.values()]
        self._uuids = [column.scope_types.get(name) is UUID for name in column.scope]
        self._prepare_pages()
        if self.dialect.name == "postgresql":
            self._refuse_hidden_rows()

    def _reflected(self, engine: Engine) -> sa.Table:
        schema, _, name = self.column.table.rpartition(".")
        try:
            return self._work.run(
                lambda connection: sa.Table(
                    name, sa.MetaData(), schema=schema or None, autoload_with=connection, resolve_fks=False
                )
            )
        except NoSuchTableError:
            raise TableError(
                f"there is no table '{printable(self.column.table)}' in {shown_url(engine.url)}; correct the map of "
                "fields, or the URL of the data"
            ) from None

    def _refuse_hidden_rows(self) -> None:
        """Refuse to work on some of the rows: a key would seem to be unused, though records of other rows need it."""
        name = self.dialect.identifier_preparer.format_table(self._table)
        query = sa.select(sa.func.row_security_active(name))
        if self._work.run(lambda connection: connection.execute(query).scalar_one()):
            raise TableError(
                f"row-level security hides rows of the table '{printable(self.column.table)}' from this database user; "
                "connect as the owner of the table, or as a role with BYPASSRLS"
            )

    def _column(self, name: str) -> sa.Column[Any]:
        try:
            return self._table.c[name]
        except KeyError:
            raise TableError(
                f"the table '{printable(self.column.table)}' has no column '{printable(name)}'; correct the map of "
                "fields"
            ) from None

    @property
    def table(self) -> sa.Table:
        """The table as it was reflected."""
        return self._table

    # --- reading

    def _prepare_pages(self) -> None:
        size = sa.func.octet_length if self.dialect.name == "postgresql" else sa.func.length
        total: sa.ColumnElement[Any] = size(self.value.column)
        columns: list[sa.ColumnElement[Any]] = [*self._keys, *self._scope, *self._parts, self.value.column]
        if self.source is not self.value:
            columns += [self.source.column, self.source.witness]
            total = sa.func.coalesce(total, 0) + sa.func.coalesce(self.source.size, 0)
        self._first, self._next = self._pages(columns)
        self._first_sizes, self._next_sizes = self._pages([total])

    def _pages(self, columns: Sequence[sa.ColumnElement[Any]]) -> tuple[sa.Select[Any], sa.Select[Any]]:
        # A column may be there twice, as a part of the key and of the row.
        query = sa.select(*(column.label(f"c{number}") for number, column in enumerate(columns)))
        if self._index is not None:
            query = query.where(*self._lacking(self._index))
        query = query.order_by(*self._keys).limit(sa.bindparam("count", type_=sa.Integer()))
        after = [sa.bindparam(f"k{number}", type_=key.type) for number, key in enumerate(self._keys)]
        return query, query.where(_comes_after(self._keys, after, tuples=self.dialect.name in ("postgresql", "sqlite")))

    def page(self, after: Key | None, count: int, size: int) -> list[ColumnValue]:
        """Return the next rows in the order of their primary keys, NULLs too.

        Args:
            after: the key of the row before them; None begins at the first one.
            count: how many rows at most.
            size: how many bytes of values at most; but one row in any case.
        """
        query, sizes = (self._first, self._first_sizes) if after is None else (self._next, self._next_sizes)
        place = {f"k{number}": part for number, part in enumerate(after or ())}

        def read(connection: Connection) -> Sequence[sa.Row[Any]]:
            lengths = connection.execute(sizes, {**place, "count": count}).scalars()
            fitting = sum(total <= size for total in itertools.accumulate(length or 0 for length in lengths))
            return connection.execute(query, {**place, "count": max(1, fitting)}).all()

        values = self._read(self._work.run(read))
        self._check_order(after, values)
        return values

    def first_records(self, count: int) -> list[ColumnValue]:
        """Return the first rows whose values begin as records do.

        Args:
            count: how many rows at most.
        """
        query = self._first.where(self._begins_as_record)
        return self._read(self._work.run(lambda connection: connection.execute(query, {"count": count}).all()))

    def _read(self, rows: Sequence[sa.Row[Any]]) -> list[ColumnValue]:
        keys, pairs = len(self._keys), len(self._keys) + len(self._scope)
        parts = pairs + len(self._parts)
        return [
            ColumnValue(tuple(row[:keys]), self._pairs(row[keys:pairs]), self._row(row[pairs:parts]), *row[parts:])
            for row in rows
        ]

    def _check_order(self, after: Key | None, values: Sequence[ColumnValue]) -> None:
        """Refuse primary keys that do not lead from one page to the next."""
        table = printable(self.column.table)
        if values and values[0].key == after:
            raise TableError(
                f"the primary key of the table '{table}' cannot be walked through: the database does not compare its "
                "values as it returns them, as with floating-point numbers; change its type"
            )
        if any(None in value.key for value in values):  # only SQLite has such
            raise TableError(
                f"the table '{table}' has rows with NULL in the primary key, which cannot be told apart; correct them"
            )

    def _pairs(self, values: Sequence[object]) -> tuple[str | None, ...]:
        if any(self._uuids):
            pairs = zip(values, self._uuids, strict=True)
            values = [_uuid(value) or value if is_uuid else value for value, is_uuid in pairs]
        return tuple(value if value is None or type(value) is str else self._pair(value) for value in values)

    def _pair(self, value: object) -> str:
        if isinstance(value, str | int | UUID) and not isinstance(value, bool):
            return str(value)
        raise TableError(
            f"a scope column of {self.column.named} holds a value of type {type(value).__name__}, and a pair of a "
            "scope is text, an integer or a UUID"
        )

    def _row(self, values: Sequence[object]) -> Row | Unbound | None:
        if not self._readers:
            return UNBOUND
        parts = []
        for value, (name, read) in zip(values, self._readers, strict=True):
            if value is None:
                return None
            part = read(value)
            if part is None:
                raise TableError(
                    f"the row column '{printable(name)}' of {self.column.named} holds a value of type "
                    f"{type(value).__name__}, which is not of the type that the map of fields gives it"
                )
            parts.append(part)
        return parts[0] if len(parts) == 1 else cast("Row", tuple(parts))

    # --- changing

    def replace(self, changes: Sequence[Change]) -> int:
        """Replace records, each only if its row still has the old one.

        Returns:
            How many were replaced.
        """
        return self._within.replace(changes)

    def move(self, changes: Sequence[Change]) -> int:
        """Put records where values of an old form are, each only if its row still has that value and no record.

        Returns:
            How many were moved.
        """
        return self._into.replace(changes)

    def move_out(self, changes: Sequence[Change]) -> int:
        """Put values of an old form where records are, each only if its row still has that record.

        Returns:
            How many were moved.
        """
        return self._out.replace(changes)

    def fill(self, changes: Sequence[Change]) -> int:
        """Set indexes, each only if its row still has the record, and no index.

        Returns:
            How many were set.
        """
        assert self._index is not None
        return ValueSwap(self._work, self._table, self._keys, self.value, self._index, keep=True).replace(changes)

    # --- counting

    def lacking(self) -> int:
        """Count the rows that have a value and no index."""
        assert self._index is not None
        query = sa.select(sa.func.count()).select_from(self._table).where(*self._lacking(self._index))
        return int(self._work.run(lambda connection: connection.execute(query).scalar_one()))

    def _lacking(self, index: StoredColumn) -> list[sa.ColumnElement[bool]]:
        values = {self.value.column, self.source.column}
        return [index.column.is_(None), sa.or_(*(column.is_not(None) for column in values))]

    def count(self) -> ColumnTally:
        """Count all values with one scan by the database, or two if they move from another column."""
        head: sa.ColumnElement[Any] = self._start(_form.TEXT_HEAD if self.text else _form.ID_END)
        if not self.text:
            short = sa.func.length(self.value.column) < _form.MIN_BYTES
            head = sa.case((sa.or_(short, ~self._begins(_form.MAGIC)), sa.literal(b"", sa.LargeBinary())), else_=head)
        query = sa.select(
            sa.case((self._begins_as_record, head), else_=sa.null()).label("head"),
            self.value.column.is_(None).label("missing"),
            sa.func.count().label("count"),
        ).group_by(sa.text("1"), sa.text("2"))
        records: dict[bytes, int] = {}
        damaged = others = null = 0
        for row in self._work.run(lambda connection: connection.execute(query).all()):
            if row.missing:
                null += row[2]
            elif row.head is None:
                others += row[2]
            else:
                key_id = b""
                with contextlib.suppress(ValueError):
                    key_id = _form.key_id_of(row.head if isinstance(row.head, str) else bytes(row.head))
                if len(key_id) == KEY_ID_BYTES:
                    records[key_id] = records.get(key_id, 0) + row[2]
                else:
                    damaged += row[2]
        if self.source is self.value:
            return ColumnTally(records, damaged, others, null)
        both, alone = self._sources()
        return ColumnTally(records, damaged + others, both + alone, null - alone)

    def _sources(self) -> tuple[int, int]:
        """Count the values of the column that they move from: beside another one, and alone."""
        query = (
            sa.select(self.value.column.is_(None), sa.func.count())
            .where(self.source.column.is_not(None))
            .group_by(sa.text("1"))
        )
        rows = self._work.run(lambda connection: connection.execute(query).all())
        counts = {bool(missing): int(count) for missing, count in rows}
        return counts.get(False, 0), counts.get(True, 0)

    def longest(self) -> int:
        """Return how many bytes the longest value has of those that are to be moved."""
        query = sa.select(sa.func.max(self.source.size))
        if self.source is self.value:
            query = query.where(~self._begins_as_record)
        return self._work.run(lambda connection: connection.execute(query).scalar()) or 0

    @property
    def _begins_as_record(self) -> sa.ColumnElement[bool]:
        begins = self._begins(_form.TEXT_START.encode())
        return begins if self.text else sa.or_(begins, self._begins(_form.MAGIC))

    def _begins(self, start: bytes) -> sa.ColumnElement[bool]:
        plain = sa.literal(start, sa.LargeBinary())
        if self.text and self.dialect.name == "postgresql":
            plain = sa.literal(start.decode(), sa.Text())
        return self._start(len(start)) == plain

    def _start(self, count: int) -> sa.ColumnElement[Any]:
        return self.value.by_bytes(sa.func.substr(self.value.column, 1, count, type_=self.value.column.type))

    # --- replicas

    def lag(self) -> float | None:
        """Return by how many seconds the slowest replica is behind; None if the database does not tell it here."""
        if self.dialect.name != "postgresql":
            return None
        query = sa.text("SELECT state, extract(epoch FROM replay_lag) FROM pg_stat_replication")
        rows = self._work.run(lambda connection: connection.execute(query).all())
        if any(state is None for state, _ in rows):  # without the right to see it
            return None
        return max((float(lag or 0) for _, lag in rows), default=0.0)


def _comes_after(
    keys: Sequence[sa.Column[Any]], after: Sequence[sa.BindParameter[Any]], *, tuples: bool
) -> sa.ColumnElement[bool]:
    """Return the condition that a row comes after another, in the form that the database finds by its index."""
    if len(keys) == 1:
        return keys[0] > after[0]
    if tuples:
        return sa.tuple_(*keys) > sa.tuple_(*after)
    return sa.or_(
        *(
            sa.and_(*(key == part for key, part in zip(keys[:count], after, strict=False)), keys[count] > after[count])
            for count in range(len(keys))
        )
    )


def _int(value: object) -> int | None:
    return value if type(value) is int else None


def _str(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _bytes(value: object) -> bytes | None:
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else None


def _uuid(value: object) -> UUID | None:
    """A database without a type for them keeps UUIDs as text or as 16 bytes."""
    if isinstance(value, UUID):
        return value
    with contextlib.suppress(ValueError):
        return UUID(value) if isinstance(value, str) else UUID(bytes=_bytes(value))
    return None


_READERS: Final[Mapping[type, Callable[[object], int | str | bytes | UUID | None]]] = {
    int: _int,
    str: _str,
    bytes: _bytes,
    UUID: _uuid,
}
