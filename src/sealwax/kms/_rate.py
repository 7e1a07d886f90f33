"""A token bucket for requests to KMS that slows down while KMS throttles and recovers afterwards.

One bucket serves an account and Region. All threads of a process share it, and so do all processes of a machine that
name the same file. The rate follows additive increase and multiplicative decrease, like TCP: halved when a request is
throttled, raised by a twentieth of the full rate each second without throttling. Requests that were
already sent when the rate was halved, or are sent within a fifth of a second after that, do not halve it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self, TypedDict

from sealwax._core import disk, fork_locks, locking, trusted, validate
from sealwax._core.keyring import now
from sealwax._text import printable
from sealwax.errors import FileError

# Tokens, rate, when they applied, and when the rate was last halved, in seconds of the machine's clock.
_STATE: Final = struct.Struct("<dddd")
_State = tuple[float, float, float, float]
_LEAST_RATE: Final = 0.01
_RECOVERY: Final = 0.05
# KMS counts by the second, so a lower rate does not end its throttling at once; further halves meanwhile are too many.
_SETTLE_SECONDS: Final = 0.2
_KIND: Final = trusted.Kind("the shared rate limit", FileError)
# Other processes hold the lock on a shared file for microseconds.
_LONGEST_WAIT_SECONDS: Final = 5.0


class _Arguments(TypedDict):
    rate: float
    burst: float
    shared: str | None


class RateLimit:
    """Limits requests to ``rate`` per second. Pass one object to all keyrings that share the limit.

    A copy is the same limit. Unpickled in another process, it is a separate limit unless ``shared`` names a file.

    Args:
        rate: requests per second.
        burst: requests that may be sent at once after a pause, at least 1. Default: as many as ``rate``.
        shared: a file through which all processes of one user on this machine share the limit; created if missing,
            refused if other users can write to it.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the rate is not positive, or the burst is below 1.
        FileError: the file cannot be opened, or another user could have written it.

    Example:
        >>> limit = RateLimit(100, shared="/run/user/1000/kms-limit")
        >>> KmsKeyring("alias/payments", limit=limit)
    """

    def __init__(
        self, rate: float, *, burst: float | None = None, shared: str | os.PathLike[str] | None = None
    ) -> None:
        self.rate = validate.number("rate", rate, "requests per second")
        self._burst = max(1.0, rate) if burst is None else validate.number("burst", burst, "requests", least=1)
        self._lock = threading.Lock()
        self._file = -1  # the shared file while it is locked, or waited for
        fork_locks.renew_in_children(self)
        self._state: _State = (self._burst, rate, now(), 0.0)
        # Absolute: the process that unpickles this may have another working directory.
        self._shared = None if shared is None else str(Path(validate.path("shared", shared)).absolute())
        with self._exclusive():
            pass  # report an unusable file now

    def acquire(self, deadline: float) -> bool:
        """Wait until a request may be sent.

        Args:
            deadline: how long to wait, as a value of ``time.monotonic()``.

        Returns:
            False if no request may be sent before the deadline.

        Raises:
            FileError: the shared file cannot be used.
        """
        with self._exclusive(deadline) as (tokens, rate, when, halved):
            tokens -= 1
            wait = -tokens / rate if tokens < 0 else 0.0
            if when + wait > deadline:
                return False
            self._state = (tokens, rate, when, halved)
        if wait:
            time.sleep(wait)
        return True

    def throttled(self, since: float) -> None:
        """Halve the rate because KMS throttled a request.

        Args:
            since: when the request was sent, as a value of ``time.monotonic()``.

        Raises:
            FileError: the shared file cannot be used.
        """
        with self._exclusive() as (tokens, rate, when, halved):
            if since > halved + _SETTLE_SECONDS:
                self._state = (min(tokens, 0.0), max(rate / 2, _LEAST_RATE), when, when)

    @property
    def current_rate(self) -> float:
        """The current limit in requests per second."""
        with self._exclusive() as (_, rate, _when, _halved):
            return rate

    def __copy__(self) -> Self:
        return self  # two limits would allow twice the rate

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __getstate__(self) -> _Arguments:
        return {"rate": self.rate, "burst": self._burst, "shared": self._shared}

    def __setstate__(self, state: _Arguments) -> None:
        RateLimit.__init__(self, **state)

    @contextlib.contextmanager
    def _exclusive(self, deadline: float | None = None) -> Iterator[_State]:
        """Lock and yield the current state; ``_state`` is saved afterwards.

        Args:
            deadline: when to stop waiting for a lock that another thread or process holds.
        """
        fork_locks.notice()
        deadline = now() + _LONGEST_WAIT_SECONDS if deadline is None else deadline
        # A thread holds it for long only while it waits for the file.
        if not self._lock.acquire(timeout=max(0.0, deadline - now())):
            raise _locked_error(str(self._shared))
        try:
            if self._shared is None:
                self._state = self._advanced()
                yield self._state
                return
            # Opened each time: a forked child would share the descriptor, and so the lock.
            with self._locked(self._shared, deadline) as file:
                self._read(file)
                self._state = self._advanced()
                yield self._state
                with _reported(self._shared):
                    os.pwrite(file, _STATE.pack(*self._state), 0)
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def _locked(self, path: str, deadline: float) -> Iterator[int]:
        with _reported(path):
            self._file = file = trusted.open_own(path, _KIND)
        try:
            with _reported(path):
                locking.wait_for(file, deadline)
            try:
                yield file
            finally:
                # Unlock explicitly: a child forked in the meantime has the descriptor too.
                fcntl.flock(file, fcntl.LOCK_UN)
        finally:
            self._file = -1
            os.close(file)

    def _after_fork(self) -> tuple[()]:
        self._lock = threading.Lock()
        # Left open, it would keep the parent's lock alive if the parent were killed.
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        return ()

    def _read(self, file: int) -> None:
        data = os.pread(file, _STATE.size, 0)
        if len(data) == _STATE.size:
            tokens, rate, then, halved = _STATE.unpack(data)
            # The clock restarts with the machine: a state from before is void.
            if halved <= then <= now() and _LEAST_RATE <= rate <= self.rate and -math.inf < tokens <= self._burst:
                self._state = tokens, rate, then, halved

    def _advanced(self) -> _State:
        tokens, rate, then, halved = self._state
        when = now()
        tokens = min(self._burst, tokens + (when - then) * rate)
        return tokens, min(self.rate, rate + (when - then) * _RECOVERY * self.rate), when, halved


def _locked_error(path: str) -> FileError:
    return FileError(
        f"using the shared rate limit '{printable(path)}' failed: another process holds a lock on the file. Stop it "
        "('fuser' shows which one), or use another file"
    )


@contextlib.contextmanager
def _reported(path: str) -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise _locked_error(path) from None
    except OSError as error:
        raise FileError(f"using the shared rate limit '{printable(path)}' failed: {disk.reason(error)}") from error
