"""The moves of a fleet: what a run does with files of other formats, and what a verification proves of their envelopes.

A run notes each envelope in the plan before it is in its place, with what its source can be told by and a witness of
the plaintext (``_core.format.witness``). So a killed run recognizes its envelopes, and no others. The sources stay.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO, Final, NamedTuple

from sealwax._core import moved, moving
from sealwax._core.context import AcceptStoredContext
from sealwax._core.moved import Moved, MoveMemory
from sealwax._core.moving import Original
from sealwax._core.operations import Binding, seal_from
from sealwax._core.sealer import Sealer
from sealwax.errors import (
    FileError,
    KmsError,
    NotAnEnvelopeError,
    RewrapConflictError,
    SealwaxError,
    UnsupportedEnvelopeError,
    is_of_credentials,
)
from sealwax.fleet import _moving, _shard
from sealwax.fleet._kms_calls import Rewrapper
from sealwax.fleet._moving import Targets, id_of_mark
from sealwax.fleet._settings import Settings
from sealwax.fleet._shard import Item, RunResult, ScanResult
from sealwax.fleet._state import State
from sealwax.fleet._threads import WORKERS, parallel
from sealwax.kms import KmsKeyring
from sealwax.stores._store import Store, real_name, relative

_ELSEWHERE: Final = "move what is there away, or plan again with another place for the envelopes"


class FleetMover:
    """Works on the objects of a plan that moves: it re-wraps envelopes, and moves files of other formats.

    One object serves all threads of a run.

    Args:
        settings: the plan's.
        memory: what the plan knows of its moves.
        targets: where envelopes go.
        rewrapper: re-wraps envelopes, and counts the calls.

    IAM actions: kms:Decrypt on a source, kms:GenerateDataKey on the first wanted key and kms:Encrypt on each other;
    for envelopes, those of ``Rewrapper``.
    """

    def __init__(self, settings: Settings, memory: MoveMemory, targets: Targets, rewrapper: Rewrapper) -> None:
        self._settings = settings
        self._of_envelopes = replace(settings, also=(), move=None)
        self._memory = memory
        self._targets = targets
        self._rewrapper = rewrapper
        keyring = rewrapper.sealing([key.arn for key in settings.wanted.keys])
        self._binding = Binding(keyring, frozenset())
        self._sealer = Sealer(keyring, allow_legacy=_moving.rules_of(settings).legacy)

    def work(self, items: Iterable[Item], store: Store, stop: Callable[[], bool]) -> Iterator[RunResult]:
        """Yield what was done with each object, as ``_shard.rewrap``."""
        for item in items:
            for result in _shard.rewrap((item,), self._of_envelopes, store, self._rewrapper, stop):
                if result.state == State.FOREIGN and _moving.may_be_asked_for(result.format, self._settings):
                    yield _shard.outcome(item, functools.partial(self._move, item, store, result))
                else:
                    yield result

    def _move(self, item: Item, store: Store, foreign: RunResult) -> RunResult:
        with store.open(item.name) as file:
            try:
                original = moving.look(file, _moving.rules_of(self._settings))
            except (NotAnEnvelopeError, UnsupportedEnvelopeError) as error:
                if isinstance(error, NotAnEnvelopeError) and not _moving.belongs(foreign.format):
                    return foreign
                raise _shard.NothingToDo(State.REFUSED, str(error), ()) from None
            if original is None or not _moving.is_asked_for(original.movable.format, self._settings):
                return foreign
            decision = _moving.decide(original.movable, self._settings, relative(item.name, store.location))
            if decision.state != State.STALE:
                raise _shard.NothingToDo(decision.state, decision.reason, ())
            mark = moved.mark_of(file)
            target = self._targets.name_of(store, item.name)
            if not self._is_done(store, item.name, target, mark):
                self._seal(store, item.name, target, mark, original, file)
        return RunResult(item.number, item.name, State.MOVED)

    def _is_done(self, store: Store, name: str, target: str, mark: str) -> bool:
        """Whether an earlier run has moved a file.

        Raises:
            RewrapConflictError: something else is at the target's place, or the file has changed since.
        """
        there = self._targets.envelope_id(store, target)
        if there is None:
            return False
        known = self._memory.find(name, target)
        conflict = moved.conflict(known, there, mark, target, "the plan")
        if conflict is not None:
            raise _conflict(conflict.why)
        return True

    def _seal(self, store: Store, name: str, target: str, mark: str, original: Original, file: BinaryIO) -> None:
        expected = _accepted(original)
        split = moving.split(self._binding, moving.to_bind(original.movable, expected))
        size = file.seek(0, 2)
        file.seek(0)
        with moved.name_taken(_conflict), self._targets.create(store, target, file, size) as sink:
            context = moving.to_read(original.movable, expected)
            with self._sealer.open_stream(original.message, context=context) as reader:
                witness, _ = seal_from(self._binding, split, reader, sink, witness=True)
                self._memory.add(Moved(real_name(name), real_name(target), mark, witness.hex()))


def _conflict(why: str) -> RewrapConflictError:
    return RewrapConflictError(f"{why}; {_ELSEWHERE}")


def _accepted(original: Original) -> AcceptStoredContext:
    """Return the context to open a file with: what was compared with the plan is what is then read."""
    return AcceptStoredContext(original.movable.context)


def scanned(results: Sequence[ScanResult], store: Store, memory: MoveMemory, targets: Targets) -> list[ScanResult]:
    """Return the results of a scan, with what the plan's runs have moved as such.

    A file is moved if the plan has noted an envelope of it as it is now, and that envelope is in its place.
    """
    noted: dict[str, Moved] = {}
    for result in results:
        if result.state == State.STALE and result.reasons and _moving.is_family(result.reasons[0]):
            known = memory.find(result.name, targets.name_of(store, result.name))
            if known is not None and id_of_mark(known.mark) == result.envelope_id:
                noted[result.name] = known

    def is_there(result: ScanResult) -> bool:
        known = noted.get(result.name)
        if known is None:
            return False
        try:
            return targets.envelope_id(store, targets.name_of(store, result.name)) == known.envelope_id
        except SealwaxError as error:
            if is_of_credentials(error):
                raise
            return False  # the run says why it cannot be read

    there = parallel(results, is_there, WORKERS) if noted else (False for _ in results)
    return [
        replace(result, state=State.MOVED, reasons=(), units=()) if done else result
        for result, done in zip(results, there, strict=True)
    ]


class Comparison(NamedTuple):
    """What came of comparing a file with its envelope: ``"same"``, ``"changed"``, ``"closed"`` (they cannot be opened)
    or ``"unread"``, the name it is about, and why.
    """

    outcome: str
    name: str
    why: str = ""


class Comparer:
    """Opens files and their envelopes, and compares what they hold.

    Args:
        settings: the plan's.
        memory: what the plan knows of its moves.
        targets: where envelopes went.
        sources: opens files, under the keys that they may be under.
        envelopes: opens envelopes, under the wanted keys.
    """

    def __init__(
        self, settings: Settings, memory: MoveMemory, targets: Targets, sources: KmsKeyring, envelopes: Sealer
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._targets = targets
        self._sources = Sealer(sources, allow_legacy=_moving.rules_of(settings).legacy)
        self._envelopes = envelopes

    def compare(self, store: Store, name: str) -> Comparison:
        """Return whether a file and its envelope hold the same."""
        target = self._targets.name_of(store, name)
        try:
            return self._compare(store, name, target)
        except KmsError as error:
            if is_of_credentials(error):
                raise
            return Comparison("closed", name, str(error))
        except FileError as error:
            return Comparison("unread", name, str(error))
        except SealwaxError as error:
            return Comparison("closed", name, str(error))

    def _compare(self, store: Store, name: str, target: str) -> Comparison:
        known = self._memory.find(name, target)
        with store.open(name) as file:
            original = moving.look(file, _moving.rules_of(self._settings))
            mark = moved.mark_of(file)
            there = self._targets.envelope_id(store, target)
            if original is None or there is None or moved.conflict(known, there, mark, target, "the plan"):
                return Comparison("unread", name, "it or its envelope was replaced while they were compared")
            with self._targets.open(store, target) as envelope:
                same = original.is_same(_accepted(original), self._sources, envelope, self._envelopes)
                return Comparison("same" if same else "changed", target)
