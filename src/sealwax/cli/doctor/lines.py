"""What ``sealwax doctor`` finds: one line for each check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sealwax import errors

State = Literal["ok", "optional", "not checked", "needs fixing"]


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one check.

    Attributes:
        fix: what to do; "" if there is nothing to do.
        key: the KMS key as named; "" if the check is not about one.
    """

    state: State
    check: str
    detail: str
    fix: str = ""
    key: str = ""


def failed(check: str, error: errors.SealwaxError, key: str = "", state: State = "needs fixing") -> Line:
    """Return the line of a check that ended with an error, whose last sentences say what to do."""
    text = str(error)
    at = _end_of_first_sentence(text)
    return Line(state, check, text[:at].rstrip("."), _as_clause(text[at:].strip()), key)


def _as_clause(text: str) -> str:
    """Return what to do as the other fixes have it: after a colon."""
    text = text.removesuffix(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _end_of_first_sentence(text: str) -> int:
    """Return where the sentence that says what failed ends. What AWS says stands in parentheses, with full stops."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth <= 0 and text[at : at + 2] == ". " and text[at + 2 : at + 3].isupper():
            return at + 1
    return len(text)
