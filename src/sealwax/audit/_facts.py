"""What is known of an account: plain, versioned, written to and read from JSON. No network, no judgement.

A value that could not be looked at is None, and an entry of ``gaps`` says why; an empty tuple means that there
is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sealwax.audit._report import Gap


@dataclass(frozen=True, slots=True)
class RotationFacts:
    """Automatic rotation of a key; ``period_days`` is None where it is off."""

    enabled: bool
    period_days: int | None = None


@dataclass(frozen=True, slots=True)
class GrantFacts:
    """A grant, as ListGrants shows it; ``grantee`` and ``retiring`` may be service principals."""

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
        manager: ``"CUSTOMER"`` or ``"AWS"``.
        multi_region: ``"no"``, ``"primary"`` or ``"replica"``.
        related: the ARNs of the primary and all replicas of a multi-Region key, itself among them.
        policy: the text of the key policy.
        rotations: when it was rotated, oldest first.
        last_used: the last use that KMS recorded; None where there was none since ``tracked_since``.
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
        return self.arn.split(":")[1]

    @property
    def region(self) -> str:
        return self.arn.split(":")[3]

    @property
    def account(self) -> str:
        return self.arn.split(":")[4]

    @property
    def id(self) -> str:
        return self.arn.partition(":key/")[2]


@dataclass(frozen=True, slots=True)
class AliasFacts:
    """An alias; ``key`` is the id of the key that it points at."""

    arn: str
    key: str

    @property
    def name(self) -> str:
        return self.arn.split(":", 5)[5]

    @property
    def key_arn(self) -> str:
        return f"{self.arn.partition(':alias/')[0]}:key/{self.key}"

    @property
    def region(self) -> str:
        return self.arn.split(":")[3]


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """An identity policy.

    Attributes:
        id: the ARN of a managed policy; of an inline one, the ARN of its owner, ``#`` and its name.
        kind: ``"customer"``, ``"aws"`` or ``"inline"``.
        document: its JSON text.
    """

    id: str
    kind: str
    document: str

    @property
    def name(self) -> str:
        return self.id.rpartition("#" if self.kind == "inline" else "/")[2]


@dataclass(frozen=True, slots=True)
class PrincipalFacts:
    """A user or role.

    Attributes:
        policies: the ids of all that apply to it, by its groups too.
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
        records: which management events: ``"All"``, ``"ReadOnly"``, ``"WriteOnly"`` or ``"None"``; None where unknown.
        excludes: event sources that are left out of them.
        logging: whether it is on; None where unknown.
        selectors: what it records, as GetEventSelectors tells it, in JSON; None where unknown.
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
    """An EventBridge rule (``kind`` is ``"rule"``), or a metric filter with alarms on its metric (``"filter"``).

    Attributes:
        pattern: the event pattern, or the filter pattern.
        targets: how many targets the rule has, or how many alarms with actions there are on the metric.
    """

    arn: str
    region: str
    kind: str
    pattern: str
    enabled: bool = True
    targets: int = 1


@dataclass(frozen=True, slots=True)
class EventFacts:
    """A call of KMS, out of CloudTrail.

    Attributes:
        principal: the ARN of the caller, for a session that of its role; a service's name; ``""`` where none is shown.
        keys: the ARNs of the keys.
        context: the encryption context of the request; None where there was none.
        via: the service that called, on the principal's behalf or its own, or ``""``.
        session: the ARN of the session that called, where the caller was one.
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
    """An account.

    Attributes:
        trusted_accounts: other accounts whose principals may be let in: those of the organization, or as told.
        organization: the id of the organization, or ``""``.
        principals, policies: None where IAM was not looked at.
        events: None where no events were given.
        envelopes_under: the ARNs of keys that live envelopes are wrapped under; None where nobody said.
        expected_aliases: where aliases ought to point: key ids or ARNs by the names of the aliases.
        since: when the oldest of it was gathered; None where all was gathered at once.
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
