"""What a caller allows of other formats. It imports next to nothing: most programs meet no other format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sealwax.errors import UnsupportedEnvelopeError

_OLD_SUITES: Final = (0x0014, 0x0046, 0x0078, 0x0114, 0x0146, 0x0178, 0x0214, 0x0346, 0x0378)
_BEGINNINGS: Final = frozenset(
    (
        *(b"\1\x80" + suite.to_bytes(2, "big") for suite in _OLD_SUITES),
        *(b"\2" + suite.to_bytes(2, "big") for suite in (0x0478, 0x0578)),
    )
)
ENVKMS: Final = "envkms01"
BOTO3_FERNET: Final = "boto3-fernet"
LEGACY: Final = (*(f"esdk-{suite:04x}" for suite in _OLD_SUITES), "s3ec-v2", "s3ec-kms", ENVKMS)
"""The names of what does not commit to its data key, and is read only if the caller names it."""

UNMARKED: Final = (BOTO3_FERNET,)
"""The names of formats that no byte tells for certain, and that are read only if the caller names them too."""

FAMILIES: Final = ("s3ec", "esdk", ENVKMS)
"""The names of what a fleet can be about beside envelopes; the names of their formats begin with them."""

ENVKMS_MAGIC: Final = b"ENVKMS01"
LONGEST_BLOB: Final = 6144
"""How long a data key that KMS has wrapped can be."""

BEGINNING_BYTES: Final = 4
"""How many bytes ``begins_message`` needs."""

SCRIPT_BEGINNING_BYTES: Final = len(ENVKMS_MAGIC)
"""How many bytes ``ForeignRules.begins_script`` should have; fewer than ``BEGINNING_BYTES`` tell nothing."""


@dataclass(frozen=True, slots=True)
class ForeignRules:
    """What a caller allows of other formats.

    Attributes:
        legacy: the names of ``LEGACY`` and ``UNMARKED`` that may be read.
        unstored: the names of pairs that are bound and not stored.

    Raises:
        ValueError: a name is unknown.
    """

    legacy: frozenset[str] = frozenset()
    unstored: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        names = (*LEGACY, *UNMARKED)
        unknown = sorted(self.legacy - set(names))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not the name of a legacy format; there are {', '.join(names)}")

    def check(self, name: str, what: str, kind: str) -> None:
        """Refuse what does not commit to its data key, unless the caller named it.

        Args:
            name: of ``LEGACY``.
            what, kind: such as ``"the object"`` and ``"an object"``.

        Raises:
            UnsupportedEnvelopeError: it is not named.
        """
        if name not in self.legacy:
            raise UnsupportedEnvelopeError(
                f"{what} does not commit to its data key: someone who can choose the data key can make {kind} that "
                f"opens differently for two readers; to read it, allow {name} by name"
            )

    def begins_script(self, data: bytes) -> bool:
        """Return whether a file of a script that encrypts begins like this, if the caller allows that format.

        Args:
            data: at least ``BEGINNING_BYTES`` of its first bytes, or all of them.
        """
        if len(data) >= BEGINNING_BYTES and data[: len(ENVKMS_MAGIC)] == ENVKMS_MAGIC[: len(data)]:
            return True
        size = int.from_bytes(data[:BEGINNING_BYTES], "big")
        return BOTO3_FERNET in self.legacy and len(data) >= BEGINNING_BYTES and 0 < size <= LONGEST_BLOB


def begins_message(data: bytes) -> bool:
    """Return whether a message of the AWS Encryption SDK begins like this."""
    return data[:3] in _BEGINNINGS or data[:4] in _BEGINNINGS
