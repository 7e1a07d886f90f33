"""Pieces of a page: texts of others, escaped, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from sealwax.audit._reports.texts import plain


def text(given: str) -> str:
    """Return a text as it can stand in the page and in an attribute."""
    return escape(plain(given))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, which a narrow screen shows as a list of its rows.

    Args:
        rows: the cells of each, as markup.
    """
    columns = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines = (
        "".join(f'<td data-name="{name}">{cell}</td>' for name, cell in zip(head, row, strict=True)) for row in rows
    )
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f"<table>\n<thead><tr>{columns}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"


def code(given: str) -> str:
    """Return a text as code."""
    return f"<code>{text(given)}</code>"
