"""One piece of work at a time in a thread beside the caller's: a large file's next read, or its last write."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, ParamSpec, TypeVar

from sealwax.format.payload import FORKED

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
    """The second thread, started when it is first needed.

    A forked child has no such thread: work that was under way there is lost, and said to be.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._work: Future[T] | None = None
        self._process = 0

    @property
    def busy(self) -> bool:
        """Whether there is work whose result was not taken yet."""
        return self._work is not None

    def start(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Begin ``work``, after the one before was waited for; False where no thread is to be had."""
        # Imported late, since most values are small.
        from concurrent.futures import ThreadPoolExecutor

        pool = self._pool
        if pool is None:
            pool = self._pool = ThreadPoolExecutor(1, "sealwax-beside")
            self._process = os.getpid()
        try:
            self._work = pool.submit(work, *args, **kwargs)
        except RuntimeError:  # a limit on threads, or the interpreter is ending
            pool.shutdown(wait=False, cancel_futures=True)
            return False
        return True

    def wait(self) -> T:
        """Return what the work under way returns, or raise what it raises.

        Raises:
            RuntimeError: it was begun before this process was forked.
        """
        work = self._work
        if work is None:
            raise ValueError("there is no work under way")
        if self._process != os.getpid():
            raise RuntimeError(FORKED)
        try:
            return work.result()
        finally:
            if work.done():
                self._work = None
            # An exception that is kept holds this frame, and so would hold itself.
            del work

    def close(self) -> None:
        """End the thread, after the work under way, whose outcome nobody wants any more."""
        work, pool = self._work, self._pool
        self._work = self._pool = None
        if pool is not None and self._process == os.getpid():
            if work is not None:
                with contextlib.suppress(Exception):
                    work.result()
            pool.shutdown()
