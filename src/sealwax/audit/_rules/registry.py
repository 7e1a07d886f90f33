"""Rules, each declared beside its text, and the violations that they report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from sealwax.audit._account import Account
from sealwax.audit._findings import Finding, Fix, Severity, Standard
from sealwax.policy import Statement


@dataclass(frozen=True, slots=True)
class Violation:
    """A resource that breaks a rule.

    Attributes:
        detail: the particulars: who, when, how many.
        severity: the severity, if it is not the rule's.
    """

    resource: str
    statement: Mapping[str, object] | None
    fix: Fix
    detail: str = ""
    severity: Severity | None = None


_Check = Callable[[Account], Iterable[Violation]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, and what its findings have in common.

    Attributes:
        id: its id, such as ``"key-policy-public"``.
        severity: the severity of its findings, unless they say otherwise.
        title: what is wrong, in one line.
        why: why it matters.
        standards: the controls that ask for it.
        fix: the fix in short.
    """

    id: str
    severity: Severity
    title: str
    why: str
    standards: tuple[Standard, ...]
    fix: str
    _check: _Check


def findings_of(rule: Rule, account: Account) -> Iterator[Finding]:
    """Return the findings of a rule about an account."""
    for violation in rule._check(account):
        yield Finding(
            rule.id,
            violation.severity or rule.severity,
            violation.resource,
            f"{rule.title}: {violation.detail}" if violation.detail else rule.title,
            rule.why,
            violation.statement,
            violation.fix,
            rule.standards,
            violation.detail,
        )


def rule(
    id_: str, severity: Severity, title: str, *, why: str, fix: str, standards: Iterable[Standard] = ()
) -> Callable[[_Check], Rule]:
    """Declare a function to be the check of a rule."""

    def declare(check: _Check) -> Rule:
        return Rule(id_, severity, title, why, tuple(standards), fix, check)

    return declare


def within(statement: Statement) -> str:
    """Return the name of a statement, for a rule whose title names the key policy."""
    return str(statement).removesuffix(" of the key policy")


def trust_hint(accounts: Iterable[str]) -> str:
    """Return the end of a fix that tells how to accept access of other accounts."""
    return f"\nOr, if you trust it, audit with {' and '.join(accounts)} as trusted."


def join_names(names: Iterable[str], most: int = 20) -> str:
    """Return names for a sentence."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
