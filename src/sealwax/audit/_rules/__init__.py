"""The rules by theme, and how they run."""

from __future__ import annotations

from typing import Final

from sealwax.audit._account import Account
from sealwax.audit._findings import Finding
from sealwax.audit._rules import (
    alarms,
    aliases,
    context_policies,
    duties,
    events,
    grants,
    identities,
    keys,
    open_policies,
    records,
    trails,
)
from sealwax.audit._rules.registry import Rule, findings_of

_MODULES: Final = (
    open_policies,
    context_policies,
    duties,
    identities,
    grants,
    keys,
    aliases,
    trails,
    alarms,
    events,
    records,
)

#: All rules: by module, in the order in which they are declared there.
RULES: Final[tuple[Rule, ...]] = tuple(
    member for module in _MODULES for member in vars(module).values() if isinstance(member, Rule)
)


def run_rules(account: Account) -> tuple[Finding, ...]:
    """Return the findings about an account, worst first, then by rule and resource."""
    findings = [finding for rule in RULES for finding in findings_of(rule, account)]
    return tuple(
        sorted(findings, key=lambda finding: (-finding.severity, finding.rule, finding.resource, finding.title))
    )
