"""The maps of models: which columns hold records, for ``reseal``, ``stale`` and ``verify``."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeDecorator

from sealwax.errors import ModelError
from sealwax.records import UNBOUND
from sealwax.records.tables import SealedColumn, SealedIndex
from sealwax.sqlalchemy._binding import scope_of
from sealwax.sqlalchemy._column_type import key_of
from sealwax.sqlalchemy._index import IndexOf
from sealwax.sqlalchemy._sealed_type import SealedType
from sealwax.sqlalchemy._types import SealedRow

# The columns of attributes of other names.
_attributes: Final[WeakKeyDictionary[Any, dict[str, sa.Column[Any]]]] = WeakKeyDictionary()


def sealed_columns(metadata: sa.MetaData) -> list[SealedColumn]:
    """Return the sealed columns of some models, as ``reseal``, ``stale`` and ``verify`` take them.

    Args:
        metadata: such as ``Base.metadata``, after all models were imported.

    Returns:
        The columns, table by table.

    Raises:
        ModelError: there is none; or the scope or the row of one is in another table, as in joined inheritance, or of a
            type that changes values on their way to the database.
        TypeError: it is not a ``MetaData``.

    Example:
        >>> report = reseal(records, engine.url, sealed_columns(Base.metadata))
    """
    if not isinstance(metadata, sa.MetaData):
        raise TypeError(f"sealed_columns takes the metadata of the tables, such as Base.metadata, not {metadata!r}")
    columns = [
        _sealed_column(table, column)
        for table in metadata.tables.values()
        for column in table.c
        if isinstance(column.type, SealedType)
    ]
    if not columns:
        raise ModelError("there is no sealed column in these tables; import the modules with the models first")
    return columns


def _sealed_column(table: sa.Table, column: sa.Column[Any]) -> SealedColumn:
    kind = column.type
    assert isinstance(kind, SealedType)
    row = [_column_of(table, name, column) for name in kind.row] if isinstance(kind, SealedRow) else []
    scope = {name: _column_of(table, own, column) for name, own in scope_of(table).columns.items()}
    for each in (*row, *scope.values()):
        _check_as_stored(each, column)
    moved_from = kind.moved_from if isinstance(kind, SealedRow) else None
    # The names of an Enum are sealed.
    value_type = str if kind._kind.enum is not None else kind.value_type
    return SealedColumn(
        table.fullname,
        column.name,
        row={each.name: each.type.python_type for each in row} if row else UNBOUND,
        scope={name: each.name for name, each in scope.items()},
        # A database without a type for them keeps them otherwise than they are written.
        scope_types={name: UUID for name, each in scope.items() if isinstance(each.type, sa.Uuid)},
        field=kind._field_name,
        moves_from=None if kind.moving is None else kind.moving.old,
        kind=None if kind.moving is None else value_type,
        moved_from=None if moved_from is None else _column_of(table, moved_from, column).name,
        writes="records" if kind.moving is None else kind.moving.writes,
        indexes=[
            SealedIndex(each.name, type_.bits, type_.normalize, type_.shared)
            for each in table.c
            if isinstance(type_ := each.type, IndexOf) and type_._source_key == column.key
        ],
    )


def _check_as_stored(column: sa.Column[Any], of: sa.Column[Any]) -> None:
    """Refuse a column whose values are others to the program than to the database, where maps read them.

    Raises:
        ModelError: it is one.
    """
    if isinstance(column.type, TypeDecorator) or (isinstance(column.type, sa.Uuid) and not column.type.as_uuid):
        raise ModelError(
            f"'{of.table.name}.{of.name}' is bound to '{column.name}' of type {column.type!r}, which may change values "
            "on their way to the database, where they are read here: list the columns to look at by hand, with what "
            "the database has"
        )


def _column_of(table: sa.Table, name: str, of: sa.Column[Any]) -> sa.Column[Any]:
    """Return the column of a table that is named so, or that an attribute of this name maps."""
    named = [column for column in table.c if column.name == name]
    column = named[0] if named else table.c.get(key_of(table, name), _attributes.get(table, {}).get(name))
    if column is None:
        raise ModelError(
            f"'{of.table.name}.{of.name}' is bound to '{name}', which is in another table: add a column '{name}' to "
            f"'{of.table.name}', or list the columns to look at by hand, without this one"
        )
    return column


def _note(mapper: Mapper[Any], class_: type[Any]) -> None:  # noqa: ARG001
    for key in dict(mapper.columns.items()):
        for column in mapper.get_property(key).columns:
            if isinstance(column, sa.Column) and column.name != key:
                _attributes.setdefault(column.table, {})[key] = column


event.listen(Mapper, "after_mapper_constructed", _note)
