"""Pieces of a page: escaped text, code, tables, and what can be copied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from sealwax._text import printable


def plain(raw: str) -> str:
    """Return a text with its lines, and with control and direction characters escaped."""
    return "\n".join(map(printable, raw.split("\n")))


def text(raw: str) -> str:
    """Return a text escaped for the page and for attributes."""
    return escape(plain(raw))


def code(raw: str) -> str:
    """Return a text as code."""
    return f"<code>{text(raw)}</code>"


def block(raw: str) -> str:
    """Return lines of code. Quotes stay, because nothing here is an attribute, and JSON has so many."""
    return f"<pre>{escape(plain(raw), quote=False)}</pre>"


def copyable(raw: str) -> str:
    """Return lines of code, to which the page's script adds a button that copies them."""
    return f'<div class="copyable">{block(raw)}</div>\n'


def key(arn: str, aliases: Sequence[str] = ()) -> str:
    """Return a key as code, with its aliases first."""
    names = "".join(f"<b>{text(alias)}</b> " for alias in aliases if alias != arn)
    return f'{names}<code class="arn">{text(arn)}</code>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, which narrow screens show as a list of rows.

    Args:
        rows: the cells of each row, as markup.
    """
    columns = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines = (
        "".join(f'<td data-name="{name}">{cell}</td>' for name, cell in zip(head, row, strict=True)) for row in rows
    )
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f"<table>\n<thead><tr>{columns}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"


def counts(items: Iterable[tuple[str, str, str]]) -> str:
    """Return numbers with their names as a row of boxes.

    Args:
        items: the class that gives a box its color, or ""; the number; and its name.
    """
    boxes = "".join(
        f"<li{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}><b>{text(number)}</b>{text(name)}</li>"
        for kind, number, name in items
    )
    return f'<ul class="counts">{boxes}</ul>\n' if boxes else ""
