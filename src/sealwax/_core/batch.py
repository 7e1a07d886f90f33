"""Many values at a time: order kept, memory bounded, one value's error its own."""

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
from typing import Final, TypeVar

from sealwax._core.keyring import asked_at, now
from sealwax._core.pool import Pool
from sealwax.errors import SealwaxError, is_of_credentials

Item = TypeVar("Item")
Result = TypeVar("Result")

# So many results may wait for the one before them.
_AHEAD: Final = 64
MOST_THREADS: Final = 1000
_THREADS: Final = "sealwax-batch"


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.thread_time()


class Waiting:
    """Whether work waits more than it works, so that threads save more than they cost.

    Args:
        known: whether that is known before any of it is done.
    """

    def __init__(self, *, known: bool = False, _clocks: Callable[[], tuple[float, float]] = _clocks) -> None:
        self._known = known
        self._clocks = _clocks
        self._took = self._worked = 0.0

    @property
    def dominates(self) -> bool:
        return self._known or self._took > 2 * self._worked

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Measure work that is done inside, in this thread."""
        took, worked = self._clocks()
        try:
            yield
        finally:
            took_until, worked_until = self._clocks()
            self._took += took_until - took
            self._worked += worked_until - worked


def run(
    items: Iterable[Item],
    at_once: Callable[[Item], Result | None],
    work: Callable[[Item], Result],
    *,
    threads: int | None,
    stop_on_error: bool,
) -> Generator[Result | SealwaxError]:
    """Yield the result of each item, or its error, in the items' order.

    Once one has failed for want of AWS credentials, the items that are not yet begun get the same error: where
    credentials come from is not asked again for each.

    Args:
        at_once: does an item without any wait; None where it would have to wait, or where a thread is worth while.
        work: does an item in a thread.
        threads: how many; None: enough to use every processor and to wait for a few KMS calls besides.
        stop_on_error: raise the first error instead of yielding it.

    Raises:
        ValueError: this is a forked child of the process that began.
    """
    waiting: deque[Future[Result] | Result | SealwaxError] = deque()
    over: list[SealwaxError] = []

    def begin(item: Item) -> Result:
        if over:
            raise copy.copy(over[0])
        try:
            return work(item)
        except SealwaxError as error:
            if is_of_credentials(error):
                over.append(copy.copy(error))
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
        if stop_on_error and isinstance(settled, SealwaxError):
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
        # What nobody iterates any more may be collected as garbage in one of the threads, which cannot see its own end.
        elsewhere = not threading.current_thread().name.startswith(_THREADS)
        pool.shutdown(wait=elsewhere, cancel=True)
