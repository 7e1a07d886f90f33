"""The result of recognizing another format."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from sealwax._text import printable

Read = Callable[[int, int], bytes]
"""Returns this many bytes from this offset, fewer only at the end of the object."""

ENVELOPE: Final = "sealwax"
_SHOWN: Final = 3
_MOST_SHOWN: Final = 120


@dataclass(frozen=True, slots=True)
class ForeignFormat:
    """The format of an object that is not a binary sealwax envelope. All of it is the object's own claim.

    Attributes:
        format: a short, stable name, such as ``"esdk-v2"``.
        title: the format's name in a sentence, with its article.
        keys: the KMS keys that the object names in plain text, as it names them: key ARNs, key ids, aliases.
        others: what else wraps its data key: ``"pgp"``, ``"age"``, the name of a provider.
        complete: whether ``keys`` are all the KMS keys that may wrap its data key.
        sure: whether the format is recognized by more than a few bytes.
        advice: how to read it.
        inside: whether it is inside something else, such as base64, gzip or JSON.
    """

    format: str
    title: str
    keys: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    complete: bool = False
    sure: bool = True
    advice: str = "open it with the program that wrote it"
    inside: bool = False

    def __str__(self) -> str:
        under = [f"'{_shown(key)}'" for key in self.keys]
        others = [_shown(name) for name in self.others]
        parts = [f"it {'is' if self.sure else 'looks like'} {self.title}"]
        if under:
            parts.append(f", under {_listed(under)}")
        if others:
            parts.append(f"{' and' if under else ','} wrapped by {_listed(others)}")
        if not self.complete:
            parts.append("; other KMS keys may wrap it too" if under else "; the KMS key that wraps it is unknown")
        return "".join(parts)


def _shown(text: str) -> str:
    return printable(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...")


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def distinct(texts: Iterable[str]) -> tuple[str, ...]:
    """Return each text once, in the order of first appearance."""
    return tuple(dict.fromkeys(texts))
