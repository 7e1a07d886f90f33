"""Every public name of ``sealwax``, as a program uses it, with its type. It is checked, and never run."""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, assert_type
from uuid import UUID

from django.contrib.admin import ModelAdmin
from django.db import models
from sqlalchemy import Date, Engine, MetaData, Table, Text, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedColumn, Session, mapped_column

import sealwax
import sealwax.django
import sealwax.django.admin
from sealwax import (
    NO_CONTEXT,
    AcceptStoredContext,
    AnyPath,
    AnySource,
    AsyncFile,
    BinarySink,
    BytesLike,
    CacheStats,
    CacheWarning,
    CachingKeyring,
    DataKey,
    ExpectedContext,
    ForeignFormat,
    Header,
    Inspection,
    Keyring,
    KeyScope,
    KmsKeyring,
    MessageInspection,
    MultiRegionKeyring,
    NoContext,
    ObjectInspection,
    Preamble,
    RateLimit,
    Records,
    RegionState,
    RetryPolicy,
    Rewrap,
    Sealer,
    Slot,
    StreamReader,
    StreamWriter,
    WrappedKey,
    armor,
    dearmor,
    inspect,
)
from sealwax.records import (
    UNBOUND,
    Changes,
    Explanation,
    Field,
    Index,
    KeyKind,
    KeyRow,
    KeyState,
    KeyStore,
    MemoryKeys,
    RecordsStats,
    Row,
    RowType,
    SqlKeys,
    Unbound,
    Value,
    is_record,
    key_tables,
)
from sealwax.records.moving import (
    AesEngine,
    AesGcmEngine,
    AnyOf,
    DjangoCryptography,
    DjangoFernetEncryptedFields,
    DjangoFernetFields,
    Fernet,
    FernetEngine,
    Moving,
    OldForm,
    Plaintext,
)
from sealwax.records.tables import (
    IndexCounts,
    KeyUse,
    RecordsVerifyReport,
    ResealCounts,
    ResealReport,
    RowFailure,
    SealedColumn,
    SealedIndex,
    StaleReport,
    VerifyCounts,
    read_fields,
    reseal,
    stale,
    verify,
)
from sealwax.records.testing import KeyStoreTests, override_records, row
from sealwax.sqlalchemy import IndexOf, Scope, Sealed, SealedValue, render_item, sealed, sealed_columns, use_records
from sealwax.stores import Store
from sealwax.stores.key_rows import KeyRows

T = TypeVar("T")


class OwnKeyring:
    """What a program writes that takes its data keys from elsewhere."""

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None,
    ) -> T:
        with DataKey(bytearray(32)) as data_key:
            assert_type(data_key.buffer, bytearray)
            assert_type(data_key.duplicate(), DataKey)
            return use(data_key, (WrappedKey("arn:aws:kms:us-east-1:111122223333:key/1", b"wrapped"),))

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        return use(DataKey(bytearray(wrapped_keys[0].ciphertext)))

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        return tuple(wrapped_keys)

    def kms_stats(self) -> sealwax.events.KmsStats:
        return sealwax.events.KmsStats(calls=1)


def keyrings(watch: sealwax.events.OnEvent) -> Keyring:
    own: Keyring = OwnKeyring()
    counting: sealwax.events.CountsKmsCalls = OwnKeyring()
    assert_type(counting.kms_stats().cost_usd, float)
    limit = RateLimit(100, shared="/run/lock/kms")
    kms = KmsKeyring(
        ["alias/payments", "alias/payments-2027"],
        decrypt_with=[KeyScope("111122223333", "us-east-1")],
        retries=RetryPolicy(attempts=5),
        limit=limit,
        on_event=watch,
    )
    cache = CachingKeyring(kms, max_age=300)
    assert_type(cache.stats(), CacheStats)
    regions = MultiRegionKeyring("alias/payments", regions=["us-east-1", "eu-west-1"])
    for state in regions.health():
        assert_type(state, RegionState)
    assert issubclass(CacheWarning, UserWarning)
    for each in (kms, cache, regions):
        own = each
    return own


def values(sealer: Sealer, value: BytesLike, context: ExpectedContext) -> None:
    assert_type(NO_CONTEXT, NoContext)
    sealed = sealer.encrypt(value, context=NO_CONTEXT)
    assert_type(sealed, bytes)
    assert_type(armor(sealed), str)
    assert_type(dearmor("swx1:"), bytes)
    assert_type(sealer.encrypt_detached(value, context={"id": "1"}), tuple[bytes, bytes])
    assert_type(sealer.decrypt(sealed, context=context), bytes)
    assert_type(
        sealer.decrypt(sealed, context=AcceptStoredContext({"id": "1"}, where=lambda stored: "id" in stored)), bytes
    )
    assert_type(sealer.stats(), sealwax.events.KmsStats)

    assert_type(sealer.encrypt_many([(value, {"id": "1"})]), Iterator[bytes])
    assert_type(
        sealer.encrypt_many([(value, {"id": "1"})], return_exceptions=True), Iterator[bytes | sealwax.SealwaxError]
    )
    assert_type(sealer.decrypt_many([(sealed, context)], threads=4), Iterator[bytes])
    assert_type(
        sealer.decrypt_many([(sealed, context)], return_exceptions=True), Iterator[bytes | sealwax.SealwaxError]
    )


def files(sealer: Sealer, path: AnyPath, source: AnySource, sink: BinarySink) -> None:
    writer = sealer.open(path, "wb", context={"purpose": "backup"}, header="backup.header")
    assert_type(writer, StreamWriter)
    assert_type(writer.write(b"data"), int)
    writer.abandon()
    assert_type(sealer.open(path, context=NO_CONTEXT), io.BufferedReader)
    reader = sealer.open_stream(path, context=NO_CONTEXT, header=source)
    assert_type(reader, StreamReader)
    assert_type(reader.write_to(sink), int)
    assert_type(reader.write_to(writer), int)
    assert_type(sealer.verify(source, context=NO_CONTEXT), int)


async def coroutines(sealer: Sealer, path: Path) -> None:
    assert_type(await sealer.encrypt_async(b"value", context=NO_CONTEXT), bytes)
    assert_type(await sealer.decrypt_async(b"sealed", context=NO_CONTEXT), bytes)
    file = sealer.open_async(path, "rb", context=NO_CONTEXT)
    assert_type(file, AsyncFile)
    async with file as opened:
        assert_type(await opened.read(10), bytes)


def re_wrapping(sealer: Sealer, path: Path, sealed: bytes) -> None:
    assert_type(sealer.rewrap(sealed, to="alias/payments-2027", context=NO_CONTEXT), bytes)
    sealer.rewrap(path, to=["alias/payments-2027"], context=NO_CONTEXT, output="copy.swx", verify=True)
    rewrap: Rewrap = sealer.rewrapper(to="alias/payments-2027", context=NO_CONTEXT)
    inspected = inspect(sealed)
    assert isinstance(inspected, Inspection)
    assert_type(rewrap(inspected.header, lambda: b""), tuple[WrappedKey, ...])
    assert_type(sealer.reencrypt(sealed, context=NO_CONTEXT), bytes)
    sealer.reencrypt(path, context=NO_CONTEXT)
    assert_type(sealer.reencryptor(lambda _: NO_CONTEXT), Callable[[BinaryIO, BinaryIO], None])
    with path.open("rb") as file:
        assert_type(sealer.witness(file, lambda _: NO_CONTEXT), bytes)


def inspecting(source: AnySource) -> None:
    found = inspect(source)
    assert_type(found, Inspection | MessageInspection | ObjectInspection)
    assert_type(found.context, dict[str, str])
    assert_type(found.plaintext_bytes, int | None)
    assert_type(found.as_dict(), dict[str, Any])
    for key in found.wrapped_keys:
        assert_type(key.key_arn, str)
    if isinstance(found, MessageInspection):
        assert_type(found.message_id, bytes)
        assert_type(found.others, tuple[str, ...])
        assert_type(found.allow_legacy, str | None)
        return
    if isinstance(found, ObjectInspection):
        assert_type(found.cipher, str)
        assert_type(found.instruction_file, bool)
        return
    assert_type(found.foreign, ForeignFormat | None)
    assert_type(found.header, Header)
    assert_type(found.header.preamble, Preamble)
    assert_type(found.header.slot, Slot)


class OwnKeys:
    """A key store that a program writes."""

    def newest(self, scope: Mapping[str, str], kind: KeyKind) -> KeyRow | None:
        return None

    def get_many(self, scope: Mapping[str, str], key_ids: Sequence[bytes] | None = None) -> list[KeyRow]:
        return []

    def create(self, row: KeyRow) -> KeyRow:
        assert_type(row.scope, Mapping[str, str])
        assert_type((row.kind, row.generation, row.key_id), tuple[KeyKind, int, bytes])
        assert_type((row.state, row.created, row.made_by), tuple[KeyState, int, str])
        assert_type((row.blob, row.claim), tuple[bytes, int | None])
        return row

    def put_back(self, row: KeyRow) -> bool:
        return False

    def replace(self, row: KeyRow, blob: bytes) -> bool:
        return False

    def retire(self, row: KeyRow) -> bool:
        return row.state is KeyState.LIVE

    def remove(self, row: KeyRow) -> bool:
        return row.kind is KeyKind.INDEX

    def shred(self, scope: Mapping[str, str]) -> list[KeyRow]:
        return []

    def list(self, scope: Mapping[str, str] | None = None) -> Iterator[KeyRow]:
        yield from ()

    def check(self, key_ids: Sequence[bytes]) -> Changes:
        return Changes(bytes(16), dict.fromkeys(key_ids, KeyState.SHREDDED))


class TestOwnKeys(KeyStoreTests):
    """What a program inherits to test it."""


def key_stores(keyring: Keyring) -> Iterable[Records]:
    sql = SqlKeys("postgresql+psycopg://db.example.com/shop", table="keys", read_only=False)
    sql.create_table()
    assert_type(sql.url, str)
    own: KeyStore = OwnKeys()
    stores: list[KeyStore] = [sql, MemoryKeys(), own]
    for store in stores:
        yield Records(keyring, store, scope={"app": "shop"}, local_scope=("tenant",), max_age=600, capacity=10)


def records_of(records: Records, column: object) -> None:
    with records:
        card = records.field("users.card", row=int, tenant="acme")
        assert_type(card, Field)
        sealed = card.seal(b"4111", row=7)
        assert_type(sealed, bytes)
        assert_type(card.seal_text("4111", row=7), str)
        assert_type(card.open(sealed, row=7), Value)
        assert_type(card.seal_many([1, True, {"a": [None]}], rows=[7, 8, 9]), list[bytes])
        assert_type(card.open_many([sealed, "swr1."], rows=UNBOUND), list[Value])
        kinds: list[RowType] = [int, str, bytes, UUID, tuple, UNBOUND]
        counts: dict[str, int] = {"a": 1}
        card.seal(counts, row=7)
        rows: list[Row | Unbound] = [7, "7", b"7", UUID(int=7), (7, "7"), UNBOUND]
        for kind, bound in zip(kinds, rows, strict=True):
            records.field("users.note", row=kind).seal("hello", row=bound)
        assert_type(is_record(column), bool)
        records.ensure(tenant="acme")
        for made in (records.roll(tenant="acme"), records.retire(1), records.reopen()):
            assert_type(made, KeyRow)
        for every in (records.rows(), records.shred(tenant="acme"), records.repair()):
            assert_type(every, list[KeyRow])
        records.accept()
        explained = records.explain(sealed)
        assert_type(explained, Explanation)
        assert_type((explained.row, explained.newest), tuple[KeyRow | None, bool])
        records.remove(row({"app": "shop"}, generation=2, kind=KeyKind.DATA))
        stats = records.stats()
        assert_type(stats, RecordsStats)
        assert_type((stats.scopes, stats.data_keys, stats.record_keys), tuple[int, int, int])


def moves_of(records: Records, key: str) -> None:
    utc = datetime.UTC
    forms: list[OldForm] = [
        Plaintext(),
        Fernet(key, key.encode(), zone=utc),
        AesEngine(key, "pkcs5"),
        AesGcmEngine(key),
        FernetEngine(key),
        DjangoFernetFields(key, hkdf=False, prefix=b"django-fernet-fields"),
        DjangoFernetEncryptedFields(key, salts=["salt"]),
        DjangoCryptography(key, cryptography_key=key, salt="salt", field_key=bytes(32), ttl=60),
    ]
    moving = Moving(AnyOf(*forms, Plaintext(zone=utc)), writes="old", until=datetime.date(2027, 3, 31))
    moving.check("users.email")
    stored = moving.write(records, "users.email", "ann@example.com", text=True)
    assert_type(stored, str | bytes)
    if moving.is_old(stored) and moving.old.recognizes(stored):
        assert_type(moving.read(records, "users.email", stored, str), object)
    assert_type(moving.writes, Literal["old", "records"])
    stats = records.stats()
    assert_type((stats.old_values_read, stats.old_values_written), tuple[Mapping[str, int], Mapping[str, int]])
    raise sealwax.OldFormError(moving.old.name)


def indexes_of(records: Records) -> None:
    index: Index = records.index("users.email", normalize="email/1", bits=32, tenant="acme")
    index.ensure()
    assert_type(index.of("ada@example.com"), bytes)
    assert_type(index.of_many(["ada@example.com"]), list[bytes])
    assert_type(index.same("ada@example.com", None), bool)
    assert_type((index.bits, index.size, index.named), tuple[int, int, str])
    records.index("users.email", bits=128, shared=True)


async def records_in_a_loop(records: Records, values: list[bytes]) -> None:
    await records.ensure_async(tenant="acme")
    await records.index("users.email", bits=32, tenant="acme").ensure_async()
    await records.preload(values, tenant="acme")
    assert_type(await records.roll_async(tenant="acme"), KeyRow)


def tables_of_records(records: Records, engine: Engine, path: Path) -> None:
    columns: list[SealedColumn] = [*read_fields(path), SealedColumn("users", "card", row={"id": int})]
    columns.append(SealedColumn("notes", "text", row=UNBOUND, scope={"tenant": "tenant_id"}, field="notes"))
    index = SealedIndex("c_index", 16, "email/1", shared=True)
    columns.append(SealedColumn("a", "b", row=UNBOUND, moves_from=Plaintext(), kind=datetime.date, moved_from="c"))
    columns.append(SealedColumn("a", "c", row=UNBOUND, moves_from=Plaintext(), writes="old", indexes=[index]))
    assert_type((columns[0].moves_from, columns[0].kind), tuple[OldForm | None, type | None])
    before: StaleReport = stale(records.store, engine, columns, scope={"app": "shop"})
    for use in before.uses:
        assert_type(use, KeyUse)
        assert_type((use.key_id, use.row, use.newest, use.records), tuple[bytes, KeyRow | None, bool, int])
    done: ResealReport = reseal(
        records, engine, columns, journal=path, rate=1000, throttle_lag=2, settle=120, to=Plaintext()
    )
    assert_type((done.left, done.next_steps), tuple[int, Mapping[str, str]])
    counts: tuple[ResealCounts, ...] = done.columns
    filled: tuple[IndexCounts, ...] = done.indexes
    assert_type((before.without_index, len(filled)), tuple[Mapping[str, int], int])
    failures: tuple[RowFailure, ...] = done.failures
    assert_type((done.passes, done.stale, done.retirable), tuple[int, int, tuple[KeyRow, ...]])
    checked: RecordsVerifyReport = verify(records, "postgresql+psycopg://db.example.com/shop", columns)
    opened: tuple[VerifyCounts, ...] = checked.columns
    assert_type((len(counts), len(failures), len(opened)), tuple[int, int, int])


def migrations(metadata: MetaData) -> None:
    keys, epoch = key_tables(metadata, "app.keys")
    assert_type((keys, epoch), tuple[Table, Table])


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    __sealed_scope__ = Scope(tenant="tenant_id")
    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    email: Mapped[str | None] = sealed(str, row="id", length=200, field="users.email", deferred=True)
    email_index: Mapped[bytes] = mapped_column(IndexOf("email", normalize="email/1", bits=16, shared=True), index=True)
    born_before: Mapped[date | None] = mapped_column("born", Date)
    born: Mapped[date | None] = sealed(
        date, row="id", name="born_sealed", moving=Moving(Plaintext(), writes="old"), moved_from="born"
    )
    notes: Mapped[str] = mapped_column(Sealed(str, length=200, field="users.notes", storage=Text))


def mapped_models(records: Records, user: User, value: SealedValue) -> None:
    use_records(Base.metadata, records)
    assert_type(user.email, str | None)
    assert_type(user.notes, str)
    assert_type(value.record, bytes | str | None)
    column: MappedColumn[int] = sealed(int, row=["id"])
    columns = {"column": column, "scope": Sealed(bytes, scope=Scope(tenant="tenant_id"))}
    assert_type(render_item("type", columns["scope"], None), str | Literal[False])
    assert_type(sealed_columns(Base.metadata), list[SealedColumn])
    with records.scope(tenant="acme"):
        found: list[User] = User.email_index.find(Session(), "ada@example.com", select(User), tenant="acme")
    assert found == []


async def searching(session: AsyncSession) -> None:
    found: list[User] = await User.email_index.find_async(session, "ada@example.com")
    assert found == []


def records_under_test(records: Records, sealwax_records: Records) -> None:
    overridden: AbstractContextManager[Records] = override_records(records, sealwax_records)
    with overridden as same:
        assert_type(same, Records)


def errors(error: Exception) -> str:
    match error:
        case sealwax.ModelError():
            return "fix the model or the statement"
        case sealwax.NotAnEnvelopeError():
            assert_type(error.foreign, ForeignFormat | None)
        case sealwax.DamagedHeaderError() | sealwax.UnsupportedEnvelopeError() | sealwax.HeaderError():
            pass
        case sealwax.CommitmentError() | sealwax.DataKeyError() | sealwax.TamperedError() | sealwax.PayloadError():
            pass
        case sealwax.AllKeysFailedError():
            assert_type(error.attempts, tuple[tuple[str, sealwax.SealwaxError], ...])
        case sealwax.KeyNotAllowedError() | sealwax.AccessDeniedError() | sealwax.CredentialsError():
            pass
        case sealwax.NotPicklableError() | sealwax.ConfigurationError() | sealwax.KeyStateError():
            pass
        case sealwax.KeyNotFoundError() | sealwax.WrongKeyError() | sealwax.WrappedKeyRefusedError():
            pass
        case sealwax.ThrottledError() | sealwax.UnavailableError() | sealwax.RequestRefusedError():
            assert_type(error.request_id, str | None)
        case sealwax.KmsError():
            assert_type(error.retryable, bool)
        case sealwax.StoreError() | sealwax.FileError() | sealwax.ContextError() | sealwax.RewrapConflictError():
            pass
        case sealwax.UnknownKeyError():
            assert_type(error.key_id, bytes)
        case sealwax.KeyNotLoadedError():
            assert_type(error.key_ids, tuple[bytes, ...])
        case sealwax.NotARecordError() | sealwax.RecordTamperedError() | sealwax.ShreddedError():
            pass
        case sealwax.UnreadableValueError() | sealwax.KeyRowError() | sealwax.RecordError():
            pass
        case sealwax.KeyStoreError():
            assert_type(error.retryable, bool)
        case (
            sealwax.TableError()
            | sealwax.EngineError()
            | sealwax.PlanError()
            | sealwax.PolicyError()
            | sealwax.FactsError()
        ):
            pass
        case sealwax.LabError() | sealwax.SettingsError() | sealwax.SealwaxError():
            pass
        case _:
            return "another program's"
    return str(error)


def key_stores_are_locations(keys: KeyStore) -> Store:
    return KeyRows(keys, "my-keys://shop")


# The types that the plugin of django-stubs gives to fields.
of_names: models.CharField[str, str] = models.CharField(max_length=50)
of_texts: models.TextField[str, str] = models.TextField()
of_dates: models.DateField[date, date] = models.DateField(null=True)


class Patient(models.Model):
    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True)
    name: models.CharField[str, str] = sealwax.django.Sealed(of_names, row="id", scope={"tenant": "tenant"})
    name_index = sealwax.django.IndexOf("name", normalize="casefold-nfc/1", bits=16)
    notes: models.TextField[str, str] = sealwax.django.Sealed(
        of_texts, row=sealwax.django.UNBOUND, name="patients.notes"
    )
    tenant: models.CharField[str, str] = models.CharField(max_length=20)

    objects = sealwax.django.SealedManager()


class OldPatient(models.Model):
    id: models.UUIDField[UUID, UUID] = models.UUIDField(primary_key=True)
    name: models.TextField[str, str] = sealwax.django.Sealed(
        of_texts, row="id", storage=of_texts, moving=Moving(Plaintext(), writes="old")
    )
    born: models.DateField[date, date] = sealwax.django.Sealed(
        of_dates, row="id", moving=Moving(Plaintext(), writes="records"), moved_from="birthday"
    )


class PatientAdmin(sealwax.django.admin.SealedAdmin):
    search_fields = ("name_index",)


def models_of_django(queryset: sealwax.django.SealedQuerySet) -> ModelAdmin[Any] | None:
    assert_type(sealwax.django.get_records(), Records)
    store: KeyStore = sealwax.django.DjangoKeys("default")
    patient = Patient(name="Ada")
    text: str = patient.name
    assert_type(sealwax.django.sealed_columns(Patient, OldPatient), list[SealedColumn])
    assert_type(Patient.name_index.find("Ada", tenant="acme"), list[Any])
    assert_type(patient.name_index, bytes | None)
    try:
        queryset.update(ward="W")
    except sealwax.django.SealedFieldError as error:
        print(error, text, store)
    return None
