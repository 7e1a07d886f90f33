"""One piece of work at a time in a thread beside the caller's: a large file's next read, or its last write."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

P = ParamSpec("P")
T = TypeVar("T")

# A thread takes about 0.1 ms to start and to end, which so many MiB before it make small: they take 1 ms.
AFTER_GROUPS: Final = 4


def worth_it(file: object) -> bool:
    """Whether ``file`` is one of our own on a disk, whose reads and writes end by themselves, and a core is free.

    A pipe may wait for its other end for ever, and a file object of the caller's may belong to the caller's thread.
    """
    return getattr(file, "on_disk", False) and _cores() > 1


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Beside(Generic[T]):
    """The second thread, started when it is first needed. A forked child has none, and is not to ask for it."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._work: Future[T] | None = None
        self._process = 0
        self._thread: list[int] = []

    @property
    def busy(self) -> bool:
        """Whether there is work whose result was not taken yet."""
        return self._work is not None

    def start(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Begin ``work``, after the one before was waited for; False where no thread is to be had, and none will be."""
        try:
            if self._pool is None:
                # Imported late, since most values are small; too late while the interpreter ends.
                from concurrent.futures import ThreadPoolExecutor

                self._process = os.getpid()
                self._pool = ThreadPoolExecutor(1, "sealwax-beside", _tell, (self._thread,))
            self._work = self._pool.submit(work, *args, **kwargs)
        except RuntimeError:  # a limit on threads, or the interpreter is ending
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
            return False
        return True

    def wait(self) -> T:
        """Return what the work under way returns, or raise what it raises.

        A signal's handler may raise something else: then the work goes on, and its outcome may be lost.
        """
        work = self._work
        if work is None:
            raise ValueError("there is no work under way")
        try:
            return work.result()
        finally:
            if work.done():
                self._work = None
            # An exception that is kept holds this frame, and so would hold itself.
            del work

    def close(self, *, join: bool = True) -> None:
        """End the thread, after the work under way, whose outcome nobody wants any more.

        Args:
            join: whether to see the thread end. Where garbage is collected, a frame further up may hold a lock that a
                thread takes to end.
        """
        work, pool = self._work, self._pool
        self._work = self._pool = None
        if pool is None or self._process != os.getpid():
            return
        # The second thread itself can be the one that collects the garbage, and would wait for itself.
        elsewhere = threading.get_ident() not in self._thread
        try:
            if work is not None and elsewhere:
                _outlast(work)
        finally:
            pool.shutdown(wait=join and elsewhere)


def _tell(thread: list[int]) -> None:
    thread.append(threading.get_ident())


def _outlast(work: Future[T]) -> None:
    """Wait for the end of ``work``, whatever comes between: until then it uses what is closed and wiped next."""
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
