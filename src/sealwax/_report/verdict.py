"""How something stands, what to do next, and where a report comes from. Plain data, none of it secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from sealwax import __version__
from sealwax._text import printable

Tone = Literal["good", "unsure", "bad"]
"""All is well; something is left to do or could not be checked; something is wrong."""

MARKS: Final[dict[Tone, str]] = {"good": "✓", "unsure": "!", "bad": "✗"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence that says how it stands, and one that says what to do next.

    Attributes:
        tone: ``"good"``, ``"unsure"`` or ``"bad"``.
        says: how it stands, without a full stop at its end.
        advice: what to do next, in words; empty if the command says it all.
        command: what to type next, quoted for a shell; empty if no command helps.
    """

    tone: Tone
    says: str
    advice: str = ""
    command: str = ""

    @property
    def next(self) -> str:
        """What to do next, on one line."""
        return ": ".join(part for part in (self.advice, self.command) if part)

    def lines(self) -> list[str]:
        """Return the lines that a report in text ends with, with control characters escaped."""
        return [printable(f"{self.says}."), *([printable(f"next: {self.next}")] if self.next else ())]

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return {"verdict": self.says, "next": self.next or None}


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who made a report, when and how: what a reader needs to trust it, and to make it again.

    Attributes:
        time: when it was made, with a time zone.
        command: the command as it was typed, quoted for a shell, without secrets; empty for none.
        caller: the ARN of who made it; empty if not known.
        account: the id of the account; empty if not known.
        regions: the AWS Regions that it is about.
        source: where answers came from, if not from AWS: a lab or another endpoint.
        version: the version of sealwax.
    """

    time: datetime
    command: str = ""
    caller: str = ""
    account: str = ""
    regions: tuple[str, ...] = ()
    source: str = ""
    version: str = __version__

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return {
            "time": self.time.isoformat(timespec="seconds"),
            "version": self.version,
            "command": self.command or None,
            "caller": self.caller or None,
            "account": self.account or None,
            "regions": list(self.regions),
            "source": self.source or None,
        }


def zoned(time: datetime) -> str:
    """Return a time with its time zone, and with the zone's distance from UTC."""
    offset = time.utcoffset() or timedelta()
    away = f"UTC{time:%z}"[:6] + f"{time:%z}"[3:5].rjust(3, ":")
    name = time.tzname() or ""
    zone = "UTC" if not offset else f"{name} ({away})" if name.isalpha() else away
    return f"{time:%Y-%m-%d %H:%M:%S} {zone}"
