"""Tells once, while it lasts, that KMS throttles or that a Region cannot be reached."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sealwax.cli import console
from sealwax.cli.state import current

if TYPE_CHECKING:
    from sealwax.events import Event

# Throttling is over once KMS has answered for so long without it.
_CALM_SECONDS: Final = 30.0
_RATE_SECONDS: Final = 10.0
_COUNTED: Final = 10_000
# As for the circuit breaker of a MultiRegionKeyring: a timeout has cost seconds, others may be a coincidence.
_IN_A_ROW: Final = 3
_TIMEOUTS: Final = frozenset({"ConnectTimeoutError", "ReadTimeoutError"})
_UNREACHABLE: Final = _TIMEOUTS | {
    *("EndpointConnectionError", "ConnectionClosedError", "ConnectionError", "HTTPClientError"),
    *("ProxyConnectionError", "SSLError"),
}
_THROTTLED: Final = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"})


@dataclass(slots=True)
class _Region:
    """What is known of a Region.

    Attributes:
        throttled_at: when KMS last throttled; None while it does not.
        failures: how many calls in a row were not answered.
        lost: whether that was told.
        answered: when KMS last answered, newest last.
    """

    throttled_at: float | None = None
    failures: int = 0
    lost: bool = False
    answered: deque[float] = field(default_factory=lambda: deque(maxlen=_COUNTED))


class KmsWatch:
    """An ``on_event`` function for keyrings. It is silent until ``begin``.

    Args:
        clock: as ``time.monotonic``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._regions: dict[str, _Region] = {}
        self._tells = False

    def begin(self) -> None:
        """Tell from now on, unless the run is quiet."""
        self._tells = not current().quiet

    def __call__(self, event: Event) -> None:
        from sealwax.events import KmsCall

        if not self._tells or not isinstance(event, KmsCall):
            return
        with self._lock:
            region = self._regions.setdefault(event.region, _Region())
            text = self._noticed(region, event.region, event.error)
        if text:
            with console.held(None):  # also from a thread whose messages wait for their turn
                console.warn(text)

    def _noticed(self, region: _Region, name: str, error: str | None) -> str:
        now = self._clock()
        if error in _UNREACHABLE:
            region.failures += 1
            if region.lost or (region.failures < _IN_A_ROW and error not in _TIMEOUTS):
                return ""
            region.lost = True
            return f"KMS cannot be reached in {name} ({error}); each call is retried a few times"
        region.failures = 0
        if region.lost:
            region.lost = False
            region.answered.append(now)
            return f"KMS is reachable again in {name}"
        if error in _THROTTLED:
            began = region.throttled_at is None
            region.throttled_at = now
            if not began:
                return ""
            return f"KMS is throttling requests in {name}{self._rate(region, now)}; throttled calls are retried"
        region.answered.append(now)
        if region.throttled_at is not None and now - region.throttled_at >= _CALM_SECONDS:
            region.throttled_at = None
            return f"KMS no longer throttles requests in {name}{self._rate(region, now)}"
        return ""

    @staticmethod
    def _rate(region: _Region, now: float) -> str:
        recent = [when for when in region.answered if now - when < _RATE_SECONDS]
        if len(recent) < 2 or now == recent[0]:
            return ""
        return f"; now {console.counted(round(len(recent) / (now - recent[0])), 'call')} a second"
