"""A key store in memory, for tests."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator, Mapping, Sequence

from sealwax._core import fork_locks
from sealwax.records._store import Changes, KeyKind, KeyRow, KeyState, KeyStore, scope_hash, tombstone

_EPOCH_BYTES = 16


class MemoryKeys(KeyStore):
    """A key store in the memory of this process: it is gone with it. For tests.

    Example:
        >>> records = sealwax.Records(keyring, MemoryKeys(), scope={"app": "shop"})
    """

    def __init__(self) -> None:
        self._rows: list[KeyRow] = []
        self._epoch = os.urandom(_EPOCH_BYTES)
        self._lock = threading.Lock()
        fork_locks.renew_lock_in_children(self)

    def _of(self, scope: Mapping[str, str], kind: KeyKind | None = None) -> Iterator[int]:
        for number, row in enumerate(self._rows):
            if row.scope == scope and kind in (None, row.kind):
                yield number

    def newest(self, scope: Mapping[str, str], kind: KeyKind) -> KeyRow | None:
        with self._lock:
            return self._newest(scope, kind)

    def _newest(self, scope: Mapping[str, str], kind: KeyKind) -> KeyRow | None:
        rows = [self._rows[number] for number in self._of(scope, kind)]
        return max((row for row in rows if row.claim), key=lambda row: row.claim or 0, default=None)

    def get_many(self, scope: Mapping[str, str], key_ids: Sequence[bytes] | None = None) -> list[KeyRow]:
        with self._lock:
            rows = [self._rows[number] for number in self._of(scope)]
            return [row for row in rows if key_ids is None or row.key_id in key_ids]

    def create(self, row: KeyRow) -> KeyRow:
        with self._lock:
            for number in self._of(row.scope, row.kind):
                there = self._rows[number]
                if row.key_id == there.key_id or (row.claim is not None and row.claim == there.claim):
                    return there
            self._add(row)
            return row

    def _add(self, row: KeyRow) -> None:
        self._rows.append(row)
        self._epoch = os.urandom(_EPOCH_BYTES)

    def put_back(self, row: KeyRow) -> bool:
        with self._lock:
            rows = [self._rows[number] for number in self._of(row.scope, row.kind)]
            shredded = any(there.state is KeyState.SHREDDED and there.generation >= row.generation for there in rows)
            if shredded or any(there.key_id == row.key_id for there in rows):
                return False
            taken = any(there.claim == row.generation for there in rows)
            self._add(dataclasses.replace(row, claim=None if taken else row.generation))
            return True

    def _same(self, row: KeyRow) -> int | None:
        """Return where the row is, unless it is shredded."""
        for number in self._of(row.scope, row.kind):
            there = self._rows[number]
            if there.key_id == row.key_id and there.state is not KeyState.SHREDDED:
                return number
        return None

    def replace(self, row: KeyRow, blob: bytes) -> bool:
        with self._lock:
            number = self._same(row)
            if number is None or self._rows[number].blob != row.blob:
                return False
            self._rows[number] = dataclasses.replace(self._rows[number], blob=blob)
            self._epoch = os.urandom(_EPOCH_BYTES)
            return True

    def retire(self, row: KeyRow) -> bool:
        with self._lock:
            number, newest = self._same(row), self._newest(row.scope, row.kind)
            if number is None or newest is None or newest.key_id == row.key_id:
                return False
            if self._rows[number].state is not KeyState.LIVE:
                return False
            self._rows[number] = dataclasses.replace(self._rows[number], state=KeyState.RETIRED)
            self._epoch = os.urandom(_EPOCH_BYTES)
            return True

    def remove(self, row: KeyRow) -> bool:
        with self._lock:
            number = self._same(row)
            if number is None or self._rows[number].blob != row.blob:
                return False
            del self._rows[number]
            self._epoch = os.urandom(_EPOCH_BYTES)
            return True

    def shred(self, scope: Mapping[str, str]) -> list[KeyRow]:
        with self._lock:
            shredded = []
            for number in self._of(scope):
                row = self._rows[number]
                if row.state is not KeyState.SHREDDED:
                    shredded.append(row)
                    self._rows[number] = dataclasses.replace(row, state=KeyState.SHREDDED, blob=b"")
            for kind in KeyKind:
                newest = self._newest(scope, kind)
                generation = 1 if newest is None else (newest.claim or 0) + 1
                self._add(tombstone(scope, kind, generation))
            return shredded

    def list(self, scope: Mapping[str, str] | None = None) -> Iterator[KeyRow]:
        with self._lock:
            rows = list(self._rows)
        wanted = (scope or {}).items()
        return (row for row in rows if wanted <= row.scope.items())

    def check(self, key_ids: Sequence[bytes]) -> Changes:
        with self._lock:
            states: dict[bytes, KeyState | None] = dict.fromkeys(key_ids)
            newest: dict[tuple[bytes, int], tuple[int, bytes]] = {}  # the claim and key id by scope and kind
            for row in self._rows:
                mark = scope_hash(row.scope), int(row.kind)
                newest[mark] = max(newest.get(mark, (0, b"")), (row.claim or 0, row.key_id))
                # A copy of a row in another scope must not hide that the key was shredded.
                if row.key_id in states and states[row.key_id] is not KeyState.SHREDDED:
                    states[row.key_id] = row.state
            told = ((*mark, key_id) for mark, (claim, key_id) in newest.items() if claim and key_id in states)
            return Changes(self._epoch, states, frozenset(told))
