"""Rules about key policies that are open to outsiders: the world, other accounts, services of any account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from sealwax.audit._account import Account
from sealwax.audit._facts import KeyFacts
from sealwax.audit._findings import Fix, Severity
from sealwax.audit._outsiders import (
    ANYONE,
    EVERYONE,
    Outsider,
    actions_open_to,
    caller_accounts,
    describe_public,
    narrows,
)
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.fixes import (
    only_action,
    put_key_policy,
    remove_actions,
    remove_principals,
    remove_values,
    replace_statement,
    with_condition,
    without,
)
from sealwax.audit._rules.registry import Violation, rule, trust_hint, within
from sealwax.errors import PolicyError
from sealwax.policy import Document, Policy, Statement, parse_key_policy, principal

_CALLER: Final = "kms:CallerAccount"
_ALWAYS: Final = ("aws:principalarn", "aws:principalaccount", "kms:calleraccount")
# With these, a service neither encrypts nor decrypts for strangers, nor gives anything away.
_HARMLESS: Final = frozenset(
    f"kms:{name}"
    for name in (
        "DescribeKey",
        "GetKeyRotationStatus",
        "GetPublicKey",
        "ListGrants",
        "RetireGrant",
        "RevokeGrant",
        "Verify",
        "VerifyMac",
    )
)
# CloudWatch Logs is limited by the context that it sends: "Encrypt log data in CloudWatch Logs using AWS Key Management
# Service" in the CloudWatch Logs User Guide.
_BY_CONTEXT: Final = {"logs": "aws:logs:arn"}
_LIMIT_CALLERS: Final = (
    f"Limit the statement to callers of this account with {_CALLER}. Principals of this account keep their access; "
    "name the roles that need the key once you know them."
)


def _own_callers_only(raw: Document, key: KeyFacts) -> Document:
    return with_condition(raw, "StringEquals", _CALLER, key.account)


@rule(
    "key-policy-public",
    Severity.CRITICAL,
    "the key policy is open to everyone",
    why="Anyone with an AWS account can use the key. A condition on what callers send, such as an encryption context "
    "or a service, does not limit who they are.",
    standards=(
        std.KMS_5,
        std.config("kms-key-policy-no-public-access"),
        std.prowler("kms_key_not_publicly_accessible"),
        *std.ACCESS,
    ),
    fix="limit it to callers of the account (`kms:CallerAccount`)",
)
def key_policy_public(account: Account) -> Iterator[Violation]:
    for key, policy, statement, raw in account.allow_statements():
        public = None if statement.principals is None else describe_public(statement.principals)
        if public is None or not actions_open_to(account, key, policy, statement, ANYONE):
            continue
        conditions = "its conditions do not limit who calls" if statement.clauses else "without a condition"
        who = "" if public == EVERYONE else f" is for {public}"
        document = replace_statement(key, statement.index, _own_callers_only(raw, key))
        yield Violation(
            key.arn,
            raw,
            put_key_policy(key, _LIMIT_CALLERS, document),
            f"{within(statement)}{who}, {conditions}",
        )
    for key, unparsed in account.unparsed_key_policies():
        yield from _public_in_part(account, key, unparsed)


def _public_in_part(account: Account, key: KeyFacts, document: Document) -> Iterator[Violation]:
    """Return the statements that are certainly public in a policy that cannot be evaluated as a whole.

    Wildcards count even in places where AWS does not allow them, so that the audit does not rely on KMS refusing them.
    A condition or a Deny statement that cannot be evaluated may keep everyone out; then there is no finding.
    """
    listed = document.get("Statement")
    raws: list[object] = listed if isinstance(listed, list) else [listed]
    parsed: list[Statement] = []
    for index, raw in enumerate(raws, 1):
        try:
            (statement,) = parse_key_policy({**document, "Id": "x", "Statement": [_with_star(raw)]}).statements
        except PolicyError:
            if not isinstance(raw, dict) or raw.get("Effect") != "Allow":
                return
            continue
        parsed.append(replace(statement, index=index))
    policy = Policy("key policy", None, "", tuple(parsed))
    for statement in parsed:
        raw = raws[statement.index - 1]
        public = None if statement.principals is None else describe_public(statement.principals)
        if public is None or not isinstance(raw, dict):
            continue
        if not actions_open_to(account, key, policy, statement, ANYONE):
            continue
        element = raw.get("Principal")
        services = _has_wildcard(element, "Service") and not _has_wildcard(element, "AWS", "Federated")
        closed = replace_statement(key, statement.index, _own_callers_only(_with_star(raw), key))
        yield Violation(
            key.arn,
            raw,
            Fix("Name the services that need the key.") if services else put_key_policy(key, _LIMIT_CALLERS, closed),
            f"a statement is for {'every AWS service' if services else public}",
            Severity.HIGH if services else None,
        )


def _with_star(raw: object) -> Document:
    """Return a statement with * for a Principal that has a wildcard where AWS does not allow one."""
    if not isinstance(raw, dict):
        raise PolicyError("a statement is not an object")
    return raw | {"Principal": "*"} if _has_wildcard(raw.get("Principal"), "AWS", "Service") else raw


def _has_wildcard(element: object, *kinds: str) -> bool:
    if not isinstance(element, dict):
        return element == "*" and "AWS" in kinds
    for kind in kinds:
        names = element.get(kind)
        for name in names if isinstance(names, list) else [names]:
            if isinstance(name, str):
                # A wildcard in the name of a principal stays within its account.
                account = "".join(name.split(":")[4:5]) if kind == "AWS" else ""
                if "*" in (account or name):
                    return True
    return False


@rule(
    "key-policy-not-principal",
    Severity.CRITICAL,
    "the key policy uses Allow with NotPrincipal",
    why="Allow with NotPrincipal allows everyone else, including anonymous callers and users of other accounts.",
    standards=(std.KMS_5, *std.ACCESS),
    fix="name the principals to allow: callers of the account except those that were excluded",
)
def key_policy_not_principal(account: Account) -> Iterator[Violation]:
    for key, policy, statement, raw in account.allow_statements():
        if statement.principals is None or not statement.principals.negated:
            continue
        is_public = bool(actions_open_to(account, key, policy, statement, ANYONE))
        limited = "" if is_public else "; conditions or a Deny statement keep other accounts out"
        yield Violation(
            key.arn,
            raw,
            put_key_policy(
                key,
                "Use Principal instead: callers of this account except those that were excluded. Name the roles that "
                "need the key once you know them.",
                replace_statement(key, statement.index, *_with_principal(raw, key)),
            ),
            f"{within(statement)}{limited}",
            None if is_public else Severity.LOW,
        )


def _with_principal(raw: Document, key: KeyFacts) -> Sequence[Document]:
    """Return an Allow statement with NotPrincipal as one with Principal, for callers of the key's account."""
    element = raw["NotPrincipal"]
    names = element.get("AWS", []) if isinstance(element, dict) else element
    excluded = names if isinstance(names, list) else [names]
    if any(name in (key.account, f"arn:{key.partition}:iam::{key.account}:root") for name in excluded):
        return ()  # the whole account
    own = [name for name in excluded if f"::{key.account}:" in name]
    changed = without(raw, "NotPrincipal")
    if own:
        operator = "StringNotEquals" if "ArnNotEquals" in changed.get("Condition", {}) else "ArnNotEquals"
        changed = with_condition(changed, operator, "aws:PrincipalArn", [_role_of(name) for name in own])
    return (_own_callers_only(changed | {"Principal": {"AWS": "*"}}, key),)


def _role_of(arn: str) -> str:
    # For a session, aws:PrincipalArn is its role, so all sessions of the role are excluded.
    who = principal(arn)
    return who.role or who.arn


@rule(
    "key-policy-foreign-account",
    Severity.HIGH,
    "the key policy gives another account access",
    why="That account's administrators decide who uses the key there, and this audit cannot see their policies.",
    standards=std.ACCESS,
    fix="remove the account, or trust it",
)
def key_policy_foreign_account(account: Account) -> Iterator[Violation]:
    for key, policy, statement, raw in account.allow_statements():
        element = statement.principals
        if element is None or element.negated:
            continue
        inside = [
            outsider
            for outsider in _outsiders_in(statement, key)
            if outsider.account
            and not account.is_trusted(outsider.account)
            and actions_open_to(account, key, policy, statement, outsider)
        ]
        strangers = sorted({outsider.account for outsider in inside if outsider.account})
        if not strangers:
            continue
        limited = any(clause.key.lower() == "aws:principalarn" and narrows(clause) for clause in statement.clauses)
        whole = not limited and any(
            outsider.arn is None and (element.everyone or outsider.account in element.accounts) for outsider in inside
        )

        def is_stranger(text: str, strangers: Sequence[str] = strangers) -> bool:
            return (text.split(":")[4] if text.count(":") >= 5 else text) in strangers

        kept = remove_principals(raw, is_stranger)
        if kept is not None and element.everyone:
            kept = remove_values(kept, _ALWAYS, is_stranger)
        shown = ", ".join(strangers)
        document = replace_statement(key, statement.index, *([] if kept is None else [kept]))
        fix = put_key_policy(key, f"Remove {shown}.", document)
        yield Violation(
            key.arn,
            raw,
            replace(fix, says=fix.says + trust_hint(strangers)),
            f"{within(statement)} allows {'all of ' if whole else ''}{shown}",
            Severity.HIGH if whole else Severity.MEDIUM,
        )


def _outsiders_in(statement: Statement, key: KeyFacts) -> Iterator[Outsider]:
    element = statement.principals
    if element is None:
        return
    yield from map(Outsider, element.accounts)
    limits = [
        accounts for clause in statement.clauses if (accounts := caller_accounts(clause, key.account)) is not None
    ]
    if element.everyone and limits:
        yield from map(Outsider, frozenset.intersection(*limits))
    for name in element.names:
        if name.count(":") >= 5:
            yield Outsider(name.split(":")[4], name)
    for provider in element.providers:
        if provider.startswith("arn:"):
            yield Outsider(provider.split(":")[4])


@rule(
    "key-policy-service-any-account",
    Severity.MEDIUM,
    "the key policy lets an AWS service use the key for any account",
    why="Anyone with an AWS account can make the service use the key for their own resource: the service is a confused "
    "deputy.",
    standards=std.ACCESS,
    fix="require the account with `aws:SourceAccount`, or with the context that the service sends",
)
def key_policy_service_any_account(account: Account) -> Iterator[Violation]:
    for key, policy, statement, raw in account.allow_statements():
        open_to: dict[str, list[str]] = {}
        for service in sorted(statement.principals.services if statement.principals else ()):
            outsider = Outsider(service=service)
            open_actions = actions_open_to(account, key, policy, statement, outsider)
            harmful = [action for action in open_actions if action not in _HARMLESS]
            if harmful:
                open_to[service] = harmful
        if not open_to:
            continue
        # The services of a statement have the same actions, unless a Deny statement names one of them.
        actions = sorted({action for harmful in open_to.values() for action in harmful})
        accounts = [key.account, *(id_ for id_ in account.facts.trusted_accounts if id_ != key.account)]
        services = " and ".join(open_to)
        yield Violation(
            key.arn,
            raw,
            put_key_policy(
                key,
                f"Let {services} use the key for {' and '.join(accounts)} only. If a service works for more accounts "
                "of yours, audit with these as trusted accounts. Check in the documentation of the service that "
                "it sends the condition key.",
                replace_statement(key, statement.index, *_for_accounts(raw, key, open_to, actions, accounts)),
            ),
            f"{within(statement)} allows {services} {', '.join(actions)} for resources of any account",
        )


def _for_accounts(
    raw: Document, key: KeyFacts, services: Iterable[str], actions: Sequence[str], accounts: Sequence[str]
) -> Iterator[Document]:
    """Yield the statements in place of one that limit the services to accounts."""
    named = raw["Principal"]["Service"]
    left = [name for name in (named if isinstance(named, list) else [named]) if name not in set(services)]
    others = without(raw["Principal"], "Service") | ({"Service": left} if left else {})
    if others:
        yield raw | {"Principal": others}
    rest, _ = remove_actions(raw, actions, of_key=True)
    if rest is not None:
        yield rest | {"Principal": {"Service": list(services)}}
    limited = only_action(raw, actions)
    by_source = [service for service in services if service.split(".")[0] not in _BY_CONTEXT]
    if by_source:
        yield with_condition(limited, "StringEquals", "aws:SourceAccount", list(accounts)) | {
            "Principal": {"Service": by_source}
        }
    for service in services:
        context = _BY_CONTEXT.get(service.split(".")[0])
        if context is not None:
            owners = [f"arn:{key.partition}:logs:{key.region}:{account}:*" for account in accounts]
            yield with_condition(limited, "ArnLike", f"kms:EncryptionContext:{context}", owners) | {
                "Principal": {"Service": service}
            }
