"""The construction: the published answers of XAES-256-GCM, a second reader, rows, values and forms."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import hashlib
import json
import math
import uuid
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given

from sealwax._core import context as ctx
from sealwax._core.keyring import DataKey
from sealwax.errors import NotARecordError, UnreadableValueError
from sealwax.records import UNBOUND, is_record
from sealwax.records._form import MIN_BYTES, from_text, parse, to_text
from sealwax.records._keys import FieldKey, key_id
from sealwax.records._rows import encoder
from sealwax.records._values import decode, encode
from tests.records import reader

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "xaes-256-gcm.json").read_text())


def str_of_type(value: object) -> str:
    return type(value).__name__


def under(key: bytes) -> FieldKey:
    """Return a field key that is given, not derived."""
    field = object.__new__(FieldKey)
    field._mac = CMAC(AES(key))
    return field


def test_published_answers() -> None:
    answered = 0
    for vector in VECTORS["vectors"]:
        nonce = vector["nonce_ascii"].encode()
        plaintext, bound = vector["plaintext_ascii"].encode(), vector["aad_ascii"].encode()
        ciphers = (
            under(bytes.fromhex(vector["key"])).record_key(nonce[:12]),
            AESGCM(bytes.fromhex(vector["derived_key"])),
        )
        for cipher in ciphers:
            assert cipher.encrypt(nonce[12:], plaintext, bound).hex() == vector["ciphertext"]
            answered += 1
    assert answered == 4


def accumulated(count: int) -> str:
    """Answer as many random tests as the specification accumulates."""
    stream, at = hashlib.shake_128().digest(count * (32 + 24 + 2 + 2 * 255)), 0
    answers = hashlib.shake_128()

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        return stream[at - size : at]

    for _ in range(count):
        key, nonce = take(32), take(24)
        plaintext = take(take(1)[0])
        bound = take(take(1)[0])
        answers.update(under(key).record_key(nonce[:12]).encrypt(nonce[12:], plaintext, bound))
    return answers.hexdigest(32)


def test_accumulated_answers() -> None:
    assert accumulated(10_000) == VECTORS["accumulated"]["10000"]


@pytest.mark.soak
def test_a_million_accumulated_answers() -> None:
    assert accumulated(1_000_000) == VECTORS["accumulated"]["1000000"]


SCOPE, LOCAL = {"app": "shop", "env": "prod"}, {"tenant": "acme"}


def test_a_second_derivation_agrees() -> None:
    secret = bytes(range(32))
    with DataKey(bytearray(secret)) as data_key:
        for kind, generation in ((1, 1), (2, 1), (1, 2**31 - 1)):
            mine = key_id(data_key, kind, generation, ctx.encode(SCOPE))
            assert mine == reader.key_id(secret, kind, generation, SCOPE)
        cipher = FieldKey(data_key, ctx.encode(SCOPE), ctx.encode(LOCAL), "users.card").record_key(b"p" * 12)
    theirs = reader.xaes(reader.field_key(secret, SCOPE, LOCAL, "users.card"), b"p" * 12)
    assert theirs.decrypt(b"s" * 12, cipher.encrypt(b"s" * 12, b"text", b"row"), b"row") == b"text"


def test_each_part_of_a_key_counts() -> None:
    with DataKey(bytearray(range(32))) as data_key:
        scope = ctx.encode(SCOPE)
        ids = {
            key_id(data_key, kind, generation, each)
            for kind in (1, 2)
            for generation in (1, 2)
            for each in (scope, ctx.encode(LOCAL))
        }
        answers = {
            FieldKey(data_key, mine, local, name).record_key(prefix).encrypt(b"s" * 12, b"text", None)
            for mine in (scope, ctx.encode(LOCAL))
            for local in (ctx.EMPTY, ctx.encode(LOCAL))
            for name in ("users.card", "users.name")
            for prefix in (b"p" * 12, b"q" * 12)
        }
    assert (len(ids), len(answers)) == (8, 16)


# --- rows


@pytest.mark.parametrize(
    ("row", "encoded"),
    [
        (0, "010000000100"),
        (127, "01000000017f"),
        (128, "01000000020080"),
        (-1, "0100000001ff"),
        (-128, "010000000180"),
        (-129, "0100000002ff7f"),
        (2**63, "0100000009008000000000000000"),
        ("", "0200000000"),
        ("é", "0200000002c3a9"),
        (b"", "0300000000"),
        (b"\0", "030000000100"),
        (uuid.UUID(int=1), "0400000000000000000000000000000001"),
        ((1, "a"), "0500020100000001010200000001" + "61"),
    ],
)
def test_rows_have_one_form(row: Any, encoded: str) -> None:
    assert encoder(type(row))(row).hex() == encoded


ROWS: st.SearchStrategy[Any] = (
    st.integers() | st.text(st.characters(codec="utf-8"), max_size=20) | st.binary(max_size=20) | st.uuids()
)
ROWS |= st.lists(ROWS, min_size=1, max_size=4).map(tuple)


@given(st.lists(ROWS, min_size=2, max_size=2))
def test_different_rows_have_different_forms(rows: list[Any]) -> None:
    first, second = (encoder(type(row))(row) for row in rows)
    assert (first == second) == (type(rows[0]) is type(rows[1]) and rows[0] == rows[1])


@pytest.mark.parametrize("kind", [bool, float, decimal.Decimal, datetime.date, list, None, "int", object])
def test_other_types_are_no_rows(kind: Any) -> None:
    with pytest.raises(TypeError, match="cannot be one"):
        encoder(kind)


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (int, "1"), (int, True), (int, 1.0), (int, None), (int, UNBOUND), (str, 1), (str, b"1"), (bytes, "1"),
        (uuid.UUID, str(uuid.UUID(int=1))), (tuple, [1]), (tuple, ((1,),)), (tuple, (1.0,)), (tuple, (True,)),
        (UNBOUND, 1), (UNBOUND, None),
    ],
)  # fmt: skip
def test_a_row_of_another_type_is_a_type_error(kind: Any, row: Any) -> None:
    with pytest.raises(TypeError):
        encoder(kind)(row)


@pytest.mark.parametrize("row", ["\ud800", "x" * 5000, (), (1,) * 65, ("x" * 3000,) * 2, 1 << 40_000], ids=str_of_type)
def test_a_row_that_cannot_be_written_down(row: Any) -> None:
    with pytest.raises(ValueError, match="row"):
        encoder(type(row))(row)


# --- values

TEXT = st.text(st.characters(codec="utf-8"), max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)  # fmt: skip
OFFSETS = st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)).map(
    lambda offset: datetime.timezone(datetime.timedelta(seconds=round(offset.total_seconds())))
)
MOMENTS = datetime.datetime(2, 1, 1), datetime.datetime(9998, 1, 1)  # noqa: DTZ001
VALUES = (
    st.binary(max_size=50)
    | st.text(st.characters(codec="utf-8"), max_size=50)
    | st.integers(-(2**300), 2**300)
    | st.booleans()
    | st.decimals()
    | st.dates()
    | st.datetimes(*MOMENTS, timezones=OFFSETS)
    | st.uuids()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.lists(JSON, max_size=3)
    | st.dictionaries(TEXT, JSON, max_size=3)
)


@given(VALUES)
def test_values_come_back_with_their_types(value: Any) -> None:
    again = decode(encode(value))
    assert type(again) is type(value)
    if isinstance(value, decimal.Decimal):
        assert str(again) == str(value)
    else:
        assert again == value
        assert repr(again) == repr(value) or isinstance(value, datetime.datetime)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    try:
        value = decode(data)
    except UnreadableValueError:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    "plaintext",
    [
        b"", b"\x00", b"\x0a", b"\xff", b"\2\xff", b"\3", b"\3\0\1", b"\3\xff\xff", b"\4", b"\x041_0", b"\4sNaN1x",
        b"\x04 1", b"\0052026-02-30", b"\00520260228", b"\0062026-02-28T12:00:00", b"\7short", b"\x08",
        b"\x08null", b'\x08"a"',
        b"\x081", b"\x08true", b"\x08[1, 2]", b"\x08NaN", b"\x08" + b"[" * 100_000, b"\x09", b"\x09\2",
        b"\x08" + b"9" * 5000 + b".5", b'\x08{"a":1,"a":1}',
    ],
)  # fmt: skip
def test_what_holds_no_value_has_an_error_of_its_own(plaintext: bytes) -> None:
    with pytest.raises(UnreadableValueError, match="authentic") as caught:
        decode(plaintext)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "value",
    [None, object(), (1, 2), {1: "a"}, {"a": (1,)}, {"a": {2: 3}}, {"a": b"x"}, {1, 2}, complex(1), datetime.time(1)],
)
def test_what_no_record_holds(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


NESTED: list[Any] = []
for _ in range(100_000):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    "value",
    [datetime.datetime(2026, 1, 1), "\ud800", {"a": "\ud800"}, math.nan, math.inf, [math.nan], NESTED],  # noqa: DTZ001
    ids=str_of_type,
)
def test_what_cannot_be_written_down(value: Any) -> None:
    with pytest.raises(ValueError, match=r"zone|Unicode|NaN|nested"):
        encode(value)


def test_an_instant_comes_back_from_a_named_zone() -> None:
    from zoneinfo import ZoneInfo

    for fold in (0, 1):
        local = datetime.datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=ZoneInfo("Europe/Berlin"))
        again = decode(encode(local))
        assert isinstance(again, datetime.datetime)
        assert again.utcoffset() == local.utcoffset()
        assert again.astimezone(datetime.UTC) == local.astimezone(datetime.UTC)


# --- forms


@given(st.binary(min_size=MIN_BYTES, max_size=200))
def test_text_and_binary_are_one_record(data: bytes) -> None:
    record = b"\xc1" + data[1:]
    text = to_text(record)
    assert from_text(text) == record
    assert parse(text).binary == parse(record).binary == record
    assert parse(text).key_id == record[1:17]
    assert is_record(record)
    assert is_record(text)


@given(st.binary(min_size=MIN_BYTES, max_size=80), st.data())
def test_text_has_one_form(data: bytes, draw: st.DataObject) -> None:
    text = to_text(b"\xc1" + data[1:])
    at = draw.draw(st.integers(0, len(text)))
    change = draw.draw(st.sampled_from(["=", "\n", " ", "A", "_", ".", "é", ""]))
    changed = text[:at] + change + text[at + draw.draw(st.integers(0, 1)) :]
    if changed != text:
        with contextlib.suppress(NotARecordError):
            assert to_text(from_text(changed)) == changed


@pytest.mark.parametrize(
    "value", ["", "swr1", "hello", b"", b"\xc1", b"\xc1" * 56, b"\x80" + bytes(80), 7, None, ["swr1."], memoryview(b"")]
)
def test_what_is_no_record(value: Any) -> None:
    assert not is_record(value)
    with pytest.raises((NotARecordError, TypeError)):
        parse(value)


@pytest.mark.parametrize("value", ["swr1.", "swr1..", "swr1.x", "swr1." + "A" * 22 + ".", "swr1." + "é" * 90])
def test_what_begins_like_a_record_is_never_plaintext(value: str) -> None:
    assert is_record(value)
    with pytest.raises(NotARecordError):
        parse(value)
