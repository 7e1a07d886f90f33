"""Requests, the principals that make them, grants, and the evaluator's decisions."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from sealwax.policy import _keys
from sealwax.policy._operations import GRANTABLE

if TYPE_CHECKING:
    from sealwax.policy._documents import Statement

PrincipalKind = Literal["root", "user", "role", "session", "federated", "service"]
Value = str | bool | int | float | datetime | bytes

_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):(?P<service>iam|sts)::(?P<account>[0-9]{12}):"
    # Only the names of roles that AWS itself assumes have a colon; they begin with "aws:".
    r"(?P<resource>root|(?P<kind>user|role|assumed-role|federated-user)/(?P<name>(?:aws:)?[^\s*?:]+))\Z"
)
_SERVICE: Final = re.compile(r"[a-z0-9][a-z0-9.-]*\.(?:amazonaws\.com(?:\.cn)?|amazon\.com|aws\.internal)\Z")
_KEY: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):kms:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):key/[^\s]+\Z"
)
_ALIAS: Final = re.compile(r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):alias/[^\s]+\Z")

_KINDS: Final[dict[tuple[str, str], PrincipalKind]] = {
    ("iam", "user"): "user",
    ("iam", "role"): "role",
    ("sts", "assumed-role"): "session",
    ("sts", "federated-user"): "federated",
}
_PRINCIPAL_TYPES: Final = {
    "root": "Account",
    "user": "User",
    "role": "AssumedRole",
    "session": "AssumedRole",
    "federated": "FederatedUser",
}


_FROM_REQUEST: Final = ("kms:encryptioncontext", "aws:principaltag/")


@dataclass(frozen=True)
class Principal:
    """The caller of a request. ``principal()`` makes one from an ARN.

    Attributes:
        arn: the ARN that policies name; for a service, its service principal, such as ``logs.amazonaws.com``.
        account: the id of its account; empty for a service.
        kind: ``"root"``, ``"user"``, ``"role"``, ``"session"``, ``"federated"`` or ``"service"``.
        role: the ARN of the role, for a session of a role.
        username: the friendly name of a user.
        user_id: the unique id (``aws:userid``), if known.
        tags: the tags of the user, role or session.
        org_id: the id of its account's organization, if any.
    """

    arn: str
    account: str
    kind: PrincipalKind
    role: str | None = None
    username: str | None = None
    user_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    org_id: str | None = None

    @cached_property
    def account_arn(self) -> str:
        """The ARN that stands for the whole account."""
        return f"arn:{self.arn.split(':')[1]}:iam::{self.account}:root"

    @cached_property
    def is_of_aws(self) -> bool:
        """Whether it is a service, or a role in no account that AWS assumes for one (``aws:...``)."""
        return self.kind == "service" or (self.role or self.arn).partition(":role/")[2].startswith("aws:")

    @cached_property
    def chain(self) -> frozenset[str]:
        """The names that policies can call it by: its own, its role's and its account's."""
        if self.kind == "service":
            return frozenset({self.arn})
        return frozenset({self.arn, self.account_arn} | ({self.role} if self.role else set()))


def principal(
    arn: str,
    *,
    role: str | None = None,
    user_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    org_id: str | None = None,
) -> Principal:
    """Make a principal from its ARN, or from the name of a service.

    Args:
        arn: an account's root, a user, a role, a session of a role, a federated user, or ``NAME.amazonaws.com``.
        role: the ARN of a session's role, if the role has a path, which the session's ARN does not show.
        user_id: the unique id (``aws:userid``).
        tags: the tags of the user, role or session.
        org_id: the id of the account's organization.

    Returns:
        The principal.

    Raises:
        ValueError: the ARN is none of these.

    Example:
        ``principal("arn:aws:iam::111122223333:user/alice")``
    """
    if _SERVICE.match(arn):
        return Principal(arn, "", "service")
    match = _ARN.match(arn)
    kind: PrincipalKind | None = None
    if match is not None:
        kind = "root" if arn.endswith(":root") else _KINDS.get((match["service"], match["kind"]))
    if match is None or kind is None or (kind == "root" and match["service"] != "iam"):
        raise ValueError(f"'{arn}' is not a principal's ARN, such as arn:aws:iam::111122223333:role/app")
    name = match["name"] or ""
    if kind == "session" and name.count("/") != 1:
        raise ValueError(f"'{arn}' does not name a role and a session")
    if kind == "session" and role is None:
        role = f"arn:{match['partition']}:iam::{match['account']}:role/{name.split('/')[0]}"
    username = name.rsplit("/", 1)[-1] if kind == "user" else None
    return Principal(arn, match["account"], kind, role, username, user_id, dict(tags or {}), org_id)


@dataclass(frozen=True)
class Grant:
    """A grant that is neither retired nor revoked.

    Attributes:
        id: the grant id.
        key: the ARN of its KMS key.
        grantee: the ARN of the grantee principal, or a service principal.
        operations: the operations that it permits, such as ``Decrypt`` or ``ReEncryptFrom``.
        subset: the pairs of EncryptionContextSubset, or None.
        equals: the pairs of EncryptionContextEquals, or None.
        source_arn: the resource of a SourceArn constraint, or None.
        retiring: the retiring principal, or None.
        issuing_account: the ARN of the root of the account that created it, as ListGrants shows it.
        tokens: its grant tokens.
        effective: False while the grant is new and needs one of its tokens to be used.
    """

    id: str
    key: str
    grantee: str
    operations: frozenset[str]
    subset: Mapping[str, str] | None = None
    equals: Mapping[str, str] | None = None
    source_arn: str | None = None
    retiring: str | None = None
    issuing_account: str = ""
    tokens: frozenset[str] = frozenset()
    effective: bool = True

    def __post_init__(self) -> None:
        strange = self.operations - GRANTABLE
        if strange:
            raise ValueError(f"a grant cannot permit {', '.join(sorted(strange))}")


@dataclass(frozen=True)
class Request:
    """One action on one resource. ``permissions()`` returns the actions that an operation needs.

    Attributes:
        action: an action such as ``kms:ReEncryptFrom``.
        principal: the caller.
        resource: the ARN of the KMS key or alias, or ``*`` for operations that have neither.
        time: the time of the request, with a time zone.
        context: values of condition keys, except those that follow from the other attributes.
        encryption_context: the pairs of the request; for CreateGrant, those of the new grant's constraint.
        grant_tokens: the grant tokens of the request.
        grant_id: the grant to retire, for RetireGrant.
        secure_transport: whether the request uses TLS.
    """

    action: str
    principal: Principal
    resource: str
    time: datetime
    context: Mapping[str, Value | Sequence[Value]] = field(default_factory=dict)
    encryption_context: Mapping[str, str] = field(default_factory=dict)
    grant_tokens: Sequence[str] = ()
    grant_id: str | None = None
    secure_transport: bool = True

    def __post_init__(self) -> None:
        if not re.match(r"kms:[A-Za-z]+\Z", self.action):
            raise ValueError(f"'{self.action}' is not an action of KMS")
        if self.time.tzinfo is None:
            raise ValueError("the time of a request needs a time zone")
        if self.resource != "*" and not self.is_key and not _ALIAS.match(self.resource):
            raise ValueError(f"'{self.resource}' is neither the ARN of a KMS key or alias nor *")
        _ = self.values  # raises here if the context is wrong

    @cached_property
    def is_key(self) -> bool:
        """Whether the resource is a KMS key."""
        return _KEY.match(self.resource) is not None

    @cached_property
    def resource_account(self) -> str:
        """The account that owns the resource; the caller's own if the request has no resource."""
        return self.principal.account if self.resource == "*" else self.resource.split(":")[4]

    @cached_property
    def values(self) -> Mapping[str, tuple[str, ...]]:
        """The values of the condition keys that are present, by lower-case name."""
        values = self._derived()
        for name, given in self.context.items():
            key = _keys.find(name)
            if key is None:
                raise ValueError(f"'{name}' is not a condition key of KMS requests")
            if isinstance(given, str | bool | int | float | datetime | bytes):
                given = (given,)
            texts = tuple(map(_text, given))
            if name.lower() in values or name.lower().startswith(_FROM_REQUEST):
                raise ValueError(f"{name} follows from the request and cannot be set")
            if len(texts) > 1 and not key.many:
                raise ValueError(f"{name} can have only one value")
            if texts:
                values[name.lower()] = texts
        return values

    def _derived(self) -> dict[str, tuple[str, ...]]:
        who = self.principal
        values: dict[str, tuple[str, ...]] = {
            "aws:currenttime": (_text(self.time),),
            "aws:epochtime": (str(int(self.time.timestamp())),),
            "aws:securetransport": (_text(self.secure_transport),),
            "aws:principalisawsservice": (_text(who.kind == "service"),),
        }
        single = {
            "aws:principalorgid": who.org_id,
            "aws:username": who.username,
            "aws:userid": who.user_id,
        }
        if who.kind == "service":
            single["aws:principalservicename"] = who.arn
        else:
            single |= {
                "aws:principalarn": who.role or who.arn,
                "aws:principalaccount": who.account,
                "aws:principaltype": _PRINCIPAL_TYPES[who.kind],
                "kms:calleraccount": who.account,
            }
        if self.resource != "*":
            single["aws:resourceaccount"] = self.resource_account
            single["aws:requestedregion"] = self.resource.split(":")[3]
        single |= {f"aws:principaltag/{name.lower()}": value for name, value in who.tags.items()}
        values |= {name: (value,) for name, value in single.items() if value is not None}
        for name, value in self.encryption_context.items():
            folded = f"kms:encryptioncontext:{name.lower()}"
            values[folded] = (*values.get(folded, ()), value)
        if self.encryption_context:
            values["kms:encryptioncontextkeys"] = tuple(self.encryption_context)
        return values

    def lookup(self, name: str) -> str | None:
        """Return the value of a policy variable.

        Args:
            name: a condition key, in any case.

        Returns:
            Its value, or None: only condition keys with one value can be variables.
        """
        values = self.values.get(name.lower(), ())
        key = _keys.find(name)
        return values[0] if len(values) == 1 and key is not None and not key.many else None


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


@dataclass(frozen=True)
class Decision:
    """The evaluator's answer to a request.

    Attributes:
        allowed: whether the request is allowed.
        reason: one sentence: the statement or grant that allows or denies it, or what is missing.
        statements: the statement that denies, or those that together allow.
        grant: the grant that allows, if one does.
        explicit_deny: whether a Deny statement decided.
    """

    allowed: bool
    reason: str
    statements: tuple[Statement, ...] = ()
    grant: Grant | None = None
    explicit_deny: bool = False
