"""The pages that have the figures of a run: docs/explanation/speed.md, and five of them in README.md.

``python -m benchmarks --write`` measures and writes them, so that no figure is typed and all are of one run.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from benchmarks.measure import Row, line_of

_ROOT: Final = Path(__file__).parents[1]
PAGE: Final = _ROOT / "docs/explanation/speed.md"
README: Final = _ROOT / "README.md"
# The parts of the page, and which rows each has: the first that matches.
_PARTS: Final = {
    "columns": r"^(records|models): ",
    "messages": r"^ESDK, ",
    "s3": r"^S3EC, |S3 object|^the same, moved",
    "fleets": r"^plan, |small files|^re-wrap, one file",
    "streams": r"streamed$|file to file|^re-wrap, |^64 KiB out of",
    "values": r" value\b|^encrypt_many, ",
    "programs": r"^import |start|^GenerateDataKey, |files, KMS|^audit, ",
}
_SDK: Final = "aws-encryption-sdk"
# A row of the README: what it says, what was measured, and the peers of its two other columns.
_FIVE: Final = (
    ("seal a value of 1 KiB, data key cached", "encrypt, 1 KiB value, key cached", f"{_SDK} caching, unsigned", "tink"),
    ("encrypt a stream of 256 MiB", "encrypt, 256 MiB streamed", f"{_SDK} unsigned", "tink"),
    ("decrypt it", "decrypt, 256 MiB streamed", f"{_SDK} unsigned", "tink"),
    ("open a column's value of 256 bytes", "records: open, 256 B", "", "Tink"),
    ("move a file of 16 MiB to another key", "re-wrap, one file of 16 MiB", f"{_SDK}, again", ""),
)


def write(rows: Sequence[Row], machine: str, page: Path = PAGE, readme: Path = README) -> None:
    """Put the figures of a run between the marks of both pages.

    Raises:
        ValueError: a row belongs to no part of the page, or a page lacks a mark.
    """
    parts: dict[str, list[Row]] = {name: [] for name in _PARTS}
    for row in rows:
        parts[_part_of(row)].append(row)
    tables = {name: _table(found) for name, found in parts.items()}
    versions, where = machine.split("\n")
    _replace(page, {"machine": textwrap.wrap(f"Measured with {versions}, on {where}.", 140), **tables})
    _replace(readme, {"five": list(_five(rows))})


def _part_of(row: Row) -> str:
    for name, pattern in _PARTS.items():
        if re.search(pattern, row.what):
            return name
    raise ValueError(f"{row.what!r} belongs to no part of the page: name one in benchmarks/report.py")


def _table(rows: Sequence[Row]) -> list[str]:
    lines = ["| | sealwax | others, and how many times as fast sealwax is |", "|---|---|---|"]
    for _, peers in groupby(rows, lambda row: row.what):
        together = list(peers)
        first = line_of(together[0])
        others = "; ".join(f"{peer} {its} ({ratio})" for _, _, peer, its, ratio, *_ in map(line_of, together) if peer)
        lines.append(f"| {first[0]} | {_shown(first[1])} | {_shown(others)} |")
    return lines


def _shown(figure: str) -> str:
    return re.sub(r"(\d) us\b", r"\1 µs", figure)


def _five(rows: Iterable[Row]) -> Iterable[str]:
    lines = {(row.what, row.peer): line_of(row) for row in rows}
    ours = {what: line[1] for (what, _), line in lines.items()}
    yield "| | sealwax | AWS Encryption SDK | Tink |"
    yield "|---|---|---|---|"
    for says, what, *peers in _FIVE:
        theirs = [_shown(lines[what, peer][3]) if peer else "-" for peer in peers]
        yield f"| {says} | {_shown(ours[what])} | {' | '.join(theirs)} |"


def _replace(page: Path, parts: Mapping[str, Sequence[str]]) -> None:
    text = page.read_text(encoding="utf-8")
    for name, lines in parts.items():
        begin, end = f"<!-- measured: {name} -->\n", f"<!-- end of {name} -->\n"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{page.name} lacks the marks of {name!r}")
        text = f"{head}{begin}\n" + "\n".join(lines) + f"\n\n{end}{tail}"
    page.write_text(text, encoding="utf-8")
