"""Values with their types: what a record encrypts is a byte for the type, and the value.

::

    01 bytes    02 str, UTF-8    03 int, the least bytes of two's complement    04 Decimal, as text    05 date, ISO 8601
    06 datetime with its offset, ISO 8601    07 UUID, 16 bytes    08 JSON    09 bool, one byte

Each value has one form, and every other is refused. Nothing is ever unpickled.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from sealwax.errors import UnreadableValueError
from sealwax.records._rows import int_bytes

# Not a recursive type: a caller's dict[str, int] would not be one, and get_type_hints could not resolve it elsewhere.
Json = dict[str, Any] | list[Any] | float
Value = bytes | str | int | bool | decimal.Decimal | datetime.date | datetime.datetime | UUID | Json

BYTES: Final = b"\1"
STR: Final = b"\2"
# Parsing numbers of more digits takes time that grows with the square of their number.
_MAX_DIGITS: Final = 4000


def encode(value: object) -> bytes:
    """Return the type and the bytes of a value.

    Raises:
        TypeError: no record holds a value of that type; None is stored as NULL, not as a record.
        ValueError: the value cannot be written down: a time without its offset, text that is not valid Unicode, JSON
            with NaN.
    """
    if type(value) is str:  # the usual one
        return STR + _write_str(value)
    for kind, tag, write, _ in _CODECS:
        if isinstance(value, kind):
            return tag + write(value)
    if value is None:
        raise TypeError("None is not sealed: store NULL, which a database can tell from every record")
    raise TypeError(
        "a record holds bytes, str, int, bool, Decimal, date, datetime, UUID, or JSON (dict, list, float), "
        f"not {type(value).__name__}"
    )


def decode(data: bytes) -> Value:
    """Return the value whose type and bytes these are.

    Raises:
        UnreadableValueError: they are those of no value; the message never contains them.
    """
    if data[:1] == STR:  # UTF-8 has one form, and the usual value must not wait for contextlib.suppress
        try:
            return data[1:].decode()
        except UnicodeDecodeError:
            pass
    codec = _BY_TAG.get(data[:1])
    if codec is None:
        raise UnreadableValueError(
            "the record is authentic, but holds a value of a type that this release of sealwax does not know; open it "
            "with the release that sealed it, or a later one"
        )
    _, tag, write, read = codec
    try:
        value: Value = read(data[1:])
        if tag + write(value) == data:
            return value
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        pass
    raise UnreadableValueError(
        "the record is authentic, but its value is not written as its type demands: another program sealed it"
    )


def _write_str(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError("the value holds text that is not valid Unicode (a lone surrogate)") from None


def _read_int(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _write_bool(value: bool) -> bytes:
    return b"\1" if value else b"\0"


def _write_decimal(value: decimal.Decimal) -> bytes:
    if len(value.as_tuple().digits) > _MAX_DIGITS:
        raise ValueError(f"the Decimal has more than {_MAX_DIGITS} digits")
    return decimal.Decimal.__str__(value).encode("ascii")  # a subclass may show itself otherwise


def _read_decimal(data: bytes) -> decimal.Decimal:
    # A context of its own: the caller's may trap, and its precision never applies to what is read from text.
    return decimal.Decimal(data.decode("ascii"))


def _write_date(value: datetime.date) -> bytes:
    return datetime.date.isoformat(value).encode("ascii")


def _read_date(data: bytes) -> datetime.date:
    return datetime.date.fromisoformat(data.decode("ascii"))


def _write_datetime(value: datetime.datetime) -> bytes:
    if value.utcoffset() is None:
        raise ValueError("the datetime has no time zone, so nobody can tell later which moment it was; give it one")
    # A subclass may show itself otherwise, and may be more precise, as that of pandas is.
    day = value.year, value.month, value.day
    plain = datetime.datetime(*day, value.hour, value.minute, value.second, value.microsecond)  # noqa: DTZ001
    if value.replace(tzinfo=None, fold=0) != plain:
        raise ValueError("the datetime is more precise than a microsecond, and would come back as another; round it")
    zone = datetime.timezone(value.utcoffset())  # type: ignore[arg-type]
    return plain.replace(tzinfo=zone).isoformat().encode("ascii")


def _read_datetime(data: bytes) -> datetime.datetime:
    return datetime.datetime.fromisoformat(data.decode("ascii"))


def _write_uuid(value: UUID) -> bytes:
    return value.bytes


def _read_uuid(data: bytes) -> UUID:
    return UUID(bytes=data)


def _write_json(value: Json) -> bytes:
    try:
        _check_json(value)
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("the JSON holds text that is not valid Unicode (a lone surrogate)") from None
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _check_json(value: object) -> None:
    """Refuse what would come back as something else: a tuple as a list, the key 1 as "1"."""
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"a key of a JSON object is a str, not {type(key).__name__}")
            _check_json(item)
    elif isinstance(value, list):
        for item in value:
            _check_json(item)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("JSON has no NaN and no infinity")
    elif value is not None and type(value) not in (str, int, bool):
        raise TypeError(f"JSON holds dict, list, str, int, float, bool and None, not {type(value).__name__}")


def _read_json(data: bytes) -> Json:
    value: Json = json.loads(data.decode())
    if not isinstance(value, dict | list | float):
        raise TypeError("such a value has a type of its own")
    return value


# In the order in which a value is looked for: a bool is an int too, and a datetime a date.
_CODECS: Final[tuple[tuple[Any, bytes, Callable[[Any], bytes], Callable[[bytes], Any]], ...]] = (
    ((bytes, bytearray, memoryview), BYTES, bytes, bytes),
    (str, STR, _write_str, bytes.decode),
    (bool, b"\x09", _write_bool, lambda data: data == b"\1"),
    (int, b"\3", int_bytes, _read_int),
    (decimal.Decimal, b"\4", _write_decimal, _read_decimal),
    (datetime.datetime, b"\6", _write_datetime, _read_datetime),
    (datetime.date, b"\5", _write_date, _read_date),
    (UUID, b"\7", _write_uuid, _read_uuid),
    ((dict, list, float), b"\x08", _write_json, _read_json),
)
_BY_TAG: Final = {codec[1]: codec for codec in _CODECS}
