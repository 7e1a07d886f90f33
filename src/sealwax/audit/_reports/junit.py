"""JUnit XML for build servers: findings are failures, accepted findings and gaps are skipped tests."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from sealwax._report.markup import plain
from sealwax.audit._findings import Finding
from sealwax.audit._report import Audit
from sealwax.audit._reports.texts import statement_text


def render(audit: Audit) -> str:
    """Return one test suite. Without findings it has one test that passed."""
    suite = ET.Element("testsuite", name="sealwax audit", timestamp=audit.time.isoformat(timespec="seconds"))
    for finding in audit.findings:
        case = _case(suite, finding.rule, finding.resource)
        failure = ET.SubElement(case, "failure", type=finding.severity.name.lower(), message=plain(finding.title))
        failure.text = _text(finding)
    for entry in audit.accepted:
        until = "" if entry.expires is None else f" until {entry.expires.isoformat()}"
        case = _case(suite, entry.finding.rule, entry.finding.resource)
        ET.SubElement(case, "skipped", message=plain(f"accepted{until}: {entry.reason}"))
    for gap in audit.gaps:
        case = _case(suite, "not-checked", f"{gap.what} {gap.resource} {gap.region}".rstrip())
        ET.SubElement(case, "skipped", message=plain(f"not checked: {gap.why}"))
    if not audit.findings:
        _case(suite, "audit", audit.account)
    counts = {
        "tests": len(suite),
        "failures": len(audit.findings),
        "errors": 0,
        "skipped": len(audit.accepted) + len(audit.gaps),
    }
    for name, count in counts.items():
        suite.set(name, str(count))
    root = ET.Element("testsuites", {name: str(count) for name, count in counts.items()})
    root.append(suite)
    ET.indent(root)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ET.tostring(root, encoding='unicode')}\n"


def _case(suite: ET.Element, rule: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=f"sealwax.audit.{plain(rule)}", name=plain(name), time="0")


def _text(finding: Finding) -> str:
    parts = [finding.why, statement_text(finding.statement, 2), f"Fix: {finding.fix}"]
    parts += [f"{standard.name} {standard.control}: {standard.source}" for standard in finding.standards]
    return plain("\n\n".join(part for part in parts if part))
