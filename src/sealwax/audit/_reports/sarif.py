"""SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html), for code scanning.

A resource of AWS is no file: its ARN is the logical location, and as a URI the artifact's, which some readers ask for.
What a baseline accepts is a suppressed result, and what was not looked at a notification of the run.
"""

from __future__ import annotations

import json
import re
from datetime import UTC
from typing import Any, Final
from urllib.parse import quote

from sealwax import __version__
from sealwax.audit._findings import Finding, Severity
from sealwax.audit._report import Audit
from sealwax.audit._reports.texts import identity, plain

_LEVELS: Final = {
    Severity.INFO: "note",
    Severity.LOW: "note",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "error",
    Severity.CRITICAL: "error",
}
# How GitHub sorts: https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning
_SCORES: Final = {
    Severity.INFO: "0.0",
    Severity.LOW: "3.0",
    Severity.MEDIUM: "5.5",
    Severity.HIGH: "8.0",
    Severity.CRITICAL: "9.5",
}


def render(audit: Audit) -> str:
    """Return one run."""
    every = [*audit.findings, *(one.finding for one in audit.accepted)]
    first = {finding.rule: finding for finding in reversed(every)}
    order = sorted(first)
    results = [_result(finding, order) for finding in audit.findings]
    for one in audit.accepted:
        until = "" if one.expires is None else f" (until {one.expires.isoformat()})"
        suppression = {"kind": "external", "status": "accepted", "justification": _text(one.reason + until)}
        results.append(_result(one.finding, order) | {"suppressions": [suppression]})
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
                        "message": {"text": _text(f"not looked at: {one.what} on {one.resource}: {one.why}")},
                        "locations": [_location(one.resource)],
                    }
                    for one in audit.gaps
                ],
            }
        ],
        "results": results,
    }
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2) + "\n"


def _text(text: str) -> str:
    """Return a message that is nothing but text: a reader of SARIF makes a link of ``[this](there)``."""
    shown = plain(text)
    return re.sub(r"([\\\[\]])", r"\\\1", shown) if "](" in shown else shown


def _rule(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.rule,
        "shortDescription": {"text": finding.rule.replace("-", " ")},
        "fullDescription": {"text": _text(finding.why)},
        "defaultConfiguration": {"level": _LEVELS[finding.severity]},
        "properties": {
            "security-severity": _SCORES[finding.severity],
            "tags": ["security", *(f"{one.name} {one.control}" for one in finding.standards)],
        },
    }


def _result(finding: Finding, order: list[str]) -> dict[str, Any]:
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
            "blocks": [{"name": one.name or None, "text": one.text} for one in finding.fix.blocks],
        },
    }


def _location(resource: str) -> dict[str, Any]:
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": quote(resource, safe=":/", errors="replace")},
            "region": {"startLine": 1},
        },
        "logicalLocations": [{"fullyQualifiedName": plain(resource), "kind": "resource"}],
    }
