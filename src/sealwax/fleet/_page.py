"""A report as one page: the verdict, what is wrong, where envelopes are and where they go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sealwax._report import Provenance, Verdict, page
from sealwax._report.markup import code, counts, key, table, text
from sealwax._report.page import row
from sealwax._text import printable
from sealwax.fleet._journal import ProblemKind
from sealwax.fleet._report import LISTED, UNKNOWN, FleetReport, Usage
from sealwax.fleet._state import State

_STYLE: Final = """
svg { width: 100%; height: 1.1rem; display: block; print-color-adjust: exact; }
.wanted { fill: var(--good); } .other { fill: var(--unsure); } .track { fill: var(--line); }
td[data-name="State"] { overflow-wrap: break-word; } th:nth-child(2):nth-last-child(2) { width: 45%; }
figure { margin: .75rem 0; break-inside: avoid; }
"""
_MOST_BARS: Final = 40
_TONES: Final = ("bad", "unsure", "good", "")


def as_html(report: FleetReport, verdict: Verdict, made: Provenance) -> str:
    """Return a report as an HTML page."""
    first = "now" if report.verb == "plan" else "when planned"
    then = "after a run" if report.verb == "plan" else "now"
    most = max([1, *(objects for _, _, objects in (*report.before, *report.after))])
    body = "".join(
        (
            _counts(report),
            _problems(report),
            _bars(report, f"Keys {first}", report.before, most),
            _bars(report, f"Keys {then}", report.after, most),
            _contexts(report),
        )
    )
    doing = " (dry run)" if report.dry_run else " of a re-encryption" if report.settings.reencrypt else ""
    return page(f"sealwax fleet {report.verb}{doing}", verdict, made, body, about=_about(report), style=_STYLE)


def _about(report: FleetReport) -> str:
    settings = report.settings
    rows = [
        row("Places" if len(report.locations) > 1 else "Place", "<br>".join(map(code, report.locations))),
        row("From", "<br>".join(_key(report, arn) for arn in settings.sources)),
        row("To", "<br>".join(_key(report, wanted.arn) for wanted in settings.wanted.keys)),
    ]
    if report.verb == "plan" or report.dry_run:
        calls = f"{report.planned_calls:,} KMS call{'s' * (report.planned_calls != 1)}, {report.cost:.4f} USD"
        takes = f"{calls}, {report.seconds:,.0f} s at {report.rate:g} calls per second"
        rows.append(row("Takes", takes if report.planned_calls else ""))
        number = report.objects_to_move
        objects = f"{number:,} object{'s' * (number != 1)}, " if number else ""
        rows.append(row("To move", f"{objects}{report.to_move:,} bytes" if report.to_move or objects else ""))
    elif report.kms_calls:
        rows.append(row("KMS calls", f"{report.kms_calls:,}"))
    return "".join(rows)


def _key(report: FleetReport, arn: str) -> str:
    return key(arn, report.aliases.get(arn, ()))


def _counts(report: FleetReport) -> str:
    """Return what is counted without zeros, what is wrong first."""
    boxes = sorted((item for item in _numbers(report) if item[1]), key=lambda item: _TONES.index(item[0]))
    return counts((tone, f"{number:,}", name.replace("{s}", "s" * (number != 1))) for tone, number, name in boxes)


def _numbers(report: FleetReport) -> Iterable[tuple[str, int, str]]:
    """Yield what is counted: its tone, how many, and what."""
    checked = report.checked
    yield "good", report.fresh, "wrapped as wanted"
    yield "unsure", report.stale - report.failed, "stale"
    yield "bad", report.failed, "failed"
    if report.verb != "plan":
        yield "", report.rewrapped, "re-wrapped"
        yield "", report.reencrypted, "re-encrypted"
        yield "good", report.moved, "moved"
    yield "unsure", report.count(State.LEFT), "left for the next pass"
    yield "bad", report.count(State.DAMAGED), "damaged"
    yield "bad", report.hidden - report.count(State.DAMAGED), "unreadable"
    yield "unsure", report.links, "link{s} not followed"
    if checked is not None:
        compared = "plaintext{s}" if report.settings.reencrypt else "payload{s}"
        yield "bad", len(checked.changed), f"{compared} changed"
        yield "bad", len(checked.undecrypted), "not decrypted"
        yield "good", checked.digests, f"{compared} unchanged"
        yield "good", checked.decrypted, "decrypted"
        yield "good", checked.moved, "moved, and the same as in the envelope{s}"
        yield "", checked.replaced, "replaced since the plan"
        yield "", checked.elsewhere, "not tried: a local context, or a payload stored elsewhere"
        yield "", checked.cbc, "not tried: in AES-CBC, which is re-wrapped and not read"
        yield "", checked.gone, "gone since the plan"
        yield "unsure", len(checked.leftovers), "temporary file{s} of killed processes"
    for region, lacking in report.missing_regions.items():
        yield "unsure", lacking, f"without a wrapped key of {region}"
    yield "", report.count(State.SKIPPED), "skipped"
    for name, count in report.formats.items():
        yield "", count, f"foreign: {printable(name) or UNKNOWN}"
    yield "", report.wrapped, "distinct wrapped key{s}"


def _bars(report: FleetReport, title: str, usage: Usage, most: int) -> str:
    wanted = {key.arn: key.material_id.hex() for key in report.settings.wanted.keys}
    parts = []
    for arn, material, objects in usage[:_MOST_BARS]:
        is_wanted = arn in wanted and (not material or not wanted[arn] or material == wanted[arn])
        width = max(0.5, 100 * objects / most)
        of_material = f' <span class="soft">material {text(material[:12])}</span>' if material else ""
        kind = "wanted" if is_wanted else "not wanted"
        parts.append(
            f"<figure><figcaption>{objects:,} under {_key(report, arn)}{of_material}"
            f' <span class="soft">({kind})</span></figcaption>'
            f'<svg viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label="{objects} envelopes, {kind}">'
            f'<rect class="track" width="100" height="4"/><rect class="{"wanted" if is_wanted else "other"}"'
            f' width="{width:.2f}" height="4"/></svg></figure>\n'
        )
    if len(usage) > _MOST_BARS:
        parts.append(f'<p class="soft">and {len(usage) - _MOST_BARS:,} more</p>\n')
    return f"<section>\n<h2>{title}</h2>\n{''.join(parts)}</section>\n" if parts else ""


def _contexts(report: FleetReport) -> str:
    if not report.frequent:
        return ""
    rows = (
        (
            f"{objects:,}",
            ", ".join(f"{text(name)}={text(value)}" for name, value in context.items()) or "none",
        )
        for context, objects in report.frequent
    )
    more = f", the {len(report.frequent)} most frequent" if report.contexts > len(report.frequent) else ""
    return (
        f"<section>\n<h2>Contexts: {report.contexts:,}{more}</h2>\n{table(('Envelopes', 'Context'), rows)}</section>\n"
    )


def _problems(report: FleetReport) -> str:
    rows: list[tuple[str, str, str]] = [("no envelope", code(place), "") for place in report.empty]
    rows += [(kind.state, _examples(kind), kind.reason) for kind in report.kinds[:LISTED]]
    if others := sum(kind.objects for kind in report.kinds[LISTED:]):
        rows.append((f"{others:,} more", "", "for other reasons"))
    rows += [("ended early", "", report.ended)] if report.ended else []
    rows += [("note", "", note) for note in report.remarks]
    if report.checked is not None:
        checked = report.checked
        advice = "left by a killed process; examine, then remove it"
        wrong = _first("payload changed", ((name, "") for name in checked.changed))
        wrong += _first("not decrypted", checked.undecrypted)
        wrong += _first("not read", checked.unread)
        rows = wrong + rows + _first("temporary file", ((name, advice) for name in checked.leftovers))
    if not rows:
        return ""
    cells = ((text(state), names, text(reason)) for state, names, reason in rows)
    return f"<section>\n<h2>Problems and notes</h2>\n{table(('State', 'Object', 'Why'), cells)}</section>\n"


def _examples(kind: ProblemKind) -> str:
    """Return the names of objects of one kind, and how many more there are."""
    rest = kind.objects - len(kind.examples or ("",))
    return "<br>".join((*map(code, kind.examples), *([f"and {rest:,} more"] if rest else ())))


def _first(state: str, every: Iterable[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Return rows of the first objects that a verification names, and how many more there are."""
    named = list(every)
    rest = len(named) - LISTED
    rows = [(state, code(name), why) for name, why in named[:LISTED]]
    return [*rows, (state, f"and {rest:,} more", "")] if rest > 0 else rows
