"""Records of what happens inside, for the ``on_event`` function of keyrings and caches. None holds a secret.

Example::

    def on_event(event: sealwax.events.Event) -> None:
        if isinstance(event, sealwax.events.KmsCall) and event.error:
            print(f"{event.operation} in {event.region}: {event.error}")

    keyring = sealwax.KmsKeyring("alias/payments", on_event=on_event)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

__all__ = [
    "USD_PER_10_000_CALLS",
    "USD_PER_CALL",
    "CacheLookup",
    "CountsKmsCalls",
    "Event",
    "KmsCall",
    "KmsStats",
    "OnEvent",
    "RegionHealth",
]

# What AWS charges for symmetric requests in every commercial Region: https://aws.amazon.com/kms/pricing/
USD_PER_10_000_CALLS: Final = 0.03
USD_PER_CALL: Final = USD_PER_10_000_CALLS / 10_000


@dataclass(frozen=True, slots=True)
class KmsCall:
    """One request to KMS has ended.

    Attributes:
        operation: for example ``"GenerateDataKey"``.
        region: the Region it was sent to.
        key: the KMS key, as named in the request.
        seconds: how long it took.
        attempt: 1 for the first attempt, 2 for its first retry, and so on.
        error: the error code, or None if it succeeded.
        request_id: the AWS request id, or None.
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
    """A Region is avoided for a while, or used again.

    Attributes:
        region: the Region.
        healthy: whether it is used again.
        error: why it is avoided; None if it is used again.
    """

    region: str
    healthy: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """A cache was asked for a data key.

    Attributes:
        kind: ``"hit"``, ``"miss"``, ``"wait"`` (for another thread's call), ``"bypass"`` or ``"stale"``.
        decrypting: whether the data key was needed for decrypting.
    """

    kind: str
    decrypting: bool


@dataclass(frozen=True, slots=True)
class KmsStats:
    """How many KMS requests keyrings have sent, and how many a cache has saved.

    Attributes:
        calls: requests sent, including retries.
        failures: requests that were refused, throttled or not answered.
        saved: requests that a cache made unnecessary. A keyring with several KMS keys saves more than this.
    """

    calls: int = 0
    failures: int = 0
    saved: int = 0

    @property
    def cost_usd(self) -> float:
        """What the calls cost at 0.03 USD per 10,000, before any free tier."""
        return self.calls * USD_PER_CALL

    @property
    def saved_usd(self) -> float:
        """What the saved calls would have cost."""
        return self.saved * USD_PER_CALL

    def __add__(self, other: KmsStats) -> KmsStats:
        return KmsStats(self.calls + other.calls, self.failures + other.failures, self.saved + other.saved)


@runtime_checkable
class CountsKmsCalls(Protocol):
    """A keyring that counts its KMS requests; a keyring of your own may implement it for ``Sealer.stats()``."""

    def kms_stats(self) -> KmsStats:
        """Return the counts so far.

        Returns:
            The counts since the keyring was made.
        """
        ...


Event = KmsCall | RegionHealth | CacheLookup
OnEvent = Callable[[Event], None]
