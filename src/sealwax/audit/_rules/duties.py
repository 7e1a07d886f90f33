"""Rules about who has which permissions: separation of duties, delegation to IAM, and both sides of re-encryption."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Final

from sealwax.audit._access import Allowed
from sealwax.audit._account import ADMINISTER, DECRYPT, REENCRYPT_FROM, REENCRYPT_TO, Account
from sealwax.audit._facts import KeyFacts
from sealwax.audit._findings import Severity
from sealwax.audit._outsiders import narrows
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.fixes import (
    add_denial,
    only_action,
    put_key_policy,
    remove_actions,
    remove_principals,
    replace_statement,
    with_condition,
)
from sealwax.audit._rules.identities import selects_keys
from sealwax.audit._rules.registry import Violation, join_names, rule, within
from sealwax.audit._services import is_service_role
from sealwax.audit._statements import names_action, no_value, wishes_of
from sealwax.policy import Decision, Document, Request, Statement, Wild, evaluate, parse_key_policy
from sealwax.policy._patterns import glob

#: The actions that reveal what is encrypted under a key.
_REVEALING: Final = (DECRYPT, REENCRYPT_FROM)
_OPEN_POLICY: Final = parse_key_policy(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]}
)


@rule(
    "key-policy-root-delegation",
    Severity.MEDIUM,
    "the key policy delegates kms:Decrypt to IAM, and policies with wildcards reach it",
    why="Whoever can write IAM policies decides who decrypts, and a policy written for another key reaches this one.",
    standards=(std.PCI_CUSTODIANS, *std.ACCESS),
    fix="delegate decryption to IAM for named principals only (`aws:PrincipalArn`)",
)
def key_policy_root_delegation(account: Account) -> Iterator[Violation]:
    for key in account.own_keys:
        if key.policy is None:
            continue
        reached: dict[str, list[str]] = {action: [] for action in _REVEALING}
        wide: list[str] = []
        delegating: Statement | None = None
        for allowed in account.allowed_by_key.get(key.arn, ()):
            if allowed.action not in _REVEALING or len(allowed.decision.statements) != 2:
                continue
            by_key, by_identity = allowed.decision.statements
            if by_key.principals is None or key.account not in by_key.principals.accounts:
                continue
            reached[allowed.action].append(allowed.principal)
            if allowed.action != DECRYPT or _names_principals(by_key):
                continue
            if not _names_only(by_identity, key.arn) and not any(map(selects_keys, by_identity.clauses)):
                delegating = delegating or by_key
                wide.append(allowed.principal)
        if delegating is not None:
            raw = account.raw(key.policy, delegating)
            principals = sorted({*reached[DECRYPT], *reached[REENCRYPT_FROM]})
            yield Violation(
                key.arn,
                raw,
                put_key_policy(
                    key,
                    f"Delegate {' and '.join(_REVEALING)} to IAM only for the principals that have them today, and "
                    "remove from aws:PrincipalArn those that should not. Their IAM policies still apply, and the rest "
                    "of the statement stays.",
                    replace_statement(key, delegating.index, *_delegated_to(raw, delegating, key, principals)),
                ),
                f"{within(delegating)}; without naming this key: {join_names(sorted(wide))}",
            )


def _names_principals(statement: Statement) -> bool:
    """Tell whether a statement for an account is limited to principals with exact names."""
    return any(
        clause.key.lower() == "aws:principalarn"
        and narrows(clause)
        and not any(isinstance(part, Wild) for value in clause.values for part in value.parts)
        for clause in statement.clauses
    )


def _delegated_to(raw: Document, statement: Statement, key: KeyFacts, principals: Sequence[str]) -> Iterator[Document]:
    """Yield a statement that delegates no revealing action, and one that delegates them for some principals."""
    root = f"arn:{key.partition}:iam::{key.account}:root"
    rest, _ = remove_actions(raw, _REVEALING, of_key=True)
    if rest is not None:
        yield rest
    revealing = [action for action in _REVEALING if names_action(statement, action)]
    others = remove_principals(raw, lambda name: name in (root, key.account))
    if others is not None:
        # The other principals of the statement keep what they have.
        yield only_action(others, revealing)
    delegated = only_action(raw, revealing) | {"Principal": {"AWS": root}}
    # The root user keeps it too.
    tests = delegated.get("Condition", {}).get("ArnEquals", {})
    operator = "StringEquals" if "aws:principalarn" in map(str.lower, tests) else "ArnEquals"
    yield with_condition(delegated, operator, "aws:PrincipalArn", [root, *principals])


def _names_only(statement: Statement, arn: str) -> bool:
    """Tell whether a statement covers a key by its ARN alone, and not by a wildcard as well."""
    covering = [pattern for pattern in statement.resources or () if glob(pattern.resolve(no_value) or (), arn)]
    return not statement.not_resource and bool(covering) and all(pattern.text == arn for pattern in covering)


@rule(
    "key-policy-admin-can-use",
    Severity.MEDIUM,
    "an administrator of the key can use it",
    why="One stolen credential is enough to read the data and to destroy the key: duties are not separated.",
    standards=(std.PCI_CUSTODIANS, std.SOC_DUTIES, *std.ACCESS),
    fix="deny the administrator `kms:Decrypt` and `kms:ReEncryptFrom`",
)
def key_policy_admin_can_use(account: Account) -> Iterator[Violation]:
    for key in account.own_keys:
        policy = account.key_policy(key)
        if policy is None:
            continue
        named = {
            name
            for statement in policy.statements
            if statement.principals and statement.effect == "Allow"
            for name in statement.principals.names
        }
        decisions: dict[str, dict[str, Decision]] = {}
        for allowed in account.allowed_by_key.get(key.arn, ()):
            if allowed.principal in named:
                decisions.setdefault(allowed.principal, {})[allowed.action] = allowed.decision
        for who, by_action in decisions.items():
            administered = [action for action in ADMINISTER if action in by_action]
            if administered and DECRYPT in by_action:
                yield Violation(
                    key.arn,
                    account.raw_of_key(key, by_action[DECRYPT].statements),
                    put_key_policy(
                        key,
                        f"Deny {who} {' and '.join(_REVEALING)}, so that it administers the key but cannot decrypt, "
                        "and let another principal decrypt. If this principal should decrypt, deny it the "
                        "administration in the same way.",
                        add_denial(key, who, _REVEALING),
                    ),
                    f"{who} has {', '.join(administered)} and {DECRYPT}",
                )


# --- re-encryption

_DIGITS: Final = re.compile("[0-9]{12}")
_STRANGER: Final = "000000000000"  # no account has this id; a key of a stranger may accept anyone


@rule(
    "reencrypt-from-unbound",
    Severity.HIGH,
    "kms:ReEncryptFrom without a fixed destination is as good as kms:Decrypt",
    why="The principal can re-encrypt to a key that it can decrypt with, even in another account.",
    standards=(std.KMS_1, *std.ACCESS),
    fix="deny re-encryption to other keys, or name the destinations in kms:ReEncryptTo (`sealwax policy iam rotate`)",
)
def reencrypt_from_unbound(account: Account) -> Iterator[Violation]:
    way_out = functools.cache(functools.partial(_way_out, account))
    for key in account.own_keys:
        allowed_here = account.allowed_by_key.get(key.arn, ())
        decrypters = {allowed.principal for allowed in allowed_here if allowed.action == DECRYPT}
        for allowed in allowed_here:
            who = allowed.principal
            # Everyone and services have no ARN.
            if allowed.action != REENCRYPT_FROM or who in decrypters or not who.startswith("arn:"):
                continue
            way = None if is_service_role(who, account.service_roles) else way_out(who)
            if way is None:
                continue
            yield Violation(
                key.arn,
                account.raw_of_key(key, allowed.decision.statements),
                put_key_policy(
                    key,
                    f"Deny {who} re-encryption from this key to other keys. If it rotates keys, name the destinations "
                    "in its kms:ReEncryptTo instead, without keys that it can decrypt with (sealwax policy iam "
                    "rotate). If it should decrypt, give it kms:Decrypt, and document that.",
                    add_denial(key, who, [REENCRYPT_FROM], {"Bool": {"kms:ReEncryptOnSameKey": "false"}}),
                ),
                f"{who} does not have kms:Decrypt, but can re-encrypt {way}",
            )


def _way_out(account: Account, who: str) -> str | None:
    """Return how a principal that re-encrypts gets at the plaintext, or None if it cannot."""
    if who not in account.principals:
        return "with policies that this audit cannot see"
    allowed_to = account.allowed_by_principal.get(who, ())
    destinations = {allowed.key.arn for allowed in allowed_to if allowed.action == REENCRYPT_TO}
    for allowed in allowed_to:
        if allowed.action == DECRYPT and allowed.key.arn in destinations:
            return f"to {allowed.key.arn}, which it can decrypt with"
    for statement in account.statements_of(who, REENCRYPT_TO):
        if statement.effect == "Allow" and any(
            _can_move_to(account, who, statement, destination) for destination in _foreign_keys(account, statement)
        ):
            return f"to keys of other accounts: {statement} is not limited to this account"
    return None


def _foreign_keys(account: Account, statement: Statement) -> Iterator[str]:
    """Yield ARNs of keys in untrusted accounts that a statement may cover."""
    arns = [pattern.text.split(":", 5) for pattern in statement.resources or () if pattern.text.count(":") >= 5]
    owners = {fields[4] for fields in arns}
    owners |= {
        value.text
        for clause in statement.clauses
        if clause.key.lower() == "aws:resourceaccount"
        for value in clause.values
    }
    strangers = (owner for owner in sorted(owners) if _DIGITS.fullmatch(owner) and not account.is_trusted(owner))
    regions = {fields[3] for fields in arns if "*" not in fields[3] and "?" not in fields[3]}
    names = {fields[5].replace("*", "0").replace("?", "0") for fields in arns if fields[5].startswith("key/")}
    for owner in (_STRANGER, *strangers):
        for region in (account.region, *sorted(regions)):
            for name in ("key/00000000-0000-4000-8000-000000000000", *sorted(names)):
                yield f"arn:{account.facts.partition}:kms:{region}:{owner}:{name}"


def _can_move_to(account: Account, who: str, statement: Statement, destination: str) -> bool:
    context, others = wishes_of(statement)
    try:
        request = Request(
            REENCRYPT_TO,
            account.principals[who],
            destination,
            account.facts.time,
            context={**others, "kms:ReEncryptOnSameKey": False},
            encryption_context=context,
        )
    except ValueError:
        return False
    return evaluate(request, key_policy=_OPEN_POLICY, identity_policies=account.identity_policies_of(who)).allowed


@rule(
    "reencrypt-asymmetry",
    Severity.LOW,
    "a principal has only one side of kms:ReEncrypt",
    why="Re-wrapping needs kms:ReEncryptFrom on the old key and kms:ReEncryptTo on the new one; a rotation would stop.",
    standards=(std.PCI_CRYPTOPERIOD,),
    fix="allow the other side, or remove this one",
)
def reencrypt_asymmetry(account: Account) -> Iterator[Violation]:
    if any(account.key_policy(key) is None for key in account.own_keys):
        return  # an unknown policy may allow the other side
    sides: dict[str, dict[str, Allowed]] = {}
    for allowed in account.allowed:
        if allowed.action in (REENCRYPT_FROM, REENCRYPT_TO):
            sides.setdefault(allowed.principal, {}).setdefault(allowed.action, allowed)
    for who, by_action in sides.items():
        # A principal of another account may have the other side there.
        if len(by_action) == 2 or who not in account.principals or who in account.unread_principals:
            continue
        ((action, allowed),) = by_action.items()
        missing = REENCRYPT_TO if action == REENCRYPT_FROM else REENCRYPT_FROM
        if is_service_role(who, account.service_roles) or _may_have_elsewhere(account, who, missing):
            continue
        yield Violation(
            allowed.key.arn,
            account.raw_of_key(allowed.key, allowed.decision.statements),
            put_key_policy(
                allowed.key,
                f"If it re-wraps, allow {who} {missing} on the other key of the rotation. If not, deny it {action}, as "
                "here.",
                add_denial(allowed.key, who, [action]),
            ),
            f"{who} has {action}, but {missing} on none of the checked keys, so it cannot re-wrap",
        )


def _may_have_elsewhere(account: Account, who: str, action: str) -> bool:
    """Tell whether identity policies may allow an action on keys outside the facts."""
    return any(
        statement.effect == "Allow"
        and (
            statement.not_resource
            or any(pattern.text not in account.keys_by_arn for pattern in statement.resources or ())
        )
        for statement in account.statements_of(who, action)
    )
