"""What happens inside, for who wants to watch: one function is called with small records. None holds a secret."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["CacheLookup", "Event", "KmsCall", "KmsStats", "OnEvent", "RegionHealth"]

_log: Final = logging.getLogger("sealwax")

# What AWS asks for symmetric requests in every commercial Region: https://aws.amazon.com/kms/pricing/
_USD_PER_CALL: Final = 0.03 / 10_000


@dataclass(frozen=True, slots=True)
class KmsCall:
    """One request to KMS has ended.

    Attributes:
        operation: such as ``"GenerateDataKey"``.
        region: where it went.
        key: the KMS key as it was named.
        seconds: how long it took.
        attempt: 1 for the first, and so on.
        error: the error code, or None where it succeeded.
        request_id: AWS's, or None.
    """

    operation: str
    region: str
    key: str
    seconds: float
    attempt: int
    error: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class RegionHealth:
    """A Region was given up for a while, or taken back.

    Attributes:
        region: which one.
        healthy: whether it is used again.
        error: why not.
    """

    region: str
    healthy: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """A data key was lent by a cache.

    Attributes:
        kind: ``"hit"``, ``"miss"``, ``"wait"`` (for another one's call), ``"bypass"`` or ``"stale"``.
        decrypting: whether for decrypting.
    """

    kind: str
    decrypting: bool


@dataclass(frozen=True, slots=True)
class KmsStats:
    """What keyrings have asked of KMS, and what a cache has spared them.

    Attributes:
        calls: requests sent, repetitions included.
        failures: those of them that were refused, throttled or not answered.
        saved: calls that a cache made needless; a keyring that wraps under several keys would have made more.
    """

    calls: int = 0
    failures: int = 0
    saved: int = 0

    @property
    def cost_usd(self) -> float:
        """What the calls cost at 0.03 USD for 10,000, before any free tier."""
        return self.calls * _USD_PER_CALL

    @property
    def saved_usd(self) -> float:
        """What the saved calls would have cost."""
        return self.saved * _USD_PER_CALL

    def __add__(self, other: KmsStats) -> KmsStats:
        return KmsStats(self.calls + other.calls, self.failures + other.failures, self.saved + other.saved)


def kms_stats(keyring: object) -> KmsStats:
    """Return the stats of a keyring; of one that does not count, nothing is known and zeros are returned."""
    count: Callable[[], KmsStats] | None = getattr(keyring, "kms_stats", None)
    return KmsStats() if count is None else count()


Event = KmsCall | RegionHealth | CacheLookup
OnEvent = Callable[[Event], None]


def ignore(_: Event) -> None:
    """Watch nothing."""


def guarded(on_event: OnEvent | None) -> OnEvent:
    """Return a watcher whose own errors do not become the data's."""
    if on_event is None:
        return ignore

    def watch(event: Event) -> None:
        try:
            on_event(event)
        except Exception:
            _log.exception("the on_event function failed")

    return watch
