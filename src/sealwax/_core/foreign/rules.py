"""What a caller allows of other formats. It imports next to nothing: most programs meet no other format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_OLD_SUITES: Final = (0x0014, 0x0046, 0x0078, 0x0114, 0x0146, 0x0178, 0x0214, 0x0346, 0x0378)
_BEGINNINGS: Final = frozenset(
    (
        *(b"\1\x80" + suite.to_bytes(2, "big") for suite in _OLD_SUITES),
        *(b"\2" + suite.to_bytes(2, "big") for suite in (0x0478, 0x0578)),
    )
)
LEGACY: Final = (*(f"esdk-{suite:04x}" for suite in _OLD_SUITES), "s3ec-v2", "s3ec-kms")
"""The names of what does not commit to its data key, and is read only if the caller names it."""

BEGINNING_BYTES: Final = 4
"""How many bytes ``begins_message`` needs."""


@dataclass(frozen=True, slots=True)
class ForeignRules:
    """What a caller allows of other formats.

    Attributes:
        legacy: the names of ``LEGACY`` that may be read.
        unstored: the names of pairs that are bound and not stored.

    Raises:
        ValueError: a name is unknown.
    """

    legacy: frozenset[str] = frozenset()
    unstored: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        unknown = sorted(self.legacy - set(LEGACY))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not the name of a legacy format; there are {', '.join(LEGACY)}")


def begins_message(data: bytes) -> bool:
    """Return whether a message of the AWS Encryption SDK begins like this."""
    return data[:3] in _BEGINNINGS or data[:4] in _BEGINNINGS
