"""JSON objects in metadata and headers: no name twice, and pairs that are text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from sealwax._text import printable

Refuse = Callable[[str], NoReturn]
"""Raises an error that says what is wrong."""


def object_in(text: str | bytes, what: str, refuse: Refuse) -> dict[str, Any]:
    """Return a JSON object.

    Args:
        text: bytes are UTF-8.
        what: what the text is, at the start of a sentence.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            refuse(f"{what} has a name twice, a contradiction")
        return found

    try:
        value = json.loads(text if isinstance(text, str) else text.decode(), object_pairs_hook=once)
    except (ValueError, RecursionError):
        refuse(f"{what} is not JSON")
    if not isinstance(value, dict):
        refuse(f"{what} is not a JSON object")
    return value


def texts_of(pairs: Mapping[str, object], what: str, refuse: Refuse) -> dict[str, str]:
    """Return the pairs of a context, once all of them are text that KMS can be sent.

    Args:
        what: what has the pairs, within a sentence.
    """
    texts = {}
    for name, value in pairs.items():
        if not isinstance(value, str):
            refuse(f"the pair '{printable(name[:100])}' of {what} is not text")
        try:
            (name + value).encode()
        except UnicodeEncodeError:  # a lone surrogate, which JSON can hold
            refuse(f"the pair '{printable(name[:100])}' of {what} is not valid Unicode")
        texts[name] = value
    return texts
