"""The forms in which columns held values before records: what other libraries stored is read, and nothing else is."""

from __future__ import annotations

import base64
import contextlib
import copy
import datetime
import enum
import hashlib
import hmac
import io
import json
import os
import pickle
import struct
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from cryptography import fernet
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import example, given
from hypothesis import strategies as st

from sealwax.errors import NotPicklableError, OldFormError
from sealwax.records import moving
from sealwax.records.moving import (
    AesEngine,
    AesGcmEngine,
    AnyOf,
    DjangoCryptography,
    DjangoFernetEncryptedFields,
    DjangoFernetFields,
    Fernet,
    FernetEngine,
    OldForm,
    Plaintext,
)

UTC: Final = datetime.UTC
VECTORS: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "old-forms.json").read_text("utf-8")
)
KEYS: Final = [fernet.Fernet.generate_key().decode() for _ in range(3)]
TOKENS: Final = fernet.Fernet(KEYS[0])
SECRET: Final = "a key that nobody may see"
VALUE: Final = "4111 1111 1111 1111"
KINDS: Final = (str, bytes, int, bool, float, Decimal, datetime.date, datetime.datetime, UUID, dict, list)


class Color(enum.Enum):
    RED = "r"


def _read(kind: str, value: Any) -> Any:
    readers: dict[str, Callable[[Any], Any]] = {
        "bytes": bytes.fromhex,
        "Decimal": Decimal,
        "UUID": UUID,
        "date": datetime.date.fromisoformat,
        "datetime": datetime.datetime.fromisoformat,
    }
    return readers.get(kind, lambda value: value)(value)


def _form_of(name: str, arguments: dict[str, Any]) -> OldForm:
    given = dict(arguments)
    keys = given.pop("keys", None) or given.pop("secret_keys", None) or []
    if name == "FernetEngine":
        keys = [given.pop("key")]
    if "prefix" in given:
        given["prefix"] = given["prefix"].encode()
    if "field_key" in given:
        given["field_key"] = bytes.fromhex(given["field_key"])
    form: OldForm = getattr(moving, name)(*keys, zone=UTC, **given)
    return form


def _vectors() -> Iterator[tuple[str, OldForm, str | bytes, Any]]:
    """Yield what was stored, with its form and its value."""
    forms: dict[str, OldForm] = {}
    for part in VECTORS.values():
        for entry in part["values"]:
            key = json.dumps([entry["form"], entry["arguments"]])
            if key not in forms:
                forms[key] = _form_of(entry["form"], entry["arguments"])
            stored = entry["stored"].get("text")
            value = _read(entry["type"], entry["value"])
            if isinstance(value, datetime.datetime) and value.tzinfo is None:
                value = value.replace(tzinfo=UTC)
            yield entry["form"], forms[key], bytes.fromhex(entry["stored"]["hex"]) if stored is None else stored, value


def _all_forms() -> list[OldForm]:
    """Return a form of each kind that has keys, made once."""
    return [
        Plaintext(),
        Fernet(*KEYS[:2]),
        *(AesEngine(SECRET, padding) for padding in ("pkcs5", "oneandzeroes", "zeroes", "naive")),
        AesGcmEngine(SECRET),
        FernetEngine(SECRET, "older"),
        DjangoFernetFields(SECRET, "older"),
        DjangoFernetEncryptedFields(SECRET, salts="salt"),
        DjangoCryptography(SECRET),
        AnyOf(Fernet(KEYS[0]), DjangoCryptography(SECRET), AesGcmEngine(SECRET), Plaintext()),
    ]


FORMS: Final = _all_forms()


def test_what_the_libraries_stored_is_read_and_written() -> None:
    counts: Counter[str] = Counter()
    for name, form, stored, value in _vectors():
        assert form.recognizes(stored)
        read = form.read(stored, type(value))
        assert (read, type(read)) == (value, type(value)), name
        again = form.write(value, text=isinstance(stored, str))
        assert type(again) is type(stored)
        assert form.read(again, type(value)) == value
        counts[name] += 1
    assert counts == {
        "AesEngine": 128,
        "AesGcmEngine": 32,
        "FernetEngine": 32,
        "DjangoFernetFields": 46,
        "DjangoFernetEncryptedFields": 16,
        "DjangoCryptography": 27,
    }
    assert {library: part["made_with"][library] for library, part in VECTORS.items()} == {
        "django-cryptography": "1.1",
        "django-fernet-encrypted-fields": "0.4.0",
        "django-fernet-fields": "0.6",
        "django-fernet-fields-v2": "0.9",
        "djfernet": "0.8.1",
        "sqlalchemy-utils": "0.43.0",
    }


def test_what_is_authenticated_is_altered_nowhere() -> None:
    tried = 0
    for name, form, stored, value in _vectors():
        if name == "AesEngine" or tried > 150 or not isinstance(value, str) or len(value) > 100:
            continue
        data = base64.b64decode(stored, altchars=b"-_") if isinstance(stored, str) else stored
        at = tried % len(data)
        wrong = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        if isinstance(stored, str):
            standard = name == "AesGcmEngine"
            wrong = base64.b64encode(wrong) if standard else base64.urlsafe_b64encode(wrong)
        with pytest.raises(OldFormError):
            form.read(wrong, str)
        with pytest.raises(OldFormError):
            form.read(stored[:-4], str)
        tried += 1
    assert tried == 87


def test_another_key_is_an_error() -> None:
    written = {form.name: form.write(VALUE, text=form.name != "django-cryptography") for form in FORMS}
    others: list[OldForm] = [
        Fernet(KEYS[2]),
        AesGcmEngine("another"),
        FernetEngine("another"),
        DjangoFernetFields("another"),
        DjangoFernetFields(SECRET, prefix=b"another"),
        DjangoFernetEncryptedFields("another", salts="salt"),
        DjangoFernetEncryptedFields(SECRET, salts=["another"]),
        DjangoCryptography("another"),
    ]
    for form in others:
        with pytest.raises(OldFormError, match=r"was altered, or is of another key"):
            form.read(written[form.name], str)
    # The signature is of SECRET, and right: only the padding tells that the key is another, and one time in 256 it is
    # right by chance.
    encrypts_otherwise = (
        DjangoCryptography(SECRET, cryptography_key="another"),
        DjangoCryptography(SECRET, salt="another"),
        DjangoCryptography(SECRET, field_key=bytes(32)),
    )
    for form in encrypts_otherwise:
        with pytest.raises(OldFormError, match=r"was altered, or is of another key|does not hold a pickle"):
            form.read(written[form.name], str)


def test_the_newest_key_writes_and_every_key_reads() -> None:
    old, new = (fernet.Fernet(key) for key in KEYS[:2])
    form = Fernet(KEYS[1], KEYS[0])
    assert form.read(old.encrypt(b"1"), int) == form.read(new.encrypt(b"1").decode(), int) == 1
    assert new.decrypt(form.write("abc", text=True)) == b"abc"
    with pytest.raises(fernet.InvalidToken):
        old.decrypt(form.write("abc", text=False))
    for bad in ((), ("short",), (KEYS[0], "x" * 44), (KEYS[0], 7)):
        with pytest.raises(ValueError, match=r"key") as caught:
            Fernet(*bad)
        assert "xxx" not in "".join(traceback.format_exception(caught.value)[-1:])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7), ("-07", -7), ("+7", 7), ("1.5", 1.5), ("1e-7", 1e-7), ("1.50", Decimal("1.50")),
        ("Decimal('1.50')", Decimal("1.50")), ("-1E+5", Decimal("-1E+5")), ("true", True), ("True", True), ("t", True),
        ("1", True), ("0", False), ("false", False), ("2026-02-28", datetime.date(2026, 2, 28)),
        ("2026-02-28T01:02:03Z", datetime.datetime(2026, 2, 28, 1, 2, 3, tzinfo=UTC)),
        ("2026-02-28 01:02:03.000004+00:00", datetime.datetime(2026, 2, 28, 1, 2, 3, 4, tzinfo=UTC)),
        ("00000000-0000-0000-0000-00000000000A", UUID(int=10)), ("0" * 31 + "a", UUID(int=10)),
        ('{"a": [1, null]}', {"a": [1, None]}), ("[]", []), ("RED", Color.RED), ("swr", "swr"), ("", ""),
    ],
)  # fmt: skip
def test_text_is_read_as_its_type(text: str, value: object) -> None:
    for form in (Plaintext(), Fernet(KEYS[0])):
        read = form.read(Fernet(KEYS[0]).write(text, text=True) if form.name == "fernet" else text, type(value))
        assert (read, type(read)) == (value, type(value))
        again = form.write(value, text=False)
        assert form.read(again, type(value)) == form.read(memoryview(again), type(value)) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", int), (" 7", int), ("7_000", int), ("٤٢", int), ("7.0", int), ("9" * 5000, int), ("nan", float),
        ("inf", float), ("1e99999", float), ("", Decimal), (".", Decimal), ("NaN", Decimal), ("Infinity", Decimal),
        ("9" * 5000, Decimal), ("yes", bool), ("", bool), ("28.02.2026", datetime.date), ("2026-02-30", datetime.date),
        ("2026-02-28", UUID), ("NaN", list), ("[NaN]", list), ("{}", list), ("1", dict), ("[" * 100_000, list),
        ("GREEN", Color), ("r", Color), ("x", tuple), ("x", bytes), ("2026-02-28T01:02:03", datetime.datetime),
    ],
)  # fmt: skip
def test_text_of_no_value_is_refused(text: str, kind: type) -> None:
    with pytest.raises(OldFormError, match=r"^a stored value cannot be read as plaintext: ") as caught:
        Plaintext().read(text, kind)
    assert len(str(caught.value)) < 200
    assert text not in str(caught.value).partition("plaintext: ")[2].split() or not text


def test_plaintext_takes_what_columns_of_other_types_hold() -> None:
    for value in (7, True, 1.5, Decimal("1.5"), datetime.date(2026, 2, 28), UUID(int=1), {"a": 1}, [1], b"\xff"):
        assert Plaintext().read(value, type(value)) == value
    assert Plaintext().read(1, bool) is True
    wrong: list[tuple[object, type]] = [(2, bool), (True, int), (datetime.datetime.now(UTC), datetime.date)]
    for stored, kind in [*wrong, (1.5, Decimal), ([], dict), ("x", bytes)]:
        with pytest.raises(OldFormError, match=r"the column holds"):
            Plaintext().read(stored, kind)
    with pytest.raises(OldFormError, match=r"the column is one of text, and the value bytes"):
        Plaintext().write(b"x", text=True)


def test_datetimes_without_a_zone_are_of_the_zone_that_is_given() -> None:
    summer = datetime.datetime(2026, 7, 1, 12, tzinfo=UTC)
    berlin = ZoneInfo("Europe/Berlin")
    for make in (Plaintext, lambda zone: Fernet(KEYS[0], zone=zone), lambda zone: DjangoCryptography("x", zone=zone)):
        form: OldForm = make(zone=berlin)
        stored = form.write(summer, text=False)
        assert form.read(stored, datetime.datetime) == summer
        with pytest.raises(OldFormError, match=r"a datetime without a time zone; pass the zone="):
            make(zone=None).read(stored, datetime.datetime)
        with pytest.raises(OldFormError, match=r"has no time zone"):
            form.write(summer.replace(tzinfo=None), text=False)
        # 02:30 comes twice on that night, and 00:30 UTC is the first one.
        first = datetime.datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
        read = form.read(form.write(first, text=False), datetime.datetime)
        assert isinstance(read, datetime.datetime)
        assert read.astimezone(UTC) == first
        with pytest.raises(OldFormError, match=r"comes twice"):
            form.write(first + datetime.timedelta(hours=1), text=False)
    assert Plaintext(zone=berlin).write(summer, text=True) == "2026-07-01T14:00:00"
    assert Plaintext(zone=berlin).read(datetime.datetime(2026, 7, 1, 14), datetime.datetime) == summer  # noqa: DTZ001


@pytest.mark.parametrize("padding", ["pkcs5", "oneandzeroes", "zeroes", "naive"])
def test_each_padding_gives_back_every_length(padding: Any) -> None:
    form = AesEngine(SECRET, padding)
    for length in range(50):
        for end in ("", "\0", "\x01", "\x10", "\u0080", "*"):
            value = "é" * (length % 3) + "x" * length + end
            if padding == "naive" and end == "*":
                with pytest.raises(OldFormError, match=r"strip the asterisk"):
                    form.write(value, text=True)
            else:
                assert form.read(form.write(value, text=True), str) == value
    with pytest.raises(ValueError, match=r"padding is"):
        AesEngine(SECRET, "iso")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("padding", "padded"),
    [
        ("pkcs5", b"abc" + b"\1" * 12 + b"\x0d"), ("pkcs5", b"a" * 15 + b"\0"), ("pkcs5", b"a" * 15 + b"\x11"),
        ("pkcs5", b"a" * 16), ("zeroes", b"abc" + b"\1" * 12 + b"\x0d"), ("zeroes", b"a" * 15 + b"\0"),
        ("zeroes", b"\0" * 15 + b"\x11"), ("oneandzeroes", b"a" * 16), ("oneandzeroes", b"\0" * 16),
        ("oneandzeroes", b"a" * 15 + b"\x80" + b"\0" * 16), ("naive", b"a" * 16), ("naive", b"\xff" * 15 + b"*"),
    ],
)  # fmt: skip
def test_what_was_padded_otherwise_is_refused(padding: Any, padded: bytes) -> None:
    key = hashlib.sha256(SECRET.encode()).digest()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    stored = base64.b64encode(encryptor.update(padded) + encryptor.finalize())
    with pytest.raises(OldFormError, match=r"its padding is wrong|not hold text in UTF-8"):
        AesEngine(SECRET, padding).read(stored, str)


def test_a_wrong_key_of_aes_engine_is_hardly_ever_taken_for_text() -> None:
    """Nothing is authenticated: the padding and UTF-8 find it, nearly always."""
    for padding in ("pkcs5", "oneandzeroes", "zeroes", "naive"):
        stored = AesEngine(SECRET, padding).write(VALUE, text=True)
        found = 0
        for number in range(300):
            try:
                AesEngine(f"wrong {number}", padding).read(stored, str)
            except OldFormError:
                found += 1
        assert found >= 298


def test_a_chain_takes_the_first_form_that_recognizes() -> None:
    chain = AnyOf(Fernet(KEYS[0]), DjangoCryptography(SECRET), Plaintext())
    assert chain.name == "fernet or django-cryptography or plaintext"
    assert Fernet(KEYS[0]).read(chain.write("abc", text=True), str) == "abc"
    for form in chain.forms:
        assert chain.read(form.write("abc", text=False), str) == "abc"
    for plain in ("gAAAA", "", "gAAAAABé" + "x" * 100, b"\x80\x04\x95", "გამარჯობა"):
        assert chain.read(plain, type(plain)) == plain
    # What looks like a token and is none is not plaintext.
    with pytest.raises(OldFormError, match=r"^a stored value cannot be read as fernet: it is not a token"):
        chain.read(Fernet(KEYS[1]).write("abc", text=True), str)
    # Nor is what was cut off, as columns that are too short do, or came with a line of its own.
    for form in chain.forms[:2]:
        stored = form.write("abc", text=False)
        assert isinstance(stored, bytes)
        for cut in (stored[:20], stored[:50], stored[:-1], stored.strip(b"=")):
            assert form.recognizes(cut)
        assert chain.forms[0].recognizes(b"\n" + stored) is (form.name == "fernet")
        for cut in (stored[:20], stored[:50], stored[:-3]):
            with pytest.raises(OldFormError, match=r"it is not a token|altered, or is of another key|too short"):
                chain.read(cut, bytes)
    with pytest.raises(OldFormError, match=r"^a stored value does not look like fernet or aes-engine$"):
        AnyOf(Fernet(KEYS[0]), AesEngine(SECRET)).read("plain", str)
    with pytest.raises(ValueError, match=r"comes last"):
        AnyOf(Plaintext(), Fernet(KEYS[0]))
    with pytest.raises(ValueError, match=r"at least one"):
        AnyOf()


def test_json_of_django_fernet_encrypted_fields_is_opened_leaf_by_leaf() -> None:
    form = DjangoFernetEncryptedFields(SECRET, salts="salt")
    stored = form.write({"a": [1, None, "x"]}, text=True)
    assert form.read(stored, dict) == form.read(json.loads(stored), dict) == {"a": ["1", "None", "x"]}
    chain = AnyOf(form, Plaintext())
    assert chain.read('{"a": 1}', dict) == {"a": 1}
    assert chain.read(stored, dict) == form.read(stored, dict)
    for wrong in ('{"a": 1}', "[1", '"gAAA', "1", json.dumps({"a": TOKENS.encrypt(b"x").decode()})):
        with pytest.raises(OldFormError):
            form.read(wrong, dict)


# --- django-cryptography: pickles


def _signed(data: bytes, *, at: int | None = None, version: int = 0x80) -> bytes:
    """Return what django-cryptography stores of a pickle, as its documentation has it: independent of the reader."""
    key = hashlib.pbkdf2_hmac("sha256", SECRET.encode(), b"django-cryptography", 30_000)
    vector, count = os.urandom(16), 16 - len(data) % 16
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    encrypted = encryptor.update(data + bytes([count]) * count) + encryptor.finalize()
    signed = struct.pack(">BQ", version, int(time.time()) if at is None else at) + vector + encrypted
    return signed + hmac.digest(SECRET.encode(), signed, "sha256")


PICKLES: Final = DjangoCryptography(SECRET)


def _pickled(value: object, protocol: int = 4) -> bytes:
    out = io.BytesIO()
    pickle.Pickler(out, protocol).dump(value)
    return out.getvalue()


def test_pickles_of_every_protocol_of_python_3_are_read() -> None:
    berlin = datetime.datetime(2026, 2, 28, 1, 2, 3, 4, tzinfo=ZoneInfo("Europe/Berlin"))
    values: list[Any] = [
        "გამარჯობა", b"\0\xff", 7, -(2**80), True, 1.5, Decimal("1.50"), datetime.date(2026, 2, 28), berlin,
        berlin.astimezone(UTC), UUID(int=7), {"a": [1, {"b": None}]}, [1, "x"],
    ]  # fmt: skip
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        for value in values:
            read = PICKLES.read(_signed(_pickled(value, protocol)), type(value))
            assert (read, type(read)) == (value, type(value))
    assert PICKLES.read(_signed(_pickled({"a": (1, 2)})), dict) == {"a": [1, 2]}


class Touched:
    """What a pickle must not make."""

    times = 0

    def __init__(self) -> None:
        Touched.times += 1

    def __reduce__(self) -> tuple[object, ...]:
        return Touched, ()


def _call(module: str, name: str, *arguments: bytes) -> bytes:
    return b"\x80\x04c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR."


@pytest.mark.parametrize(
    "attack",
    [
        _pickled(object.__new__(Touched)),
        _call("os", "system", b"X\x04\x00\x00\x00true"),
        _call("builtins", "eval", b"X\x01\x00\x00\x001"),
        _call("builtins", "getattr", b"cbuiltins\nint\n", b"X\x03\x00\x00\x00min"),
        _call("builtins", "getattr", b"cdecimal\nDecimal\n", b"X\x08\x00\x00\x00__init__"),
        _call("builtins", "getattr", b"cdecimal\nDecimal\n", b"X\x09\x00\x00\x00_function"),
        _call("builtins", "getattr", b"cdecimal\nDecimal\n", b"X\x09\x00\x00\x00_function")[:-1] + b")R.",
        _call("datetime", "datetime.now"),
        _call("zoneinfo", "ZoneInfo", b"X\x0d\x00\x00\x00../etc/passwd"),
        b"\x80\x04ios\nsystem\n(X\x04\x00\x00\x00truetR.",
        b"\x80\x02(X\x04\x00\x00\x00trueios\nsystem\n.",
        b"\x80\x02(cos\nsystem\nX\x04\x00\x00\x00trueo.",
        b"\x80\x02P1\n.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02\x82\x01.",
        b"\x80\x05\x97.",
        # A memo of 2^31 entries, and one by text.
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",
        b"\x80\x02K\x01p2147483647\n.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        # A list within itself, and one that grows by doubling.
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ce" % (n + 1, n, n) for n in range(60)) + b".",
        # A stand-in is given another state.
        b"\x80\x02cdecimal\nDecimal\n}X\x09\x00\x00\x00_functionK\x01sb.",
        b"\x80\x02cdecimal\nDecimal\nN}X\x09\x00\x00\x00_functionK\x01s\x86b.",
        b"\x80\x02cuuid\nUUID\n)\x81}X\x03\x00\x00\x00intX\x01\x00\x00\x00xsb.",
        b"\x80\x02cuuid\nUUID\n)\x81.",
        b"\x80\x02cuuid\nUUID\nN}X\x0c\x00\x00\x00__setstate__K\x01s\x86b.",
        b"",
        b".",
        b"\x80\x04N",
        _pickled({1, 2}),
        _pickled(Color.RED),
        _pickled(None),
    ],
)
def test_pickles_of_anything_else_are_refused(attack: bytes) -> None:
    for kind in (str, list, UUID, Decimal):
        with pytest.raises(
            OldFormError, match=r"^a stored value cannot be read as django-cryptography: it (holds|does not hold) "
        ):
            PICKLES.read(_signed(attack), kind)
    assert Touched.times == 0
    assert PICKLES.read(_signed(_pickled(Decimal("1.5"))), Decimal) == Decimal("1.5")
    assert PICKLES.read(_signed(_pickled(UUID(int=5))), UUID) == UUID(int=5)


@pytest.mark.parametrize("memo", [b"r\x00\x00\x40\x00", b"p4194304\n"])
def test_a_pickle_cannot_ask_for_memory(memo: bytes) -> None:
    stored = _signed(b"\x80\x02K\x01" + memo + b".")
    tracemalloc.start()
    try:
        with pytest.raises(OldFormError):
            PICKLES.read(stored, int)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_class_of_a_program_is_named() -> None:
    with pytest.raises(OldFormError, match=r"an object of tests\.records\.test_old_forms\.Color, and objects of prog"):
        PICKLES.read(_signed(_pickled(Color.RED)), str)
    with pytest.raises(OldFormError, match=r"object of a\.\\x1b\[2J, and"):
        PICKLES.read(_signed(b"\x80\x02ca\n\x1b[2J\n."), str)


def test_expired_values_are_an_error_only_with_a_ttl() -> None:
    stored = _signed(_pickled("x"), at=int(time.time()) - 1000)
    assert PICKLES.read(stored, str) == "x"
    assert DjangoCryptography(SECRET, ttl=1000).read(stored, str) == "x"  # a minute of tolerance, as it had
    with pytest.raises(OldFormError, match=r"it has expired: it is older than ttl"):
        DjangoCryptography(SECRET, ttl=900).read(stored, str)
    # Expiry is no matter of values that nobody signed.
    with pytest.raises(OldFormError, match=r"was altered, or is of another key"):
        DjangoCryptography(SECRET, ttl=900).read(stored[:-1] + bytes([stored[-1] ^ 1]), str)
    with pytest.raises(OldFormError, match=r"was altered"):
        PICKLES.read(_signed(_pickled("x"), version=0x81), str)
    with pytest.raises(ValueError, match=r"16, 24 or 32"):
        DjangoCryptography(SECRET, field_key=b"short")


# --- of every form


@given(data=st.binary(max_size=200) | st.text(max_size=60), kind=st.sampled_from(KINDS))
@example(data="\ud800", kind=str)
@example(data=b"\x80" + bytes(200), kind=str)
@example(data="A" * 64, kind=str)
def test_any_bytes_give_a_value_or_an_error(data: bytes | str, kind: type) -> None:
    for form in FORMS:
        assert isinstance(form.recognizes(data), bool)
        with contextlib.suppress(OldFormError):
            assert type(form.read(data, kind)) is kind


_SHARDS: Final = (
    st.sampled_from([b"\x80\x04", b"}", b"]", b"(", b"t", b"R", b"b", b"N", b"\x81", b")", b"K\x01", b"\x94", b"."])
    | st.sampled_from([b"cuuid\nUUID\n", b"cdecimal\nDecimal\n", b"cdatetime\ndatetime\n", b"X\x03\x00\x00\x00int"])
    | st.binary(max_size=4)
)


@given(data=st.binary(max_size=80) | st.lists(_SHARDS, max_size=20).map(b"".join), kind=st.sampled_from(KINDS))
def test_any_authentic_bytes_give_a_value_or_an_error(data: bytes, kind: type) -> None:
    gcm = AesGcmEngine(SECRET)
    for form, stored in ((Fernet(KEYS[0]), TOKENS.encrypt(data)), (PICKLES, _signed(data)), (gcm, data)):
        with contextlib.suppress(OldFormError):
            assert type(form.read(stored, kind)) is kind


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_form_shows_neither_keys_nor_values(form: OldForm) -> None:
    in_text = form.name != "django-cryptography"
    secrets = [SECRET, *KEYS, VALUE, VALUE.encode().hex(), hashlib.sha256(SECRET.encode()).hexdigest()]
    stored = form.write(VALUE, text=in_text)
    failures: list[BaseException] = []
    calls: tuple[Callable[[], object], ...] = (
        lambda: form.read(stored, int),
        lambda: form.read(stored, UUID),
        lambda: form.read(stored, Color),
        lambda: form.read(stored + stored[:1] * 3 if form.name != "plaintext" else b"\xff" + VALUE.encode(), str),  # type: ignore[operator]
        lambda: form.write({VALUE: float("nan"), "x": {VALUE}}, text=in_text),
        lambda: form.write({VALUE}, text=in_text),
        lambda: form.write(datetime.datetime(4111, 1, 1), text=in_text),  # noqa: DTZ001
        lambda: form.write(VALUE + "\ud800", text=False),
    )
    for call in calls:
        try:
            call()
        except OldFormError as error:
            failures.append(error)
    assert len(failures) >= 5
    for failure in failures:
        assert failure.__cause__ is None
        assert failure.__context__ is None
        assert not _shown(failure, secrets)
    assert not any(secret in repr(form) for secret in secrets)
    assert copy.copy(form) is form
    assert copy.deepcopy(form) is form


def _shown(failure: BaseException, secrets: list[str]) -> list[str]:
    """Return the secrets in a message, and in the variables of the frames of the package."""
    said = [str(failure), repr(failure)]
    for frame, _ in traceback.walk_tb(failure.__traceback__):
        if "/sealwax/" in frame.f_code.co_filename:
            said += map(repr, frame.f_locals.values())
    return [secret for secret in secrets if any(secret in text for text in said)]


@pytest.mark.parametrize("form", [form for form in FORMS if form.name != "plaintext"], ids=lambda form: form.name)
def test_keys_are_not_pickled(form: OldForm) -> None:
    with pytest.raises(NotPicklableError, match=r"make it in the other process"):
        pickle.dumps(form)


def test_plaintext_has_no_keys_and_is_pickled() -> None:
    form = pickle.loads(pickle.dumps(Plaintext(zone=UTC)))
    assert form.read("2026-02-28T01:02:03", datetime.datetime).tzinfo is UTC
