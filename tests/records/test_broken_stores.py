"""The tests for key stores notice each promise that a store breaks."""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from sealwax.records import Changes, KeyKind, KeyRow, KeyState, MemoryKeys
from sealwax.records._store import scope_hash
from sealwax.records.testing import KeyStoreTests


class LastCreationWins(MemoryKeys):
    def create(self, row: KeyRow) -> KeyRow:
        there = super().create(row)
        if there.key_id != row.key_id and there.state is KeyState.LIVE:
            super().remove(there)
            return super().create(row)
        return there


class LosersAreNotTold(MemoryKeys):
    def create(self, row: KeyRow) -> KeyRow:
        super().create(row)
        return row


class CreationIsNotAtomic(MemoryKeys):
    def create(self, row: KeyRow) -> KeyRow:
        taken = [each for each in self.get_many(row.scope) if (each.kind, each.claim) == (row.kind, row.claim)]
        time.sleep(0.01)
        if not taken:
            with self._lock:
                self._add(row)
        return (taken or [row])[0]


class CreationResetsTheState(MemoryKeys):
    def create(self, row: KeyRow) -> KeyRow:
        there = super().create(row)
        if there.key_id == row.key_id:
            super().remove(there)
            return super().create(row)
        return there


class GenerationsAreNotCompared(MemoryKeys):
    def newest(self, scope: Mapping[str, str], kind: KeyKind) -> KeyRow | None:
        rows = [row for row in self.get_many(scope) if row.kind is kind]
        return rows[-1] if rows else None


class TombstonesAreSkipped(MemoryKeys):
    def newest(self, scope: Mapping[str, str], kind: KeyKind) -> KeyRow | None:
        rows = [row for row in self.get_many(scope) if row.kind is kind and row.state is not KeyState.SHREDDED]
        return max(rows, key=lambda row: row.claim or 0, default=None)


class ReadsAreStale(MemoryKeys):
    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[str, KeyKind], KeyRow] = {}

    def newest(self, scope: Mapping[str, str], kind: KeyKind) -> KeyRow | None:
        key = str(sorted(scope.items())), kind
        if key not in self.seen and (found := super().newest(scope, kind)) is not None:
            self.seen[key] = found
        return self.seen.get(key)


class ForeignScopesAreReturned(MemoryKeys):
    def get_many(self, scope: Mapping[str, str], key_ids: Sequence[bytes] | None = None) -> list[KeyRow]:
        return [row for row in self.list(scope) if key_ids is None or row.key_id in key_ids]


class ScopesIgnoreCase(MemoryKeys):
    def get_many(self, scope: Mapping[str, str], key_ids: Sequence[bytes] | None = None) -> list[KeyRow]:
        folded = {name: value.casefold() for name, value in scope.items()}
        return [
            row
            for row in self.list()
            if {name: value.casefold() for name, value in row.scope.items()} == folded
            and (key_ids is None or row.key_id in key_ids)
        ]


class ReplacesAnything(MemoryKeys):
    def replace(self, row: KeyRow, blob: bytes) -> bool:
        there = [each for each in self.get_many(row.scope) if each.key_id == row.key_id]
        return bool(there) and super().replace(there[0], blob)


class ReplacesWhatIsShredded(MemoryKeys):
    def replace(self, row: KeyRow, blob: bytes) -> bool:
        return row.state is KeyState.SHREDDED or super().replace(row, blob)


class RetiresTheNewest(MemoryKeys):
    def retire(self, row: KeyRow) -> bool:
        with self._lock:
            number = self._same(row)
            if number is not None:
                self._rows[number] = dataclasses.replace(self._rows[number], state=KeyState.RETIRED)
            return number is not None


class RetiresByBlob(MemoryKeys):
    def retire(self, row: KeyRow) -> bool:
        return any(each.blob == row.blob for each in self.get_many(row.scope)) and super().retire(row)


class RemovesAnything(MemoryKeys):
    def remove(self, row: KeyRow) -> bool:
        there = [each for each in self.get_many(row.scope) if each.key_id == row.key_id]
        return bool(there) and super().remove(there[0])


class RemovesTombstones(MemoryKeys):
    def remove(self, row: KeyRow) -> bool:
        with self._lock:
            kept = [each for each in self._rows if (each.key_id, each.blob) != (row.key_id, row.blob)]
            done, self._rows = len(kept) != len(self._rows), kept
            return done


class PutBackClaimsAnyway(MemoryKeys):
    def put_back(self, row: KeyRow) -> bool:
        with self._lock:
            self._add(row)
        return True


class PutBackUndoesShredding(MemoryKeys):
    def put_back(self, row: KeyRow) -> bool:
        if any(each.key_id == row.key_id for each in self.get_many(row.scope)):
            return False
        with self._lock:
            taken = self._newest(row.scope, row.kind) is not None
            self._add(dataclasses.replace(row, claim=None if taken else row.generation))
        return True


class ShreddingKeepsBlobs(MemoryKeys):
    def shred(self, scope: Mapping[str, str]) -> list[KeyRow]:
        shredded = super().shred(scope)
        blobs = {row.key_id: row.blob for row in shredded}
        with self._lock:
            self._rows = [dataclasses.replace(row, blob=blobs.get(row.key_id, row.blob)) for row in self._rows]
        return shredded


class ShreddingForgetsIndexes(MemoryKeys):
    def shred(self, scope: Mapping[str, str]) -> list[KeyRow]:
        before = list(self._rows)
        shredded = super().shred(scope)
        with self._lock:
            kept = {row.key_id: row for row in before if row.kind is KeyKind.INDEX}
            self._rows = [kept.get(row.key_id, row) for row in self._rows]
        return shredded


class ShreddingClaimsNothing(MemoryKeys):
    def shred(self, scope: Mapping[str, str]) -> list[KeyRow]:
        known = {row.key_id for row in self._rows}
        shredded = super().shred(scope)
        with self._lock:
            self._rows = [row for row in self._rows if row.key_id in known]
        return shredded


class ShreddingTakesOtherScopes(MemoryKeys):
    def shred(self, scope: Mapping[str, str]) -> list[KeyRow]:
        wider = [row.scope for row in self.list(scope) if row.scope != scope]
        return super().shred(scope) + list(itertools.chain.from_iterable(map(super().shred, wider)))


class RewrapsLeaveTheEpoch(MemoryKeys):
    def replace(self, row: KeyRow, blob: bytes) -> bool:
        epoch = self._epoch
        done = super().replace(row, blob)
        self._epoch = epoch
        return done


class MissingIdsAreLeftOut(MemoryKeys):
    def check(self, key_ids: Sequence[bytes]) -> Changes:
        changes = super().check(key_ids)
        return Changes(changes.epoch, {key_id: state for key_id, state in changes.states.items() if state})


class StatesAreOfAnyCopy(MemoryKeys):
    def check(self, key_ids: Sequence[bytes]) -> Changes:
        states = {row.key_id: row.state for row in self._rows}
        return Changes(self._epoch, {key_id: states.get(key_id) for key_id in key_ids})


class AnyKeyIsNewest(MemoryKeys):
    def check(self, key_ids: Sequence[bytes]) -> Changes:
        rows = [row for row in self._rows if row.key_id in key_ids]
        newest = frozenset((scope_hash(row.scope), int(row.kind), row.key_id) for row in rows)
        return dataclasses.replace(super().check(key_ids), newest=newest)


class ListsAreShuffled(MemoryKeys):
    def list(self, scope: Mapping[str, str] | None = None) -> Iterator[KeyRow]:
        rows = list(super().list(scope))
        random.shuffle(rows)
        return iter(rows)


class ListsAreOfOneScope(MemoryKeys):
    def list(self, scope: Mapping[str, str] | None = None) -> Iterator[KeyRow]:
        return (row for row in super().list(scope) if scope in (None, row.scope))


class BlobsAreCutOff(MemoryKeys):
    def create(self, row: KeyRow) -> KeyRow:
        return super().create(dataclasses.replace(row, blob=row.blob[:4096]))


BROKEN = [store for store in MemoryKeys.__subclasses__() if store.__module__ == __name__]


def _tests() -> Iterator[Callable[[MemoryKeys], None]]:
    suite = KeyStoreTests()
    for name in dir(suite):
        if name.startswith("test_"):
            yield getattr(suite, name)


def _failures(store: type[MemoryKeys]) -> list[str]:
    failed = []
    for test in _tests():
        try:
            test(store())
        except AssertionError:
            failed.append(test.__name__)
    return failed


def test_there_are_many_ways_to_break_a_store() -> None:
    assert len(BROKEN) == 28
    assert _failures(MemoryKeys) == []


@pytest.mark.slow
@pytest.mark.parametrize("store", BROKEN, ids=lambda store: store.__name__)
def test_a_broken_promise_is_noticed(store: type[MemoryKeys]) -> None:
    assert _failures(store)
