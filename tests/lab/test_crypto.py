"""The cryptographic operations: what they give, and KMS's own refusals."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sealwax.lab import Lab
from tests.lab.conftest import client
from tests.lab.refusal import refused

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

CONTEXT = {"purpose": "backup", "table": "users"}


@pytest.fixture
def key(kms: KMSClient) -> str:
    return kms.create_key()["KeyMetadata"]["Arn"]


def test_a_data_key_comes_back_from_its_blob(kms: KMSClient, key: str) -> None:
    made = kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)
    assert len(made["Plaintext"]) == 32
    assert 150 <= len(made["CiphertextBlob"]) <= 190
    opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)
    assert opened["Plaintext"] == made["Plaintext"]
    assert opened["KeyId"] == made["KeyId"] == key
    current = kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"]
    assert opened["KeyMaterialId"] == made["KeyMaterialId"] == current
    assert opened["EncryptionAlgorithm"] == "SYMMETRIC_DEFAULT"


@pytest.mark.parametrize(("spec", "size"), [("AES_128", 16), ("AES_256", 32)])
def test_data_keys_have_the_size_of_their_spec(kms: KMSClient, key: str, spec: str, size: int) -> None:
    assert len(kms.generate_data_key(KeyId=key, KeySpec=spec)["Plaintext"]) == size  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 2, 3, 31, 1024])
def test_data_keys_of_any_number_of_bytes(kms: KMSClient, key: str, size: int) -> None:
    made = kms.generate_data_key(KeyId=key, NumberOfBytes=size)
    assert len(made["Plaintext"]) == size
    assert kms.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"] == made["Plaintext"]


def test_two_data_keys_are_different_keys(kms: KMSClient, key: str) -> None:
    first, second = (kms.generate_data_key(KeyId=key, KeySpec="AES_256") for _ in range(2))
    assert first["Plaintext"] != second["Plaintext"]
    assert first["CiphertextBlob"] != second["CiphertextBlob"]


def test_without_plaintext_there_is_none_but_the_blob_opens(kms: KMSClient, key: str) -> None:
    made = kms.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256")
    assert "Plaintext" not in made
    assert len(kms.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"]) == 32


@pytest.mark.parametrize("arguments", [{}, {"KeySpec": "AES_256", "NumberOfBytes": 32}])
def test_either_a_spec_or_a_number_of_bytes(kms: KMSClient, key: str, arguments: dict[str, object]) -> None:
    with refused("ValidationException") as refusal:
        kms.generate_data_key(KeyId=key, **arguments)  # type: ignore[arg-type]
    assert refusal.message == "Please specify either number of bytes or key spec."


@pytest.mark.parametrize("plaintext", [b"x", b"hello", os.urandom(4096), b'"Plaintext":"AAAA"'])
def test_encrypt_and_decrypt(kms: KMSClient, key: str, plaintext: bytes) -> None:
    made = kms.encrypt(KeyId=key, Plaintext=plaintext, EncryptionContext=CONTEXT)
    opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)
    assert opened["Plaintext"] == plaintext


def test_a_context_pair_named_plaintext_is_a_pair_like_any_other(kms: KMSClient, key: str) -> None:
    context = {"Plaintext": "AAAA", "other": "x"}
    made = kms.encrypt(KeyId=key, Plaintext=b"secret", EncryptionContext=context)
    assert kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)["Plaintext"] == b"secret"
    with refused("InvalidCiphertextException"):
        kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context | {"Plaintext": "BBBB"})


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"purpose": "backup"},
        CONTEXT | {"extra": "x"},
        CONTEXT | {"purpose": "restore"},
        {"Purpose": "backup", "table": "users"},
        CONTEXT | {"purpose": "Backup"},
        {"purpose": "users", "table": "backup"},
    ],
)
def test_another_context_opens_nothing(kms: KMSClient, key: str, context: dict[str, str]) -> None:
    made = kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)
    with refused("InvalidCiphertextException") as refusal:
        kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)
    assert refusal.status == 400


def test_every_flipped_byte_is_noticed(kms: KMSClient, key: str) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    for at in range(len(blob)):
        damaged = bytearray(blob)
        damaged[at] ^= 1
        with refused("InvalidCiphertextException"):
            kms.decrypt(CiphertextBlob=bytes(damaged))


@pytest.mark.parametrize("cut", [1, 16, 60, 100])
def test_truncated_and_extended_blobs_are_no_blobs(kms: KMSClient, key: str, cut: int) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    for damaged in (blob[:-cut], blob + bytes(cut), blob[cut:], os.urandom(len(blob)), b"x" * cut):
        with refused("InvalidCiphertextException"):
            kms.decrypt(CiphertextBlob=damaged, KeyId=key)


def test_a_blob_of_another_key_is_told_apart(kms: KMSClient, key: str) -> None:
    blob = kms.encrypt(KeyId=kms.create_key()["KeyMetadata"]["KeyId"], Plaintext=b"secret")["CiphertextBlob"]
    with refused("IncorrectKeyException"):
        kms.decrypt(CiphertextBlob=blob, KeyId=key)
    with refused("IncorrectKeyException"):
        kms.re_encrypt(CiphertextBlob=blob, SourceKeyId=key, DestinationKeyId=key)


def test_a_blob_of_another_region_is_of_no_key_here(lab: Lab, kms: KMSClient, key: str) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    elsewhere = client(lab.session("eu-west-1"))
    with refused("AccessDeniedException") as refusal:
        elsewhere.decrypt(CiphertextBlob=blob)
    assert "does not exist in this Region" in refusal.message


def test_a_disabled_key_does_nothing(kms: KMSClient, key: str) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=key)
    for attempt in (
        lambda: kms.decrypt(CiphertextBlob=blob),
        lambda: kms.encrypt(KeyId=key, Plaintext=b"secret"),
        lambda: kms.generate_data_key(KeyId=key, KeySpec="AES_256"),
        lambda: kms.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256"),
        lambda: kms.re_encrypt(CiphertextBlob=blob, DestinationKeyId=other),
        lambda: kms.re_encrypt(
            CiphertextBlob=kms.encrypt(KeyId=other, Plaintext=b"x")["CiphertextBlob"], DestinationKeyId=key
        ),
    ):
        with refused("DisabledException") as refusal:
            attempt()
        assert refusal.message == f"{key} is disabled."
    kms.enable_key(KeyId=key)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"secret"


def test_re_encrypt_moves_a_blob_to_another_key_and_context(kms: KMSClient, key: str) -> None:
    target = kms.create_key()["KeyMetadata"]
    blob = kms.encrypt(KeyId=key, Plaintext=b"secret", EncryptionContext=CONTEXT)["CiphertextBlob"]
    moved = kms.re_encrypt(
        CiphertextBlob=blob,
        SourceEncryptionContext=CONTEXT,
        DestinationKeyId=target["KeyId"],
        DestinationEncryptionContext={"a": "b"},
    )
    assert moved["SourceKeyId"] == key
    assert moved["KeyId"] == target["Arn"]
    assert moved["DestinationKeyMaterialId"] == target["CurrentKeyMaterialId"]
    assert moved["SourceKeyMaterialId"] == kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"]
    opened = kms.decrypt(CiphertextBlob=moved["CiphertextBlob"], EncryptionContext={"a": "b"}, KeyId=target["KeyId"])
    assert opened["Plaintext"] == b"secret"
    with refused("InvalidCiphertextException"):
        kms.re_encrypt(CiphertextBlob=blob, DestinationKeyId=target["KeyId"])


def test_an_asymmetric_algorithm_does_not_fit_a_symmetric_key(kms: KMSClient, key: str) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    with refused("InvalidKeyUsageException"):
        kms.decrypt(CiphertextBlob=blob, EncryptionAlgorithm="RSAES_OAEP_SHA_256")
    with refused("InvalidKeyUsageException"):
        kms.encrypt(KeyId=key, Plaintext=b"secret", EncryptionAlgorithm="RSAES_OAEP_SHA_256")


def test_a_dry_run_says_so_and_does_nothing(kms: KMSClient, key: str) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    for attempt in (
        lambda: kms.generate_data_key(KeyId=key, KeySpec="AES_256", DryRun=True),
        lambda: kms.encrypt(KeyId=key, Plaintext=b"secret", DryRun=True),
        lambda: kms.decrypt(CiphertextBlob=blob, DryRun=True),
        lambda: kms.re_encrypt(CiphertextBlob=blob, DestinationKeyId=key, DryRun=True),
        lambda: kms.decrypt(KeyId=key, DryRun=True, DryRunModifiers=["IGNORE_CIPHERTEXT"]),
        lambda: kms.re_encrypt(
            SourceKeyId=key, DestinationKeyId=key, DryRun=True, DryRunModifiers=["IGNORE_CIPHERTEXT"]
        ),
    ):
        with refused("DryRunOperationException"):
            attempt()
    with refused("InvalidCiphertextException"):
        kms.decrypt(CiphertextBlob=b"x" * 160, DryRun=True)
    kms.disable_key(KeyId=key)
    with refused("DisabledException"):
        kms.decrypt(KeyId=key, DryRun=True, DryRunModifiers=["IGNORE_CIPHERTEXT"])


def test_a_ciphertext_is_needed_unless_a_dry_run_ignores_it(kms: KMSClient, key: str) -> None:
    with refused("ValidationException"):
        kms.decrypt(KeyId=key)
    with refused("ValidationException"):
        kms.decrypt(KeyId=key, DryRun=True)
    with refused("ValidationException"):
        kms.decrypt(KeyId=key, DryRunModifiers=["IGNORE_CIPHERTEXT"])
    with refused("ValidationException"):
        kms.decrypt(DryRun=True, DryRunModifiers=["IGNORE_CIPHERTEXT"])


@pytest.mark.parametrize("size", [1, 32, 1024])
def test_random_bytes(kms: KMSClient, size: int) -> None:
    first, second = (kms.generate_random(NumberOfBytes=size)["Plaintext"] for _ in range(2))
    assert len(first) == len(second) == size
    assert size == 1 or first != second
