"""Sealing, opening and the life of a scope's data keys: what opens, and what is refused by which error."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import datetime
import decimal
import os
import pickle
import threading
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

import sealwax
from sealwax import errors
from sealwax._core import context as ctx
from sealwax._core.keyring import DataKey
from sealwax.records import UNBOUND, KeyKind, KeyRow, KeyStore, MemoryKeys, Records
from sealwax.records._blob import kms_context
from sealwax.records._form import to_text
from tests.fakes import ALPHA, BETA, FakeKeyring, unwrap
from tests.records import reader

SCOPE = {"app": "shop", "env": "prod"}
ACME = {**SCOPE, "tenant": "acme"}


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> tuple[float, float]:
        return self.now, self.now + 1e9


def timed(clock: Clock, keyring: Any, store: Any, **more: Any) -> Records:
    """Return Records that read the time from ``clock``."""

    class Timed(Records):
        _clocks = staticmethod(clock)
        _monotonic = staticmethod(lambda: clock()[0])
        _wall = staticmethod(lambda: clock()[1])

    return Timed(keyring, store, **{"scope": SCOPE, **more})


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


def again(store: KeyStore, **more: Any) -> Records:
    """Return what another process has."""
    return Records(FakeKeyring(), store, **{"scope": SCOPE, **more})


def data_key_of(row: KeyRow) -> bytes:
    """Unwrap a row's data key as KMS would."""
    wrapped = sealwax.inspect(row.blob).wrapped_keys[0]
    return bytes(unwrap(wrapped, kms_context(row.scope, row.kind)))


# --- what opens


@pytest.mark.parametrize("value", [b"", b"4111", "é", "", 7, True, 2.5, {"a": [None]}, [1]])
def test_a_value_comes_back_with_its_type(records: Records, value: Any) -> None:
    field = records.field("users.card", row=int, tenant="acme")
    for sealed in (field.seal(value, row=7), field.seal_text(value, row=7)):
        opened = field.open(sealed, row=7)
        assert (type(opened), opened) == (type(value), value)
    assert field.open_many(field.seal_many([value] * 3, rows=[1, 2, 3]), rows=[1, 2, 3]) == [value] * 3


class Nanoseconds(datetime.datetime):
    """As pandas has it."""

    nanosecond = 0

    def isoformat(self, *_: Any) -> str:
        return f"{self:%Y-%m-%dT%H:%M:%S.%f}{self.nanosecond:03}+00:00"

    def replace(self, *fields: Any, **changes: Any) -> Any:
        changed = super().replace(*fields, **changes)
        changed.nanosecond = self.nanosecond
        return changed

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self.nanosecond == getattr(other, "nanosecond", 0)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = datetime.datetime.__hash__


class Shown(decimal.Decimal):
    def __str__(self) -> str:
        return f"EUR {super().__str__()}"


def test_what_shows_itself_otherwise_comes_back(records: Records) -> None:
    """Nothing is sealed that does not open."""
    field = records.field("f", row=int, tenant="acme")
    moment = Nanoseconds(2026, 1, 2, 3, 4, 5, 6, datetime.UTC)
    values: list[Any] = [moment, Shown("1.50")]
    for value in values:
        opened = field.open(field.seal(value, row=1), row=1)
        assert opened == value
        assert type(opened) is type(value).__base__
    moment.nanosecond = 1
    with pytest.raises(ValueError, match="more precise"):
        field.seal(moment, row=1)


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize(("day", "month"), [(29, 3), (25, 10)], ids=["no such hour", "the hour comes twice"])
def test_a_time_of_a_change_of_clocks_comes_back(records: Records, day: int, month: int, fold: int) -> None:
    field = records.field("f", row=int, tenant="acme")
    value = datetime.datetime(2026, month, day, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=fold)
    opened = field.open(field.seal(value, row=1), row=1)
    assert isinstance(opened, datetime.datetime)
    assert opened.isoformat() == value.isoformat()


def test_a_record_has_57_bytes_more(records: Records) -> None:
    field = records.field("users.card", row=int, tenant="acme")
    assert [len(field.seal(bytes(size), row=1)) for size in (0, 1, 1000)] == [58, 59, 1058]
    assert field.seal(b"x", row=1) != field.seal(b"x", row=1)


def test_kms_is_called_once_for_a_scope(records: Records, keyring: FakeKeyring, store: MemoryKeys) -> None:
    fields = [records.field(name, row=int, tenant="acme") for name in ("a", "b")]
    sealed = [[field.seal(b"x", row=row) for row in range(100)] for field in fields]
    assert keyring.calls == ["GenerateDataKey"]
    with again(store) as other:
        for field, of_field in zip(
            (other.field(name, row=int, tenant="acme") for name in ("a", "b")), sealed, strict=True
        ):
            assert field.open_many(of_field, rows=range(100)) == [b"x"] * 100
        assert isinstance(other.keyring, FakeKeyring)
        assert other.keyring.calls == ["Decrypt"]


def test_the_second_reader_opens_it(records: Records, store: MemoryKeys) -> None:
    field = records.field("users.card", row=str, tenant="acme")
    sealed, text = field.seal(b"4111", row="r"), field.seal_text("é", row="r")
    (row,) = store.list(ACME)
    secret = data_key_of(row)
    bound = b"\2\0\0\0\1r"
    assert reader.open_record(secret, sealed, bound, scope=ACME, field="users.card") == b"\1" + b"4111"
    assert reader.open_record(secret, text, bound, scope=ACME, field="users.card") == b"\2" + "é".encode()
    assert reader.key_id(secret, 1, 1, ACME) == row.key_id == sealed[1:17]


def test_a_key_row_is_an_envelope_of_the_empty_value(records: Records, store: MemoryKeys, keyring: FakeKeyring) -> None:
    records.ensure(tenant="acme")
    (row,) = store.list(ACME)
    assert 300 < len(row.blob) < 700
    context = {**ACME, "sealwax-use": "records-data"}
    sealer = sealwax.Sealer(keyring)
    assert sealer.decrypt(row.blob, context=context) == b""
    rewrapped = sealwax.Sealer(FakeKeyring(ALPHA, BETA)).rewrap(row.blob, to=[BETA], context=context)
    assert isinstance(rewrapped, bytes)
    assert store.replace(row, rewrapped)
    sealed = records.field("f", row=int, tenant="acme").seal(b"x", row=1)
    with Records(FakeKeyring(BETA), store, scope=SCOPE) as moved:
        assert moved.field("f", row=int, tenant="acme").open(sealed, row=1) == b"x"


def test_local_pairs_bind_without_kms(keyring: FakeKeyring, store: MemoryKeys) -> None:
    with Records(keyring, store, scope=SCOPE, local_scope=["tenant"]) as records:
        acme, evil = (records.field("f", row=int, tenant=tenant) for tenant in ("acme", "evil"))
        sealed = acme.seal(b"x", row=1)
        with pytest.raises(errors.RecordTamperedError):
            evil.open(sealed, row=1)
        assert acme.open(sealed, row=1) == b"x"
        assert keyring.calls == ["GenerateDataKey"]
        assert [row.scope for row in store.list()] == [SCOPE]
        with pytest.raises(errors.ContextError, match="lacks 'tenant'"):
            records.field("f", row=int)


def test_records_of_no_row(records: Records) -> None:
    unbound = records.field("f", row=UNBOUND, tenant="acme")
    bound = records.field("f", row=bytes, tenant="acme")
    sealed = unbound.seal(b"x", row=UNBOUND)
    assert unbound.open(sealed, row=UNBOUND) == b"x"
    assert unbound.open_many(unbound.seal_many([b"x"] * 2, rows=UNBOUND), rows=UNBOUND) == [b"x"] * 2
    with pytest.raises(errors.RecordTamperedError):
        bound.open(sealed, row=b"")
    with pytest.raises(errors.RecordTamperedError):
        unbound.open(bound.seal(b"x", row=b""), row=UNBOUND)


def test_what_looks_sealed_is_sealed_again(records: Records) -> None:
    field = records.field("f", row=int, tenant="acme")
    once, text = field.seal(b"x", row=1), field.seal_text("x", row=1)
    assert field.open(field.seal(once, row=1), row=1) == once
    assert field.open(field.seal_text(text, row=1), row=1) == text


# --- what is refused


def test_moves_are_refused(records: Records, store: MemoryKeys, keyring: FakeKeyring) -> None:
    field = records.field("users.card", row=int, tenant="acme")
    sealed = field.seal(b"x", row=7)
    records.ensure(tenant="evil")
    keyring.calls.clear()
    for other, row in ((field, 8), (records.field("users.name", row=int, tenant="acme"), 7)):
        with pytest.raises(errors.RecordTamperedError):
            other.open(sealed, row=row)
    with pytest.raises(errors.RecordTamperedError):
        records.field("users.card", row=str, tenant="acme").open(sealed, row="7")
    for strange in (
        records.field("users.card", row=int, tenant="evil"),
        Records(keyring, store, scope={**SCOPE, "env": "test"}).field("users.card", row=int, tenant="acme"),
        Records(keyring, MemoryKeys(), scope=SCOPE).field("users.card", row=int, tenant="acme"),
    ):
        with pytest.raises(errors.UnknownKeyError) as refused:
            strange.open(sealed, row=7)
        assert refused.value.key_id == sealed[1:17]
    assert keyring.calls == []


def test_every_bit_counts(records: Records) -> None:
    field = records.field("f", row=int, tenant="acme")
    sealed = field.seal(b"x", row=7)
    refused = 0
    for bit in range(len(sealed) * 8):
        altered = bytearray(sealed)
        altered[bit // 8] ^= 1 << bit % 8
        for form in (bytes(altered), bytearray(altered), memoryview(altered)):
            with pytest.raises(errors.RecordError):
                field.open(form, row=7)
            refused += 1
    text = to_text(sealed)
    for bit in range(len(text) * 7):
        with pytest.raises(errors.RecordError):
            field.open(
                text[: bit // 7] + chr(ord(text[bit // 7]) ^ 1 << bit % 7) + text[bit // 7 + 1 :],
                row=7,
            )
    for end in range(len(sealed)):
        with pytest.raises(errors.RecordError):
            field.open(sealed[:end], row=7)
        with pytest.raises(errors.RecordError):
            field.open(to_text(sealed)[:end], row=7)
    with pytest.raises(errors.RecordTamperedError):
        field.open(sealed + b"\0", row=7)
    assert refused == len(sealed) * 8 * 3


def test_a_key_that_is_not_allowed_is_not_used(records: Records, store: MemoryKeys) -> None:
    sealed = records.field("f", row=int, tenant="acme").seal(b"x", row=1)
    strict = FakeKeyring(BETA)
    with Records(strict, store, scope=SCOPE) as other, pytest.raises(errors.KeyNotAllowedError):
        other.field("f", row=int, tenant="acme").open(sealed, row=1)
    assert strict.calls == []


def test_every_bit_of_a_key_row_counts(records: Records, store: MemoryKeys) -> None:
    sealed = records.field("f", row=int, tenant="acme").seal(b"x", row=1)
    (row,) = store.list(ACME)
    for bit in range(len(row.blob) * 8):
        blob = bytearray(row.blob)
        blob[bit // 8] ^= 1 << bit % 8
        refused = pytest.raises((errors.KeyRowError, errors.KmsError))
        with again(Planted(dataclasses.replace(row, blob=bytes(blob)))) as other, refused:
            other.field("f", row=int, tenant="acme").open(sealed, row=1)
    for end in range(len(row.blob)):
        with again(Planted(dataclasses.replace(row, blob=row.blob[:end]))) as other, pytest.raises(errors.KeyRowError):
            other.field("f", row=int, tenant="acme").open(sealed, row=1)


class Planted(MemoryKeys):
    """A store with one row that somebody else has written."""

    def __init__(self, row: KeyRow) -> None:
        super().__init__()
        self._rows = [row]


@pytest.mark.parametrize(
    "change",
    [{"generation": 2, "claim": 2}, {"kind": KeyKind.INDEX}, {"key_id": bytes(16)}],
    ids=["generation", "kind", "id"],
)
def test_the_columns_of_a_row_are_bound(records: Records, store: MemoryKeys, change: Mapping[str, Any]) -> None:
    records.ensure(tenant="acme")
    (row,) = store.list(ACME)
    planted = dataclasses.replace(row, **change)
    with again(Planted(planted)) as other, pytest.raises(errors.KeyRowError):
        other._ring(ACME, planted.kind).load_newest()


def test_an_envelope_of_data_is_no_key(keyring: FakeKeyring, records: Records, store: MemoryKeys) -> None:
    """Its data key has encrypted something else, and whoever reads that may know the key."""
    records.ensure(tenant="acme")
    (row,) = store.list(ACME)
    sealer = sealwax.Sealer(keyring)
    for plaintext, context in (
        (b"data", kms_context(ACME, KeyKind.DATA)),
        (b"", ACME),
        (b"", kms_context(SCOPE, KeyKind.DATA)),
    ):
        # As an old version, or another library, could still have made it.
        blob = forged(keyring, context, plaintext)
        assert sealer.decrypt(blob, context=context) == plaintext
        with again(Planted(dataclasses.replace(row, blob=blob))) as other, pytest.raises(errors.KeyRowError):
            other.ensure(tenant="acme")


def forged(keyring: FakeKeyring, context: Mapping[str, str], plaintext: bytes) -> bytes:
    from sealwax._core.format import header as hdr
    from sealwax._core.format import payload

    envelope_id, kms = os.urandom(16), ctx.encode(context)
    info = payload.info(1, envelope_id, kms, ctx.EMPTY)

    def use(key: DataKey, wrapped: tuple[sealwax.WrappedKey, ...]) -> bytes:
        header = hdr.new_header(envelope_id, kms, 0, wrapped, 1, hdr.ATTACHED)
        return payload.encrypt(payload.Encryptor(key, info), header, plaintext)

    return keyring.generate(context, use)


def test_a_row_of_another_scope_is_no_key(records: Records, store: MemoryKeys) -> None:
    records.ensure(tenant="evil")
    (evil,) = store.list({**SCOPE, "tenant": "evil"})
    with again(Planted(dataclasses.replace(evil, scope=ACME))) as other, pytest.raises(errors.KeyRowError):
        other.ensure(tenant="acme")


def test_a_cached_data_key_is_refused(keyring: FakeKeyring, store: MemoryKeys) -> None:
    with sealwax.CachingKeyring(keyring, max_age=60) as cache, pytest.raises(TypeError, match="not a CachingKeyring"):
        Records(cache, store, scope=SCOPE)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_age": 0},
        {"max_age": float("inf")},
        {"recheck": 0},
        {"serve_stale_for": -1},
        {"capacity": 0},
        {"record_keys": 0},
    ],
)
def test_numbers_out_of_range(keyring: FakeKeyring, store: MemoryKeys, arguments: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Records(keyring, store, scope=SCOPE, **arguments)


@pytest.mark.parametrize("scope", [{"sealwax-use": "x"}, {"Sealwax-Use": "x"}, {"": "x"}])
def test_scopes_that_cannot_be(keyring: FakeKeyring, store: MemoryKeys, scope: Any) -> None:
    with pytest.raises(errors.ContextError):
        Records(keyring, store, scope=scope).field("f", row=int)


@pytest.mark.parametrize("name", ["", "x" * 256, 7, None])
def test_names_that_cannot_be(records: Records, name: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="field"):
        records.field(name, row=int)


def test_a_pair_is_given_once(records: Records) -> None:
    with pytest.raises(ValueError, match="has 'env' already"):
        records.field("f", row=int, env="test")


def test_nothing_is_copied_pickled_or_shown(records: Records) -> None:
    field = records.field("f", row=int, tenant="acme")
    for thing in (records, field):
        for act in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                act(thing)
    assert repr(field) == "<Field 'f' of {app=shop, env=prod, tenant=acme}>"
    assert repr(records) == "<Records of app=shop, env=prod>"


@pytest.mark.parametrize(("size", "fits"), [((1 << 20) - 1, True), (1 << 20, False)])
def test_a_record_holds_a_mebibyte(records: Records, size: int, fits: bool) -> None:
    field = records.field("f", row=int, tenant="acme")
    seals: list[Callable[[], bytes]] = [
        lambda: field.seal(bytes(size), row=1),
        lambda: field.seal_many([bytes(size)], rows=[1])[0],
    ]
    for seal in seals:
        if fits:
            assert field.open(seal(), row=1) == bytes(size)
        else:
            with pytest.raises(ValueError, match="Sealer"):
                seal()


def test_rows_and_values_are_as_many(records: Records) -> None:
    field = records.field("f", row=int, tenant="acme")
    with pytest.raises(ValueError, match="2 values and 1 rows"):
        field.seal_many([b"a", b"b"], rows=[1])
    with pytest.raises(ValueError, match="1 records and 2 rows"):
        field.open_many(field.seal_many([b"a"], rows=[1]), rows=[1, 2])


# --- generations


def test_rolling_keeps_what_is_sealed(records: Records, store: MemoryKeys) -> None:
    field = records.field("f", row=int, tenant="acme")
    old = field.seal(b"old", row=1)
    assert records.roll(tenant="acme").generation == 2
    new = field.seal(b"new", row=1)
    assert new[1:17] != old[1:17]
    assert (field.open(old, row=1), field.open(new, row=1)) == (b"old", b"new")
    assert data_key_of(records.rows(tenant="acme")[0]) != data_key_of(records.rows(tenant="acme")[1])
    records.retire(1, tenant="acme")
    with again(store) as other:
        assert other.field("f", row=int, tenant="acme").open(old, row=1) == b"old"
    for generation in (1, 2, 3):
        with pytest.raises(errors.KeyStoreError, match="cannot be retired"):
            records.retire(generation, tenant="acme")


def test_shredding_and_reopening(records: Records, store: MemoryKeys) -> None:
    field = records.field("f", row=int, tenant="acme")
    kept = records.field("f", row=int, tenant="other")
    sealed, other = field.seal(b"x", row=1), kept.seal(b"y", row=1)
    with pytest.raises(errors.KeyStoreError, match="is not shredded"):
        records.reopen(tenant="acme")
    assert [row.generation for row in records.shred(tenant="acme")] == [1]
    for act in (
        lambda: field.open(sealed, row=1),
        lambda: field.seal(b"x", row=1),
        lambda: records.roll(tenant="acme"),
    ):
        with pytest.raises(errors.ShreddedError):
            act()
    assert kept.open(other, row=1) == b"y"
    assert all(row.blob == b"" for row in store.list(ACME))
    assert records.reopen(tenant="acme").generation == 3
    assert field.open(field.seal(b"new", row=1), row=1) == b"new"
    with pytest.raises(errors.ShreddedError):
        field.open(sealed, row=1)


def test_others_stop_opening_after_the_next_look(store: MemoryKeys) -> None:
    clock = Clock()
    with timed(clock, FakeKeyring(), store) as warm, again(store) as records:
        field = warm.field("f", row=int, tenant="acme")
        sealed = field.seal(b"x", row=1)
        assert field.open(sealed, row=1) == b"x"
        records.shred(tenant="acme")
        assert field.open(sealed, row=1) == b"x"
        clock.now += 61
        warm.wipe_old()
        with pytest.raises(errors.ShreddedError):
            field.open(sealed, row=1)
        assert warm.stats().data_keys == 0


def test_others_seal_under_the_new_key_after_the_next_look(store: MemoryKeys) -> None:
    clock = Clock()
    with timed(clock, FakeKeyring(), store) as warm, again(store) as records:
        field = warm.field("f", row=int, tenant="acme")
        field.seal(b"x", row=1)
        row = records.roll(tenant="acme")
        clock.now += 61
        warm.wipe_old()
        assert field.seal(b"x", row=1)[1:17] == row.key_id


def test_a_store_that_went_back_is_not_sealed_under(records: Records, store: MemoryKeys) -> None:
    field = records.field("f", row=int, tenant="acme")
    old = field.seal(b"old", row=1)
    before = list(store._rows)
    records.roll(tenant="acme")
    new = field.seal(b"new", row=1)
    store._rows = before  # a dump is restored
    records._checked_at = float("-inf")
    records.wipe_old()
    with pytest.raises(errors.KeyStoreError, match="has lost generation 2"):
        field.seal(b"x", row=1)
    assert (field.open(old, row=1), field.open(new, row=1)) == (b"old", b"new")
    assert [row.generation for row in records.repair(tenant="acme")] == [2]
    assert field.seal(b"x", row=1)[1:17] == new[1:17]


def test_an_older_state_is_accepted_by_name(records: Records, store: MemoryKeys) -> None:
    field = records.field("f", row=int, tenant="acme")
    field.seal(b"old", row=1)
    before = list(store._rows)
    records.roll(tenant="acme")
    store._rows = before
    with pytest.raises(errors.KeyStoreError, match="has lost"):
        records.roll(tenant="acme")
    records.accept(tenant="acme")
    assert field.seal(b"x", row=1)[1:17] == before[0].key_id


def test_a_row_that_works_is_not_removed(records: Records, store: MemoryKeys) -> None:
    records.ensure(tenant="acme")
    (row,) = store.list(ACME)
    with pytest.raises(ValueError, match="works"):
        records.remove(row)
    broken = dataclasses.replace(row, blob=row.blob[:-1] + bytes((row.blob[-1] ^ 1,)))
    store._rows = [broken]
    records.remove(broken)
    assert list(store.list()) == []


# --- age


class Away(FakeKeyring):
    """KMS, which is away for a while."""

    away = False

    def unwrap(self, wrapped_keys: Any, context: Any, use: Any) -> Any:
        if self.away:
            raise errors.UnavailableError("KMS is away", retryable=True)
        return super().unwrap(wrapped_keys, context, use)


def test_a_data_key_ends_with_its_age(store: MemoryKeys) -> None:
    clock, keyring = Clock(), Away()
    with timed(clock, keyring, store, max_age=1000, serve_stale_for=500) as records:
        field = records.field("f", row=int, tenant="acme")
        sealed = field.seal(b"x", row=1)
        keyring.away = True
        clock.now += 899
        assert field.open(sealed, row=1) == b"x"
        clock.now += 300  # beyond its age: KMS is asked in vain, and the key goes on
        assert field.open(sealed, row=1) == b"x"
        assert field.open(field.seal(b"y", row=1), row=1) == b"y"
        clock.now += 400
        acts: list[Callable[[], object]] = [lambda: field.open(sealed, row=1), lambda: field.seal(b"z", row=1)]
        for act in acts:
            with pytest.raises(errors.UnavailableError):
                act()
        keyring.away = False
        assert field.open(sealed, row=1) == b"x"


def test_keys_are_fetched_again_beside(store: MemoryKeys) -> None:
    clock, keyring = Clock(), FakeKeyring()
    with timed(clock, keyring, store, max_age=1000) as records:
        field = records.field("f", row=int, tenant="acme")
        sealed = field.seal(b"x", row=1)
        clock.now += 700
        assert field.open(sealed, row=1) == b"x"
        clock.now += 150
        records.wipe_old()
        assert keyring.calls == ["GenerateDataKey", "Decrypt"]
        clock.now += 700
        assert field.open(sealed, row=1) == b"x"
        assert keyring.calls == ["GenerateDataKey", "Decrypt"]


def test_idle_keys_are_wiped(store: MemoryKeys) -> None:
    clock, keyring = Clock(), FakeKeyring()
    with timed(clock, keyring, store, max_age=1000) as records:
        records.field("f", row=int, tenant="acme").seal(b"x", row=1)
        held = next(iter(records._rings.values()))._newest
        assert held is not None
        clock.now += 1001
        records.wipe_old()
        assert records.stats().data_keys == 0
        with pytest.raises(ValueError, match="wiped"):
            _ = held.key.buffer
        assert keyring.calls == ["GenerateDataKey"]


@pytest.mark.parametrize("seconds", [3601, 301])
def test_a_prefix_ends_with_its_age(store: MemoryKeys, seconds: int) -> None:
    clock = Clock()
    with timed(clock, FakeKeyring(), store, max_age=1e6) as records:
        field = records.field("f", row=int, tenant="acme")
        first = field.seal(b"x", row=1)
        assert field.seal(b"x", row=1)[:29] == first[:29]
        clock.now += seconds
        assert field.seal(b"x", row=1)[:29] != first[:29]


def test_prefixes_are_bounded_under_threads(records: Records) -> None:
    field = records.field("f", row=int, tenant="acme")
    heads: list[bytes] = []

    def work() -> None:
        mine = [field.seal(b"", row=1)[:41] for _ in range(10_000)]
        mine += [record[:41] for record in field.seal_many([b""] * 5_000, rows=[1] * 5_000)]
        heads.extend(mine)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heads) == len(set(heads)) == 16 * 15_000
    by_prefix: dict[bytes, int] = {}
    for head in heads:
        by_prefix[head[:29]] = by_prefix.get(head[:29], 0) + 1
    assert max(by_prefix.values()) <= 65_536
    assert len(by_prefix) >= 4


# --- bounds


def test_record_keys_are_bounded(keyring: FakeKeyring, store: MemoryKeys) -> None:
    with Records(keyring, store, scope=SCOPE, record_keys=20) as records:
        fields = [records.field("f", row=int, tenant=str(number)) for number in range(50)]
        for field in fields:
            record = field.seal(b"x", row=1)
            assert field.open(record, row=1) == field.open(record, row=1) == b"x"
        stats = records.stats()
        assert (stats.scopes, stats.data_keys, stats.record_keys) == (50, 50, 20)
        assert sum(len(field._opening) for field in fields) == 20


# --- the event loop


def test_nothing_waits_in_a_loop(records: Records, store: MemoryKeys) -> None:
    field = records.field("f", row=int, tenant="acme")
    sealed = field.seal(b"x", row=1)

    async def cold() -> None:
        with again(store) as other:
            theirs = other.field("f", row=int, tenant="acme")
            acts: list[tuple[Callable[[], object], tuple[bytes, ...]]] = [
                (lambda: theirs.open(sealed, row=1), (sealed[1:17],)),
                (lambda: theirs.seal(b"x", row=1), ()),
            ]
            for act, key_ids in acts:
                with pytest.raises(errors.KeyNotLoadedError, match="ensure_async") as refused:
                    act()
                assert (refused.value.scope, refused.value.key_ids) == (ACME, key_ids)
            await other.preload([sealed, b"plain", None, to_text(sealed)], tenant="acme")
            assert theirs.open(sealed, row=1) == b"x"
            await other.ensure_async(tenant="acme")
            assert theirs.open(theirs.seal(b"y", row=1), row=1) == b"y"

    asyncio.run(cold())


def test_preload_loads_what_can_be_loaded(records: Records, store: MemoryKeys) -> None:
    """One bad value on a page must not keep the others from opening."""
    field = records.field("f", row=int, tenant="acme")
    foreign = records.field("f", row=int, tenant="evil").seal(b"x", row=1)
    sealed = []
    for _ in range(10):
        sealed.append(field.seal(b"x", row=1))
        records.roll(tenant="acme")
    values = [to_text(foreign)[:60], foreign, *sealed]

    async def live() -> None:
        with again(store) as other:
            with pytest.raises(errors.UnknownKeyError) as refused:
                await other.preload(values, tenant="acme")
            assert refused.value.key_id == foreign[1:17]
            assert other.field("f", row=int, tenant="acme").open_many(sealed, rows=[1] * 10) == [b"x"] * 10

    asyncio.run(live())


def test_ensure_loads_every_generation(records: Records, store: MemoryKeys) -> None:
    field = records.field("f", row=int, tenant="acme")
    sealed = []
    for _ in range(3):
        sealed.append(field.seal(b"x", row=1))
        records.roll(tenant="acme")

    async def warm() -> None:
        with again(store) as other:
            await other.ensure_async(tenant="acme")
            theirs = other.field("f", row=int, tenant="acme")
            assert theirs.open_many(sealed, rows=[1] * 3) == [b"x"] * 3

    asyncio.run(warm())


# --- ends


def test_closing_wipes(records: Records) -> None:
    field = records.field("f", row=int, tenant="acme")
    sealed = field.seal(b"x", row=1)
    held = next(iter(records._rings.values()))._newest
    records.close()
    assert held is not None
    with pytest.raises(ValueError, match="wiped"):
        _ = held.key.buffer
    acts: list[Callable[[], object]] = [
        lambda: field.open(sealed, row=1),
        lambda: field.seal(b"x", row=1),
        lambda: records.field("f", row=int),
    ]
    for act in acts:
        with pytest.raises(ValueError, match="closed"):
            act()


def test_a_forked_child_has_nothing_of_its_parent(records: Records) -> None:
    field = records.field("f", row=int, tenant="acme")
    sealed = field.seal(b"x", row=1)
    assert field.open(sealed, row=1) == b"x"
    held = next(iter(records._rings.values()))._newest
    assert held is not None
    child = os.fork()
    if child == 0:
        try:
            wiped = not any(held.key._buffer) and not field._opening
            fresh = field.seal(b"y", row=1)
            os._exit(0 if wiped and fresh[:29] != sealed[:29] and field.open(sealed, row=1) == b"x" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert field.open(sealed, row=1) == b"x"


def test_there_is_one_unbound() -> None:
    """Objects of models that are copied or pickled hold it."""
    assert copy.deepcopy([UNBOUND]) == [UNBOUND] == pickle.loads(pickle.dumps([UNBOUND]))
