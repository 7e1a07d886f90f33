"""Rules about IAM policies."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from sealwax.audit._access import covers, says
from sealwax.audit._account import DECRYPT, REENCRYPT_FROM, Account
from sealwax.audit._facts import KeyFacts, PolicyFacts
from sealwax.audit._findings import Fix, Severity
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.fixing import put_identity, split
from sealwax.audit._rules.rule import Found, Rule, listed
from sealwax.policy import Policy, Principal, Request, Statement, _patterns, evaluate, parse_key_policy, principal
from sealwax.policy._bounds import DERIVED, most
from sealwax.policy._conditions import Clause
from sealwax.policy._model import Value

_OPENS: Final = (DECRYPT, REENCRYPT_FROM)
# These say which key, or whose data.
_NARROWING: Final = ("kms:resourcealiases", "kms:requestalias", "kms:viaservice")
_NARROWING_FAMILIES: Final = ("kms:encryptioncontext:", "aws:resourcetag/")

# What covers both covers all keys: they have nothing in common.
_STRANGERS: Final = ("key/01234567-89ab-4cde-8f01-23456789abcd", "key/fedcba98-7654-4321-9edc-ba9876543210")


def says_which_key(clause: Clause) -> bool:
    """Whether a part of a condition narrows a statement about many keys to some, or to somebody's data."""
    name = clause.key.lower()
    if "Not" in clause.operator or clause.operator == "Null" or clause.operator.endswith("IfExists"):
        return False
    if clause.operator.startswith("ForAllValues:"):
        return False
    if name not in _NARROWING and not name.startswith(_NARROWING_FAMILIES):
        return False
    return all(one.text.removeprefix("alias/").strip("*?") for one in clause.values)


def every_key(statement: Statement) -> bool:
    """Whether a statement is about all keys of a Region or account, or of all of them."""
    if statement.resources is None or statement.not_resource:
        return statement.not_resource
    for one in statement.resources:
        if one.text == "*":
            return True
        fields = one.text.split(":", 5)
        if len(fields) < 6:
            return True  # arn:aws:kms:* and the like
        if _fits(fields[2], "kms") and all(_fits(fields[5], key) for key in _STRANGERS):
            return True
    return False


def _fits(pattern: str, text: str) -> bool:
    tokens = _patterns.parse(pattern, wildcards=True, variables=False).resolve(lambda _: None)
    return _patterns.glob(tokens or (), text)


def _decrypt_all(account: Account) -> Iterator[Found]:
    owners: dict[str, list[str]] = defaultdict(list)
    for who in account.facts.principals or ():
        for id_ in who.policies:
            owners[id_].append(who.arn)
    for one in account.facts.policies or ():
        policy = account.identity_policies.get(one.id)
        if policy is None:
            continue
        for statement in policy.statements:
            said = [action for action in _OPENS if says(statement, action)]
            if statement.effect != "Allow" or not said or not every_key(statement):
                continue
            if any(says_which_key(clause) for clause in statement.clauses):
                continue
            can = {
                who: actions
                for who in owners[one.id] or [""]
                if (actions := [action for action in said if _opens_any(account, policy, statement, who, action)])
            }
            if not can:
                continue
            reach = [action for action in _OPENS if any(action in actions for actions in can.values())]
            people = sorted(filter(None, can))
            whose = f"; it applies to {listed(people)}" if people else "; it is attached to nobody"
            yield Found(
                one.id.partition("#")[0],
                account.raw(one.document, statement),
                _named_keys(account, one, statement, said, owners[one.id]),
                f"{statement} allows {' and '.join(reach)}{whose}",
                Severity.MEDIUM if one.kind == "aws" else None,
            )


def _opens_any(account: Account, policy: Policy, statement: Statement, who: str, action: str) -> bool:
    """Whether a statement lets somebody open what is under keys that have nothing in common, in spite of all denials.

    Args:
        who: the ARN of a user or role; ``""`` for anybody that the policy may be attached to.
    """
    facts = account.facts
    caller = (
        account.principals.get(who) if who else principal(f"arn:{facts.partition}:iam::{facts.account}:role/anybody")
    )
    if caller is None:
        return False
    read = (account.identity_policies.get(id_) for id_ in account.policies_of.get(who, ()))
    denials = [
        one
        for each in (policy, *(read_one for read_one in read if read_one is not None))
        for one in each.statements
        if one.effect == "Deny"
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
        for arn in _strangers(account, statement)
    )


def _to_another_key(action: str) -> dict[str, Value | Sequence[Value]]:
    # What is re-encrypted under the same key, nobody has got at.
    return {"kms:ReEncryptOnSameKey": False} if action == REENCRYPT_FROM else {}


def _is_known(name: str, caller: Principal) -> bool:
    if name.startswith("aws:principaltag/"):
        return caller.kind == "user"
    return name in DERIVED or name == "kms:reencryptonsamekey"


def _strangers(account: Account, statement: Statement) -> Iterator[str]:
    """Yield two keys that have nothing in common, of an account and a Region that a statement is about."""
    facts = account.facts
    fields = [facts.partition, "kms", account.region, facts.account]
    for one in () if statement.not_resource else statement.resources or ():
        named = one.text.split(":", 5)
        if len(named) == 6 and all(_fits(named[5], key) for key in _STRANGERS):
            fields = [
                usual if "*" in given or "?" in given or "$" in given else given
                for given, usual in zip(named[1:5], fields, strict=True)
            ]
            break
    yield from (":".join(("arn", *fields, key)) for key in _STRANGERS)


def _named_keys(
    account: Account, one: PolicyFacts, statement: Statement, actions: Sequence[str], owners: Sequence[str]
) -> Fix:
    """Return the policy with these actions on those keys only that it may be needed for today."""
    keys = [key.arn for key in account.own_keys if covers(statement, key.arn) and _leaves_to_iam(account, key, actions)]
    raw = account.raw(one.document, statement)
    rest, possible = split(raw, actions, of_key=False)
    plain = {name: value for name, value in raw.items() if name not in ("Sid", "NotAction", "NotResource")}
    named = plain | {"Action": list(actions), "Resource": keys}
    says = (
        f"Name the keys for {' and '.join(actions)}; what else the statement allows stays. Named are those of the keys "
        "looked at whose key policies leave these to IAM: strike out which are not needed, and add what was not looked "
        "at, such as keys of other accounts and Regions."
    )
    document = json.loads(one.document)
    given = document["Statement"]
    statements = given if isinstance(given, list) else [given]
    place = statement.index - 1
    new = [*([] if rest is None else [rest]), *([named] if keys else [])]
    document["Statement"] = [*statements[:place], *new, *statements[place + 1 :]]
    if not possible:
        return Fix(f"{says} A wildcard of it stands for actions of several services: name these too.")
    if not document["Statement"]:
        return Fix(f"Detach it: it allows nothing but {' and '.join(actions)}, and no key that was looked at needs it.")
    return put_identity(one, says, document, owners)


def _leaves_to_iam(account: Account, key: KeyFacts, actions: Sequence[str]) -> bool:
    policy = account.key_policy(key)
    return policy is None or any(
        one.effect == "Allow"
        and one.principals is not None
        and key.account in one.principals.accounts
        and any(says(one, action) for action in actions)
        for one in policy.statements
    )


RULES: Final = (
    Rule(
        "iam-decrypt-all-keys",
        Severity.HIGH,
        "an IAM policy allows decryption with every key",
        "The principal opens whatever any key protects whose key policy leaves that to IAM, now and in future.",
        (
            std.KMS_1,
            std.KMS_2,
            std.config("iam-customer-policy-blocked-kms-actions"),
            std.config("iam-inline-policy-blocked-kms-actions"),
            *std.ACCESS,
        ),
        _decrypt_all,
    ),
)
