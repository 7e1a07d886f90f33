"""The lab's values: requests, callers, keys and their materials, aliases, grants, principals. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from sealwax._aws.partitions import partition_of

# The members of a request, decoded: the service model says what each of them is.
Members: TypeAlias = Mapping[str, Any]
# The members of an answer: blobs as bytes, a plaintext as a bytearray, times as Unix seconds.
Answer: TypeAlias = dict[str, object]
# The values of condition keys.
ConditionValue: TypeAlias = str | bool | int | float | datetime
Conditions: TypeAlias = Mapping[str, ConditionValue | Sequence[ConditionValue]]
NewConditions: TypeAlias = dict[str, ConditionValue | Sequence[ConditionValue]]

DEFAULT_ACCOUNT = "111122223333"
DEFAULT_REGION = "us-east-1"
ORGANIZATION = "o-sealwaxlab"

ENABLED, DISABLED = "Enabled", "Disabled"
PENDING_IMPORT, PENDING_DELETION = "PendingImport", "PendingDeletion"
PENDING_REPLICA_DELETION = "PendingReplicaDeletion"

CURRENT, NON_CURRENT, PENDING_ROTATION = "CURRENT", "NON_CURRENT", "PENDING_ROTATION"
PENDING_REPLICAS = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"


@dataclass(frozen=True, slots=True)
class MaterialRecord:
    """One key material of a key. ``secret`` is None if it was deleted, expired, or never imported in this Region."""

    material_id: str
    number: int
    secret: bytes | None = field(repr=False)
    state: str
    created: float
    rotation_type: str | None
    description: str | None
    expires: float | None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One KMS key in one Region. Times are Unix seconds."""

    account: str
    region: str
    key_id: str
    description: str
    usage: str
    spec: str
    origin: str
    state: str
    created: float
    policy: str = field(repr=False)
    # With the eventual-consistency fault, ``policy_before`` applies until ``policy_effective``.
    policy_before: str | None = field(default=None, repr=False)
    policy_effective: float | None = None
    deletion_date: float | None = None
    pending_window: int | None = None
    multi_region: str | None = None
    primary_region: str | None = None
    current_material: str | None = None
    rotation_period: int | None = None
    rotation_next: float | None = None
    key_store: str | None = None
    xks_key: str | None = None
    materials: tuple[MaterialRecord, ...] = field(default=(), repr=False)

    @property
    def arn(self) -> str:
        return f"arn:{partition_of(self.region)}:kms:{self.region}:{self.account}:key/{self.key_id}"

    def material(self, material_id: str | None) -> MaterialRecord | None:
        for material in self.materials:
            if material.material_id == material_id:
                return material
        return None


@dataclass(frozen=True, slots=True)
class AliasRecord:
    account: str
    region: str
    name: str
    key_id: str
    created: float
    updated: float

    @property
    def arn(self) -> str:
        return f"arn:{partition_of(self.region)}:kms:{self.region}:{self.account}:{self.name}"


@dataclass(frozen=True, slots=True)
class GrantRecord:
    grant_id: str
    token: str = field(repr=False)
    account: str
    region: str
    key_id: str
    name: str | None
    grantee: str | None
    retiring: str | None
    grantee_service: str | None
    retiring_service: str | None
    issuer: str
    operations: tuple[str, ...]
    constraints: Members
    created: float
    # With the eventual-consistency fault, the grant needs its token until then.
    effective: float


@dataclass(frozen=True, slots=True)
class PrincipalRecord:
    """A user or role. ``policies`` maps the names of its identity policies to their JSON text."""

    arn: str
    account: str
    kind: str
    name: str
    unique_id: str
    policies: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AccessKey:
    """Credentials that sign requests. ``principal`` is an ARN, None for the account's root; times are Unix seconds."""

    access_key_id: str
    account: str
    principal: str | None
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    session_name: str | None = None
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """The identity that a request acts as.

    Attributes:
        arn: as GetCallerIdentity returns it: a user, the root, or the session of an assumed role.
        account: the twelve digits.
        principal: the user or role; None for the account's root.
        user_id: AWS's unique ID of the caller.
    """

    arn: str
    account: str
    principal: PrincipalRecord | None
    user_id: str
    access_key_id: str
    session_name: str | None = None


def root_of(account: str, access_key_id: str = "") -> CallerIdentity:
    """The account's root user."""
    return CallerIdentity(f"arn:aws:iam::{account}:root", account, None, account, access_key_id)


@dataclass(frozen=True, slots=True)
class KmsRequest:
    """A request to KMS, with its caller identified and its JSON parsed.

    Attributes:
        operation: for instance ``GenerateDataKey``.
        document: the parsed JSON body.
        region: the Region that the request was signed for.
        secure: whether it came over TLS (aws:SecureTransport); in process counts as TLS.
    """

    operation: str
    document: object
    region: str
    caller: CallerIdentity
    request_id: str
    source_ip: str
    user_agent: str
    secure: bool


@dataclass(frozen=True, slots=True)
class Question:
    """Whether the caller may do something.

    Attributes:
        action: the IAM action without ``kms:``.
        on: a key, the ARN of an alias, or ``*``.
        named: the key as the request named it (kms:RequestAlias).
        context: the encryption context that conditions and grant constraints apply to.
        facts: the values of condition keys that only this operation has.
        grant_id: the grant that RetireGrant is about.
    """

    action: str
    on: KeyRecord | str
    named: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    facts: Conditions = field(default_factory=dict)
    grant_id: str | None = None
    grant_tokens: Sequence[str] = ()
