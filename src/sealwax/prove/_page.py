"""A report as one page: the verdict, and each check with what it shows, what happened and the calls it made."""

from __future__ import annotations

from typing import Final

from sealwax._report import Provenance, Tone, Verdict, page
from sealwax._report.markup import code, counts, key, table, text
from sealwax._report.page import row
from sealwax.events import USD_PER_CALL
from sealwax.prove._results import FAILED, NOT_SHOWN, PASSED, CheckResult, Evidence, Outcome, ProofReport

_TONES: Final[dict[Outcome, Tone]] = {FAILED: "bad", NOT_SHOWN: "unsure", PASSED: "good"}  # in the order of the page
_STYLE: Final = """
section > article {
  border: 1px solid var(--line); border-left: .35rem solid var(--tone); border-radius: .5rem; padding: .5rem 1rem;
  margin: 0 0 .5rem; background: var(--raised);
}
details td:not(:last-child) { overflow-wrap: normal; }
@media print { article { break-inside: avoid; } }
"""


def as_html(report: ProofReport, verdict: Verdict, made: Provenance) -> str:
    """Return a report as an HTML page: failed checks first, then those that are not shown."""
    numbers = ((_TONES[outcome], f"{count:,}", outcome) for outcome in _TONES if (count := report.count(outcome)))
    groups = ((outcome, [result for result in report.checks if result.outcome == outcome]) for outcome in _TONES)
    body = counts(numbers) + "".join(_group(outcome, results) for outcome, results in groups if results)
    return page("sealwax prove", verdict, made, body, about=_about(report), style=_STYLE)


def _about(report: ProofReport) -> str:
    named = () if report.key == report.key_arn else (report.key,)
    requests = f"{report.requests:,} made, {report.planned:,} planned, {report.requests * USD_PER_CALL:.5f} USD"
    return row("Key", key(report.key_arn or report.key, named)) + row("KMS requests", requests)


def _group(outcome: Outcome, results: list[CheckResult]) -> str:
    return f"<section>\n<h2>{outcome.capitalize()}</h2>\n{''.join(map(_check, results))}</section>\n"


def _check(result: CheckResult) -> str:
    return (
        f'<article class="{_TONES[result.outcome]}">\n'
        f"<h3>{text(result.name)}</h3>\n"
        f'<p class="soft">{"Shows" if result.outcome == PASSED else "Would show"} that {text(result.shows)}.</p>\n'
        f"<p>{text(result.detail)}</p>\n"
        f"{_evidence(result.evidence)}</article>\n"
    )


def _evidence(evidence: tuple[Evidence, ...]) -> str:
    if not evidence:
        return ""
    rows = (
        (
            f"{item.time:%Y-%m-%d %H:%M:%S} UTC",
            text(item.operation) + (" (injected)" if item.simulated else ""),
            text(item.error or "succeeded"),
            text(item.region or "local"),
            code(item.request_id) if item.request_id else "none",
        )
        for item in evidence
    )
    calls = f"{len(evidence):,} call{'s' * (len(evidence) > 1)}"
    head = ("Time", "Call", "Outcome", "Region", "Request ID")
    return f"<details><summary>{calls}</summary>\n{table(head, rows)}</details>\n"
