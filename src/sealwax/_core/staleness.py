"""Whether an envelope is stale: the one definition, for ``sealwax inspect`` and for fleets. No I/O and no clock.

An envelope is stale for any of these reasons:

==============  ================================================================================================
``keys``        it is not wrapped under exactly the wanted keys
``material``    it is under one of them, but under older key material than that key has now
``age``         it was wrapped before the time that the wanted keys must be younger than, or nobody knows when
``unfinished``  a re-wrap of it was interrupted, so that its earlier wrapped keys may be left in it
==============  ================================================================================================

All that an envelope says of its wrapped keys is a claim: good for planning, no proof. Wrapped keys of other providers
than AWS KMS are not judged, since a re-wrap keeps them.
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
        material_id: the 32 bytes that name its current key material; none where that is not known, and not judged.
        rotated_at: when it got that material, in Unix seconds: a wrapped key that names no material is old where it
            was wrapped earlier. 0: it never had another, or it is not known.
    """

    arn: str
    material_id: bytes = b""
    rotated_at: int = 0

    @property
    def region(self) -> str:
        return region_of(self.arn)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How envelopes are to be wrapped.

    Args:
        keys: under exactly these.
        wrapped_since: and not earlier than this, in Unix seconds; 0: whenever.
    """

    keys: tuple[WantedKey, ...]
    wrapped_since: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of one envelope.

    Attributes:
        reasons: why it is stale, of :data:`REASONS`; none where it is not.
        missing_regions: the Regions of wanted keys in which no KMS key has wrapped it.
    """

    reasons: tuple[str, ...]
    missing_regions: tuple[str, ...]

    @property
    def stale(self) -> bool:
        return bool(self.reasons)

    def __str__(self) -> str:
        if not self.stale:
            return "not stale"
        missing = f"; no key of {', '.join(self.missing_regions)} has wrapped it" if self.missing_regions else ""
        return f"stale: {', '.join(_SENTENCES[reason] for reason in self.reasons)}{missing}"


@functools.lru_cache(maxsize=256)
def region_of(arn: str) -> str:
    """Return the Region that a key ARN names, or "" for what is no ARN."""
    parts = arn.split(":", 4)
    return parts[3] if len(parts) == 5 else ""


def faults(key: WrappedKey, wanted: WantedKey, wrapped_since: int) -> list[str]:
    """Return why a wrapped key that is under a wanted KMS key is stale all the same."""
    found = []
    known = key.key_material_id
    if known:
        if wanted.material_id and known != wanted.material_id:
            found.append("material")
    elif key.wrapped_at < wanted.rotated_at:
        found.append("material")
    if key.wrapped_at < wrapped_since:
        found.append("age")
    return found


def judge(header: Header, wanted: Wanted) -> Verdict:
    """Return whether the envelope with this header is stale, and why."""
    have = {key.key_arn: key for key in header.slot.wrapped_keys if key.provider == PROVIDER_AWS_KMS}
    found = set()
    if have.keys() != {key.arn for key in wanted.keys}:
        found.add("keys")
    for key in wanted.keys:
        if key.arn in have:
            found.update(faults(have[key.arn], key, wanted.wrapped_since))
    if not header.finished:
        found.add("unfinished")
    present = {region_of(arn) for arn in have}
    missing = dict.fromkeys(key.region for key in wanted.keys if key.region not in present)
    return Verdict(tuple(reason for reason in REASONS if reason in found), tuple(missing))
