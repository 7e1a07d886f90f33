"""One background task at a time: the next read of a large file, or its last write."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, ParamSpec, TypeVar

from sealwax._core.format.io import is_on_disk

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

P = ParamSpec("P")
T = TypeVar("T")

# Starting and ending a thread takes about 0.1 ms, little beside the 1 ms that this many MiB take first.
AFTER_GROUPS: Final = 4


def worth_it(file: object) -> bool:
    """Whether ``file`` says that its reads and writes never wait for another program, and a second core is there.

    A pipe may wait forever for its other end, and the caller's own file object may belong to the caller's thread.
    """
    return is_on_disk(file) and _cores() > 1


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class BackgroundTask(Generic[T]):
    """A second thread, started when it is first needed. A forked child has none, and must not use it."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._work: Future[T] | None = None
        self._process = 0
        self._thread: list[int] = []

    @property
    def busy(self) -> bool:
        """Whether there is work whose result has not been taken yet."""
        return self._work is not None

    def start(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Begin ``work``, once the previous result was taken; return False if there is no thread and never will be."""
        try:
            if self._pool is None:
                # Imported late, since most values are small. While the interpreter ends, the import fails.
                from concurrent.futures import ThreadPoolExecutor

                self._process = os.getpid()
                self._pool = ThreadPoolExecutor(1, "sealwax-background", _tell, (self._thread,))
            self._work = self._pool.submit(work, *args, **kwargs)
        except RuntimeError:  # a limit on threads, or the interpreter is ending
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
            return False
        return True

    def wait(self) -> T:
        """Return what the work returns, or raise what it raises.

        If a signal handler raises something else, the work continues and its outcome may be lost.
        """
        work = self._work
        if work is None:
            raise ValueError("no work has begun")
        try:
            return work.result()
        finally:
            if work.done():
                self._work = None
            # Without this, the exception would hold this frame, and the frame the exception.
            del work

    def close(self, *, join: bool = True) -> None:
        """End the thread after the current work, and drop its outcome.

        Args:
            join: whether to wait for the end of the thread. The garbage collector must not: a frame further up may hold
                a lock that a thread needs to end.
        """
        work, pool = self._work, self._pool
        self._work = self._pool = None
        if pool is None or self._process != os.getpid():
            return
        # The garbage may be collected in the second thread, which would wait for itself.
        elsewhere = threading.get_ident() not in self._thread
        try:
            if work is not None and elsewhere:
                _outlast(work)
        finally:
            pool.shutdown(wait=join and elsewhere)


def _tell(thread: list[int]) -> None:
    thread.append(threading.get_ident())


def _outlast(work: Future[T]) -> None:
    """Wait for the end of ``work``, whatever interrupts: until then it uses what is closed and wiped next."""
    interruption: BaseException | None = None
    while not work.done():
        try:
            work.exception()
        except BaseException as error:
            interruption = error
    if interruption is not None:
        try:
            raise interruption
        finally:
            del interruption
