"""CSV (RFC 4180) for spreadsheets. A cell that looks like a formula starts with an apostrophe."""

from __future__ import annotations

import csv
import io
from typing import Final

from sealwax._report.markup import plain
from sealwax.audit._findings import Finding
from sealwax.audit._report import Accepted, Audit
from sealwax.audit._reports.texts import aliases_of, statement_text

COLUMNS: Final = (
    "kind",
    "severity",
    "rule",
    "resource",
    "aliases",
    "title",
    "why",
    "statement",
    "fix",
    "standards",
    "note",
)

# https://owasp.org/www-community/attacks/CSV_Injection , and the wide forms that some spreadsheets treat alike.
_FORMULA: Final = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001


def render(audit: Audit) -> str:
    """Return a row for each finding, each accepted finding and each gap."""
    output = io.StringIO()
    writer = csv.writer(output, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    rows = [_finding(audit, "finding", finding, "") for finding in audit.findings]
    rows += [_finding(audit, "accepted", entry.finding, _acceptance(entry)) for entry in audit.accepted]
    rows += [
        (
            "not checked",
            "",
            "",
            gap.resource,
            aliases_of(audit, gap.resource),
            gap.what,
            gap.why,
            "",
            "",
            "",
            gap.region,
        )
        for gap in audit.gaps
    ]
    writer.writerows([_cell(text) for text in row] for row in rows)
    return output.getvalue()


def _finding(audit: Audit, kind: str, finding: Finding, note: str) -> tuple[str, ...]:
    return (
        kind,
        finding.severity.name.lower(),
        finding.rule,
        finding.resource,
        aliases_of(audit, finding.resource),
        finding.title,
        finding.why,
        statement_text(finding.statement),
        str(finding.fix),
        "; ".join(f"{standard.name} {standard.control}" for standard in finding.standards),
        note,
    )


def _acceptance(entry: Accepted) -> str:
    return entry.reason if entry.expires is None else f"until {entry.expires.isoformat()}: {entry.reason}"


def _cell(text: str) -> str:
    shown = plain(text)
    return f"'{shown}" if shown.lstrip(" ").startswith(_FORMULA) else shown
