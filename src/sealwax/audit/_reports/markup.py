"""Pieces of a page: escaped text, code and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from sealwax.audit._reports.texts import plain


def text(raw: str) -> str:
    """Return a text escaped for the page and for attributes."""
    return escape(plain(raw))


def block(raw: str) -> str:
    """Return lines of code. Quotes stay, because nothing here is an attribute, and JSON has so many."""
    return f"<pre>{escape(plain(raw), quote=False)}</pre>"


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


def code(raw: str) -> str:
    """Return a text as code."""
    return f"<code>{text(raw)}</code>"
