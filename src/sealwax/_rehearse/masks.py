"""Replaces what identifies an account, a person or a request, so that a report can be shown to anybody."""

from __future__ import annotations

import re
import threading
from typing import Final

_ARN: Final = re.compile(r"arn:aws[a-z-]*:(?:[^\s\"'<>,;)\]}]|,(?=\w))+")
# Whatever is not AWS's own: a proxy, perhaps with a password, or an endpoint inside a company.
_HOST: Final = r"(?![a-z0-9.-]+\.amazonaws\.com(?:\.cn)?(?:[:/\s\"']|$))[^\s\"'<>/]+"
_PATTERNS: Final = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"(?i)(?<=\bhttps://)" + _HOST, "<host>"),
        (r"(?i)(?<=\bhttp://)" + _HOST, "<host>"),
        (r"(?<=\bhost=')" + _HOST, "<host>"),
        (r"[\w.+-]+@[\w-]+\.[\w.-]+", "<address>"),
        (r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.])", "<ip>"),
        (r"(?i)(?<![\w:])(?=[0-9a-f:]*::|(?:[0-9a-f]+:){7})[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?![\w:])", "<ip>"),
        (r"\b(?:vpce|vpc|eni|i|o|ou|r|p)-(?=[a-z]*[0-9])[0-9a-z]{4,}(?:-[0-9a-z]{8,})?\b", "<id>"),
        (r"\bmrk-[0-9a-f]{32}\b", "<key id>"),
        (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "<id>"),
        (r"\b[0-9a-f]{64}\b", "<id>"),
        (r"\b(?:A[A-Z]{3})[0-9A-Z]{12,}\b", "<id>"),
        (r"\b[0-9A-Z]{16}\b", "<request id>"),
        (r"(?<![0-9])[0-9]{12}(?![0-9])", "<account>"),
    )
)


class Masks:
    """The strings to replace, each with what to say instead. Safe to use from many threads."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, real: str | None, name: str) -> None:
        """Replace a string from now on; the first name of one stays."""
        if real:
            with self._lock:
                self._known.setdefault(real, name)

    def text(self, raw: str) -> str:
        """Return a text without what identifies anything."""
        with self._lock:
            known = sorted(self._known.items(), key=lambda pair: -len(pair[0]))
        # ARNs first, while they are whole: they hold an account and an id.
        for real, name in known:
            if _ARN.match(real):
                raw = raw.replace(real, name)
        raw = _ARN.sub("<arn>", raw)
        # Whole words: a profile may be called "a".
        for real, name in known:
            raw = re.sub(rf"(?<!\w){re.escape(real)}(?!\w)", name, raw)
        for pattern, name in _PATTERNS:
            raw = pattern.sub(name, raw)
        return raw
