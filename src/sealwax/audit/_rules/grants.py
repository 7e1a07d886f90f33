"""Rules about grants."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from sealwax.audit._account import Account
from sealwax.audit._facts import GrantFacts, KeyFacts
from sealwax.audit._findings import Fix, Severity
from sealwax.audit._outsiders import OF_ORGANIZATION
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.fixing import commands, kms
from sealwax.audit._rules.rule import Found, Rule, listed, trust
from sealwax.audit._services import is_gone, is_service, is_service_role
from sealwax.policy import CROSS_ACCOUNT, Request, evaluate, principal
from sealwax.policy._bounds import DERIVED, most
from sealwax.policy._expiry import due_of
from sealwax.policy._operations import ON_KEY, WITH_CONTEXT

STALE_AFTER: Final = timedelta(days=365)


def _each(account: Account) -> Iterator[tuple[KeyFacts, GrantFacts]]:
    for key in account.own_keys:
        for grant in key.grants or ():
            yield key, grant


def _for_service(account: Account, grant: GrantFacts) -> bool:
    """Whether an AWS service made it for its own work, or it is for a role that only AWS assumes.

    Such grants are retired by the service; nobody else can use what they permit.
    """
    retires = grant.retiring is not None and is_service(grant.retiring)
    return retires or is_service(grant.grantee) or is_service_role(grant.grantee, account.service_roles)


def _usable(account: Account, key: KeyFacts, grant: GrantFacts) -> list[str]:
    """Return the operations that no statement denies the grantee, for a context that nobody named."""
    policy = account.key_policy(key)
    if is_gone(grant.grantee):
        return []
    try:
        who = account.principals.get(grant.grantee) or principal(grant.grantee)
    except ValueError:
        return list(grant.operations)
    ids = account.policies_of.get(who.role or who.arn, ())
    identity = [account.identity_policies[id_] for id_ in ids if id_ in account.identity_policies]
    if policy is None:
        return list(grant.operations)
    foreign = who.kind != "service" and who.account != key.account

    def is_known(name: str) -> bool:
        # Who is let in for its organization is not of another account, as for key policies.
        return name in DERIVED or name.startswith("kms:encryptioncontext") or (foreign and name in OF_ORGANIZATION)

    return [
        operation
        for operation in grant.operations
        if f"kms:{operation}" in ON_KEY
        and not (foreign and f"kms:{operation}" not in CROSS_ACCOUNT)
        and not evaluate(
            Request(
                f"kms:{operation}",
                who,
                key.arn,
                account.facts.time,
                encryption_context={"purpose-of": "somebody else"},
            ),
            key_policy=most(policy, is_known),
            identity_policies=[most(one, is_known) for one in identity],
        ).explicit_deny
    ]


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
    return kms(key, "revoke-grant", "--grant-id", grant.id)


def _again(key: KeyFacts, grant: GrantFacts, operations: Sequence[str], constraints: Mapping[str, Any]) -> str:
    """Return the command that makes a grant like one, with other operations and constraints."""
    words = ["--grantee-principal", grant.grantee, "--operations", *operations]
    words += ["--constraints", json.dumps(constraints)] if constraints else []
    words += ["--retiring-principal", grant.retiring] if grant.retiring is not None else []
    words += ["--name", grant.name] if grant.name else []
    return kms(key, "create-grant", *words)


def _found(key: KeyFacts, grant: GrantFacts, detail: str, fix: Fix) -> Found:
    return Found(key.arn, _shown(grant), fix, f"grant {grant.id} for {grant.grantee}{detail}")


_REVOKED: Final = "Revoke it. What it permits is gone at once: see in CloudTrail first whether it is in use."


def _unconstrained(account: Account) -> Iterator[Found]:
    for key, grant in _each(account):
        if grant.subset or grant.equals or grant.source_arn is not None or _for_service(account, grant):
            continue
        uses = [one for one in _usable(account, key, grant) if f"kms:{one}" in WITH_CONTEXT]
        if uses:
            yield _found(key, grant, f" permits {', '.join(uses)} with any context", _better(account, key, grant))


def _is_over(account: Account, grant: GrantFacts) -> bool:
    """Whether a grant is to be revoked for another reason, so that none is made in its place."""
    due = due_of(grant.name)
    overdue = due is not None and due < account.facts.time
    return overdue or not account.is_trusted(_owner(grant.grantee)) or _is_missing(account, grant.grantee)


def _owner(arn: str) -> str:
    return f"{arn}:::::".split(":")[4]


def _is_missing(account: Account, arn: str) -> bool:
    """Whether a user or role of the account is not there."""
    identity = ":user/" in arn or (":role/" in arn and ":iam:" in arn)
    own = identity and _owner(arn) == account.facts.account
    return own and account.facts.principals is not None and arn not in account.principals


def _better(account: Account, key: KeyFacts, grant: GrantFacts) -> Fix:
    """Return the fix that makes a grant with a constraint that creates no grants, and revokes this one.

    It is the same for both rules: who follows one must not bring back what the other is about.
    """
    left = [one for one in grant.operations if one != "CreateGrant"]
    bound: dict[str, Any] = {
        "EncryptionContextSubset": dict(grant.subset or {}),
        "EncryptionContextEquals": dict(grant.equals or {}),
        "SourceArn": grant.source_arn,
    }
    given = {name: value for name, value in bound.items() if value}
    stay = (
        " Grants that were made with it stay: see what list-grants shows." if len(left) < len(grant.operations) else ""
    )
    if not left or _is_over(account, grant):
        return commands(_REVOKED + stay, _revoke(key, grant))
    if not given and any(f"kms:{one}" in WITH_CONTEXT for one in left):
        pairs = _pairs(account, key)
        if not pairs:
            return commands(
                "Ask its grantee for the context that it works with, make a grant that is bound to it (sealwax policy "
                f"grant -c NAME=VALUE) and permits {', '.join(left)}, and then revoke this one.{stay}",
                _revoke(key, grant),
            )
        given = {"EncryptionContextSubset": pairs}
        stay = f" If the grantee works with another context than {listed(pairs)}, bind it to that.{stay}"
    return commands(
        f"Make one that permits {', '.join(left)} under a constraint, and revoke this one.{stay}",
        _again(key, grant, left, given),
        _revoke(key, grant),
    )


def _pairs(account: Account, key: KeyFacts) -> dict[str, str]:
    """Return the context that the key policy asks all of its users for; empty where it asks for several, or none."""
    policy = account.key_policy(key)
    start = "kms:EncryptionContext:"
    asked = [
        {
            clause.key[len(start) :]: clause.values[0].text
            for clause in one.clauses
            if clause.operator == "StringEquals"
            and clause.key.lower().startswith(start.lower())
            and not clause.key[len(start) :].lower().startswith("aws:")  # a service's
            and len(clause.values) == 1
            and not clause.values[0].has_variables
        }
        for one in (policy.statements if policy else ())
        if one.effect == "Allow"
    ]
    every = [one for one in asked if one]
    return every[0] if every and all(one == every[0] for one in every) else {}


def _creates(account: Account) -> Iterator[Found]:
    for key, grant in _each(account):
        if _for_service(account, grant) or "CreateGrant" not in _usable(account, key, grant):
            continue
        yield _found(key, grant, " can hand its permissions on", _better(account, key, grant))


def _overdue(account: Account) -> Iterator[Found]:
    for key, grant in _each(account):
        due = due_of(grant.name)
        if due is not None and due < account.facts.time:
            yield _found(key, grant, f" was due on {due:%Y-%m-%d %H:%M} UTC", commands(_REVOKED, _revoke(key, grant)))


def _stale(account: Account) -> Iterator[Found]:
    for key, grant in _each(account):
        if due_of(grant.name) is not None:
            continue
        fix = commands(_REVOKED, _revoke(key, grant))
        if is_gone(grant.grantee):
            # One that is made again under the same name has another id, so nobody can use it.
            yield _found(key, grant, ", a principal that no longer exists", commands("Revoke it.", _revoke(key, grant)))
            continue
        # A service may keep what it works with for years, and its own role is there as long as it works.
        if is_service(grant.grantee) or (grant.retiring is not None and is_service(grant.retiring)):
            continue
        if _is_missing(account, grant.grantee):
            yield _found(key, grant, " is for a principal that no longer exists", fix)
        elif is_service_role(grant.grantee, account.service_roles):
            continue
        elif grant.created is not None and account.facts.time - grant.created > STALE_AFTER:
            yield _found(key, grant, f" is of {grant.created:%Y-%m-%d} and has no due time", fix)


def _foreign(account: Account) -> Iterator[Found]:
    for key, grant in _each(account):
        if grant.grantee.startswith("arn:"):
            owner = grant.grantee.split(":")[4]
            if not account.is_trusted(owner) and _usable(account, key, grant):
                fix = commands(_REVOKED + trust([owner]), _revoke(key, grant))
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
        "Nobody looks after it, and grants do not end by themselves.",
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
