"""Connections to the database with the tables of an application: work is tried again, and errors show no values."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, NoSuchTableError, SQLAlchemyError

from sealwax._text import printable
from sealwax.errors import TableError
from sealwax.records._sql_connect import reason_of, shown_url

T = TypeVar("T")

_ATTEMPTS: Final = 8
_PAUSE_SECONDS: Final = 0.05
# Serialization failures, deadlocks and lock timeouts had no effect.
_TRY_AGAIN: Final = {"40001", "40P01", "55P03", 1213, 1205}


class TableWork:
    """Runs work on one table, each in a transaction of its own.

    Args:
        engine: the database.
        table: the name of the table.
        named: the column, as messages show it.
    """

    def __init__(self, engine: Engine, table: str, named: str) -> None:
        self._engine = engine
        self._table = table
        self._named = named

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do the work, and again while the database says that it may succeed.

        Raises:
            TableError: it failed; what the driver says of values is left out.
            NoSuchTableError: there is no such table.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                with self._connect() as connection, connection.begin():
                    return work(connection)
            except NoSuchTableError:
                raise
            except (TypeError, ValueError):  # SQLite has values of any type in any column; the text would quote them
                raise TableError(
                    f"the table '{printable(self._table)}' in {shown_url(self._engine.url)} has a value that is not of "
                    "the type of its column"
                ) from None
            except SQLAlchemyError as error:
                if attempt >= _ATTEMPTS or not _may_succeed(error):
                    failed = reason_of(error, self._engine.dialect, self._engine.url)
                    break
            time.sleep(_PAUSE_SECONDS * attempt * random.random())  # noqa: S311  not for a secret
        # Raised out here, it has no context: the driver's error holds values and what was given to connect.
        raise TableError(f"the database {shown_url(self._engine.url)} failed at {self._named}: {failed}")

    def _connect(self) -> Connection:
        try:
            return self._engine.connect()
        except SQLAlchemyError:
            raise
        except Exception as error:  # whatever a driver makes of an option that it does not know
            kind = type(error).__name__
        raise TableError(f"the database {shown_url(self._engine.url)} cannot be reached: its driver raised {kind}")


@contextlib.contextmanager
def connected(database: Engine | URL | str) -> Iterator[Engine]:
    """Yield the engine of a database, and close its connections if it was named by a URL.

    Raises:
        TableError: the URL is not understood, or its driver is not installed.
    """
    if isinstance(database, Engine):
        yield database
        return
    engine = _made_engine(database)
    try:
        yield engine
    finally:
        engine.dispose()


def _made_engine(url: URL | str) -> Engine:
    if not isinstance(url, URL | str):
        raise TypeError(f"a database is an Engine or a URL, not {type(url).__name__}")
    # What is wrong may be a password in the wrong place, and these errors quote it.
    reason = "its URL is not understood, or an option in it has an unusable value"
    try:
        return sa.create_engine(make_url(url))
    except (ImportError, NoSuchModuleError):
        reason = "the driver that its URL names is not installed"
    except (SQLAlchemyError, TypeError, ValueError):
        pass
    # Raised out here, it has no context, which would quote it too.
    raise TableError(f"the database cannot be reached: {reason}")


def _may_succeed(error: SQLAlchemyError) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.OperationalError):
        return "locked" in str(cause)
    code = getattr(cause, "sqlstate", None) or (cause.args[:1] or (None,))[0] if cause else None
    return code in _TRY_AGAIN
