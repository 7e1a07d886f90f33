"""A token bucket for KMS requests, that slows down when KMS throttles and speeds up again while it does not.

One bucket serves an account and Region. It is shared by all threads of a process, and, where a file is named, by all
processes of one machine that name it. The rate follows additive increase and multiplicative decrease, as TCP's does:
halved on a throttled request, raised by a twentieth of the full rate each second without one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator
from typing import Final

from sealwax.context import printable
from sealwax.errors import FileError

_STATE: Final = struct.Struct("<ddd")  # tokens, rate, and when they were true, in seconds of the machine's clock
_LEAST_RATE: Final = 0.01
_RECOVERY: Final = 0.05


class RateLimit:
    """Lets requests through at up to ``rate`` a second.

    Args:
        rate: requests a second.
        burst: requests that may go at once after a pause; default: those of one second.
        shared: a file that all processes of this machine use that are to share the limit; made where it is not there.

    Raises:
        ValueError: the rate is not positive.
        FileError: the file cannot be opened.
    """

    def __init__(
        self, rate: float, *, burst: float | None = None, shared: str | os.PathLike[str] | None = None
    ) -> None:
        if not rate > 0:
            raise ValueError("the rate is a positive number of requests a second")
        self.rate = rate
        self._burst = max(1.0, rate if burst is None else burst)
        self._lock = threading.Lock()
        self._state = (self._burst, rate, time.monotonic())
        self._file: int | None = None
        if shared is not None:
            try:
                self._file = os.open(shared, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                name = printable(os.fspath(shared))
                raise FileError(f"opening the shared rate limit '{name}' failed: {error.strerror}") from error

    def acquire(self, deadline: float) -> bool:
        """Wait for a turn; return False where none comes before ``deadline``, in seconds of ``time.monotonic``."""
        with self._exclusive() as (tokens, rate, now):
            tokens -= 1
            wait = -tokens / rate if tokens < 0 else 0.0
            if now + wait > deadline:
                return False
            self._state = (tokens, rate, now)
        if wait:
            time.sleep(wait)
        return True

    def throttled(self) -> None:
        """Halve the rate: KMS has refused a request for being one too many."""
        with self._exclusive() as (tokens, rate, now):
            self._state = (min(tokens, 0.0), max(rate / 2, _LEAST_RATE), now)

    @property
    def current_rate(self) -> float:
        """The requests a second that are let through now."""
        with self._exclusive() as (_, rate, _now):
            return rate

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[tuple[float, float, float]]:
        """Lend the state as of now; what ``_state`` is afterwards is kept."""
        with self._lock:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                self._read()
                self._state = self._advanced()
                yield self._state
                if self._file is not None:
                    os.pwrite(self._file, _STATE.pack(*self._state), 0)
            finally:
                if self._file is not None:
                    fcntl.flock(self._file, fcntl.LOCK_UN)

    def _read(self) -> None:
        if self._file is None:
            return
        data = os.pread(self._file, _STATE.size, 0)
        if len(data) == _STATE.size:
            tokens, rate, then = _STATE.unpack(data)
            # The clock starts anew when the machine does; a state from before says nothing.
            if then <= time.monotonic() and _LEAST_RATE <= rate <= self.rate and tokens <= self._burst:
                self._state = tokens, rate, then

    def _advanced(self) -> tuple[float, float, float]:
        tokens, rate, then = self._state
        now = time.monotonic()
        tokens = min(self._burst, tokens + (now - then) * rate)
        return tokens, min(self.rate, rate + (now - then) * _RECOVERY * self.rate), now
