"""Whether an envelope is stale: the one definition, for ``sealwax inspect`` and for fleets. No I/O and no clock.

An envelope is stale for any of these reasons:

==============  ======================================================================
``keys``        it is not wrapped under exactly the wanted keys
``material``    it is wrapped under old key material of a wanted key
``age``         it was wrapped too long ago, or at an unknown time
``unfinished``  a re-wrap was interrupted, so earlier wrapped keys may still be in it
==============  ======================================================================

What an envelope says about its wrapped keys is only a claim: good for planning, not as proof. Wrapped keys of other
providers than AWS KMS never make it stale, since a re-wrap keeps them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from sealwax._core.format.header import Header
from sealwax._core.keyring import PROVIDER_AWS_KMS, WrappedKey

REASONS: Final = ("keys", "material", "age", "unfinished")
_SENTENCES: Final = {
    "keys": "it is not wrapped under exactly the wanted keys",
    "material": "it is wrapped under old key material",
    "age": "it was wrapped too long ago",
    "unfinished": "a re-wrap of it was interrupted",
}


@dataclass(frozen=True, slots=True)
class WantedKey:
    """A KMS key that envelopes are to be wrapped under.

    Args:
        arn: its key ARN.
        material_id: the 32-byte id of its current key material; empty if unknown, and then not compared.
        rotated_at: when it got that material, in Unix seconds; 0 if it never had another or it is unknown. A wrapped
            key without a material id counts as old if it was wrapped earlier.
    """

    arn: str
    material_id: bytes = b""
    rotated_at: int = 0

    @property
    def region(self) -> str:
        """The key's AWS Region."""
        return region_of(self.arn)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How envelopes are to be wrapped.

    Args:
        keys: exactly the KMS keys they are wrapped under.
        wrapped_since: the earliest time at which they may have been wrapped, in Unix seconds; 0 for any time.
    """

    keys: tuple[WantedKey, ...]
    wrapped_since: int = 0


@dataclass(frozen=True, slots=True)
class Staleness:
    """Whether and why one envelope is stale.

    Attributes:
        reasons: why it is stale, from ``REASONS``; empty if it is not.
        missing_regions: the Regions of wanted keys in which no KMS key has wrapped it.
    """

    reasons: tuple[str, ...]
    missing_regions: tuple[str, ...]

    @property
    def stale(self) -> bool:
        return bool(self.reasons)

    def __str__(self) -> str:
        if not self.stale:
            return "no"
        missing = f"; not wrapped by any key in {', '.join(self.missing_regions)}" if self.missing_regions else ""
        return f"yes: {', '.join(_SENTENCES[reason] for reason in self.reasons)}{missing}"


@functools.lru_cache(maxsize=256)
def region_of(arn: str) -> str:
    """Return the Region of a key ARN, or "" if it is not an ARN."""
    parts = arn.split(":", 4)
    return parts[3] if len(parts) == 5 else ""


def faults(key: WrappedKey, wanted: WantedKey, wrapped_since: int) -> list[str]:
    """Return why a wrapped key under a wanted KMS key is stale; empty if it is not."""
    reasons = []
    material_id = key.key_material_id
    if material_id:
        if wanted.material_id and material_id != wanted.material_id:
            reasons.append("material")
    elif key.wrapped_at < wanted.rotated_at:
        reasons.append("material")
    if key.wrapped_at < wrapped_since:
        reasons.append("age")
    return reasons


def staleness_of(header: Header, wanted: Wanted) -> Staleness:
    """Return whether and why the envelope with this header is stale."""
    have = {key.key_arn: key for key in header.slot.wrapped_keys if key.provider == PROVIDER_AWS_KMS}
    reasons = set()
    if have.keys() != {key.arn for key in wanted.keys}:
        reasons.add("keys")
    for key in wanted.keys:
        if key.arn in have:
            reasons.update(faults(have[key.arn], key, wanted.wrapped_since))
    if not header.finished:
        reasons.add("unfinished")
    present = {region_of(arn) for arn in have}
    missing = dict.fromkeys(key.region for key in wanted.keys if key.region not in present)
    return Staleness(tuple(reason for reason in REASONS if reason in reasons), tuple(missing))
