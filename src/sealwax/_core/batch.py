"""Many values at a time, in order and with bounded memory."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from typing import Final, Literal, TypeVar, overload

from sealwax._core.keyring import asked_at, now
from sealwax._core.pool import Pool
from sealwax.errors import SealwaxError, is_of_credentials

Item = TypeVar("Item")
Result = TypeVar("Result")

# How many results may wait for an earlier one.
_AHEAD: Final = 64
MOST_THREADS: Final = 1000
_THREADS: Final = "sealwax-batch"


class Waiting:
    """Whether work waits more than it computes, so that threads save more than they cost.

    Args:
        known: whether that is known in advance.
    """

    def __init__(self, *, known: bool = False) -> None:
        self._known = known
        self._took = self._worked = 0.0

    @property
    def dominates(self) -> bool:
        return self._known or self._took > 2 * self._worked

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Measure work that is done inside, in this thread."""
        began, began_working = time.monotonic(), time.thread_time()
        try:
            yield
        finally:
            self.add(time.monotonic() - began, time.thread_time() - began_working)

    def add(self, took: float, worked: float) -> None:
        """Add work that took so many seconds, and so many of processor time."""
        self._took += took
        self._worked += worked


@overload
def run(
    items: Iterable[Item],
    at_once: Callable[[Item], Result | None],
    work: Callable[[Item], Result],
    *,
    threads: int | None,
    return_exceptions: Literal[False] = False,
) -> Generator[Result]: ...


@overload
def run(
    items: Iterable[Item],
    at_once: Callable[[Item], Result | None],
    work: Callable[[Item], Result],
    *,
    threads: int | None,
    return_exceptions: bool,
) -> Generator[Result | SealwaxError]: ...


def run(
    items: Iterable[Item],
    at_once: Callable[[Item], Result | None],
    work: Callable[[Item], Result],
    *,
    threads: int | None,
    return_exceptions: bool = False,
) -> Generator[Result | SealwaxError]:
    """Yield the result of each item, in the items' order.

    Once an item has failed because of the AWS credentials, all items that have not begun get the same error, so that
    the source of the credentials is not asked again for each.

    Args:
        at_once: handles an item without waiting; returns None if it would have to wait or a thread is worth its cost.
        work: handles an item in a thread.
        threads: how many; None for every processor and a few more that wait for KMS.
        return_exceptions: yield an item's error in its place instead of raising the first one.

    Raises:
        ValueError: this is a forked child of the process that began.
    """

    waiting: deque[Future[Result] | Result | SealwaxError] = deque()
    no_credentials: list[SealwaxError] = []

    def begin(item: Item) -> Result:
        if no_credentials:
            raise copy.copy(no_credentials[0])
        try:
            return work(item)
        except SealwaxError as error:
            if is_of_credentials(error):
                no_credentials.append(copy.copy(error))
            raise

    def later(item: Item) -> Future[Result]:
        context = contextvars.copy_context()
        context.run(asked_at.set, now())
        return pool.submit(context.run, begin, item)

    def settle(outcome: Future[Result] | Result | SealwaxError) -> Result | SealwaxError:
        try:
            settled = outcome.result() if isinstance(outcome, Future) else outcome
        except SealwaxError as error:
            settled = error
        if isinstance(settled, SealwaxError) and not return_exceptions:
            raise settled
        return settled

    pool = Pool(threads or (os.cpu_count() or 1) + 4, _THREADS)
    try:
        for item in items:
            try:
                result = at_once(item)
                waiting.append(later(item) if result is None else result)
            except SealwaxError as error:
                waiting.append(error)
            while waiting and (len(waiting) > _AHEAD or not isinstance(waiting[0], Future) or waiting[0].done()):
                yield settle(waiting.popleft())
                pool.refuse_forked("a batch")
        while waiting:
            yield settle(waiting.popleft())
            pool.refuse_forked("a batch")
    finally:
        # An abandoned generator may be collected as garbage in one of the threads, which cannot wait for itself.
        elsewhere = not threading.current_thread().name.startswith(_THREADS)
        pool.shutdown(wait=elsewhere, cancel=True)
