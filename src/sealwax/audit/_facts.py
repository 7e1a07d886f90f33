"""The facts of an account, as plain data that can be written to and read from JSON.

None means that a value is unknown, and an entry of ``gaps`` says why. An empty tuple means that there are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sealwax.audit._report import Gap


@dataclass(frozen=True, slots=True)
class RotationFacts:
    """Automatic rotation of a key.

    Attributes:
        enabled: whether it is on.
        period_days: its period; None if it is off.
    """

    enabled: bool
    period_days: int | None = None


@dataclass(frozen=True, slots=True)
class GrantFacts:
    """A grant, as ListGrants shows it.

    Attributes:
        id: the grant ID.
        operations: what it permits.
        name: its name; empty if it has none.
        issuing_account: the 12 digits of the account that created it.
        created: when it was created.
        grantee: the ARN of the principal that has it, or a service principal.
        retiring: the ARN of the principal that can retire it, or a service principal.
        subset: the pairs of its EncryptionContextSubset constraint.
        equals: the pairs of its EncryptionContextEquals constraint.
        source_arn: the resource of its SourceArn constraint.
    """

    id: str
    grantee: str
    operations: tuple[str, ...]
    name: str = ""
    retiring: str | None = None
    issuing_account: str = ""
    created: datetime | None = None
    subset: Mapping[str, str] | None = None
    equals: Mapping[str, str] | None = None
    source_arn: str | None = None


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A KMS key.

    Attributes:
        arn: its key ARN.
        created: when it was created.
        state: such as ``Enabled``.
        spec: such as ``SYMMETRIC_DEFAULT``.
        usage: such as ``ENCRYPT_DECRYPT``.
        origin: where its key material comes from, such as ``AWS_KMS``.
        valid_to: when imported key material expires.
        deletion_date: when a key that is pending deletion will be deleted.
        key_store: its custom key store.
        rotation: how it rotates.
        grants: its grants.
        tags: its tags.
        manager: ``"CUSTOMER"`` or ``"AWS"``.
        multi_region: ``"no"``, ``"primary"`` or ``"replica"``.
        related: the ARNs of the primary and all replicas of a multi-Region key, including itself, primary first.
        policy: the JSON text of the key policy.
        rotations: when it was rotated, oldest first.
        last_used: the last use that KMS recorded; None if there was none since ``tracked_since``.
    """

    arn: str
    created: datetime
    state: str = "Enabled"
    manager: str = "CUSTOMER"
    spec: str = "SYMMETRIC_DEFAULT"
    usage: str = "ENCRYPT_DECRYPT"
    origin: str = "AWS_KMS"
    multi_region: str = "no"
    related: tuple[str, ...] = ()
    valid_to: datetime | None = None
    deletion_date: datetime | None = None
    key_store: str | None = None
    policy: str | None = None
    rotation: RotationFacts | None = None
    rotations: tuple[datetime, ...] | None = None
    grants: tuple[GrantFacts, ...] | None = None
    tags: Mapping[str, str] | None = None
    last_used: datetime | None = None
    tracked_since: datetime | None = None

    @property
    def partition(self) -> str:
        """Its AWS partition, such as ``aws``."""
        return self.arn.split(":")[1]

    @property
    def region(self) -> str:
        """Its AWS Region."""
        return self.arn.split(":")[3]

    @property
    def account(self) -> str:
        """The 12 digits of its account."""
        return self.arn.split(":")[4]

    @property
    def id(self) -> str:
        """Its key ID."""
        return self.arn.partition(":key/")[2]


@dataclass(frozen=True, slots=True)
class AliasFacts:
    """An alias.

    Attributes:
        arn: its ARN.
        key: the id of the key that it points at.
    """

    arn: str
    key: str

    @property
    def name(self) -> str:
        """Its name, with ``alias/``."""
        return self.arn.split(":", 5)[5]

    @property
    def key_arn(self) -> str:
        """The ARN of its key."""
        return f"{self.arn.partition(':alias/')[0]}:key/{self.key}"

    @property
    def region(self) -> str:
        """Its AWS Region."""
        return self.arn.split(":")[3]


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """An identity policy.

    Attributes:
        id: the ARN of a managed policy; for an inline one, the ARN of its owner, ``#`` and its name.
        kind: ``"customer"``, ``"aws"`` or ``"inline"``.
        document: its JSON text.
    """

    id: str
    kind: str
    document: str

    @property
    def name(self) -> str:
        """Its name, without the principal's."""
        return self.id.rpartition("#" if self.kind == "inline" else "/")[2]


@dataclass(frozen=True, slots=True)
class PrincipalFacts:
    """A user or role.

    Attributes:
        arn: its ARN.
        tags: its tags.
        policies: the ids of the policies that apply to it, including those of its groups.
        user_id: the unique id of a user.
        boundary: the ARN of its permissions boundary.
    """

    arn: str
    policies: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    user_id: str | None = None
    boundary: str | None = None


@dataclass(frozen=True, slots=True)
class TrailFacts:
    """A CloudTrail trail.

    Attributes:
        arn: its ARN.
        multi_region: whether it records every Region.
        validation: whether its log files can be validated.
        records: the management events that it records: ``"All"``, ``"ReadOnly"``, ``"WriteOnly"`` or ``"None"``; None
            if unknown.
        excludes: event sources that it leaves out.
        logging: whether it is on; None if unknown.
        selectors: the event selectors of GetEventSelectors as JSON text; None if unknown.
    """

    arn: str
    multi_region: bool
    validation: bool
    logging: bool | None = True
    records: str | None = "All"
    excludes: tuple[str, ...] = ()
    selectors: str | None = None


@dataclass(frozen=True, slots=True)
class AlarmFacts:
    """An EventBridge rule, or a metric filter with alarms on its metric.

    Attributes:
        arn: its ARN.
        region: its AWS Region.
        enabled: whether it is switched on.
        kind: ``"rule"`` or ``"filter"``.
        pattern: the event pattern, or the filter pattern.
        targets: how many targets the rule has, or how many alarms with actions the metric has.
    """

    arn: str
    region: str
    kind: str
    pattern: str
    enabled: bool = True
    targets: int = 1


@dataclass(frozen=True, slots=True)
class EventFacts:
    """A KMS call from CloudTrail.

    Attributes:
        id: the event ID.
        time: when the call was made.
        account: the 12 digits of the account that the event is in.
        region: the AWS Region.
        name: the operation.
        principal: the ARN of the caller, for a session that of its role; the name of a service; empty if unknown.
        keys: the ARNs of the keys.
        context: the encryption context of the request; None if there was none.
        error: the error code; empty for a successful call.
        via: the service that called, for the principal or for itself; empty for direct calls.
        session: the ARN of the session that called; empty if the caller was not a session.
    """

    id: str
    time: datetime
    name: str
    principal: str
    account: str
    region: str
    keys: tuple[str, ...] = ()
    context: Mapping[str, str] | None = None
    error: str = ""
    via: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about an account.

    Attributes:
        partition: the AWS partition, such as ``aws``.
        trails: CloudTrail's trails.
        alarms: what alerts somebody about calls to KMS.
        account: the id of the account.
        time: when the facts were collected, with a time zone.
        regions: the Regions they were collected in.
        organization: the id of the organization, or empty.
        trusted_accounts: other accounts that may be given access.
        principals, policies: None if IAM is unknown.
        events: None if there are no CloudTrail events.
        envelopes_under: the ARNs of keys with live envelopes; None if unknown.
        expected_aliases: the key ids or ARNs that aliases should point at, by alias name.
        gaps: what could not be collected.
        since: when the oldest fact was collected, if not all were collected in one run.
        caller: the ARN of whoever collected them; empty if it is unknown.
    """

    account: str
    time: datetime
    regions: tuple[str, ...]
    partition: str = "aws"
    organization: str = ""
    trusted_accounts: tuple[str, ...] = ()
    keys: tuple[KeyFacts, ...] = ()
    aliases: tuple[AliasFacts, ...] | None = None
    principals: tuple[PrincipalFacts, ...] | None = None
    policies: tuple[PolicyFacts, ...] | None = None
    trails: tuple[TrailFacts, ...] | None = None
    alarms: tuple[AlarmFacts, ...] | None = None
    events: tuple[EventFacts, ...] | None = None
    envelopes_under: tuple[str, ...] | None = None
    expected_aliases: Mapping[str, str] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    since: datetime | None = None
    caller: str = ""
