"""The types of Python that a sealed column can have, and how a value of each is handed to a record."""

from __future__ import annotations

import enum
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, get_origin
from uuid import UUID

from sealwax.errors import UnreadableValueError

_PLAIN: Final = (str, bytes, int, bool, float, Decimal, date, datetime, UUID, dict, list)
# What a type must not be taken for, though Python says that it is one.
_EXCEPT: Final[dict[type, type]] = {int: bool, date: datetime}


# Equal values of these are written in one way only, and so have one index.
_EXACT: Final = (str, bytes, int, date, UUID)


class PythonType:
    """The type of the values of a column.

    Raises:
        TypeError: no sealed column can have it.
    """

    def __init__(self, given: Any) -> None:
        kind = get_origin(given) or given
        self.enum: type[enum.Enum] | None = None
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            self.enum = kind
        elif kind not in _PLAIN:
            name = kind.__name__ if isinstance(kind, type) else repr(kind)
            names = ", ".join(each.__name__ for each in _PLAIN)
            raise TypeError(f"a sealed column is of a type of Python, {names} or an Enum, not {name}")
        self.type: type = kind
        self._except = _EXCEPT.get(kind, ())

    @property
    def name(self) -> str:
        return self.type.__name__

    def has_index(self, normalize: str) -> bool:
        """Whether a normalizer takes these values; the names of an Enum are str."""
        return self.enum is not None or self.type is str or (normalize == "exact/1" and self.type in _EXACT)

    def checked(self, value: Any) -> Any:
        """Return what a record holds for a value.

        Raises:
            TypeError: the value is of another type; the message does not show it.
        """
        if isinstance(value, self.type) and not isinstance(value, self._except):
            return value.name if isinstance(value, enum.Enum) and self.enum else value
        if self.type is bytes and isinstance(value, bytearray | memoryview):
            return bytes(value)
        if self.type is float and type(value) is int:
            return float(value)
        raise TypeError(f"the value is of type {type(value).__name__}, and the column of {self.name}")

    def restored(self, opened: Any) -> Any:
        """Return the value that a record holds.

        Raises:
            UnreadableValueError: it is of another type.
        """
        if self.enum is not None:
            if type(opened) is str and opened in self.enum.__members__:
                return self.enum[opened]
            raise UnreadableValueError(f"the record does not hold a name of {self.name}")
        if type(opened) is self.type:
            return opened
        raise UnreadableValueError(f"the record holds a value of type {type(opened).__name__}, not {self.name}")
