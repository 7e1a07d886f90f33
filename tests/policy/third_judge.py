"""A judge of the plain cases, written from AWS's pages alone: it shares no line with the evaluator.

It works on the raw documents and answers None for what is not plain (NotPrincipal, policy variables, two pairs of a
context whose names differ in case only). The pages:

- IAM User Guide, "Policy evaluation logic": an explicit Deny ends it.
- KMS Developer Guide, "Troubleshooting key access": the key policy, IAM policies where the key policy lets the account
  decide, grants; "Key policies": IAM policies alone give nothing.
- KMS Developer Guide, "Allowing users in other accounts to use a KMS key": both sides have to allow.
- IAM User Guide, "Principal": an account's ARN or number means the account; a role's ARN means its sessions too.
- IAM User Guide, "Condition operators", "Set operators for multivalued context keys".
- KMS API Reference, "GrantConstraints".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """A request, in plain texts. ``names`` are the ARNs that mean the caller: its own, and of a session its role's."""

    action: str
    key: str
    names: tuple[str, ...]
    account: str
    is_root: bool
    context: Mapping[str, str]
    facts: Mapping[str, tuple[str, ...]]
    abroad: bool = field(default=False)  # the action is one that works across accounts


class NotPlainError(Exception):
    """The case is none for this judge."""


def judge(asked: Asked, key_policy: Json, identity: Sequence[Json], grants: Sequence[Json]) -> bool | None:
    """Say whether it is allowed; None when that is not plain."""
    try:
        return _judge(asked, key_policy, identity, grants)
    except NotPlainError:
        return None


def _judge(asked: Asked, key_policy: Json, identity: Sequence[Json], grants: Sequence[Json]) -> bool:
    if len({name.lower() for name in asked.context}) != len(asked.context):
        raise NotPlainError
    own = [statement for document in identity for statement in document["Statement"]]
    hits = [statement for statement in key_policy["Statement"] if _speaks_of(statement, asked)]
    own_hits = [statement for statement in own if _speaks_of(statement, asked)]
    meant = {id(statement): _meant(statement, asked) for statement in hits}
    if any(one["Effect"] == "Deny" for one in own_hits):
        return False
    if any(one["Effect"] == "Deny" and meant[id(one)] != "nobody" for one in hits):
        return False
    home = asked.key.split(":")[4] == asked.account
    if not home and not asked.abroad:
        return False
    iam_says_yes = asked.is_root or any(one["Effect"] == "Allow" for one in own_hits)
    key_says = {meant[id(one)] for one in hits if one["Effect"] == "Allow"}
    if home and "caller" in key_says:
        return True
    if key_says & {"caller", "account"} and iam_says_yes:
        return True
    return any(_grant_gives(grant, asked, iam_says_yes) for grant in grants)


def _meant(statement: Json, asked: Asked) -> str:
    """Say whom the Principal element means: the caller, the caller's account as a whole, or nobody of them."""
    if "NotPrincipal" in statement:
        raise NotPlainError
    element = statement["Principal"]
    named = ["*"] if element == "*" else _listed(element.get("AWS", []))
    account = {asked.account, f"arn:aws:iam::{asked.account}:root"}
    if "*" in named or set(named) & set(asked.names):
        return "caller"
    if account & set(named):
        # For the root user, the account's name is its own.
        return "caller" if asked.is_root else "account"
    return "nobody"


def _speaks_of(statement: Json, asked: Asked) -> bool:
    if "NotAction" in statement:
        about = not any(_like(one.lower(), asked.action.lower()) for one in _listed(statement["NotAction"]))
    else:
        about = any(_like(one.lower(), asked.action.lower()) for one in _listed(statement["Action"]))
    if "NotResource" in statement:
        there = not any(_like(one, asked.key) for one in _listed(statement["NotResource"]))
    else:
        there = any(_like(one, asked.key) for one in _listed(statement["Resource"]))
    # Every operator and every key in it must hold, and so all are looked at before the answer: one may be not plain.
    tests = [
        _holds(operator, _values(name, asked), [str(value) for value in _listed(wanted)])
        for operator, keys in statement.get("Condition", {}).items()
        for name, wanted in keys.items()
    ]
    return about and there and all(tests)


def _values(name: str, asked: Asked) -> tuple[str, ...]:
    prefix = "kms:encryptioncontext:"
    if name.lower().startswith(prefix):
        return tuple(value for key, value in asked.context.items() if key.lower() == name.lower()[len(prefix) :])
    if name.lower() == "kms:encryptioncontextkeys":
        return tuple(asked.context)
    return {key.lower(): value for key, value in asked.facts.items()}.get(name.lower(), ())


def _holds(operator: str, given: tuple[str, ...], wanted: list[str]) -> bool:
    if any("${" in one for one in wanted):
        raise NotPlainError
    if operator == "Null":
        # "true": the key must be absent; "false": it must be there.
        return ("true" if not given else "false") in wanted
    for prefix in ("ForAllValues:", "ForAnyValue:"):
        if operator.startswith(prefix):
            single = operator[len(prefix) :]
            results = [_holds(single, (one,), wanted) for one in given]
            return all(results) if prefix == "ForAllValues:" else any(results)
    if operator.endswith("IfExists"):
        return not given or _holds(operator[: -len("IfExists")], given, wanted)
    if operator.startswith("StringNot"):
        return not _holds(operator.replace("Not", ""), given, wanted)
    if not given:
        return False
    (value,) = given
    if operator == "StringEquals":
        return value in wanted
    if operator == "StringEqualsIgnoreCase":
        return value.lower() in [one.lower() for one in wanted]
    if operator == "StringLike":
        return any(_like(one, value) for one in wanted)
    if operator == "ArnLike":
        return any(_arn_like(one, value) for one in wanted)
    if operator == "Bool":
        return value.lower() in [one.lower() for one in wanted]
    raise NotPlainError


def _grant_gives(grant: Json, asked: Asked, iam_says_yes: bool) -> bool:
    if asked.action.removeprefix("kms:") not in grant["Operations"]:
        return False
    constraints = grant.get("Constraints", {})
    # The names of pairs are compared without their case, the values with it; DescribeKey has no context to compare.
    given = {(name.lower(), value) for name, value in asked.context.items()}
    for kind, pairs in constraints.items():
        wanted = {(name.lower(), value) for name, value in pairs.items()}
        if asked.action == "kms:DescribeKey":
            continue
        if kind == "EncryptionContextEquals" and wanted != given:
            return False
        if kind == "EncryptionContextSubset" and not wanted <= given:
            return False
    grantee = grant["GranteePrincipal"]
    if grantee in asked.names:
        return True
    return grantee == f"arn:aws:iam::{asked.account}:root" and iam_says_yes


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _like(pattern: str, text: str) -> bool:
    if "${" in pattern:
        raise NotPlainError
    parts = (".*" if one == "*" else "." if one == "?" else re.escape(one) for one in pattern)
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def _arn_like(pattern: str, arn: str) -> bool:
    ours, theirs = pattern.split(":", 5), arn.split(":", 5)
    return len(ours) == len(theirs) == 6 and all(map(_like, ours, theirs))
