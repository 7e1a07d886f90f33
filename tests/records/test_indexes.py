"""Blind indexes: the frozen ones, a second reader, normalizers, and the life of index keys."""

from __future__ import annotations

import ast
import asyncio
import copy
import dataclasses
import datetime
import decimal
import json
import os
import pickle
import shutil
import sys
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import hypothesis.strategies as st
import pytest
from hypothesis import given

import sealwax
from sealwax import KmsKeyring, Records, errors
from sealwax.lab import Lab
from sealwax.records import KeyKind, KeyRow, KeyState, MemoryKeys
from sealwax.records._normalize import normalizer
from tests.fakes import FakeKeyring
from tests.kept.make import MADE
from tests.records import index_reader, reader
from tests.records.make_index_vectors import BITS, EXACT, NORMALIZERS, TEXTS, VECTORS
from tests.records.make_vectors import read
from tests.records.test_records import Clock, timed

FROZEN: Final[dict[str, Any]] = json.loads(VECTORS.read_text("utf-8"))
GROUPS: Final = FROZEN["groups"]
SCOPE: Final = {"app": "shop", "env": "prod"}
TEXT_NORMALIZERS: Final = NORMALIZERS[1:]
UNDEFINED: Final = ("Cn", "Cs")
ASSIGNED: Final = [each for each in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(each) not in UNDEFINED]
ALIKE: Final = [*"aAkKsßiIİ@.é", "\u212a", "\u017f", "\u0131", "\u0301"]


@pytest.fixture
def keyring() -> FakeKeyring:
    return FakeKeyring()


@pytest.fixture
def store() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def records(keyring: FakeKeyring, store: MemoryKeys) -> Iterator[Records]:
    with Records(keyring, store, scope=SCOPE) as records:
        yield records


# --- the frozen ones


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("kept") / "lab"
    shutil.copytree(MADE / "lab", folder)
    folder.chmod(0o700)
    for file in folder.iterdir():
        file.chmod(0o600)
    with Lab(folder) as lab:
        yield lab


def frozen_rows() -> Iterator[KeyRow]:
    for row in FROZEN["key_rows"]:
        key_id, blob = bytes.fromhex(row["key_id"]), bytes.fromhex(row["blob"])
        yield KeyRow(row["scope"], KeyKind(row["kind"]), 1, key_id, KeyState(row["state"]), 1_800_000_000, "", blob, 1)


def test_the_frozen_ones_have_every_form() -> None:
    frozen = [each for group in GROUPS for each in group["indexes"]]
    assert len(frozen) == 5 * (4 * len(TEXTS) + len(EXACT)) == 845
    assert {each["bits"] for each in frozen} == set(BITS)
    assert {each["normalizer"] for each in frozen} == set(NORMALIZERS)
    assert {(len(group["local_scope"]), group["shared"]) for group in GROUPS} == {(0, False), (1, False), (0, True)}


def test_the_second_reader_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(index_reader.__file__).read_text("utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "hmac" in imported
    assert not [name for name in imported if name.partition(".")[0] in ("sealwax", "tests")]


def test_the_second_reader_makes_each(lab: Lab) -> None:
    kms, arns = lab.session().client("kms"), list(FROZEN["keys"].values())
    keys = {
        reader.canonical(row.scope): reader.data_key_of(kms, arns, row.blob, row.scope, "records-index")
        for row in frozen_rows()
    }
    made = 0
    for group in GROUPS:
        for each in group["indexes"]:
            index = index_reader.index(
                keys[reader.canonical(group["scope"])],
                read(each["value"]),
                scope=group["scope"],
                local=group["local_scope"],
                field=each["field"],
                normalizer=each["normalizer"],
                bits=each["bits"],
            )
            assert index.hex() == each["index"]
            made += 1
    assert made == 845


def test_this_release_makes_each(lab: Lab) -> None:
    keyring = KmsKeyring(list(FROZEN["keys"].values()), session=lab.session())
    store = MemoryKeys()
    for row in frozen_rows():
        assert store.create(row) is row
    made = 0
    for group in GROUPS:
        with Records(keyring, store, scope=group["scope"], local_scope=tuple(group["local_names"])) as records:
            for each in group["indexes"]:
                about = {"normalize": each["normalizer"], "bits": each["bits"], "shared": group["shared"]}
                index = records.index(each["field"], **about, **group["local_scope"])
                assert index.of(read(each["value"])).hex() == each["index"]
                assert index.of_many([read(each["value"])] * 2) == [bytes.fromhex(each["index"])] * 2
                made += 1
    assert made == 845


# --- normalizers


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("exact/1", "Anna", b"\2Anna"),
        ("exact/1", "e\u0301", b"\2e\xcc\x81"),
        ("exact/1", "\u0378", b"\2\xcd\xb8"),  # not assigned, and no table is asked
        ("exact/1", b"Anna", b"\1Anna"),
        ("exact/1", bytearray(b"Anna"), b"\1Anna"),
        ("exact/1", 0, b"\3\0"),
        ("exact/1", datetime.date(2026, 2, 28), b"\0052026-02-28"),
        ("exact/1", uuid.UUID(int=1), b"\7" + bytes(15) + b"\1"),
        ("casefold-nfc/1", "ANNA", b"anna"),
        ("casefold-nfc/1", " Anna ", b" anna "),
        ("casefold-nfc/1", "Straße", b"strasse"),
        ("casefold-nfc/1", "ΣΊΣΥΦΟΣ", "σίσυφοσ".encode()),
        ("casefold-nfc/1", "Σίσυφος", "σίσυφοσ".encode()),
        ("casefold-nfc/1", "E\u0301", "é".encode()),
        ("casefold-nfc/1", "\u212a", b"k"),
        ("casefold-nfc/1", "\u1fb3", "\u03b1\u03b9".encode()),
        ("casefold-nfc/1", "\u03b1\u0345", "\u03b1\u03b9".encode()),
        ("casefold-nfc/1", "", b""),
        ("digits/1", "4111 1111-1111.1111", b"4111111111111111"),
        ("digits/1", "٤٢ ४२ 42", b"424242"),
        ("digits/1", "\uff14\U0001d7dc", b"44"),
        ("digits/1", "m²", b""),
        ("digits/1", "n/a", b""),
        ("email/1", " Anna.B+x@Example.COM\r\n", b"anna.b+x@example.com"),
        ("email/1", "E\u0301@EXAMPLE.com", "É@example.com".encode()),
        ("email/1", "mike@\u212a.com", "mike@\u212a.com".encode()),
        ("email/1", "\u037e\u1fef\u0301@x.de", "\u037e\u1fef\u0301@x.de".encode()),
        ("email/1", "straße@x.de", "straße@x.de".encode()),
        ("email/1", "anna", b"anna"),
    ],
)
def test_known_answers(name: str, given: object, expected: bytes) -> None:
    assert normalizer(name)(given) == expected


def test_casefold_takes_canonical_equivalents_and_cases_for_one() -> None:
    fold = normalizer("casefold-nfc/1")
    assert len(ASSIGNED) > 280_000
    for character in ASSIGNED:
        folded = fold(character)
        assert fold(folded.decode()) == folded
        if not character.isascii() and character < "\u4e00":
            for form in ("NFC", "NFD"):
                assert fold(unicodedata.normalize(form, character)) == folded
            assert fold(character.casefold()) == folded


@given(st.text(st.sampled_from(ASSIGNED)))
def test_normalizers_are_idempotent(text: str) -> None:
    for name in TEXT_NORMALIZERS:
        normalize = normalizer(name)
        once = normalize(text)
        assert normalize(once.decode()) == once


@given(st.text(st.sampled_from(ALIKE)))
def test_no_two_mailboxes_become_one(text: str) -> None:
    """Only the case of ASCII letters is dropped: with a folding of Unicode, the mail of one goes to the other."""
    same = unicodedata.normalize("NFC", text.replace("\u212a", "\ue000")).replace("\ue000", "\u212a")
    normalized = normalizer("email/1")(text).decode()
    assert len(normalized) == len(same)
    for before, after in zip(same, normalized, strict=True):
        assert before == after or (before.isascii() and before.lower() == after)


@pytest.mark.parametrize("name", TEXT_NORMALIZERS)
@pytest.mark.parametrize("character", ["\u0378", "\U000e0000", "\uffff", "\ud800"])
def test_what_unicode_does_not_define_is_refused(name: str, character: str) -> None:
    with pytest.raises(ValueError, match=r"Unicode") as caught:
        normalizer(name)(f"geheim{character}")
    assert "geheim" not in str(caught.value)
    assert character not in str(caught.value)


def test_text_that_is_not_unicode_has_no_exact_index_either() -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        normalizer("exact/1")("\ud800")


@pytest.mark.parametrize(
    "value",
    [None, True, 1.5, decimal.Decimal("1.0"), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), [], {}, object()],
)
def test_values_with_several_forms_have_no_index(value: object) -> None:
    for name in NORMALIZERS:
        with pytest.raises(TypeError, match="NoneType; store NULL" if value is None else type(value).__name__):
            normalizer(name)(value)
    for name in TEXT_NORMALIZERS:
        with pytest.raises(TypeError, match="takes a str"):
            normalizer(name)(b"anna")


@pytest.mark.parametrize("name", ["casefold-nfc", "casefold-nfc/2", "", "EMAIL/1"])
def test_there_are_no_other_normalizers(records: Records, name: str) -> None:
    with pytest.raises(ValueError, match="there are exact/1, casefold-nfc/1, digits/1, email/1"):
        records.index("users.email", normalize=name, bits=32)
    with pytest.raises(TypeError):
        records.index("users.email", normalize=None, bits=32)  # type: ignore[arg-type]


# --- indexes


def test_equal_values_are_found_and_others_are_not(records: Records) -> None:
    index = records.index("users.email", normalize="email/1", bits=128, tenant="acme")
    assert index.of("Anna@example.com") == index.of("anna@EXAMPLE.com ")
    assert len({index.of(f"{number}@example.com") for number in range(1000)}) == 1000
    assert index.same("Anna@example.com", "anna@EXAMPLE.com ")
    assert not index.same("anna@example.com", "bert@example.com")
    assert not index.same(None, "anna@example.com")
    assert not index.same(None, None)


@pytest.mark.parametrize("bits", BITS)
def test_an_index_has_its_bits_and_no_more(records: Records, bits: int) -> None:
    index = records.index("users.email", bits=bits)
    seen = [int.from_bytes(index.of(str(number)), "big") for number in range(300)]
    assert {len(index.of(str(number))) for number in range(300)} == {(bits + 7) // 8} == {index.size}
    spare = 8 * index.size - bits
    together, always = 0, ~0
    for number in seen:
        together, always = together | number, always & number
    # Each of the bits is 0 in one index and 1 in another; those beyond never are.
    assert together == (1 << bits) - 1 << spare
    assert always == 0


def test_each_part_counts(keyring: FakeKeyring, store: MemoryKeys) -> None:
    made: dict[bytes, object] = {}
    for scope in (SCOPE, {**SCOPE, "more": ""}):
        for local in ((), ("tenant",)):
            with Records(keyring, store, scope=scope, local_scope=local) as records:
                for tenant in ("acme", "other"):
                    for name in ("users.email", "users.name"):
                        for normalize in ("casefold-nfc/1", "email/1"):
                            for bits in (128, 129):
                                index = records.index(name, normalize=normalize, bits=bits, tenant=tenant)
                                made[index.of("anna")[:16]] = repr(index)
    assert len(made) == 64


def test_an_index_of_all_scopes_is_said_by_name(keyring: FakeKeyring, store: MemoryKeys) -> None:
    for local in ((), ("tenant",)):
        with Records(keyring, store, scope=SCOPE, local_scope=local) as records:
            shared = records.index("users.email", bits=128, shared=True)
            assert shared.of("anna") == records.index("users.email", bits=128, shared=True).of("anna")
            assert shared.of("anna") != records.index("users.email", bits=128, tenant="acme").of("anna")
            with pytest.raises(TypeError, match=r"leave out tenant="):
                records.index("users.email", bits=128, shared=True, tenant="acme")
    with Records(keyring, store, scope=SCOPE, local_scope=("tenant",)) as records, pytest.raises(errors.ContextError):
        records.index("users.email", bits=128)


@pytest.mark.parametrize("bits", [0, -1, 257])
def test_bits_have_a_range(records: Records, bits: int) -> None:
    with pytest.raises(ValueError, match="bits"):
        records.index("users.email", bits=bits)


@pytest.mark.parametrize("bits", [32.0, "32", True, None])
def test_bits_are_an_int(records: Records, bits: Any) -> None:
    with pytest.raises(TypeError, match="bits"):
        records.index("users.email", bits=bits)


def test_names_are_those_of_fields(records: Records) -> None:
    for bad in ("", "x" * 256):
        with pytest.raises(ValueError, match="1 to 255 bytes"):
            records.index(bad, bits=32)
    with pytest.raises(TypeError):
        records.index(b"users.email", bits=32)  # type: ignore[arg-type]


def test_index_keys_are_of_a_kind_of_their_own(records: Records, keyring: FakeKeyring, store: MemoryKeys) -> None:
    index = records.index("users.email", bits=32, tenant="acme")
    for number in range(10):
        index.of(str(number))
    assert keyring.calls == ["GenerateDataKey"]
    (row,) = store.list()
    assert row.kind is KeyKind.INDEX
    assert sealwax.inspect(row.blob).context == {**SCOPE, "tenant": "acme", "sealwax-use": "records-index"}


def test_who_may_not_open_may_search(store: MemoryKeys) -> None:
    class Searching(FakeKeyring):
        def unwrap(self, wrapped_keys: Any, context: Mapping[str, str], use: Callable[[Any], Any]) -> Any:
            if context["sealwax-use"] != "records-index":
                raise errors.AccessDeniedError("denied", code="AccessDeniedException")
            return super().unwrap(wrapped_keys, context, use)

    with Records(FakeKeyring(), store, scope=SCOPE) as records:
        sealed = records.field("users.email", row=int).seal("anna", row=1)
        made = records.index("users.email", bits=64).of("anna")
    with Records(Searching(), store, scope=SCOPE) as searching:
        assert searching.index("users.email", bits=64).of("anna") == made
        with pytest.raises(errors.AccessDeniedError):
            searching.field("users.email", row=int).open(sealed, row=1)


def test_an_index_is_the_same_everywhere(records: Records, store: MemoryKeys) -> None:
    made = records.index("users.email", bits=64, tenant="acme").of("anna")
    records.roll(tenant="acme")
    with Records(FakeKeyring(), store, scope=SCOPE) as other:
        assert other.index("users.email", bits=64, tenant="acme").of("anna") == made


def test_an_index_is_not_copied_or_shown(records: Records) -> None:
    index = records.index("users.email", bits=32)
    index.of("anna")
    for act in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            act(index)
    assert repr(index) == "<Index users.email (exact/1, 32 bits) of {app=shop, env=prod}>"


# --- the life of index keys


def test_an_event_loop_never_waits(records: Records, keyring: FakeKeyring) -> None:
    index = records.index("users.email", bits=32)

    async def main() -> None:
        with pytest.raises(errors.KeyNotLoadedError, match="ensure_async"):
            index.of("anna")
        assert keyring.calls == []
        await index.ensure_async()
        assert len(index.of("anna")) == 4

    asyncio.run(main())


def test_ensure_loads_once(records: Records, keyring: FakeKeyring) -> None:
    index = records.index("users.email", bits=32)
    for _ in range(3):
        index.ensure()
    index.of("anna")
    assert keyring.calls == ["GenerateDataKey"]


def test_keys_end_with_their_age(keyring: FakeKeyring, store: MemoryKeys) -> None:
    clock = Clock()
    with timed(clock, keyring, store, max_age=600.0) as records:
        index = records.index("users.email", bits=64)
        made = index.of("anna")
        clock.now += 400
        assert index.of("anna") == made
        assert keyring.calls == ["GenerateDataKey"]
        clock.now += 300
        assert index.of("anna") == made
        assert keyring.calls == ["GenerateDataKey", "Decrypt"]


def test_keys_are_dropped_with_what_they_are_from(keyring: FakeKeyring, store: MemoryKeys) -> None:
    records = Records(keyring, store, scope=SCOPE)
    index = records.index("users.email", bits=64)
    made = index.of("anna")
    records.clear()
    assert index.of("anna") == made
    assert keyring.calls == ["GenerateDataKey", "Decrypt"]
    records.close()
    with pytest.raises(ValueError, match="closed"):
        index.of("anna")


def test_a_shredded_scope_has_no_index(records: Records, store: MemoryKeys) -> None:
    index, other = (records.index("users.email", bits=64, tenant=tenant) for tenant in ("acme", "other"))
    made = index.of("anna"), other.of("anna")
    records.shred(tenant="acme")
    for each in (index, records.index("users.name", bits=64, tenant="acme")):
        with pytest.raises(errors.ShreddedError):
            each.of("anna")
    assert other.of("anna") == made[1]
    records.reopen(tenant="acme")
    again = index.of("anna")
    assert again != made[0]
    with Records(FakeKeyring(), store, scope=SCOPE) as elsewhere:
        assert elsewhere.index("users.email", bits=64, tenant="acme").of("anna") == again
    live = {(row.kind, row.generation) for row in store.list({"tenant": "acme"}) if row.state is KeyState.LIVE}
    assert live == {(KeyKind.DATA, 2), (KeyKind.INDEX, 3)}


def test_a_scope_that_is_shredded_again_meanwhile_stays_so(keyring: FakeKeyring) -> None:
    class Slow(MemoryKeys):
        shredding = False

        def newest(self, scope: Mapping[str, str], kind: KeyKind) -> KeyRow | None:
            row = super().newest(scope, kind)
            if self.shredding and kind is KeyKind.DATA:
                self.shredding = False
                self.shred(scope)
            return row

    store = Slow()
    with Records(keyring, store, scope=SCOPE) as records:
        index = records.index("users.email", bits=64)
        index.of("anna")
        records.shred()
        records.reopen()
        store.shredding = True
        with pytest.raises(errors.ShreddedError):
            index.of("anna")
        assert {row.state for row in store.list()} == {KeyState.SHREDDED}


def test_a_planted_data_key_is_no_index_key(keyring: FakeKeyring, store: MemoryKeys) -> None:
    with Records(keyring, store, scope=SCOPE) as records:
        records.ensure()
    row = store.newest(SCOPE, KeyKind.DATA)
    assert row is not None
    store.create(dataclasses.replace(row, kind=KeyKind.INDEX))
    with Records(keyring, store, scope=SCOPE) as records, pytest.raises(errors.KeyRowError):
        records.index("users.email", bits=64).of("anna")


def test_an_index_key_opens_no_record_and_seals_none(keyring: FakeKeyring, store: MemoryKeys) -> None:
    with Records(keyring, store, scope=SCOPE) as records:
        records.index("users.email", bits=64).ensure()
    row = store.newest(SCOPE, KeyKind.INDEX)
    assert row is not None
    store.create(dataclasses.replace(row, kind=KeyKind.DATA))
    with Records(keyring, store, scope=SCOPE) as records:
        field = records.field("users.email", row=int)
        for act in (lambda: field.seal("anna", row=1), lambda: records.ensure()):
            with pytest.raises(errors.KeyRowError):
                act()


@pytest.mark.parametrize("change", ["scope", "generation", "key_id"])
def test_an_index_key_is_of_its_row_alone(keyring: FakeKeyring, store: MemoryKeys, change: str) -> None:
    """Whoever writes to the key store cannot give two tenants one index, nor bring an index key back under a new id."""
    with Records(keyring, store, scope=SCOPE) as records:
        records.index("users.email", bits=64, tenant="evil").ensure()
    evil = store.newest({**SCOPE, "tenant": "evil"}, KeyKind.INDEX)
    assert evil is not None
    new: dict[str, dict[str, Any]] = {
        "scope": {"scope": {**SCOPE, "tenant": "acme"}},
        "generation": {"generation": 2, "claim": 2},
        "key_id": {"key_id": bytes(16)},
    }
    planted = MemoryKeys()
    planted.create(dataclasses.replace(evil, **new[change]))
    tenant = "acme" if change == "scope" else "evil"
    with Records(keyring, planted, scope=SCOPE) as records, pytest.raises(errors.KeyRowError):
        records.index("users.email", bits=64, tenant=tenant).of("anna")


def test_one_more_pair_of_the_scope_gives_another_index_key(records: Records, store: MemoryKeys) -> None:
    """The page advises it where an index key has leaked."""
    first = records.index("users.email", bits=64, tenant="acme")
    second = records.index("users.email", bits=64, tenant="acme", indexes="2")
    made = first.of("anna")
    assert second.of("anna") != made
    assert len({row.key_id for row in store.list() if row.kind is KeyKind.INDEX}) == 2
    records.shred(tenant="acme", indexes="2")
    with pytest.raises(errors.ShreddedError):
        second.of("anna")
    assert first.of("anna") == made


def test_rolling_retiring_and_counting_are_of_data_keys(records: Records, store: MemoryKeys) -> None:
    index = records.index("users.email", bits=64)
    made = index.of("anna")
    with pytest.raises(errors.KeyStoreError, match="missing"):
        records.retire(1)  # the index key has a generation 1, and no data key does
    records.ensure()
    records.roll()
    assert records.retire(1).kind is KeyKind.DATA
    assert index.of("anna") == made
    states = {(row.kind, row.generation): row.state for row in store.list()}
    live, retired = KeyState.LIVE, KeyState.RETIRED
    assert states == {(KeyKind.DATA, 1): retired, (KeyKind.DATA, 2): live, (KeyKind.INDEX, 1): live}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_fetches_its_own_key(records: Records, keyring: FakeKeyring) -> None:
    index = records.index("users.email", bits=64)
    made = index.of("anna")
    child = os.fork()
    if child == 0:
        same = index.of("anna") == made and keyring.calls == ["GenerateDataKey", "Decrypt"]
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
