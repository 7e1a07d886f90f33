"""Rules about IAM policies."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from sealwax.audit._account import DECRYPT, REENCRYPT_FROM, Account
from sealwax.audit._facts import KeyFacts, PolicyFacts
from sealwax.audit._findings import Fix, Severity
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.fixes import only_action, put_identity_policy, remove_actions, without
from sealwax.audit._rules.registry import Violation, join_names, rule
from sealwax.audit._statements import covers, names_action, no_value
from sealwax.policy import (
    Clause,
    Policy,
    Principal,
    Request,
    Statement,
    Value,
    evaluate,
    parse_key_policy,
    principal,
)
from sealwax.policy._bounds import DERIVED, most
from sealwax.policy._patterns import glob, parse

#: The actions that reveal what is encrypted under a key.
_REVEALING: Final = (DECRYPT, REENCRYPT_FROM)
# Conditions on these select a key, or the data of someone.
_SELECTING: Final = ("kms:resourcealiases", "kms:requestalias", "kms:viaservice")
_SELECTING_FAMILIES: Final = ("kms:encryptioncontext:", "aws:resourcetag/")

# Their ids have nothing in common, so a pattern that covers both covers every key.
_UNRELATED: Final = ("key/01234567-89ab-4cde-8f01-23456789abcd", "key/fedcba98-7654-4321-9edc-ba9876543210")


def selects_keys(clause: Clause) -> bool:
    """Tell whether a clause limits a statement about many keys to some of them, or to the data of someone."""
    name = clause.key.lower()
    if "Not" in clause.operator or clause.operator == "Null" or clause.operator.endswith("IfExists"):
        return False
    if clause.operator.startswith("ForAllValues:"):
        return False
    if name not in _SELECTING and not name.startswith(_SELECTING_FAMILIES):
        return False
    return all(value.text.removeprefix("alias/").strip("*?") for value in clause.values)


def covers_every_key(statement: Statement) -> bool:
    """Tell whether a statement covers every key, at least of a Region or an account."""
    if statement.resources is None or statement.not_resource:
        return statement.not_resource
    for pattern in statement.resources:
        if pattern.text == "*":
            return True
        fields = pattern.text.split(":", 5)
        if len(fields) < 6:
            return True  # arn:aws:kms:* and the like
        if _matches(fields[2], "kms") and all(_matches(fields[5], key) for key in _UNRELATED):
            return True
    return False


def _matches(pattern: str, text: str) -> bool:
    return glob(parse(pattern, wildcards=True, variables=False).resolve(no_value) or (), text)


@rule(
    "iam-decrypt-all-keys",
    Severity.HIGH,
    "an IAM policy allows decryption with every key",
    why="The principal can decrypt under every current and future key whose key policy delegates that to IAM.",
    standards=(
        std.KMS_1,
        std.KMS_2,
        std.config("iam-customer-policy-blocked-kms-actions"),
        std.config("iam-inline-policy-blocked-kms-actions"),
        *std.ACCESS,
    ),
    fix="name the keys for `kms:Decrypt` and `kms:ReEncryptFrom`; all other permissions stay",
)
def iam_decrypt_all_keys(account: Account) -> Iterator[Violation]:
    owners: dict[str, list[str]] = defaultdict(list)
    for holder in account.facts.principals or ():
        for id_ in holder.policies:
            owners[id_].append(holder.arn)
    for facts in account.facts.policies or ():
        policy = account.identity_policies.get(facts.id)
        for statement in policy.statements if policy is not None else ():
            violation = _check_statement(account, facts, statement, owners[facts.id])
            if violation is not None:
                yield violation


def _check_statement(
    account: Account, facts: PolicyFacts, statement: Statement, owners: Sequence[str]
) -> Violation | None:
    named = [action for action in _REVEALING if names_action(statement, action)]
    if statement.effect != "Allow" or not named or not covers_every_key(statement):
        return None
    if any(map(selects_keys, statement.clauses)):
        return None
    policy = account.identity_policies[facts.id]
    allowed = {
        owner: actions
        for owner in owners or [""]
        if (actions := [action for action in named if _allows_any_key(account, policy, statement, owner, action)])
    }
    if not allowed:
        return None
    reached = [action for action in _REVEALING if any(action in actions for actions in allowed.values())]
    holders = sorted(filter(None, allowed))
    attached = f"; it applies to {join_names(holders)}" if holders else "; it is not attached"
    return Violation(
        facts.id.partition("#")[0],
        account.raw(facts.document, statement),
        _name_keys(account, facts, statement, named, owners),
        f"{statement} allows {' and '.join(reached)}{attached}",
        Severity.MEDIUM if facts.kind == "aws" else None,
    )


def _allows_any_key(account: Account, policy: Policy, statement: Statement, owner: str, action: str) -> bool:
    """Tell whether a statement allows an action on unrelated keys despite all Deny statements.

    Args:
        owner: the ARN of a user or role; empty for any role that the policy may be attached to.
    """
    facts = account.facts
    any_role = f"arn:{facts.partition}:iam::{facts.account}:role/anybody"
    caller = account.principals.get(owner) if owner else principal(any_role)
    if caller is None:
        return False
    denials = [
        other
        for each in (policy, *account.identity_policies_of(owner))
        for other in each.statements
        if other.effect == "Deny"
    ]
    alone = most(replace(policy, statements=(statement, *denials)), lambda name: _is_known(name, caller))
    delegating = parse_key_policy(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"AWS": caller.account}, "Action": "kms:*", "Resource": "*"}
            ],
        }
    )
    return all(
        evaluate(
            Request(action, caller, arn, facts.time, context=_to_another_key(action)),
            key_policy=delegating,
            identity_policies=[alone],
        ).allowed
        for arn in _unrelated_keys(account, statement)
    )


def _to_another_key(action: str) -> dict[str, Value | Sequence[Value]]:
    # Re-encrypting under the same key reveals nothing.
    return {"kms:ReEncryptOnSameKey": False} if action == REENCRYPT_FROM else {}


def _is_known(name: str, caller: Principal) -> bool:
    if name.startswith("aws:principaltag/"):
        return caller.kind == "user"
    return name in DERIVED or name == "kms:reencryptonsamekey"


def _unrelated_keys(account: Account, statement: Statement) -> Iterator[str]:
    """Yield two unrelated keys in an account and a Region that a statement covers."""
    facts = account.facts
    fields = [facts.partition, "kms", account.region, facts.account]
    for pattern in () if statement.not_resource else statement.resources or ():
        named = pattern.text.split(":", 5)
        if len(named) == 6 and all(_matches(named[5], key) for key in _UNRELATED):
            fields = [
                usual if "*" in written or "?" in written or "$" in written else written
                for written, usual in zip(named[1:5], fields, strict=True)
            ]
            break
    yield from (":".join(("arn", *fields, key)) for key in _UNRELATED)


def _name_keys(
    account: Account, facts: PolicyFacts, statement: Statement, actions: Sequence[str], owners: Sequence[str]
) -> Fix:
    """Return the policy with these actions only on the keys that may need it today."""
    keys = [key.arn for key in account.own_keys if covers(statement, key.arn) and _delegates(account, key, actions)]
    raw = account.raw(facts.document, statement)
    rest, possible = remove_actions(raw, actions, of_key=False)
    named = only_action(without(raw, "NotResource"), actions) | {"Resource": keys}
    says = (
        f"Name the keys for {' and '.join(actions)}; the rest of the statement stays. The fix names the checked keys "
        "whose policies delegate these actions to IAM: remove those that are not needed, and add keys that were not "
        "checked, such as those of other accounts and Regions."
    )
    document = json.loads(facts.document)
    listed = document["Statement"]
    statements = listed if isinstance(listed, list) else [listed]
    place = statement.index - 1
    new = [*([] if rest is None else [rest]), *([named] if keys else [])]
    document["Statement"] = [*statements[:place], *new, *statements[place + 1 :]]
    if not possible:
        return Fix(f"{says} A wildcard in it stands for actions of several services, so name those too.")
    if not document["Statement"]:
        return Fix(f"Detach it: it allows only {' and '.join(actions)}, and no checked key needs it.")
    return put_identity_policy(facts, says, document, owners)


def _delegates(account: Account, key: KeyFacts, actions: Sequence[str]) -> bool:
    policy = account.key_policy(key)
    return policy is None or any(
        statement.effect == "Allow"
        and statement.principals is not None
        and key.account in statement.principals.accounts
        and any(names_action(statement, action) for action in actions)
        for statement in policy.statements
    )
