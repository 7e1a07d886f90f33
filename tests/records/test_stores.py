"""Every key store keeps its promises, in memory and in three databases."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections import Counter

import pytest
import sqlalchemy as sa

from sealwax.errors import KeyStoreError
from sealwax.records import KeyState, KeyStore, MemoryKeys, Records, SqlKeys
from sealwax.records.testing import KeyStoreTests, row
from tests.fakes import FakeKeyring
from tests.memory.conftest import ROOT
from tests.records import killed, races

PROCESSES = 16


class TestMemoryKeys(KeyStoreTests):
    @pytest.fixture
    def store(self) -> KeyStore:
        return MemoryKeys()


class TestSqlKeys(KeyStoreTests):
    @pytest.fixture
    def store(self, database: str) -> KeyStore:
        store = SqlKeys(database)
        store.create_table()
        return store


@pytest.mark.slow
@pytest.mark.parametrize("scopes", [10, pytest.param(100, marks=pytest.mark.soak)])
def test_processes_that_meet_a_scope_agree_on_one_key(database: str, scopes: int) -> None:
    """30 % of the writes fail after they took effect, and 10 % of the reads are stale."""
    store = SqlKeys(database, table=races.TABLE)
    store.create_table()
    for key in store.list():
        store.remove(key)
    sealed = _raced(database, scopes)
    assert len(sealed) == PROCESSES * scopes
    keys = list(store.list())
    assert Counter(key.scope["tenant"] for key in keys) == {f"t{number}": 1 for number in range(scopes)}
    assert {(key.generation, key.claim, key.state) for key in keys} == {(1, 1, KeyState.LIVE)}
    ids = {int(key.scope["tenant"][1:]): key.key_id for key in keys}
    with Records(FakeKeyring(), SqlKeys(database, table=races.TABLE), scope={"app": "shop"}) as fresh:
        fields = [fresh.field("users.card", row=int, tenant=f"t{number}") for number in range(scopes)]
        for seed, number, record in sealed:
            # Nothing was sealed under a key that the store does not have.
            assert record.split(".")[1] == urlsafe_b64encode(ids[number]).decode().rstrip("=")
            assert fields[number].open(record, row=seed) == str(seed)


def _raced(database: str, scopes: int) -> list[tuple[int, int, str]]:
    """Return what the processes have sealed: which process, which scope, and the record."""
    command = [sys.executable, "-m", "tests.records.races", database, str(PROCESSES), str(scopes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_nothing_unreadable(database: str) -> None:
    store = SqlKeys(database, table=killed.TABLE)
    store.create_table()
    done = subprocess.run(
        [sys.executable, "-m", "tests.records.killed", database], cwd=ROOT, capture_output=True, text=True, check=True
    )
    sealed = json.loads(done.stdout)
    assert list(sealed) == ["roll-before", "roll-after"]
    keys = sorted(store.list(), key=lambda key: key.generation)
    generations = {key.scope["tenant"]: key.generation for key in keys}
    assert generations == {"ensure-after": 1, "roll-before": 1, "roll-after": 2}
    with Records(FakeKeyring(), store, scope={"app": "shop"}) as fresh:
        for tenant in killed.TENANTS:
            field = fresh.field("f", row=int, tenant=tenant)
            if tenant in sealed:
                assert field.open(sealed[tenant], row=1) == "old"
            assert field.open(field.seal("new", row=2), row=2) == "new"
            # What the killed process has made is used, and nothing is made beside it.
            assert max(key.generation for key in fresh.rows(tenant=tenant)) == generations.get(tenant, 1)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_sqlite_in_memory_is_refused(url: str) -> None:
    for database in (url, sa.create_engine(url, poolclass=sa.StaticPool)):
        with pytest.raises(ValueError, match=r"MemoryKeys\(\)"):
            SqlKeys(database)


def test_a_replica_opens_and_makes_nothing(database: str) -> None:
    store = SqlKeys(database)
    store.create_table()
    scope = KeyStoreTests.scope()
    with Records(FakeKeyring(), store, scope=scope) as records:
        sealed = records.field("f", row=int).seal(b"value", row=1)
    with Records(FakeKeyring(), SqlKeys(database, read_only=True), scope=scope) as replica:
        assert replica.field("f", row=int).open(sealed, row=1) == b"value"
        with pytest.raises(KeyStoreError, match="open for reading only"):
            replica.roll()
        with pytest.raises(KeyStoreError, match="open for reading only"):
            replica.field("f", row=int, tenant="new").seal(b"value", row=1)


def test_a_store_without_tables_says_so(database: str) -> None:
    with pytest.raises(KeyStoreError, match="create_table"):
        SqlKeys(database, table="never_made").create(row({"app": "shop"}))
