"""The two forms of a record, binary and text, and how to tell a record from anything else.

::

    C1 || key id 16 || prefix 12 || suffix 12 || ciphertext || tag 16        57 bytes more than type and value
    swr1. || the key id in base64url || . || the rest of it

C1 begins no UTF-8 text, no msgpack, no pickle and no base64. The text is unpadded base64url, in the one form that
encodes back. What has the form of a record is one: it is never taken for plaintext.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, NamedTuple

from sealwax.errors import NotARecordError
from sealwax.records._keys import KEY_ID_BYTES, PREFIX_BYTES, SUFFIX_BYTES

MAGIC: Final = b"\xc1"
TEXT_START: Final = "swr1."
# From the first byte on: what all records under one record key begin with, and where the ciphertext begins.
HEAD_BYTES: Final = 1 + KEY_ID_BYTES + PREFIX_BYTES
CIPHERTEXT_AT: Final = HEAD_BYTES + SUFFIX_BYTES
MIN_BYTES: Final = CIPHERTEXT_AT + 16
# The plaintext of a record: a byte for the type, and the value.
MAX_PLAINTEXT_BYTES: Final = 1 << 20
_MAX_BYTES: Final = MIN_BYTES + MAX_PLAINTEXT_BYTES

_ID_END: Final = 1 + KEY_ID_BYTES
_ID_DIGITS: Final = 22
_DOT_AT: Final = len(TEXT_START) + _ID_DIGITS


class RecordParts(NamedTuple):
    """A record in its parts.

    Attributes:
        key_id: 16 bytes that name the data key.
        binary: the whole record in its binary form.
        text: whether it was in the text form.
    """

    key_id: bytes
    binary: bytes
    text: bool


def is_record(value: object) -> bool:
    """Whether a value has the form of a record, in bytes or in text; it may still be damaged.

    Args:
        value: what a column holds: bytes, str, or anything else, which is no record.
    """
    if isinstance(value, str):
        return value.startswith(TEXT_START)
    if isinstance(value, bytes | bytearray | memoryview):
        return len(value) >= MIN_BYTES and bytes(value[:1]) == MAGIC
    return False


def parse(record: bytes | bytearray | memoryview | str) -> RecordParts:
    """Return the parts of a record.

    Raises:
        NotARecordError: it has neither form.
        TypeError: it is neither bytes nor a str.
    """
    text = isinstance(record, str)
    binary = from_text(record) if isinstance(record, str) else bytes(_checked(record))
    if len(binary) < MIN_BYTES or binary[:1] != MAGIC:
        begins = "ends too early" if binary[:1] == MAGIC else "does not begin with the byte C1"
        raise NotARecordError(f"this is not a record: it {begins}")
    if len(binary) > _MAX_BYTES:
        raise NotARecordError(f"this is not a record: it has more than {_MAX_BYTES:,} bytes")
    return RecordParts(binary[1:_ID_END], binary, text)


def _checked(record: object) -> bytes | bytearray | memoryview:
    if isinstance(record, bytes | bytearray | memoryview):
        return record
    raise TypeError(f"a record is bytes or a str, not {type(record).__name__}")


def to_text(record: bytes) -> str:
    """Return the text form of a record."""
    return f"{TEXT_START}{_encode(record[1:_ID_END])}.{_encode(record[_ID_END:])}"


def from_text(text: str) -> bytes:
    """Return the binary form of a record in text.

    Raises:
        NotARecordError: the text is not the text form of any record.
    """
    if not text.startswith(TEXT_START):
        raise NotARecordError(f"this is not a record: it does not begin with '{TEXT_START}'")

    try:
        binary = b"".join((MAGIC, _decode(text[len(TEXT_START) : _DOT_AT]), _decode(text[_DOT_AT + 1 :])))
    except (binascii.Error, ValueError):
        binary = b""
    # The decoder skips foreign characters and loose last bits; the comparison does not.
    if len(binary) < _ID_END or to_text(binary) != text:
        raise NotARecordError("this is not a record in its text form: it was cut off or changed")
    return binary


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(digits: str) -> bytes:
    return base64.urlsafe_b64decode(digits + "=" * (-len(digits) % 4))
