"""Both directions with the real AWS Encryption SDK: every suite, framed and not, around the edges of frames."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_encryption_sdk
import boto3
import pytest
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import (
    AesWrappingAlg,
    CreateDefaultCryptographicMaterialsManagerInput,
    CreateRawAesKeyringInput,
    CreateRequiredEncryptionContextCMMInput,
)
from aws_encryption_sdk.identifiers import (
    AlgorithmSuite,
    CommitmentPolicy,
    EncryptionKeyType,
    WrappingAlgorithm,
)
from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
from aws_encryption_sdk.key_providers.kms import StrictAwsKmsMasterKeyProvider
from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider

from sealwax._core.foreign.esdk import writing
from sealwax._core.foreign.esdk.header import header_of
from sealwax._core.foreign.esdk.suites import SUITES
from sealwax._core.keyring import DataKey, WrappedKey
from sealwax.errors import CommitmentError
from sealwax.lab import Lab
from tests.foreign import esdk
from tests.foreign.test_real_messages import serving

pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*streaming_client:pytest.PytestUnraisableExceptionWarning"
)
CONTEXT = {"purpose": "backup", "a": "first", "Größe": "\u00e9"}
FRAME = 128
LARGE = (0x0178, 0x0478, 0x0578)
EDGES = (0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME - 1, 2 * FRAME, 2 * FRAME + 1, 40 * FRAME)


class RawKey(RawMasterKeyProvider):  # type: ignore[misc]
    provider_id = esdk.NAMESPACE

    def _get_raw_key(self, key_id: bytes) -> WrappingKey:  # noqa: ARG002
        return WrappingKey(
            wrapping_algorithm=WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING,
            wrapping_key=esdk.RAW_KEY,
            wrapping_key_type=EncryptionKeyType.SYMMETRIC,
        )


def theirs(plaintext: bytes, suite: Any, frame_length: int, context: Mapping[str, str] = CONTEXT) -> bytes:
    commits = suite.algorithm_id >= 0x0400
    policy = (
        CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT if commits else CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT
    )
    provider = RawKey()
    provider.add_master_key(esdk.NAME)
    message, _ = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=policy).encrypt(
        source=plaintext,
        key_provider=provider,
        algorithm=suite,
        frame_length=frame_length,
        encryption_context=dict(context),
    )
    assert isinstance(message, bytes)
    return message


def test_there_are_eleven_suites() -> None:
    assert {suite.algorithm_id for suite in AlgorithmSuite} == set(SUITES)
    assert len(SUITES) == 11


@pytest.mark.parametrize("suite", AlgorithmSuite)
def test_every_reader_reads_theirs(suite: Any) -> None:
    reads = 0
    for frame_length, sizes in ((FRAME, EDGES), (0, (0, 1, 4096)), (256, (255, 256, 257)), (4096, (0, 4096, 10_000))):
        for size in sizes:
            plaintext = os.urandom(size)
            context = CONTEXT if size else {}
            message = theirs(plaintext, suite, frame_length, context)
            header = header_of(message)
            assert (header.suite.id, header.frame_length) == (suite.algorithm_id, frame_length)
            assert header.caller_context == context
            for read in esdk.every_reader(message, esdk.unwrapped(header)):
                assert read == plaintext
                reads += 1
    assert reads >= 18 * 3


@pytest.mark.parametrize("frame_length", [0, 4096, 1 << 20, 3 << 20])
@pytest.mark.parametrize("suite", [suite for suite in AlgorithmSuite if suite.algorithm_id in LARGE])
def test_every_reader_reads_large_ones_of_theirs(suite: Any, frame_length: int) -> None:
    plaintext = os.urandom((4 << 20) + 12345)
    message = theirs(plaintext, suite, frame_length)
    for read in esdk.every_reader(message, esdk.unwrapped(header_of(message))):
        assert read == plaintext


def test_pairs_that_are_bound_and_not_stored() -> None:
    mpl = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
    keyring = mpl.create_raw_aes_keyring(
        CreateRawAesKeyringInput(
            key_namespace=esdk.NAMESPACE,
            key_name=esdk.NAME.decode(),
            wrapping_key=esdk.RAW_KEY,
            wrapping_alg=AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
        )
    )
    default = mpl.create_default_cryptographic_materials_manager(
        CreateDefaultCryptographicMaterialsManagerInput(keyring=keyring)
    )
    manager = mpl.create_required_encryption_context_cmm(
        CreateRequiredEncryptionContextCMMInput(
            underlying_cmm=default, keyring=None, required_encryption_context_keys=["purpose", "Größe"]
        )
    )
    message, _ = aws_encryption_sdk.EncryptionSDKClient().encrypt(
        source=b"data", materials_manager=manager, encryption_context=CONTEXT
    )
    header = header_of(message)
    assert header.caller_context == {"a": "first"}
    unstored = {name: value for name, value in CONTEXT.items() if name != "a"}
    dek = esdk.unwrapped(header, unstored)
    reads = list(esdk.every_reader(message, dek, unstored))
    assert reads == [b"data"] * len(reads)
    assert len(reads) >= 3
    for wrong in ({}, {"purpose": "backup"}, {**unstored, "purpose": "other"}, {**unstored, "more": "x"}):
        with pytest.raises(CommitmentError):
            list(esdk.every_reader(message, dek, wrong))


def test_they_read_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through KMS, with each of two wrapped keys; ours are read by every reader of ours, too."""
    with Lab(tmp_path / "lab") as lab, serving(lab) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "thing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        kms = lab.session().client("kms")
        keys = [lab.create_key()["Arn"] for _ in range(2)]
        made = kms.generate_data_key(KeyId=keys[0], KeySpec="AES_256", EncryptionContext=CONTEXT)
        again = kms.encrypt(KeyId=keys[1], Plaintext=made["Plaintext"], EncryptionContext=CONTEXT)
        wrapped = [WrappedKey(keys[0], made["CiphertextBlob"]), WrappedKey(keys[1], again["CiphertextBlob"])]
        session: Any = boto3.Session()._session
        providers = [StrictAwsKmsMasterKeyProvider(key_ids=[key], botocore_session=session) for key in keys]
        client = aws_encryption_sdk.EncryptionSDKClient()
        cases = [(FRAME, size) for size in EDGES] + [(1, 3), (4096, 1 << 20), (4096, (1 << 20) + 1), (1 << 20, 99)]
        for number, (frame_length, size) in enumerate(cases):
            plaintext = os.urandom(size)
            with DataKey(bytearray(made["Plaintext"])) as data_key:
                encryptor = writing.MessageEncryptor(data_key, CONTEXT, wrapped, frame_length)
            message = writing.encrypt(encryptor, plaintext)
            read, header = client.decrypt(source=message, key_provider=providers[number % 2])
            assert read == plaintext
            assert header.encryption_context == CONTEXT
            assert header_of(message).wrapped_keys == tuple(wrapped)
            for own in esdk.every_reader(message, bytearray(made["Plaintext"])):
                assert own == plaintext
        assert number == 12


def test_they_read_ours_written_in_parts() -> None:
    """A final frame may be empty, after a plaintext that ends with a frame."""
    provider = RawKey()
    provider.add_master_key(esdk.NAME)
    for parts in ((FRAME * 2, FRAME, 0), (FRAME, 5), (0,), (FRAME * 3, 0)):
        plaintext = os.urandom(sum(parts))
        with DataKey(bytearray(esdk.DEK)) as data_key:
            encryptor = writing.MessageEncryptor(data_key, CONTEXT, (WrappedKey(esdk.ARN, b"wrapped"),), FRAME)
        out, source = [encryptor.head], io.BytesIO(plaintext)
        for number, size in enumerate(parts):
            last = number == len(parts) - 1
            room = bytearray(encryptor.sealed_bytes(size, last=last))
            assert encryptor.seal_into(memoryview(source.read(size)), memoryview(room), last=last) == len(room)
            out.append(bytes(room))
        with pytest.raises(ValueError, match="complete"):
            encryptor.seal_into(memoryview(b""), memoryview(bytearray(100)), last=True)
        message = b"".join(out)
        for own in esdk.every_reader(message, bytearray(esdk.DEK)):
            assert own == plaintext
