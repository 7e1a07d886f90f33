"""Values that move between an old form and records: read, written, and found to fit before anything is changed."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast

from sealwax._text import printable
from sealwax.errors import OldFormError, TableError
from sealwax.records import _form, _values
from sealwax.records._moving import Moving
from sealwax.records._named_forms import KINDS, PLAINTEXT
from sealwax.records._old_forms import OldForm
from sealwax.records._sealed_table import ColumnValue, SealedTable
from sealwax.records._stored_column import MYSQL, StoredColumn
from sealwax.records._values import Value

# A character of UTF-8.
_MOST_BYTES: Final = 4
# PostgreSQL cuts longer names off.
_MOST_NAME: Final = 63


class OldValues:
    """The values of a column that are not records yet.

    Args:
        table: the column; its ``moves_from`` says how they are stored.

    Raises:
        TableError: it is not told of what type they are.
    """

    def __init__(self, table: SealedTable) -> None:
        form = table.column.moves_from
        assert form is not None
        self._table = table
        self._apart = table.source is not table.value
        self.moving = Moving(form, writes="records")
        self.kind = table.column.kind or self._told()

    def _told(self) -> type:
        source = self._table.source
        if source.text:
            return str
        if self.moving.old.name == PLAINTEXT:
            kind = _python_type(source)
            if kind in KINDS.values():
                return cast("type", kind)
        raise TableError(
            f"the column {_named(self._table, source)} does not tell of what type its values are; give the type of "
            f"{self._table.column.named} in the map of fields"
        )

    def has(self, item: ColumnValue) -> bool:
        """Whether a row has a value of the old form, and no other beside it."""
        if self._apart:
            return item.old is not None and item.value is None
        return self.moving.is_old(item.value)

    def read(self, item: ColumnValue) -> Value:
        """Return a value, as it is to be sealed.

        Raises:
            OldFormError: it cannot be read.
        """
        stored = item.old if self._apart else item.value
        if not self._apart and isinstance(stored, str) != self._table.text:
            raise OldFormError(f"the column holds {type(stored).__name__}, and is one of text or of bytes")
        value = self.moving.old.read(stored, self.kind)
        # A model seals the name.
        return cast("Value", value.name if isinstance(value, enum.Enum) else value)

    def witness(self, item: ColumnValue) -> bytes | str:
        """Return what to compare when the value is replaced."""
        return cast("bytes | str", item.witness if self._apart else item.value)


class NewValues:
    """What records of a column become when they move out.

    Args:
        table: the column.
        form: how they are to be stored.

    Raises:
        TableError: the column that they came from cannot hold the form.
    """

    def __init__(self, table: SealedTable, form: OldForm) -> None:
        self._source = table.source
        self._moving = Moving(form, writes="old")
        self._python = None if self._source.text is not None else _python_type(self._source)
        if self._source.text is None and (form.name != PLAINTEXT or self._python is None):
            raise TableError(
                f"the column {_named(table, self._source)} is of type {self._source.column.type}, which cannot "
                f"hold {form.name}"
            )

    def write(self, value: object) -> object:
        """Return what the column gets.

        Raises:
            OldFormError: the form or the column cannot hold it, or it would be taken for a record.
        """
        if self._python is not None:
            if type(value) is self._python:
                return value
            raise OldFormError(
                f"the record holds a value of type {type(value).__name__}, and the column is of type "
                f"{self._source.column.type}"
            )
        stored = self._moving.old.write(value, text=bool(self._source.text))
        if not self._moving.is_old(stored):
            raise OldFormError("the value begins as a record does, and would be taken for one")
        if (excess := too_long(self._source, stored)) is not None:
            raise OldFormError(f"it {excess}")
        return stored


def too_long(column: StoredColumn, stored: bytes | str) -> str | None:
    """Return what is to be said of a value that is too long for a column; None if it is not."""
    room = column.room
    if room is None:
        return None
    counted = isinstance(stored, str) and room.characters
    length = len(stored) if counted or isinstance(stored, bytes) else len(stored.encode())
    if length <= room.most:
        return None
    return f"needs {length:,} {'characters' if room.characters else 'bytes'}, and the column holds {room.most:,}"


# --- before anything is moved


def check_columns(table: SealedTable, values: OldValues, walk: Callable[[], Iterable[list[ColumnValue]]]) -> None:
    """Refuse to begin what could not come to its end.

    Args:
        table: the column.
        values: its old values.
        walk: reads all rows, page by page; it is only called if the longest values might not fit.

    Raises:
        TableError: the records do not fit in the column, or a row could not change as it must.
    """
    for stored in (table.value, table.source):
        if stored.column.primary_key:
            raise TableError(f"the column {_named(table, stored)} is part of the primary key; its values cannot move")
    if table.value.padded:
        raise TableError(
            f"the column {table.column.named} is of type {table.value.column.type}, which fills values up and so "
            "damages records; change its type first"
        )
    check_null(table, table.source)
    room = table.value.room
    if room is None or _length(table, _most_bytes(table, values)) <= room.most:
        return
    longest = max((_length(table, size) for size in _sizes(values, walk)), default=0)
    if longest <= room.most:
        return
    unit = "characters" if room.characters else "bytes"
    declared = getattr(table.source.column.type, "length", None)
    more = ""
    if table.source.text and isinstance(declared, int):
        whole = _length(table, 1 + _MOST_BYTES * declared)
        more = f"; any value of {declared:,} characters fits in {whole:,}"
    raise TableError(
        f"the column {table.column.named} is too short: it holds {room.most:,} {unit}, and the record of its longest "
        f"value needs {longest:,}{more}. Nothing was changed: give it a longer type first"
    )


def check_null(table: SealedTable, taken: StoredColumn) -> None:
    """Refuse a column that values are to leave, and that cannot be NULL.

    Raises:
        TableError: it is NOT NULL, and not the only column.
    """
    if table.source is not table.value and not taken.column.nullable:
        raise TableError(
            f"the column {_named(table, taken)} is NOT NULL, and becomes NULL where its value moves to the other "
            "column; drop NOT NULL first"
        )


def _most_bytes(table: SealedTable, values: OldValues) -> int:
    """Return a bound for type and value of the longest one: no form is shorter than its value in UTF-8."""
    longest = table.longest()
    written_otherwise = table.source.text is None or values.kind not in (str, bytes)
    return 1 + (2 * longest + 16 if written_otherwise else longest)


def _sizes(values: OldValues, walk: Callable[[], Iterable[list[ColumnValue]]]) -> Iterator[int]:
    for items in walk():
        for item in items:
            if values.has(item):
                try:
                    yield len(_values.encode(values.read(item)))
                except (OldFormError, TypeError, ValueError):
                    continue  # it stays as it is


def _length(table: SealedTable, size: int) -> int:
    """Return how long a record is in this column, if its type and value have this size."""
    binary = _form.MIN_BYTES + size
    return len(_form.to_text(bytes(binary))) if table.text else binary


# --- once all are moved


def next_step(table: SealedTable) -> str:
    """Return the statements that keep the column as it is now: records only; and what to do with the model."""
    # One that does not write each % twice, as drivers want it.
    preparer = cast("Any", type(table.dialect))(paramstyle="named").identifier_preparer
    name, column = preparer.format_table(table.table), preparer.format_column(table.value.column)
    if table.source is not table.value:
        source = preparer.format_column(table.source.column)
        return f"ALTER TABLE {name} DROP COLUMN {source};"
    condition = _records_only(table, column)
    if table.dialect.name == "sqlite":
        return f"CHECK ({condition})"
    label = preparer.quote(f"{table.table.name}_{table.value.column.name}_records"[:_MOST_NAME])
    if table.dialect.name == "postgresql":
        # The second statement looks at the rows, and locks nobody out.
        return (
            f"ALTER TABLE {name} ADD CONSTRAINT {label} CHECK ({condition}) NOT VALID;\n"
            f"ALTER TABLE {name} VALIDATE CONSTRAINT {label};"
        )
    return f"ALTER TABLE {name} ADD CONSTRAINT {label} CHECK ({condition});"


def _records_only(table: SealedTable, column: str) -> str:
    if table.dialect.name == "postgresql":
        # By its characters, whatever the collation of the column.
        return f"{column} COLLATE \"C\" LIKE 'swr1.%'" if table.text else f"substring({column} FROM 1 FOR 1) = '\\xc1'"
    if table.dialect.name in MYSQL:
        return f"CAST(LEFT({column}, 5) AS BINARY) = 'swr1.'" if table.text else f"LEFT({column}, 1) = X'C1'"
    # What begins an empty value is NULL here, and a CHECK lets NULL pass.
    return f"{column} GLOB 'swr1.*'" if table.text else f"{column} IS NULL OR hex(substr({column}, 1, 1)) = 'C1'"


# --- what they share


def _python_type(column: StoredColumn) -> type | None:
    try:
        return cast("type", column.column.type.python_type)
    except NotImplementedError:
        return None


def _named(table: SealedTable, column: StoredColumn) -> str:
    return printable(f"{table.column.table}.{column.column.name}")
