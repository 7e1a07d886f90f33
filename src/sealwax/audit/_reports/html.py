"""One page for people: the verdict, then a box for each rule with its resources, worst first.

Everything from the account is escaped, including control and direction characters, and only https URLs become links.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Final

from sealwax._report import Provenance, Verdict, page
from sealwax._report.markup import block, code, copyable, key, table, text
from sealwax._report.page import row
from sealwax._report.verdict import zoned
from sealwax.audit._findings import Finding, Fix, Severity, Standard
from sealwax.audit._report import Accepted, Audit, Gap, counted
from sealwax.audit._reports import groups, picture
from sealwax.audit._reports.groups import RuleFindings
from sealwax.audit._reports.texts import statement_text, with_aliases

# A longer list of resources is folded.
_MAX_OPEN: Final = 10


def render(audit: Audit, made: Provenance | None = None) -> str:
    """Return the page.

    Args:
        made: where it comes from; if it is not given, what the audit itself tells.
    """
    style, script = (files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    rules = groups.by_rule(audit.findings)
    return page(
        "sealwax audit",
        _verdict(audit, rules),
        made or Provenance(audit.time, caller=audit.caller, account=audit.account, regions=audit.regions),
        "".join(
            (
                _findings(audit, rules),
                picture.draw(audit),
                _acceptances(audit, "No longer accepted", "Their acceptance expired, so they count.", audit.expired),
                _acceptances(audit, "Accepted", "The baseline accepts these findings.", audit.accepted),
                _unmatched(audit),
                _standards(rules),
            )
        ),
        about=row("Facts", f"collected {text(zoned(audit.time))}") + row("Checked", text(groups.checked(audit))),
        style=style,
        script=script,
    )


def _verdict(audit: Audit, rules: Sequence[RuleFindings]) -> Verdict:
    if not rules:
        return groups.verdict(audit, "look at what was not checked" if audit.gaps else "nothing to fix")
    worst = rules[0]
    return groups.verdict(audit, f"fix the worst first, and audit again after each fix: {worst.title} ({worst.extent})")


def _findings(audit: Audit, rules: Sequence[RuleFindings]) -> str:
    """Return the worst findings, what was not checked, and the other findings."""
    worst = [same for same in rules if same.severity is audit.worst]
    others = rules[len(worst) :]
    if not rules:
        return _gaps(audit)
    return (
        f'<section id="findings">\n{_filters(audit.findings)}'
        f'<p id="shown" class="soft screen" role="status">{counted(len(audit.findings), "finding")}</p>\n'
        '<p class="paper soft">The HTML file of this report also has the commands that fix each finding, and a table '
        "of each principal's access.</p>\n"
        f"<h2>{worst[0].severity.name.capitalize()} findings</h2>\n"
        f"{''.join(_rule(audit, same) for same in worst)}{_gaps(audit)}"
        + ("<h2>Other findings</h2>\n" if others else "")
        + f"{''.join(_rule(audit, same) for same in others)}</section>\n"
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


def _rule(audit: Audit, same: RuleFindings) -> str:
    severity = same.severity.name.lower()
    controls = "; ".join(map(_control, same.standards))
    standards = f', <a href="#standards">required by {counted(len(same.standards), "control")}</a>' if controls else ""
    return (
        f'<article class="{severity}" data-severity="{int(same.severity)}" data-rule="{text(same.rule)}"'
        f' data-standards="{text(controls)}">\n'
        f'<h3><span class="badge">{severity}</span> {text(same.title)}</h3>\n'
        f'<p class="soft">{text(same.extent)}, rule {code(same.rule)}{standards}</p>\n'
        f"<p>{text(same.why)}</p>\n<p><b>What to do:</b> {text(same.fix)}</p>\n"
        f'<ul class="resources">\n{"".join(_finding(audit, finding) for finding in same.findings)}</ul>\n</article>\n'
    )


def _finding(audit: Audit, finding: Finding) -> str:
    detail = f": {text(with_aliases(audit, finding.detail))}" if finding.detail else ""
    statement = ""
    if finding.statement is not None:
        today = block(statement_text(finding.statement, 2))
        statement = f'<p class="soft screen">Today:</p><div class="statement">{today}</div>\n'
    return (
        f'<li data-resource="{text(finding.resource)}"><p>{_named(audit, finding.resource)}{detail}</p>\n'
        f'<details><summary class="screen">{"The statement and the fix" if statement else "The fix"}</summary>\n'
        f'{statement}<div class="screen"><p class="soft">The fix:</p>{_fix(finding.fix)}</div></details></li>\n'
    )


def _fix(fix: Fix) -> str:
    says = "".join(f"<p>{text(line)}</p>\n" for line in fix.says.splitlines())
    return says + "".join(f"<p>{text(part.label)}:</p>\n{copyable(part.text)}" for part in fix.blocks)


def _named(audit: Audit, resource: str) -> str:
    return key(resource, audit.aliases.get(resource, ()))


def _places(audit: Audit, resources: Iterable[str]) -> str:
    """Return a list of resources, each once; folded if it is long."""
    every = list(dict.fromkeys(resources))
    items = "".join(f"<li>{_named(audit, resource)}</li>\n" for resource in every)
    if not every:
        return ""
    listed = f'<ul class="places">\n{items}</ul>\n'
    if len(every) <= _MAX_OPEN:
        return listed
    return f"<details><summary>{text(groups.extent(every))}</summary>{listed}</details>\n"


def _gaps(audit: Audit) -> str:
    if not audit.gaps:
        return ""
    return (
        f'<section class="notice">\n<h2>Not checked: {len(audit.gaps):,}</h2>\n'
        "<p>These were not checked; they may not be fine.</p>\n"
        f"{''.join(_gap(audit, same) for same in groups.gaps_by_reason(audit.gaps))}</section>\n"
    )


def _gap(audit: Audit, same: Sequence[Gap]) -> str:
    regions = ", ".join(dict.fromkeys(gap.region for gap in same if gap.region))
    where = f" in {text(regions)}" if regions else ""
    resources = (gap.resource for gap in same if gap.resource != "*")
    return f"<p><b>{text(same[0].what)}</b>{where}: {text(same[0].why)}</p>\n{_places(audit, resources)}"


def _acceptances(audit: Audit, title: str, intro: str, entries: Sequence[Accepted]) -> str:
    if not entries:
        return ""
    parts = []
    for same in groups.accepted_by_reason(entries):
        finding, expires = same[0].finding, same[0].expires
        until = f"until {expires.isoformat()}" if expires else "indefinitely"
        about = f"{code(finding.rule)} ({finding.severity.name.lower()}), {until}"
        parts.append(f"<p>{about}: {text(same[0].reason)}</p>\n")
        parts.append(_places(audit, (entry.finding.resource for entry in same)))
    return f"<section>\n<h2>{title}: {len(entries):,}</h2>\n<p>{intro}</p>\n{''.join(parts)}</section>\n"


def _unmatched(audit: Audit) -> str:
    if not audit.unmatched:
        return ""
    parts = []
    for same in groups.unmatched_by_reason(audit.unmatched):
        parts.append(f"<p>{code(same[0].rule)}: {text(same[0].reason)}</p>\n")
        parts.append(_places(audit, (entry.resource for entry in same)))
    return (
        f"<section>\n<h2>Baseline entries without a finding: {len(audit.unmatched):,}</h2>\n"
        "<p>The finding was fixed, the entry is mistyped, or the resource was not checked.</p>\n"
        f"{''.join(parts)}</section>\n"
    )


def _standards(rules: Sequence[RuleFindings]) -> str:
    """Return the appendix: each control once, with the rules that it asks for."""
    asked: dict[Standard, dict[str, None]] = defaultdict(dict)
    for same in rules:
        for standard in same.standards:
            asked[standard][same.rule] = None
    if not asked:
        return ""
    rows = (
        (_link(_control(standard), standard.source), ", ".join(map(code, asked[standard])))
        for standard in sorted(asked, key=lambda standard: (standard.name, standard.control))
    )
    return (
        '<section id="standards">\n<h2>Standards</h2>\n<p>The controls that require what is missing here.</p>\n'
        f"{table(('Control', 'Rules'), rows)}</section>\n"
    )


def _control(standard: Standard) -> str:
    return f"{standard.name} {standard.control}"


def _link(shown: str, address: str) -> str:
    if not address.startswith("https://"):
        return text(shown)
    return f'<a href="{text(address)}">{text(shown)}</a>'
