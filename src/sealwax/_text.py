"""Text that is safe to show on a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

# In a message: what is quoted; a request id; a number.
_PARTS: Final = re.compile(r"'(?P<quoted>[^']*)'|request id (?P<id>[\w-]+)|(?P<number>(?<![\w-])[0-9][0-9,.]*)")
_NAMED_KEY: Final = re.compile("(arn:|alias/|[0-9a-f-]{36}|mrk-)")


def printable(text: str) -> str:
    """Return ``text`` with control, bidirectional and other unprintable characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def why_not_read(error: Exception) -> str:
    """Return why a JSON or TOML document was not read, in place of Python's advice to its programmers."""
    return "it has a number of too many digits" if str(error).startswith("Exceeds the limit") else printable(str(error))


def of_many(message: str, names: Iterable[str] = (), *, numbers: bool = True) -> str:
    """Return a message without what is of one object or request only, to compare it with others.

    Args:
        names: names that are also left out where a quote, a space or a colon delimits them.
        numbers: whether numbers stay.
    """
    for name in sorted(filter(None, names), key=len):
        message = re.sub(rf"(?<=['` ]){re.escape(name)}(?=['`:])", "...", message)

    def replaced(match: re.Match[str]) -> str:
        if match["quoted"] is not None:
            is_path = "/" in match["quoted"] and not _NAMED_KEY.match(match["quoted"])
            return "'...'" if is_path else match[0]
        if match["id"] is not None:
            return "request id ..."
        return match[0] if numbers else "..."

    return _PARTS.sub(replaced, message)
