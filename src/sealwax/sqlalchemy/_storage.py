"""What a column keeps records in: bytes or text, and whether it is long enough."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from sealwax.errors import ModelError
from sealwax.records._form import MAX_PLAINTEXT_BYTES, MIN_BYTES, text_length
from sealwax.sqlalchemy._kinds import PythonType

_MYSQL: Final = ("mysql", "mariadb")
# What MySQL keeps in its types; those without a size in their names are these, too.
_BLOB: Final = 65_535
_MEDIUM: Final = (1 << 24) - 1
_SIZES: Final = ((mysql.TINYBLOB, 255), (mysql.TINYTEXT, 255), (mysql.MEDIUMBLOB, _MEDIUM), (mysql.MEDIUMTEXT, _MEDIUM))
_UNBOUNDED: Final = (mysql.LONGBLOB, mysql.LONGTEXT)
# Of the other types: the longest form that a record holds, after the byte for the type.
_MOST: Final[dict[type, int]] = {bool: 1, float: 24, date: 10, datetime: 42, UUID: 16}
_UTF8: Final = 4


class Storage:
    """The type of the database for a sealed column.

    Args:
        given: a type of SQLAlchemy of bytes or text; None for bytes.
        kind: the type of the values.
        length: the most characters or bytes of a value.

    Raises:
        TypeError: it is another type, or one that pads what it holds.
    """

    def __init__(self, given: Any, kind: PythonType, length: int | None) -> None:
        made = sa.LargeBinary() if given is None else sa.types.to_instance(given)
        if _python_type(made) not in (str, bytes) or isinstance(made, sa.Enum):
            raise TypeError("storage is a type of text or bytes, such as sqlalchemy.Text or sqlalchemy.VARBINARY(200)")
        if isinstance(made, sa.CHAR | sa.NCHAR | sa.BINARY):
            raise TypeError(f"storage cannot be {made!r}, which pads what it holds; take one of variable length")
        self.text = _python_type(made) is str
        self.bytes = MIN_BYTES + 1 + _most(kind, length)
        # Never shorter than what a record may hold, whatever the type of the values promises.
        self.needed = text_length(self.bytes) if self.text else self.bytes
        self.bounded = length is not None or _most(kind, length) < MAX_PLAINTEXT_BYTES - 1
        self.type = made
        if self.needed > _BLOB and _is_blob(made) and not any(name in made._variant_mapping for name in _MYSQL):
            longer: TypeEngine[Any] = mysql.MEDIUMTEXT() if self.text else mysql.MEDIUMBLOB()
            self.type = made.with_variant(longer, *_MYSQL)

    def of(self, dialect: str) -> TypeEngine[Any]:
        """Return the type in one database."""
        return self.type._variant_mapping.get(dialect, self.type)

    def check(self, name: str) -> None:
        """Refuse a column that is too short for its records.

        Args:
            name: the column, for the message.

        Raises:
            ModelError: it is too short.
        """
        unit = "characters" if self.text else "bytes"
        for each in (self.type, *self.type._variant_mapping.values()):
            size = _size_of(each)
            if size is not None and size < self.needed:
                more = "" if self.bounded else ", as no length= says that values are shorter"
                raise ModelError(
                    f"'{name}' of type {each!r} holds {size:,} {unit}, and a record takes up to {self.needed:,}{more}: "
                    f"make it {self.needed:,} or more{'' if self.bounded else ', set length=,'} or take "
                    f"{'Text' if self.text else 'LargeBinary'}"
                )


def _python_type(given: TypeEngine[Any]) -> Any:
    try:
        return given.python_type
    except NotImplementedError:
        return None


def _is_blob(given: TypeEngine[Any]) -> bool:
    """Whether MySQL has 64 KB for a type."""
    return isinstance(given, sa.LargeBinary | sa.Text) and given.length is None and _size_of(given) is None


def _size_of(given: TypeEngine[Any]) -> int | None:
    """Return how many bytes or characters a type holds; None if enough for every record."""
    for kind, size in _SIZES:
        if isinstance(given, kind):
            return size
    length = getattr(given, "length", None)
    if isinstance(given, mysql.BLOB | mysql.TEXT) and type(given).__module__.startswith("sqlalchemy.dialects.mysql"):
        return length or _BLOB
    return None if isinstance(given, _UNBOUNDED) else length


def _most(kind: PythonType, length: int | None) -> int:
    """Return how many bytes the values may have that a record holds."""
    if length is not None:
        return length if kind.type is bytes else _UTF8 * length
    if kind.enum is not None:
        return max((len(name.encode()) for name in kind.enum.__members__), default=0)
    return _MOST.get(kind.type, MAX_PLAINTEXT_BYTES - 1)
