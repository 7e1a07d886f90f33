"""One page for people. It loads nothing, runs only its own script, and is readable without it.

Everything from the account is escaped, including control and direction characters, only https URLs become links, and a
Content-Security-Policy allows the one style and the one script by their digests.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Final

from sealwax import __version__
from sealwax.audit._findings import Finding, Fix, Severity, Standard
from sealwax.audit._report import Acceptance, Accepted, Audit, Gap
from sealwax.audit._reports import picture
from sealwax.audit._reports.markup import block, code, table, text
from sealwax.audit._reports.texts import statement_text

_WORST_FIRST: Final = tuple(sorted(Severity, reverse=True))


def render(audit: Audit) -> str:
    """Return the page."""
    style, script = (files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"sealwax audit of {text(audit.account)}"
    return "".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="referrer" content="no-referrer">\n',
            f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n",
            f"<header>\n<h1>{title}</h1>\n{_head(audit)}</header>\n<main>\n",
            _gaps(audit.gaps),
            _findings(audit.findings),
            picture.draw(audit.access),
            _acceptances("Accepted", "The baseline accepts these findings.", audit.accepted),
            _acceptances(
                "No longer accepted", "The acceptance of these findings has expired, so they count.", audit.expired
            ),
            _unmatched(audit.unmatched),
            f'</main>\n<footer><p class="soft">sealwax {text(__version__)}</p></footer>\n',
            f"<script>{script}</script>\n</body>\n</html>\n",
        )
    )


def _digest(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _head(audit: Audit) -> str:
    counts = "".join(
        f'<li class="{severity.name.lower()}"><b>{count}</b>{severity.name.lower()}</li>'
        for severity in _WORST_FIRST
        if (count := sum(finding.severity is severity for finding in audit.findings))
    )
    checked = ", ".join(f"{count:,} {text(name)}" for name, count in audit.counts.items()) or "nothing"
    return (
        f"<p>{text(', '.join(audit.regions))}; facts of {audit.time:%Y-%m-%d %H:%M} {audit.time.tzname()}.\n"
        f"Checked: {checked}.</p>\n"
        f'<ul class="counts">{counts or "<li>no findings</li>"}</ul>\n'
    )


def _gaps(gaps: Sequence[Gap]) -> str:
    if not gaps:
        return ""
    rows = ((text(gap.what), code(gap.resource), text(gap.region), text(gap.why)) for gap in gaps)
    return (
        f'<section class="notice">\n<h2>Not checked: {len(gaps):,}</h2>\n'
        "<p>These were not checked; they may not be fine.</p>\n"
        f"{table(('What', 'Resource', 'Region', 'Why'), rows)}</section>\n"
    )


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return '<section>\n<h2>Findings</h2>\n<p id="shown">No findings.</p>\n</section>\n'
    return (
        f"<section>\n<h2>Findings</h2>\n{_filters(findings)}"
        f'<p id="shown" class="soft" role="status">{len(findings):,} findings</p>\n'
        f'<div id="findings">\n{"".join(map(_finding, findings))}</div>\n</section>\n'
    )


def _filters(findings: Sequence[Finding]) -> str:
    severities = "".join(
        f'<option value="{int(level)}">{"any" if level is Severity.INFO else f"{level.name.lower()} or worse"}</option>'
        for level in sorted(Severity)
    )
    resources = _options(finding.resource for finding in findings)
    return (
        '<form id="filters" class="filters" hidden aria-label="Filter the findings">\n'
        f'<label>Severity<select name="severity">{severities}</select></label>\n'
        f'<label>Rule<select name="rule">{_options(finding.rule for finding in findings)}</select></label>\n'
        f'<label>Resource<select name="resource">{resources}</select></label>\n'
        '<label>Text<input name="text" type="search" autocomplete="off"></label>\n'
        '<button type="reset">Show all</button>\n</form>\n'
    )


def _options(values: Iterable[str]) -> str:
    every = sorted(set(values))
    return '<option value="">any</option>' + "".join(
        f'<option value="{text(value)}">{text(value)}</option>' for value in every
    )


def _finding(finding: Finding) -> str:
    severity = finding.severity.name.lower()
    statement = ""
    if finding.statement is not None:
        statement = (
            f"<details><summary>The statement</summary>{block(statement_text(finding.statement, 2))}</details>\n"
        )
    return (
        f'<article class="{severity}" data-severity="{int(finding.severity)}" data-rule="{text(finding.rule)}">\n'
        f'<h3><span class="badge">{severity}</span> {text(finding.title)}</h3>\n'
        f'<p class="about">{code(finding.rule)} on {code(finding.resource)}</p>\n'
        f"<p>{text(finding.why)}</p>\n{statement}"
        f"<p><b>What to do</b></p>\n{_fix(finding.fix)}{_standards(finding.standards)}</article>\n"
    )


def _fix(fix: Fix) -> str:
    says = "".join(f"<p>{text(line)}</p>\n" for line in fix.says.splitlines())
    return says + "".join(
        f'<p>{text(part.label)}:</p>\n<div class="copyable">{block(part.text)}</div>\n' for part in fix.blocks
    )


@cache  # one entry per rule
def _standards(standards: tuple[Standard, ...]) -> str:
    if not standards:
        return ""
    items = "".join(f"<li>{_link(f'{item.name} {item.control}', item.source)}</li>" for item in standards)
    return f"<details><summary>Required by {len(standards)}</summary><ul>{items}</ul></details>\n"


def _link(shown: str, address: str) -> str:
    if not address.startswith("https://"):
        return text(shown)
    return f'<a href="{text(address)}">{text(shown)}</a>'


def _unmatched(entries: Sequence[Acceptance]) -> str:
    if not entries:
        return ""
    rows = ((code(entry.rule), code(entry.resource), text(entry.reason)) for entry in entries)
    return (
        f"<section>\n<h2>Baseline entries without a finding: {len(entries):,}</h2>\n"
        "<p>The finding was fixed, the entry is mistyped, or the resource was not checked.</p>\n"
        f"{table(('Rule', 'Resource', 'Reason'), rows)}</section>\n"
    )


def _acceptances(title: str, intro: str, entries: Sequence[Accepted]) -> str:
    if not entries:
        return ""
    rows = (
        (
            entry.finding.severity.name.lower(),
            code(entry.finding.rule),
            code(entry.finding.resource),
            text(entry.reason),
            entry.expires.isoformat() if entry.expires else "no end",
        )
        for entry in entries
    )
    return (
        f"<section>\n<h2>{title}: {len(entries):,}</h2>\n<p>{intro}</p>\n"
        f"{table(('Severity', 'Rule', 'Resource', 'Reason', 'Until'), rows)}</section>\n"
    )
