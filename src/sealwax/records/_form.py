"""The two forms of a record, binary and text, and how to tell a record from anything else.

::

    C1 || key id 16 || prefix 12 || suffix 12 || ciphertext || tag 16        57 bytes more than type and value
    swr1. || the key id in base64url || . || the rest of it

C1 begins no UTF-8 text, no msgpack, no pickle and no base64. The text is unpadded base64url, in the one form that
encodes back. What has the form of a record is one: it is never taken for plaintext.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
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
MAX_BYTES: Final = MIN_BYTES + MAX_PLAINTEXT_BYTES

ID_END: Final = 1 + KEY_ID_BYTES
_ID_DIGITS: Final = 22
# What begins all records under one data key: ID_END bytes or, in text, this many characters.
TEXT_HEAD: Final = len(TEXT_START) + _ID_DIGITS
_DOT, _PLUS, _SLASH, _EQUALS = b".+/="
_DIGITS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
# Which digits may come last, by how many there are beyond a multiple of four.
_LAST_DIGITS: Final = (b"", b"", _DIGITS[::16], _DIGITS[::4])


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
    check(binary)
    return RecordParts(binary[1:ID_END], binary, text)


def check(binary: bytes) -> None:
    """Refuse bytes that do not have the binary form of a record.

    Raises:
        NotARecordError: they do not.
    """
    check_start(binary)
    if len(binary) < MIN_BYTES:
        raise NotARecordError("this is not a record: it ends too early")
    if len(binary) > MAX_BYTES:
        raise NotARecordError(f"this is not a record: it has more than {MAX_BYTES:,} bytes")


def check_start(binary: bytes) -> None:
    """Refuse bytes that begin otherwise than a record.

    Raises:
        NotARecordError: they do.
    """
    if binary[:1] != MAGIC:
        raise NotARecordError("this is not a record: it does not begin with the byte C1")


def _checked(record: object) -> bytes | bytearray | memoryview:
    if isinstance(record, bytes | bytearray | memoryview):
        return record
    raise TypeError(f"a record is bytes or a str, not {type(record).__name__}")


def key_id_of(head: bytes | str) -> bytes:
    """Return the key id of a record from its first ``ID_END`` bytes, or its first ``TEXT_HEAD`` characters.

    Raises:
        ValueError: no record begins so.
    """
    if isinstance(head, str) or head.startswith(TEXT_START.encode()):
        return _decode_url((head.encode("ascii") if isinstance(head, str) else head)[len(TEXT_START) : TEXT_HEAD])
    return head[1:ID_END]


def to_text(record: bytes) -> str:
    """Return the text form of a record."""
    digits = b"".join(
        (b2a_base64(record[1:ID_END])[:_ID_DIGITS], b".", b2a_base64(record[ID_END:], newline=False).rstrip(b"="))
    )
    return TEXT_START + digits.replace(b"+", b"-").replace(b"/", b"_").decode("ascii")


def text_length(size: int) -> int:
    """Return how many characters the text form of a record of some bytes has."""
    return TEXT_HEAD + 1 + -(-(size - ID_END) * 8 // 6)


def from_text(text: str) -> bytes:
    """Return the binary form of a record in text.

    Raises:
        NotARecordError: the text is not the text form of any record.
    """
    if not text.startswith(TEXT_START):
        raise NotARecordError(f"this is not a record: it does not begin with '{TEXT_START}'")
    try:
        digits = text.encode("ascii")
        if digits[TEXT_HEAD] != _DOT:
            raise ValueError
        return b"".join((MAGIC, _decode_url(digits[len(TEXT_START) : TEXT_HEAD]), _decode_url(digits[TEXT_HEAD + 1 :])))
    except (ValueError, IndexError):  # also of binascii and of what is not ASCII, whose messages show the text
        raise NotARecordError("this is not a record in its text form: it was cut off or changed") from None


def _decode_url(digits: bytes) -> bytes:
    """Decode unpadded base64url in its one form: only digits, and zeros in the last one's spare bits."""
    if _PLUS in digits or _SLASH in digits or _EQUALS in digits:
        raise ValueError
    digits = digits.replace(b"-", b"+").replace(b"_", b"/")
    spare = len(digits) % 4
    if spare and digits[-1] not in _LAST_DIGITS[spare]:
        raise ValueError
    return a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True)
