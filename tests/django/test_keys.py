"""The key store of Django, in three databases: what every store promises, and that SqlKeys reads the same tables."""

from __future__ import annotations

import pickle
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sealwax.errors import KeyStoreError, NotPicklableError
from sealwax.records import KeyKind, KeyStore, Records, SqlKeys
from sealwax.records.testing import KeyStoreTests, row
from tests.django.databases import in_settings, settings_of
from tests.fakes import FakeKeyring


@pytest.fixture
def alias(project: Path, database: str) -> Iterator[str]:  # noqa: ARG001
    """A database in the settings."""
    with in_settings("keys", settings_of(database)):
        yield "keys"


@pytest.fixture
def store(alias: str) -> KeyStore:
    from sealwax.django import DjangoKeys

    store = DjangoKeys(alias)
    store.create_table()
    return store


class TestDjangoKeys(KeyStoreTests):
    pass


def test_sqlalchemy_and_django_use_the_same_tables(database: str, store: Any) -> None:
    theirs = SqlKeys(database)
    theirs.create_table()
    store.create_table()
    mine = store.create(row(KeyStoreTests.scope()))
    assert theirs.newest(mine.scope, KeyKind.DATA) == mine
    other = theirs.create(row(KeyStoreTests.scope()))
    assert store.get_many(other.scope) == [other]
    assert store.check([]).epoch == theirs.check([]).epoch != b""
    assert theirs.retire(theirs.create(row(mine.scope, 2))) is False
    assert store.retire(mine)


def test_the_tables_are_those_that_sqlalchemy_makes(database: str, alias: str) -> None:
    """As Alembic compares them: columns, types, keys, and indexes."""
    import sqlalchemy as sa
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from sealwax.django import DjangoKeys
    from sealwax.records import key_tables

    engine = sa.create_engine(database)
    with engine.begin() as connection:
        for name in ("sealwax_keys", "sealwax_keys_epoch"):
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
    DjangoKeys(alias).create_table()
    metadata = sa.MetaData()
    key_tables(metadata)
    ours = set(metadata.tables)
    with engine.connect() as connection:
        about = {
            "compare_type": True,
            "include_name": lambda name, kind, _parents: kind != "table" or name in ours,
        }
        differences = compare_metadata(MigrationContext.configure(connection, opts=about), metadata)
    engine.dispose()
    assert differences == []


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)  # SQLite has one writer
def test_a_transaction_that_is_rolled_back_takes_no_key(alias: str, store: Any) -> None:
    from django.db import transaction

    with Records(FakeKeyring(), store, scope=KeyStoreTests.scope()) as records:
        with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):  # noqa: PT012
            sealed = records.field("x", row=int).seal(b"1", row=1)
            raise ZeroDivisionError
        records.clear()
        assert records.field("x", row=int).open(sealed, row=1) == b"1"


def test_a_writer_of_sqlite_that_waits_for_itself_is_told_so(project: Path, tmp_path: Path) -> None:  # noqa: ARG001
    from django.db import connections, transaction

    from sealwax.django import DjangoKeys

    file = str(tmp_path / "own.db")
    settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": file, "OPTIONS": {"timeout": 0.1}}
    with in_settings("own", settings):
        store = DjangoKeys("own")
        store.create_table()
        with transaction.atomic(using="own"), connections["own"].cursor() as cursor:
            cursor.execute("CREATE TABLE mine (x)")
            with pytest.raises(KeyStoreError, match=r"ensure\(\)"):
                store.create(row(KeyStoreTests.scope()))
        store.create(row(KeyStoreTests.scope()))


def test_without_tables_it_says_what_makes_them(alias: str, database: str) -> None:
    import sqlalchemy as sa

    from sealwax.django import DjangoKeys

    engine = sa.create_engine(database)
    with engine.begin() as connection:
        for name in ("sealwax_keys", "sealwax_keys_epoch"):
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
    engine.dispose()
    with pytest.raises(KeyStoreError, match=r"manage\.py migrate"):
        DjangoKeys(alias).check([])
    with pytest.raises(KeyStoreError, match=r"manage\.py migrate"):
        DjangoKeys(alias).create(row(KeyStoreTests.scope()))


def test_a_database_in_memory_is_refused(project: Path) -> None:  # noqa: ARG001
    from sealwax.django import DjangoKeys

    settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    with in_settings("memory", settings), pytest.raises(ValueError, match="override_records"):
        DjangoKeys("memory").check([])


def test_it_is_not_pickled_and_shows_no_password(store: Any) -> None:
    assert repr(store) == "<DjangoKeys keys>"
    with pytest.raises(NotPicklableError):
        pickle.dumps(store)


def test_migrate_makes_its_tables_where_the_setting_says(project: Path) -> None:
    from django.core.management import call_command
    from django.test import override_settings

    def tables(name: str) -> set[str]:
        with closing(sqlite3.connect(project / name)) as connection:
            query = "SELECT name FROM sqlite_master WHERE name LIKE 'sealwax_keys%'"
            return {each for (each,) in connection.execute(query)}

    both = {"sealwax_keys", "sealwax_keys_epoch"}
    assert (tables("clinic.db"), tables("other.db")) == (both, set())
    with override_settings(SEALWAX={"KMS_KEY": "alias/x", "SCOPE": {"app": "x"}, "DATABASE": "other"}):
        for alias in ("default", "other"):
            call_command("migrate", "sealwax", "zero", database=alias, fake=True, verbosity=0)
            call_command("migrate", "sealwax", database=alias, verbosity=0)
    assert (tables("clinic.db"), tables("other.db")) == (both, both)


def test_threads_of_an_application_share_nothing(store: Any) -> None:
    scope = KeyStoreTests.scope()
    made = KeyStoreTests.at_once(*[lambda: store.create(row(scope))] * 4)
    assert len({each.key_id for each in made}) == 1
    assert threading.active_count() < 20
