"""A sealer reads messages of the real AWS Encryption SDK, under the rules that hold for envelopes."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import aws_encryption_sdk
import boto3
import pytest
from aws_encryption_sdk.identifiers import AlgorithmSuite, CommitmentPolicy
from aws_encryption_sdk.key_providers.kms import StrictAwsKmsMasterKeyProvider

import sealwax
from sealwax import AcceptStoredContext, errors
from sealwax._core.foreign.esdk import writing
from sealwax._core.foreign.esdk.suites import SUITES
from sealwax._core.foreign.rules import LEGACY, begins_message
from sealwax._core.keyring import DataKey, WrappedKey
from sealwax.lab import Lab
from tests.fakes import FakeKeyring
from tests.foreign import esdk, scripts
from tests.foreign.test_real_messages import serving

pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*streaming_client:pytest.PytestUnraisableExceptionWarning"
)
CONTEXT: Final = {"purpose": "backup", "id": "7"}
DATA: Final = os.urandom(10_000)


class World:
    """A lab with three keys, and messages of the SDK under the first two, for every suite, framed and not."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.keys = [lab.create_key()["Arn"] for _ in range(3)]
        self.messages: dict[tuple[int, int], bytes] = {}
        session: Any = boto3.Session()._session
        provider = StrictAwsKmsMasterKeyProvider(key_ids=self.keys[:2], botocore_session=session)
        for suite in AlgorithmSuite:
            policy = CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT
            if suite.algorithm_id >= 0x0400:
                policy = CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
            for frame_length in (0, 4096):
                self.messages[suite.algorithm_id, frame_length], _ = aws_encryption_sdk.EncryptionSDKClient(
                    commitment_policy=policy
                ).encrypt(
                    source=DATA,
                    key_provider=provider,
                    algorithm=suite,
                    frame_length=frame_length,
                    encryption_context=CONTEXT,
                )

    def keyring(self, *keys: str) -> sealwax.KmsKeyring:
        return sealwax.KmsKeyring(list(keys) or self.keys[:1], session=self.lab.session())

    def sealer(self, *keys: str, **more: Any) -> sealwax.Sealer:
        more.setdefault("allow_legacy", LEGACY)
        return sealwax.Sealer(self.keyring(*keys), **more)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, Lab(tmp_path_factory.mktemp("lab")) as lab, serving(lab) as server:
        patch.setenv("AWS_ENDPOINT_URL_KMS", server.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "any")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "thing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield World(lab)


class Pipe(io.RawIOBase):
    """What can be read once, and gives little at a time."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with memoryview(buffer) as view:
            return self._file.readinto(view[:1000])


def pipe(data: bytes) -> BinaryIO:
    return cast("BinaryIO", Pipe(data))


def every_way(
    sealer: sealwax.Sealer, message: bytes, path: Path, context: Any = CONTEXT, data: bytes = DATA
) -> Iterator[Any]:
    """What each way to read gives, or its error."""

    def opened(file: Any) -> bytes:
        with sealer.open(file, context=context) as reader:
            return reader.read()

    def streamed(file: Any) -> bytes:
        with sealer.open_stream(file, context=context) as reader:
            out = io.BytesIO()
            reader.write_to(out)
            return out.getvalue()

    path.write_bytes(message)
    beside = io.BytesIO(b"before" + message)
    beside.seek(6)
    ways: list[Callable[[], bytes]] = [
        lambda: sealer.decrypt(message, context=context),
        lambda: sealer.decrypt(memoryview(message), context=context),
        lambda: opened(path),
        lambda: opened(io.BytesIO(message)),
        lambda: opened(pipe(message)),
        lambda: streamed(path),
        lambda: streamed(beside),
        lambda: streamed(pipe(message)),
        lambda: data if sealer.verify(path, context=context) == len(data) else b"",
        lambda: data if sealer.verify(message, context=context) == len(data) else b"",
        lambda: data if sealer.verify(pipe(message), context=context) == len(data) else b"",
    ]
    for way in ways:
        try:
            yield way()
        except errors.SealwaxError as error:
            yield error


WAYS: Final = 11


def test_the_names_of_legacy_suites() -> None:
    names = [name for name in LEGACY if name.startswith("esdk-")]
    assert names == [suite.name for suite in SUITES.values() if not suite.committing]
    assert set(LEGACY) - set(names) == {"s3ec-v2", "s3ec-kms", "envkms01"}
    for suite in SUITES.values():
        begin = (b"\2" if suite.committing else b"\1\x80") + suite.id.to_bytes(2, "big")
        assert begins_message(begin + b"\0")
        assert not begins_message(begin[:-1])


def test_every_suite_in_every_way(world: World, tmp_path: Path) -> None:
    assert len(world.messages) == 22
    for key in world.keys[:2]:
        sealer = world.sealer(key)
        for message in world.messages.values():
            reads = list(every_way(sealer, message, tmp_path / "message"))
            assert reads == [DATA] * WAYS


def test_through_other_keyrings(world: World, tmp_path: Path) -> None:
    for message in (world.messages[0x0014, 4096], world.messages[0x0046, 0], world.messages[0x0478, 4096]):
        with sealwax.CachingKeyring(world.keyring(), max_age=60) as cache:
            sealer = sealwax.Sealer(cache, allow_legacy=LEGACY)
            assert list(every_way(sealer, message, tmp_path / "message")) == [DATA] * WAYS
            short = message is not world.messages[0x0478, 4096]
            assert cache.kms_stats().calls == (WAYS if short else 1)
        several = sealwax.MultiRegionKeyring(world.keys[:1], session=world.lab.session())
        sealer = sealwax.Sealer(several, allow_legacy=LEGACY)
        assert list(every_way(sealer, message, tmp_path / "message")) == [DATA] * WAYS


@pytest.mark.parametrize("through", ["one", "cache", "regions"])
def test_several_wrapped_keys_under_one_key(world: World, through: str) -> None:
    """One that KMS refuses, or that does not fit, hides none that follows it; the limit on attempts bounds them.

    Regions give the first data key that KMS unwraps, as the AWS Encryption SDK does, and no other if it does not fit.
    """
    kms, key = world.lab.session().client("kms"), world.keys[0]
    made = [kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT) for _ in range(2)]
    good, bad = (WrappedKey(key, each["CiphertextBlob"]) for each in made)
    worse = WrappedKey(key, bad.ciphertext[:-1])
    pairs = {"id": "7", "purpose": "backup"}

    def opens(*wrapped: WrappedKey) -> tuple[bool, int]:
        with DataKey(bytearray(made[0]["Plaintext"])) as data_key:
            message = writing.encrypt(writing.MessageEncryptor(data_key, pairs, wrapped), b"text")
        inner: Any = world.keyring()
        if through == "regions":
            inner = sealwax.MultiRegionKeyring([key], session=world.lab.session())
        keyring = sealwax.CachingKeyring(inner, max_age=60) if through == "cache" else inner
        try:
            return sealwax.Sealer(keyring).decrypt(message, context=CONTEXT) == b"text", inner.kms_stats().calls
        except (errors.CommitmentError, errors.AllKeysFailedError):
            return False, inner.kms_stats().calls

    assert opens(good, bad) == (True, 1)
    assert opens(worse, good) == (True, 2)
    assert opens(bad, good) == ((False, 1) if through == "regions" else (True, 2))
    assert opens(bad, bad) == (False, 1), "no call is made twice"
    assert opens(*(WrappedKey(key, bad.ciphertext[:-size]) for size in range(1, 15))) == (False, 3)


def test_what_changes_envelopes_takes_nothing_else(world: World, tmp_path: Path) -> None:
    """As the reference says; and ``verify`` and the async methods read what ``decrypt`` reads."""
    sealer, message, path = world.sealer(allow_legacy=["envkms01"]), world.messages[0x0478, 4096], tmp_path / "x"
    assert asyncio.run(sealer.decrypt_async(message, context=CONTEXT)) == DATA
    assert list(sealer.decrypt_many([(message, CONTEXT)])) == [DATA]
    script = scripts.envkms(world.lab, world.keys[0], b"data", CONTEXT)
    assert sealer.verify(script, context=CONTEXT) == 4
    for data in (message, script):
        path.write_bytes(data)
        for source in (data, path):
            with pytest.raises(errors.NotAnEnvelopeError):
                sealer.rewrap(source, to=world.keys[0], context=CONTEXT)
            with pytest.raises(errors.NotAnEnvelopeError):
                sealer.reencrypt(source, context=CONTEXT)
        with pytest.raises(errors.NotAnEnvelopeError):
            sealer.witness(io.BytesIO(data), lambda _: CONTEXT)
        assert path.read_bytes() == data


def test_a_keyring_of_somebody_else_unwraps_only_32_bytes(world: World) -> None:
    sealer = sealwax.Sealer(FakeKeyring(esdk.ARN), allow_legacy=LEGACY)
    with pytest.raises(errors.UnsupportedEnvelopeError, match="FakeKeyring unwraps only those of 32"):
        sealer.decrypt(world.messages[0x0014, 0], context=CONTEXT)


def test_random_access(world: World, tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(world.messages[0x0478, 4096])
    with world.sealer().open(tmp_path / "message", context=CONTEXT) as reader:
        assert reader.seekable()
        for at, size in ((9_990, 100), (0, 1), (4095, 2), (5000, 4096), (10_000, 1), (3, 9_000)):
            reader.seek(at)
            assert reader.read(size) == DATA[at : at + size]
    for suite, frame_length in ((0x0578, 4096), (0x0478, 0)):
        (tmp_path / "message").write_bytes(world.messages[suite, frame_length])
        with world.sealer().open(tmp_path / "message", context=CONTEXT) as reader:
            assert not reader.seekable()


# --- what is refused before KMS is asked


def refused(
    sealer: sealwax.Sealer,
    message: bytes,
    path: Path,
    kind: type[Exception],
    context: Any = CONTEXT,
    ways: slice = slice(None),
) -> str:
    errors_ = list(every_way(sealer, message, path, context))[ways]
    assert len(errors_) == len(range(WAYS)[ways])
    assert {type(error) for error in errors_} == {kind}, errors_
    assert sealer.stats().calls == 0
    assert len({str(error) for error in errors_}) == 1
    return str(errors_[0])


def test_legacy_suites_are_named(world: World, tmp_path: Path) -> None:
    for (suite, _), message in world.messages.items():
        name = f"esdk-{suite:04x}"
        if suite >= 0x0400:
            sealer = world.sealer(allow_legacy=())
            assert sealer.decrypt(message, context=CONTEXT) == DATA
            continue
        sealer = world.sealer(allow_legacy=set(LEGACY) - {name})
        assert name in refused(sealer, message, tmp_path / "x", errors.UnsupportedEnvelopeError)
        assert world.sealer(allow_legacy=[name]).decrypt(message, context=CONTEXT) == DATA
    for names in (["all"], ["esdk-0478"], ["esdk-0178", "x"]):
        with pytest.raises(ValueError, match="not the name of a legacy format"):
            world.sealer(allow_legacy=names)
    with pytest.raises(TypeError):
        world.sealer(allow_legacy="esdk-0178")


WRONG: Final[list[Any]] = [
    {"purpose": "backup"},
    {"purpose": "backup", "id": "8"},
    {**CONTEXT, "more": "x"},
    {**CONTEXT, "aws-crypto-public-key": "x"},
    AcceptStoredContext({"id": "8"}),
    AcceptStoredContext({"AWS-CRYPTO-x": "8"}),
    sealwax.NO_CONTEXT,
]


def test_the_context_is_compared_first(world: World, tmp_path: Path) -> None:
    for message in (world.messages[0x0578, 4096], world.messages[0x0178, 0]):
        for context in WRONG:
            refused(world.sealer(), message, tmp_path / "x", errors.ContextError, context)
        sealer = world.sealer()
        for good in (AcceptStoredContext(), AcceptStoredContext({"id": "7"})):
            assert list(every_way(sealer, message, tmp_path / "x", good)) == [DATA] * WAYS


def test_stored_names_of_the_formats_own_are_not_accepted(world: World, tmp_path: Path) -> None:
    message = esdk.written(DATA, {"aws_crypto-x": "1"}).replace(b"aws_crypto-x", b"aws-crypto-x", 1)
    refused(world.sealer(), message, tmp_path / "x", errors.ContextError, AcceptStoredContext())


def test_names_that_differ_in_case_from_the_formats_own_are_the_callers(world: World, tmp_path: Path) -> None:
    """The SDK reserves its prefix in lower case only, so such pairs exist, and no other program reads them to us."""
    provider = StrictAwsKmsMasterKeyProvider(
        key_ids=world.keys[:1], botocore_session=cast("Any", boto3.Session())._session
    )
    for pairs in ({"AWS-Crypto-purpose": "backup"}, {"Aws-crypto-x": "1", **CONTEXT}):
        message, _ = aws_encryption_sdk.EncryptionSDKClient().encrypt(
            source=DATA, key_provider=provider, encryption_context=pairs
        )
        assert list(every_way(world.sealer(), message, tmp_path / "x", pairs)) == [DATA] * WAYS


def test_errors_of_the_context_speak_of_messages(world: World) -> None:
    for message in (world.messages[0x0578, 4096], world.messages[0x0478, 0]):
        for context, unstored, said in (
            ({**CONTEXT, "more": "x"}, [], "the message does not store 'more'; .* must be listed as unstored"),
            ({"purpose": "backup"}, [], "the message is bound to 'id', which the given context lacks"),
            ({"purpose": "x", "id": "7"}, [], "the message is bound to a different value of 'purpose'"),
            (CONTEXT, ["id"], "the message stores 'id', which this reader lists as unstored"),
        ):
            with pytest.raises(errors.ContextError, match=said) as caught:
                world.sealer(unstored_context=unstored).decrypt(message, context=context)
            assert "local" not in str(caught.value)


def test_keys_that_are_not_allowed(world: World, tmp_path: Path) -> None:
    for message in (world.messages[0x0478, 4096], world.messages[0x0014, 0]):
        refused(world.sealer(world.keys[2]), message, tmp_path / "x", errors.KeyNotAllowedError)
    raw = esdk.written(DATA, CONTEXT).replace(b"\0\7aws-kms", b"\0\7raw-aes", 1)
    assert "raw-aes" in refused(world.sealer(), raw, tmp_path / "x", errors.KeyNotAllowedError)


def test_a_long_name_does_not_fill_the_screen(world: World, tmp_path: Path) -> None:
    message = esdk.written(DATA, CONTEXT, wrapped=("a" * 60_000, b"wrapped"))
    said = refused(world.sealer(), message, tmp_path / "x", errors.KeyNotAllowedError)
    assert "aaa', which is not among the allowed keys" in said
    assert len(said) < 600


def test_a_key_that_is_named_and_did_not_wrap_it(world: World) -> None:
    """Who may write messages writes another ARN: KMS says so, or answers for another key."""
    message = world.messages[0x0478, 4096]
    other = message.replace(world.keys[0].encode(), world.keys[2].encode())
    with pytest.raises(errors.WrongKeyError):
        world.sealer(world.keys[2]).decrypt(other, context=CONTEXT)


def test_damaged_headers(world: World, tmp_path: Path) -> None:
    message = world.messages[0x0578, 4096]
    refused(world.sealer(), message[:50], tmp_path / "x", errors.DamagedHeaderError)
    many = message.replace(b"\0\2\0\7aws-kms", b"\0\x11\0\7aws-kms", 1)
    assert "at most 16" in refused(world.sealer(), many, tmp_path / "x", errors.UnsupportedEnvelopeError)


# --- and after


def test_nothing_is_released_before_the_end(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    for (suite, frame_length), message in world.messages.items():
        if suite not in (0x0178, 0x0478, 0x0578):
            continue
        for damaged in (message[:-1], message + b"\0", message[:-1] + bytes([message[-1] ^ 1]), message[:-200]):
            reads = list(every_way(world.sealer(), damaged, tmp_path / "x"))
            assert {type(error) for error in reads} == {errors.TamperedError}
            out = io.BytesIO()
            with pytest.raises(errors.TamperedError):
                world.sealer().open_stream(pipe(damaged), context=CONTEXT).write_to(out)
            assert out.getvalue() == b"", (suite, frame_length)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_no_frame_is_released_before_the_end(world: World, tmp_path: Path) -> None:
    """Frames that are authentic by themselves are not enough: the message may be cut off."""
    data = os.urandom(3 << 20)
    kms = world.lab.session().client("kms")
    made = kms.generate_data_key(KeyId=world.keys[0], KeySpec="AES_256", EncryptionContext=CONTEXT)
    with DataKey(bytearray(made["Plaintext"])) as data_key:
        wrapped = (WrappedKey(world.keys[0], made["CiphertextBlob"]),)
        message = writing.encrypt(writing.MessageEncryptor(data_key, CONTEXT, wrapped), data)
    for damaged, whole in ((message, True), (message[: -10 * (4096 + 32)], False), (message + b"x", False)):
        (tmp_path / "x").write_bytes(damaged)
        for source in (tmp_path / "x", io.BytesIO(damaged), pipe(damaged)):
            out = io.BytesIO()
            try:
                with world.sealer().open_stream(source, context=CONTEXT) as reader:
                    reader.write_to(out)
            except errors.TamperedError:
                assert not whole
                assert out.getvalue() == b""
            else:
                assert whole
                assert out.getvalue() == data


def test_a_sealer_with_its_rules_goes_elsewhere(world: World) -> None:
    sealer = sealwax.Sealer(FakeKeyring(esdk.ARN), allow_legacy=["esdk-0178"], unstored_context=["tenant"])
    with pytest.raises(errors.KeyNotAllowedError):
        pickle.loads(pickle.dumps(sealer)).decrypt(world.messages[0x0178, 0], context=CONTEXT)


def test_what_holds_a_message_is_not_one(world: World, tmp_path: Path) -> None:
    message = world.messages[0x0478, 4096]
    for data, word in ((base64.b64encode(message), "base64"), (gzip.compress(message), "gzip")):
        for ways in (slice(0, 2), slice(2, 4), slice(5, 7)):
            assert word in refused(world.sealer(), data, tmp_path / "x", errors.NotAnEnvelopeError, ways=ways)


def test_other_bytes_are_what_they_were(world: World) -> None:
    for data in (b"\2", b"\1\x80", b"\2\4\x79" + bytes(100), b"\1\x80\4\x78" + bytes(100)):
        with pytest.raises(errors.NotAnEnvelopeError, match="not a sealwax envelope"):
            world.sealer().decrypt(data, context=CONTEXT)
        with pytest.raises(errors.NotAnEnvelopeError, match="not a sealwax envelope"):
            world.sealer().verify(pipe(data), context=CONTEXT)
