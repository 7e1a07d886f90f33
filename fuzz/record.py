"""Records, in binary and in text, and what they hold: strangers' bytes, and those of somebody who has the data key."""

from __future__ import annotations

from typing import Final

from fuzz.key_row import FixedKeyring
from sealwax._core import context as ctx
from sealwax._core.keyring import DataKey
from sealwax.errors import NotARecordError, RecordTamperedError, UnknownKeyError, UnreadableValueError
from sealwax.records import MemoryKeys, Records, is_record
from sealwax.records._form import TEXT_START, from_text, parse, to_text
from sealwax.records._keys import FieldKey
from sealwax.records._rows import encoder
from sealwax.records._values import encode

SCOPE: Final = {"app": "fuzzing"}
PREFIX: Final = bytes(range(12))
SUFFIX: Final = bytes(range(12, 24))
_ROW: Final = encoder(int)(7)
# Nothing of a real clock: no key grows old between two inputs.
_RECORDS: Final = Records(FixedKeyring(), MemoryKeys(), scope=SCOPE, max_age=1e9, recheck=1e9)
_FIELD: Final = _RECORDS.field("users.card", row=int)
KEY_ID: Final = _FIELD.seal(b"", row=7)[1:17]

with DataKey(bytearray(FixedKeyring.KEY)) as data_key:
    _FIELD_KEY: Final = FieldKey(data_key, ctx.encode(SCOPE), ctx.EMPTY, "users.card")


def sealed(plaintext: bytes, prefix: bytes = PREFIX, suffix: bytes = SUFFIX) -> bytes:
    """Return a record that authenticates, whatever it holds."""
    return b"\xc1" + KEY_ID + prefix + suffix + _FIELD_KEY.record_key(prefix).encrypt(suffix, plaintext, _ROW)


def check(data: bytes) -> None:
    _binary(data)
    # Nobody guesses a key id either: with the true one, what lies behind it is reached.
    _binary(b"\xc1" + KEY_ID + data[1 + len(KEY_ID) :])
    text = data.decode("utf-8", "surrogateescape")
    for candidate in (text, TEXT_START + text):
        _text(candidate)
    _plaintext(data)
    _altered(data)


def _binary(data: bytes) -> None:
    try:
        parts = parse(data)
    except NotARecordError:
        assert _opened(data) is NotARecordError
        return
    assert is_record(data), "what is parsed has the form of a record"
    assert parts.binary == data
    assert from_text(to_text(data)) == data
    assert _opened(to_text(data)) is _opened(data), "both forms come to the same end"


def _text(text: str) -> None:
    try:
        binary = from_text(text)
    except NotARecordError:
        assert _opened(text) is NotARecordError
        return
    assert is_record(text)
    assert to_text(binary) == text, "a record has one text form"


def _opened(record: bytes | str) -> type[Exception] | None:
    """Return how opening a record ends; only what is sealed with the data key opens."""
    try:
        value = _FIELD.open(record, row=7)
    except (NotARecordError, RecordTamperedError, UnknownKeyError, UnreadableValueError) as error:
        return type(error)
    binary = parse(record).binary
    assert binary == sealed(encode(value), binary[17:29], binary[29:41]), "a value has one form"
    return None


def _plaintext(plaintext: bytes) -> None:
    record = sealed(plaintext)
    end = _opened(record)
    assert end in (None, UnreadableValueError)
    try:
        assert end is None or not _FIELD.open_many([record], rows=[7])
    except UnreadableValueError:
        assert end is UnreadableValueError


def _altered(data: bytes) -> None:
    record = bytearray(sealed(b"\1value"))
    at = int.from_bytes(data[:2], "big") % len(record)
    record[at] ^= data[2] if len(data) > 2 else 1
    end = _opened(bytes(record))
    assert (end is None) == (bytes(record) == sealed(b"\1value"))
    # The key stays good for the others.
    assert _FIELD.open(sealed(b"\1value"), row=7) == b"value"
