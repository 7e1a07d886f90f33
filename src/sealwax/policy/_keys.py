"""The condition keys that a request to KMS can have: their type, and whether they have one value or many.

Sources: "AWS KMS condition keys" in the KMS Developer Guide and "AWS global condition context keys" in the IAM User
Guide. A key that is not in these tables is a mistake until someone adds it with its source.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Type(Enum):
    """What the values of a key are."""

    STRING = "a string"
    ARN = "an ARN"
    NUMBER = "a number"
    DATE = "a date"
    BOOL = "true or false"
    ADDRESS = "an IP address"
    OPEN = "free text"  # tags and encryption contexts: whoever writes the value decides what it is


@dataclass(frozen=True, slots=True)
class Key:
    """A condition key.

    Attributes:
        name: the name as AWS writes it.
        type: the type of its values.
        many: whether a request can have several values; such a key needs ForAllValues: or ForAnyValue:.
    """

    name: str
    type: Type
    many: bool = False


def _table(kind: Type, names: str, *, many: bool = False) -> dict[str, Key]:
    return {name.lower(): Key(name, kind, many) for name in names.split()}


_NAMED: Final[dict[str, Key]] = {
    **_table(
        Type.STRING,
        """
        kms:CallerAccount kms:CustomerMasterKeySpec kms:CustomerMasterKeyUsage kms:DataKeyPairSpec
        kms:EncryptionAlgorithm kms:ExpirationModel kms:GrantConstraintType kms:GranteeServicePrincipal
        kms:KeyAgreementAlgorithm kms:KeyOrigin kms:KeySpec kms:KeyUsage kms:MacAlgorithm kms:MessageType
        kms:MultiRegionKeyType kms:PolicyName kms:PrimaryRegion kms:RecipientAttestation:ImageSha384
        kms:RecipientAttestation:NitroTPMPCR kms:ReplicaRegion kms:RequestAlias kms:RetiringServicePrincipal
        kms:SigningAlgorithm kms:ViaService kms:WrappingAlgorithm kms:WrappingKeySpec
        aws:CalledViaFirst aws:CalledViaLast aws:Ec2InstanceSourcePrivateIPv4 aws:Ec2InstanceSourceVpc
        aws:FederatedProvider aws:PrincipalAccount aws:PrincipalOrgID aws:PrincipalServiceName aws:PrincipalType
        aws:Referer aws:RequestedRegion aws:ResourceAccount aws:ResourceOrgID aws:SourceAccount aws:SourceIdentity
        aws:SourceOrgID aws:SourceVpc aws:SourceVpce aws:UserAgent aws:UserId aws:Username aws:VpceAccount
        aws:VpceOrgID
        """,
    ),
    **_table(
        Type.STRING,
        """
        kms:EncryptionContextKeys kms:GrantOperations kms:ResourceAliases
        aws:CalledVia aws:PrincipalOrgPaths aws:PrincipalServiceNamesList aws:ResourceOrgPaths aws:SourceOrgPaths
        aws:TagKeys aws:VpceOrgPaths
        """,
        many=True,
    ),
    **_table(
        Type.ARN,
        """
        kms:GrantConstraintSourceArn kms:GranteePrincipal kms:RetiringPrincipal
        aws:ChatbotSourceArn aws:PrincipalArn aws:SourceArn aws:SourceVpcArn lambda:SourceFunctionArn
        ec2:SourceInstanceArn
        """,
    ),
    **_table(
        Type.NUMBER,
        "kms:RotationPeriodInDays kms:ScheduleKeyDeletionPendingWindowInDays aws:MultiFactorAuthAge",
    ),
    **_table(Type.DATE, "kms:ValidTo aws:CurrentTime aws:EpochTime aws:TokenIssueTime"),
    **_table(
        Type.BOOL,
        """
        kms:BypassPolicyLockoutSafetyCheck kms:GrantIsForAWSResource kms:MultiRegion kms:ReEncryptOnSameKey
        aws:AssumedRoot aws:MultiFactorAuthPresent aws:PrincipalIsAWSService aws:SecureTransport aws:ViaAWSService
        """,
    ),
    **_table(Type.ADDRESS, "aws:SourceIp aws:VpcSourceIp"),
}

# The rest of these names is the user's: an encryption context key, a tag key, the number of a register.
_FAMILIES: Final = {
    "kms:encryptioncontext:": Type.OPEN,
    "kms:recipientattestation:pcr": Type.STRING,
    "kms:recipientattestation:nitrotpmpcr": Type.STRING,
    "aws:principaltag/": Type.OPEN,
    "aws:requesttag/": Type.OPEN,
    "aws:resourcetag/": Type.OPEN,
}


def find(name: str) -> Key | None:
    """Return the condition key of that name, whose case does not matter, or None when there is none."""
    folded = name.lower()
    known = _NAMED.get(folded)
    if known is not None:
        return known
    for prefix, kind in _FAMILIES.items():
        if folded.startswith(prefix) and len(folded) > len(prefix):
            return Key(name, kind)
    return None
