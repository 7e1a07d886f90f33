"""The map of fields: which columns hold records, and what their records are bound to. Written in Python, or in TOML."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast
from uuid import UUID

from sealwax._core import context as ctx
from sealwax._core import trusted
from sealwax._core.files import reading
from sealwax._text import printable
from sealwax.errors import TableError
from sealwax.records._rows import UNBOUND, RowType, Unbound

_MAX_FILE: Final = 1 << 20
_FIELDS_FILE: Final = trusted.Kind("the map of fields", TableError)
_ROW_TYPES: Final[Mapping[str, type]] = {"int": int, "str": str, "bytes": bytes, "uuid": UUID}


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of records in a table, and what its records are bound to.

    Args:
        table: the name of the table; ``"schema.table"`` if it is not in the default schema.
        column: the name of the column.
        row: the columns that the row of each record is made of, with their types, such as ``{"id": int}``; several
            are the items of a tuple, in this order. ``UNBOUND`` if the records are bound to no row.
        scope: the columns that pairs of the scope stand in, such as ``{"tenant": "tenant_id"}``.
        field: the name of the field, as it is given to ``Records.field``; ``"table.column"`` by default.

    Example:
        >>> SealedColumn("users", "card", row={"id": int}, scope={"tenant": "tenant_id"}).field
        'users.card'
    """

    table: str
    column: str
    row: Mapping[str, type] | Unbound
    scope: Mapping[str, str]
    field: str

    def __init__(
        self,
        table: str,
        column: str,
        *,
        row: Mapping[str, type] | Unbound,
        scope: Mapping[str, str] | None = None,
        field: str = "",
    ) -> None:
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "column", column)
        object.__setattr__(self, "row", row if isinstance(row, Unbound) else dict(row))
        object.__setattr__(self, "scope", dict(scope or {}))
        object.__setattr__(self, "field", field or f"{table}.{column}")
        if not isinstance(row, Unbound) and not row:
            raise ValueError(f"the records of {self.named} need the columns of their row, or row=UNBOUND")
        if not 1 <= len(self.field.encode(errors="replace")) <= 255:
            raise ValueError(f"the name of the field of {self.named} has 1 to 255 bytes")
        for name in self.scope:
            if not name or name == "row" or ctx.is_reserved([name]):
                raise ValueError(f"'{printable(name)}' cannot be the name of a pair in the scope of {self.named}")
        for name, kind in {} if isinstance(row, Unbound) else row.items():
            if kind not in _ROW_TYPES.values():
                raise TypeError(f"the row column '{name}' is of type int, str, bytes or uuid.UUID, not {kind!r}")

    @property
    def named(self) -> str:
        """The column as messages show it."""
        return printable(f"{self.table}.{self.column}")

    @property
    def row_type(self) -> RowType:
        """The type to declare for the field."""
        if isinstance(self.row, Unbound):
            return UNBOUND
        return tuple if len(self.row) > 1 else cast("RowType", next(iter(self.row.values())))


def read_fields(path: str | os.PathLike[str]) -> tuple[SealedColumn, ...]:
    """Read the map of fields, a TOML file.

    ::

        [[fields]]
        table = "users"
        column = "card"
        row = { column = "id", type = "int" }    # several in [ ] are a tuple; "unbound" for records of no row
        scope = { tenant = "tenant_id" }         # pairs that columns of the table have
        name = "users.card"                      # the default is "table.column"

    Args:
        path: the file.

    Returns:
        The columns, in the order of the file.

    Raises:
        TableError: it cannot be read, others could have written it, or it is no map of fields.
    """
    shown = printable(os.fspath(path))
    with reading.reported("reading the map of fields", path), trusted.open_file(path, _FIELDS_FILE) as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise TableError(f"the map of fields '{shown}' has more than {_MAX_FILE:,} bytes")
    try:
        table = tomllib.loads(data.decode())
        return _columns(table)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TableError(f"the map of fields '{shown}' is not valid TOML: {printable(str(error))}") from None
    except (TypeError, ValueError) as error:
        raise TableError(f"the map of fields '{shown}' is refused: {printable(str(error))}") from None


def _columns(table: Mapping[str, object]) -> tuple[SealedColumn, ...]:
    _refuse_unknown(table, {"fields"}, "the file")
    entries = table.get("fields")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("it has no [[fields]]")
    columns = tuple(_sealed_column(entry, number) for number, entry in enumerate(entries, 1))
    named = [(column.table, column.column) for column in columns]
    if len(set(named)) < len(named):
        raise ValueError("it has a column twice")
    return columns


def _sealed_column(entry: Mapping[str, object], number: int) -> SealedColumn:
    where = f"[[fields]] number {number}"
    _refuse_unknown(entry, {"table", "column", "row", "scope", "name"}, where)
    texts = {name: entry.get(name, "" if name == "name" else None) for name in ("table", "column", "name")}
    for name, text in texts.items():
        if not isinstance(text, str) or (not text and name != "name"):
            raise ValueError(f"{where} needs '{name}', a text")
    scope = entry.get("scope", {})
    if not isinstance(scope, dict) or not all(isinstance(column, str) for column in scope.values()):
        raise ValueError(f"{where}: 'scope' names a column for each pair, such as {{ tenant = \"tenant_id\" }}")
    return SealedColumn(
        cast("str", texts["table"]),
        cast("str", texts["column"]),
        row=_row_of(entry.get("row"), where),
        scope=scope,
        field=cast("str", texts["name"]),
    )


def _row_of(given: object, where: str) -> Mapping[str, type] | Unbound:
    if given == "unbound":
        return UNBOUND
    row: dict[str, type] = {}
    for part in given if isinstance(given, list) else [given]:
        column = part.get("column") if isinstance(part, dict) else None
        kind = _ROW_TYPES.get(str(part.get("type"))) if isinstance(part, dict) else None
        if (
            not isinstance(part, dict)
            or part.keys() != {"column", "type"}
            or not isinstance(column, str)
            or kind is None
        ):
            raise ValueError(
                f'{where}: \'row\' is {{ column = "id", type = "int" }}, a list of these, or "unbound"; a type is '
                f"{', '.join(_ROW_TYPES)}"
            )
        row[column] = kind
    if not row:
        raise ValueError(f"{where}: 'row' is empty; write \"unbound\" if the records are bound to no row")
    return row


def _refuse_unknown(table: Mapping[str, object], known: set[str], where: str) -> None:
    if unknown := sorted(table.keys() - known):
        raise ValueError(f"{where} has the unknown key '{unknown[0]}'; there are {', '.join(sorted(known))}")
