"""What a whole audit is, and its JSON; docs/audit.schema.json is the schema of the latter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from sealwax.audit._findings import Finding, Severity

FORMAT: Final = "sealwax-audit-1"


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that was not looked at, so that nothing is said of it: not that it is fine either.

    Attributes:
        what: the API action (``"kms:ListGrants"``), or in words what could not be judged.
        resource: the ARN of what it is about, ``"*"`` where that is the account or a Region as a whole.
        region: the Region, or ``""`` where it has none.
        why: one sentence: the service's error, or what was not given.
        refused: whether it was asked for in vain; False where it is never asked for: a limit, what a lab has not.
    """

    what: str
    resource: str
    region: str
    why: str
    refused: bool = True


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An entry of a baseline: a finding that is accepted; ``resource`` is its ARN, ``expires`` the last day."""

    rule: str
    resource: str
    reason: str
    expires: date | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A finding that the baseline accepts.

    Attributes:
        expires: the last day on which it is accepted; None for no end.
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
        uses: some of ``"administer"``, ``"decrypt"``, ``"encrypt"``, ``"grant"``, in this order.
        by: what allows it, in words: the statements or the grant.
    """

    key: str
    principal: str
    uses: tuple[str, ...]
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    Attributes:
        account: the twelve digits of the account.
        time: when the facts were gathered, with a time zone; ages are counted up to it.
        counts: how many of what was looked at: ``keys``, ``users``, ``roles``, ``events``, ...
        findings: the worst first, then by rule and resource; what a baseline accepts is not among them.
        accepted: what the baseline accepts.
        expired: findings whose acceptance has ended: they are among ``findings`` too.
        access: who can use which key, by key and principal.
        unmatched: entries of the baseline that match no finding: mended, mistyped, or about what was not looked at.
    """

    account: str
    regions: tuple[str, ...]
    time: datetime
    counts: Mapping[str, int]
    findings: tuple[Finding, ...]
    gaps: tuple[Gap, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    expired: tuple[Accepted, ...] = ()
    access: tuple[Access, ...] = field(default=())
    unmatched: tuple[Acceptance, ...] = ()

    @property
    def worst(self) -> Severity | None:
        """The highest severity among the findings."""
        return max((finding.severity for finding in self.findings), default=None)

    @property
    def refused(self) -> tuple[Gap, ...]:
        """What was asked for in vain, and what could not be judged: the audit is not whole."""
        return tuple(one for one in self.gaps if one.refused)


def to_json(audit: Audit) -> dict[str, Any]:
    """Return the audit as the JSON that ``sealwax audit --json`` prints."""
    return {
        "format": FORMAT,
        "account": audit.account,
        "regions": list(audit.regions),
        "time": audit.time.isoformat(),
        "counts": dict(audit.counts),
        "findings": [finding_to_json(one) for one in audit.findings],
        "gaps": [
            {
                "what": one.what,
                "resource": one.resource,
                "region": one.region,
                "why": one.why,
                "refused": one.refused,
            }
            for one in audit.gaps
        ],
        "accepted": [_accepted(one) for one in audit.accepted],
        "expired": [_accepted(one) for one in audit.expired],
        "access": [
            {"key": one.key, "principal": one.principal, "uses": list(one.uses), "by": list(one.by)}
            for one in audit.access
        ],
        "unmatched": [
            {"rule": one.rule, "resource": one.resource, "reason": one.reason, "expires": _last_day(one.expires)}
            for one in audit.unmatched
        ],
    }


def finding_to_json(finding: Finding) -> dict[str, Any]:
    """Return one finding as it stands in the JSON."""
    return {
        "rule": finding.rule,
        "severity": finding.severity.name.lower(),
        "resource": finding.resource,
        "title": finding.title,
        "why": finding.why,
        "statement": None if finding.statement is None else dict(finding.statement),
        "fix": str(finding.fix),
        "blocks": [{"name": one.name or None, "text": one.text} for one in finding.fix.blocks],
        "standards": [{"name": one.name, "control": one.control, "source": one.source} for one in finding.standards],
    }


def _accepted(one: Accepted) -> dict[str, Any]:
    return {"finding": finding_to_json(one.finding), "reason": one.reason, "expires": _last_day(one.expires)}


def _last_day(expires: date | None) -> str | None:
    return None if expires is None else expires.isoformat()
