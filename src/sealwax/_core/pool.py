"""A pool of threads that outlives nothing: neither the end of the program nor a fork.

While the interpreter ends, no work starts in another thread any more, and a value that is sealed by an exit handler
must still be sealed: the caller's thread does the work then. In a forked child the threads do not exist, and whoever
waited for their results would wait for ever.
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
    """Up to ``threads`` threads; use it with ``with``, or :meth:`shutdown` it.

    Args:
        name: what the names of the threads begin with.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._process = os.getpid()
        self._pool: ThreadPoolExecutor | None = None
        try:
            # Where the interpreter is ending, and nobody has imported it before, the import fails.
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(threads, name)
        except RuntimeError:
            pass

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin ``work`` in a thread, or do it here and now where no thread is to be had."""
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
        """Refuse a forked child what its parent's threads work on.

        Args:
            what: the subject of the sentence.

        Raises:
            ValueError: this is another process than the one that made the pool.
        """
        if self._process != os.getpid():
            raise ValueError(f"{what} that was under way when the process was forked goes on in the parent only")

    def shutdown(self, *, wait: bool = True, cancel: bool = False) -> None:
        """Take no more work; in a forked child, do nothing.

        Args:
            wait: whether to wait for the work under way.
            cancel: whether to drop what has not begun.
        """
        if self._pool is not None and self._process == os.getpid():
            self._pool.shutdown(wait=wait, cancel_futures=cancel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
