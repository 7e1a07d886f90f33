"""Engines do the work on a plan's objects: the protocol, and the engine that uses threads on this machine."""

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
from sealwax.fleet._shard import Item, RunResult, ScanResult
from sealwax.fleet._state import State
from sealwax.stores._store import S3_SCHEME, Entry, Store, is_missing_location, keeping_folder_open

T = TypeVar("T")
R = TypeVar("R")

WORKERS: Final = 8
_SCAN_BATCH: Final = 64
_RUN_BATCH: Final = 8
# The error rate counts this many last objects, once there are at least so many.
_WINDOW: Final = 100
_AT_LEAST: Final = 20


def _nothing_inline(_: object) -> None:
    return None


def parallel(
    items: Iterable[T],
    work: Callable[[T], R],
    workers: int,
    inline: Callable[[T], R | None] = _nothing_inline,
) -> Iterator[R]:
    """Yield what ``work`` returns for each item, in order. An exception ends it.

    Args:
        inline: does an item in this thread, or returns None to leave it to another.
    """
    return batch.run(items, inline, work, threads=workers)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items, ``size`` at a time."""
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
    """Yield a store's objects except ``without``; tell ``unlisted`` what could not be listed.

    Raises:
        FileError: the location does not exist.
    """
    for entry in _listed(store):
        if isinstance(entry, SealwaxError):
            unlisted(str(entry))
        elif entry.name not in without:
            yield entry


def _listed(store: Store) -> Iterator[Entry | SealwaxError]:
    """Yield what a store lists, then why its listing could not continue, if so: other locations are still listed."""
    try:
        yield from store.list()
    except FileError as error:
        if is_missing_location(error):
            raise
        yield error


class Health:
    """Decides when a run must end.

    Args:
        max_error_rate: end when more than this fraction of the last hundred objects failed.
        until: end after this time, in seconds of ``time.monotonic``; None: never.
        stop: returns whether to end for another reason.

    Attributes:
        ended: why the run must end; "" while it may continue.
    """

    def __init__(self, max_error_rate: float, until: float | None, stop: Callable[[], bool]) -> None:
        self.max_error_rate = max_error_rate
        self.until = until
        self._lock = threading.Lock()
        self._last: deque[bool] = deque(maxlen=_WINDOW)
        self._stop = stop
        self.ended = ""

    def saw(self, result: RunResult) -> None:
        """Count a result."""
        with self._lock:
            self._last.append(result.kms_error or result.state == State.FAILED)
            bad, last = sum(self._last), len(self._last)
        if result.no_credentials:
            self.ended = result.reason
        elif last >= _AT_LEAST and bad > self.max_error_rate * last:
            self.ended = self.ended or f"{bad} of the last {last} objects failed"

    def over(self) -> bool:
        """Whether the run must end."""
        if not self.ended:
            if self._stop():
                self.ended = "it was stopped"
            elif self.until is not None and time.monotonic() > self.until:
                self.ended = "its time is up"
        return bool(self.ended)


class Engine(Protocol):
    """What works on a plan's objects: a ``fleet.spark.Spark``, or threads if none is given. Not to be implemented."""

    def _scan(
        self,
        place: int,
        store: Store,
        settings: Settings,
        unlisted: Callable[[str], None],
        own: Collection[str],
    ) -> Iterator[tuple[list[Entry], list[ScanResult]]]:
        """Yield the objects of a location and what ``_shard.scan`` says about each, some at a time.

        Args:
            place: the location's number in the plan.
            unlisted: called with what could not be listed.
            own: names of the plan's own files, which must not be opened.
        """

    def _rewrap(
        self,
        parts: Iterable[tuple[int, list[Item]]],
        stores: Sequence[Store],
        settings: Settings,
        rewrapper: Rewrapper,
        health: Health,
    ) -> Iterator[list[RunResult]]:
        """Yield what was done with objects, some at a time, until ``health`` is over.

        Args:
            parts: numbers of locations, and objects there.
            rewrapper: calls KMS, or counts the calls that executors make.
        """


class Threads:
    """The engine for one machine.

    Args:
        workers: how many objects at a time; headers that can be read without waiting are read one by one.
    """

    def __init__(self, workers: int = WORKERS) -> None:
        self._workers = workers

    def _scan(
        self,
        place: int,  # noqa: ARG002  Spark opens the location elsewhere
        store: Store,
        settings: Settings,
        unlisted: Callable[[str], None],
        own: Collection[str],
    ) -> Iterator[tuple[list[Entry], list[ScanResult]]]:
        def scan(part: list[Entry]) -> tuple[list[Entry], list[ScanResult]]:
            with keeping_folder_open(store) as here:
                return part, list(_shard.scan((Item(0, entry.name) for entry in part), settings, here))

        waiting = batch.Waiting(known=store.location.startswith(S3_SCHEME))

        def scan_inline(part: list[Entry]) -> tuple[list[Entry], list[ScanResult]] | None:
            if waiting.dominates:
                return None
            with waiting.measured():
                return scan(part)

        return parallel(batches(entries_of(store, unlisted, own), _SCAN_BATCH), scan, self._workers, scan_inline)

    def _rewrap(
        self,
        parts: Iterable[tuple[int, list[Item]]],
        stores: Sequence[Store],
        settings: Settings,
        rewrapper: Rewrapper,
        health: Health,
    ) -> Iterator[list[RunResult]]:
        return self.each(
            parts, lambda place, items: _shard.rewrap(items, settings, stores[place], rewrapper, health.over), health
        )

    def each(
        self,
        parts: Iterable[tuple[int, list[Item]]],
        do: Callable[[int, list[Item]], Iterable[RunResult]],
        health: Health,
    ) -> Iterator[list[RunResult]]:
        """Yield what ``do`` returns for objects, some at a time, until ``health`` is over."""

        def work(part: tuple[int, list[Item]]) -> list[RunResult]:
            results = []
            for result in do(*part):
                health.saw(result)  # before the next object, which it may keep from being started
                results.append(result)
            return results

        def small_parts() -> Iterator[tuple[int, list[Item]]]:
            for place, page in parts:
                for items in batches(page, _RUN_BATCH):
                    if health.over():
                        return
                    yield place, items

        return parallel(small_parts(), work, self._workers)
