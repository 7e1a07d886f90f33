"""Rules about grants."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from sealwax.audit.account import Account
from sealwax.audit.facts import GrantFacts, KeyFacts
from sealwax.audit.findings import Severity
from sealwax.audit.rules import standards as std
from sealwax.audit.rules.rule import Found, Rule, trust
from sealwax.policy.due import due_of
from sealwax.policy.operations import WITH_CONTEXT

STALE_AFTER: Final = timedelta(days=365)


def _each(account: Account) -> Iterator[tuple[KeyFacts, GrantFacts]]:
    for key in account.own_keys:
        for grant in key.grants or ():
            yield key, grant


def _is_gone(name: str) -> bool:
    """Whether a name is the unique id of a user or role: IAM shows it in place of the ARN of one that was deleted."""
    return re.fullmatch("A[A-Z]{3}[A-Z0-9]{12,124}", name) is not None


def _is_service(name: str) -> bool:
    return not name.startswith("arn:") and not _is_gone(name)


def _for_service(grant: GrantFacts) -> bool:
    """Whether an AWS service made it for its own work; such grants are retired by the service."""
    return _is_service(grant.grantee) or (grant.retiring is not None and _is_service(grant.retiring))


def _shown(grant: GrantFacts) -> Mapping[str, Any]:
    constraints: dict[str, Any] = {}
    if grant.subset is not None:
        constraints["EncryptionContextSubset"] = dict(grant.subset)
    if grant.equals is not None:
        constraints["EncryptionContextEquals"] = dict(grant.equals)
    if grant.source_arn is not None:
        constraints["SourceArn"] = grant.source_arn
    shown: dict[str, Any] = {
        "GrantId": grant.id,
        "Name": grant.name or None,
        "GranteePrincipal": grant.grantee,
        "RetiringPrincipal": grant.retiring,
        "Operations": list(grant.operations),
        "Constraints": constraints or None,
        "CreationDate": grant.created and grant.created.isoformat(),
    }
    return {name: value for name, value in shown.items() if value is not None}


def _revoke(key: KeyFacts, grant: GrantFacts) -> str:
    return f"aws kms revoke-grant --region {key.region} --key-id {key.id} --grant-id {grant.id}"


def _found(key: KeyFacts, grant: GrantFacts, detail: str, fix: str | None = None) -> Found:
    return Found(key.arn, _shown(grant), fix or _revoke(key, grant), f"grant {grant.id} for {grant.grantee}{detail}")


def _unconstrained(account: Account) -> Iterator[Found]:
    for key, grant in _each(account):
        uses = [one for one in grant.operations if f"kms:{one}" in WITH_CONTEXT]
        if uses and not grant.subset and not grant.equals and grant.source_arn is None and not _for_service(grant):
            fix = (
                f"Make a constrained one, then revoke this: aws kms create-grant --region {key.region} "
                f"--key-id {key.id} --grantee-principal {grant.grantee} --operations {' '.join(grant.operations)} "
                f"--constraints 'EncryptionContextSubset={{NAME=VALUE}}'\n{_revoke(key, grant)}"
            )
            yield _found(key, grant, f" permits {', '.join(uses)} with any context", fix)


def _creates(account: Account) -> Iterator[Found]:
    for key, grant in _each(account):
        if "CreateGrant" in grant.operations and not _for_service(grant):
            yield _found(key, grant, " can hand its permissions on")


def _overdue(account: Account) -> Iterator[Found]:
    for key, grant in _each(account):
        due = due_of(grant.name)
        if due is not None and due < account.facts.time:
            yield _found(key, grant, f" was due on {due:%Y-%m-%d %H:%M} UTC")


def _stale(account: Account) -> Iterator[Found]:
    for key, grant in _each(account):
        if _for_service(grant) or due_of(grant.name) is not None:
            continue
        if _is_gone(grant.grantee):
            yield _found(key, grant, ", a principal that no longer exists")
            continue
        own = grant.grantee.split(":")[4] == account.facts.account
        is_identity = ":user/" in grant.grantee or (":role/" in grant.grantee and ":iam:" in grant.grantee)
        if own and is_identity and account.facts.principals is not None and grant.grantee not in account.principals:
            yield _found(key, grant, " is for a principal that no longer exists")
        elif grant.created is not None and account.facts.time - grant.created > STALE_AFTER:
            yield _found(key, grant, f" is of {grant.created:%Y-%m-%d} and has no due time")


def _foreign(account: Account) -> Iterator[Found]:
    for key, grant in _each(account):
        if grant.grantee.startswith("arn:"):
            owner = grant.grantee.split(":")[4]
            if not account.is_trusted(owner):
                fix = _revoke(key, grant) + trust([owner])
                yield _found(key, grant, f" is for account {owner}", fix)


RULES: Final = (
    Rule(
        "grant-unconstrained",
        Severity.MEDIUM,
        "a grant has no constraint",
        "It works for every encryption context, so for all data under the key, and is seen in no policy.",
        std.ACCESS,
        _unconstrained,
    ),
    Rule(
        "grant-creates-grants",
        Severity.HIGH,
        "a grant may create grants",
        "The grantee can give what it was given to anybody, in any account, unseen by every policy.",
        std.ACCESS,
        _creates,
    ),
    Rule(
        "grant-overdue",
        Severity.HIGH,
        "a grant has outlived its due time",
        "KMS grants do not end by themselves: access that was lent for a while is still there.",
        std.ACCESS,
        _overdue,
    ),
    Rule(
        "grant-stale",
        Severity.LOW,
        "a grant is stale",
        "Nobody looks after it. A principal that is made again under the same name would have what it permits.",
        std.ACCESS,
        _stale,
    ),
    Rule(
        "grant-foreign-account",
        Severity.HIGH,
        "a grant is for another account",
        "The key is used outside of the accounts that are known, by principals whose policies are not seen here.",
        std.ACCESS,
        _foreign,
    ),
)
