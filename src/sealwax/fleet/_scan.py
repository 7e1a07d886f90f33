"""Scanning a fleet: every header of every location is read, and the plan then holds what is there and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from sealwax._core import context as ctx
from sealwax._text import printable
from sealwax.fleet import _client_objects, _mover, _reencrypt
from sealwax.fleet._journal import Journal
from sealwax.fleet._moves import JournalMoves
from sealwax.fleet._moving import Targets
from sealwax.fleet._planfile import names_in
from sealwax.fleet._settings import Settings
from sealwax.fleet._shard import ScanResult
from sealwax.fleet._state import State
from sealwax.fleet._threads import Engine, batches
from sealwax.stores import Entry, Store
from sealwax.stores._files import FileStore

OnProgress = Callable[[int, int], None]
"""Called with how many objects are done, and how many there are; 0 if that is not known yet."""

_BATCH: Final = 64


class Scan:
    """One scan of all locations of a plan.

    Args:
        journal: the plan's.
        settings: the plan's.
        stores: its locations.
        plan: where the plan file is, or will be.
        targets: where envelopes go, if the plan moves.
        first: whether a re-encryption counts what this scan sees as old.

    Attributes:
        unbound: how many objects of the S3 Encryption Client to work on have a context without a pair of their own.
    """

    def __init__(
        self,
        journal: Journal,
        settings: Settings,
        stores: Sequence[Store],
        plan: Path,
        *,
        targets: Targets | None,
        first: bool = False,
    ) -> None:
        self._journal = journal
        self._settings = settings
        self._stores = stores
        self._plan = plan
        self._first = first
        self._targets = targets
        self._moves = JournalMoves(journal)
        self._roots = [os.path.realpath(store.location) for store in stores if isinstance(store, FileStore)]
        self._incomplete: set[int] = set()
        self._done = 0
        self.unbound = 0

    def run(self, engine: Engine, on_progress: OnProgress) -> int:
        """Scan, and return how many objects the plan held before that no longer exist.

        It is one transaction: an interrupted scan leaves the plan as it was.
        """
        with self._journal.writing():
            number = self._journal.begin_scan()
            empty = [
                place
                for place in range(len(self._stores))
                if not self._scan_location(number, place, engine, on_progress) and place not in self._incomplete
            ]
            self._journal.set_fact("empty", empty)
            return self._journal.end_scan(number, self._incomplete)

    def _scan_location(self, number: int, place: int, engine: Engine, on_progress: OnProgress) -> bool:
        """Scan one location; return whether it may hold envelopes."""
        store = self._stores[place]

        def unlisted(message: str) -> None:
            self._incomplete.add(place)
            self._journal.record_unlisted(message)

        has_envelopes = False
        own = names_in(store.location, (self._plan, self._journal.path))
        for entries, results in engine._scan(place, store, self._settings, unlisted, own):
            if self._settings.reencrypt:
                results = self._reencryption_states(place, results)
            if self._targets is not None:
                results = _mover.scanned(results, store, self._moves, self._targets)
            elif self._settings.also:
                results = [self._known(place, result) for result in results]
            self._record(number, place, zip(entries, results, strict=True))
            # An unreadable object may be an envelope.
            has_envelopes = has_envelopes or any(result.state != State.FOREIGN for result in results)
            self._done += len(entries)
            on_progress(self._done, 0)
        if isinstance(store, FileStore):
            for links in batches(store.links_out(self._roots), _BATCH):
                self._record(number, place, map(_link, links))
        return has_envelopes

    def _known(self, place: int, result: ScanResult) -> ScanResult:
        """Return what an object is, since only the plan knows which of them its runs have re-wrapped."""
        if result.state != State.STALE or result.reasons[0] not in _client_objects.WORDS:
            return result
        (key,) = self._settings.wanted.keys
        written = self._journal.has_written(result.name, key, result.hashes)
        unfinished = self._journal.unfinished(place, result.name) if written else None
        if written and unfinished is None:
            keys = _client_objects.keys_of(self._settings)
            return replace(result, state=State.FRESH, reasons=(), keys=keys, units=())
        self.unbound += result.context == ctx.EMPTY
        if unfinished is None:
            return result
        # The copy was made. What the run had to tell of it stays until another run.
        state, reason = unfinished
        return replace(result, state=state, reason=reason, units=())

    def _record(self, number: int, place: int, pairs: Iterable[tuple[Entry, ScanResult]]) -> None:
        pairs = list(pairs)
        seen = self._journal.already_seen(number, place, (entry.name for entry, _ in pairs))
        self._journal.record(number, place, [pair for pair in pairs if pair[0].name not in seen])

    def _reencryption_states(self, place: int, results: Sequence[ScanResult]) -> list[ScanResult]:
        journal = self._journal
        if self._first:
            candidates = (result for result in results if result.state in (State.STALE, State.REFUSED))
            journal.set_old(mark for result in candidates for mark in _reencrypt.marks_of(result))
        return [
            _reencrypt.reencryption_state(result, journal, journal.number_of(place, result.name)) for result in results
        ]


def _link(link: tuple[str, str]) -> tuple[Entry, ScanResult]:
    """Return what a plan records about a link, given with its target."""
    name, target = link
    if Path(target).exists():
        reason = f"it leads to '{printable(target)}', and links are not followed; add that location"
    else:
        reason = f"it leads to '{printable(target)}', which does not exist; remove the link"
    return Entry(name, 0, "", 0.0), ScanResult(0, name, State.LINK, reason)
