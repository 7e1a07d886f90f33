"""Each attack on records that their design names, and the error that refuses it; before KMS is called, if possible."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

import sealwax
from sealwax import errors
from sealwax._core import context as ctx
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.keyring import DataKey, WrappedKey
from sealwax.lab import Lab
from sealwax.records import KeyKind, KeyRow, KeyState, MemoryKeys, Records, is_record
from sealwax.records._blob import kms_context
from sealwax.records._form import to_text
from tests.fakes import ALPHA, BETA, FakeKeyring, wrap
from tests.records.test_records import ACME, SCOPE, Planted, again, data_key_of

EVIL = {**SCOPE, "tenant": "evil"}


@pytest.fixture
def keyring() -> FakeKeyring:
    return FakeKeyring()


@pytest.fixture
def store() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def records(keyring: FakeKeyring, store: MemoryKeys) -> Iterator[Records]:
    with Records(keyring, store, scope=SCOPE, local_scope=["shard"]) as records:
        yield records


def row_of(store: MemoryKeys, scope: Mapping[str, str] = ACME) -> KeyRow:
    row = store.newest(scope, KeyKind.DATA)
    assert row is not None
    return row


# --- a record is moved

_Move = Callable[[Records, MemoryKeys], tuple[Records, dict[str, Any]]]
_HOME: dict[str, Any] = {"name": "users.card", "row": 7, "tenant": "acme", "shard": "1"}


def _elsewhere(**change: Any) -> _Move:
    return lambda records, _: (records, {**_HOME, **change})


def _in(scope: Mapping[str, str]) -> _Move:
    return lambda records, store: (Records(records.keyring, store, scope=scope, local_scope=["shard"]), _HOME)


MOVES: dict[str, tuple[_Move, type[errors.SealwaxError]]] = {
    "row": (_elsewhere(row=8), errors.RecordTamperedError),
    "row of another type": (_elsewhere(row="7"), errors.RecordTamperedError),
    "no row": (_elsewhere(row=sealwax.records.UNBOUND), errors.RecordTamperedError),
    "row in a tuple": (_elsewhere(row=(7,)), errors.RecordTamperedError),
    "column": (_elsewhere(name="users.name"), errors.RecordTamperedError),
    "table": (_elsewhere(name="admins.card"), errors.RecordTamperedError),
    "case of the field": (_elsewhere(name="Users.card"), errors.RecordTamperedError),
    "local pair": (_elsewhere(shard="2"), errors.RecordTamperedError),
    "tenant": (_elsewhere(tenant="evil"), errors.UnknownKeyError),
    "tenant in other case": (_elsewhere(tenant="ACME"), errors.UnknownKeyError),
    "environment": (_in({**SCOPE, "env": "test"}), errors.UnknownKeyError),
    "application": (_in({**SCOPE, "app": "blog"}), errors.UnknownKeyError),
    "wider scope": (_in({**SCOPE, "more": "x"}), errors.UnknownKeyError),
    "store": (
        lambda records, _: (Records(records.keyring, MemoryKeys(), scope=SCOPE, local_scope=["shard"]), _HOME),
        errors.UnknownKeyError,
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_a_moved_record_is_refused_before_kms(
    records: Records, store: MemoryKeys, keyring: FakeKeyring, name: str
) -> None:
    field = records.field("users.card", row=int, tenant="acme", shard="1")
    sealed = field.seal(b"4111", row=7)
    records.ensure(tenant="evil")
    move, error = MOVES[name]
    thief, there = move(records, store)
    there = dict(there)
    row = there.pop("row")
    kind = row if row is sealwax.records.UNBOUND else type(row)
    keyring.calls.clear()
    other = thief.field(there.pop("name"), row=kind, **there)
    for form in (sealed, to_text(sealed), bytearray(sealed), memoryview(sealed)):
        with pytest.raises(error) as refused:
            other.open(form, row=row)
        assert type(refused.value) is error
        assert "4111" not in str(refused.value)
    with pytest.raises(error):
        other.open_many([sealed], rows=row if kind is sealwax.records.UNBOUND else [row])
    assert keyring.calls == []
    assert field.open(sealed, row=7) == b"4111"


def test_every_move_is_tried() -> None:
    assert len(MOVES) == 14


def test_a_record_whose_id_is_exchanged_does_not_open(records: Records) -> None:
    """Another generation's id, whose key is known here, makes nothing of it."""
    field = records.field("f", row=int, tenant="acme", shard="1")
    old = field.seal(b"x", row=1)
    records.roll(tenant="acme")
    new = field.seal(b"x", row=1)
    for forged in (old[:1] + new[1:17] + old[17:], new[:1] + old[1:17] + new[17:], new[:29] + old[29:]):
        with pytest.raises(errors.RecordTamperedError):
            field.open(forged, row=1)


def test_what_records_do_not_prevent(records: Records) -> None:
    """The threat model says so: no freshness within a row, and whoever has the data key can make what he likes."""
    field = records.field("f", row=int, tenant="acme", shard="1")
    older = field.seal(b"old", row=1)
    assert field.seal(b"new", row=1) != older
    assert field.open(older, row=1) == b"old"


# --- what stands in a column is no record, or looks like one


@pytest.mark.parametrize("value", [None, 7, 1.5, ["x"]])
def test_null_is_neither_sealed_nor_opened(records: Records, value: Any) -> None:
    field = records.field("f", row=int, tenant="acme", shard="1")
    assert not is_record(value)
    with pytest.raises(TypeError):
        field.open(value, row=1)
    if value is None:
        with pytest.raises(TypeError, match="None"):
            field.seal(cast("Any", value), row=1)


@pytest.mark.parametrize("value", [b"", "", b"\xc1", "swr1", "swr1.", b"swr1.", b"\xc1" * 56, "gAAAAA", b"\x00" * 100])
def test_what_is_no_record_is_never_taken_for_plaintext(
    records: Records, keyring: FakeKeyring, value: bytes | str
) -> None:
    field = records.field("f", row=int, tenant="acme", shard="1")
    with pytest.raises(errors.NotARecordError):
        field.open(value, row=1)
    assert keyring.calls == []


def test_a_value_that_looks_sealed_is_sealed_again(records: Records) -> None:
    field = records.field("f", row=int, tenant="acme", shard="1")
    value: Any = b"x"
    depth = 3
    for _ in range(depth):
        value = field.seal(value, row=1)
    for _ in range(depth):
        assert is_record(value)
        value = field.open(value, row=1)
    assert value == b"x"
    for typed in ("swr1.", "swr1." + "A" * 100, to_text(b"\xc1" + bytes(80)), b"\xc1" + bytes(80)):
        assert field.open(field.seal(typed, row=1), row=1) == typed
        assert field.open(field.seal_text(typed, row=1), row=1) == typed


# --- a key row is altered

COLUMNS: dict[str, tuple[dict[str, Any], bool]] = {
    "generation and claim": ({"generation": 2, "claim": 2}, True),
    "claim": ({"claim": 9}, False),
    "generation": ({"generation": 7}, False),
    "kind": ({"kind": KeyKind.INDEX}, False),
    "key id": ({"key_id": bytes(16)}, True),
    "scope": ({"scope": EVIL}, False),
    "wider scope": ({"scope": {**ACME, "more": "x"}}, False),
    "no blob": ({"blob": b""}, False),
    "large blob": ({"blob": bytes(8193)}, False),
    "blob and more": ({"blob": "more"}, True),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_an_altered_key_row_is_refused(records: Records, store: MemoryKeys, name: str) -> None:
    records.ensure(tenant="acme")
    row = row_of(store)
    change, asks_kms = COLUMNS[name]
    if change.get("blob") == "more":
        change = {"blob": row.blob + b"\0"}
    planted = dataclasses.replace(row, **change)
    with again(Planted(planted)) as other:
        acts: list[Callable[[], object]] = [
            lambda: other._ring(planted.scope, planted.kind).load_newest(),
            lambda: other._ring(planted.scope, planted.kind)._load(planted.key_id),
            lambda: other._ring(planted.scope, planted.kind).load_all(),
        ]
        for act in acts:
            with pytest.raises(errors.KeyRowError) as refused:
                act()
            assert "generation" in str(refused.value)
        assert other.stats().data_keys == 0
        assert isinstance(other.keyring, FakeKeyring)
        assert bool(other.keyring.calls) == asks_kms


def test_generations_cannot_be_exchanged(records: Records, store: MemoryKeys) -> None:
    records.ensure(tenant="acme")
    records.roll(tenant="acme")
    first, second = store.get_many(ACME)
    assert data_key_of(first) != data_key_of(second)
    for planted in (
        dataclasses.replace(first, blob=second.blob),
        dataclasses.replace(second, blob=first.blob),
        dataclasses.replace(first, generation=2, claim=2),
        dataclasses.replace(first, key_id=second.key_id),
    ):
        with again(Planted(planted)) as other, pytest.raises(errors.KeyRowError):
            other.ensure(tenant="acme")


def envelope(wrapped: WrappedKey, secret: bytes, context: Mapping[str, str], plaintext: bytes = b"") -> bytes:
    """Return an envelope with this data key and header, as anybody may put one together."""
    envelope_id, kms = os.urandom(16), ctx.encode(context)
    info = payload.info(1, envelope_id, kms, ctx.EMPTY)
    with DataKey(bytearray(secret)) as key:
        header = hdr.new_header(envelope_id, kms, 0, (wrapped,), 1, hdr.ATTACHED)
        return payload.encrypt(payload.Encryptor(key, info), header, plaintext)


def test_the_data_key_of_an_envelope_is_no_data_key_of_records(
    records: Records, store: MemoryKeys, keyring: FakeKeyring
) -> None:
    """Whoever reads an envelope may know its data key: KMS has wrapped it for another context."""
    records.ensure(tenant="acme")
    row, use = row_of(store), kms_context(ACME, KeyKind.DATA)
    secret = os.urandom(32)
    of_envelope = wrap(ALPHA, secret, ACME)
    of_index = wrap(ALPHA, secret, kms_context(ACME, KeyKind.INDEX))
    of_evil = wrap(ALPHA, secret, kms_context(EVIL, KeyKind.DATA))
    for wrapped in (of_envelope, of_index, of_evil):
        with again(Planted(dataclasses.replace(row, blob=envelope(wrapped, secret, use)))) as other:
            with pytest.raises(errors.WrappedKeyRefusedError):
                other.ensure(tenant="acme")
            assert other.stats().data_keys == 0
    sealed = sealwax.Sealer(keyring).encrypt(b"", context=ACME)
    for blob in (sealed, envelope(of_envelope, secret, ACME), envelope(of_evil, secret, ACME)):
        with again(Planted(dataclasses.replace(row, blob=blob))) as other:
            with pytest.raises(errors.KeyRowError):
                other.ensure(tenant="acme")
            assert isinstance(other.keyring, FakeKeyring)
            assert other.keyring.calls == []


def test_a_new_data_key_does_not_fit_the_row(records: Records, store: MemoryKeys) -> None:
    """As re-encrypting a row would make: the row has another id than its key."""
    records.ensure(tenant="acme")
    row, use, secret = row_of(store), kms_context(ACME, KeyKind.DATA), os.urandom(32)
    for plaintext, match in ((b"", "another key than its id says"), (b"data", "an envelope of data")):
        blob = envelope(wrap(ALPHA, secret, use), secret, use, plaintext)
        planted = Planted(dataclasses.replace(row, blob=blob))
        with again(planted) as other, pytest.raises(errors.KeyRowError, match=match):
            other.ensure(tenant="acme")


def test_a_row_under_a_foreign_kms_key_is_refused_before_kms(records: Records, store: MemoryKeys) -> None:
    sealed = records.field("f", row=int, tenant="acme", shard="1").seal(b"x", row=1)
    row, use, secret = row_of(store), kms_context(ACME, KeyKind.DATA), os.urandom(32)
    with again(Planted(dataclasses.replace(row, blob=envelope(wrap(BETA, secret, use), secret, use)))) as other:
        acts: list[Callable[[], object]] = [
            lambda: other.ensure(tenant="acme"),
            lambda: other.field("f", row=int, tenant="acme").open(sealed, row=1),
            lambda: other.remove(next(iter(other.rows()))),
        ]
        for act in acts:
            with pytest.raises(errors.KeyNotAllowedError):
                act()
        assert isinstance(other.keyring, FakeKeyring)
        assert other.keyring.calls == []


def test_a_bad_row_does_not_keep_the_others_from_loading(records: Records, store: MemoryKeys) -> None:
    field = records.field("f", row=int, tenant="acme", shard="1")
    old = field.seal(b"old", row=1)
    records.roll(tenant="acme")
    planted = dataclasses.replace(row_of(store), key_id=os.urandom(16), generation=1, claim=None)
    store.put_back(planted)
    with Records(FakeKeyring(), store, scope=SCOPE, local_scope=["shard"]) as other:
        with pytest.raises(errors.KeyRowError):
            other.ensure(tenant="acme")
        assert other.stats().data_keys == 2
        assert other.field("f", row=int, tenant="acme", shard="1").open(old, row=1) == b"old"
        other.remove(next(row for row in other.rows() if row.key_id == planted.key_id))
        other.ensure(tenant="acme")
    assert len(store.get_many(ACME)) == 2


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"blob": b"damaged"}, errors.KeyRowError),
        ({"state": KeyState.RETIRED}, errors.KeyStoreError),
        ({"claim": 9}, errors.KeyRowError),
    ],
    ids=str,
)
def test_a_bad_newest_row_does_not_keep_the_others_from_loading(
    records: Records, store: MemoryKeys, change: Mapping[str, Any], error: type[Exception]
) -> None:
    old = records.field("f", row=int, tenant="acme", shard="1").seal(b"old", row=1)
    records.roll(tenant="acme")
    store._rows[-1] = dataclasses.replace(store._rows[-1], **change)
    with Records(FakeKeyring(), store, scope=SCOPE, local_scope=["shard"]) as other:
        field = other.field("f", row=int, tenant="acme", shard="1")

        async def live() -> Any:
            with pytest.raises(error):
                await other.ensure_async(tenant="acme")
            return field.open(old, row=1)

        assert asyncio.run(live()) == b"old"


# --- a keyring that caches


class Disguised(sealwax.CachingKeyring):
    """A cache by another name."""


class Wrapped:
    """A keyring of the user's, which caches behind the protocol."""

    def __init__(self) -> None:
        self.inner = sealwax.CachingKeyring(FakeKeyring(), max_age=3600)

    def generate(self, context: Any, use: Any, *, plaintext_bytes: int | None = None) -> Any:
        return self.inner.generate(context, use, plaintext_bytes=plaintext_bytes)

    def unwrap(self, wrapped_keys: Any, context: Any, use: Any) -> Any:
        return self.inner.unwrap(wrapped_keys, context, use)

    def rewrap(self, wrapped_keys: Any, context: Any, to: Any) -> Any:
        return self.inner.rewrap(wrapped_keys, context, to)


def test_a_subclass_of_a_cache_is_refused() -> None:
    with Disguised(FakeKeyring(), max_age=60) as cache, pytest.raises(TypeError, match="not a CachingKeyring"):
        Records(cache, MemoryKeys(), scope=SCOPE)


def test_a_hidden_cache_makes_no_second_generation(store: MemoryKeys) -> None:
    """Two generations under one data key: rolling would roll nothing, and shredding would erase nothing."""
    hidden = Wrapped()
    with Records(hidden, store, scope=SCOPE) as records:
        sealed = records.field("f", row=int, tenant="acme").seal(b"x", row=1)
        with pytest.raises(errors.ConfigurationError, match=r"generation 1 .* again"):
            records.roll(tenant="acme")
        assert [row.generation for row in store.get_many(ACME)] == [1]
        records.shred(tenant="acme")
        with pytest.raises(errors.ConfigurationError, match=r"generation 1 .* again"):
            records.reopen(tenant="acme")
        with pytest.raises(errors.ShreddedError):
            records.field("f", row=int, tenant="acme").open(sealed, row=1)
    hidden.inner.close()


def test_a_keyring_of_several_regions_is_none(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        keys = [lab.create_key(region=region)["Arn"] for region in ("eu-west-1", "us-east-1")]
        keyring = sealwax.kms.MultiRegionKeyring(keys, session=lab.session())
        store = MemoryKeys()
        with Records(keyring, store, scope=SCOPE) as records:
            field = records.field("f", row=int, tenant="acme")
            assert field.open(field.seal(b"x", row=1), row=1) == b"x"
            records.roll(tenant="acme")
        made = {row.made_by for row in store.get_many(ACME)}
        events = [event.record for event in lab.trail.events()]
        assert made == {event["requestID"] for event in events if event["eventName"] == "GenerateDataKey"}


# --- pairs of a scope


@pytest.mark.parametrize("act", ["ensure", "roll", "shred", "reopen", "repair", "accept", "rows"])
def test_another_scope_is_not_reached_by_mistake(records: Records, store: MemoryKeys, act: str) -> None:
    with again(store, scope={**SCOPE, "env": "test"}) as test:
        records.ensure(tenant="acme")
        with pytest.raises(ValueError, match="has 'env' already"):
            getattr(test, act)(tenant="acme", env="prod")
        with pytest.raises(errors.ContextError, match="reserved"):
            getattr(test, act)(**{"Sealwax-Use": "records-index"})
    assert [row.state for row in store.list()] == [KeyState.LIVE]


@pytest.mark.parametrize("pair", ["name", "generation", "values", "self", "work", "args", "func"])
def test_a_pair_may_have_any_name(records: Records, pair: str) -> None:
    field = records.field("f", row=int, shard="1", **{pair: "x"})
    assert field.open(field.seal(b"x", row=1), row=1) == b"x"
    records.ensure(**{pair: "x"})
    assert [row.scope for row in records.rows(**{pair: "x"})] == [{**SCOPE, pair: "x"}]


# --- in the lab: what KMS itself refuses, and what an attacker with a role of the rotation can do


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as lab:
        yield lab


def test_a_row_that_was_taken_through_another_context(lab: Lab) -> None:
    arn = lab.create_key()["Arn"]
    keyring, store = sealwax.KmsKeyring(arn, session=lab.session()), MemoryKeys()
    with Records(keyring, store, scope=SCOPE) as records:
        sealed = records.field("f", row=int, tenant="acme").seal(b"x", row=1)
    row, use, other = row_of(store), kms_context(ACME, KeyKind.DATA), {"app": "blog"}
    kms = lab.session().client("kms")
    wrapped = sealwax.inspect(row.blob).wrapped_keys[0]

    def moved(ciphertext: bytes, source: Mapping[str, str], to: Mapping[str, str]) -> bytes:
        answer = kms.re_encrypt(
            CiphertextBlob=ciphertext,
            SourceKeyId=arn,
            SourceEncryptionContext=source,
            DestinationKeyId=arn,
            DestinationEncryptionContext=to,
        )
        return bytes(answer["CiphertextBlob"])

    away = moved(wrapped.ciphertext, use, other)
    back = moved(away, other, use)
    parts = inspect_envelope(row.blob).header

    def blob(ciphertext: bytes, context: Mapping[str, str]) -> bytes:
        secret = bytes(kms.decrypt(CiphertextBlob=wrapped.ciphertext, EncryptionContext=use)["Plaintext"])
        return envelope(dataclasses.replace(wrapped, ciphertext=ciphertext), secret, context)

    assert parts.preamble.kms_context == ctx.encode(use)
    cases: list[tuple[bytes, Mapping[str, str], type[errors.SealwaxError] | None, bool]] = [
        (away, use, errors.WrappedKeyRefusedError, True),
        (away, other, errors.KeyRowError, False),
        (back, other, errors.KeyRowError, False),
        (back, use, None, True),
    ]
    for ciphertext, context, error, asks in cases:
        before = len(lab.trail.events())
        planted = Planted(dataclasses.replace(row, blob=blob(ciphertext, context)))
        calls_of_blob = len(lab.trail.events()) - before
        with Records(keyring, planted, scope=SCOPE) as reader:
            field = reader.field("f", row=int, tenant="acme")
            if error is None:
                assert field.open(sealed, row=1) == b"x"
            else:
                with pytest.raises(error):
                    field.open(sealed, row=1)
        assert (len(lab.trail.events()) - before - calls_of_blob > 0) == asks


def test_kms_sees_the_scope_and_what_the_key_is_for(lab: Lab) -> None:
    keyring = sealwax.KmsKeyring(lab.create_key()["Arn"], session=lab.session())
    store = MemoryKeys()
    with Records(keyring, store, scope=SCOPE, local_scope=["shard"]) as records:
        field = records.field("f", row=int, tenant="acme", shard="7")
        field.seal(b"x", row=1)
        assert records.stats().kms.calls == 1
    (event,) = [event.record for event in lab.trail.events() if event.record["eventName"] == "GenerateDataKey"]
    assert event["requestParameters"]["encryptionContext"] == {**ACME, "sealwax-use": "records-data"}
    assert row_of(store).made_by == event["requestID"]
