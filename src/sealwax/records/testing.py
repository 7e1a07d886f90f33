"""Tests that every key store must pass, for pytest: inherit from ``KeyStoreTests``, and give it a fixture ``store``.

::

    class TestMyStore(KeyStoreTests):
        @pytest.fixture
        def store(self):
            return MyStore(...)  # empty, or with rows of other scopes
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Mapping

from sealwax.records._keys import KEY_ID_BYTES
from sealwax.records._store import KeyKind, KeyRow, KeyState, KeyStore

__all__ = ["KeyStoreTests", "row"]


def row(scope: Mapping[str, str], generation: int = 1, kind: KeyKind = KeyKind.DATA) -> KeyRow:
    """Return a row with a new id; a store does not look into its blob.

    Args:
        scope, generation, kind: those of the row.
    """
    key_id, blob = os.urandom(KEY_ID_BYTES), os.urandom(600)
    return KeyRow(dict(scope), kind, generation, key_id, KeyState.LIVE, 1_800_000_000, "", blob, generation)


class KeyStoreTests:
    """What ``KeyStore`` promises. Each test uses scopes of its own, so the store need not be empty."""

    @staticmethod
    def scope(**more: str) -> dict[str, str]:
        return {"app": "shop", "test": os.urandom(8).hex(), "name": "Ünïcode ☃", **more}

    def test_a_new_scope_has_no_rows(self, store: KeyStore) -> None:
        scope = self.scope()
        assert store.newest(scope, KeyKind.DATA) is None
        assert store.get_many(scope, [bytes(KEY_ID_BYTES)]) == []
        assert list(store.list(scope)) == []

    def test_a_row_comes_back_as_it_was(self, store: KeyStore) -> None:
        made = row(self.scope())
        assert store.create(made) == made
        assert store.newest(made.scope, KeyKind.DATA) == made
        assert store.get_many(made.scope, [made.key_id]) == [made]
        assert list(store.list(made.scope)) == [made]
        assert store.newest(made.scope, KeyKind.INDEX) is None

    def test_the_first_of_a_generation_wins(self, store: KeyStore) -> None:
        scope = self.scope()
        first, second = row(scope), row(scope)
        assert store.create(first) == first
        assert store.create(second) == first
        assert list(store.list(scope)) == [first]

    def test_creating_again_changes_nothing(self, store: KeyStore) -> None:
        made = row(self.scope())
        store.create(made)
        store.retire(made)
        assert store.create(made) == made
        assert list(store.list(made.scope)) == [made]

    def test_one_wins_among_threads(self, store: KeyStore) -> None:
        scope = self.scope()
        rows = [row(scope) for _ in range(8)]
        winners: list[KeyRow] = []
        threads = [threading.Thread(target=lambda each=each: winners.append(store.create(each))) for each in rows]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(winners) == 8
        assert all(winner == winners[0] for winner in winners)
        assert list(store.list(scope)) == [winners[0]]

    def test_the_newest_has_the_highest_generation(self, store: KeyStore) -> None:
        scope = self.scope()
        rows = [store.create(row(scope, generation)) for generation in (1, 3, 2)]
        assert store.newest(scope, KeyKind.DATA) == rows[1]

    def test_scopes_and_kinds_are_apart(self, store: KeyStore) -> None:
        scope = self.scope()
        other = {**scope, "tenant": "acme"}
        mine, theirs, index = row(scope), row(other), row(scope, kind=KeyKind.INDEX)
        for each in (mine, theirs, index):
            assert store.create(each) == each
        assert store.get_many(scope, [mine.key_id, theirs.key_id]) == [mine]
        assert {each.key_id for each in store.get_many(scope)} == {mine.key_id, index.key_id}
        assert store.newest(scope, KeyKind.INDEX) == index
        assert {each.key_id for each in store.list(scope)} == {mine.key_id, theirs.key_id, index.key_id}
        assert [each.key_id for each in store.list(other)] == [theirs.key_id]

    def test_a_blob_is_replaced_if_it_is_the_old_one(self, store: KeyStore) -> None:
        made = store.create(row(self.scope()))
        assert store.replace(made, b"new")
        assert not store.replace(made, b"newer")
        assert store.get_many(made.scope, [made.key_id]) == [dataclasses.replace(made, blob=b"new")]

    def test_the_newest_is_not_retired(self, store: KeyStore) -> None:
        scope = self.scope()
        first, second = store.create(row(scope)), store.create(row(scope, 2))
        assert not store.retire(second)
        assert store.retire(first)
        assert not store.retire(first)
        assert store.get_many(scope, [first.key_id])[0].state is KeyState.RETIRED
        assert store.newest(scope, KeyKind.DATA) == second

    def test_a_row_is_removed_and_put_back(self, store: KeyStore) -> None:
        made = store.create(row(self.scope()))
        assert not store.put_back(made)
        assert not store.remove(dataclasses.replace(made, blob=b"another"))
        assert store.remove(made)
        assert store.newest(made.scope, KeyKind.DATA) is None
        assert store.put_back(made)
        assert store.newest(made.scope, KeyKind.DATA) == made

    def test_a_row_is_put_back_beside_a_newer_one(self, store: KeyStore) -> None:
        scope = self.scope()
        lost = store.create(row(scope))
        store.remove(lost)
        winner = store.create(row(scope))
        assert store.put_back(lost)
        assert store.newest(scope, KeyKind.DATA) == winner
        assert store.get_many(scope, [lost.key_id]) == [dataclasses.replace(lost, claim=None)]

    def test_shredding_leaves_no_blob(self, store: KeyStore) -> None:
        scope = self.scope()
        other = store.create(row({**scope, "tenant": "acme"}))
        rows = [store.create(row(scope)), store.create(row(scope, 2)), store.create(row(scope, kind=KeyKind.INDEX))]
        shredded = store.shred(scope)
        assert {each.key_id for each in shredded} == {each.key_id for each in rows}
        assert all(each.blob for each in shredded)
        for each in store.get_many(scope, [each.key_id for each in rows]):
            assert (each.state, each.blob) == (KeyState.SHREDDED, b"")
        for kind, generation in ((KeyKind.DATA, 3), (KeyKind.INDEX, 2)):
            newest = store.newest(scope, kind)
            assert newest is not None
            assert (newest.generation, newest.state) == (generation, KeyState.SHREDDED)
        assert store.get_many(other.scope, [other.key_id]) == [other]

    def test_a_scope_without_rows_is_shredded_too(self, store: KeyStore) -> None:
        scope = self.scope()
        assert store.shred(scope) == []
        late = store.create(row(scope))
        assert late.state is KeyState.SHREDDED

    def test_every_change_redraws_the_epoch(self, store: KeyStore) -> None:
        scope = self.scope()
        epochs = [store.check([]).epoch]
        made = store.create(row(scope))
        epochs.append(store.check([]).epoch)
        newer = store.create(row(scope, 2))
        epochs.append(store.check([]).epoch)
        store.retire(made)
        epochs.append(store.check([]).epoch)
        store.replace(newer, b"new")
        epochs.append(store.check([]).epoch)
        store.remove(dataclasses.replace(newer, blob=b"new"))
        epochs.append(store.check([]).epoch)
        store.put_back(newer)
        epochs.append(store.check([]).epoch)
        store.shred(scope)
        epochs.append(store.check([]).epoch)
        assert len(set(epochs)) == len(epochs)
        assert store.check([]).epoch == epochs[-1]

    def test_states_are_told_by_id(self, store: KeyStore) -> None:
        scope = self.scope()
        first, second, missing = store.create(row(scope)), store.create(row(scope, 2)), os.urandom(KEY_ID_BYTES)
        store.retire(first)
        states = store.check([first.key_id, second.key_id, missing]).states
        assert states == {first.key_id: KeyState.RETIRED, second.key_id: KeyState.LIVE, missing: None}
