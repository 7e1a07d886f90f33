"""A type of SQLAlchemy that knows its column."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.types import TypeDecorator

from sealwax.errors import ModelError


class ColumnType(TypeDecorator[Any]):
    """A type whose values depend on the column that they are in."""

    impl = sa.LargeBinary
    cache_ok = True

    def __init__(self) -> None:
        super().__init__()
        self._column: sa.Column[Any] | None = None

    @property
    def _static_cache_key(self) -> Any:
        # By its column, which decides how it seals: equal arguments do not make two of these types the same.
        return type(self), self._column if self._column is not None else self

    def _set_parent(self, parent: Any, outer: bool = False, **kw: Any) -> None:
        if self._column is not None and self._column is not parent:
            # An instance may be used for several columns, and each is a field of its own.
            own = self.copy()
            own._column = None
            own._forget_column()
            parent.type = own
            own._set_parent(parent, outer=outer, **kw)
            return
        self._column = parent
        super()._set_parent(parent, outer=outer, **kw)
        event.listen(parent, "after_parent_attach", _check)

    def _forget_column(self) -> None:
        """Forget what came from another column."""

    def _check_column(self, column: sa.Column[Any]) -> None:
        """Refuse what cannot work, when the column becomes one of a table.

        Raises:
            ModelError: something cannot.
        """

    def _finds(self, column: sa.Column[Any]) -> str:  # noqa: ARG002
        """Return what searches a column of the same table; empty if this is no index of it."""
        return ""

    @property
    def _named(self) -> sa.Column[Any]:
        """The column.

        Raises:
            ModelError: there is none.
        """
        column = self._column
        if column is None or column.table is None:
            raise ModelError("a sealed type is used without its column, so its field is not known; use the column")
        return column


def _check(column: sa.Column[Any], table: Any) -> None:
    if isinstance(column.type, ColumnType) and isinstance(table, sa.Table):
        column.type._check_column(column)


def key_of(table: sa.Table, name: str) -> str:
    """Return the key of a column that is named so, or by that of its attribute."""
    if name in table.c:
        return name
    return next((column.key for column in table.c if column.name == name), name)


def client_default(column: Any) -> Any:
    """Return what the program's default of a column makes, or None.

    Raises:
        ModelError: it needs the statement, which there is not yet.
    """
    default = getattr(column, "default", None)
    if default is None or not (default.is_scalar or default.is_callable):
        return None
    if default.is_scalar:
        return default.arg
    try:
        return default.arg(None)
    except (AttributeError, TypeError):
        raise ModelError(
            f"the default of '{column}' needs the other columns, and its value is needed before; set it on the instance"
        ) from None
