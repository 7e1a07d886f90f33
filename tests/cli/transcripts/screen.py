"""What a terminal shows in the end, without what differs from run to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_CONTROL: Final = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+|\x1b")
_FEWEST: Final = 6  # of a name's characters that a narrow column may show
# Same lengths where a table or a paragraph may be laid out around them.
_UNSTABLE: Final = (
    (
        re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
        "-".join("0" * n for n in (8, 4, 4, 4, 12)),
    ),
    (re.compile(r"\b[0-9a-f]{64}\b"), "0" * 64),
    (re.compile(r"\b[0-9a-f]{32}\b"), "0" * 32),
    (re.compile(r"\b(?:AKIA|ASIA|LKIA)[0-9A-Z]{16}\b"), "A" * 20),
    (re.compile(r"\b20[2-9][0-9]-[0-9]{2}-[0-9]{2}(?=T|\b)"), "2000-01-01"),
    (re.compile(r"\b20[2-9][0-9]-[0-9]{2}-…"), "2000-01-…"),
    (re.compile(r"(?<![0-9])[0-9]{2}:[0-9]{2}:[0-9]{2}\b"), "00:00:00"),
    (re.compile(r"(?<![0-9:])[0-9]:[0-9]{2}:[0-9]{2}\b"), "0:00:00"),
    (re.compile(r"\b[0-9]{2}:[0-9]{2}(?=Z| UTC)"), "00:00"),
    (re.compile(r"\b[0-9]+\.[0-9]+ s\b"), "0.0 s"),
    (re.compile(r"((?:key id|live|retired|shredded|opens only) +)[0-9a-f]{12}\b"), rf"\g<1>{'0' * 12}"),
    (re.compile(r"\b[0-9]+ events\b"), "0 events"),
    (re.compile(r"\b[0-9]+ bytes of DEBUG"), "0 bytes of DEBUG"),
    # prove's, which a narrow line cuts off
    (re.compile(r"(?<= )[0-9a-f]{8}$", re.MULTILINE), "0" * 8),
    (re.compile(r"(?<=ok )[0-9a-f]{1,7}…$", re.MULTILINE), "0…"),
    # doctor's, which other releases of the dependencies lay out otherwise
    (re.compile(r"(^ok +versions +)[^\n]*(?:\n +[^\n]*)*", re.MULTILINE), r"\1(versions)"),
)


def settled(shown: str) -> str:
    """Return the lines that stay on a terminal: progress bars are drawn over and erased; colors are left out."""
    lines: list[str] = [""]
    row = column = 0
    for match in _CONTROL.finditer(shown):
        text, (count, command) = match[0], (match[1] or "", match[2])
        if text == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif text == "\r":
            column = 0
        elif command == "A":
            row = max(0, row - int(count or 1))
        elif command == "K":
            lines[row] = "" if count == "2" else lines[row][:column]
        elif command is None and text != "\x1b":
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def stable(text: str, names: Mapping[str, str]) -> str:
    """Return a text with the names of this run, and their parts in narrow columns, replaced; and without times."""
    for name, other in names.items():
        text = text.replace(name, other)
    for pattern, replacement in _UNSTABLE:
        text = pattern.sub(replacement, text)
    # Last, since a part of a name may be one of another random text too.
    for name, other in names.items():
        for size in range(len(name) - 1, _FEWEST - 1, -1):
            for at in range(len(name) - size + 1):
                text = text.replace(name[at : at + size], other[at : at + size])
    return text
