"""A judge of KMS requests, written from AWS's documentation before its author had read `sealwax.policy` or the lab.

It follows the pages of the IAM User Guide on policy evaluation (within an account and across accounts), on condition
operators, on conditions with several keys or values, on policy variables, on Principal and NotPrincipal; those of the
AWS KMS Developer Guide on key policies, on access and permissions, and on grants; and GrantConstraints of the API
Reference. Its author knew the test that asks it, with the form of a question, the vocabulary of the generated
policies and the names of the rules that are broken on purpose. Held against the evaluator it disagreed in two things:
grants to whole accounts, which it has left open since, and negated operators with a variable that has no value, where
the evaluator was wrong.

What the documentation leaves open is not decided: it is taken for the caller and against it, and where that changes
the outcome, the answer is None. Open are: a NotPrincipal that names only some of the caller's names; a condition or a
constraint on the encryption context where two of its keys differ by case only; whether a grant to another account
needs an IAM policy there; whom in it a grant to a whole account gives something.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Json = Mapping[str, Any]

_CONTEXT: Final = "kms:encryptioncontext:"
_CONTEXT_KEYS: Final = "kms:encryptioncontextkeys"


@dataclass(frozen=True)
class Asked:
    """A request, in plain texts. ``names`` are the ARNs that mean the caller: its own, and of a session its role's.

    ``facts`` are the condition keys of the request, those of the encryption context aside; ``abroad`` says that the
    action is one that works across accounts.
    """

    action: str
    key: str
    names: tuple[str, ...]
    account: str
    is_root: bool
    context: Mapping[str, str]
    facts: Mapping[str, tuple[str, ...]]
    abroad: bool = False


class _OpenError(Exception):
    """The documentation does not say."""


def judge(asked: Asked, key_policy: Json, identity: Sequence[Json], grants: Sequence[Json]) -> bool | None:
    """Say whether it is allowed; None where the documentation leaves it open."""
    answers = {_decide(asked, key_policy, identity, grants, kind) for kind in (True, False)}
    return answers.pop() if len(answers) == 1 else None


def _decide(asked: Asked, key_policy: Json, identity: Sequence[Json], grants: Sequence[Json], kind: bool) -> bool:
    """Decide, with everything open for the caller (``kind``) or against it."""

    def applies(statement: Json) -> bool:
        try:
            return _applies(statement, asked)
        except _OpenError:
            return kind is (statement["Effect"] == "Allow")

    of_key = [one for one in key_policy["Statement"] if _named(one, asked, kind=kind) and applies(one)]
    of_caller = [one for policy in identity for one in policy["Statement"] if applies(one)]
    # An explicit deny in any of them overrides every allow, grants included.
    if any(one["Effect"] == "Deny" for one in (*of_key, *of_caller)):
        return False
    by_iam = any(one["Effect"] == "Allow" for one in of_caller)
    by_grant = any(_grants(one, asked, kind=kind) for one in grants)
    if asked.account != asked.key.split(":")[4]:
        # Both accounts must agree, and few operations can be called from another account at all.
        return asked.abroad and ((bool(of_key) and by_iam) or (by_grant and (by_iam or kind)))
    # A statement that names the account lets its root user in and lets IAM policies count; one that names the caller
    # suffices.
    directly = any(asked.is_root or _directly(one, asked) for one in of_key)
    return directly or (bool(of_key) and by_iam) or by_grant


# --- whom a statement of a key policy means


def _principals(element: Any) -> list[str]:
    return ["*"] if element == "*" else _listed(element["AWS"])


def _account(principal: str) -> str | None:
    """Return the account that a principal is as a whole, if it is one."""
    found = re.fullmatch(r"(?:arn:aws:iam::)?(\d{12})(?::root)?", principal)
    return found and found[1]


def _named(statement: Json, asked: Asked, *, kind: bool) -> bool:
    if "NotPrincipal" in statement:
        spared = _principals(statement["NotPrincipal"])
        # The account, the role and the session are verified one after another; each has to be spared.
        tiers = [name in spared for name in asked.names]
        if not any(tiers):
            return True
        if all(tiers) and any(_account(one) == asked.account for one in spared):
            return False
        return not kind
    named = _principals(statement["Principal"])
    return "*" in named or any(name in named for name in asked.names) or asked.account in map(_account, named)


def _directly(statement: Json, asked: Asked) -> bool:
    named = _principals(statement["Principal"])
    return "*" in named or any(name in named for name in asked.names)


# --- whether it applies to the request


def _applies(statement: Json, asked: Asked) -> bool:
    if "Action" in statement:
        spoken = any(_like(one.lower(), asked.action.lower()) for one in _listed(statement["Action"]))
    else:
        spoken = not any(_like(one.lower(), asked.action.lower()) for one in _listed(statement["NotAction"]))
    if "Resource" in statement:
        reached = any(_like(one, asked.key) for one in _listed(statement["Resource"]))
    else:
        reached = not any(_like(one, asked.key) for one in _listed(statement["NotResource"]))
    if not (spoken and reached):
        return False
    tests = [
        (operator, name, _listed(values))
        for operator, block in statement.get("Condition", {}).items()
        for name, values in block.items()
    ]
    # One that certainly fails settles it, whatever is open about another.
    open_ones = 0
    for operator, name, values in tests:
        try:
            if not _holds(operator, name, values, asked):
                return False
        except _OpenError:
            open_ones += 1
    if open_ones:
        raise _OpenError
    return True


def _of_request(name: str, asked: Asked) -> list[str]:
    """Return the values of a condition key, none where it is not in the request. Its name has no case."""
    name = name.lower()
    if name == _CONTEXT_KEYS:
        return list(asked.context)
    if name.startswith(_CONTEXT):
        found = [value for key, value in asked.context.items() if key.lower() == name.removeprefix(_CONTEXT)]
        if len(found) > 1:
            raise _OpenError
        return found
    return [value for key, values in asked.facts.items() if key.lower() == name for value in values]


def _holds(operator: str, name: str, values: list[str], asked: Asked) -> bool:
    has = _of_request(name, asked)
    if operator == "Null":
        return (values[0].lower() == "true") == (not has)
    each, _, rest = operator.rpartition(":")
    optional = rest.endswith("IfExists")
    rest = rest.removesuffix("IfExists")
    negated = "Not" in rest
    wanted = [text for value in values if (text := _filled(value, asked)) is not None]

    def equal(one: str) -> bool:
        return any(_compare(rest.replace("Not", ""), one, text) for text in wanted)

    if each:
        assert not negated
        return all(map(equal, has)) if each == "ForAllValues" else any(map(equal, has))
    if not has:
        return optional or negated
    (one,) = has
    return equal(one) != negated


def _compare(kind: str, has: str, wanted: str) -> bool:
    match kind:
        case "StringEquals":
            return has == wanted
        case "StringEqualsIgnoreCase" | "Bool":
            return has.lower() == wanted.lower()
        case "StringLike":
            return _like(wanted, has)
        case "ArnLike":
            # The six parts of an ARN are checked one by one.
            parts, patterns = has.split(":", 5), wanted.split(":", 5)
            return len(parts) == len(patterns) == 6 and all(map(_like, patterns, parts))
    raise AssertionError(kind)


def _filled(value: str, asked: Asked) -> str | None:
    """Return a value, its policy variable filled in; None where that has no value: nothing is equal or like it."""
    variable = re.fullmatch(r"\$\{(.+)\}", value)
    if variable is None:
        return value
    if variable[1].lower() == "aws:username":
        # IAM users have one; root users and sessions of roles have none.
        user = re.fullmatch(r"arn:aws:iam::\d{12}:user/(?:.*/)?(.+)", asked.names[0])
        return user and user[1]
    return next(iter(_of_request(variable[1], asked)), None)


# --- grants


def _grants(grant: Json, asked: Asked, *, kind: bool) -> bool:
    operation = asked.action.partition(":")[2]
    grantee = grant["GranteePrincipal"]
    if operation not in grant["Operations"]:
        return False
    if grantee not in asked.names and not (kind and _account(grantee) == asked.account):
        return False
    # Of the operations that grants are for here, this one takes no encryption context, and constraints skip it.
    if operation == "DescribeKey":
        return True
    lowered: dict[str, str] = {key.lower(): value for key, value in asked.context.items()}
    constraints = grant.get("Constraints", {})
    if constraints and len(lowered) < len(asked.context):
        return kind
    for name, pairs in constraints.items():
        wanted = {key.lower(): value for key, value in pairs.items()}
        if not wanted.items() <= lowered.items() or (name == "EncryptionContextEquals" and len(wanted) != len(lowered)):
            return False
    return True


# --- texts


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _like(pattern: str, text: str) -> bool:
    parts: Iterable[str] = ({"*": ".*", "?": "."}.get(one) or re.escape(one) for one in pattern)
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None
