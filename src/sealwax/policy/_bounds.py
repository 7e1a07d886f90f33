"""The most that policies can allow if a request is only partly known.

A finding that a principal may *not* do something must hold whatever the unknown part is, so it is based on these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sealwax.policy._conditions import Clause
from sealwax.policy._documents import Policy, Statement
from sealwax.policy._model import Grant
from sealwax.policy._patterns import Pattern, Variable, parse

Known = Callable[[str], bool]

#: Condition keys that follow from the caller, the resource and the time of a request, in lower case.
DERIVED: Final = frozenset(
    (
        "aws:currenttime",
        "aws:epochtime",
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalisawsservice",
        "aws:principalservicename",
        "aws:principaltype",
        "aws:requestedregion",
        "aws:resourceaccount",
        "aws:securetransport",
        "aws:username",
        "kms:calleraccount",
    )
)
#: Condition keys that name the service that a call came through. Direct calls have none of them.
THROUGH: Final = frozenset(
    ("aws:calledvia", "aws:calledviafirst", "aws:calledvialast", "aws:viaawsservice", "kms:viaservice")
)
#: Condition keys that describe the key.
OF_KEY: Final = frozenset(
    (
        "kms:customermasterkeyspec",
        "kms:customermasterkeyusage",
        "kms:keyorigin",
        "kms:keyspec",
        "kms:keyusage",
        "kms:multiregion",
        "kms:multiregionkeytype",
    )
)

_ANY = parse("*", wildcards=True, variables=False)


def most(policy: Policy, known: Known) -> Policy:
    """Return a policy that allows everything this one can allow, whatever the values of unknown condition keys.

    A condition on an unknown key is dropped from Allow statements, and drops a Deny statement.

    Args:
        known: tells whether the value of a condition key, in lower case, is known; a key known to be absent is.
    """
    statements = (_most(statement, known) for statement in policy.statements)
    return replace(policy, statements=tuple(statement for statement in statements if statement is not None))


def most_of_grant(grant: Grant) -> Grant:
    """Return a grant that permits the same without a constraint."""
    return replace(grant, subset=None, equals=None, source_arn=None, effective=True)


def _most(statement: Statement, known: Known) -> Statement | None:
    settled = tuple(clause for clause in statement.clauses if _is_settled(clause, known))
    covers = all(_is_plain(pattern, known) for pattern in statement.resources or ())
    if statement.effect == "Deny":
        return statement if len(settled) == len(statement.clauses) and covers else None
    if covers:
        return replace(statement, clauses=settled)
    return replace(statement, clauses=settled, resources=(_ANY,), not_resource=False)


def _is_settled(clause: Clause, known: Known) -> bool:
    return known(clause.key.lower()) and all(_is_plain(pattern, known) for pattern in clause.values)


def _is_plain(pattern: Pattern, known: Known) -> bool:
    return all(known(part.name) for part in pattern.parts if isinstance(part, Variable))
