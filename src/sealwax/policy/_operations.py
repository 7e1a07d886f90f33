"""The permissions of each KMS operation, their resources, and who can get them.

Source: "AWS KMS permissions" in the KMS Developer Guide and the "Required permissions" and "Cross-account use" lines of
the KMS API Reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class On(Enum):
    """The resource of a permission. Each is evaluated on its own."""

    KEY = "the KMS key"
    SOURCE_KEY = "the KMS key that the ciphertext is under"
    DESTINATION_KEY = "the KMS key that the new ciphertext will be under"
    CURRENT_KEY = "the KMS key that the alias points at, or the primary key"
    NEW_KEY = "the KMS key that the alias will point at, or the replica that will become the primary key"
    ALIAS = "the alias"
    ACCOUNT = "*"


@dataclass(frozen=True, slots=True)
class Permission:
    """An action that must be allowed on a resource.

    Attributes:
        action: the action, such as ``kms:Decrypt``.
        on: the resource.
    """

    action: str
    on: On


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _actions(text: str) -> frozenset[str]:
    return frozenset(f"kms:{name}" for name in text.split())


_SEVERAL: Final[dict[str, tuple[Permission, ...]]] = {
    "ReEncrypt": (Permission("kms:ReEncryptFrom", On.SOURCE_KEY), Permission("kms:ReEncryptTo", On.DESTINATION_KEY)),
    "CreateAlias": (Permission("kms:CreateAlias", On.ALIAS), Permission("kms:CreateAlias", On.KEY)),
    "DeleteAlias": (Permission("kms:DeleteAlias", On.ALIAS), Permission("kms:DeleteAlias", On.KEY)),
    "UpdateAlias": (
        Permission("kms:UpdateAlias", On.ALIAS),
        Permission("kms:UpdateAlias", On.CURRENT_KEY),
        Permission("kms:UpdateAlias", On.NEW_KEY),
    ),
    "ReplicateKey": (Permission("kms:ReplicateKey", On.KEY), Permission("kms:CreateKey", On.ACCOUNT)),
    "UpdatePrimaryRegion": (
        Permission("kms:UpdatePrimaryRegion", On.CURRENT_KEY),
        Permission("kms:UpdatePrimaryRegion", On.NEW_KEY),
    ),
}

_ON_ACCOUNT: Final = _names(
    """
    ConnectCustomKeyStore CreateCustomKeyStore CreateKey DeleteCustomKeyStore DescribeCustomKeyStores
    DisconnectCustomKeyStore GenerateRandom ListAliases ListKeys ListRetirableGrants UpdateCustomKeyStore
    """
)

#: Actions on a KMS key that principals of other accounts can be allowed.
CROSS_ACCOUNT: Final = _actions(
    """
    CreateGrant Decapsulate Decrypt DeriveSharedSecret DescribeKey Encapsulate Encrypt GenerateDataKey
    GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext GenerateMac
    GetKeyRotationStatus GetPublicKey ListGrants ReEncryptFrom ReEncryptTo RetireGrant RevokeGrant Sign Verify
    VerifyMac
    """
)

#: Actions that the encryption context constraints of a grant apply to.
WITH_CONTEXT: Final = _actions(
    """
    Decrypt Encrypt GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext
    GenerateDataKeyWithoutPlaintext ReEncryptFrom ReEncryptTo
    """
)

#: The operations that a grant can permit.
GRANTABLE: Final = _names(
    """
    CreateGrant Decapsulate Decrypt DeriveSharedSecret DescribeKey Encapsulate Encrypt GenerateDataKey
    GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext GenerateMac GetPublicKey
    ReEncryptFrom ReEncryptTo RetireGrant Sign Verify VerifyMac
    """
)

#: Every action on a KMS key. CreateAlias and the like need the alias too.
ON_KEY: Final = (
    CROSS_ACCOUNT
    | _actions(" ".join(GRANTABLE))
    | _actions(
        """
        CancelKeyDeletion CreateAlias DeleteAlias DeleteImportedKeyMaterial DisableKey DisableKeyRotation EnableKey
        EnableKeyRotation GetKeyLastUsage GetKeyPolicy GetParametersForImport ImportKeyMaterial ListKeyPolicies
        ListKeyRotations ListResourceTags PutKeyPolicy ReplicateKey RotateKeyOnDemand ScheduleKeyDeletion
        SynchronizeMultiRegionKey TagResource UntagResource UpdateAlias UpdateKeyDescription UpdatePrimaryRegion
        """
    )
)


#: Every known KMS action.
EVERY: Final = ON_KEY | _actions(" ".join(_ON_ACCOUNT))


def permissions(operation: str, *, with_tags: bool = False) -> tuple[Permission, ...]:
    """Return the permissions that an operation needs, all of them.

    Args:
        operation: its name in the API, such as ``ReEncrypt``.
        with_tags: whether the request tags the new key (CreateKey, ReplicateKey).

    Returns:
        Actions, each with its resource.

    Example:
        ``permissions("ReEncrypt")``
    """
    if operation in _SEVERAL:
        needed = _SEVERAL[operation]
    else:
        needed = (Permission(f"kms:{operation}", On.ACCOUNT if operation in _ON_ACCOUNT else On.KEY),)
    return (*needed, Permission("kms:TagResource", On.ACCOUNT)) if with_tags else needed
