"""What the commands of sealwax fleet warn of, and the exit statuses that it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sealwax._text import printable
from sealwax.cli import PARTLY_DONE, console, fleet_reports
from sealwax.cli.console import counted

if TYPE_CHECKING:
    from sealwax.fleet import FleetReport

_FAILED: Final = 1
_PAYLOAD_STATUS: Final = 5
_CONTEXT_STATUS: Final = 6
_HIDDEN: Final = ("unreadable", "damaged", "unlisted")
_LINKS: Final = ("link",)
_REFUSED: Final = ("refused",)


def of_verification(report: FleetReport, decrypt: int) -> int:
    """Print what a verification found wrong, and return the exit status.

    Args:
        decrypt: how many envelopes were to be decrypted.
    """
    checked = report.checked
    assert checked is not None
    status = of_objects(report)
    if checked.changed:
        console.warn(f"{counted(len(checked.changed), fleet_reports.compared(report))} changed since the plan")
    if checked.undecrypted:
        console.warn(f"{counted(len(checked.undecrypted), fleet_reports.noun(report))} failed to decrypt")
    if checked.changed or checked.undecrypted:
        return _PAYLOAD_STATUS
    if report.nothing and checked.gone:
        console.warn(f"every object of the plan is gone ({checked.gone:,}); check that its places are unchanged")
    if decrypt and (checked.elsewhere or checked.cbc) and not checked.decrypted:
        closed = [f"{counted(checked.elsewhere, 'envelope')} with local pairs or a detached payload"]
        unread = [f"{counted(checked.cbc, 'object')} in AES-CBC, which is re-wrapped and not read"]
        why = ", and ".join(closed * bool(checked.elsewhere) + unread * bool(checked.cbc))
        console.warn(f"decrypted none of {decrypt:,}: {why}")
        status = PARTLY_DONE
    if report.stale:
        stale = counted(report.stale, fleet_reports.noun(report))
        console.warn(f"stale: {stale}; run `sealwax fleet run --apply --stale` on this plan")
        return PARTLY_DONE
    return status


def of_objects(report: FleetReport) -> int:
    """Print what was not checked or found, and return the exit status, leaving stale envelopes aside."""
    for place in report.empty:
        console.warn(f"no envelopes found in '{printable(place)}'; check the place")
    if report.missed:
        reasons = [reason for _, state, reason in report.problems if state == "skipped"]
        first = f"; the first: {fleet_reports.in_commands(reasons[0])}" if reasons else ""
        skipped = counted(report.count("skipped"), fleet_reports.noun(report))
        console.warn(
            f"skipped {skipped}, because none has the context of the plan{first}; check the plan's -c and WHERE"
        )
    if report.hidden:
        console.warn(
            f"{counted(report.hidden, 'object')} could not be read or listed, and may be stale{_named(report, _HIDDEN)}"
        )
    if report.links:
        console.warn(
            f"did not follow {counted(report.links, 'link')}, so the targets were not checked{_named(report, _LINKS)}"
        )
    if report.blind:
        console.warn("old key material cannot be detected: " + report.notes[0])
    # A run says so of every stale envelope.
    unmovable = report.count("refused") if report.verb == "plan" or report.dry_run else 0
    if unmovable:
        cannot = f"{counted(unmovable, fleet_reports.noun(report))} cannot be {fleet_reports.done_word(report)}"
        console.warn(cannot + _named(report, _REFUSED))
    if report.missed:
        return _CONTEXT_STATUS
    if report.hidden or report.blind or unmovable:
        return PARTLY_DONE
    if report.nothing:
        return _FAILED
    return PARTLY_DONE if report.links or report.empty else 0


def _named(report: FleetReport, states: Sequence[str]) -> str:
    """Return the first object in these states, and why; -q and --json print nothing else about it."""
    for name, state, reason in report.problems:
        if state in states:
            return f"; the first: {printable(name)}{': ' if name and reason else ''}{fleet_reports.in_commands(reason)}"
    return ""
