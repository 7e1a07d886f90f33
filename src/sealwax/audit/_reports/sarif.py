"""SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html), for code scanning.

AWS resources are not files: the ARN is the logical location, and as a URI that of the artifact, which some readers
need. Accepted findings are suppressed results, and gaps are notifications of the run.
"""

from __future__ import annotations

import json
import re
from datetime import UTC
from typing import Final
from urllib.parse import quote

from sealwax import __version__
from sealwax._report.markup import plain
from sealwax.audit._findings import Finding, Severity
from sealwax.audit._report import Audit, blocks_to_json
from sealwax.audit._reports.texts import identity

_LEVELS: Final = {
    Severity.INFO: "note",
    Severity.LOW: "note",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "error",
    Severity.CRITICAL: "error",
}
# GitHub sorts by these: https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning
_SCORES: Final = {
    Severity.INFO: "0.0",
    Severity.LOW: "3.0",
    Severity.MEDIUM: "5.5",
    Severity.HIGH: "8.0",
    Severity.CRITICAL: "9.5",
}


def render(audit: Audit) -> str:
    """Return a log with one run."""
    every = [*audit.findings, *(entry.finding for entry in audit.accepted)]
    first = {finding.rule: finding for finding in reversed(every)}
    order = sorted(first)
    results = [_result(finding, order) for finding in audit.findings]
    for entry in audit.accepted:
        until = "" if entry.expires is None else f" (until {entry.expires.isoformat()})"
        suppression = {"kind": "external", "status": "accepted", "justification": _text(entry.reason + until)}
        results.append(_result(entry.finding, order) | {"suppressions": [suppression]})
    run = {
        "tool": {
            "driver": {"name": "sealwax", "version": __version__, "rules": [_rule(first[rule]) for rule in order]}
        },
        "invocations": [
            {
                "executionSuccessful": True,
                "endTimeUtc": audit.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "toolExecutionNotifications": [
                    {
                        "level": "warning",
                        "message": {"text": _text(f"not checked: {gap.what} on {gap.resource}: {gap.why}")},
                        "locations": [_location(gap.resource)],
                    }
                    for gap in audit.gaps
                ],
            }
        ],
        "results": results,
    }
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2) + "\n"


def _text(text: str) -> str:
    """Return a message without links, because SARIF readers turn ``[this](there)`` into one."""
    shown = plain(text)
    return re.sub(r"([\\\[\]])", r"\\\1", shown) if "](" in shown else shown


def _rule(finding: Finding) -> dict[str, object]:
    return {
        "id": finding.rule,
        "shortDescription": {"text": finding.rule.replace("-", " ")},
        "fullDescription": {"text": _text(finding.why)},
        "defaultConfiguration": {"level": _LEVELS[finding.severity]},
        "properties": {
            "security-severity": _SCORES[finding.severity],
            "tags": ["security", *(f"{standard.name} {standard.control}" for standard in finding.standards)],
        },
    }


def _result(finding: Finding, order: list[str]) -> dict[str, object]:
    return {
        "ruleId": finding.rule,
        "ruleIndex": order.index(finding.rule),
        "level": _LEVELS[finding.severity],
        "message": {"text": _text(f"{finding.title}. {finding.why}\n\nFix: {finding.fix}")},
        "locations": [_location(finding.resource)],
        "partialFingerprints": {"sealwax/1": identity(finding)},
        "properties": {
            "severity": finding.severity.name.lower(),
            "statement": None if finding.statement is None else dict(finding.statement),
            "fix": str(finding.fix),
            "blocks": blocks_to_json(finding),
        },
    }


def _location(resource: str) -> dict[str, object]:
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": quote(resource, safe=":/", errors="replace")},
            "region": {"startLine": 1},
        },
        "logicalLocations": [{"fullyQualifiedName": plain(resource), "kind": "resource"}],
    }
