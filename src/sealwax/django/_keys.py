"""``DjangoKeys``: a key store in a database of Django's settings."""

from __future__ import annotations

from typing import Final

from sealwax.django._engines import engine_of
from sealwax.records._sql import TableKeys
from sealwax.records._sql_connect import KeyDatabase

_MIGRATE: Final = 'Run manage.py migrate, with "sealwax.django" in INSTALLED_APPS.'


class DjangoKeys(TableKeys):
    """A key store in a database of the setting DATABASES: PostgreSQL, MySQL, MariaDB or SQLite.

    Each call has a connection of its own, which is closed after it: a transaction of the application that is rolled
    back does not take a key with it. ``manage.py migrate`` makes the tables; ``SqlKeys`` and the command line read them
    too.

    Args:
        alias: the name of the database in DATABASES; the primary, not a replica.

    Raises:
        ValueError: it is a database of another kind.

    Example:
        >>> records = sealwax.Records(keyring, DjangoKeys("default"), scope={"app": "shop"})
    """

    def __init__(self, alias: str = "default") -> None:
        self.alias = alias
        name = f"in the database '{alias}'"
        self._open(KeyDatabase(engine_of(alias), read_only=False, name=name, no_table=_MIGRATE))

    def __repr__(self) -> str:
        return f"<DjangoKeys {self.alias}>"
