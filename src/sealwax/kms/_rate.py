"""A token bucket for KMS requests, that slows down when KMS throttles and speeds up again while it does not.

One bucket serves an account and Region. It is shared by all threads of a process, and, where a file is named, by all
processes of one machine that name it. The rate follows additive increase and multiplicative decrease, as TCP's does:
halved when a request is throttled, raised by a twentieth of the full rate each second without one. Requests that were
on their way when the rate was halved have said nothing about the new one, and do not halve it again.
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
from typing import Any, Final, Self

from sealwax._core import disk, fork_locks, trusted, validate
from sealwax._core.context import printable
from sealwax._core.keyring import now
from sealwax.errors import FileError

# Tokens and rate, when they were true, and when the rate was last halved, in seconds of the machine's clock.
_STATE: Final = struct.Struct("<dddd")
_State = tuple[float, float, float, float]
_LEAST_RATE: Final = 0.01
_RECOVERY: Final = 0.05
_KIND: Final = trusted.Kind("the shared rate limit", FileError)
# Others hold the lock on a shared file for microseconds.
_LONGEST_WAIT_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.001


class RateLimit:
    """Lets requests through at up to ``rate`` a second.

    Args:
        rate: requests a second.
        burst: requests that may go at once after a pause, at least 1; default: those of one second.
        shared: a file that all processes of a user of this machine use that are to share the limit; made where it is
            not there, and refused where others may write it.

    Pickled for another process, it is a limit of that process's own there, unless it is ``shared``. A copy is the same
    limit.

    Raises:
        TypeError: a parameter of another kind.
        ValueError: the rate is not positive, or the burst is below 1.
        FileError: the file cannot be opened, or somebody else can have written it.
    """

    def __init__(
        self, rate: float, *, burst: float | None = None, shared: str | os.PathLike[str] | None = None
    ) -> None:
        self.rate = validate.number("rate", rate, "requests a second")
        self._burst = max(1.0, rate) if burst is None else validate.number("burst", burst, "requests", least=1)
        self._lock = threading.Lock()
        self._file = -1  # the shared file, while it is locked or waited for
        fork_locks.renew_in_children(self)
        self._state: _State = (self._burst, rate, now(), 0.0)
        # Another process, to which this is pickled, may work in another folder.
        self._shared = None if shared is None else str(Path(validate.path("shared", shared)).absolute())
        with self._exclusive():
            pass  # an unusable file is told of now

    def acquire(self, deadline: float) -> bool:
        """Wait for a turn; return False where none comes before ``deadline``, in seconds of ``time.monotonic``.

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
        """Halve the rate: KMS has refused a request, sent at ``since`` of ``time.monotonic``, for being one too many.

        Raises:
            FileError: the shared file cannot be used.
        """
        with self._exclusive() as (tokens, rate, when, halved):
            if since > halved:
                self._state = (min(tokens, 0.0), max(rate / 2, _LEAST_RATE), when, when)

    @property
    def current_rate(self) -> float:
        """The requests a second that are let through now."""
        with self._exclusive() as (_, rate, _when, _halved):
            return rate

    def __copy__(self) -> Self:
        return self  # two would let twice as much through

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"rate": self.rate, "burst": self._burst, "shared": self._shared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        RateLimit.__init__(self, **state)

    @contextlib.contextmanager
    def _exclusive(self, deadline: float | None = None) -> Iterator[_State]:
        """Lend the state as of now; what ``_state`` is afterwards is kept.

        Args:
            deadline: when to give a lock up that somebody else holds.
        """
        fork_locks.notice()
        deadline = now() + _LONGEST_WAIT_SECONDS if deadline is None else deadline
        # Threads hold it for long only where one of them waits for the file.
        if not self._lock.acquire(timeout=max(0.0, deadline - now())):
            raise _is_held(str(self._shared))
        try:
            if self._shared is None:
                self._state = self._advanced()
                yield self._state
                return
            # Opened each time: a forked child would share a descriptor, and with it the lock.
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
            _lock_file(file, path, deadline)
            try:
                yield file
            finally:
                # Not left to closing: a child that was forked meanwhile has the descriptor too.
                fcntl.flock(file, fcntl.LOCK_UN)
        finally:
            self._file = -1
            os.close(file)

    def _after_fork(self) -> tuple[()]:
        self._lock = threading.Lock()
        # Kept open here, it would keep the parent's lock if the parent were killed.
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        return ()

    def _read(self, file: int) -> None:
        data = os.pread(file, _STATE.size, 0)
        if len(data) == _STATE.size:
            tokens, rate, then, halved = _STATE.unpack(data)
            # The clock starts anew when the machine does; a state from before says nothing.
            if halved <= then <= now() and _LEAST_RATE <= rate <= self.rate and -math.inf < tokens <= self._burst:
                self._state = tokens, rate, then, halved

    def _advanced(self) -> _State:
        tokens, rate, then, halved = self._state
        when = now()
        tokens = min(self._burst, tokens + (when - then) * rate)
        return tokens, min(self.rate, rate + (when - then) * _RECOVERY * self.rate), when, halved


def _lock_file(file: int, path: str, deadline: float) -> None:
    """Lock the file. Whoever may read it can hold a lock on it for ever, or be stopped with one."""
    while True:
        try:
            with _reported(path):
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if now() >= deadline:
                raise _is_held(path) from None
            time.sleep(_PAUSE_SECONDS)


def _is_held(path: str) -> FileError:
    return FileError(
        f"using the shared rate limit '{printable(path)}' failed: another process holds a lock on the file. Stop it "
        "('fuser' shows which one), or share another file"
    )


@contextlib.contextmanager
def _reported(path: str) -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise FileError(f"using the shared rate limit '{printable(path)}' failed: {disk.reason(error)}") from error
