"""The two tables of a key store in a migration, as SqlKeys makes them too."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from sealwax.django._engines import engine_of
from sealwax.records._sql_tables import key_tables


def statements(connection: Any, *, looking: bool) -> list[str]:
    """Return the statements that make the tables and indexes that are missing.

    Args:
        connection: Django's connection to the database.
        looking: whether to look which are missing; else all are.
    """
    metadata = sa.MetaData()
    key_tables(metadata)
    dialect = engine_of(connection.alias).dialect
    there = set(connection.introspection.table_names()) if looking else set()
    made: list[str] = []
    for table in metadata.sorted_tables:
        if table.name not in there:
            made.append(str(CreateTable(table).compile(dialect=dialect)))
        indexes = _indexes(connection, table.name) if table.name in there else set()
        made += [
            str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes if index.name not in indexes
        ]
    return [statement.strip() for statement in made]


def _indexes(connection: Any, table: str) -> set[str]:
    with connection.cursor() as cursor:
        return set(connection.introspection.get_constraints(cursor, table))
