"""An application's own ``Records`` under test: with the lab and a store in memory, and its own again afterwards."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest

from sealwax import KmsKeyring, Records, errors
from sealwax.lab import Lab
from sealwax.records import KeyRow, MemoryKeys
from sealwax.records.testing import override_records
from tests.fakes import FakeKeyring


class OutOfReach:
    """The store of production: a test must not touch it."""

    def __getattr__(self, name: str) -> Any:
        def call(*_: object) -> Any:
            raise AssertionError(f"{name} of the application's own store")

        return call


class AlsoOutOfReach:
    """The KMS keys of production."""

    def generate(self, *_: object, **__: object) -> Any:
        raise AssertionError("the application's own KMS key")

    unwrap = rewrap = generate


def of_application(**more: Any) -> Records:
    return Records(AlsoOutOfReach(), OutOfReach(), scope={"app": "shop", "env": "prod"}, **more)


def test_fields_that_the_application_has_made_use_the_lab(sealwax_records: Records, sealwax_lab: Lab) -> None:
    with of_application() as records:
        card = records.field("users.card", row=int, tenant="acme")
        with override_records(records, sealwax_records) as same:
            assert same is records
            assert card.open(card.seal(b"4111", row=7), row=7) == b"4111"
            later = records.field("users.name", row=str, tenant="acme")
            assert later.open(later.seal("Ada", row="7"), row="7") == "Ada"
            (row,) = records.rows(tenant="acme")
            assert sealwax_records.store.newest(row.scope, row.kind) == row
            assert [row.generation, records.roll(tenant="acme").generation] == [1, 2]
        assert [event.record["eventName"] for event in sealwax_lab.trail.events()].count("GenerateDataKey") == 2


def test_afterwards_the_application_has_its_own_again() -> None:
    keyring, store = FakeKeyring(), MemoryKeys()
    with (
        Records(keyring, store, scope={"app": "shop"}) as records,
        Records(FakeKeyring(), MemoryKeys(), scope={"env": "test"}) as other,
    ):
        card = records.field("users.card", row=int)
        real = card.seal(b"real", row=7)
        records.roll()
        with override_records(records, other):
            # Its own keys are not used, and none of its generations is missed.
            with pytest.raises(errors.UnknownKeyError):
                card.open(real, row=7)
            fake = card.seal(b"fake", row=7)
            assert card.open(fake, row=7) == b"fake"
            assert [row.generation for row in records.rows()] == [1]
        assert card.open(real, row=7) == b"real"
        with pytest.raises(errors.UnknownKeyError):
            card.open(fake, row=7)
        assert [row.generation for row in store.list()] == [1, 2]
        card.seal(b"more", row=7)
        assert [row.generation for row in store.list()] == [1, 2]
        assert other.stats().data_keys == 0


def test_it_ends_with_an_error_and_within_another(sealwax_records: Records) -> None:
    with of_application() as records, Records(FakeKeyring(), MemoryKeys(), scope={"env": "test"}) as third:
        own = records.keyring, records.store
        with override_records(records, sealwax_records):
            with contextlib.suppress(ZeroDivisionError), override_records(records, third):
                records.ensure()
                raise ZeroDivisionError
            assert list(sealwax_records.store.list()) == []
            records.ensure()
        assert (records.keyring, records.store) == own
        assert records.stats().data_keys == 0


def keepers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "sealwax-records"}


def test_what_the_application_closes_is_open_for_the_next_test(sealwax_records: Records) -> None:
    sealwax_records.ensure()
    of_others = keepers()
    records = of_application()
    card = records.field("users.card", row=int)
    for _ in range(2):
        with override_records(records, sealwax_records):
            assert card.open(card.seal(b"4111", row=7), row=7) == b"4111"
            assert len(keepers() - of_others) == 1, "old keys are wiped beside the callers, again too"
            records.close()
            with pytest.raises(ValueError, match="closed"):
                card.seal(b"4111", row=7)
        assert not records.closed
    records.close()
    with override_records(records, sealwax_records), pytest.raises(ValueError, match="closed"):
        card.seal(b"4111", row=7)
    assert records.closed


def test_two_tests_share_nothing(sealwax_lab: Lab) -> None:
    keyring = KmsKeyring(sealwax_lab.create_key()["Arn"], session=sealwax_lab.session())
    seen: list[list[KeyRow]] = []
    with of_application() as records:
        for _ in range(2):
            with Records(keyring, MemoryKeys(), scope={"env": "test"}) as other, override_records(records, other):
                records.ensure(tenant="acme")
                seen.append(records.rows(tenant="acme"))
    assert [len(rows) for rows in seen] == [1, 1]
    assert seen[0] != seen[1]


def test_threads_that_load_meanwhile_leave_nothing_behind() -> None:
    entered, go_on = threading.Event(), threading.Event()

    class Slow(MemoryKeys):
        def newest(self, *given: Any) -> Any:
            entered.set()
            assert go_on.wait(60)
            return super().newest(*given)

    with (
        Records(FakeKeyring(), Slow(), scope={"app": "shop"}) as records,
        Records(FakeKeyring(), MemoryKeys(), scope={"env": "test"}) as other,
    ):
        loading = threading.Thread(target=records.ensure)
        loading.start()
        assert entered.wait(60)
        threading.Timer(0.05, go_on.set).start()
        with override_records(records, other):
            loading.join()
            assert records.stats().data_keys == 0


def test_only_records_can_be_overridden(sealwax_records: Records) -> None:
    for given in ((sealwax_records.keyring, sealwax_records), (sealwax_records, MemoryKeys())):
        with pytest.raises(TypeError, match="takes two Records, not"), override_records(*given):
            raise AssertionError
