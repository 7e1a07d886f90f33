"""What the lab knows, as values: keys, their materials, aliases, grants, principals. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sealwax._aws.partitions import partition_of

DEFAULT_ACCOUNT = "111122223333"
DEFAULT_REGION = "us-east-1"
ORGANIZATION = "o-sealwaxlab"

ENABLED, DISABLED = "Enabled", "Disabled"
PENDING_IMPORT, PENDING_DELETION = "PendingImport", "PendingDeletion"
PENDING_REPLICA_DELETION, UNAVAILABLE = "PendingReplicaDeletion", "Unavailable"

CURRENT, NON_CURRENT, PENDING_ROTATION = "CURRENT", "NON_CURRENT", "PENDING_ROTATION"
PENDING_REPLICAS = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"


@dataclass(frozen=True, slots=True)
class Material:
    """One key material of a key. ``secret`` is None when it was deleted, has expired or was never imported here."""

    material_id: str
    number: int
    secret: bytes | None = field(repr=False)
    state: str
    created: float
    rotation_type: str | None
    description: str | None
    expires: float | None


@dataclass(frozen=True, slots=True)
class Key:
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
    # Until then the policy before it still decides (eventual consistency, where the lab is told to show it).
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
    materials: tuple[Material, ...] = field(default=(), repr=False)

    @property
    def arn(self) -> str:
        return f"arn:{partition_of(self.region)}:kms:{self.region}:{self.account}:key/{self.key_id}"

    def material(self, material_id: str | None) -> Material | None:
        for material in self.materials:
            if material.material_id == material_id:
                return material
        return None


@dataclass(frozen=True, slots=True)
class Alias:
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
class Grant:
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
    constraints: Mapping[str, object]
    created: float
    # Until then only a grant token makes the grant count (eventual consistency, where the lab is told to show it).
    effective: float


@dataclass(frozen=True, slots=True)
class Principal:
    """A user or role of the lab. ``policies`` are its identity policies' documents by name."""

    arn: str
    account: str
    kind: str
    name: str
    unique_id: str
    policies: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A pair that signs requests. ``principal`` is an ARN, None for an account's root; times are Unix seconds."""

    access_key_id: str
    account: str
    principal: str | None
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    session_name: str | None = None
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request acts as.

    Attributes:
        arn: what GetCallerIdentity answers: the user, the root, or the assumed role's session.
        account: the twelve digits.
        principal: the user or role behind it, None for an account's root.
        user_id: AWS's unique id of the caller.
    """

    arn: str
    account: str
    principal: Principal | None
    user_id: str
    access_key_id: str
    session_name: str | None = None

    @property
    def principal_arn(self) -> str:
        """The ARN that policies name: the role's, not its session's."""
        return self.principal.arn if self.principal is not None else self.arn


def root_of(account: str, access_key_id: str = "") -> Caller:
    """The account's root user."""
    return Caller(f"arn:aws:iam::{account}:root", account, None, account, access_key_id)
