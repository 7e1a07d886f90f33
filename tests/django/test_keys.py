"""The key store of Django, in three databases: what every store promises, and that SqlKeys reads the same tables."""

from __future__ import annotations

import asyncio
import pickle
import sqlite3
import subprocess
import sys
import threading
import traceback
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


def test_a_migration_makes_the_tables_that_sqlalchemy_makes(database: str, alias: str) -> None:
    """As Alembic compares them: columns, types, keys, and indexes. What is there already remains."""
    import sqlalchemy as sa
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from django.conf import settings
    from django.db import connections
    from django.test import override_settings

    from sealwax.django._operations import CreateKeyTables
    from sealwax.records import key_tables

    engine = sa.create_engine(database)
    drop_tables(engine)
    with override_settings(SEALWAX={**settings.SEALWAX, "DATABASE": alias}):
        for lost in ("", "ix_sealwax_keys_key_id", ""):
            if lost:  # a migration was interrupted, where it is no transaction
                with engine.begin() as connection:
                    on = " ON sealwax_keys" if engine.dialect.name == "mysql" else ""
                    connection.exec_driver_sql(f"DROP INDEX {lost}{on}")
            with connections[alias].schema_editor() as editor:
                CreateKeyTables().database_forwards("sealwax", editor, None, None)
        with connections[alias].schema_editor(collect_sql=True) as editor:
            CreateKeyTables().database_forwards("sealwax", editor, None, None)
        assert [line.split(maxsplit=2)[:2] for line in editor.collected_sql if line.startswith("CREATE")] == [
            ["CREATE", "TABLE"],
            ["CREATE", "INDEX"],
            ["CREATE", "TABLE"],
        ]
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


def drop_tables(engine: Any) -> None:
    with engine.begin() as connection:
        for name in ("sealwax_keys", "sealwax_keys_epoch"):
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")


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
    drop_tables(engine)
    engine.dispose()
    with pytest.raises(KeyStoreError, match=r"manage\.py migrate"):
        DjangoKeys(alias).check([])
    with pytest.raises(KeyStoreError, match=r"manage\.py migrate"):
        DjangoKeys(alias).create(row(KeyStoreTests.scope()))


def test_a_database_in_memory_is_refused(project: Path) -> None:  # noqa: ARG001
    from sealwax.django import DjangoKeys

    settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    with in_settings("memory", settings), pytest.raises(KeyStoreError, match="override_records"):
        DjangoKeys("memory").check([])


def test_it_is_not_pickled_and_shows_no_password(store: Any) -> None:
    assert repr(store) == "<DjangoKeys keys>"
    with pytest.raises(NotPicklableError):
        pickle.dumps(store)


def test_errors_show_no_password(project: Path, tmp_path: Path) -> None:  # noqa: ARG001
    """Neither that of the setting, nor one in an option of the driver."""
    from sealwax.django import DjangoKeys

    for more in ({"PASSWORD": "hunter2secret"}, {"OPTIONS": {"password": "hunter2secret"}}):
        engine = "django.db.backends.postgresql"
        settings = {"ENGINE": engine, "NAME": "shop", "USER": "app", "HOST": str(tmp_path / "hunter2secret"), **more}
        with in_settings("away", settings):
            store = DjangoKeys("away")
            with pytest.raises(KeyStoreError) as caught:
                store.check([])
        assert caught.value.retryable
        assert "the key store in the database 'away' failed while reading it" in str(caught.value)
        said = "".join(traceback.format_exception(caught.value)) + repr(vars(store))
        assert "hunter2secret" not in said
        assert "***" in str(caught.value)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_it_connects_as_the_setting_says(alias: str, store: Any) -> None:
    """With the role to assume, the options, and what listeners of connection_created do; not by Django's pool."""
    from django.db import connections
    from django.db.backends.signals import connection_created

    from sealwax.django import DjangoKeys

    made = store.create(row(KeyStoreTests.scope()))
    with connections[alias].cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS keeper")
        cursor.execute("CREATE ROLE keeper")
    seen: list[str] = []

    def listen(connection: Any, **_: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user, current_setting('application_name')")
            seen.append("/".join(cursor.fetchone()))

    options = {"assume_role": "keeper", "application_name": "shop", "pool": True}
    settings = {**connections[alias].settings_dict, "OPTIONS": options}
    connection_created.connect(listen)
    try:
        with in_settings("as_keeper", settings):
            other = DjangoKeys("as_keeper")
            with pytest.raises(KeyStoreError, match="Grant the database user"):
                other.get_many(made.scope)
            with connections[alias].cursor() as cursor:
                cursor.execute("GRANT SELECT ON sealwax_keys TO keeper")
            assert other.get_many(made.scope) == [made]
    finally:
        connection_created.disconnect(listen)
        with connections[alias].cursor() as cursor:
            cursor.execute("DROP OWNED BY keeper")
            cursor.execute("DROP ROLE keeper")
    assert set(seen) == {"keeper/shop"}


def test_the_database_of_a_test_run_is_used(project: Path, tmp_path: Path) -> None:  # noqa: ARG001
    """Test runners rename the databases of the settings after the store was made."""
    from django.db import connections

    from sealwax.django import DjangoKeys

    with in_settings("renamed", {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "real.db")}):
        store = DjangoKeys("renamed")
        connections["renamed"].settings_dict["NAME"] = str(tmp_path / "test.db")
        store.create_table()
    assert [each.name for each in tmp_path.iterdir()] == ["test.db"]


def test_an_event_loop_is_told_what_to_await(alias: str, store: Any) -> None:  # noqa: ARG001
    async def look() -> None:
        store.check([])

    with pytest.raises(KeyStoreError, match="ensure_async"):
        asyncio.run(look())


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


def test_without_sqlalchemy_it_is_said_what_to_install() -> None:
    program = """
import sys
sys.modules["sqlalchemy"] = None
import sealwax.django
try:
    sealwax.django.DjangoKeys
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "needs SQLAlchemy" in done.stdout
    assert "pip install 'sealwax[django]'" in done.stdout
