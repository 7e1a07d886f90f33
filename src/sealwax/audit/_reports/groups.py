"""Findings and gaps as people read them: what many resources have in common is said once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from sealwax._report import Tone, Verdict
from sealwax.audit._findings import Finding, Severity, Standard
from sealwax.audit._report import Acceptance, Accepted, Audit, Gap, counted
from sealwax.audit._rules import RULES

T = TypeVar("T")

_FIXES: Final = {rule.id: rule.fix for rule in RULES}
_KINDS: Final = ("key", "alias", "user", "role", "group", "policy", "trail")


@dataclass(frozen=True, slots=True)
class RuleFindings:
    """The findings of one rule that have the same severity, in the order of the audit."""

    rule: str
    severity: Severity
    title: str
    why: str
    standards: tuple[Standard, ...]
    findings: tuple[Finding, ...]

    @property
    def fix(self) -> str:
        """The fix in short, which is the same for all."""
        short = _FIXES.get(self.rule) or self.findings[0].fix.says.partition("\n")[0]
        return short.replace("`", "").removesuffix(".")

    @property
    def extent(self) -> str:
        """How many resources it is about, and of which kind."""
        resources = extent(finding.resource for finding in self.findings)
        several = len(self.findings) > len({finding.resource for finding in self.findings})
        return f"{counted(len(self.findings), 'finding')} in {resources}" if several else resources


def by_rule(findings: Iterable[Finding]) -> list[RuleFindings]:
    """Return findings by rule, worst first."""
    groups = _grouped(findings, lambda finding: (finding.severity, finding.rule, _title(finding)))
    worst_first = sorted(groups, key=lambda same: -same[0].severity)
    return [
        RuleFindings(same[0].rule, same[0].severity, _title(same[0]), same[0].why, same[0].standards, tuple(same))
        for same in worst_first
    ]


def gaps_by_reason(gaps: Iterable[Gap]) -> list[list[Gap]]:
    """Return the gaps by what was not checked, and why."""
    return _grouped(gaps, lambda gap: (gap.what, gap.why))


def accepted_by_reason(entries: Iterable[Accepted]) -> list[list[Accepted]]:
    """Return accepted findings by their rule, and why they are accepted."""
    return _grouped(entries, lambda entry: (entry.finding.rule, entry.reason, entry.expires))


def unmatched_by_reason(entries: Iterable[Acceptance]) -> list[list[Acceptance]]:
    """Return entries of the baseline by their rule and reason."""
    return _grouped(entries, lambda entry: (entry.rule, entry.reason))


def _grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())


def extent(resources: Iterable[str]) -> str:
    """Return how many different resources there are, and of which kind."""
    different = set(resources)
    kinds = {_kind(resource) for resource in different}
    return counted(len(different), kinds.pop() if len(kinds) == 1 else "resource")


def verdict(audit: Audit, advice: str = "", command: str = "") -> Verdict:
    """Return how the audit ended, with what to do next."""
    tone: Tone = "good"
    if audit.findings or audit.gaps:
        tone = "bad" if audit.worst is not None and audit.worst >= Severity.HIGH else "unsure"
    return Verdict(tone, audit.verdict, advice, command)


def checked(audit: Audit) -> str:
    """Return what was checked, without what there is none of."""
    counts = [counted(count, name.removesuffix("s")) for name, count in audit.counts.items() if count]
    return ", ".join(counts) or "nothing"


def _title(finding: Finding) -> str:
    return finding.title.removesuffix(f": {finding.detail}") if finding.detail else finding.title


def _kind(resource: str) -> str:
    """Return the kind of a resource by its ARN."""
    parts = resource.split(":", 5)
    kind = parts[5].partition("/")[0] if len(parts) == 6 and parts[0] == "arn" else ""
    return kind if kind in _KINDS else "resource"
