"""The bytes that bind a record to its row: AES-GCM's additional data. They depend on the type that the field declares.

::

    01 u32 length, an int in the least bytes of two's complement     04 the 16 bytes of a UUID
    02 u32 length, a str in UTF-8                                    05 u16 number of items, then each as above
    03 u32 length, bytes                                             nothing at all: UNBOUND
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

MAX_ROW_BYTES: Final = 4096
_MAX_ITEMS: Final = 64

_U16: Final = struct.Struct(">H")
_INT, _STR, _BYTES, _UUID, _TUPLE = (bytes((tag,)) for tag in range(1, 6))
# How ints that are not negative are encoded, by their number of bits: what they begin with, and their number of bytes.
INT_STARTS: Final = tuple((_INT + struct.pack(">I", bits // 8 + 1), bits // 8 + 1) for bits in range(256))

Row = int | str | bytes | UUID | tuple[int | str | bytes | UUID, ...]
Encode = Callable[[Any], bytes]


class Unbound:
    """The type of ``UNBOUND``, the row of a field whose records are bound to no row, explicitly."""

    def __repr__(self) -> str:
        return "sealwax.records.UNBOUND"

    def __reduce__(self) -> str:
        return "UNBOUND"  # there is one, for copies and pickles too


UNBOUND: Final = Unbound()
RowType = type[int] | type[str] | type[bytes] | type[UUID] | type[tuple[object, ...]] | Unbound


def encoder(row_type: RowType) -> Encode:
    """Return the function that encodes the rows of a field.

    Raises:
        TypeError: no row has that type. A float, a Decimal or a time has several texts for one value, and a database
            rounds, pads or folds some of them, so that a record could not be opened any more.
    """
    if row_type is UNBOUND:
        return _unbound
    try:
        return _ENCODERS[row_type]  # type: ignore[index]
    except (KeyError, TypeError):
        name = row_type.__name__ if isinstance(row_type, type) else repr(row_type)
        raise TypeError(
            f"a row is an int, str, bytes, uuid.UUID, a tuple of these, or UNBOUND; {name} cannot be one"
        ) from None


def int_row(row: object) -> bytes:
    """Encode an int; one that is not negative takes the short way in ``Field`` already."""
    if not isinstance(row, int) or isinstance(row, bool):
        raise _not("an int", row)
    return _framed(_INT, int_bytes(row))


def int_bytes(number: int) -> bytes:
    """Return the least bytes of two's complement that hold an int; 0 is one byte."""
    return number.to_bytes((number if number >= 0 else ~number).bit_length() // 8 + 1, "big", signed=True)


def _str_row(row: object) -> bytes:
    if not isinstance(row, str):
        raise _not("a str", row)
    try:
        return _framed(_STR, row.encode())
    except UnicodeEncodeError:
        raise ValueError("the row holds text that is not valid Unicode (a lone surrogate)") from None


def _bytes_row(row: object) -> bytes:
    if not isinstance(row, bytes | bytearray | memoryview):
        raise _not("bytes", row)
    return _framed(_BYTES, bytes(row))


def _uuid_row(row: object) -> bytes:
    if not isinstance(row, UUID):
        raise _not("a uuid.UUID", row)
    return _UUID + row.bytes


def _tuple_row(row: object) -> bytes:
    if not isinstance(row, tuple):
        raise _not("a tuple", row)
    if not 1 <= len(row) <= _MAX_ITEMS:
        raise ValueError(f"a row that is a tuple has 1 to {_MAX_ITEMS} items, not {len(row)}")
    encoded = _TUPLE + _U16.pack(len(row)) + b"".join(map(_item, row))
    if len(encoded) > MAX_ROW_BYTES:
        raise ValueError(f"the row has more than {MAX_ROW_BYTES} bytes")
    return encoded


def _item(item: object) -> bytes:
    for kind, encode in _ENCODERS.items():
        if kind is not tuple and isinstance(item, kind):
            return encode(item)
    raise _not("made of int, str, bytes and uuid.UUID only", item)


def _unbound(row: object) -> bytes:
    if row is not UNBOUND:
        raise TypeError("the field is declared with row=UNBOUND, so its records take no row")
    return b""


def _framed(tag: bytes, data: bytes) -> bytes:
    if len(data) > MAX_ROW_BYTES:
        raise ValueError(f"the row has more than {MAX_ROW_BYTES} bytes")
    return tag + struct.pack(">I", len(data)) + data


def _not(what: str, row: object) -> TypeError:
    return TypeError(f"the row must be {what}, as the field declares it, not {type(row).__name__}")


_ENCODERS: Final[dict[type, Encode]] = {
    int: int_row,
    str: _str_row,
    bytes: _bytes_row,
    UUID: _uuid_row,
    tuple: _tuple_row,
}
