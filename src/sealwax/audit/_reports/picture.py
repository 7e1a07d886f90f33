"""Who can use which key, and how: a picture of principals and keys, and the same as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from sealwax._report import markup
from sealwax._report.markup import plain
from sealwax.audit._report import Audit
from sealwax.audit._reports.texts import named

USES: Final = ("administer", "decrypt", "encrypt", "grant")
# More would be unreadable. The table has all of them.
MAX_KEYS: Final = 24
MAX_PRINCIPALS: Final = 60

_CELL: Final = 18  # the square of a use, in pixels
_GAP: Final = 14  # between keys
_ROW: Final = 22
_OF_ALIAS: Final = ' class="alias"'
_LETTER: Final = 7.3  # the width of a character
_MAX_LETTERS: Final = 38
_MAX_ALIAS: Final = 11
_HEAD: Final = 58  # alias, Region and id of the keys


def draw(audit: Audit) -> str:
    """Return the section, empty if nothing is known."""
    access = audit.access
    if not access:
        return ""
    keys = list(dict.fromkeys(entry.key for entry in access))
    # The principals with the most access come first.
    reach: Counter[str] = Counter()
    for entry in access:
        reach[entry.principal] += len(entry.uses)
    principals = sorted(reach, key=lambda name: (-reach[name], name))
    legend = "".join(f'<li class="{use}"><b>{use[0].upper()}</b>{use}</li>' for use in USES)
    cut = [f"the first {MAX_KEYS} of {len(keys):,} keys"] if len(keys) > MAX_KEYS else []
    if len(principals) > MAX_PRINCIPALS:
        cut.append(f"the {MAX_PRINCIPALS} of {len(principals):,} principals with the most access")
    left_out = f'<p class="soft">The picture shows {" and ".join(cut)}.</p>\n' if cut else ""
    return (
        f'<section>\n<h2>Who can use which key</h2>\n<ul class="legend">{legend}</ul>\n{left_out}'
        f'<div class="wide" tabindex="0" role="group" aria-label="Picture of who can use which key">\n'
        f"{_svg(audit, keys[:MAX_KEYS], principals[:MAX_PRINCIPALS])}</div>\n"
        '<details class="screen"><summary>The same as a table, with what allows it</summary>\n'
        f"{_table(audit)}</details>\n</section>\n"
    )


def _svg(audit: Audit, keys: Sequence[str], principals: Sequence[str]) -> str:
    uses = {(entry.key, entry.principal): entry.uses for entry in audit.access}
    names = [_short(name) for name in principals]
    left = 8 + _LETTER * max(map(len, names))
    step = len(USES) * _CELL + _GAP
    width, height = left + step * len(keys), _HEAD + _ROW * len(principals)
    heads = "".join(
        f'<text x="{left + step * column:.0f}" y="{14 + 14 * line}"{"" if line else _OF_ALIAS}>{markup.text(part)}'
        f"<title>{markup.text(named(audit, key))}</title></text>"
        for column, key in enumerate(keys)
        for line, part in enumerate((_alias(audit, key), *_key_name(key)))
        if part
    )
    rows = "".join(
        f'<g class="row"><rect class="band" y="{_HEAD + _ROW * number}" width="{width:.0f}" height="{_ROW}"/>'
        f'<text y="{_HEAD + _ROW * number + 15}">{markup.text(name)}<title>{markup.text(principal)}</title></text>'
        + "".join(
            _cell(left + step * column, _HEAD + _ROW * number + 3, uses.get((key, principal), ()))
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
    """Return the name of a principal without the parts that all ARNs have."""
    parts = principal.split(":", 5)
    shown = plain(f"{parts[4]} {parts[5]}" if len(parts) == 6 and parts[0] == "arn" else principal).replace("\n", " ")
    shown = "everyone" if shown == "*" else shown
    return shown if len(shown) <= _MAX_LETTERS else f"{shown[: _MAX_LETTERS - 1]}…"


def _alias(audit: Audit, key: str) -> str:
    """Return the first alias of a key, as much as fits."""
    name = plain(next(iter(audit.aliases.get(key, ())), "").removeprefix("alias/")).replace("\n", " ")
    return name if len(name) <= _MAX_ALIAS else f"{name[: _MAX_ALIAS - 1]}…"


def _key_name(key: str) -> tuple[str, str]:
    """Return the Region and the start of the id, as much as fits."""
    parts = key.split(":", 5)
    if len(parts) != 6:
        return "", plain(key).replace("\n", " ")[:10]
    region, identifier = plain(parts[3]), plain(parts[5].removeprefix("key/")).replace("\n", " ")
    return region[:10], identifier[:8] if not identifier.startswith("mrk-") else identifier[4:12]


def _table(audit: Audit) -> str:
    rows = (
        (
            markup.code(entry.principal),
            ", ".join(entry.uses),
            markup.key(entry.key, audit.aliases.get(entry.key, ())),
            "<br>".join(map(markup.text, entry.by)),
        )
        for entry in audit.access
    )
    return markup.table(("Principal", "Can", "Key", "By"), rows)
