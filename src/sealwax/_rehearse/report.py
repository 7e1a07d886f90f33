"""A rehearsal as one page, to attach to an issue: steps, differences, requests, and what is left."""

from __future__ import annotations

from typing import Final

from sealwax._rehearse.plan import CONTEXT, PRICES_FROM, usd
from sealwax._rehearse.run import Rehearsal
from sealwax._rehearse.steps import StepResult
from sealwax._report import Provenance, Verdict, page
from sealwax._report.markup import code, counts, table, text
from sealwax._report.page import row

_SAFE: Final = "This report holds no account id, ARN, key id or request id, and can be attached to an issue."
_STYLE: Final = "details td:not(:last-child) { overflow-wrap: normal; }\n"


def verdict(rehearsal: Rehearsal, clean_up: str) -> Verdict:
    """Return how a rehearsal went, and what to do next.

    Args:
        clean_up: the command that takes away what is left.
    """
    steps, failed, different = len(rehearsal.steps), len(rehearsal.failed), rehearsal.answered_differently
    attach = "attach the report to an issue of sealwax; nothing in it identifies your account"
    says = (
        f"{steps - failed} of {steps} steps passed, and the lab answered {rehearsal.requests - different} of "
        f"{rehearsal.requests} requests as AWS did"
    )
    if rehearsal.left:
        says += (
            f"; {len(rehearsal.left)} {'thing is' if len(rehearsal.left) == 1 else 'things are'} left in the account"
        )
        return Verdict("bad" if failed else "unsure", says, "take away what is left", clean_up)
    if failed or different:
        return Verdict("bad" if failed else "unsure", says, attach)
    return Verdict("good", says, attach)


def as_html(rehearsal: Rehearsal, verdict: Verdict, made: Provenance) -> str:
    """Return the page."""
    failed, different = len(rehearsal.failed), rehearsal.answered_differently
    numbers = [
        ("bad", f"{failed:,}", "steps failed"),
        ("good", f"{len(rehearsal.steps) - failed:,}", "steps passed"),
        ("unsure", f"{different:,}", "requests answered differently"),
        ("good", f"{rehearsal.requests - different:,}", "requests answered alike"),
    ]
    body = counts(number for number in numbers if number[1] != "0") + f'<p class="soft">{_SAFE}</p>\n'
    body += _steps(rehearsal.steps) + _differences(rehearsal)
    if rehearsal.left:
        left = "".join(f"<li>{text(what)}</li>\n" for what in rehearsal.left)
        body += f"<section>\n<h2>Left in the account</h2>\n<ul>{left}</ul>\n</section>\n"
    return page("sealwax rehearse", verdict, made, body, about=_about(rehearsal), style=_STYLE)


def _about(rehearsal: Rehearsal) -> str:
    calls = ", ".join(f"{count:,} to {service}" for service, count in sorted(rehearsal.calls.items()))
    versions = rehearsal.as_dict()
    context = ", ".join(f"{name}={value}" for name, value in CONTEXT.items())
    return (
        row("Requests", text(calls))
        + row("Cost", text(f"at most {usd():.2f} USD, estimated from {PRICES_FROM}"))
        + row("Took", text(f"{rehearsal.seconds:,.0f} s"))
        + row("Context", code(context))
        + row("Versions", text(", ".join(f"{name} {versions[name]}" for name in ("python", "boto3", "botocore"))))
    )


def _steps(steps: tuple[StepResult, ...]) -> str:
    ordered = sorted(steps, key=lambda step: step.passed)
    rows = [
        (text("passed" if step.passed else "failed"), code(step.name), text(step.shows), text(step.detail))
        for step in ordered
    ]
    return f"<section>\n<h2>Steps</h2>\n{table(('Outcome', 'Step', 'Shows that', 'What happened'), rows)}</section>\n"


def _differences(rehearsal: Rehearsal) -> str:
    if not rehearsal.differences:
        return ""
    rows = [(text(each.request), code(each.where), code(each.aws), code(each.lab)) for each in rehearsal.differences]
    head = ("Request", "Where", "AWS", "The lab")
    return f"<section>\n<h2>Differences between AWS and the lab</h2>\n{table(head, rows)}</section>\n"
