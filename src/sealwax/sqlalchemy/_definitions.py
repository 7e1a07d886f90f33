"""What is checked when a class with sealed attributes is defined."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapper

from sealwax.errors import ModelError
from sealwax.sqlalchemy._sealed_type import SealedType
from sealwax.sqlalchemy._types import SealedRow, row_type_of


def columns_of(mapper: Mapper[Any]) -> dict[str, list[Any]]:
    """Return the columns of each attribute; ``column_attrs`` would configure all mappers, which may be too early."""
    return {key: list(mapper.get_property(key).columns) for key, _ in mapper.columns.items()}


def check_attribute(mapper: Mapper[Any], key: str, kind: SealedRow, row: Sequence[str]) -> None:
    attributes = columns_of(mapper)
    parts = [attributes[name] for name in row]
    kind._declare(row_type_of([columns[0] for columns in parts], kind))
    for name, columns in zip(row, parts, strict=True):
        for column in columns:
            if isinstance(column, sa.Column) and _is_made_by_database(column):
                raise ModelError(
                    f"'{kind._field_name}' is bound to '{name}', which the database makes when the row is inserted, "
                    "too late to seal the value; let the program make it, as with default=uuid4, or use Sealed, which "
                    "is not bound to the row"
                )
    fields = dataclasses.fields(mapper.class_) if dataclasses.is_dataclass(mapper.class_) else ()
    if any(each.name == key and each.repr for each in fields):
        raise ModelError(f"the repr of {mapper.class_.__name__} would show '{key}'; add repr=False to sealed()")


def check_bound(mapper: Mapper[Any], key: str) -> None:
    """Refuse columns that change without the records that are bound to them."""
    for column in columns_of(mapper)[key]:
        by_update = (
            getattr(column, "onupdate", None) is not None or getattr(column, "server_onupdate", None) is not None
        )
        if by_update or getattr(column, "computed", None) is not None or column is mapper.version_id_col:
            raise ModelError(
                f"sealed attributes of {mapper.class_.__name__} are bound to '{key}', which changes by itself when a "
                "row is updated, and would not open any more; bind them to columns that the program sets"
            )
        if isinstance(column.type, SealedType):
            raise ModelError(f"the scope of {mapper.class_.__name__} cannot be in '{key}', which is sealed itself")


def _is_made_by_database(column: sa.Column[Any]) -> bool:
    default = column.default
    if default is not None:
        return not (default.is_scalar or default.is_callable)
    return column.server_default is not None or column is column.table.autoincrement_column
