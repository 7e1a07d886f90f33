"""How a fleet stands, what to do next, and its reports as text, JSON and page."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Final

from sealwax._report import Provenance, Tone, Verdict
from sealwax._text import printable
from sealwax.cli import console
from sealwax.cli.console import counted
from sealwax.cli.reporting import Reports, command
from sealwax.cli.state import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealwax.fleet import FleetReport

FORMS: Final = ("html", "json")
_MOST_NAMED: Final = 3


def verdict_of(report: FleetReport, plan: str) -> Verdict:
    """Return how a fleet stands and what to do next.

    Args:
        plan: the name of the plan file, as typed.
    """
    tone, says = _standing(report)
    advice, command = _next(report, plan)
    return Verdict(tone, says, advice, command)


def show(report: FleetReport, plan: str, as_json: bool, reports: Reports, made: Callable[[], Provenance]) -> None:
    """Print a report, its verdict last, and write those that --report asks for."""
    verdict = verdict_of(report, plan)
    facts = report.as_dict() | verdict.as_dict()
    if as_json:
        console.print_json(facts)
    elif not reports.on_stdout and (report.verb == "status" or not current().quiet):
        more = any(kind.objects > len(kind.examples or "-") for kind in report.kinds)
        listing = [f"  list all: {command('fleet', 'status', plan, '--list')}"] if more else []
        console.print("\n".join((in_commands(str(report)), *listing, *verdict.lines())))
    if reports:
        origin = made()
        kinds = tuple(dataclasses.replace(kind, reason=in_commands(kind.reason)) for kind in report.kinds)

        def render(form: str) -> str:
            from sealwax.fleet._page import as_html

            if form == "json":
                return json.dumps(facts | {"made": origin.as_dict()}) + "\n"
            return as_html(dataclasses.replace(report, kinds=kinds), verdict, origin)

        reports.write(render)


def in_commands(text: str) -> str:
    """Return what the library says about a fleet, with commands and options in place of its own words."""
    return console.in_options(console.in_commands(text))


def regions(report: FleetReport) -> list[str]:
    """Return the Regions of a fleet's keys."""
    return [arn.split(":")[3] for arn in (*report.settings.sources, *(key.arn for key in report.settings.wanted.keys))]


def _standing(report: FleetReport) -> tuple[Tone, str]:
    """Return how a fleet stands in one sentence: first what is wrong."""
    checked = report.checked
    if report.nothing:
        gone = f": every object of the plan is gone ({checked.gone:,})" if checked and checked.gone else ""
        return "bad", f"There is no envelope in {_named(report.locations)}{gone}"
    if report.missed:
        skipped = report.count("skipped")
        if skipped == 1:
            return "bad", f"The only {noun(report)} does not have the context of the plan"
        return "bad", f"None of the {skipped:,} {noun(report)}s has the context of the plan"
    wrong, open_ = _wrong(report), _unchecked(report)
    if wrong or open_ or report.stale:
        parts = wrong + ([] if report.failed and report.failed == report.stale else _stale(report)) + open_
        sentence = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, and {parts[-1]}"
        if report.dry_run:
            return "bad" if wrong else "unsure", f"Dry run: nothing was written; {sentence}"
        return "bad" if wrong else "unsure", sentence[0].upper() + sentence[1:]
    return "good", f"{'Dry run: nothing was written; ' * report.dry_run}{_all_well(report)}"


def _wrong(report: FleetReport) -> list[str]:
    checked = report.checked
    parts = []
    if checked and checked.changed:
        parts.append(f"{counted(len(checked.changed), compared(report))} changed since the plan")
    if checked and checked.undecrypted:
        parts.append(f"{counted(len(checked.undecrypted), noun(report))} failed to decrypt")
    if report.failed:
        every = _every(report)
        can, cannot = ("can", "cannot") if report.verb == "plan" else ("could", "could not")
        if 1 < every == report.failed:
            parts.append(f"none of the {every:,} {noun(report)}s {can} be {done_word(report)}")
        else:
            parts.append(f"{_of_all(report, report.failed)} {cannot} be {done_word(report)}")
    return parts


def _stale(report: FleetReport) -> list[str]:
    stale = report.stale - (0 if report.verb == "verify" else report.failed)
    if not stale:
        return []
    word, be = done_word(report), "is" if stale == 1 else "are"
    if report.dry_run:
        return [f"{_of_all(report, stale)} would be {word}"]
    if report.verb == "plan":
        return [f"{_of_all(report, stale)} {'has' if stale == 1 else 'have'} to be {word}{_to(report)}"]
    because = f", because {report.ended}" if report.ended else ""
    return [f"{_of_all(report, stale)} {be} still stale{because}"]


def _unchecked(report: FleetReport) -> list[str]:
    parts = []
    damaged = report.count("damaged")
    if damaged:
        parts.append(f"{counted(damaged, noun(report))} {'has' if damaged == 1 else 'have'} a damaged header")
    if report.hidden > damaged:
        parts.append(f"{counted(report.hidden - damaged, 'object')} could not be read or listed")
    if report.links:
        parts.append(f"{counted(report.links, 'link')} {'was' if report.links == 1 else 'were'} not followed")
    if report.empty:
        parts.append(f"there is no envelope in {_named(report.empty)}")
    if _sampled_none(report):
        parts.append(f"no {noun(report)} of the sample could be decrypted here")
    if report.blind:
        parts.append("old key material cannot be detected")
    return parts


def compared(report: FleetReport) -> str:
    return "plaintext" if report.settings.reencrypt else "payload"


def _sampled_none(report: FleetReport) -> bool:
    """Whether none of the envelopes to decrypt could be decrypted with what a verification knows."""
    checked = report.checked
    if checked is None or checked.decrypted or checked.undecrypted:
        return False
    return bool(checked.elsewhere or checked.cbc)


def _all_well(report: FleetReport) -> str:
    done = report.fresh + report.count("moved")
    if not done:
        return "No envelope is left"
    word = " re-encrypted" if report.settings.reencrypt else " moved or" if report.count("moved") else ""
    text = f"{_of_all(report, done)} {'is' if done == 1 else 'are'}{word}{_to(report)}"
    checked, besides = report.checked, []
    if checked and checked.digests:
        text += (
            f", and {counted(checked.digests, compared(report))} {'is' if checked.digests == 1 else 'are'} unchanged"
        )
    if checked and checked.decrypted:
        besides.append(f"{checked.decrypted:,} decrypted")
    if checked and checked.moved:
        besides.append(f"{checked.moved:,} moved and compared with their envelopes")
    if checked and checked.gone:
        besides.append(f"{counted(checked.gone, 'object')} of the plan no longer there")
    if skipped := report.count("skipped"):
        besides.append(f"{counted(skipped, noun(report))} with another context skipped")
    text += f" ({'; '.join(besides)})" if besides else ""
    return text if report.dry_run else text[0].upper() + text[1:]


def _to(report: FleetReport) -> str:
    """Return where envelopes belong: under these keys, by alias if one was typed."""
    return f" under {_named([_short(report, key.arn) for key in report.settings.wanted.keys])}"


def _short(report: FleetReport, arn: str) -> str:
    return next(iter(report.aliases.get(arn, ())), arn)


def _named(names: list[str] | tuple[str, ...]) -> str:
    names = [printable(name) for name in names]
    rest = len(names) - _MOST_NAMED
    shown = names if rest <= 0 else [*names[:_MOST_NAMED], f"{rest:,} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _of_all(report: FleetReport, count: int) -> str:
    every = _every(report)
    if count == every:
        return f"the only {noun(report)}" if every == 1 else f"all {every:,} {noun(report)}s"
    return f"{count:,} of {counted(every, noun(report))}"


def _every(report: FleetReport) -> int:
    return report.fresh + report.stale + report.count("moved")


def noun(report: FleetReport) -> str:
    """Return what a plan is about: envelopes, or objects of other formats too."""
    return "object" if report.settings.also else "envelope"


def done_word(report: FleetReport) -> str:
    """Return what a run does to envelopes, and to objects of other formats."""
    if report.settings.move:
        return "re-wrapped or moved"
    return "re-encrypted" if report.settings.reencrypt else "re-wrapped"


def _next(report: FleetReport, plan: str) -> tuple[str, str]:
    """Return what to do next: advice, and a command to paste."""
    apply = command("fleet", "run", plan, "--apply")
    again = command("fleet", "run", plan, "--stale", "--apply")
    checked = report.checked
    if report.missed:
        return "check the context (-c) and the places, then plan again with --force", ""
    if report.nothing:
        return "check the names of the places and whether they are mounted, then plan again with --force", ""
    if checked and (checked.changed or checked.undecrypted):
        return "find out who changed the objects listed, and restore them from a backup", ""
    if _only_moves(report):
        return "to make envelopes of what cannot be re-wrapped, plan again with --move", ""
    if report.failed and report.count("refused") == report.stale:
        return "fix the causes listed, and plan again", ""
    if report.failed and report.verb == "plan":
        return "fix the causes listed and plan again, or go on with the rest", apply
    if report.failed:
        return "fix the causes listed, and run again", apply
    if report.stale and report.verb == "run" and report.count("left") == report.stale:
        return "see why each was left, and run again", apply
    if report.stale:
        return "", again if report.verb == "verify" else apply
    if report.verb == "plan" and report.missing_regions and not report.settings.add_regions:
        return "add the missing Regions with --add-region (kms:Decrypt and kms:Encrypt), if they are needed", ""
    seen = report.hidden or report.links
    if not report.done or _sampled_none(report):
        return _see(report), command("fleet", "status", plan, "--list") if seen else ""
    if report.verb != "verify":
        return "", command("fleet", "verify", plan)
    if report.count("moved"):
        return "once nothing reads the originals any more, remove them", _remove(report, plan)
    return _retire(report, plan)


def _only_moves(report: FleetReport) -> bool:
    """Whether a plan that does not move refuses nothing but what can be moved."""
    from sealwax.fleet._moving import NOT_MOVED

    refused = [kind for kind in report.kinds if kind.state == "refused"]
    return bool(refused) and all(kind.reason == NOT_MOVED for kind in refused)


def _see(report: FleetReport) -> str:
    if report.hidden:
        return "restore or remove what is damaged, make the rest readable, and run this again; to list them"
    if report.links:
        return "plan again, and add the targets of the links as places; to list them"
    if report.empty:
        return "check the names of the places without envelopes, then plan again"
    if report.blind:
        return "allow kms:DescribeKey and kms:ListKeyRotations on the keys of --to, then plan again"
    if report.checked is not None and not report.checked.elsewhere:
        return "read objects in AES-CBC with the program that wrote them: sealwax only re-wraps them"
    return "use `sealwax verify` to check envelopes with a local context or a detached payload"


def _remove(report: FleetReport, plan: str) -> str:
    """Return the command that removes the originals of a fleet's moves. The plan is its journal."""
    settings, move = report.settings, report.settings.move
    assert move is not None
    words = ["migrate", "--remove", "--journal", plan]
    words += [word for arn in settings.sources for word in ("--key", arn)]
    words += [word for key in settings.wanted.keys for word in ("--to", key.arn)]
    pairs = [*settings.contexts.pairs]
    literal = [(name, value) for name, value in pairs if not re.search(r"[*{\\]", value)]
    words += [f"--context={name}={value}" for name, value in literal]
    # What the plan accepted has become the envelope's context, and both are read again.
    if settings.contexts.accept_stored or len(literal) < len(pairs):
        words.append("--accept-stored-context")
    elif not pairs:
        words.append("--no-context")
    words += [word for name in move.allow_legacy for word in ("--allow-legacy", name)]
    words += ["--drop-signature"] * move.drop_signature
    words += ["--into", move.into] if move.into else []
    words += ["--suffix", settings.contexts.suffix] if settings.contexts.suffix != ".swx" else []
    return command(*words, "--recursive", *report.originals)


def _retire(report: FleetReport, plan: str) -> tuple[str, str]:
    """Return how to take an old key out of use, once nothing is under it."""
    used = {arn for arn, _, _ in report.after}
    wanted = {key.arn for key in report.settings.wanted.keys}
    old = [arn for arn in report.settings.sources if arn not in used | wanted]
    if not old:
        return "nothing to do now; to repeat it on a schedule", command("fleet", "run", plan, "--stale", "--apply")
    each = "for each old key" if len(old) > 1 else ""
    # Objects of the S3 Encryption Client do not name their key.
    ask = ("--ask-kms",) if report.settings.also else ()
    return each, command("keys", "retire", _short(report, old[0]), "--scan", plan, *ask)
