"""An audit as text: a block for each rule, a line for each resource, and the verdict at the end."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sealwax._report.verdict import zoned
from sealwax._text import printable
from sealwax.audit import Audit, Finding
from sealwax.audit._reports.groups import (
    RuleFindings,
    accepted_by_reason,
    by_rule,
    checked,
    extent,
    gaps_by_reason,
    unmatched_by_reason,
)
from sealwax.audit._reports.texts import named, with_aliases

# Of what is not a finding; -v shows all.
_EXAMPLES: Final = 3
_NOT_CHECKED: Final = "not checked"


def text(audit: Audit, *, whole: bool, width: int) -> Iterator[str]:
    """Yield the lines, except the verdict, which depends on what comes next.

    Args:
        whole: whether to show the statements and what to paste.
        width: where to break prose; 0 for never. Names are not broken.
    """
    for same in by_rule(audit.findings):
        yield from _rule(audit, same, whole=whole, width=width)
        yield ""
    notes = [*_gaps(audit), *_expired(audit), *_accepted(audit), *_unmatched(audit)]
    for head, resources in notes:
        yield from wrapped(head, width)
        yield from _listed(audit, resources, whole=whole, width=width)
    if notes:
        yield ""
    about = (
        f"checked {checked(audit)} of account {audit.account} in {', '.join(audit.regions)}, as of {zoned(audit.time)}"
    )
    yield from wrapped(about, width)


def _rule(audit: Audit, same: RuleFindings, *, whole: bool, width: int) -> Iterator[str]:
    yield from wrapped(f"{same.severity.name.lower()}  {same.title} ({same.rule}): {same.extent}", width)
    yield from wrapped(f"  why: {same.why}", width)
    yield from wrapped(f"  fix: {same.fix}", width)
    for finding in same.findings:
        detail = f": {with_aliases(audit, finding.detail)}" if finding.detail else ""
        yield from wrapped(f"  - {named(audit, finding.resource)}{detail}", width)
        if whole:
            yield from _fix(finding)


def _fix(finding: Finding) -> Iterator[str]:
    if finding.statement is not None:
        yield f"      is:  {printable(json.dumps(finding.statement))}"
    first, *rest = finding.fix.says.splitlines() or [""]
    yield f"      fix: {printable(first)}"
    yield from (f"           {printable(line)}" for line in rest)
    for block in finding.fix.blocks:
        yield f"           {printable(block.label)}:"
        # Meant for pasting, so not indented.
        yield from ("", *(printable(line) for line in block.text.splitlines()), "")


def _gaps(audit: Audit) -> Iterator[tuple[str, list[str]]]:
    for same in gaps_by_reason(audit.gaps):
        resources = [gap.resource for gap in same if gap.resource != "*"]
        regions = ", ".join(dict.fromkeys(gap.region for gap in same if gap.region and gap.resource == "*"))
        where = (f" in {regions}" if regions else "") + (f" of {extent(resources)}" if resources else "")
        yield f"{_NOT_CHECKED}  {same[0].what}{where}: {same[0].why}", resources


def _expired(audit: Audit) -> Iterator[tuple[str, list[str]]]:
    for same in accepted_by_reason(audit.expired):
        resources = [entry.finding.resource for entry in same]
        since = f"since {same[0].expires}"
        yield f"no longer accepted {since}  {same[0].finding.rule} in {extent(resources)}: {same[0].reason}", resources


def _accepted(audit: Audit) -> Iterator[tuple[str, list[str]]]:
    for same in accepted_by_reason(audit.accepted):
        until = "" if same[0].expires is None else f" until {same[0].expires}"
        resources = [entry.finding.resource for entry in same]
        yield f"accepted{until}  {same[0].finding.rule} in {extent(resources)}: {same[0].reason}", resources


def _unmatched(audit: Audit) -> Iterator[tuple[str, list[str]]]:
    for same in unmatched_by_reason(audit.unmatched):
        resources = [entry.resource for entry in same]
        head = f"unmatched  {same[0].rule} in {extent(resources)}: {same[0].reason}"
        yield f"{head}; the finding was fixed, the entry is mistyped, or the resource was not checked", resources


def _listed(audit: Audit, resources: Sequence[str], *, whole: bool, width: int) -> Iterator[str]:
    every = list(dict.fromkeys(resources))
    shown = every if whole or len(every) == _EXAMPLES + 1 else every[:_EXAMPLES]
    for resource in shown:
        yield from wrapped(f"  - {named(audit, resource)}", width)
    if len(every) > len(shown):
        yield f"  and {len(every) - len(shown):,} more (-v shows all)"


def wrapped(line: str, width: int) -> Iterable[str]:
    """Return a line broken between words, indented from the second on."""
    line = printable(line)
    if not width or len(line) <= width:
        return (line,)
    margin = len(line) - len(line.lstrip(" "))
    return textwrap.wrap(
        line, width, subsequent_indent=" " * (margin + 4), break_long_words=False, break_on_hyphens=False
    )
