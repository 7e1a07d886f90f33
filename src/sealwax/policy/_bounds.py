"""What policies allow at most, where not all of a request is known.

A finding that somebody may *not* do something holds whatever the rest of the request is: so it is asked of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sealwax.policy._conditions import Clause
from sealwax.policy._documents import Policy, Statement
from sealwax.policy._model import Grant
from sealwax.policy._patterns import Template, Variable, parse

Known = Callable[[str], bool]

#: The condition keys that follow from the caller, the resource and the time of a request, by their names in lower case.
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
#: Those that say through which service a call came; a direct call has none of them.
THROUGH: Final = frozenset(
    ("aws:calledvia", "aws:calledviafirst", "aws:calledvialast", "aws:viaawsservice", "kms:viaservice")
)
#: Those that say what the key is.
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
    """Return a policy that allows at least what this one does, whatever the condition keys that are not known are.

    A condition on such a key is left out where it allows, and the whole statement where it denies.

    Args:
        known: tells whether the value of a condition key is known, by its name in lower case; one that is known to be
            absent is.
    """
    kept = (_most(statement, known) for statement in policy.statements)
    return replace(policy, statements=tuple(one for one in kept if one is not None))


def most_of_grant(grant: Grant) -> Grant:
    """Return a grant that permits what this one does whatever its constraint asks for."""
    return replace(grant, subset=None, equals=None, source_arn=None, effective=True)


def _most(statement: Statement, known: Known) -> Statement | None:
    settled = tuple(one for one in statement.clauses if _is_settled(one, known))
    covers = all(_is_plain(one, known) for one in statement.resources or ())
    if statement.effect == "Deny":
        return statement if len(settled) == len(statement.clauses) and covers else None
    if covers:
        return replace(statement, clauses=settled)
    return replace(statement, clauses=settled, resources=(_ANY,), not_resource=False)


def _is_settled(clause: Clause, known: Known) -> bool:
    return known(clause.key.lower()) and all(_is_plain(one, known) for one in clause.values)


def _is_plain(text: Template, known: Known) -> bool:
    return all(known(part.name) for part in text.parts if isinstance(part, Variable))
