"""Rules about the conditions of key policies: on the encryption context, and on the service that calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sealwax.audit._access import arns_in_conditions
from sealwax.audit._account import DECRYPT, ENCRYPT, Account
from sealwax.audit._facts import KeyFacts
from sealwax.audit._findings import Fix, Severity
from sealwax.audit._outsiders import names_one_owner
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.fixes import (
    commands,
    json_file,
    kms,
    only_action,
    put_key_policy,
    remove_actions,
    replace_statement,
    with_condition,
)
from sealwax.audit._rules.registry import Violation, join_names, rule
from sealwax.audit._services import is_service_role
from sealwax.audit._statements import covers, names_action, wishes_of
from sealwax.policy import (
    CROSS_ACCOUNT,
    Clause,
    Document,
    Policy,
    Principal,
    Request,
    Statement,
    Wild,
    evaluate,
    parse_identity_policy,
    principal,
)
from sealwax.policy._bounds import DERIVED, OF_KEY, THROUGH, Known, most

_USES: Final = (DECRYPT, *ENCRYPT)
_OF_CONTEXT: Final = "kms:encryptioncontext"
_CONTEXT: Final = f"{_OF_CONTEXT}:"
_ALLOWS_ALL: Final = parse_identity_policy(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
)


# --- what a principal can do, as far as is known


def _is_known(name: str) -> bool:
    """For a call with a given context, through any service or none."""
    return name in DERIVED or name in OF_KEY or name.startswith(_OF_CONTEXT)


def _is_known_directly(name: str) -> bool:
    """For a direct call with any context."""
    return name in DERIVED or name in OF_KEY or name in THROUGH


def _is_known_by_service(name: str) -> bool:
    """For a call through some service with any context."""
    return name in DERIVED or name in OF_KEY


def _could(
    account: Account,
    key: KeyFacts,
    policy: Policy,
    who: Principal,
    action: str,
    known: Known,
    context: Mapping[str, str] | None = None,
) -> bool:
    """Tell whether the evaluator can allow a principal an action, whatever the unknown part of its request is."""
    name = who.role or who.arn
    identity = account.identity_policies_of(name) if name in account.policies_of else [_ALLOWS_ALL]
    request = Request(
        action,
        who,
        key.arn,
        account.facts.time,
        context=account.conditions_of(key),
        encryption_context=context or {},
    )
    return evaluate(
        request,
        key_policy=most(policy, known),
        identity_policies=[most(identity_policy, known) for identity_policy in identity],
    ).allowed


def _principals_of(key: KeyFacts, policy: Policy, statement: Statement) -> Iterator[Principal]:
    """Yield the principals that a statement is about: those it names, and some of each account it is open to."""
    element = statement.principals
    if element is None:
        return
    names = [*sorted(element.names), *sorted(element.services)]
    accounts = {key.account} if element.everyone or element.negated or element.providers else set()
    for owner in sorted(accounts | element.accounts):
        start = f"arn:{key.partition}:iam::{owner}:"
        names += [f"{start}role/somebody", f"{start}user/somebody"]
        names += [arn for arn in arns_in_conditions(policy, owner) if arn.startswith(start)]
    for name in dict.fromkeys(names):
        try:
            yield principal(name)
        except ValueError:
            continue  # the unique id of a deleted principal, or a pattern


def _with_denials(policy: Policy, statement: Statement) -> Policy:
    denials = (other for other in policy.statements if other.effect == "Deny")
    return replace(policy, statements=(statement, *denials))


# --- the encryption context


def context_clauses(statement: Statement) -> list[Clause]:
    """Return the clauses that require an encryption context."""
    return [
        clause
        for clause in statement.clauses
        if (clause.key.lower().startswith(_CONTEXT) or clause.key.lower() == "kms:encryptioncontextkeys")
        and "Not" not in clause.operator
        and not clause.operator.endswith("IfExists")
        and not clause.operator.startswith("ForAllValues:")
        and not (clause.operator == "Null" and any(value.text.lower() == "true" for value in clause.values))
    ]


def required_names(clause: Clause) -> list[str]:
    if clause.key.lower().startswith(_CONTEXT):
        return [clause.key[len(_CONTEXT) :]]
    return [value.text for value in clause.values]


@rule(
    "key-policy-no-context",
    Severity.MEDIUM,
    "kms:Decrypt is allowed with any encryption context",
    why="Values are encrypted with a context so that each principal can decrypt its own only. A statement that does "
    "not require the context allows decrypting all of them.",
    standards=std.ACCESS,
    fix="require one of the names in use, and values with `StringEquals`",
)
def key_policy_no_context(account: Account) -> Iterator[Violation]:
    seen = {
        arn: event.context
        for event in account.facts.events or ()
        if event.context and not event.error
        for arn in event.keys
    }
    for key in account.own_keys:
        policy = account.key_policy(key)
        if policy is None or key.policy is None:
            continue
        decrypting = [
            statement
            for statement in policy.statements
            if statement.effect == "Allow"
            and covers(statement, key.arn)
            and names_action(statement, DECRYPT)
            and statement.principals is not None
            and (statement.principals.names or statement.principals.everyone)
        ]
        required = {
            name for statement in decrypting for clause in context_clauses(statement) for name in required_names(clause)
        }
        # Names that start with aws: are those of services.
        names = sorted(name for name in required | set(seen.get(key.arn) or {}) if not name.lower().startswith("aws:"))
        if not names:
            continue
        for statement in decrypting:
            if context_clauses(statement) or not _decrypts_without(account, key, policy, statement, names[0]):
                continue
            raw = account.raw(key.policy, statement)
            yield Violation(
                key.arn,
                raw,
                put_key_policy(
                    key,
                    f"Require a context with one of the names in use: {join_names(names)}. To limit each principal to "
                    "its own data, require values too, with StringEquals on kms:EncryptionContext:NAME.",
                    replace_statement(key, statement.index, *_with_context(raw, names)),
                ),
                f"{statement} requires none, but values have a context with {join_names(names)}",
            )


def _decrypts_without(account: Account, key: KeyFacts, policy: Policy, statement: Statement, name: str) -> bool:
    alone = _with_denials(policy, statement)
    return any(
        _could(account, key, alone, who, DECRYPT, _is_known, context)
        for who in _principals_of(key, policy, statement)
        if who.kind != "service" and not is_service_role(who.arn, account.service_roles)
        for context in ({}, {name: "of somebody else"})
    )


def _with_context(raw: Document, names: Sequence[str]) -> Iterator[Document]:
    """Yield a statement without kms:Decrypt, and one with it that requires one of the names."""
    rest, _ = remove_actions(raw, [DECRYPT], of_key=True)
    if rest is not None:
        yield rest
    yield with_condition(
        only_action(raw, DECRYPT), "ForAnyValue:StringEquals", "kms:EncryptionContextKeys", list(names)
    )


@rule(
    "key-policy-wildcard-context",
    Severity.MEDIUM,
    "the condition on the encryption context has wildcards",
    why="A * in place of a tenant, table or purpose matches all others too, including future ones.",
    standards=std.ACCESS,
    fix="list the values with `StringEquals`",
)
def key_policy_wildcard_context(account: Account) -> Iterator[Violation]:
    for key, policy, statement, raw in account.allow_statements():
        wild = [
            f"{clause.key}={value.text}"
            for clause in context_clauses(statement)
            if "Like" in clause.operator
            for value in clause.values
            if any(isinstance(part, Wild) for part in value.parts)
            # Services send the ARN of a resource, whose wildcard may cover all Regions of one account.
            and not names_one_owner(clause.key.lower().removeprefix(_CONTEXT), value)
        ]
        if wild and _matches_others(account, key, policy, statement):
            bare = any(not pair.partition("=")[2].strip("*?") for pair in wild)
            yield Violation(
                key.arn,
                raw,
                commands(
                    "Use StringEquals with the values that the principal works with; it takes a list. Save the policy, "
                    "change that condition in policy.json, and put it back:",
                    kms(key, "get-key-policy", "--policy-name", "default", "--query", "Policy", "--output", "text")
                    + " > policy.json",
                    kms(key, "put-key-policy", "--policy-name", "default", "--policy", "file://policy.json"),
                ),
                f"{statement} matches {join_names(wild)}",
                Severity.MEDIUM if bare else Severity.LOW,
            )


def _matches_others(account: Account, key: KeyFacts, policy: Policy, statement: Statement) -> bool:
    """Tell whether a context that matches only the wildcards is allowed despite the policy's Deny statements."""
    context, _ = wishes_of(statement)
    alone = _with_denials(policy, statement)
    actions = [action for action in sorted(CROSS_ACCOUNT) if names_action(statement, action)]
    return any(
        _could(account, key, alone, who, action, _is_known, context)
        for who in _principals_of(key, policy, statement)
        for action in actions
    )


# --- the service that calls


@rule(
    "key-policy-via-service",
    Severity.LOW,
    "the key can be used through AWS services only",
    why="sealwax, like every program that calls KMS directly, is denied.",
    fix="use another key for sealwax, or accept it",
)
def key_policy_via_service(account: Account) -> Iterator[Violation]:
    for key in account.own_keys:
        policy = account.key_policy(key)
        if policy is None or key.policy is None or key.usage != "ENCRYPT_DECRYPT" or key.spec != "SYMMETRIC_DEFAULT":
            continue
        limiting = [
            statement
            for statement in policy.statements
            if any(clause.key.lower() == "kms:viaservice" for clause in statement.clauses)
            and any(names_action(statement, action) for action in _USES)
        ]
        closed = _closed_to_direct_calls(account, key, policy) if limiting else []
        if closed:
            statement = next((denial for denial in limiting if denial.effect == "Deny"), limiting[0])
            accepted = {
                "rule": "key-policy-via-service",
                "resource": key.arn,
                "reason": "only AWS services use this key",
            }
            yield Violation(
                key.arn,
                account.raw(key.policy, statement),
                Fix(
                    "Use another key for sealwax, with a policy that allows direct calls (sealwax policy key). If only "
                    "AWS services should use this one, accept the finding in a baseline:",
                    (json_file("baseline.json", {"format": "sealwax-baseline-1", "accepted": [accepted]}),),
                ),
                f"{statement} blocks direct calls of {', '.join(closed)}",
            )


def _closed_to_direct_calls(account: Account, key: KeyFacts, policy: Policy) -> list[str]:
    """Return the uses that principals have through services, but not by direct calls."""
    people = [
        who
        for statement in policy.statements
        if statement.effect == "Allow"
        for who in _principals_of(key, policy, statement)
        if who.kind != "service"
    ]
    return [
        action
        for action in _USES
        if any(_could(account, key, policy, who, action, _is_known_by_service) for who in people)
        and not any(_could(account, key, policy, who, action, _is_known_directly) for who in people)
    ]
