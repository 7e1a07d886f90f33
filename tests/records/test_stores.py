"""Every key store keeps its promises, in memory and in three databases."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest
import sqlalchemy as sa

from sealwax.errors import KeyStoreError
from sealwax.records import KeyStore, MemoryKeys, Records
from sealwax.records._sql import SqlKeys
from sealwax.records.testing import KeyStoreTests, row
from tests.fakes import FakeKeyring
from tests.memory.conftest import ROOT

PROCESSES, SCOPES = 16, 5


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


def test_processes_that_meet_a_scope_agree_on_one_key(database: str) -> None:
    """30 % of the writes fail after they took effect, and 10 % of the reads are stale."""
    SqlKeys(database, table="raced").create_table()
    command = [sys.executable, "-m", "tests.records.races", database, str(SCOPES)]
    racers = [
        subprocess.Popen(
            [*command, str(seed)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(PROCESSES)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    sealed: list[tuple[int, int, str]] = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for seed, racer in enumerate(racers):
        printed, errors = racer.communicate()
        assert racer.returncode == 0, errors
        sealed += [(seed, *json.loads(line)) for line in printed.splitlines()]
    assert len(sealed) == PROCESSES * SCOPES
    with Records(FakeKeyring(), SqlKeys(database, table="raced"), scope={"app": "shop"}) as records:
        for seed, number, record in sealed:
            assert records.field("users.card", row=int, tenant=f"t{number}").open(record, row=seed) == str(seed)
        tenants = Counter(key.scope["tenant"] for key in records.rows())
    assert tenants == {f"t{number}": 1 for number in range(SCOPES)}


def test_a_transaction_of_the_caller_that_is_rolled_back_loses_no_key(database: str) -> None:
    engine = sa.create_engine(database, pool_size=1, max_overflow=0)
    store = SqlKeys(engine)
    store.create_table()
    scope = KeyStoreTests.scope()
    with Records(FakeKeyring(), store, scope=scope) as records, engine.connect() as connection:
        # The caller's pool has no other connection to give.
        transaction = connection.begin()
        connection.execute(sa.text("SELECT 1"))
        sealed = records.field("f", row=int).seal(b"value", row=1)
        transaction.rollback()
    with Records(FakeKeyring(), SqlKeys(database), scope=scope) as again:
        assert again.field("f", row=int).open(sealed, row=1) == b"value"
    engine.dispose()


def test_sqlite_under_the_callers_own_lock_is_a_clear_error(tmp_path_factory: pytest.TempPathFactory) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('locked')}/keys.db"
    engine = sa.create_engine(url)
    store = SqlKeys(engine)
    store.create_table()
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(KeyStoreError, match=r"call ensure\(\) before that transaction"):
            store.create(row({"app": "shop"}))
        connection.rollback()
    assert store.create(row({"app": "shop"})).generation == 1
    engine.dispose()


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


def test_no_password_is_shown() -> None:
    store = SqlKeys("postgresql+psycopg://app:hunter2@localhost:1/none?connect_timeout=1")
    assert "hunter2" not in repr(store)
    with pytest.raises(KeyStoreError) as refused:
        store.check([])
    assert "hunter2" not in str(refused.value)
    assert refused.value.retryable
