"""The map of fields as a TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from sealwax._core import trusted
from sealwax._core.files import reading
from sealwax._text import printable, why_not_read
from sealwax.errors import TableError
from sealwax.records._columns import ROW_TYPES, SealedColumn
from sealwax.records._named_forms import KINDS, NamedForms
from sealwax.records._rows import UNBOUND, Unbound

_MAX_FILE: Final = 1 << 20
_FIELDS_FILE: Final = trusted.Kind("the map of fields", TableError)
_TEXTS: Final = ("table", "column", "name", "type", "moved_from")
_NEEDED: Final = ("table", "column")
_KEYS: Final = {*_TEXTS, "row", "scope", "moves_from"}


def read_fields(path: str | os.PathLike[str]) -> tuple[SealedColumn, ...]:
    """Read the map of fields, a TOML file.

    ::

        [[fields]]
        table = "users"
        column = "card"
        row = { column = "id", type = "int" }    # several in [ ] are a tuple; "unbound" for records of no row
        scope = { tenant = "tenant_id" }         # pairs that columns of the table have
        name = "users.card"                      # the default is "table.column"
        moves_from = "plaintext"                 # while the column moves; or { form = "fernet", keys_env = "KEYS" }
        type = "str"                             # of the values that move, if the column does not tell it
        moved_from = "card_plain"                # the column that they are in, if it is another one

    Args:
        path: the file.

    Returns:
        The columns, in the order of the file.

    Raises:
        TableError: it cannot be read, others could have written it, or it is not a map of fields.
    """
    shown = printable(os.fspath(path))
    with reading.reported("reading the map of fields", path), trusted.open_file(path, _FIELDS_FILE) as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise TableError(f"the map of fields '{shown}' has more than {_MAX_FILE:,} bytes")
    try:
        table = tomllib.loads(data.decode())
        return _columns(table, NamedForms(Path(path).absolute().parent))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TableError(f"the map of fields '{shown}' is not valid TOML: {printable(str(error))}") from None
    except (TypeError, ValueError) as error:
        raise TableError(f"the map of fields '{shown}' is refused: {why_not_read(error)}") from None


def _columns(table: Mapping[str, object], forms: NamedForms) -> tuple[SealedColumn, ...]:
    _refuse_unknown(table, {"fields"}, "the file")
    entries = table.get("fields")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("it has no [[fields]]")
    columns = tuple(_sealed_column(entry, number, forms) for number, entry in enumerate(entries, 1))
    named = [(column.table, column.column) for column in columns]
    if len(set(named)) < len(named):
        raise ValueError("it has a column twice")
    return columns


def _sealed_column(entry: Mapping[str, object], number: int, forms: NamedForms) -> SealedColumn:
    where = f"[[fields]] number {number}"
    _refuse_unknown(entry, _KEYS, where)
    texts: dict[str, str | None] = {}
    for name in _TEXTS:
        text = entry.get(name)
        if not (isinstance(text, str) and text) and (name in _NEEDED or text is not None):
            raise ValueError(f"{where} needs '{name}', a text")
        texts[name] = text
    scope = entry.get("scope", {})
    if not isinstance(scope, dict) or not all(isinstance(column, str) for column in scope.values()):
        raise ValueError(f"{where}: 'scope' names a column for each pair, such as {{ tenant = \"tenant_id\" }}")
    moves_from = entry.get("moves_from")
    if moves_from is None and (texts["type"] or texts["moved_from"]):
        raise ValueError(f"{where}: 'type' and 'moved_from' are of a column that moves; add 'moves_from'")
    return SealedColumn(
        cast("str", texts["table"]),
        cast("str", texts["column"]),
        row=_row_of(entry.get("row"), where),
        scope=scope,
        field=texts["name"] or "",
        moves_from=None if moves_from is None else forms.form(moves_from, where),
        kind=_kind_of(texts["type"], where),
        moved_from=texts["moved_from"],
    )


def _kind_of(name: str | None, where: str) -> type | None:
    if name is not None and name not in KINDS:
        raise ValueError(f"{where}: 'type' is one of {', '.join(KINDS)}")
    return None if name is None else KINDS[name]


def _row_of(given: object, where: str) -> Mapping[str, type] | Unbound:
    if given == "unbound":
        return UNBOUND
    row: dict[str, type] = {}
    for part in given if isinstance(given, list) else [given]:
        column = part.get("column") if isinstance(part, dict) else None
        kind = ROW_TYPES.get(str(part.get("type"))) if isinstance(part, dict) else None
        if (
            not isinstance(part, dict)
            or part.keys() != {"column", "type"}
            or not isinstance(column, str)
            or kind is None
        ):
            raise ValueError(
                f'{where}: \'row\' is {{ column = "id", type = "int" }}, a list of these, or "unbound"; a type is '
                f"{', '.join(ROW_TYPES)}"
            )
        row[column] = kind
    if not row:
        raise ValueError(f"{where}: 'row' is empty; write \"unbound\" if the records are bound to no row")
    return row


def _refuse_unknown(table: Mapping[str, object], known: set[str], where: str) -> None:
    if unknown := sorted(table.keys() - known):
        raise ValueError(f"{where} has the unknown key '{unknown[0]}'; there are {', '.join(sorted(known))}")
