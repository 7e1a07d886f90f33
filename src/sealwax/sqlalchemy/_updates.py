"""UPDATE statements whose WHERE says which row they change, so that the values can be sealed for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList, ColumnClause, Grouping


def pinned(table: sa.Table, where: Any, dialect: str, *, exact: bool = True) -> dict[str, BindParameter[Any]]:
    """Return the columns that every row that is changed has a given value in, by their keys.

    Args:
        table: the one that is changed.
        where: the condition of the UPDATE.
        dialect: of the database.
        exact: leave out columns in which other values may be equal to the given one.
    """
    pins: dict[str, BindParameter[Any]] = {}
    for each in _conditions(where):
        if isinstance(each, BinaryExpression) and each.operator is operators.eq:
            for column, value in ((each.left, each.right), (each.right, each.left)):
                if _is_of(table, column) and isinstance(value, BindParameter):
                    key = str(column.key)
                    if key in table.c and (not exact or _is_exact(table.c[key], dialect)):
                        pins[key] = value
    return pins


def _is_of(table: sa.Table, column: Any) -> bool:
    """Whether a column is that of the rows that change, not one of another table or alias."""
    # Not `is`: the table of a class is annotated in its statements, and equal all the same.
    return isinstance(column, ColumnClause) and bool(column.table == table)


def _conditions(where: Any) -> Iterator[Any]:
    if isinstance(where, Grouping):
        yield from _conditions(where.element)
    elif isinstance(where, BooleanClauseList) and where.operator is operators.and_:
        for clause in where.clauses:
            yield from _conditions(clause)
    elif where is not None:
        yield where


def _is_exact(column: sa.Column[Any], dialect: str) -> bool:
    """Whether only one value is equal to a value of a column: text may be compared without case."""
    kind = column.type
    if isinstance(kind, sa.Integer):
        return True
    if isinstance(kind, sa.Uuid):
        return kind.as_uuid
    plain = isinstance(kind, sa.String) and not isinstance(kind, CITEXT | sa.Enum) and kind.collation is None
    return plain and dialect in ("postgresql", "sqlite")


def value_of(pin: BindParameter[Any], given: Mapping[str, Any]) -> Any:
    """Return the value of a parameter of WHERE."""
    return given.get(pin.key, pin.effective_value)
