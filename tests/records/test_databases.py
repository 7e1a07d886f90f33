"""Key stores on engines of every kind: what they take over from the caller's, what they do not, and what goes wrong."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from sealwax.errors import KeyStoreError
from sealwax.records import KeyKind, KeyState, KeyStore, Records, SqlKeys, key_tables
from sealwax.records._key_columns import values_of
from sealwax.records.testing import KeyStoreTests, row
from tests.fakes import FakeKeyring
from tests.records import servers

scope = KeyStoreTests.scope


def _engine(url: str) -> sa.Engine:
    """Return an engine that leaves no connection behind."""
    return sa.create_engine(url, poolclass=sa.NullPool)


@pytest.fixture(params=["postgresql", "sqlite"])
def async_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/keys.db"
    url: str = request.getfixturevalue("postgresql")
    return url


class TestSqlKeysOnAsyncEngines(KeyStoreTests):
    @pytest.fixture
    def store(self, async_url: str) -> KeyStore:
        store = SqlKeys(create_async_engine(async_url))
        store.create_table()
        return store


def test_an_async_engine_serves_a_running_loop(async_url: str) -> None:
    """Also the loop of the caller, whose only connection is taken."""
    bound = {"pool_size": 1, "max_overflow": 0}
    engine = create_async_engine(async_url, **bound)
    store = SqlKeys(engine)
    store.create_table()
    made = row(scope())

    async def use() -> None:
        async with engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))
            assert store.create(made) == made
            assert await asyncio.to_thread(store.newest, made.scope, KeyKind.DATA) == made
            await connection.run_sync(lambda _: store.get_many(made.scope))
        await engine.dispose()

    asyncio.run(use())
    assert store.newest(made.scope, KeyKind.DATA) == made


# --- what is taken over from the caller's engine


def test_events_and_creators_of_the_engine_are_honored(database: str) -> None:
    """As tokens of IAM are given, and a key of SQLCipher."""
    seen: list[str] = []
    dialect = sa.create_engine(database).dialect
    arguments, named = dialect.create_connect_args(make_url(database))

    def creator() -> Any:
        seen.append("creator")
        return dialect.loaded_dbapi.connect(*arguments, **named)

    engines = {"do_connect": sa.create_engine(database), "creator": sa.create_engine(database, creator=creator)}
    for expected, engine in engines.items():

        @event.listens_for(engine, "do_connect")
        def give_a_token(_dialect: object, _record: object, _args: object, _parameters: object) -> None:
            seen.append("do_connect")

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            connection.cursor().execute("SELECT 1")
            seen.append("connect")

        SqlKeys(engine).create_table()
        seen.clear()
        made = SqlKeys(engine).create(row(scope()))
        assert sorted(seen) == ["connect", expected]
        assert SqlKeys(database).newest(made.scope, KeyKind.DATA) == made


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE"])
def test_a_change_is_whole_whatever_the_level_of_the_engine(database: str, level: str) -> None:
    engine = sa.create_engine(database, isolation_level=level)
    store = SqlKeys(engine, table=f"whole_{level.lower()}")
    store.create_table()
    kept = store.create(row(scope()))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE whole_{level.lower()}_epoch RENAME COLUMN epoch TO gone")
    failing: list[Callable[[], object]] = [
        lambda: store.create(row(kept.scope, 2)),
        lambda: store.shred(kept.scope),
        lambda: store.replace(kept, b"new"),
        lambda: store.remove(kept),
    ]
    for change in failing:
        with pytest.raises(KeyStoreError):
            change()
    assert store.get_many(kept.scope) == [kept]
    engine.dispose()


def test_a_table_has_a_schema(database: str, tmp_path: Path) -> None:
    engine = sa.create_engine(database)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda c, _: c.execute(f"ATTACH '{tmp_path}/other.db' AS other"))
    else:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA other")
    store = SqlKeys(engine, table="other.keys")
    store.create_table()
    made = store.create(row(scope()))
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM other.keys").scalar() == 1
    assert store.newest(made.scope, KeyKind.DATA) == made
    engine.dispose()


def test_a_pooler_finds_no_prepared_statements(postgresql: str) -> None:
    engine = sa.create_engine(postgresql)
    connections: list[Any] = []
    event.listen(engine, "connect", lambda connection, _: connections.append(connection))
    store = SqlKeys(engine)
    store.create_table()
    store.check([os.urandom(16) for _ in range(5000)])
    assert len(connections) == 3
    assert all(connection.prepare_threshold is None and connection.closed for connection in connections)


# --- what is not


def test_three_cold_requests_need_none_of_the_callers_connections(database: str) -> None:
    engine = sa.create_engine(database, poolclass=sa.QueuePool, pool_size=1, max_overflow=0, pool_timeout=1)
    store = SqlKeys(engine)
    store.create_table()
    pairs = scope()
    with Records(FakeKeyring(), store, scope=pairs) as records, engine.connect() as held:
        held.execute(sa.text("SELECT 1"))
        fields = [records.field("f", row=int, tenant=f"t{number}") for number in range(3)]
        with ThreadPoolExecutor(3) as threads:
            sealed = list(threads.map(lambda field: field.seal(b"value", row=1), fields))
    assert len({record[1:17] for record in sealed}) == 3
    engine.dispose()


@pytest.mark.parametrize("savepoint", [False, True])
def test_what_the_caller_rolls_back_takes_no_key_with_it(database: str, savepoint: bool) -> None:
    engine = sa.create_engine(database)
    store, pairs = SqlKeys(engine), scope()
    store.create_table()
    with Records(FakeKeyring(), store, scope=pairs) as records, Session(engine) as session:
        session.execute(sa.text("SELECT 1"))
        if savepoint:
            nested = session.begin_nested()
            sealed = records.field("f", row=int).seal(b"value", row=1)
            nested.rollback()
            session.commit()
        else:
            sealed = records.field("f", row=int).seal(b"value", row=1)
            session.rollback()
    with Records(FakeKeyring(), SqlKeys(database), scope=pairs) as fresh:
        assert fresh.field("f", row=int).open(sealed, row=1) == b"value"
    engine.dispose()


def test_threads_that_connect_first_wait_for_what_one_of_them_learns(database: str) -> None:
    SqlKeys(database).create_table()
    for _ in range(5):
        store = SqlKeys(database)
        assert KeyStoreTests.at_once(*[lambda store=store: store.newest(scope(), KeyKind.DATA)] * 8) == [None] * 8


# --- tables


def test_eight_create_the_tables_at_once(database: str) -> None:
    stores = [SqlKeys(database, table="at_once") for _ in range(8)]
    KeyStoreTests.at_once(*(store.create_table for store in stores))
    with _engine(database).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM at_once_epoch").scalar() == 1
    made = stores[0].create(row(scope()))
    assert stores[7].newest(made.scope, KeyKind.DATA) == made
    stores[3].create_table()
    assert stores[7].newest(made.scope, KeyKind.DATA) == made


def test_a_missing_epoch_is_drawn_with_the_next_change(database: str) -> None:
    """As after a migration, which makes tables and no rows."""
    store = SqlKeys(database, table="no_epoch")
    store.create_table()
    with _engine(database).begin() as connection:
        connection.exec_driver_sql("DELETE FROM no_epoch_epoch")
    assert store.check([]).epoch == b""
    made = [row(scope()) for _ in range(6)]
    KeyStoreTests.at_once(*(lambda each=each: store.create(each) for each in made))
    assert len(store.check([]).epoch) == 16
    assert store.check([each.key_id for each in made]).states == {each.key_id: KeyState.LIVE for each in made}


def test_a_long_list_comes_in_parts(database: str) -> None:
    store = SqlKeys(database, table="many")
    store.create_table()
    pairs = scope()
    rows = [row({**pairs, "tenant": f"t{number}"}) for number in range(1200)]
    with _engine(database).begin() as connection:
        connection.execute(key_tables(sa.MetaData(), "many")[0].insert(), list(map(values_of, rows)))
    listed = list(store.list(pairs))
    assert len(listed) == 1200
    assert {each.key_id for each in listed} == {each.key_id for each in rows}
    assert list(store.list(rows[7].scope)) == [rows[7]]
    assert set(store.check([each.key_id for each in rows]).states.values()) == {KeyState.LIVE}


def test_a_row_that_was_altered_is_an_error(database: str) -> None:
    store = SqlKeys(database, table="altered")
    store.create_table()
    made = store.create(row(scope()))
    engine = sa.create_engine(database)
    for column, value, said in [
        ("state", "lost", "in the state 'lost'"),
        ("scope", '{"app": "other"}', "not the one that its hash names"),
        ("scope", "[]", "is damaged"),
        ("scope", "{", "is damaged"),
        ("scope", '{"app": 1}', "is damaged"),
        ("kind", "7", "is damaged"),
    ]:
        keys = key_tables(sa.MetaData(), "altered")[0]
        with engine.begin() as connection:
            connection.execute(keys.update().values({column: value}))
        with pytest.raises(KeyStoreError, match=said):
            list(store.list())
        with engine.begin() as connection:
            connection.execute(keys.update().values(values_of(made)))
    assert store.newest(made.scope, KeyKind.DATA) == made
    engine.dispose()


# --- servers that refuse


def test_a_standby_is_refused(postgresql: str) -> None:
    """It may not know yet that a scope was shredded, and what is sealed then is lost."""
    primary = SqlKeys(postgresql)
    primary.create_table()
    made = primary.create(row(scope()))
    with servers.standby(postgresql) as url:
        store = SqlKeys(url)
        calls: list[Callable[[], object]] = [
            lambda: store.newest(made.scope, KeyKind.DATA),
            lambda: store.create(made),
            store.create_table,
        ]
        for call in calls:
            with pytest.raises(KeyStoreError, match=r"read-only copy\. Connect to the primary"):
                call()
        assert SqlKeys(url, read_only=True).newest(made.scope, KeyKind.DATA) == made


def test_a_server_that_is_read_only_is_refused(mariadb: str) -> None:
    store = SqlKeys(mariadb)
    store.create_table()
    made = store.create(row(scope()))
    engine = sa.create_engine(mariadb)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET GLOBAL read_only = 1")
        try:
            with pytest.raises(KeyStoreError, match="read-only copy"):
                store.newest(made.scope, KeyKind.DATA)
            assert SqlKeys(mariadb, read_only=True).newest(made.scope, KeyKind.DATA) == made
        finally:
            connection.exec_driver_sql("SET GLOBAL read_only = 0")
    engine.dispose()


def test_a_read_only_transaction_says_so(postgresql: str) -> None:
    SqlKeys(postgresql).create_table()
    with pytest.raises(KeyStoreError, match="Connect to the primary") as refused:
        SqlKeys(f"{postgresql}&options=-c%20default_transaction_read_only%3Don").create(row(scope()))
    assert not refused.value.retryable


def test_mysql_cuts_nothing_off_and_keeps_every_character(mariadb: str) -> None:
    """In a database of an old character set, by sessions without strict mode."""
    engine = sa.create_engine(mariadb)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE DATABASE latin CHARACTER SET latin1 COLLATE latin1_swedish_ci")
    engine.dispose()
    old = sa.create_engine(make_url(mariadb).set(database="latin"), connect_args={"charset": "latin1"})
    event.listen(old, "connect", lambda connection, _: connection.cursor().execute("SET SESSION sql_mode = ''"))
    store = SqlKeys(old)
    store.create_table()
    made = store.create(row(scope(tenant="Ünïcode ☃ \U0001f511")))
    assert store.newest(made.scope, KeyKind.DATA) == made
    large = row(scope())
    object.__setattr__(large, "blob", bytes(8193))
    with pytest.raises(KeyStoreError, match="too long"):
        store.create(large)
    assert store.get_many(large.scope) == []
    old.dispose()


def test_missing_rights_are_named(postgresql: str) -> None:
    SqlKeys(postgresql, table="rights").create_table()
    with _engine(postgresql).begin() as connection:
        connection.exec_driver_sql("CREATE ROLE reader LOGIN")
        connection.exec_driver_sql("GRANT SELECT ON rights, rights_epoch TO reader")
    store = SqlKeys(postgresql.replace("app@", "reader@"), table="rights")
    assert store.newest(scope(), KeyKind.DATA) is None
    with pytest.raises(KeyStoreError, match="Grant the database user SELECT and UPDATE on both of its tables; INSERT"):
        store.create(row(scope()))


@pytest.mark.parametrize(("part", "said"), [("app@", 'role "none" '), ("/postgres?", 'database "none" ')])
def test_a_missing_user_or_database_is_no_missing_table(postgresql: str, part: str, said: str) -> None:
    wrong = postgresql.replace(part, part.replace("app", "none").replace("postgres", "none"))
    assert wrong != postgresql
    with pytest.raises(KeyStoreError, match=f"{said}does not exist$"):
        SqlKeys(wrong).newest(scope(), KeyKind.DATA)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_lock_of_the_caller_is_a_clear_error(kind: str, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(kind)
    store = SqlKeys(url)
    store.create_table()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT * FROM sealwax_keys_epoch FOR UPDATE")
        with pytest.raises(KeyStoreError, match=r"call ensure\(\) before that transaction") as refused:
            store.create(row(scope()))
        assert not refused.value.retryable
    assert store.create(row(scope())).generation == 1
    engine.dispose()


# --- SQLite


@pytest.mark.slow
@pytest.mark.parametrize(
    ("driver", "journal"), [("sqlite", "wal"), ("sqlite", "delete"), ("sqlite+aiosqlite", "delete")]
)
def test_sqlite_under_the_callers_lock(tmp_path: Path, driver: str, journal: str) -> None:
    path = tmp_path / "keys.db"
    own = sqlite3.connect(path, isolation_level=None)
    own.execute(f"PRAGMA journal_mode = {journal}")
    store = SqlKeys(f"{driver}:///{path}")
    store.create_table()
    made = store.create(row(scope()))
    own.execute("BEGIN IMMEDIATE")
    own.execute("CREATE TABLE mine (id INTEGER)")
    with pytest.raises(KeyStoreError, match=r"database is locked. .* call ensure\(\) before that transaction"):
        store.create(row(scope()))
    assert store.newest(made.scope, KeyKind.DATA) == made
    own.execute("COMMIT")
    assert store.create(row(scope())).generation == 1
    own.close()


def test_sqlite_waits_for_another_that_writes(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    store = SqlKeys(f"sqlite:///{path}")
    store.create_table()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, other.execute, ["COMMIT"]).start()
    assert store.create(row(scope())).generation == 1
    other.close()


def test_a_file_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    SqlKeys(f"sqlite:///{path}").create_table()
    with pytest.raises(KeyStoreError, match="may not be written to"):
        SqlKeys(f"sqlite:///file:{path}?mode=ro&uri=true").create(row(scope()))


def test_a_creator_may_open_a_file(tmp_path: Path) -> None:
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(tmp_path / "keys.db"))
    store = SqlKeys(engine)
    store.create_table()
    assert store.create(row(scope())).generation == 1


# --- what is no database


@pytest.mark.parametrize("make", [lambda e: e.connect(), Session, lambda _: 7, lambda _: None])
def test_a_store_takes_an_engine_or_a_url(make: Callable[[sa.Engine], object], tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/keys.db")
    given: Any = make(engine)
    with pytest.raises(TypeError, match="takes an Engine, an AsyncEngine or a URL"):
        SqlKeys(given)
    getattr(given, "close", lambda: None)()


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MySQLdb", None)  # Django may have taken PyMySQL for it
    with pytest.raises(
        ModuleNotFoundError, match=r"'psycopg2' is not .*'sealwax\[postgresql\]', and write postgresql\+"
    ):
        SqlKeys("postgresql+psycopg2://db.example.com/shop")
    with pytest.raises(ModuleNotFoundError, match=r"'MySQLdb' is not .*'sealwax\[mysql\]', and write mysql\+pymysql"):
        SqlKeys("mysql+mysqldb://db.example.com/shop")


@pytest.mark.parametrize("url", ["oracle+oracledb://db.example.com/shop", "postgres://db.example.com/shop"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(
        ValueError, match=r"begins with postgresql, mysql, mariadb or sqlite, not with (oracle|postgres)$"
    ):
        SqlKeys(url)


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "keys.db").write_text("a text, and a rather long one at that")
    with pytest.raises(KeyStoreError, match="file is not a database"):
        SqlKeys(f"sqlite:///{tmp_path}/keys.db").check([])


@pytest.mark.parametrize("table", ["", "app."])
def test_a_table_has_a_name(table: str) -> None:
    with pytest.raises(ValueError, match="needs a name"):
        SqlKeys("sqlite:///keys.db", table=table)


def test_a_store_works_in_a_forked_child(async_url: str) -> None:
    for database in (async_url, create_async_engine(async_url)):
        store = SqlKeys(database)
        store.create_table()
        made = store.create(row(scope()))
        child = os.fork()
        if child == 0:
            os._exit(0 if store.newest(made.scope, KeyKind.DATA) == made and store.retire(made) is False else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert store.newest(made.scope, KeyKind.DATA) == made


def test_a_transaction_that_another_made_fail_is_repeated(postgresql: str) -> None:
    engine = sa.create_engine(postgresql)
    store = SqlKeys(engine)
    store.create_table()
    failures = [psycopg.errors.SerializationFailure("of two"), psycopg.errors.DeadlockDetected("of two")]
    endless: list[bool] = []

    @event.listens_for(engine, "do_execute")
    def fail(_cursor: object, statement: str, _parameters: object, _context: object) -> None:
        if statement.startswith("INSERT") and (failures or endless):
            raise failures.pop() if failures else psycopg.errors.SerializationFailure("of many")

    made = row(scope())
    assert store.create(made) == made
    assert not failures
    endless.append(True)
    with pytest.raises(KeyStoreError, match="failed while adding a key: of many"):
        store.create(row(scope()))
