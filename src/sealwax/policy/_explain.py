"""Whether a principal may use an action on a key, from what the KMS and IAM APIs show of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from sealwax.errors import PolicyError
from sealwax.policy._documents import Document, Policy
from sealwax.policy._evaluate import evaluate
from sealwax.policy._model import Decision, Grant, Principal, Request, Value
from sealwax.policy._operations import ON_KEY
from sealwax.policy._patterns import shown

_ANY_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class KeyDescription:
    """A KMS key, as far as policies can ask about it.

    Attributes:
        arn: the ARN of the key.
        policy: its key policy.
        grants: the grants on it.
        metadata: the KeyMetadata of DescribeKey. Conditions on missing members have no value.
        aliases: the names of its aliases, ``alias/...``.
        tags: its tags.
    """

    arn: str
    policy: Policy
    grants: Sequence[Grant] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
    aliases: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


_CONDITIONS: Final = (
    ("kms:KeySpec", "KeySpec"),
    ("kms:CustomerMasterKeySpec", "KeySpec"),
    ("kms:KeyUsage", "KeyUsage"),
    ("kms:CustomerMasterKeyUsage", "KeyUsage"),
    ("kms:KeyOrigin", "Origin"),
    ("kms:MultiRegion", "MultiRegion"),
)


def key_conditions(
    metadata: Mapping[str, object], aliases: Sequence[str], tags: Mapping[str, str]
) -> dict[str, Value | Sequence[Value]]:
    """Return the values of the condition keys that describe a key.

    Args:
        metadata: the KeyMetadata of DescribeKey.
    """
    values: dict[str, Value | Sequence[Value]] = {}
    for name, member in _CONDITIONS:
        value = metadata.get(member)
        if isinstance(value, str | bool):
            values[name] = value
    family = metadata.get("MultiRegionConfiguration")
    if isinstance(family, Mapping) and isinstance(kind := family.get("MultiRegionKeyType"), str):
        values["kms:MultiRegionKeyType"] = kind
    if aliases:
        values["kms:ResourceAliases"] = list(aliases)
    return values | {f"aws:ResourceTag/{name}": value for name, value in tags.items()}


@dataclass(frozen=True, slots=True)
class PrincipalDescription:
    """A principal and the policies that apply to it.

    Attributes:
        who: the principal, with its tags.
        policies: its identity policies, including those of its groups.
        boundary: the ARN of its permissions boundary.
    """

    who: Principal
    policies: Sequence[Policy] = ()
    boundary: str | None = None


def check(
    who: Principal,
    action: str,
    *,
    encryption_context: Mapping[str, str],
    conditions: Mapping[str, Value | Sequence[Value]] | None = None,
) -> None:
    """Check the part of a question to ``explain`` that does not depend on the key.

    Raises:
        PolicyError: the action does not apply to keys, or a condition key does not exist.
    """
    _request(who, action, "*", _ANY_TIME, conditions or {}, encryption_context)


def explain(
    who: Principal,
    action: str,
    key: KeyDescription,
    *,
    identity_policies: Iterable[Policy],
    time: datetime,
    encryption_context: Mapping[str, str],
    conditions: Mapping[str, Value | Sequence[Value]] | None = None,
    grant_tokens: Sequence[str] = (),
    grant_id: str | None = None,
    secure_transport: bool = True,
) -> Decision:
    """Decide whether a principal may use an action on a key.

    Args:
        who: the principal.
        action: an action such as ``kms:Decrypt``. Ask twice for an operation that needs two permissions.
        key: the key, with its policy and grants.
        identity_policies: the policies of the user with its groups, or of the role.
        time: the time of the request, with a time zone.
        encryption_context: the pairs of the request.
        conditions: values of further condition keys of the request, such as ``kms:ViaService``.
        grant_tokens: the grant tokens of the request.
        grant_id: the grant to retire, for kms:RetireGrant.
        secure_transport: whether the request uses TLS.

    Returns:
        The decision, with its reason.

    Raises:
        PolicyError: the action does not apply to keys, or a condition key does not exist.
    """
    request = _request(
        who,
        action,
        key.arn,
        time,
        key_conditions(key.metadata, key.aliases, key.tags) | dict(conditions or {}),
        encryption_context,
        grant_tokens,
        grant_id,
        secure_transport,
    )
    return evaluate(request, key_policy=key.policy, identity_policies=identity_policies, grants=key.grants)


def _request(
    who: Principal,
    action: str,
    resource: str,
    time: datetime,
    conditions: Mapping[str, Value | Sequence[Value]],
    encryption_context: Mapping[str, str],
    grant_tokens: Sequence[str] = (),
    grant_id: str | None = None,
    secure_transport: bool = True,
) -> Request:
    try:
        return Request(
            _action(action),
            who,
            resource,
            time,
            conditions,
            encryption_context,
            grant_tokens,
            grant_id,
            secure_transport,
        )
    except ValueError as error:
        raise PolicyError(f"invalid request: {error}") from None


_NAMES: Final = {action.lower(): action for action in ON_KEY}


def _action(text: str) -> str:
    name = text.lower() if text.lower().startswith("kms:") else f"kms:{text.lower()}"
    if name == "kms:reencrypt":
        raise PolicyError("kms:ReEncrypt needs kms:ReEncryptFrom and kms:ReEncryptTo; ask about each of them")
    if name not in _NAMES:
        raise PolicyError(f"'{shown(text)}' is not a KMS action on a key; use a name such as kms:Decrypt")
    return _NAMES[name]


def grant_of(entry: Document, key: str) -> Grant:
    """Return a grant from its entry in a response of ListGrants.

    Args:
        key: the ARN of the key.

    Raises:
        PolicyError: the entry is malformed.
    """
    try:
        constraints = entry.get("Constraints") or {}
        return Grant(
            id=entry["GrantId"],
            key=key,
            grantee=entry.get("GranteePrincipal") or entry.get("GranteeServicePrincipal") or "",
            operations=frozenset(entry["Operations"]),
            subset=constraints.get("EncryptionContextSubset"),
            equals=constraints.get("EncryptionContextEquals"),
            source_arn=constraints.get("SourceArn"),
            retiring=entry.get("RetiringPrincipal") or entry.get("RetiringServicePrincipal"),
            issuing_account=entry.get("IssuingAccount", ""),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PolicyError(f"malformed entry of ListGrants: {type(error).__name__} at {shown(str(error))}") from None
