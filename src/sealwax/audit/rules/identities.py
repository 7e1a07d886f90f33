"""Rules about IAM policies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from sealwax.audit.account import DECRYPT, REENCRYPT_FROM, Account
from sealwax.audit.asking import says
from sealwax.audit.findings import Severity
from sealwax.audit.rules import standards as std
from sealwax.audit.rules.rule import Found, Rule, as_text, listed
from sealwax.policy import Statement, patterns
from sealwax.policy.conditions import Clause

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


def keeps_the_key(statement: Statement) -> bool:
    """Whether a statement allows re-encryption under the same key only, which gives the plaintext to nobody."""
    return any(
        one.key.lower() == "kms:reencryptonsamekey"
        and one.operator != "Null"
        and "Not" not in one.operator
        and all(value.text.lower() == "true" for value in one.values)
        for one in statement.clauses
    )


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
    tokens = patterns.parse(pattern, wildcards=True, variables=False).resolve(lambda _: None)
    return patterns.glob(tokens or (), text)


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
            actions = [action for action in (DECRYPT, REENCRYPT_FROM) if says(statement, action)]
            if statement.effect != "Allow" or not actions or not every_key(statement):
                continue
            if any(says_which_key(clause) for clause in statement.clauses):
                continue
            if DECRYPT not in actions and keeps_the_key(statement):
                continue
            raw = account.raw(one.document, statement)
            kept = {name: value for name, value in raw.items() if name not in ("NotResource", "Resource")}
            resource = f"arn:{account.facts.partition}:kms:REGION:{account.facts.account}:key/KEY-ID"
            whose = f"; it applies to {listed(owners[one.id])}" if owners[one.id] else "; it is attached to nobody"
            if one.kind == "aws":
                fix = "Detach this AWS managed policy, and attach one of your own that names the keys."
            else:
                fix = f"Name the keys:\n{as_text(kept | {'Resource': resource})}"
            yield Found(
                one.id.partition("#")[0],
                raw,
                fix,
                f"{statement} allows {' and '.join(actions)}{whose}",
                Severity.MEDIUM if one.kind == "aws" else None,
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
