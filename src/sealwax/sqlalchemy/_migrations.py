"""Alembic: a migration shows a sealed column by the type that the database has."""

from __future__ import annotations

from typing import Any, Literal

from sealwax.sqlalchemy._index import IndexOf
from sealwax.sqlalchemy._sealed_type import SealedType


def render_item(kind: str, item: Any, context: Any) -> str | Literal[False]:
    """Render sealed columns in migrations that Alembic generates, as the type that the database has.

    So a migration does not change its meaning when sealwax or the model changes.

    Args:
        kind, item, context: as Alembic gives them.

    Returns:
        The type as Python, or False for everything that is not a sealed column.

    Example:
        >>> context.configure(connection=connection, target_metadata=target_metadata, render_item=render_item)
    """
    if kind != "type" or not isinstance(item, SealedType | IndexOf):
        return False
    dialect = context.dialect.name
    stored = item.storage.of(dialect) if isinstance(item, SealedType) else item._stored_in(dialect)
    module = type(stored).__module__
    if module.startswith("sqlalchemy.dialects."):
        name = module.split(".")[2]
        context.imports.add(f"from sqlalchemy.dialects import {name}")
        return f"{name}.{stored!r}"
    return f"{context.opts['sqlalchemy_module_prefix'] or ''}{stored!r}"
