"""Where the work of a fleet is done: the protocol of engines, and the one of threads on this machine."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from sealwax._core import batch
from sealwax.errors import FileError, SealwaxError
from sealwax.fleet import _shard
from sealwax.fleet._kms_calls import Rewrapper
from sealwax.fleet._settings import Settings
from sealwax.fleet._shard import Found, Item, Result
from sealwax.stores._store import S3_SCHEME, Entry, Store, is_missing_location, keeping_folder_open

T = TypeVar("T")
R = TypeVar("R")

WORKERS: Final = 8
_SCAN_BATCH: Final = 64
_RUN_BATCH: Final = 8
# The error rate is that of so many last objects, once there are so few.
_WINDOW: Final = 100
_AT_LEAST: Final = 20


def _nothing_at_once(_: object) -> None:
    return None


def parallel(
    items: Iterable[T],
    work: Callable[[T], R],
    workers: int,
    at_once: Callable[[T], R | None] = _nothing_at_once,
) -> Iterator[R]:
    """Yield what ``work`` returns for each item, in their order; what it raises ends it.

    Args:
        at_once: does an item without a thread; None where a thread is to do it.
    """
    for outcome in batch.run(items, at_once, work, threads=workers, stop_on_error=True):
        assert not isinstance(outcome, SealwaxError)  # it would have been raised
        yield outcome


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items, so many at a time."""
    part: list[T] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def entries_of(
    store: Store, unlisted: Callable[[str], None], without: Collection[str] = frozenset()
) -> Iterator[Entry]:
    """Yield a store's objects but for some names; tell ``unlisted`` what could not be looked at.

    Raises:
        FileError: there is no such place.
    """
    for entry in _listed(store):
        if isinstance(entry, SealwaxError):
            unlisted(str(entry))
        elif entry.name not in without:
            yield entry


def _listed(store: Store) -> Iterator[Entry | SealwaxError]:
    """Yield what a store lists, and last why its listing could not go on: other places are no worse for that."""
    try:
        yield from store.list()
    except FileError as error:
        if is_missing_location(error):
            raise
        yield error


class Health:
    """Decides when a run must not go on.

    Args:
        max_error_rate: when more than this part of the last hundred objects has failed.
        until: after this time, in seconds of ``time.monotonic``; None: never.
        stop: whether to stop for another reason.

    Attributes:
        ended: why it must not; "" while it may.
    """

    def __init__(self, max_error_rate: float, until: float | None, stop: Callable[[], bool]) -> None:
        self.max_error_rate = max_error_rate
        self.until = until
        self._lock = threading.Lock()
        self._last: deque[bool] = deque(maxlen=_WINDOW)
        self._stop = stop
        self.ended = ""

    def saw(self, result: Result) -> None:
        with self._lock:
            self._last.append(result.kms_error or result.state == _shard.FAILED)
            bad, last = sum(self._last), len(self._last)
        if result.no_credentials:
            self.ended = result.reason
        elif last >= _AT_LEAST and bad > self.max_error_rate * last:
            self.ended = self.ended or f"{bad} of the last {last} objects failed"

    def over(self) -> bool:
        if not self.ended:
            if self._stop():
                self.ended = "it was stopped"
            elif self.until is not None and time.monotonic() > self.until:
                self.ended = "its time was up"
        return bool(self.ended)


class Engine(Protocol):
    """Where the work on a plan's objects is done. The plan file, and what is to be done, are not its concern."""

    def look(
        self,
        place: int,
        store: Store,
        fleet: Settings,
        unlisted: Callable[[str], None],
        own: Collection[str],
    ) -> Iterator[tuple[list[Entry], list[Found]]]:
        """Yield the objects of a place and what :func:`sealwax.fleet._shard.scan` says of each, some at a time.

        Args:
            place: the place's number in the plan.
            unlisted: told what could not be listed.
            own: names of the plan's own files, which are not to be opened.
        """

    def rewrap(
        self,
        parts: Iterable[tuple[int, list[Item]]],
        stores: Sequence[Store],
        fleet: Settings,
        made: Rewrapper,
        health: Health,
    ) -> Iterator[list[Result]]:
        """Yield what becomes of objects, some at a time, until ``health`` is over.

        Args:
            parts: numbers of places, and objects there.
            made: calls KMS, or counts the calls that are made elsewhere.
        """


class Threads:
    """The engine for one machine.

    Args:
        workers: how many objects at a time; headers that are there at once are looked at one after the other.
    """

    def __init__(self, workers: int = WORKERS) -> None:
        self._workers = workers

    def look(
        self,
        place: int,  # noqa: ARG002  another engine opens the place elsewhere
        store: Store,
        fleet: Settings,
        unlisted: Callable[[str], None],
        own: Collection[str],
    ) -> Iterator[tuple[list[Entry], list[Found]]]:
        """See :meth:`Engine.look`."""

        def look(part: list[Entry]) -> tuple[list[Entry], list[Found]]:
            with keeping_folder_open(store) as here:
                return part, list(_shard.scan((Item(0, entry.name) for entry in part), fleet, here))

        waiting = batch.Waiting(known=store.location.startswith(S3_SCHEME))

        def look_here(part: list[Entry]) -> tuple[list[Entry], list[Found]] | None:
            if waiting.dominates:
                return None
            with waiting.measured():
                return look(part)

        return parallel(batches(entries_of(store, unlisted, own), _SCAN_BATCH), look, self._workers, look_here)

    def rewrap(
        self,
        parts: Iterable[tuple[int, list[Item]]],
        stores: Sequence[Store],
        fleet: Settings,
        made: Rewrapper,
        health: Health,
    ) -> Iterator[list[Result]]:
        """See :meth:`Engine.rewrap`."""
        return self.each(
            parts, lambda place, items: _shard.rewrap(items, fleet, stores[place], made, health.over), health
        )

    def each(
        self,
        parts: Iterable[tuple[int, list[Item]]],
        do: Callable[[int, list[Item]], Iterable[Result]],
        health: Health,
    ) -> Iterator[list[Result]]:
        """Yield what becomes of objects by ``do``, some at a time, until ``health`` is over."""

        def work(part: tuple[int, list[Item]]) -> list[Result]:
            results = []
            for result in do(*part):
                health.saw(result)  # at once: it may be why the next one is not begun
                results.append(result)
            return results

        def small_parts() -> Iterator[tuple[int, list[Item]]]:
            for place, page in parts:
                for items in batches(page, _RUN_BATCH):
                    if health.over():
                        return
                    yield place, items

        return parallel(small_parts(), work, self._workers)
