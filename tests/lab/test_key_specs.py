"""Keys of other kinds than symmetric encryption: described as KMS does, and refused for what they are not for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from sealwax.lab import Lab
from tests.lab.conftest import client
from tests.lab.refusal import refused

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

SIGNING = "SigningAlgorithms"
RSA_SIGNING = {f"RSASSA_{kind}_SHA_{size}" for kind in ("PSS", "PKCS1_V1_5") for size in (256, 384, 512)}
KINDS: list[tuple[str, str, str, set[str]]] = [
    ("RSA_2048", "SIGN_VERIFY", SIGNING, RSA_SIGNING),
    ("RSA_4096", "ENCRYPT_DECRYPT", "EncryptionAlgorithms", {"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"}),
    ("ECC_NIST_P256", "SIGN_VERIFY", SIGNING, {"ECDSA_SHA_256"}),
    ("ECC_NIST_P521", "KEY_AGREEMENT", "KeyAgreementAlgorithms", {"ECDH"}),
    ("ECC_SECG_P256K1", "SIGN_VERIFY", SIGNING, {"ECDSA_SHA_256"}),
    ("ECC_NIST_EDWARDS25519", "SIGN_VERIFY", SIGNING, {"ED25519_SHA_512", "ED25519_PH_SHA_512"}),
    ("HMAC_224", "GENERATE_VERIFY_MAC", "MacAlgorithms", {"HMAC_SHA_224"}),
    ("HMAC_512", "GENERATE_VERIFY_MAC", "MacAlgorithms", {"HMAC_SHA_512"}),
    ("ML_DSA_65", "SIGN_VERIFY", SIGNING, {"ML_DSA_SHAKE_256"}),
]
NAMES = [f"{spec} {usage}" for spec, usage, _, _ in KINDS]


def make(kms: KMSClient, spec: Any, usage: Any) -> Any:
    return kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]


@pytest.mark.parametrize(("spec", "usage", "member", "algorithms"), KINDS, ids=NAMES)
def test_it_is_described_and_refused(kms: KMSClient, spec: str, usage: str, member: str, algorithms: set[str]) -> None:
    made = make(kms, spec, usage)
    assert kms.describe_key(KeyId=made["KeyId"])["KeyMetadata"] == made
    assert (made["KeySpec"], made["KeyUsage"], made["KeyState"]) == (spec, usage, "Enabled")
    assert set(made[member]) == algorithms
    assert not {"EncryptionAlgorithms", SIGNING, "MacAlgorithms", "KeyAgreementAlgorithms"} - {member} & set(made)
    assert "CurrentKeyMaterialId" not in made

    key = made["Arn"]
    good = kms.create_key()["KeyMetadata"]["KeyId"]
    blob = kms.encrypt(KeyId=good, Plaintext=b"x")["CiphertextBlob"]
    uses: list[Callable[[], object]] = [
        lambda: kms.generate_data_key(KeyId=key, KeySpec="AES_256"),
        lambda: kms.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256"),
        lambda: kms.generate_data_key(KeyId=key, KeySpec="AES_256", DryRun=True),
        lambda: kms.encrypt(KeyId=key, Plaintext=b"x"),
        lambda: kms.decrypt(KeyId=key, CiphertextBlob=blob),
        lambda: kms.decrypt(KeyId=key, DryRun=True, DryRunModifiers=["IGNORE_CIPHERTEXT"]),
        lambda: kms.re_encrypt(SourceKeyId=key, CiphertextBlob=blob, DestinationKeyId=good),
        lambda: kms.re_encrypt(CiphertextBlob=blob, DestinationKeyId=key),
    ]
    for use in uses:
        with refused("InvalidKeyUsageException") as refusal:
            use()
        assert refusal.status == 400
        assert key in refusal.message
        # What does not fit: the usage or, where that is right, the spec.
        assert (usage if usage != "ENCRYPT_DECRYPT" else spec) in refusal.message
    rotations: list[Callable[[], object]] = [
        lambda: kms.enable_key_rotation(KeyId=key),
        lambda: kms.disable_key_rotation(KeyId=key),
        lambda: kms.get_key_rotation_status(KeyId=key),
        lambda: kms.list_key_rotations(KeyId=key),
        lambda: kms.rotate_key_on_demand(KeyId=key),
    ]
    for rotation in rotations:
        with refused("UnsupportedOperationException"):
            rotation()


def test_asymmetric_encryption_is_not_offered(kms: KMSClient) -> None:
    key = make(kms, "RSA_2048", "ENCRYPT_DECRYPT")["KeyId"]
    with refused("UnsupportedOperationException"):
        kms.encrypt(KeyId=key, Plaintext=b"x", EncryptionAlgorithm="RSAES_OAEP_SHA_256")
    signing = make(kms, "RSA_2048", "SIGN_VERIFY")["KeyId"]
    with refused("InvalidKeyUsageException"):
        kms.encrypt(KeyId=signing, Plaintext=b"x", EncryptionAlgorithm="RSAES_OAEP_SHA_256")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"KeySpec": "RSA_2048"}, "ValidationException"),
        ({"KeySpec": "HMAC_256"}, "ValidationException"),
        ({"KeySpec": "HMAC_256", "KeyUsage": "SIGN_VERIFY"}, "ValidationException"),
        ({"KeyUsage": "SIGN_VERIFY"}, "ValidationException"),
        ({"KeySpec": "ECC_SECG_P256K1", "KeyUsage": "KEY_AGREEMENT"}, "ValidationException"),
        ({"KeySpec": "SM2", "KeyUsage": "SIGN_VERIFY"}, "UnsupportedOperationException"),
        ({"KeySpec": "ML_KEM_768", "KeyUsage": "ENCAPSULATE_DECAPSULATE"}, "UnsupportedOperationException"),
        ({"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY", "Origin": "EXTERNAL"}, "UnsupportedOperationException"),
    ],
)
def test_kinds_that_cannot_be(kms: KMSClient, arguments: dict[str, Any], code: str) -> None:
    with refused(code):
        kms.create_key(**arguments)


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("sign", {"Message": b"x", "SigningAlgorithm": "ECDSA_SHA_256"}),
        ("get_public_key", {}),
        ("generate_mac", {"Message": b"x", "MacAlgorithm": "HMAC_SHA_256"}),
        ("generate_data_key_pair", {"KeyPairSpec": "RSA_2048"}),
    ],
)
def test_their_own_operations_are_not_offered(kms: KMSClient, operation: str, arguments: dict[str, Any]) -> None:
    key = make(kms, "ECC_NIST_P256", "SIGN_VERIFY")["KeyId"]
    with refused("UnsupportedOperationException"):
        getattr(kms, operation)(KeyId=key, **arguments)


@pytest.mark.parametrize(
    ("spec", "usage", "fits", "does_not"),
    [
        ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", ["Encrypt", "GenerateDataKeyPair", "ReEncryptTo"], "Sign"),
        ("RSA_2048", "ENCRYPT_DECRYPT", ["Decrypt", "ReEncryptFrom", "GetPublicKey"], "GenerateDataKey"),
        ("RSA_2048", "SIGN_VERIFY", ["Sign", "Verify", "GetPublicKey"], "Encrypt"),
        ("HMAC_256", "GENERATE_VERIFY_MAC", ["GenerateMac", "VerifyMac"], "GetPublicKey"),
        ("ECC_NIST_P256", "KEY_AGREEMENT", ["DeriveSharedSecret", "GetPublicKey"], "Sign"),
    ],
)
def test_a_grant_names_what_the_key_can_do(
    kms: KMSClient, spec: str, usage: str, fits: list[Any], does_not: Any
) -> None:
    key = make(kms, spec, usage)["KeyId"]
    grantee = "arn:aws:iam::111122223333:root"
    always: list[Any] = ["CreateGrant", "DescribeKey", "RetireGrant"]
    assert kms.create_grant(KeyId=key, GranteePrincipal=grantee, Operations=[*fits, *always])["GrantId"]
    with refused("ValidationException"):
        kms.create_grant(KeyId=key, GranteePrincipal=grantee, Operations=[does_not])


def test_they_live_as_other_keys_do(lab: Lab, kms: KMSClient) -> None:
    made = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC", MultiRegion=True)["KeyMetadata"]
    key = made["KeyId"]
    kms.create_alias(AliasName="alias/mac", TargetKeyId=key)
    replica = kms.replicate_key(KeyId=key, ReplicaRegion="eu-west-1")["ReplicaKeyMetadata"]
    assert replica["MacAlgorithms"] == ["HMAC_SHA_256"]
    assert client(lab.session("eu-west-1")).describe_key(KeyId=key)["KeyMetadata"]["KeySpec"] == "HMAC_256"
    kms.disable_key(KeyId=key)
    with refused("InvalidKeyUsageException"):
        kms.generate_data_key(KeyId="alias/mac", KeySpec="AES_256")
    assert [found["KeySpec"] for found in lab.list_keys()] == ["HMAC_256", "HMAC_256"]
