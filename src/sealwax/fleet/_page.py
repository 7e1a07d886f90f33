"""A report as one self-contained HTML page, without scripts, fonts or pictures from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Final

from sealwax._text import printable
from sealwax.fleet._report import LISTED, UNKNOWN, FleetReport, Usage
from sealwax.fleet._state import State

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2430; --paper: #fff; --soft: #667; --line: #d5d9e0;
  --new: #0a7d5a; --old: #c2410c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --paper: #14181f; --soft: #9aa3b2; --line: #333b48; --new: #3ccf9b; --old: #f7935a; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --paper: #fff; --soft: #444; --line: #bbb; --new: #0a7d5a; --old: #c2410c; }
  section, figure { break-inside: avoid; }
}
body { font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .75rem; margin: 1rem 0; }
dl div { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .75rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
code, td, .key { overflow-wrap: anywhere; } .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; }
td { text-align: left; border-bottom: 1px solid var(--line); padding: .3rem .5rem .3rem 0; vertical-align: top; }
svg { width: 100%; height: 1.1rem; display: block; print-color-adjust: exact; }
.new { fill: var(--new); } .old { fill: var(--old); } .line { fill: var(--line); }
figure { margin: .75rem 0; }
"""
_MOST_BARS: Final = 40


def as_html(report: FleetReport) -> str:
    """Return a report as an HTML page."""
    title = f"sealwax fleet {report.verb}"
    places = ", ".join(f"<code>{_shown(place)}</code>" for place in report.locations)
    then = "after a run" if report.verb == "plan" else "now"
    first = "now" if report.verb == "plan" else "when planned"
    most = max([1, *(objects for _, _, objects in (*report.before, *report.after))])
    wanted = {key.arn: key.material_id.hex() for key in report.settings.wanted.keys}
    return "".join(
        (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style></head><body><h1>{title}</h1><p>{places}</p>",
            _figures(report),
            f"<section><h2>Keys {first}</h2>{_bars(report.before, most, wanted)}</section>",
            f"<section><h2>Keys {then}</h2>{_bars(report.after, most, wanted)}</section>",
            _contexts(report),
            _problems(report),
            "</body></html>\n",
        )
    )


def _shown(text: str) -> str:
    return escape(printable(text))


def _figures(report: FleetReport) -> str:
    rows: list[tuple[str, str]] = [
        ("objects", f"{report.objects:,}"),
        ("stale", f"{report.stale:,}"),
        ("fresh", f"{report.fresh:,}"),
        ("re-encrypted", f"{report.reencrypted:,}")
        if report.settings.reencrypt
        else ("re-wrapped", f"{report.rewrapped:,}"),
        ("failed", f"{report.failed:,}"),
        ("left for the next pass", f"{report.count(State.LEFT):,}"),
        ("skipped", f"{report.count(State.SKIPPED):,}"),
        ("foreign", f"{report.count(State.FOREIGN):,}"),
        *((f"foreign: {_shown(name) or UNKNOWN}", f"{count:,}") for name, count in report.formats.items()),
        ("damaged", f"{report.count(State.DAMAGED):,}"),
        ("unreadable", f"{report.hidden - report.count(State.DAMAGED):,}"),
        ("links", f"{report.links:,}"),
        ("distinct wrapped keys", f"{report.wrapped:,}"),
        ("KMS calls", f"{report.kms_calls:,}"),
    ]
    if report.verb == "plan":
        rows += [
            ("cost", f"{report.cost:.4f} USD"),
            (f"at {report.rate:g} calls per second", f"{report.seconds:,.0f} s"),
        ]
        rows += [("bytes to move", f"{report.to_move:,}")] * report.settings.reencrypt
    if report.checked is not None:
        compared = "plaintexts" if report.settings.reencrypt else "payloads"
        rows += [
            (f"{compared} unchanged", f"{report.checked.digests:,}"),
            (f"{compared} changed", f"{len(report.checked.changed):,}"),
            ("decrypted", f"{report.checked.decrypted:,}"),
            ("not decrypted", f"{len(report.checked.undecrypted):,}"),
            ("replaced since the plan", f"{report.checked.replaced:,}"),
            ("gone", f"{report.checked.gone:,}"),
            ("temporary files of killed processes", f"{len(report.checked.leftovers):,}"),
        ]
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in rows)}</dl>"


def _bars(usage: Usage, most: int, wanted: dict[str, str]) -> str:
    parts = []
    for arn, material, objects in usage[:_MOST_BARS]:
        is_new = arn in wanted and (not material or not wanted[arn] or material == wanted[arn])
        width = max(0.5, 100 * objects / most)
        of_material = f' <span class="soft">material {_shown(material[:12])}</span>' if material else ""
        kind = "wanted" if is_new else "not wanted"
        parts.append(
            f'<figure><figcaption class="key">{objects:,} under {_shown(arn)}{of_material}'
            f' <span class="soft">({kind})</span></figcaption>'
            f'<svg viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label="{objects} envelopes, {kind}">'
            f'<rect class="line" width="100" height="4"/><rect class="{"new" if is_new else "old"}"'
            f' width="{width:.2f}" height="4"/></svg></figure>'
        )
    if len(usage) > _MOST_BARS:
        parts.append(f'<p class="soft">and {len(usage) - _MOST_BARS} more</p>')
    return "".join(parts) or '<p class="soft">none</p>'


def _contexts(report: FleetReport) -> str:
    rows = "".join(
        f"<tr><td>{objects:,}</td><td>"
        + (", ".join(f"{_shown(name)}={_shown(value)}" for name, value in context.items()) or "none")
        + "</td></tr>"
        for context, objects in report.frequent
    )
    return f"<section><h2>Contexts: {report.contexts:,} distinct</h2><table>{rows}</table></section>"


def _problems(report: FleetReport) -> str:
    rows = [
        *((state, name, reason) for name, state, reason in report.problems),
        *(("empty location", place, "no envelope found") for place in report.empty),
        *((("ended", "", report.ended),) if report.ended else ()),
        *(("note", "", note) for note in report.notes),
    ]
    if report.checked is not None:
        checked = report.checked
        rows += [("payload changed", name, "") for name in checked.changed[:LISTED]]
        rows += [("not read", name, why) for name, why in checked.unread[:LISTED]]
        rows += [("not decrypted", name, why) for name, why in checked.undecrypted[:LISTED]]
        advice = "left by a killed process; examine, then remove it"
        rows += [("temporary file", name, advice) for name in checked.leftovers[:LISTED]]
    shown = "".join(f"<tr>{''.join(f'<td>{_shown(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<section><h2>Problems</h2><table>{shown}</table></section>" if rows else ""
