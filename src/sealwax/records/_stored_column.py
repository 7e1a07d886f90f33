"""A column as a database has it: its values compared by their bytes, whatever its type, collation or character set."""

from __future__ import annotations

import contextlib
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

Stored = bytes | str

MYSQL: Final = ("mysql", "mariadb")
# Bytes, whatever the type's length says.
_MYSQL_SIZES: Final = {
    "TINYBLOB": 255,
    "TINYTEXT": 255,
    "BLOB": 65_535,
    "TEXT": 65_535,
    "MEDIUMBLOB": (1 << 24) - 1,
    "MEDIUMTEXT": (1 << 24) - 1,
}
_PADDED: Final = {"CHAR", "NCHAR", "BINARY"}


class Room(NamedTuple):
    """How long the values of a column may be.

    Attributes:
        most: so many bytes or characters; records in text have characters of one byte.
        characters: whether it counts characters.
    """

    most: int
    characters: bool


class StoredColumn:
    """A column of a table.

    Args:
        column: the column as it was reflected.
        dialect: the name of the dialect.

    Attributes:
        text: True for a column of text, False for one of bytes, None for any other type.
    """

    def __init__(self, column: sa.Column[Any], dialect: str) -> None:
        self.column = column
        self.dialect = dialect
        self.text = _is_text(column.type)

    @property
    def sql_type(self) -> TypeEngine[Any]:
        """The type to bind new values with: a cast to a length would cut a record off, an assignment refuses it."""
        if self.text is None:
            return self.column.type
        return sa.Text() if self.text else sa.LargeBinary()

    @property
    def witness(self) -> sa.ColumnElement[Any]:
        """The value as it is read to be compared later: text or bytes."""
        if self.text is not None:
            return self.column
        return sa.cast(self.column, mysql.CHAR(charset="utf8mb4") if self.dialect in MYSQL else sa.Text())

    @property
    def exact(self) -> sa.ColumnElement[Any]:
        """The value as it is compared with ``encoded`` values."""
        return self.by_bytes(self.witness)

    def by_bytes(self, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Return an expression of the column's text or bytes as it is compared."""
        if self.text is False:
            return value
        if self.dialect == "postgresql":
            return sa.collate(value, "C")
        if self.dialect in MYSQL:
            value = sa.cast(value, mysql.CHAR(charset="utf8mb4"))
        return sa.cast(value, sa.LargeBinary())

    def encoded(self, witness: Stored) -> Stored:
        """Return what was read as it is compared with ``exact``."""
        return witness.encode() if isinstance(witness, str) and self.dialect != "postgresql" else witness

    @property
    def size(self) -> sa.ColumnElement[int]:
        """How many bytes the value has."""
        if self.dialect == "postgresql":
            return sa.func.octet_length(self.witness)
        return sa.func.length(self.exact)

    @property
    def room(self) -> Room | None:
        """How long a value may be; None if there is no limit that matters, or the database does not keep to it."""
        if self.dialect == "sqlite" or self.text is None:
            return None
        name, length = _name(self.column.type), getattr(self.column.type, "length", None)
        if self.dialect in MYSQL and name in _MYSQL_SIZES:
            return Room(_MYSQL_SIZES[name], characters=False)
        return Room(length, characters=bool(self.text)) if isinstance(length, int) else None

    @property
    def padded(self) -> bool:
        """Whether the database fills values up to the column's length, which damages records."""
        return self.dialect != "sqlite" and _name(self.column.type) in _PADDED


def _name(kind: TypeEngine[Any]) -> str:
    return type(kind).__name__.upper()


def _is_text(kind: TypeEngine[Any]) -> bool | None:
    # An ENUM of text, or a SET, holds what it was made for and nothing else.
    if isinstance(kind, sa.Enum):
        return None
    with contextlib.suppress(NotImplementedError):
        python = kind.python_type
        if python in (str, bytes):
            return python is str
    return None
