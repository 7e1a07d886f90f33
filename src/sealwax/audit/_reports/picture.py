"""Who can use which key, and how: a picture of principals and keys, and the same as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sealwax.audit._report import Access
from sealwax.audit._reports import markup
from sealwax.audit._reports.texts import plain

USES: Final = ("administer", "decrypt", "encrypt", "grant")
# More than this nobody takes in at a glance; the table has all.
MOST_KEYS: Final = 24
MOST_PRINCIPALS: Final = 60

_CELL: Final = 18  # a square of one use, in pixels
_GAP: Final = 14  # between keys
_ROW: Final = 22
_LETTER: Final = 7.3  # the width of a character
_MOST_LETTERS: Final = 38


def draw(access: Sequence[Access]) -> str:
    """Return the section; empty where nothing is known."""
    if not access:
        return ""
    keys = list(dict.fromkeys(one.key for one in access))
    # Who reaches the most stands first.
    reach: dict[str, int] = {}
    for one in access:
        reach[one.principal] = reach.get(one.principal, 0) + len(one.uses)
    principals = sorted(reach, key=lambda name: (-reach[name], name))
    legend = "".join(f'<li class="{use}"><b>{use[0].upper()}</b>{use}</li>' for use in USES)
    left_out = ""
    if len(keys) > MOST_KEYS or len(principals) > MOST_PRINCIPALS:
        left_out = (
            f'<p class="soft">The picture shows the first {min(len(keys), MOST_KEYS)} of {len(keys):,} keys and the '
            f"{min(len(principals), MOST_PRINCIPALS)} of {len(principals):,} principals that reach the most.</p>\n"
        )
    return (
        f'<section>\n<h2>Who can use which key</h2>\n<ul class="legend">{legend}</ul>\n{left_out}'
        f'<div class="wide" tabindex="0" role="group" aria-label="Picture of who can use which key">\n'
        f"{_svg(access, keys[:MOST_KEYS], principals[:MOST_PRINCIPALS])}</div>\n"
        "<details><summary>The same as a table, with what allows it</summary>\n"
        f"{_table(access)}</details>\n</section>\n"
    )


def _svg(access: Sequence[Access], keys: Sequence[str], principals: Sequence[str]) -> str:
    uses = {(one.key, one.principal): one.uses for one in access}
    names = [_short(name) for name in principals]
    left = 8 + _LETTER * max(map(len, names))
    step = len(USES) * _CELL + _GAP
    width, height = left + step * len(keys), 2 * _ROW + _ROW * len(principals)
    heads = "".join(
        f'<text x="{left + step * column:.0f}" y="{14 + 14 * line}">{markup.text(part)}'
        f"<title>{markup.text(key)}</title></text>"
        for column, key in enumerate(keys)
        for line, part in enumerate(_key_name(key))
    )
    rows = "".join(
        f'<g class="row"><rect class="band" y="{2 * _ROW + _ROW * number}" width="{width:.0f}" height="{_ROW}"/>'
        f'<text y="{2 * _ROW + _ROW * number + 15}">{markup.text(name)}<title>{markup.text(principal)}</title></text>'
        + "".join(
            _cell(left + step * column, 2 * _ROW + _ROW * number + 3, uses.get((key, principal), ()))
            for column, key in enumerate(keys)
        )
        + "</g>\n"
        for number, (principal, name) in enumerate(zip(principals, names, strict=True))
    )
    label = f"{len(principals)} principals and {len(keys)} keys; the table below says the same"
    return (
        f'<svg role="img" aria-label="{label}" width="{width:.0f}" height="{height}"'
        f' viewBox="0 0 {width:.0f} {height}">\n{heads}\n{rows}</svg>\n'
    )


def _cell(x: float, y: float, uses: Sequence[str]) -> str:
    parts = []
    for place, use in enumerate(USES):
        at = x + place * _CELL
        on = use in uses
        parts.append(
            f'<rect class="{use if on else "off"}" x="{at:.0f}" y="{y:.0f}" width="{_CELL - 1}" height="{_ROW - 6}"/>'
        )
        if on:
            letter = use[0].upper()
            parts.append(f'<text class="on" x="{at + (_CELL - 1) / 2:.1f}" y="{y + 13:.0f}">{letter}</text>')
    return "".join(parts)


def _short(principal: str) -> str:
    """Return a principal's name without what all have in common."""
    parts = principal.split(":", 5)
    shown = plain(f"{parts[4]} {parts[5]}" if len(parts) == 6 and parts[0] == "arn" else principal).replace("\n", " ")
    shown = "everybody" if shown == "*" else shown
    return shown if len(shown) <= _MOST_LETTERS else f"{shown[: _MOST_LETTERS - 1]}…"


def _key_name(key: str) -> tuple[str, str]:
    """Return the Region and the beginning of the id, which is as much as fits."""
    parts = key.split(":", 5)
    if len(parts) != 6:
        return "", plain(key).replace("\n", " ")[:10]
    region, identifier = plain(parts[3]), plain(parts[5].removeprefix("key/")).replace("\n", " ")
    return region[:10], identifier[:8] if not identifier.startswith("mrk-") else identifier[4:12]


def _table(access: Sequence[Access]) -> str:
    rows = (
        (markup.code(one.principal), ", ".join(one.uses), markup.code(one.key), "<br>".join(map(markup.text, one.by)))
        for one in access
    )
    return markup.table(("Principal", "May", "Key", "By"), rows)
