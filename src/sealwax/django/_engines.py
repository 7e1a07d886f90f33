"""Engines of SQLAlchemy that connect as Django does, by the setting DATABASES."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any, Final

from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError, InterfaceError, connections
from django.db.utils import load_backend

from sealwax.errors import KeyStoreError, TableError

try:
    import sqlalchemy as sa
    from sqlalchemy.engine import URL, Engine
except ModuleNotFoundError as error:
    if error.name != "sqlalchemy":
        raise
    raise ModuleNotFoundError(
        "the key store of sealwax.django needs SQLAlchemy; install it with pip install 'sealwax[django]'",
        name="sqlalchemy",
    ) from None

_CONNECT_SECONDS: Final = 10
_VENDORS: Final = ("postgresql", "mysql", "sqlite")


def engine_of(alias: str) -> Engine:
    """Return an engine for a database of the settings; nothing connects to it yet.

    Django's backend makes each connection, with all that DATABASES says at that time; none is Django's own.

    Args:
        alias: the name of the database in DATABASES.

    Raises:
        ValueError: it is of another kind than PostgreSQL, MySQL, MariaDB and SQLite.
    """
    wrapper = _wrapper(alias)
    if wrapper.vendor not in _VENDORS:
        raise ValueError(
            f"a key store is in PostgreSQL, MySQL, MariaDB or SQLite, and '{alias}' is {wrapper.display_name}"
        )
    return sa.create_engine(_url(wrapper), module=wrapper.Database, creator=lambda: _connected(alias))


@contextlib.contextmanager
def data_engine(alias: str) -> Iterator[Engine]:
    """Yield an engine for the tables of models, whose connections are closed afterwards.

    Raises:
        TableError: no other connection sees the database.
    """
    wrapper = _wrapper(alias)
    if wrapper.vendor == "sqlite" and wrapper.is_in_memory_db():
        raise TableError(
            f"the database '{alias}' is a SQLite database in memory, which another connection does not share; use a "
            "file"
        )
    engine = engine_of(alias)
    try:
        yield engine
    finally:
        engine.dispose()


def _wrapper(alias: str) -> Any:
    """Return what connects, with settings of its own: Django's wrapper of this thread may be in a transaction."""
    settings = copy.deepcopy(connections[alias].settings_dict)
    options = settings["OPTIONS"]
    options.pop("pool", None)
    settings.update(CONN_MAX_AGE=0, ATOMIC_REQUESTS=False, AUTOCOMMIT=False)
    wrapper = load_backend(settings["ENGINE"]).DatabaseWrapper(settings, alias)
    if wrapper.vendor == "postgresql":
        options.setdefault("connect_timeout", _CONNECT_SECONDS)
    if wrapper.vendor == "sqlite":
        options["detect_types"] = 0  # SQLAlchemy reads dates and the like itself
    return wrapper


def _connected(alias: str) -> Any:
    wrapper = _wrapper(alias)
    if wrapper.vendor == "sqlite" and wrapper.is_in_memory_db():
        raise KeyStoreError(
            f"the database '{alias}' is a SQLite database in memory, which another connection does not share. In "
            "tests, use override_records(get_records(), sealwax_records), or MemoryKeys()"
        )
    failed: BaseException
    try:
        wrapper.connect()
        connection, wrapper.connection = wrapper.connection, None
        return connection
    except SynchronousOnlyOperation:
        failed = KeyStoreError(
            f"the key store in the database '{alias}' was used in an event loop, which would wait for it; call "
            "ensure_async() or preload() there first, or use sync_to_async()"
        )
    except (DatabaseError, InterfaceError) as error:
        failed = error.__cause__ or error  # SQLAlchemy knows the errors of the driver, and not those of Django
    finally:
        if wrapper.connection is not None:
            wrapper.connection.close()
    raise failed


def _url(wrapper: Any) -> URL:
    """Return the database as messages name it, with what they must not show: nothing connects by it."""
    settings = wrapper.settings_dict
    if wrapper.vendor == "sqlite":
        name = wrapper.alias if wrapper.is_in_memory_db() else str(settings["NAME"])
        return URL.create("sqlite", database=name)
    driver = wrapper.Database.__name__
    # PyMySQL may stand in for MySQLdb.
    dialect = wrapper.vendor if driver == "MySQLdb" else f"{wrapper.vendor}+{driver}"
    secrets = {name: value for name, value in settings["OPTIONS"].items() if isinstance(value, str)}
    return URL.create(
        dialect,
        username=settings["USER"] or None,
        password=settings["PASSWORD"] or None,
        host=settings["HOST"] or None,
        port=int(settings["PORT"]) if settings["PORT"] else None,
        database=settings["NAME"] or None,
        query=secrets,
    )
