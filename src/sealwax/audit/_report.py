"""The result of an audit, and its JSON, whose schema is docs/reference/audit.schema.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Final

from sealwax import __version__
from sealwax.audit._findings import Finding, Severity
from sealwax.policy import Document

FORMAT: Final = "sealwax-audit-1"
_WORST_FIRST: Final = tuple(sorted(Severity, reverse=True))
_PLURALS: Final = {"alias": "aliases", "policy": "policies"}


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that was not checked, so the absence of findings about it means nothing.

    Attributes:
        what: the API action, such as ``"kms:ListGrants"``, or a description of what could not be evaluated.
        resource: the ARN of the resource; ``"*"`` for the account or a Region as a whole.
        region: the Region; empty if there is none.
        why: the reason in one sentence, such as the error of the service.
        refused: whether the lookup or the evaluation failed, which makes the audit incomplete. False for known
            limits, such as a service that a lab lacks.
    """

    what: str
    resource: str
    region: str
    why: str
    refused: bool = True


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An entry of a baseline, which accepts the findings of a rule about a resource.

    Attributes:
        rule: the id of the rule.
        resource: the ARN of the resource.
        reason: why they are accepted.
        expires: the last day on which they are; None for no end.
    """

    rule: str
    resource: str
    reason: str
    expires: date | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A finding that the baseline accepts.

    Attributes:
        finding: the finding.
        reason: why it is accepted.
        expires: the last day on which it is; None for no end.
    """

    finding: Finding
    reason: str
    expires: date | None


@dataclass(frozen=True, slots=True)
class Access:
    """Who can use which key, and how.

    Attributes:
        key: the ARN of the key.
        principal: the ARN of a user, role or account, the name of a service, ``"federated:"`` and the name of an
            identity provider, or ``"*"``.
        uses: some of ``"administer"``, ``"decrypt"``, ``"encrypt"`` and ``"grant"``, in this order.
        by: the statements or the grant that allow it.
    """

    key: str
    principal: str
    uses: tuple[str, ...]
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    Attributes:
        account: the id of the account.
        regions: the Regions of the audit.
        time: when the facts were collected; ages are measured up to then.
        counts: how many ``keys``, ``users``, ``roles``, ``events`` and so on were checked.
        findings: the findings that the baseline does not accept, worst first, then by rule and resource.
        gaps: what was not checked.
        accepted: the findings that the baseline accepts.
        expired: findings whose acceptance has expired; they are among ``findings`` too.
        access: who can use which key, by key and principal.
        unmatched: entries of the baseline without a finding: fixed, mistyped or not checked.
        aliases: the names of the aliases of each key, by its ARN, as far as they are known.
        caller: the ARN of whoever collected the facts; empty if it is unknown.
    """

    account: str
    regions: tuple[str, ...]
    time: datetime
    counts: Mapping[str, int]
    findings: tuple[Finding, ...]
    gaps: tuple[Gap, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    expired: tuple[Accepted, ...] = ()
    access: tuple[Access, ...] = ()
    unmatched: tuple[Acceptance, ...] = ()
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    caller: str = ""

    @property
    def worst(self) -> Severity | None:
        """The highest severity among the findings, or None without findings."""
        return max((finding.severity for finding in self.findings), default=None)

    @property
    def refused(self) -> tuple[Gap, ...]:
        """The failed lookups and evaluations. If there are any, the audit is incomplete."""
        return tuple(gap for gap in self.gaps if gap.refused)

    @property
    def verdict(self) -> str:
        """How the audit ended, in a few words, such as "2 critical, 9 medium findings; 4 of 57 keys are affected"."""
        numbers = [sum(finding.severity is severity for finding in self.findings) for severity in _WORST_FIRST]
        levels = [f"{number:,} {severity.name.lower()}" for number, severity in zip(numbers, _WORST_FIRST, strict=True)]
        found = ", ".join(level for number, level in zip(numbers, levels, strict=True) if number) or "no"
        says = f"{found[0].upper()}{found[1:]} {'finding' if len(self.findings) == 1 else 'findings'}"
        if affected := len({finding.resource for finding in self.findings if ":key/" in finding.resource}):
            keys = counted(max(self.counts.get("keys", 0), affected), "key")
            says += f"; {affected:,} of {keys} {'is' if affected == 1 else 'are'} affected"
        if self.accepted:
            says += f". The baseline accepts {counted(len(self.accepted), 'finding')}"
        if limits := len(self.gaps) - len(self.refused):
            says += f". {counted(limits, 'item')} could not be checked, and may not be fine"
        if self.refused:
            says += f". {counted(len(self.refused), 'lookup')} failed, so the audit is incomplete"
        return says


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1."""
    return f"{number:,} {noun if number == 1 else _PLURALS.get(noun, f'{noun}s')}"


def to_json(audit: Audit) -> Document:
    """Return the audit as the JSON object that ``sealwax audit --json`` prints.

    Args:
        audit: the result of ``run``.

    Returns:
        An object for ``json.dumps``, described by docs/reference/audit.schema.json.
    """
    return {
        "format": FORMAT,
        "version": __version__,
        "verdict": audit.verdict,
        "account": audit.account,
        "caller": audit.caller,
        "regions": list(audit.regions),
        "time": audit.time.isoformat(),
        "counts": dict(audit.counts),
        "findings": [finding_to_json(finding) for finding in audit.findings],
        "gaps": [asdict(gap) for gap in audit.gaps],
        "accepted": [_accepted(entry) for entry in audit.accepted],
        "expired": [_accepted(entry) for entry in audit.expired],
        "access": [asdict(access) | {"uses": list(access.uses), "by": list(access.by)} for access in audit.access],
        "unmatched": [asdict(entry) | {"expires": _last_day(entry.expires)} for entry in audit.unmatched],
        "aliases": {key: list(names) for key, names in audit.aliases.items()},
    }


def finding_to_json(finding: Finding) -> Document:
    """Return one finding as a JSON object."""
    return {
        "rule": finding.rule,
        "severity": finding.severity.name.lower(),
        "resource": finding.resource,
        "title": finding.title,
        "detail": finding.detail,
        "why": finding.why,
        "statement": None if finding.statement is None else dict(finding.statement),
        "fix": str(finding.fix),
        "blocks": blocks_to_json(finding),
        "standards": [asdict(standard) for standard in finding.standards],
    }


def blocks_to_json(finding: Finding) -> list[dict[str, str | None]]:
    """Return the blocks of a finding's fix as JSON objects."""
    return [{"kind": block.kind, "name": block.name or None, "text": block.text} for block in finding.fix.blocks]


def _accepted(entry: Accepted) -> dict[str, object]:
    return {"finding": finding_to_json(entry.finding), "reason": entry.reason, "expires": _last_day(entry.expires)}


def _last_day(expires: date | None) -> str | None:
    return None if expires is None else expires.isoformat()
