"""For tests: of an application that holds a ``Records``, and of a key store that you write.

``override_records`` lets an application use the embedded KMS and a key store in memory. ``KeyStoreTests`` has the tests
that every key store must pass, for pytest: inherit from it, and give it a fixture ``store``::

    class TestMyStore(KeyStoreTests):
        @pytest.fixture
        def store(self):
            return MyStore(...)  # empty, or with rows of other scopes
"""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sealwax.records._keys import KEY_ID_BYTES
from sealwax.records._override import override_records
from sealwax.records._store import MAX_GENERATION, KeyKind, KeyRow, KeyState, KeyStore, scope_hash

__all__ = ["KeyStoreTests", "override_records", "row"]

T = TypeVar("T")


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

    @staticmethod
    def at_once(*calls: Callable[[], T]) -> list[T]:
        """Make these calls in threads at one moment, and return what they return."""
        start = threading.Barrier(len(calls))

        def call(work: Callable[[], T]) -> T:
            start.wait(10)
            return work()

        with ThreadPoolExecutor(len(calls)) as threads:
            return list(threads.map(call, calls))

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
        scope = self.scope()
        made, newer = store.create(row(scope)), store.create(row(scope, 2))
        assert store.retire(made)
        # The caller did not get the answer, and asks again.
        assert store.create(made) == dataclasses.replace(made, state=KeyState.RETIRED)
        assert store.create(newer) == newer
        assert len(store.get_many(scope)) == 2

    def test_one_wins_among_threads(self, store: KeyStore) -> None:
        scope = self.scope()
        for generation in (1, 2):
            rows = [row(scope, generation) for _ in range(8)]
            winners = self.at_once(*(functools.partial(store.create, each) for each in rows))
            assert winners[0] in rows
            assert all(winner == winners[0] for winner in winners)
            assert store.newest(scope, KeyKind.DATA) == winners[0]
        assert len(list(store.list(scope))) == 2

    def test_what_is_written_is_read_at_once(self, store: KeyStore) -> None:
        scope = self.scope()
        for generation in range(1, 6):
            made = store.create(row(scope, generation))
            seen = self.at_once(*[lambda: store.newest(scope, KeyKind.DATA)] * 2)
            assert seen == [made, made]

    def test_scopes_are_compared_exactly(self, store: KeyStore) -> None:
        names = ["acme", "ACME", "acme ", "acm\u00e9", "acme\u0301", "acmé "]
        scope = self.scope()
        made = [store.create(row({**scope, "tenant": name})) for name in names]
        assert len({each.key_id for each in made}) == len(names)
        for each in made:
            assert store.get_many(each.scope) == [each]
            assert list(store.list(each.scope)) == [each]
        assert store.get_many(scope) == []

    def test_the_largest_row_comes_back_as_it_was(self, store: KeyStore) -> None:
        scope = self.scope(large="\U0001f511" * 1900)
        made = dataclasses.replace(row(scope, MAX_GENERATION), made_by="r" * 128, blob=os.urandom(8192), created=2**33)
        assert store.create(made) == made
        assert store.get_many(scope) == [made]

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

    def test_the_rows_of_a_scope_are_its_own(self, store: KeyStore) -> None:
        scope = self.scope()
        mine = [store.create(row(scope)), store.create(row(scope, 2)), store.create(row(scope, kind=KeyKind.INDEX))]
        store.create(row({**scope, "tenant": "acme"}))
        found = store.get_many(scope)
        assert len(found) == 3
        assert all(each in found for each in mine)
        assert store.get_many(scope, []) == []
        many = [os.urandom(KEY_ID_BYTES) for _ in range(1500)]
        assert store.get_many(scope, [*many, mine[1].key_id, mine[1].key_id]) == [mine[1]]

    def test_a_list_has_the_same_order_each_time(self, store: KeyStore) -> None:
        scope = self.scope()
        for number in range(5):
            store.create(row({**scope, "tenant": f"t{number}"}))
        listed = list(store.list(scope))
        assert len(listed) == 5
        assert all(list(store.list(scope)) == listed for _ in range(3))
        ids = {each.key_id for each in listed}
        assert [each for each in store.list() if each.key_id in ids] == listed

    def test_a_blob_is_replaced_if_it_is_the_old_one(self, store: KeyStore) -> None:
        made = store.create(row(self.scope()))
        assert store.replace(made, b"new")
        assert not store.replace(made, b"newer")
        assert store.get_many(made.scope, [made.key_id]) == [dataclasses.replace(made, blob=b"new")]

    def test_one_of_many_re_wraps_wins(self, store: KeyStore) -> None:
        made = store.create(row(self.scope()))
        blobs = [os.urandom(600) for _ in range(4)]
        done = self.at_once(*(functools.partial(store.replace, made, blob) for blob in blobs))
        assert done.count(True) == 1
        assert store.get_many(made.scope) == [dataclasses.replace(made, blob=blobs[done.index(True)])]

    def test_a_re_wrap_changes_no_other_row(self, store: KeyStore) -> None:
        scope = self.scope()
        made = store.create(row(scope))
        other = store.create(dataclasses.replace(row({**scope, "tenant": "acme"}), blob=made.blob))
        index = store.create(dataclasses.replace(row(scope, kind=KeyKind.INDEX), blob=made.blob))
        assert store.replace(made, b"new")
        assert store.get_many(other.scope) == [other]
        assert store.newest(scope, KeyKind.INDEX) == index

    def test_a_row_that_was_re_wrapped_is_retired(self, store: KeyStore) -> None:
        scope = self.scope()
        first = store.create(row(scope))
        store.create(row(scope, 2))
        assert store.replace(first, b"new")
        assert store.retire(first)
        assert store.get_many(scope, [first.key_id])[0].state is KeyState.RETIRED

    def test_a_row_that_is_missing_is_not_changed(self, store: KeyStore) -> None:
        scope = self.scope()
        store.create(row(scope, 2))
        missing = row(scope)
        assert not store.retire(missing)
        assert not store.replace(missing, b"new")
        assert not store.remove(missing)

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

    def test_what_is_shredded_stays_so(self, store: KeyStore) -> None:
        scope = self.scope()
        lost, first = row(scope), store.create(row(scope))
        store.shred(scope)
        tombstone = store.newest(scope, KeyKind.DATA)
        assert tombstone is not None
        shredded = store.get_many(scope)
        for gone in shredded:
            assert not store.replace(gone, b"new")
            assert not store.remove(gone)
            assert not store.retire(gone)
        for late in (lost, first):
            assert not store.put_back(late)
        assert store.create(row(scope)).state is KeyState.SHREDDED
        assert store.create(row(scope, tombstone.generation)) == tombstone
        assert sorted(each.key_id for each in store.get_many(scope)) == sorted(each.key_id for each in shredded)
        # The next generation opens the scope again.
        reopened = store.create(row(scope, tombstone.generation + 1))
        assert store.newest(scope, KeyKind.DATA) == reopened
        assert store.remove(reopened)
        assert store.put_back(reopened)

    def test_shredding_again_finds_nothing(self, store: KeyStore) -> None:
        scope = self.scope()
        store.create(row(scope))
        assert len(store.shred(scope)) == 1
        assert store.shred(scope) == []

    def test_no_key_is_made_while_its_scope_is_shredded(self, store: KeyStore) -> None:
        for generation in (1, 2) * 5:
            scope = self.scope()
            for earlier in range(1, generation):
                store.create(row(scope, earlier))
            creations = [functools.partial(store.create, row(scope, generation)) for _ in range(3)]
            self.at_once(*creations, lambda scope=scope: store.shred(scope))  # type: ignore[misc]
            assert {(each.state, each.blob) for each in store.get_many(scope)} == {(KeyState.SHREDDED, b"")}
            assert store.create(row(scope, generation)).state is KeyState.SHREDDED

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
        assert all(len(epoch) == 16 for epoch in epochs[1:])

    def test_a_call_that_changes_nothing_leaves_the_epoch(self, store: KeyStore) -> None:
        made = store.create(row(self.scope()))
        epoch = store.check([]).epoch
        store.create(row(made.scope))
        store.put_back(made)
        store.retire(made)
        store.replace(dataclasses.replace(made, blob=b"another"), b"new")
        store.remove(dataclasses.replace(made, blob=b"another"))
        assert store.check([]).epoch == epoch

    def test_states_are_told_by_id(self, store: KeyStore) -> None:
        scope = self.scope()
        first, second, missing = store.create(row(scope)), store.create(row(scope, 2)), os.urandom(KEY_ID_BYTES)
        store.retire(first)
        many = [os.urandom(KEY_ID_BYTES) for _ in range(1500)]
        states = store.check([first.key_id, second.key_id, missing, *many]).states
        assert len(states) == 1503
        assert states[first.key_id] is KeyState.RETIRED
        assert states[second.key_id] is KeyState.LIVE
        assert states[missing] is None
        store.shred(scope)
        # A copy of the row in another scope does not hide it.
        store.create(dataclasses.replace(second, scope=self.scope(), generation=1, claim=1))
        assert store.check([second.key_id]).states == {second.key_id: KeyState.SHREDDED}

    def test_the_newest_is_told_truly_or_not_at_all(self, store: KeyStore) -> None:
        scope = self.scope()
        first, second = store.create(row(scope)), store.create(row(scope, 2))
        loser = dataclasses.replace(row(scope, 2), key_id=os.urandom(KEY_ID_BYTES))
        assert store.put_back(loser)
        copied = store.create(dataclasses.replace(first, scope=self.scope()))
        truly = {(scope_hash(each.scope), int(each.kind), each.key_id) for each in (second, copied)}
        asked = [first.key_id, second.key_id, loser.key_id]
        assert store.check(asked).newest in (frozenset(), truly)
        store.create(row(scope, 3))
        assert store.check([second.key_id]).newest == frozenset()
