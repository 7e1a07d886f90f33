"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sealwax.audit._account import Account
from sealwax.audit._findings import Finding, Fix, Severity, Standard


@dataclass(frozen=True, slots=True)
class Found:
    """A place where a rule is broken.

    Attributes:
        detail: what is particular here: who, when, how many.
        severity: where it is not the rule's.
    """

    resource: str
    statement: Mapping[str, Any] | None
    fix: Fix
    detail: str = ""
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: a plain function over an account, and what its findings share.

    Attributes:
        title: one line: what is wrong.
        why: why it matters.
    """

    id: str
    severity: Severity
    title: str
    why: str
    standards: tuple[Standard, ...]
    check: Callable[[Account], Iterable[Found]]

    def findings(self, account: Account) -> Iterator[Finding]:
        """Return what is wrong in the account."""
        for one in self.check(account):
            yield Finding(
                self.id,
                one.severity or self.severity,
                one.resource,
                f"{self.title}: {one.detail}" if one.detail else self.title,
                self.why,
                one.statement,
                one.fix,
                self.standards,
            )


def trust(accounts: Iterable[str]) -> str:
    """Return the end of a fix: how the audit is told of accounts that may be let in."""
    return f"\nOr tell the audit that it may be let in: {' '.join(f'--trust-account {one}' for one in accounts)}."


def listed(names: Iterable[str], most: int = 20) -> str:
    """Return names as a sentence shows them."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
