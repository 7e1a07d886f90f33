"""The condition keys of requests to KMS, with the types of their values and whether they can have many.

Sources: "AWS KMS condition keys" in the KMS Developer Guide and "AWS global condition context keys" in the IAM User
Guide. A condition key that is not in these tables is an error until it is added with its source.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class ValueType(Enum):
    """The type of a condition key's values."""

    STRING = "a string"
    ARN = "an ARN"
    NUMBER = "a number"
    DATE = "a date"
    BOOL = "true or false"
    ADDRESS = "an IP address"
    OPEN = "free text"  # tags and encryption contexts


@dataclass(frozen=True, slots=True)
class ConditionKey:
    """A condition key.

    Attributes:
        name: the name as AWS writes it.
        type: the type of its values.
        many: whether it can have several values, so that conditions need ForAllValues: or ForAnyValue:.
    """

    name: str
    type: ValueType
    many: bool = False


def _table(kind: ValueType, names: str, *, many: bool = False) -> dict[str, ConditionKey]:
    return {name.lower(): ConditionKey(name, kind, many) for name in names.split()}


_NAMED: Final[dict[str, ConditionKey]] = {
    **_table(
        ValueType.STRING,
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
        ValueType.STRING,
        """
        kms:EncryptionContextKeys kms:GrantOperations kms:ResourceAliases
        aws:CalledVia aws:PrincipalOrgPaths aws:PrincipalServiceNamesList aws:ResourceOrgPaths aws:SourceOrgPaths
        aws:TagKeys aws:VpceOrgPaths
        """,
        many=True,
    ),
    **_table(
        ValueType.ARN,
        """
        kms:GrantConstraintSourceArn kms:GranteePrincipal kms:RetiringPrincipal
        aws:ChatbotSourceArn aws:PrincipalArn aws:SourceArn aws:SourceVpcArn lambda:SourceFunctionArn
        ec2:SourceInstanceArn
        """,
    ),
    **_table(
        ValueType.NUMBER,
        "kms:RotationPeriodInDays kms:ScheduleKeyDeletionPendingWindowInDays aws:MultiFactorAuthAge",
    ),
    **_table(ValueType.DATE, "kms:ValidTo aws:CurrentTime aws:EpochTime aws:TokenIssueTime"),
    **_table(
        ValueType.BOOL,
        """
        kms:BypassPolicyLockoutSafetyCheck kms:GrantIsForAWSResource kms:MultiRegion kms:ReEncryptOnSameKey
        aws:AssumedRoot aws:MultiFactorAuthPresent aws:PrincipalIsAWSService aws:SecureTransport aws:ViaAWSService
        """,
    ),
    **_table(ValueType.ADDRESS, "aws:SourceIp aws:VpcSourceIp"),
}

# The rest of these names is chosen by users: an encryption context key, a tag key, the number of a register.
_FAMILIES: Final = {
    "kms:encryptioncontext:": ValueType.OPEN,
    "kms:recipientattestation:pcr": ValueType.STRING,
    "kms:recipientattestation:nitrotpmpcr": ValueType.STRING,
    "aws:principaltag/": ValueType.OPEN,
    "aws:requesttag/": ValueType.OPEN,
    "aws:resourcetag/": ValueType.OPEN,
}


def find(name: str) -> ConditionKey | None:
    """Return the condition key of that name in any case, or None."""
    folded = name.lower()
    known = _NAMED.get(folded)
    if known is not None:
        return known
    for prefix, kind in _FAMILIES.items():
        if folded.startswith(prefix) and len(folded) > len(prefix):
            return ConditionKey(name, kind)
    return None
