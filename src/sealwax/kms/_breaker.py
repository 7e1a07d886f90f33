"""A circuit breaker for one Region, so that an outage costs one timeout and not one per call."""

from __future__ import annotations

import threading
from typing import Final

from sealwax import errors, events
from sealwax._core import fork_locks
from sealwax._core.keyring import now

_FAILURES: Final = 3
_TIMEOUTS: Final = frozenset({"ConnectTimeoutError", "ReadTimeoutError"})


class Breaker:
    """Whether a Region may be called. After it could not be reached, it may not for a while; then one call probes it.

    One timeout opens the breaker, because each costs seconds; failures that are immediate must come three in a row.
    """

    def __init__(self, region: str, pause: float, on_event: events.OnEvent) -> None:
        self._region = region
        self._pause = pause
        self._on_event = on_event
        self._lock = threading.Lock()
        fork_locks.renew_lock_in_children(self)
        self._open_until = 0.0
        self._failures = 0
        self.error: str | None = None

    @property
    def healthy(self) -> bool:
        return self._open_until == 0.0

    def may_call(self) -> bool:
        with self._lock:
            if self.healthy:
                return True
            when = now()
            if when < self._open_until:
                return False
            # This call is the probe; others wait for its result.
            self._open_until = when + self._pause
            return True

    def succeeded(self) -> None:
        with self._lock:
            was_healthy = self.healthy
            self._open_until = 0.0
            self._failures = 0
            self.error = None
        if not was_healthy:
            self._on_event(events.RegionHealth(self._region, healthy=True, error=None))

    def failed(self, error: errors.SealwaxError) -> None:
        if isinstance(error, errors.AllKeysFailedError):
            # An answer for any of the wrapped keys shows that the Region is up.
            causes = [cause for _, cause in error.attempts]
            error = next((cause for cause in causes if not isinstance(cause, errors.UnavailableError)), causes[-1])
        if not isinstance(error, errors.UnavailableError):
            if isinstance(error, errors.KmsError) and error.request_id is None:
                self._was_not_called(error)
                return
            # An error, but an answer: the Region is up.
            self.succeeded()
            self.error = str(error)
            return
        with self._lock:
            self.error = str(error)
            self._failures += 1
            was_healthy = self.healthy
            if was_healthy and self._failures < _FAILURES and error.code not in _TIMEOUTS:
                return
            self._open_until = now() + self._pause
        if was_healthy:
            self._on_event(events.RegionHealth(self._region, healthy=False, error=str(error)))

    def _was_not_called(self, error: errors.KmsError) -> None:
        """Keep the state: missing credentials, a full rate limit or a key that is not allowed say nothing about KMS."""
        with self._lock:
            if self._open_until:
                self._open_until = now()  # the next call may be the probe
            elif not isinstance(error, errors.KeyNotAllowedError):
                self.error = str(error)
