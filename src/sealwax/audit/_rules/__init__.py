"""The rules: plain functions over an account, in one registry."""

from __future__ import annotations

from typing import Final

from sealwax.audit._account import Account
from sealwax.audit._findings import Finding
from sealwax.audit._rules import aliases, events, grants, identities, key_policies, keys, trails
from sealwax.audit._rules.rule import Found, Rule

#: All rules, by theme.
RULES: Final[tuple[Rule, ...]] = (
    *key_policies.RULES,
    *identities.RULES,
    *grants.RULES,
    *keys.RULES,
    *aliases.RULES,
    *trails.RULES,
    *events.RULES,
)

__all__ = ["RULES", "Found", "Rule", "judge"]


def judge(account: Account) -> tuple[Finding, ...]:
    """Return what is wrong in an account: the worst first, then by rule and resource.

    What could not be judged is no finding: see :attr:`Account.gaps`.
    """
    found = [finding for rule in RULES for finding in rule.findings(account)]
    return tuple(sorted(found, key=lambda one: (-one.severity, one.rule, one.resource, one.title)))
