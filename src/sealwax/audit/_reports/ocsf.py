"""OCSF 1.6.0: a list of Compliance Findings (class 2003) with the cloud profile, for security lakes and SIEMs.

https://schema.ocsf.io/1.6.0/classes/compliance_finding?profiles=cloud
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeAlias

from sealwax import __version__
from sealwax._report.markup import plain
from sealwax.audit._findings import Finding, Severity
from sealwax.audit._report import Audit, Gap
from sealwax.audit._reports.texts import identity, region_of

#: An event, or a part of one.
Event: TypeAlias = dict[str, Any]

VERSION: Final = "1.6.0"
_CATEGORY: Final = (2, "Findings")
_CLASS: Final = (2003, "Compliance Finding")
_CREATE: Final = (1, "Create")
_AWS_ACCOUNT: Final = (10, "AWS Account")
# compliance.status_id
_UNKNOWN: Final = (0, "Unknown")
_FAIL: Final = (3, "Fail")
# status_id of the finding
_NEW: Final = (1, "New")
_SUPPRESSED: Final = (3, "Suppressed")
_SEVERITIES: Final = {
    Severity.INFO: (1, "Informational"),
    Severity.LOW: (2, "Low"),
    Severity.MEDIUM: (3, "Medium"),
    Severity.HIGH: (4, "High"),
    Severity.CRITICAL: (5, "Critical"),
}


def render(audit: Audit) -> str:
    """Return a JSON array. Gaps have the compliance status Unknown."""
    events = [_finding(audit, finding, _NEW, None) for finding in audit.findings]
    events += [_finding(audit, entry.finding, _SUPPRESSED, entry.reason) for entry in audit.accepted]
    events += [_gap(audit, gap) for gap in audit.gaps]
    return json.dumps(events, indent=2) + "\n"


def _finding(audit: Audit, finding: Finding, status: tuple[int, str], comment: str | None) -> Event:
    event = _event(audit, finding.resource, region_of(finding.resource), _SEVERITIES[finding.severity], status)
    event["finding_info"] |= {
        "uid": identity(finding),
        "title": plain(finding.title),
        "desc": plain(finding.why),
        "types": [finding.rule],
    }
    event["compliance"] = _with_id("status", _FAIL) | {
        "control": finding.rule,
        # Some rules are only sealwax's own.
        "standards": list(dict.fromkeys(standard.name for standard in finding.standards)) or ["sealwax"],
        "requirements": [f"{standard.name} {standard.control}" for standard in finding.standards],
    }
    event["remediation"] = {
        "desc": plain(str(finding.fix)),
        "references": list(dict.fromkeys(standard.source for standard in finding.standards)),
    }
    if finding.statement is not None:
        event["resources"][0]["data"] = {"statement": dict(finding.statement)}
    return event | ({} if comment is None else {"comment": plain(comment)})


def _gap(audit: Audit, gap: Gap) -> Event:
    event = _event(audit, gap.resource, gap.region, _SEVERITIES[Severity.INFO], _NEW)
    event["finding_info"] |= {
        "uid": f"not-checked {gap.what} {plain(gap.resource)} {gap.region}",
        "title": plain(f"not checked: {gap.what}"),
        "desc": plain(gap.why),
        "types": ["not-checked"],
    }
    event["compliance"] = _with_id("status", _UNKNOWN) | {"control": "not-checked", "standards": ["sealwax"]}
    return event


def _event(audit: Audit, resource: str, region: str, severity: tuple[int, str], status: tuple[int, str]) -> Event:
    time = int(audit.time.timestamp() * 1000)
    return {
        "activity_id": _CREATE[0],
        "activity_name": _CREATE[1],
        "category_uid": _CATEGORY[0],
        "category_name": _CATEGORY[1],
        "class_uid": _CLASS[0],
        "class_name": _CLASS[1],
        "type_uid": _CLASS[0] * 100 + _CREATE[0],
        "type_name": f"{_CLASS[1]}: {_CREATE[1]}",
        "time": time,
        **_with_id("severity", severity),
        **_with_id("status", status),
        "metadata": {
            "version": VERSION,
            "profiles": ["cloud"],
            "product": {"name": "sealwax", "vendor_name": "sealwax", "version": __version__},
        },
        "cloud": {
            "provider": "AWS",
            "account": {"uid": audit.account, "type_id": _AWS_ACCOUNT[0], "type": _AWS_ACCOUNT[1]},
            **({"region": region} if region else {}),
        },
        "finding_info": {"created_time": time},
        "resources": [{"uid": plain(resource), **({"region": region} if region else {})}],
    }


def _with_id(name: str, value: tuple[int, str]) -> Event:
    return {f"{name}_id": value[0], name: value[1]}
