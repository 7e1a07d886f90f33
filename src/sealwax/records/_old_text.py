"""Values as text, as applications and libraries wrote them down before there were records.

The text of a type has several spellings in the wild: str() and repr() of Python, ISO 8601, JSON. All of them are read,
and anything else is refused; what is written is what the library of a form wrote.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import json
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn
from uuid import UUID

from sealwax.errors import OldFormError

_INT: Final = re.compile(r"[+-]?[0-9]{1,4000}", re.ASCII)
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_DECIMAL: Final = re.compile(r"(?:Decimal\(')?([+-]?[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]{1,9})?)(?:'\))?", re.ASCII)
_UUID: Final = re.compile(
    r"(?:UUID\(')?([0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12})(?:'\))?", re.ASCII | re.IGNORECASE
)
_BOOLS: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_MAX_DIGITS: Final = 4000


def read_text(text: str, kind: type, zone: datetime.tzinfo | None) -> object:
    """Return the value that a text stands for.

    Args:
        kind: its type; of an Enum, the text is the name of a member.
        zone: that of datetimes that were written without one.

    Raises:
        OldFormError: it stands for no value of that type; the message does not show it.
    """
    if kind is str:
        return text
    if issubclass(kind, enum.Enum):
        if text in kind.__members__:
            return kind[text]
        raise OldFormError(f"it is not a name of {kind.__name__}")
    read = _READERS.get(kind)
    if read is None:
        raise OldFormError(f"no value of type {kind.__name__} was ever text")
    value: object = None
    with contextlib.suppress(ValueError, ArithmeticError, RecursionError):
        value = read(text)
    if type(value) is not kind:
        raise OldFormError(f"it does not hold a value of type {kind.__name__}")
    return with_zone(value, zone)


def with_zone(value: object, zone: datetime.tzinfo | None) -> object:
    """Return a value, with a time zone if it is a datetime without one.

    Raises:
        OldFormError: there is none to give it.
    """
    if not isinstance(value, datetime.datetime) or value.utcoffset() is not None:
        return value
    if zone is None:
        raise OldFormError("it holds a datetime without a time zone; pass the zone= of such values to the old form")
    return value.replace(tzinfo=zone)


def without_zone(value: object, zone: datetime.tzinfo | None) -> object:
    """Return a value; a datetime as local time of the zone that it is read with.

    Raises:
        OldFormError: the local time is that of another moment too, or the datetime has no zone.
    """
    if not isinstance(value, datetime.datetime):
        return value
    if value.utcoffset() is None:
        raise OldFormError("the datetime has no time zone; give it one")
    if zone is None:
        return value
    local = value.astimezone(zone).replace(tzinfo=None, fold=0)
    # In UTC: two datetimes of one zone are compared by their local times.
    if local.replace(tzinfo=zone).astimezone(datetime.UTC) != value.astimezone(datetime.UTC):
        raise OldFormError("the local time comes twice on that day, and the old form cannot tell which one is meant")
    return local


def write_text(value: object, zone: datetime.tzinfo | None, *, bools: Callable[[bool], str] = str) -> str:
    """Return the text that stands for a value.

    Args:
        zone: that of datetimes that are written without one; None if they are written with theirs.
        bools: how True and False are spelled.

    Raises:
        OldFormError: the old form has no text for it.
    """
    value = without_zone(value, zone)
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bool):
        return bools(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict | list):
        return _write_json(value)
    if isinstance(value, datetime.date):  # a datetime too
        return value.isoformat()
    if isinstance(value, int | decimal.Decimal | float | UUID):
        return str(value)
    raise OldFormError(f"it does not take a value of type {type(value).__name__} as text")


def decoded(data: bytes) -> str:
    """Return the text that some bytes are.

    Raises:
        OldFormError: they are not UTF-8.
    """
    text: str | None = None
    with contextlib.suppress(UnicodeDecodeError):
        text = data.decode()
    if text is None:
        raise OldFormError("it does not hold text in UTF-8")
    return text


def encoded(text: str) -> bytes:
    """Return a text in UTF-8.

    Raises:
        OldFormError: it has a lone surrogate.
    """
    data: bytes | None = None
    with contextlib.suppress(UnicodeEncodeError):
        data = text.encode()
    if data is None:
        raise OldFormError("it is not valid Unicode (a lone surrogate)")
    return data


def _read_int(text: str) -> int:
    return int(_matched(_INT, text)[0])


def _read_float(text: str) -> float:
    return float(_matched(_FLOAT, text)[0])


def _read_bool(text: str) -> bool | None:
    return _BOOLS.get(text.lower())


def _read_decimal(text: str) -> decimal.Decimal:
    value = decimal.Decimal(_matched(_DECIMAL, text)[1])
    if len(value.as_tuple().digits) > _MAX_DIGITS:
        raise ValueError
    return value


def _read_uuid(text: str) -> UUID:
    return UUID(_matched(_UUID, text)[1])


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError
    return match


def _read_json(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(_: str) -> NoReturn:
    raise ValueError


def _write_json(value: object) -> str:
    text: str | None = None
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if text is None:
        raise OldFormError("it is not JSON")
    return text


_READERS: Final[dict[type, Callable[[str], object]]] = {
    int: _read_int,
    float: _read_float,
    bool: _read_bool,
    decimal.Decimal: _read_decimal,
    datetime.date: datetime.date.fromisoformat,
    datetime.datetime: datetime.datetime.fromisoformat,
    UUID: _read_uuid,
    dict: _read_json,
    list: _read_json,
}
