"""Alembic: a migration shows a sealed column by the type that the database has."""

from __future__ import annotations

from typing import Any

from sealwax.sqlalchemy._types import SealedType, fits_blob


def render_item(kind: str, item: Any, context: Any) -> str | bool:
    """Render sealed columns in migrations that Alembic generates, as the type that the database has.

    So a migration does not change its meaning when sealwax or the model changes.

    Args:
        kind, item, context: as Alembic gives them.

    Returns:
        The type as Python, or False for everything that is not a sealed column.

    Example:
        >>> context.configure(connection=connection, target_metadata=target_metadata, render_item=render_item)
    """
    if kind != "type" or not isinstance(item, SealedType):
        return False
    if context.dialect.name in ("mysql", "mariadb") and not fits_blob(item.length):
        context.imports.add("from sqlalchemy.dialects import mysql")
        return "mysql.MEDIUMBLOB()"
    return f"{context.opts['sqlalchemy_module_prefix'] or ''}LargeBinary()"
