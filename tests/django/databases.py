"""Databases of the tests as Django's settings have them, and how one takes the place of another in a process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy.engine import make_url

_ENGINES: Final = {"postgresql": "postgresql", "mysql": "mysql", "sqlite": "sqlite3"}


def settings_of(url: str) -> dict[str, Any]:
    """Return what DATABASES has for a URL of SQLAlchemy.

    Args:
        url: such as those of ``tests.records.servers``.
    """
    parsed = make_url(url)
    kind = parsed.get_backend_name()
    options: dict[str, Any] = {}
    if kind == "mysql":
        import pymysql  # type: ignore[import-untyped]

        pymysql.install_as_MySQLdb()
        # PyMySQL reads all certificates of the machine for each connection, which takes 25 ms.
        options = {"unix_socket": parsed.query["unix_socket"], "ssl_disabled": True}
    return {
        "ENGINE": f"django.db.backends.{_ENGINES[kind]}",
        "NAME": parsed.database,
        "USER": parsed.username or "",
        "HOST": parsed.query.get("host", parsed.host) or "",
        "OPTIONS": options,
    }


def with_unicode(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a database of MariaDB beside another one, which takes any character."""
    from django.db import connections

    with in_settings("beside", settings), connections["beside"].cursor() as cursor:
        cursor.execute("CREATE DATABASE IF NOT EXISTS clinic CHARACTER SET utf8mb4")
    return {**settings, "NAME": "clinic"}


@contextlib.contextmanager
def in_settings(alias: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Let an alias be a database for a while, as if DATABASES had it."""
    from django.db import connections

    before = connections.settings.get(alias)
    _put(alias, connections.configure_settings({"default": {}, alias: dict(settings)})[alias])
    try:
        yield alias
    finally:
        _put(alias, before)


def _put(alias: str, settings: Any) -> None:
    from django.db import connections

    if alias in connections.settings:
        connections[alias].close()
        del connections[alias]
    if settings is None:
        del connections.settings[alias]
    else:
        connections.settings[alias] = settings
