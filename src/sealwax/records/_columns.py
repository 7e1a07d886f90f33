"""Which columns hold records, what their records are bound to, and what their values were before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast
from uuid import UUID

from sealwax._core import context as ctx
from sealwax._text import printable
from sealwax.records._old_forms import OldForm
from sealwax.records._rows import UNBOUND, RowType, Unbound

ROW_TYPES: Final[Mapping[str, type]] = {"int": int, "str": str, "bytes": bytes, "uuid": UUID}


@dataclass(frozen=True, slots=True)
class SealedIndex:
    """A column with the blind index of a sealed column, in the same table.

    Attributes:
        column: the name of the column.
        bits: the length of an index.
        normalize: which values are the same, such as ``"email/1"``.
        shared: whether it is one index for all scopes.
    """

    column: str
    bits: int
    normalize: str = "exact/1"
    shared: bool = False


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of records in a table, and what its records are bound to.

    Args:
        table: the name of the table; ``"schema.table"`` if it is not in the default schema.
        column: the name of the column.
        row: the columns that the row of each record is made of, with their types, such as ``{"id": int}``; several
            are the items of a tuple, in this order. ``UNBOUND`` if the records are bound to no row.
        scope: the columns that pairs of the scope stand in, such as ``{"tenant": "tenant_id"}``.
        scope_types: ``{"tenant": UUID}`` if the pair is a UUID, and the database has no type for them.
        field: the name of the field, as it is given to ``Records.field``; ``"table.column"`` by default.
        moves_from: how values are stored that are not records yet, while the column moves; None if it does not.
        kind: the type of these values, such as ``str`` or ``datetime.date``. It is only needed if the column does not
            tell it: values in a column of text are ``str`` by default, and plaintext is of the column's own type.
        moved_from: the column that these values are in, if it is another one than that of the records. Each row has
            its value in one of the two.
        writes: what the programs write while the column moves, ``"old"`` or ``"records"``, if that is known. ``reseal``
            moves nothing in while they write the old form, because an older version may still read it; and nothing out
            while they write records.
        indexes: its blind indexes, which ``reseal`` fills where they are NULL.

    Example:
        >>> SealedColumn("users", "card", row={"id": int}, scope={"tenant": "tenant_id"}).field
        'users.card'
    """

    table: str
    column: str
    row: Mapping[str, type] | Unbound
    scope: Mapping[str, str]
    scope_types: Mapping[str, type]
    field: str
    moves_from: OldForm | None
    kind: type | None
    moved_from: str | None
    writes: Literal["old", "records"] | None
    indexes: tuple[SealedIndex, ...]

    def __init__(
        self,
        table: str,
        column: str,
        *,
        row: Mapping[str, type] | Unbound,
        scope: Mapping[str, str] | None = None,
        scope_types: Mapping[str, type] | None = None,
        field: str = "",
        moves_from: OldForm | None = None,
        kind: type | None = None,
        moved_from: str | None = None,
        writes: Literal["old", "records"] | None = None,
        indexes: Sequence[SealedIndex] = (),
    ) -> None:
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "column", column)
        object.__setattr__(self, "row", row if isinstance(row, Unbound) else dict(row))
        object.__setattr__(self, "scope", dict(scope or {}))
        object.__setattr__(self, "scope_types", dict(scope_types or {}))
        object.__setattr__(self, "field", field or f"{table}.{column}")
        object.__setattr__(self, "moves_from", moves_from)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "moved_from", moved_from)
        object.__setattr__(self, "writes", writes)
        object.__setattr__(self, "indexes", tuple(indexes))
        self._check_move()
        if not isinstance(row, Unbound) and not row:
            raise ValueError(f"the records of {self.named} need the columns of their row, or row=UNBOUND")
        if not 1 <= len(self.field.encode(errors="replace")) <= 255:
            raise ValueError(f"the name of the field of {self.named} has 1 to 255 bytes")
        for name in self.scope:
            if not name or name == "row" or ctx.is_reserved([name]):
                raise ValueError(f"'{printable(name)}' cannot be the name of a pair in the scope of {self.named}")
        for name, kind in self.scope_types.items():
            if name not in self.scope or kind is not UUID:
                raise ValueError(f"scope_types of {self.named} says UUID of pairs that 'scope' has, and nothing else")
        for name, kind in {} if isinstance(row, Unbound) else row.items():
            if kind not in ROW_TYPES.values():
                raise TypeError(f"the row column '{name}' is of type int, str, bytes or uuid.UUID, not {kind!r}")

    def _check_move(self) -> None:
        if self.moves_from is None and (self.kind is not None or self.moved_from is not None):
            raise ValueError(
                f"kind and moved_from say where the values of {self.named} come from, so moves_from is needed too"
            )
        if self.writes not in (None, "old", "records"):
            raise ValueError(f'writes of {self.named} is "old" or "records"')
        if self.moved_from == self.column:
            raise ValueError(f"the values of {self.named} move within their column: leave out moved_from")
        bound = {} if isinstance(self.row, Unbound) else self.row
        moving = {self.column, self.moved_from or self.column} if self.moves_from is not None else set()
        if tied := sorted(moving & {*bound, *self.scope.values()}):
            raise ValueError(f"the records of {self.named} cannot be bound to '{printable(tied[0])}', which moves")

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
