"""Tables with columns of records, through SQLAlchemy Core: read page by page, and changed by compare and set."""

from __future__ import annotations

import contextlib
import itertools
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.types import TypeEngine

from sealwax._text import printable
from sealwax.errors import TableError
from sealwax.records import _form
from sealwax.records._columns import SealedColumn
from sealwax.records._rows import UNBOUND, Row, Unbound
from sealwax.records._sql_connect import reason_of, shown_url

T = TypeVar("T")
Key = tuple[object, ...]
"""The primary key of a row."""

Record = bytes | str

_ATTEMPTS: Final = 8
_PAUSE_SECONDS: Final = 0.05
# A statement of MySQL compares each row with all records of its batch.
_MYSQL_BATCH: Final = 200
_BATCH_BYTES: Final = 4 << 20
# Serialization failures, deadlocks and lock timeouts had no effect.
_TRY_AGAIN: Final = {"40001", "40P01", "55P03", 1213, 1205}


class ColumnValue(NamedTuple):
    """A value of the column, with what it takes to open and to replace it.

    Attributes:
        key: the primary key.
        pairs: the values of the scope columns, in the order of ``SealedColumn.scope``; None where there is NULL.
        row: the row that the record is bound to; None if a part of it is NULL.
        value: what the column has.
    """

    key: Key
    pairs: tuple[str | None, ...]
    row: Row | Unbound | None
    value: object


class SealedTable:
    """A sealed column in a database.

    Raises:
        TableError: the table or a column is missing, or there can be no records in it.
    """

    def __init__(self, engine: Engine, column: SealedColumn) -> None:
        self.column = column
        self._engine = engine
        self._dialect = engine.dialect.name
        schema, _, name = column.table.rpartition(".")
        try:
            table = self._attempt(
                lambda connection: sa.Table(
                    name, sa.MetaData(), schema=schema or None, autoload_with=connection, resolve_fks=False
                )
            )
        except NoSuchTableError:
            raise TableError(
                f"there is no table '{printable(column.table)}' in {_named(engine)}; correct the map of fields, or the "
                "URL of the data"
            ) from None
        self._table = table
        self._keys: Sequence[sa.Column[Any]] = list(table.primary_key)
        if not self._keys:
            raise TableError(
                f"the table '{printable(column.table)}' has no primary key, so its rows cannot be told apart; add one"
            )
        self._value = self._column(column.column)
        self.text = self._is_text()
        rows = {} if isinstance(column.row, Unbound) else column.row
        self._readers = [(name, _READERS[kind]) for name, kind in rows.items()]
        self._parts = [self._column(name) for name in rows]
        self._scope = [self._column(name) for name in column.scope.values()]
        columns = [*self._keys, *self._scope, *self._parts, self._value]
        self._first, self._next = self._pages(columns)
        size = sa.func.octet_length if self._dialect == "postgresql" else sa.func.length
        self._first_sizes, self._next_sizes = self._pages([size(self._value)])
        if self._dialect == "postgresql":
            self._refuse_hidden_rows()

    def _refuse_hidden_rows(self) -> None:
        """Refuse to work on some of the rows: a key would seem to be unused, though records of other rows need it."""
        name = self._engine.dialect.identifier_preparer.format_table(self._table)
        query = sa.select(sa.func.row_security_active(name))
        if self._attempt(lambda connection: connection.execute(query).scalar_one()):
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

    def _is_text(self) -> bool:
        with contextlib.suppress(NotImplementedError):
            kind = self._value.type.python_type
            if kind in (str, bytes):
                return kind is str
        raise TableError(
            f"the column {self.column.named} is of type {self._value.type}, and records are in columns of text or bytes"
        )

    # --- reading

    def _pages(self, columns: Sequence[sa.ColumnElement[Any]]) -> tuple[sa.Select[Any], sa.Select[Any]]:
        # A column may be there twice, as a part of the key and of the row.
        query = sa.select(*(column.label(f"c{number}") for number, column in enumerate(columns)))
        query = query.order_by(*self._keys).limit(sa.bindparam("count", type_=sa.Integer()))
        after = [sa.bindparam(f"k{number}", type_=key.type) for number, key in enumerate(self._keys)]
        return query, query.where(_comes_after(self._keys, after, tuples=self._dialect in ("postgresql", "sqlite")))

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

        rows = self._attempt(read)
        keys, pairs = len(self._keys), len(self._keys) + len(self._scope)
        values = [
            ColumnValue(tuple(row[:keys]), self._pairs(row[keys:pairs]), self._row(row[pairs:-1]), row[-1])
            for row in rows
        ]
        self._check_order(after, values)
        return values

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

    def replace(self, changes: Sequence[tuple[Key, Record, Record]]) -> int:
        """Replace records, each only if its row still has the old one.

        Returns:
            How many were replaced.
        """
        done = 0
        for batch in _batches(changes, _MYSQL_BATCH if self._dialect in ("mysql", "mariadb") else len(changes)):
            done += self._attempt(lambda connection, batch=batch: self._replace(connection, batch))  # type: ignore[misc]
        return done

    def _replace(self, connection: Connection, changes: Sequence[tuple[Key, Record, Record]]) -> int:
        if self._dialect == "postgresql":
            return self._replace_by_arrays(connection, changes)
        if self._dialect in ("mysql", "mariadb"):
            return self._replace_by_cases(connection, changes)
        where = [key == sa.bindparam(f"k{number}") for number, key in enumerate(self._keys)]
        update = self._table.update().where(*where, self._exact == sa.bindparam("old", type_=self._exact.type))
        update = update.values({self._value: sa.bindparam("new", type_=self._value.type)})
        parameters = [
            {**{f"k{number}": part for number, part in enumerate(key)}, "old": self._encoded(old), "new": new}
            for key, old, new in changes
        ]
        return connection.execute(update, parameters).rowcount

    def _replace_by_arrays(self, connection: Connection, changes: Sequence[tuple[Key, Record, Record]]) -> int:
        # Not of the column's type: a cast to a length would cut a record off, where an assignment refuses it.
        kind: TypeEngine[Any] = sa.Text() if self.text else sa.LargeBinary()
        names = [*(f"k{number}" for number in range(len(self._keys))), "old", "new"]
        types = [*(key.type for key in self._keys), kind, kind]
        arrays = [sa.bindparam(name, type_=postgresql.ARRAY(type_)) for name, type_ in zip(names, types, strict=True)]
        columns = [sa.column(name, type_) for name, type_ in zip(names, types, strict=True)]
        given = sa.func.unnest(*arrays).table_valued(*columns, name="given").render_derived()
        # Rows that another transaction has locked are left to the next pass: whoever waits while it holds locks stops
        # the application, and may meet it in a deadlock.
        free = sa.select(*given.c).where(
            *(key == given.c[name] for key, name in zip(self._keys, names, strict=False)), self._exact == given.c.old
        )
        free_rows = free.with_for_update(key_share=True, skip_locked=True, of=self._table).subquery("free")
        update = self._table.update().values({self._value: free_rows.c.new})
        update = update.where(
            *(key == free_rows.c[name] for key, name in zip(self._keys, names, strict=False)),
            self._exact == free_rows.c.old,
        )
        keys, old, new = zip(*changes, strict=True)
        parameters = dict(zip(names, [*map(list, zip(*keys, strict=True)), list(old), list(new)], strict=True))
        return connection.execute(update, parameters).rowcount

    def _replace_by_cases(self, connection: Connection, changes: Sequence[tuple[Key, Record, Record]]) -> int:
        # Told by the old record alone: no two records are equal, and a copy in another row opened there no more than
        # its successor will.
        exact, kind = self._exact, self._exact.type
        old = [sa.literal(self._encoded(record), kind) for _, record, _ in changes]
        whens = [(each, sa.literal(new, self._value.type)) for each, (_, _, new) in zip(old, changes, strict=True)]
        keys = [key for key, _, _ in changes]
        here = (
            self._keys[0].in_([key[0] for key in keys])
            if len(self._keys) == 1
            else sa.tuple_(*self._keys).in_([tuple(key) for key in keys])
        )
        new_value = sa.case(*((exact == each, new) for each, new in whens), else_=self._value)
        records = [self._encoded(record) for _, record, _ in changes]
        update = self._table.update().where(here, exact.in_(records)).values({self._value: new_value})
        return connection.execute(update).rowcount

    @property
    def _exact(self) -> sa.ColumnElement[Any]:
        """The value as it is compared: by its bytes, whatever the collation and character set of the column."""
        return self._by_bytes(self._value)

    def _by_bytes(self, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        if not self.text:
            return value
        if self._dialect == "postgresql":
            return sa.collate(value, "C")
        if self._dialect in ("mysql", "mariadb"):
            value = sa.cast(value, mysql.CHAR(charset="utf8mb4"))
        return sa.cast(value, sa.LargeBinary())

    def _encoded(self, record: Record) -> Record:
        return record.encode() if isinstance(record, str) and self._dialect != "postgresql" else record

    # --- counting

    def count(self) -> tuple[dict[bytes, int], int, int]:
        """Count all values with one scan by the database.

        Returns:
            How many records there are by key id, how many values that are no records, and how many NULLs.
        """
        start = _form.TEXT_START.encode() if self.text else _form.MAGIC
        head = _form.TEXT_HEAD if self.text else _form.ID_END
        is_record = sa.and_(
            sa.func.length(self._value) >= (_form.TEXT_HEAD if self.text else _form.MIN_BYTES),
            self._start(len(start)) == self._plain(start),
        )
        query = sa.select(
            sa.case((is_record, self._start(head)), else_=sa.null()).label("head"),
            self._value.is_(None).label("missing"),
            sa.func.count().label("count"),
        ).group_by(sa.text("1"), sa.text("2"))
        records: dict[bytes, int] = {}
        others = missing = 0
        for row in self._attempt(lambda connection: connection.execute(query).all()):
            if row.missing:
                missing += row[2]
            elif row.head is None:
                others += row[2]
            else:
                try:
                    key_id = _form.key_id_of(row.head if isinstance(row.head, str) else bytes(row.head))
                except ValueError:
                    others += row[2]
                else:
                    records[key_id] = records.get(key_id, 0) + row[2]
        return records, others, missing

    def _start(self, count: int) -> sa.ColumnElement[Any]:
        return self._by_bytes(sa.func.substr(self._value, 1, count, type_=self._value.type))

    def _plain(self, start: bytes) -> sa.ColumnElement[Any]:
        if self.text and self._dialect == "postgresql":
            return sa.literal(start.decode(), sa.Text())
        return sa.literal(start, sa.LargeBinary())

    # --- connections

    def lag(self) -> float | None:
        """Return by how many seconds the slowest replica is behind; None if the database does not tell it here."""
        if self._dialect != "postgresql":
            return None
        query = sa.text("SELECT state, extract(epoch FROM replay_lag) FROM pg_stat_replication")
        rows = self._attempt(lambda connection: connection.execute(query).all())
        if any(state is None for state, _ in rows):  # without the right to see it
            return None
        return max((float(lag or 0) for _, lag in rows), default=0.0)

    def _attempt(self, work: Callable[[Connection], T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                with self._connection() as connection, connection.begin():
                    return work(connection)
            except NoSuchTableError:
                raise
            except (TypeError, ValueError):  # SQLite has values of any type in any column; the text would quote them
                raise TableError(
                    f"the table '{printable(self.column.table)}' in {_named(self._engine)} has a value that is not of "
                    "the type of its column"
                ) from None
            except SQLAlchemyError as error:
                if attempt >= _ATTEMPTS or not _may_succeed(error):
                    failed = reason_of(error, self._engine.dialect, self._engine.url)
                    break
            time.sleep(_PAUSE_SECONDS * attempt * random.random())  # noqa: S311  not for a secret
        # Raised out here, it has no context: the driver's error holds values and what was given to connect.
        raise TableError(f"the database {_named(self._engine)} failed at {self.column.named}: {failed}")

    def _connection(self) -> Connection:
        try:
            return self._engine.connect()
        except SQLAlchemyError:
            raise
        except Exception as error:  # whatever a driver makes of an option that it does not know
            kind = type(error).__name__
        raise TableError(f"the database {_named(self._engine)} cannot be reached: its driver raised {kind}")


@contextlib.contextmanager
def connected(database: Engine | URL | str) -> Iterator[Engine]:
    """Yield the engine of a database, and close its connections if it was named by a URL.

    Raises:
        TableError: the URL is not understood, or its driver is not installed.
    """
    if isinstance(database, Engine):
        yield database
        return
    engine = _made_engine(database)
    try:
        yield engine
    finally:
        engine.dispose()


def _made_engine(url: URL | str) -> Engine:
    if not isinstance(url, URL | str):
        raise TypeError(f"a database is an Engine or a URL, not {type(url).__name__}")
    # What is wrong may be a password in the wrong place, and these errors quote it.
    reason = "its URL is not understood, or an option in it has an unusable value"
    try:
        return sa.create_engine(make_url(url))
    except (ImportError, NoSuchModuleError):
        reason = "the driver that its URL names is not installed"
    except (SQLAlchemyError, TypeError, ValueError):
        pass
    # Raised out here, it has no context, which would quote it too.
    raise TableError(f"the database cannot be reached: {reason}")


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


def _batches(changes: Sequence[tuple[Key, Record, Record]], most: int) -> Iterator[list[tuple[Key, Record, Record]]]:
    batch: list[tuple[Key, Record, Record]] = []
    size = 0
    for change in changes:
        size += 2 * len(change[2])
        if batch and (len(batch) >= most or size > _BATCH_BYTES):
            yield batch
            batch, size = [], 2 * len(change[2])
        batch.append(change)
    if batch:
        yield batch


def _may_succeed(error: SQLAlchemyError) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.OperationalError):
        return "locked" in str(cause)
    code = getattr(cause, "sqlstate", None) or (cause.args[:1] or (None,))[0] if cause else None
    return code in _TRY_AGAIN


def _named(engine: Engine) -> str:
    return shown_url(engine.url)


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
