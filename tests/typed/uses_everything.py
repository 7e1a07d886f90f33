"""Every public name of ``sealwax``, as a program uses it, with its type. It is checked, and never run."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, assert_type

import sealwax
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
    MultiRegionKeyring,
    NoContext,
    Preamble,
    RateLimit,
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
    header = inspect(sealed).header
    assert_type(rewrap(header, lambda: b""), tuple[WrappedKey, ...])
    assert_type(sealer.reencrypt(sealed, context=NO_CONTEXT), bytes)
    sealer.reencrypt(path, context=NO_CONTEXT)
    assert_type(sealer.reencryptor(lambda _: NO_CONTEXT), Callable[[BinaryIO, BinaryIO], None])
    with path.open("rb") as file:
        assert_type(sealer.witness(file, lambda _: NO_CONTEXT), bytes)


def inspecting(source: AnySource) -> None:
    found = inspect(source)
    assert_type(found, Inspection)
    assert_type(found.context, dict[str, str])
    assert_type(found.plaintext_bytes, int | None)
    assert_type(found.foreign, ForeignFormat | None)
    assert_type(found.as_dict(), dict[str, Any])
    assert_type(found.header, Header)
    assert_type(found.header.preamble, Preamble)
    assert_type(found.header.slot, Slot)
    for key in found.wrapped_keys:
        assert_type(key.key_arn, str)


def errors(error: Exception) -> str:
    match error:
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
        case sealwax.EngineError() | sealwax.PlanError() | sealwax.PolicyError() | sealwax.FactsError():
            pass
        case sealwax.LabError() | sealwax.SettingsError() | sealwax.SealwaxError():
            pass
        case _:
            return "another program's"
    return str(error)
