"""What statements, keys and grants are about, in the terms of the policy evaluator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sealwax.audit._facts import KeyFacts
from sealwax.policy import Grant, Statement
from sealwax.policy._model import Value
from sealwax.policy._operations import GRANTABLE
from sealwax.policy._patterns import glob

#: An encryption context, and values of other condition keys.
Wishes = tuple[dict[str, str], dict[str, Value | Sequence[Value]]]

_CONTEXT: Final = "kms:encryptioncontext:"
# A direct call never comes through a service.
_NEVER_DIRECT: Final = ("kms:viaservice", "aws:calledvia", "aws:calledviafirst", "aws:calledvialast")
# The evaluator derives these from the request.
_DERIVED: Final = (
    "aws:principalarn",
    "aws:principalaccount",
    "aws:principalorgid",
    "aws:principaltype",
    "aws:username",
    "aws:userid",
    "aws:currenttime",
    "aws:epochtime",
    "aws:securetransport",
    "aws:principalisawsservice",
    "aws:resourceaccount",
    "aws:requestedregion",
    "kms:calleraccount",
)


def no_value(_: str) -> None:
    """Look up a policy variable that has no value."""
    return


def names_action(statement: Statement, action: str) -> bool:
    """Tell whether a statement is about an action, whatever its resources and conditions."""
    named = any(glob(pattern.resolve(no_value) or (), action.lower()) for pattern in statement.actions)
    return named != statement.not_action


def covers(statement: Statement, arn: str) -> bool:
    """Tell whether a statement's resources cover an ARN. A policy variable counts as a match."""
    if statement.resources is None:
        return False
    has_variables = any(pattern.has_variables for pattern in statement.resources)
    covered = has_variables or any(glob(pattern.resolve(no_value) or (), arn) for pattern in statement.resources)
    return covered != statement.not_resource or has_variables


def wishes_of(statement: Statement) -> Wishes:
    """Return an encryption context and other values that satisfy a statement's conditions, if any can."""
    context: dict[str, str] = {}
    others: dict[str, Value | Sequence[Value]] = {}
    for clause in statement.clauses:
        name, base = clause.key.lower(), clause.operator.removeprefix("ForAnyValue:").removeprefix("ForAllValues:")
        if base == "Null" and name.startswith(_CONTEXT) and clause.values[0].text.lower() == "false":
            context.setdefault(clause.key[len(_CONTEXT) :], "any")
        if "Not" in base or base == "Null" or not clause.values:
            continue
        value = clause.values[0].text.replace("*", "any").replace("?", "x")
        if base.startswith("IpAddress"):
            value = value.partition("/")[0]
        if name.startswith(_CONTEXT):
            context[clause.key[len(_CONTEXT) :]] = value
        elif name == "kms:encryptioncontextkeys":
            context.update({pattern.text: "any" for pattern in clause.values})
        elif name not in _DERIVED and name not in _NEVER_DIRECT and not name.startswith("aws:principaltag/"):
            others[clause.key] = [value] if clause.each is not None else value
    return context, others


def metadata_of(key: KeyFacts) -> dict[str, object]:
    """Return a key's metadata as DescribeKey shows it, as far as policies can ask about it."""
    metadata: dict[str, object] = {
        "KeySpec": key.spec,
        "KeyUsage": key.usage,
        "Origin": key.origin,
        "MultiRegion": key.multi_region != "no",
    }
    if key.multi_region != "no":
        metadata["MultiRegionConfiguration"] = {"MultiRegionKeyType": key.multi_region.upper()}
    return metadata


def grants_of(key: KeyFacts) -> Iterator[Grant]:
    """Return the grants on a key as the evaluator takes them."""
    for grant in key.grants or ():
        yield Grant(
            grant.id,
            key.arn,
            grant.grantee,
            frozenset(grant.operations) & GRANTABLE,
            grant.subset,
            grant.equals,
            grant.source_arn,
            grant.retiring,
            grant.issuing_account,
        )
