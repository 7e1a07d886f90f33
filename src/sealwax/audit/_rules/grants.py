"""Rules about grants."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from sealwax.audit._account import Account
from sealwax.audit._facts import GrantFacts, KeyFacts
from sealwax.audit._findings import Block, Fix, Severity
from sealwax.audit._outsiders import OF_ORGANIZATION
from sealwax.audit._rules import standards as std
from sealwax.audit._rules import templates
from sealwax.audit._rules.fixes import commands, kms
from sealwax.audit._rules.registry import Violation, join_names, rule, trust_hint
from sealwax.audit._services import is_deleted, is_service, is_service_role
from sealwax.policy import CROSS_ACCOUNT, Request, evaluate, principal
from sealwax.policy._bounds import DERIVED, most
from sealwax.policy._expiry import due_of
from sealwax.policy._operations import ON_KEY, WITH_CONTEXT

STALE_AFTER: Final = timedelta(days=365)
_REVOKE: Final = "Revoke it. Its permissions end at once, so check in CloudTrail first whether it is in use."
_CONTEXT: Final = "kms:encryptioncontext:"


def _all_grants(account: Account) -> Iterator[tuple[KeyFacts, GrantFacts]]:
    for key in account.own_keys:
        for grant in key.grants or ():
            yield key, grant


def _is_for_service(account: Account, grant: GrantFacts) -> bool:
    """Tell whether a grant is for an AWS service, or for a role that only AWS services assume.

    The service retires such grants, and no one else can use them.
    """
    retires = grant.retiring is not None and is_service(grant.retiring)
    return retires or is_service(grant.grantee) or is_service_role(grant.grantee, account.service_roles)


def _usable(account: Account, key: KeyFacts, grant: GrantFacts) -> list[str]:
    """Return the operations that no statement denies the grantee, for a context that no one named."""
    policy = account.key_policy(key)
    if is_deleted(grant.grantee):
        return []
    try:
        who = account.principals.get(grant.grantee) or principal(grant.grantee)
    except ValueError:
        return list(grant.operations)
    if policy is None:
        return list(grant.operations)
    foreign = who.kind != "service" and who.account != key.account

    def is_known(name: str) -> bool:
        # A condition on an organization keeps other accounts out, as in key policies.
        return name in DERIVED or name.startswith("kms:encryptioncontext") or (foreign and name in OF_ORGANIZATION)

    at_most = most(policy, is_known)
    identity = [most(held, is_known) for held in account.identity_policies_of(who.role or who.arn)]

    def is_denied(action: str) -> bool:
        request = Request(action, who, key.arn, account.facts.time, encryption_context={"purpose-of": "somebody else"})
        return evaluate(request, key_policy=at_most, identity_policies=identity).explicit_deny

    return [
        operation
        for operation in grant.operations
        if (action := f"kms:{operation}") in ON_KEY
        and not (foreign and action not in CROSS_ACCOUNT)
        and not is_denied(action)
    ]


def _constraints(grant: GrantFacts) -> dict[str, object]:
    members = {
        "EncryptionContextSubset": grant.subset,
        "EncryptionContextEquals": grant.equals,
        "SourceArn": grant.source_arn,
    }
    return {name: value for name, value in members.items() if value is not None}


def _shown(grant: GrantFacts) -> Mapping[str, object]:
    members: dict[str, object] = {
        "GrantId": grant.id,
        "Name": grant.name or None,
        "GranteePrincipal": grant.grantee,
        "RetiringPrincipal": grant.retiring,
        "Operations": list(grant.operations),
        "Constraints": _constraints(grant) or None,
        "CreationDate": grant.created and grant.created.isoformat(),
    }
    return {name: value for name, value in members.items() if value is not None}


def _violation(key: KeyFacts, grant: GrantFacts, detail: str, fix: Fix) -> Violation:
    return Violation(key.arn, _shown(grant), fix, f"grant {grant.id} for {grant.grantee}{detail}")


def _revoke_command(key: KeyFacts, grant: GrantFacts) -> str:
    return kms(key, "revoke-grant", "--grant-id", grant.id)


def _revoke(key: KeyFacts, grant: GrantFacts, says: str = _REVOKE) -> Fix:
    return commands(says, _revoke_command(key, grant))


def _create_command(
    key: KeyFacts, grant: GrantFacts, operations: Sequence[str], constraints: Mapping[str, object]
) -> str:
    """Return the command that creates a grant like another one, with other operations and constraints."""
    words = ["--grantee-principal", grant.grantee, "--operations", *operations]
    words += ["--constraints", json.dumps(constraints)] if constraints else []
    words += ["--retiring-principal", grant.retiring] if grant.retiring is not None else []
    words += ["--name", grant.name] if grant.name else []
    return kms(key, "create-grant", *words)


def _create_block(
    key: KeyFacts, grant: GrantFacts, operations: Sequence[str], constraints: Mapping[str, object]
) -> list[Block]:
    if "SourceArn" in constraints:
        return []  # Terraform has no argument for it
    request = {
        "KeyId": key.arn,
        "GranteePrincipal": grant.grantee,
        "Operations": list(operations),
        "Constraints": constraints,
    }
    optional = {"RetiringPrincipal": grant.retiring, "Name": grant.name}
    return [templates.grant(request | {member: value for member, value in optional.items() if value})]


def _replacement(account: Account, key: KeyFacts, grant: GrantFacts) -> Fix:
    """Return the fix that creates a grant with a constraint and without CreateGrant, and revokes this one.

    It is the same for both rules, so that the fix of one does not bring back what the other is about.
    """
    left = [operation for operation in grant.operations if operation != "CreateGrant"]
    remain = ""
    if len(left) < len(grant.operations):
        remain = " Grants that were created with it stay; list-grants shows them."
    if not left or _is_obsolete(account, grant):
        return _revoke(key, grant, _REVOKE + remain)
    constraints = {name: value for name, value in _constraints(grant).items() if value}
    if not constraints and any(f"kms:{operation}" in WITH_CONTEXT for operation in left):
        pairs = _common_context(account, key)
        if not pairs:
            return _revoke(
                key,
                grant,
                "Ask its grantee which context it uses, create a grant with that context (sealwax policy grant -c "
                f"NAME=VALUE) for {', '.join(left)}, and then revoke this one.{remain}",
            )
        constraints = {"EncryptionContextSubset": pairs}
        remain = f" If the grantee uses a context other than {join_names(pairs)}, use that one.{remain}"
    return commands(
        f"Create a grant for {', '.join(left)} with a constraint, and revoke this one.{remain}",
        _create_command(key, grant, left, constraints),
        _revoke_command(key, grant),
        instead=_create_block(key, grant, left, constraints),
    )


def _is_obsolete(account: Account, grant: GrantFacts) -> bool:
    """Tell whether a grant should be revoked for another reason, so that no new one takes its place."""
    due = due_of(grant.name)
    overdue = due is not None and due < account.facts.time
    return overdue or not account.is_trusted(_account_of(grant.grantee)) or _is_missing(account, grant.grantee)


def _account_of(arn: str) -> str:
    return f"{arn}:::::".split(":")[4]


def _is_missing(account: Account, arn: str) -> bool:
    """Tell whether a user or role of the account does not exist."""
    is_identity = ":user/" in arn or (":role/" in arn and ":iam:" in arn)
    own = is_identity and _account_of(arn) == account.facts.account
    return own and account.facts.principals is not None and arn not in account.principals


def _common_context(account: Account, key: KeyFacts) -> dict[str, str]:
    """Return the context that the key policy requires of all users; empty if they differ or there is none."""
    policy = account.key_policy(key)
    contexts = [
        {
            clause.key[len(_CONTEXT) :]: clause.values[0].text
            for clause in statement.clauses
            if clause.operator == "StringEquals"
            and clause.key.lower().startswith(_CONTEXT)
            and not clause.key.lower().startswith(f"{_CONTEXT}aws:")  # a service's
            and len(clause.values) == 1
            and not clause.values[0].has_variables
        }
        for statement in (policy.statements if policy else ())
        if statement.effect == "Allow"
    ]
    required = [context for context in contexts if context]
    return required[0] if required and all(context == required[0] for context in required) else {}


@rule(
    "grant-unconstrained",
    Severity.MEDIUM,
    "a grant has no constraint",
    why="It works with every encryption context, and so for all data under the key, and no policy shows it.",
    standards=std.ACCESS,
    fix="create one with a constraint, then revoke this one",
)
def grant_unconstrained(account: Account) -> Iterator[Violation]:
    for key, grant in _all_grants(account):
        if grant.subset or grant.equals or grant.source_arn is not None or _is_for_service(account, grant):
            continue
        uses = [operation for operation in _usable(account, key, grant) if f"kms:{operation}" in WITH_CONTEXT]
        if uses:
            fix = _replacement(account, key, grant)
            yield _violation(key, grant, f" permits {', '.join(uses)} with any context", fix)


@rule(
    "grant-creates-grants",
    Severity.HIGH,
    "a grant can create grants",
    why="The grantee can pass its permissions on to anyone, in any account, and no policy shows it.",
    standards=std.ACCESS,
    fix="create one without `CreateGrant`, then revoke this one",
)
def grant_creates_grants(account: Account) -> Iterator[Violation]:
    for key, grant in _all_grants(account):
        if not _is_for_service(account, grant) and "CreateGrant" in _usable(account, key, grant):
            yield _violation(key, grant, "", _replacement(account, key, grant))


@rule(
    "grant-overdue",
    Severity.HIGH,
    "a grant is past its due time",
    why="KMS grants do not expire: access that was meant to be temporary is still there.",
    standards=std.ACCESS,
    fix="revoke it",
)
def grant_overdue(account: Account) -> Iterator[Violation]:
    for key, grant in _all_grants(account):
        due = due_of(grant.name)
        if due is not None and due < account.facts.time:
            yield _violation(key, grant, f" was due on {due:%Y-%m-%d %H:%M} UTC", _revoke(key, grant))


@rule(
    "grant-stale",
    Severity.LOW,
    "a grant is stale",
    why="No one looks after it, and grants do not expire.",
    standards=std.ACCESS,
    fix="revoke it",
)
def grant_stale(account: Account) -> Iterator[Violation]:
    for key, grant in _all_grants(account):
        if due_of(grant.name) is not None:
            continue
        if is_deleted(grant.grantee):
            # A new principal of the same name has another id, so no one can use the grant.
            yield _violation(key, grant, ", a principal that no longer exists", _revoke(key, grant, "Revoke it."))
            continue
        # Services keep grants for years, and their own roles exist as long as they work.
        if is_service(grant.grantee) or (grant.retiring is not None and is_service(grant.retiring)):
            continue
        if _is_missing(account, grant.grantee):
            yield _violation(key, grant, " is for a principal that no longer exists", _revoke(key, grant))
        elif is_service_role(grant.grantee, account.service_roles):
            continue
        elif grant.created is not None and account.facts.time - grant.created > STALE_AFTER:
            detail = f" was created on {grant.created:%Y-%m-%d} and has no due time"
            yield _violation(key, grant, detail, _revoke(key, grant))


@rule(
    "grant-foreign-account",
    Severity.HIGH,
    "a grant is for another account",
    why="The key is used outside the trusted accounts, by principals whose policies this audit cannot see.",
    standards=std.ACCESS,
    fix="revoke it, or trust the account",
)
def grant_foreign_account(account: Account) -> Iterator[Violation]:
    for key, grant in _all_grants(account):
        owner = _account_of(grant.grantee)
        if grant.grantee.startswith("arn:") and not account.is_trusted(owner) and _usable(account, key, grant):
            yield _violation(key, grant, "", _revoke(key, grant, _REVOKE + trust_hint([owner])))
