"""How a key store reaches its database: connections of its own, transactions, and failures that tell no password.

Of an engine of the caller, the way to connect is used: its arguments, creator and events. Its pool never is: a
transaction that is rolled back would take the key with it, and a pool that waits for a key for its last connection
would wait forever. A connection is closed after each call, so a pooler in front (pgbouncer) may lend another each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Dialect, Engine, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from sealwax._core import fork_locks
from sealwax._text import printable
from sealwax.errors import KeyStoreError

T = TypeVar("T")

_ATTEMPTS: Final = 16
_PAUSE_SECONDS: Final = 0.05
_CONNECTIONS: Final = 100
_CONNECT_SECONDS: Final = 10
# How long to wait for a lock of another connection. The caller may hold it, and would wait for itself.
_LOCK_SECONDS: Final = 5
_SQLITE_SECONDS: Final = float(_LOCK_SECONDS)
_SQLITE_WAIT_MS: Final = 100

_DATABASES: Final = ("postgresql", "mysql", "mariadb", "sqlite")
# The extra that has a driver, and the driver.
_DRIVERS: Final = {
    "postgresql": ("postgresql", "psycopg"),
    "mysql": ("mysql", "pymysql"),
    "mariadb": ("mysql", "pymysql"),
}
# What may be shown of the part after the question mark: a driver takes passwords there under many names.
_SHOWN_OPTIONS: Final = ("host", "service", "unix_socket")
_SECRETS: Final = re.compile(
    r"""(?ix) (?P<name> [\w-]* (?: passw | passphrase | pwd | secret | token ) [\w-]* ['"]? \s* [=:] \s* )
              (?: '(?:\\.|[^'])*' | "(?:\\.|[^"])*" | [^\s,;)&]+ )"""
)
_CREDENTIALS: Final = re.compile(r"(?P<begin>://[^/@:\s]*:)[^\s]*@")

# Codes are the SQLSTATE of PostgreSQL and the numbers of MySQL; messages may be in any language.
# Serialization failures, deadlocks, and tables that another process creates: none had an effect.
_TRY_AGAIN: Final = frozenset({"40001", "40P01", "42P07", 1213, 1020, 1050})
_HINTS: Final[dict[object, str]] = {}
_NO_TABLE: Final = "Create its tables with create_table() or a migration."
_READ_ONLY: Final = (
    "This server is a read-only copy. Connect to the primary (for PostgreSQL, add target_session_attrs=read-write to "
    "the URL); a key store that only opens may set read_only=True."
)
_NO_RIGHT: Final = (
    "Grant the database user SELECT and UPDATE on both of its tables; INSERT and DELETE belong to the application "
    "alone."
)
_LOCKED: Final = (
    "Another transaction holds the lock; if it is this program's own, call ensure() before that transaction begins."
)
for _hint, _codes in {
    _NO_TABLE: ("42P01", "3F000", 1146),
    _READ_ONLY: ("25006", 1290, 1792, 1836),
    _NO_RIGHT: ("42501", 1142, 1143, 1044),
    _LOCKED: ("55P03", 1205),
}.items():
    _HINTS.update(dict.fromkeys(_codes, _hint))


class KeyDatabase:
    """Runs transactions, each on a connection of its own.

    Args:
        database: an engine, a URL, or an ``AsyncEngine``.
        read_only: whether the server may be a copy.
        keep: whether to keep connections, for a program that works on many rows and ends; without a limit, since each
            thread uses one.
        name: how messages name the database; by default by its URL.
        no_table: what to do if its tables are missing.

    Attributes:
        url: the database, without a password.
        named: the key store as messages name it.
    """

    def __init__(
        self, database: object, *, read_only: bool, keep: bool = False, name: str = "", no_table: str = _NO_TABLE
    ) -> None:
        given = getattr(database, "sync_engine", database)
        url = _given_url(given)
        if url.get_backend_name() not in _DATABASES:
            raise ValueError(
                "a key store is in PostgreSQL, MySQL, MariaDB or SQLite: its URL begins with postgresql, mysql, "
                f"mariadb or sqlite, not with {printable(url.get_backend_name())}"
            )
        self.url = shown_url(url)
        self.named = f"the key store {name or self.url}"
        self._no_table = no_table
        self._url = url
        self._read_only = read_only
        self._engine = _own_engine(
            given if isinstance(given, Engine) else _engine_of_url(url), keep=keep, named=self.named
        )
        self._dialect = self._engine.dialect
        if self._dialect.name == "sqlite":
            event.listen(self._engine, "begin", _begin_sqlite)
        else:
            # The caller's engine may commit each statement, or have a level that fails more often.
            level = "READ COMMITTED" if self._dialect.name == "postgresql" else "REPEATABLE READ"
            self._engine = self._engine.execution_options(isolation_level=level)
        # SQLite begins a change by taking the lock that it needs: a transaction that reads first may never get it.
        self._writing = self._engine.execution_options(sealwax_writes=True)
        if _may_be_memory(url):
            self._refuse_memory()

    def run(self, work: Callable[[Connection], T], doing: str, *, changes: bool) -> T:
        """Return ``work(connection)`` of one transaction; repeat it if it failed and had no effect.

        Raises:
            KeyStoreError: the database cannot be reached, or refuses.
        """
        engine = self._writing if changes else self._engine
        locked_until = time.monotonic() + _SQLITE_SECONDS
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._once(engine, work)
            except (SQLAlchemyError, self._dialect.loaded_dbapi.Error) as error:  # SQLAlchemy does not wrap them all
                again = attempt < _ATTEMPTS and _may_succeed(error)
                if not again and not (_is_locked_sqlite(error) and time.monotonic() < locked_until):
                    failed = self._failed(doing, error)
                    break
            time.sleep(_PAUSE_SECONDS * min(attempt, 8) * random.random())  # noqa: S311  not for a secret
        # Raised out here, it has no cause or context: those of a driver may hold what it was given to connect.
        raise failed

    def _once(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        def prepared(connection: Connection) -> T:
            self._prepare(connection)
            return work(connection)

        with fork_locks.no_forks():
            if self._dialect.is_async:
                return _in_loop(engine, prepared)
            with contextlib.closing(engine.connect()) as connection, connection.begin():
                return prepared(connection)

    def _prepare(self, connection: Connection) -> None:
        """Bound the waits for locks, and refuse a copy, which may not know the newest key yet."""
        if self._dialect.name == "sqlite":
            return
        if self._dialect.name == "postgresql":
            about = sa.select(
                sa.func.pg_is_in_recovery(), sa.func.set_config("lock_timeout", f"{_LOCK_SECONDS}s", True)
            )
            is_copy = connection.execute(about).one()[0]
        else:
            # Without strict mode, MySQL cuts off what is too long for a column.
            connection.exec_driver_sql(
                "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',STRICT_ALL_TABLES'), "
                f"innodb_lock_wait_timeout = {_LOCK_SECONDS}, lock_wait_timeout = {_LOCK_SECONDS}"
            )
            modes = connection.exec_driver_sql("SELECT @@GLOBAL.read_only, @@GLOBAL.innodb_read_only").one()
            is_copy = any(str(mode) not in ("0", "OFF") for mode in modes)
        if is_copy and not self._read_only:
            raise KeyStoreError(f"{self.named} was refused: {_READ_ONLY}")

    def close(self) -> None:
        """Close the connections that are kept."""
        self._engine.dispose()

    def _refuse_memory(self) -> None:
        # A creator may open a file all the same.
        files = self.run(
            lambda connection: [row[2] for row in connection.exec_driver_sql("PRAGMA database_list")],
            "looking where it is",
            changes=False,
        )
        if not files[0]:
            raise ValueError(
                "a SQLite database in memory is gone with its connection, and the key store needs one of its own; use "
                "MemoryKeys() for tests, or a file"
            )

    # --- failures

    def _failed(self, doing: str, error: Exception) -> KeyStoreError:
        hint = _hint_of(error)
        hint = self._no_table if hint == _NO_TABLE else hint
        reason = reason_of(error, self._dialect, self._url)
        if isinstance(error, IntegrityError):
            reason = f"{_ATTEMPTS} races in a row were lost"
        message = f"{self.named} failed while {doing}: {reason}" + (f". {hint}" if hint else "")
        return KeyStoreError(message, retryable=_is_away(error, self._dialect) and not hint)


def shown_url(url: URL) -> str:
    """Return a URL as messages show it, without what may be a secret."""
    return printable(_without_secrets(url).render_as_string(hide_password=True))


def reason_of(error: Exception, dialect: Dialect, url: URL) -> str:
    """Return the first line of what a driver says, without secrets, statements and values."""
    cause = _cause(error)
    kind = type(cause).__name__
    said_by_server = _is_away(error, dialect) or _hint_of(error) or getattr(error, "statement", None)
    if not said_by_server and not isinstance(cause, sqlite3.Error):
        return kind  # the driver did not understand what it was given to connect, and its text quotes that
    said = cause.args[1] if len(cause.args) == 2 and isinstance(cause.args[0], int) else cause
    return (next(iter(_redacted(str(said), url).splitlines()), "") or kind).rstrip(".")


def _is_away(error: Exception, dialect: Dialect) -> bool:
    driver: Any = dialect.loaded_dbapi
    away = isinstance(_cause(error), (driver.OperationalError, getattr(driver, "InterfaceError", OSError), OSError))
    return away or bool(getattr(error, "connection_invalidated", False))


def _redacted(text: str, url: URL) -> str:
    for secret in _secrets_of(url):
        text = text.replace(secret, "***")
    text = _CREDENTIALS.sub(r"\g<begin>***@", text)
    return "\n".join(map(printable, _SECRETS.sub(r"\g<name>***", text).splitlines()))


def _without_secrets(url: URL) -> URL:
    shown = {name: value for name, value in url.query.items() if name in _SHOWN_OPTIONS}
    return url.set(query=shown, password=None if url.password is None else "***")


def _secrets_of(url: URL) -> list[str]:
    options = [str(value) for name, value in url.query.items() if name not in _SHOWN_OPTIONS]
    secrets = [str(url.password or ""), *(value for value in options if len(value) > 3)]
    return sorted(filter(None, secrets), key=len, reverse=True)


def _may_be_memory(url: URL) -> bool:
    return url.get_backend_name() == "sqlite" and (
        not url.database or ":memory:" in url.database or "memory" in url.query.get("mode", "")
    )


def _cause(error: Exception) -> BaseException:
    """Return the error of the driver, without its wrapping."""
    return getattr(error, "orig", None) or error


def _hint_of(error: Exception) -> str:
    code = _code(error)
    if isinstance(code, sqlite3.OperationalError):
        if _is_locked_sqlite(error):
            return _LOCKED
        if _sqlite_code(code) == sqlite3.SQLITE_READONLY:
            return "The file, or its folder, may not be written to."
        return _NO_TABLE if "no such table" in str(code) else ""
    return _HINTS.get(code, "")


def _code(error: Exception) -> object:
    """Return the SQLSTATE, the number, or for SQLite the error itself."""
    cause = _cause(error)
    if isinstance(cause, sqlite3.OperationalError):
        return cause
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    # Errors of mysql drivers have a number first, and maybe a state, which says less.
    first = cause.args[0] if cause.args else None
    return first if isinstance(first, int) else state


def _sqlite_code(error: sqlite3.OperationalError) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_locked_sqlite(error: Exception) -> bool:
    cause = _code(error)
    return isinstance(cause, sqlite3.OperationalError) and _sqlite_code(cause) in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


def _may_succeed(error: Exception) -> bool:
    code = _code(error)
    return isinstance(error, IntegrityError) or (isinstance(code, str | int) and code in _TRY_AGAIN)


# --- engines


def _given_url(given: object) -> URL:
    if isinstance(given, Engine):
        return given.url
    if not isinstance(given, str | URL):
        raise TypeError(
            f"a key store takes an Engine, an AsyncEngine or a URL, not {type(given).__name__}: it needs "
            "connections of its own"
        )
    url = None
    with contextlib.suppress(SQLAlchemyError, ValueError):
        url = make_url(given)
    # What is wrong may be the password, so nothing of it is quoted.
    named = "" if url is None or url.username is None else f"{url.host}{url.database}"
    if url is None or "@" in named:
        raise ValueError(
            "the URL of the key store is not understood; it has the form postgresql+psycopg://USER@HOST/DATABASE, and "
            "characters such as @, / and : in a password are written %40, %2F and %3A"
        )
    return url


def _engine_of_url(url: URL) -> Engine:
    arguments: dict[str, object] = {}
    # The library of PostgreSQL would wait for two minutes.
    if url.get_driver_name() == "psycopg" and not ("connect_timeout" in url.query or "PGCONNECT_TIMEOUT" in os.environ):
        arguments["connect_timeout"] = _CONNECT_SECONDS
    engine, lacking = None, ""
    try:
        engine = sa.create_engine(url, connect_args=arguments, poolclass=NullPool)
    except ModuleNotFoundError as error:
        lacking = error.name or ""
    except (SQLAlchemyError, TypeError, ValueError):
        pass  # its text quotes what it did not understand
    if lacking:
        raise ModuleNotFoundError(
            f"the driver '{lacking}' is not installed; install one with {_how_to_install(url, lacking)}", name=lacking
        )
    if engine is None:
        raise ValueError(f"an option in the URL of the key store, {_without_secrets(url)}, has an unusable value")
    return engine


def _how_to_install(url: URL, lacking: str) -> str:
    backend = url.get_backend_name()
    if backend not in _DRIVERS:
        return f"pip install {lacking}"
    extra, driver = _DRIVERS[backend]
    install = f"pip install 'sealwax[{extra}]'"
    return install if url.get_driver_name() == driver else f"{install}, and write {backend}+{driver}:// in the URL"


def _own_engine(engine: Engine, *, keep: bool, named: str) -> Engine:
    """Return an engine that connects as the caller's does."""
    # The function below names no engine: tools that collect errors take the variables of each function.
    pool, dialect, url = engine.pool, engine.dialect, _without_secrets(engine.url)

    def connect() -> Any:
        # A new pool of the caller's kind has its events, which prepare a connection; the connection then leaves it.
        reached = None
        try:
            reached = _reached(pool, dialect)
        except (dialect.loaded_dbapi.Error, KeyStoreError):
            raise
        except Exception as error:
            kind = type(error).__name__
        if reached is None:
            raise KeyStoreError(
                f"{named} cannot be reached: its engine raised {kind} when it connected", retryable=True
            )
        connection: Any = reached.dbapi_connection
        driver: Any = reached.driver_connection
        reached.detach()
        if dialect.name == "sqlite":
            _prepare_sqlite(connection)
            return connection
        connection.commit()  # what an event has set remains
        if hasattr(driver, "prepare_threshold"):
            driver.prepare_threshold = None  # psycopg: a pooler lends another connection for each transaction
        return connection

    own = QueuePool(connect, pool_size=0, dialect=dialect) if keep else NullPool(connect, dialect=dialect)
    return Engine(own, dialect, url, hide_parameters=True)


def _reached(pool: Any, dialect: Any) -> Any:
    """Return a connection of a new pool, with the events of another, once the dialect knows its database."""
    for _ in range(_CONNECTIONS):
        reached = pool.recreate().connect()
        # The first connection looks at the database. A pool makes all others wait for that, but not those of new pools.
        if hasattr(dialect, "default_isolation_level"):
            break
        reached.detach()
        reached.close()
        time.sleep(_PAUSE_SECONDS)
    return reached


def _prepare_sqlite(connection: Any) -> None:
    if hasattr(connection, "autocommit"):  # from Python 3.12 on; else each COMMIT would begin a transaction
        connection.autocommit = sqlite3.LEGACY_TRANSACTION_CONTROL  # type: ignore[attr-defined,unused-ignore]
    connection.isolation_level = None  # the driver would begin transactions too late
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_SQLITE_WAIT_MS}")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("sealwax_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _in_loop(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Run a transaction of an asynchronous driver, in an event loop of its own: the caller's may be waiting."""
    from sqlalchemy.ext.asyncio import AsyncEngine

    done: list[T] = []
    failed: list[BaseException] = []

    async def transaction() -> T:
        async with AsyncEngine(engine).begin() as connection:
            return await connection.run_sync(work)

    def run() -> None:
        loop = asyncio.new_event_loop()
        try:
            done.append(loop.run_until_complete(transaction()))
        except BaseException as error:  # raised again by whoever waits
            failed.append(error)
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="sealwax-key-store", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed.pop()
    return done.pop()
