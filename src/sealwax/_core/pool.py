"""A pool of threads that survives neither the end of the program nor a fork.

While the interpreter ends, no other thread takes work, but an exit handler may still encrypt a value: then the caller's
thread does the work. In a forked child the threads do not exist, and waiting for their results would never end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

P = ParamSpec("P")
T = TypeVar("T")


class Pool:
    """Up to ``threads`` threads, until the end of ``with`` or ``shutdown``.

    Args:
        name: the prefix of the threads' names.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._process = os.getpid()
        self._pool: ThreadPoolExecutor | None = None
        try:
            # The first import fails while the interpreter ends.
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(threads, name)
        except RuntimeError:
            pass

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin ``work`` in a thread, or run it in this one if there is none."""
        try:
            if self._pool is not None:
                return self._pool.submit(work, *args, **kwargs)
        except RuntimeError:  # the interpreter is ending, or there is a limit on threads
            pass
        done: Future[T] = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done

    def refuse_forked(self, what: str) -> None:
        """Refuse to wait in a forked child for the parent's threads.

        Args:
            what: the subject of the sentence.

        Raises:
            ValueError: another process made the pool.
        """
        if self._process != os.getpid():
            raise ValueError(f"{what} that was running when the process was forked continues only in the parent")

    def shutdown(self, *, wait: bool = True, cancel: bool = False) -> None:
        """Take no more work; in a forked child, do nothing.

        Args:
            wait: whether to wait for running work.
            cancel: whether to drop work that has not begun.
        """
        if self._pool is not None and self._process == os.getpid():
            self._pool.shutdown(wait=wait, cancel_futures=cancel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
