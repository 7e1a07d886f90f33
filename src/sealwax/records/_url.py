"""Databases named by URL where others can read it: on a command line, in the settings, in a plan, in a report.

A command line is in the list of processes and in the history of the shell, so a URL with a password is refused. No
message repeats a part of one: it may hold a password where none belongs.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from sealwax._text import printable
from sealwax.errors import KeyStoreError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from sealwax.records._sql import SqlKeys

_PREFIX: Final = "sql+"
_EXTRAS: Final = {"postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sql"}
_DRIVERS: Final = {
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "sqlite": "sqlite",
}
# After the user, as SQLAlchemy splits a URL, or among what the driver takes.
_PASSWORD: Final = re.compile("://[^:/]*:[^@]*@")
_SECRET: Final = re.compile("(pass(?!file)|pwd|secret|token)[^=&;]*=", re.IGNORECASE)
_MY_CNF: Final = "put it below [client] in a file such as ~/.my.cnf, and add ?read_default_file=~/.my.cnf"
_PASSWORDS: Final = {
    "postgresql": "put it in ~/.pgpass, the file that PGPASSFILE names, or PGPASSWORD",
    "mysql": _MY_CNF,
    "mariadb": _MY_CNF,
    "sqlite": "SQLite has no passwords",
}


def has_password(text: str) -> bool:
    """Whether the URL of a database has a password. SQLAlchemy need not be installed."""
    return _PASSWORD.search(text) is not None or _SECRET.search(unquote(text.partition("?")[2])) is not None


def parse_url(text: str, source: str, *, folder: str = "") -> URL:
    """Return the URL of a database, with or without the prefix ``sql+``. It has no password, and its driver is there.

    Args:
        source: what names it in messages, such as "--store".
        folder: the folder that the path of a SQLite file is relative to; the current one by default.

    Raises:
        ValueError: it is not such a URL.
        KeyStoreError: SQLAlchemy or the driver is not installed.
    """
    try:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    except ImportError:
        raise KeyStoreError(
            f'{source} needs SQLAlchemy and the driver of the database; install them with "pip install '
            "'sealwax[postgresql]'\", 'sealwax[mysql]' or, for SQLite, 'sealwax[sql]'"
        ) from None
    url = None
    with contextlib.suppress(ArgumentError, ValueError):  # whose messages may repeat a part
        url = make_url(text.removeprefix(_PREFIX))
    if url is None:
        raise ValueError(
            f"{source} is not a database URL such as postgresql+psycopg://db.example.com/shop or sqlite:///keys.db; "
            "special characters in a name are written as %XX"
        )
    backend = url.get_backend_name()
    if backend not in _EXTRAS:
        raise ValueError(f"{source} names no PostgreSQL, MySQL, MariaDB or SQLite database")
    if url.password is not None or has_password(text):
        raise ValueError(f"{source} has a password, which others on this machine could read; {_PASSWORDS[backend]}")
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except (ImportError, NoSuchModuleError):  # psycopg without libpq is no ModuleNotFoundError
        raise KeyStoreError(
            f'the driver that {source} names is not installed; install it, or run "pip install '
            f"'sealwax[{_EXTRAS[backend]}]'\" and begin the URL with {_DRIVERS[backend]}://"
        ) from None
    if getattr(dialect, "is_async", False):
        raise ValueError(f"{source} names an asynchronous driver; use {_DRIVERS[backend]}://")
    if backend == "sqlite" and (not url.database or ":memory:" in url.database or url.query.get("mode") == "memory"):
        raise ValueError(f"{source} names a SQLite database in memory; name a file, such as sqlite:///keys.db")
    _check_options(url, source)
    path = _sqlite_file(url)
    return url if path is None else url.set(database=str(Path(folder, path)))


def _check_options(url: URL, source: str) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SAWarning, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    with warnings.catch_warnings(), contextlib.suppress(SAWarning, SQLAlchemyError, TypeError, ValueError):
        warnings.simplefilter("error", SAWarning)
        create_engine(url, poolclass=NullPool)
        return
    raise ValueError(f"{source} has an option that the driver does not know, or whose value it cannot use")


def absolute_url(text: str, source: str) -> str:
    """Return a URL that is valid in any working directory; only those of SQLite have paths."""
    url = parse_url(text, source)
    path = _sqlite_file(url)
    if path is None or Path(path).is_absolute():
        return text
    return _PREFIX + url.set(database=str(Path(path).absolute())).render_as_string(hide_password=False)


def open_keys(text: str, source: str) -> SqlKeys:
    """Return the key store in a database, for work on many rows; nothing connects to it yet.

    Raises:
        ValueError, KeyStoreError: as for ``parse_url``; or there is no such SQLite file, which connecting would create.
    """
    url = parse_url(text, source)
    if path := missing_file(url):
        raise KeyStoreError(f"the key store '{printable(path)}' does not exist; correct the URL")
    from sealwax.records._sql import keeping_connections

    return keeping_connections(url)


def missing_file(url: URL) -> str | None:
    """Return the path of a SQLite database that does not exist, and that connecting would create; else None."""
    path = _sqlite_file(url)
    return None if path is None or Path(path).exists() else path


def _sqlite_file(url: URL) -> str | None:
    """Return the path of a SQLite database; None for another database, and for a URI of SQLite."""
    name = url.database
    return None if url.get_backend_name() != "sqlite" or name is None or name.startswith("file:") else name
