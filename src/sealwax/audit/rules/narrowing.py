"""Whether a condition keeps most of the world out, or only looks so."""

from __future__ import annotations

from typing import Final

from sealwax.policy import values
from sealwax.policy.conditions import Clause
from sealwax.policy.patterns import Template, Variable, Wild

# These say who asks. What is sent with a request, an encryption context say, does not, and neither does a user's name:
# any account can have one of it.
_NARROWING: Final = frozenset(
    name.lower()
    for name in (
        "aws:PrincipalArn",
        "aws:PrincipalAccount",
        "aws:PrincipalOrgID",
        "aws:PrincipalOrgPaths",
        "aws:SourceAccount",
        "aws:SourceArn",
        "aws:SourceOrgID",
        "aws:SourceOrgPaths",
        "aws:SourceVpc",
        "aws:SourceVpce",
        "aws:SourceIp",
        "aws:VpcSourceIp",
        "aws:UserId",
        "kms:CallerAccount",
    )
)
# Part of such an id names those of accounts all over the world.
_WHOLE: Final = (
    "aws:principalaccount",
    "aws:principalorgid",
    "aws:sourceaccount",
    "aws:sourceorgid",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "kms:calleraccount",
)
_WHOLE_TO_A_SIGN: Final = {"aws:principalorgpaths": "/", "aws:sourceorgpaths": "/", "aws:userid": ":"}
# A range that is larger than any one holder's.
_LEAST_BITS: Final = {4: 8, 6: 16}

_RESOURCE: Final = "resource"  # what belongs to the key itself


def narrows(clause: Clause) -> bool:
    """Whether a part of a condition keeps most of the world out."""
    name, operator = clause.key.lower(), clause.operator
    if name not in _NARROWING or operator == "Null" or "Not" in operator:
        return False
    if operator.startswith("ForAllValues:") or (operator.endswith("IfExists") and name != "kms:calleraccount"):
        return False  # a request without the key fits
    return not any(_is_open(name, _worst(one)) for one in clause.values)


def callers(clause: Clause, own: str) -> frozenset[str] | None:
    """Return the accounts that a part of a condition keeps callers to; None where it does not say.

    Args:
        own: the account of the key.
    """
    name = clause.key.lower()
    if name not in ("aws:principalaccount", "aws:principalarn", "kms:calleraccount") or not narrows(clause):
        return None
    named = (_worst(one) for one in clause.values)
    accounts = (one.split(":")[4] if name == "aws:principalarn" else one for one in named)
    return frozenset(own if one == _RESOURCE else one for one in accounts)


def is_of_organization(clause: Clause) -> bool:
    """Whether a part of a condition keeps callers to an organization."""
    return clause.key.lower() in ("aws:principalorgid", "aws:principalorgpaths") and narrows(clause)


def _worst(value: Template) -> str:
    """Return a value with * for what the caller brings along: who compares it with itself always finds it the same."""

    def shown(part: str | Wild | Variable) -> str:
        if isinstance(part, Variable):
            return _RESOURCE if part.name.startswith("aws:resource") else "*"
        return part.value if isinstance(part, Wild) else part

    return "".join(map(shown, value.parts))


def _is_open(name: str, value: str) -> bool:
    if not value.strip("*?"):
        return True
    if name in _WHOLE:
        return _is_wild(value)
    if name in _WHOLE_TO_A_SIGN:
        return _is_wild(value.partition(_WHOLE_TO_A_SIGN[name])[0])
    if name in ("aws:sourceip", "aws:vpcsourceip"):
        network = values.network(value)
        return network is None or network.prefixlen < _LEAST_BITS[network.version]
    fields = value.split(":", 5)
    if len(fields) < 6 or _is_wild(fields[4]):
        return True  # any account
    # Buckets have no account in their names.
    return not fields[4] and _is_wild(fields[5].partition("/")[0])


def _is_wild(text: str) -> bool:
    return "*" in text or "?" in text
