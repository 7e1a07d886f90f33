"""Docstrings as the site's builder reads them: Markdown, where ours have the marks of reStructuredText."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from griffe import Extension, Object

_LITERAL = re.compile(r"^( *)(.*?)(?:::)\n\n((?:\1 +\S.*\n|\n)+)", re.MULTILINE)
_SHARED = re.compile(r"^( +)(\*{0,2}\w+(?:, \*{0,2}\w+)+): (.*\n(?:\1 +\S.*\n)*)", re.MULTILINE)


def as_markdown(text: str) -> str:
    """Return a docstring with fences around its examples, single backticks, and an entry for each argument."""

    def fence(match: re.Match[str]) -> str:
        indent, words, body = match[1], match[2].rstrip(), textwrap.dedent(match[3]).strip("\n")
        lead = f"{indent}{words}:\n\n" if words else ""
        return lead + textwrap.indent(f"```python\n{body}\n```\n", indent, lambda _: True) + "\n"

    def apart(match: re.Match[str]) -> str:
        return "".join(f"{match[1]}{name}: {match[3]}" for name in match[2].split(", "))

    text = re.sub(r"^Example:$", "Examples:", text.replace("``", "`") + "\n", flags=re.MULTILINE)
    text = _SHARED.sub(apart, text)
    return _LITERAL.sub(fence, text).rstrip("\n")


class Docstrings(Extension):
    """Turns each docstring into Markdown."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
