"""Whether somebody may do something with a key, from what the KMS and IAM APIs say of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sealwax.errors import PolicyError
from sealwax.policy._documents import Policy
from sealwax.policy._evaluate import evaluate
from sealwax.policy._model import Decision, Grant, Principal, Request, Value
from sealwax.policy._operations import ON_KEY
from sealwax.policy._patterns import shown

_ANY_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class KeyAsSeen:
    """A KMS key, as far as policies can ask about it.

    Attributes:
        metadata: the KeyMetadata of DescribeKey; what it does not hold has no value in conditions.
        aliases: the names of its aliases, ``alias/...``.
    """

    arn: str
    policy: Policy
    grants: Sequence[Grant] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    aliases: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def conditions(self) -> dict[str, Value | Sequence[Value]]:
        """Return the values of the condition keys that are about the key."""
        described = self.metadata
        found: dict[str, Value | Sequence[Value]] = {
            name: described[member]
            for name, member in (
                ("kms:KeySpec", "KeySpec"),
                ("kms:CustomerMasterKeySpec", "KeySpec"),
                ("kms:KeyUsage", "KeyUsage"),
                ("kms:CustomerMasterKeyUsage", "KeyUsage"),
                ("kms:KeyOrigin", "Origin"),
                ("kms:MultiRegion", "MultiRegion"),
            )
            if member in described
        }
        kind = described.get("MultiRegionConfiguration", {}).get("MultiRegionKeyType")
        if kind is not None:
            found["kms:MultiRegionKeyType"] = kind
        if self.aliases:
            found["kms:ResourceAliases"] = list(self.aliases)
        return found | {f"aws:ResourceTag/{name}": value for name, value in self.tags.items()}


@dataclass(frozen=True, slots=True)
class PrincipalAsSeen:
    """A principal with its tags, the identity policies that apply to it, and the ARN of its permissions boundary."""

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
    """Refuse what :func:`explain` would refuse whatever the key is, before anything is asked for.

    Raises:
        PolicyError: the action is not one on a key, or a condition key does not exist.
    """
    _request(who, action, "*", _ANY_TIME, conditions or {}, encryption_context)


def explain(
    who: Principal,
    action: str,
    key: KeyAsSeen,
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
        action: such as ``kms:Decrypt``; for an operation that needs two permissions, each on its own.
        identity_policies: those of the user with its groups, or of the role.
        conditions: values of further condition keys of the request, such as ``kms:ViaService``.
        grant_id: for kms:RetireGrant, the grant to be retired.

    Raises:
        PolicyError: the action is not one on a key, or a condition key does not exist.
    """
    request = _request(
        who,
        action,
        key.arn,
        time,
        key.conditions() | dict(conditions or {}),
        encryption_context,
        grant_tokens=grant_tokens,
        grant_id=grant_id,
        secure_transport=secure_transport,
    )
    return evaluate(request, key_policy=key.policy, identity_policies=identity_policies, grants=key.grants)


def _request(
    who: Principal,
    action: str,
    resource: str,
    time: datetime,
    conditions: Mapping[str, Value | Sequence[Value]],
    encryption_context: Mapping[str, str],
    **more: Any,
) -> Request:
    try:
        return Request(
            _action(action), who, resource, time, context=conditions, encryption_context=encryption_context, **more
        )
    except ValueError as error:
        raise PolicyError(f"that cannot be asked: {error}") from None


_NAMES: Final = {action.lower(): action for action in ON_KEY}


def _action(text: str) -> str:
    name = text.lower() if text.lower().startswith("kms:") else f"kms:{text.lower()}"
    if name == "kms:reencrypt":
        raise PolicyError("kms:ReEncrypt needs kms:ReEncryptFrom and kms:ReEncryptTo: ask for each")
    if name not in _NAMES:
        raise PolicyError(f"'{shown(text)}' is not an action on a key")
    return _NAMES[name]


def grant_of(entry: Mapping[str, Any], key: str) -> Grant:
    """Return a grant from its entry in the answer of ListGrants.

    Args:
        key: the ARN of the key.

    Raises:
        PolicyError: it is no such entry.
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
        raise PolicyError(f"that is no entry of ListGrants: {type(error).__name__} at {shown(str(error))}") from None
