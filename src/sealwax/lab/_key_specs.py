"""Key specs: which uses, algorithms and grants each one allows.

Symmetric encryption keys work. Keys of other specs can be created, described, listed, tagged, granted, replicated and
deleted, so programs see the variety of a real account; their cryptography is not offered.
"""

from __future__ import annotations

from typing import Final

from sealwax.lab._apierror import ApiError, refused, unsupported
from sealwax.lab._model import KeyRecord

SYMMETRIC: Final = "SYMMETRIC_DEFAULT"
ENCRYPT_DECRYPT: Final = "ENCRYPT_DECRYPT"

_RSA_SIGNING: Final = tuple(f"RSASSA_{kind}_SHA_{size}" for kind in ("PSS", "PKCS1_V1_5") for size in (256, 384, 512))
_RSA: Final = {ENCRYPT_DECRYPT: ("RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"), "SIGN_VERIFY": _RSA_SIGNING}
_KINDS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    SYMMETRIC: {ENCRYPT_DECRYPT: (SYMMETRIC,)},
    **{f"RSA_{size}": _RSA for size in (2048, 3072, 4096)},
    **{
        f"ECC_NIST_P{curve}": {"SIGN_VERIFY": (f"ECDSA_SHA_{size}",), "KEY_AGREEMENT": ("ECDH",)}
        for curve, size in ((256, 256), (384, 384), (521, 512))
    },
    "ECC_SECG_P256K1": {"SIGN_VERIFY": ("ECDSA_SHA_256",)},
    "ECC_NIST_EDWARDS25519": {"SIGN_VERIFY": ("ED25519_SHA_512", "ED25519_PH_SHA_512")},
    **{f"HMAC_{size}": {"GENERATE_VERIFY_MAC": (f"HMAC_SHA_{size}",)} for size in (224, 256, 384, 512)},
    **{f"ML_DSA_{size}": {"SIGN_VERIFY": ("ML_DSA_SHAKE_256",)} for size in (44, 65, 87)},
}
# The member of KeyMetadata that lists the algorithms of a use.
_LISTED_AS: Final = {
    ENCRYPT_DECRYPT: "EncryptionAlgorithms",
    "SIGN_VERIFY": "SigningAlgorithms",
    "GENERATE_VERIFY_MAC": "MacAlgorithms",
    "KEY_AGREEMENT": "KeyAgreementAlgorithms",
}
_ALWAYS: Final = frozenset({"CreateGrant", "DescribeKey", "RetireGrant"})
_GRANTS: Final = {
    "SIGN_VERIFY": frozenset({"Sign", "Verify", "GetPublicKey"}),
    "GENERATE_VERIFY_MAC": frozenset({"GenerateMac", "VerifyMac"}),
    "KEY_AGREEMENT": frozenset({"DeriveSharedSecret", "GetPublicKey"}),
}
_CIPHERS: Final = frozenset({"Decrypt", "Encrypt", "ReEncryptFrom", "ReEncryptTo"})
_DATA_KEYS: Final = frozenset(
    f"GenerateDataKey{form}" for form in ("", "WithoutPlaintext", "Pair", "PairWithoutPlaintext")
)


def usage_for(spec: str, usage: str | None) -> str:
    """The KeyUsage of a new key of that spec.

    Raises:
        ApiError: the use is missing or does not fit the spec, or the lab does not have the spec.
    """
    if spec not in _KINDS:
        raise unsupported(f"The lab does not offer keys of the spec {spec}.")
    if usage is None:
        if spec != SYMMETRIC:
            raise refused("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
        return ENCRYPT_DECRYPT
    if usage not in _KINDS[spec]:
        raise refused(f"KeyUsage {usage} is not compatible with KeySpec {spec}")
    return usage


def is_symmetric(key: KeyRecord) -> bool:
    """Whether it is a symmetric encryption key: only those have material in the lab and can be rotated."""
    return key.spec == SYMMETRIC


def has_old_name(key: KeyRecord) -> bool:
    """Whether KMS also reports the spec under its deprecated name, CustomerMasterKeySpec; not for later specs."""
    return not key.spec.startswith(("ML_DSA", "ECC_NIST_EDWARDS"))


def algorithms(key: KeyRecord) -> dict[str, list[str]]:
    """The member of KeyMetadata that lists the key's algorithms."""
    return {_LISTED_AS[key.usage]: list(_KINDS[key.spec][key.usage])}


def grantable(key: KeyRecord) -> frozenset[str]:
    """The operations that a grant on the key may list."""
    if key.usage != ENCRYPT_DECRYPT:
        return _ALWAYS | _GRANTS[key.usage]
    return _ALWAYS | _CIPHERS | (_DATA_KEYS if is_symmetric(key) else {"GetPublicKey"})


def need_cipher(key: KeyRecord, operation: str, algorithm: str | None) -> None:
    """Check that the key can encrypt and decrypt with the request's algorithm.

    Raises:
        ApiError: InvalidKeyUsageException; UnsupportedOperationException for an asymmetric key.
    """
    if key.usage != ENCRYPT_DECRYPT:
        raise _wrong_use(f"{key.arn} key usage is {key.usage} which is not valid for {operation}.")
    algorithm = algorithm or SYMMETRIC
    if algorithm not in _KINDS[key.spec][key.usage]:
        raise _wrong_use(f"Algorithm {algorithm} is incompatible with key spec {key.spec} of {key.arn}.")
    if not is_symmetric(key):
        raise unsupported(f"The lab does not offer {operation} with asymmetric keys.")


def need_symmetric(key: KeyRecord, operation: str) -> None:
    """Check that the key can generate data keys.

    Raises:
        ApiError: InvalidKeyUsageException.
    """
    encrypts = key.usage == ENCRYPT_DECRYPT
    if not (encrypts and is_symmetric(key)):
        what = f"key spec is {key.spec}" if encrypts else f"key usage is {key.usage}"
        raise _wrong_use(f"{key.arn} {what} which is not valid for {operation}.")


def need_rotatable(key: KeyRecord) -> None:
    """Check that the key is of the only kind that can be rotated.

    Raises:
        ApiError: UnsupportedOperationException.
    """
    if not is_symmetric(key):
        raise unsupported(f"{key.arn} key spec is {key.spec} which is not valid for this operation.")


def _wrong_use(message: str) -> ApiError:
    return ApiError("InvalidKeyUsageException", message)
