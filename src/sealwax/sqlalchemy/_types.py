"""The types of sealed columns: ``Sealed``, which SQLAlchemy Core can use alone, and that of ``sealed``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from sealwax.errors import ModelError, SealwaxError
from sealwax.records import UNBOUND, Field, RowType, Value
from sealwax.records._current import pairs_of
from sealwax.records.moving import Moving
from sealwax.sqlalchemy._binding import Pairs, Scope, current_pairs
from sealwax.sqlalchemy._errors import passed_on, passing_on
from sealwax.sqlalchemy._sealed_type import TAKE_BYTES, SealedType
from sealwax.sqlalchemy._value import UNSET, HiddenValue, SealedValue


class Sealed(SealedType):
    """The type of a column whose values are sealed: bound to the column and the scope, not to the row.

    It works wherever a type does: in Core, in bulk statements, with RETURNING, in upserts. The pairs of the scope come
    from ``records.scope(...)``.

    Args:
        value_type: str, bytes, int, bool, float, Decimal, date, datetime (with a time zone), UUID, dict, list, or an
            Enum, whose names are sealed. NULL stays NULL.
        length: the most characters or bytes that a value may have.
        field: the name of the field, if the column is renamed; ``"table.column"`` by default.
        scope: the pairs that columns of the table hold; in a mapped class, ``__sealed_scope__`` says it.
        storage: the type of the column: of bytes, ``LargeBinary`` by default, or of text, such as ``Text``.
        moving: how values were stored before, while the column moves to records.

    Raises:
        TypeError: no record holds such values, or no column of this type records.

    Example:
        >>> Table("notes", metadata, Column("id", Integer, primary_key=True), Column("text", Sealed(str)))
    """

    cache_ok = True

    def __init__(
        self,
        value_type: Any,
        /,
        *,
        length: int | None = None,
        field: str | None = None,
        scope: Scope | None = None,
        storage: Any = None,
        moving: Moving | None = None,
    ) -> None:
        """Take the type of the values."""
        super().__init__(value_type, length=length, field=field, storage=storage, moving=moving)
        if scope is not None and not isinstance(scope, Scope):
            raise TypeError(f"scope is a Scope, such as Scope(tenant='tenant_id'), not {type(scope).__name__}")
        self.scope = scope

    def __repr__(self) -> str:
        return f"Sealed({self.value_type.__name__}{self._options()})"

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | str | None:  # noqa: ARG002
        """Seal a value."""
        if value is None:
            return None
        # Not unpacked into a variable, which a report of the local variables of an error would show.
        hidden = value if type(value) is HiddenValue else HiddenValue(value)
        del value
        if type(hidden.value) is self._exact and self._binary:
            try:
                return self._current()[0].seal(cast("Value", hidden.value), row=UNBOUND)
            except (SealwaxError, TypeError, ValueError):
                pass  # raised below, not while this error is handled: it may show the value
        return passing_on(lambda: self._seal(hidden.value, UNBOUND, self._current()[1]))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        """Open a record."""
        if value is None:
            return None
        if self._binary:
            try:
                opened: Any = self._current()[0].open(value, row=UNBOUND)
            except (SealwaxError, TypeError, ValueError):
                opened = None  # raised below
            if type(opened) is self.value_type:
                return opened
            del opened  # a report of local variables would show it
        hidden = HiddenValue(value)  # it may not be a record
        del value
        return passing_on(lambda: self._open(self._record(hidden.value), UNBOUND, self._current()[1]))

    def _current(self) -> tuple[Field, Pairs]:
        """Return the field of the scope around the caller, and the pairs of this scope.

        Raises:
            ContextError: a pair is missing.
        """
        binding = self._binding
        given = pairs_of(binding.records)
        last_binding, last_given, field, pairs = self._last
        if last_binding is not binding or last_given is not given or field is None:
            pairs = current_pairs(binding, self._named.table)
            field = binding.field(self._field_name, UNBOUND, pairs)
            self._last = binding, given, field, pairs
        return field, pairs


class SealedRow(SealedType):
    """The type of a column that ``sealed`` declares: its records are bound to the row too.

    A type sees a value and not its row. So mapped classes and INSERT statements seal and open these columns; where
    neither is involved, values are of type ``SealedValue``, with the record.

    Args:
        value_type: as for ``Sealed``.
        row: the columns that records are bound to, such as the primary key.
        length, field, storage, moving: as for ``Sealed``.
        moved_from: the column that values were in before, if it is another one.

    Raises:
        TypeError: no record holds such values, or a column is not given by its name.
    """

    cache_ok = True

    def __init__(
        self,
        value_type: Any,
        /,
        *,
        row: str | Sequence[str],
        length: int | None = None,
        field: str | None = None,
        storage: Any = None,
        moving: Moving | None = None,
        moved_from: str | None = None,
    ) -> None:
        super().__init__(value_type, length=length, field=field, storage=storage, moving=moving)
        if moved_from is not None and (moving is None or not isinstance(moved_from, str)):
            raise TypeError("moved_from names the column that values were in before, while moving= says in what form")
        self.moved_from = moved_from
        names = (row,) if isinstance(row, str) else tuple(row)
        if not names or not all(isinstance(name, str) for name in names):
            raise TypeError("row names the columns that the records are bound to, such as row='id'")
        self.row = names
        self._takes_onupdate = False  # the row is not known then
        self._bound_type: RowType | None = None

    def __repr__(self) -> str:
        row = self.row[0] if len(self.row) == 1 else self.row
        return f"SealedRow({self.value_type.__name__}, row={row!r}{self._options()})"

    @property
    def _row_type(self) -> RowType:
        if self._bound_type is None:
            columns = self._named.table.c
            self._bound_type = row_type_of([columns[name] for name in self.row if name in columns], self)
        return self._bound_type

    def _declare(self, row_type: RowType) -> None:
        """Say what type the rows have, where an attribute of another name or table has them."""
        self._bound_type = row_type

    def _opened(self, value: SealedValue) -> Any:
        """Return what a value is; it is opened once."""
        if value.value is UNSET:
            if value.record is None or value.row is UNSET:
                raise ModelError(f"it is not known which row the record of '{self._field_name}' belongs to")
            self._open_into(value)
        return value.value

    def _open_into(self, value: SealedValue) -> None:
        record = value.record
        assert record is not None
        try:
            value.value = self._open(record, value.row, value.pairs)
        except (SealwaxError, TypeError, ValueError) as error:
            failure = passed_on(error)
        else:
            return
        del record  # it may be none, and a report of local variables would show it
        failure.__context__ = failure.__cause__ = None
        raise failure.with_traceback(None)

    def _sealed_for(self, value: SealedValue, row: Any, pairs: Any) -> SealedValue:
        """Return a value with a record that is bound to a row."""
        if value.record is not None and value.row == row and value.pairs == pairs:
            return value
        if self.moved_from is not None and self.moving is not None and self.moving.writes == "old":
            # It goes into the other column. Without a record, no statement takes it for this one.
            return SealedValue(self._opened(value), None, row, pairs)
        if value.record is None and value.value is not UNSET:
            # Nothing was written of it yet.
            value.record, value.row, value.pairs = self._seal(value.value, row, pairs), row, pairs
            return value
        plain = self._opened(value)
        return SealedValue(plain, self._seal(plain, row, pairs), row, pairs)

    def bind_processor(self, dialect: Dialect) -> Any:
        bound = super().bind_processor(dialect)
        if dialect.driver not in TAKE_BYTES:
            return bound
        return lambda value: (type(value) is SealedValue and value.record) or bound(value)

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | str | None:  # noqa: ARG002
        """Seal a value."""
        if value is None:
            return None
        if type(value) is SealedValue and value.record is not None:
            return value.record
        del value  # a report of local variables would show it
        raise passed_on(
            ModelError(
                f"'{self._field_name}' is bound to its row, and this statement does not say which one that is; set it "
                f"on an instance, or give {', '.join(self.row)} and the columns of the scope, among the values of an "
                "INSERT or in the WHERE of an UPDATE"
            )
        )

    def process_result_value(self, value: Any, dialect: Dialect) -> SealedValue | None:  # noqa: ARG002
        """Return a value that is not opened yet."""
        if value is None:
            return None
        return SealedValue(UNSET, value if type(value) is bytes else passing_on(lambda: self._record(value)))

    def compare_values(self, x: Any, y: Any) -> bool:
        if type(x) is SealedValue and type(y) is SealedValue:
            return x is y or (x.record is not None and x.record == y.record and x.row == y.row and x.pairs == y.pairs)
        return x is y


def row_type_of(columns: Sequence[sa.Column[Any]], of: SealedRow) -> RowType:
    """Return the type of the rows that some columns are.

    Raises:
        ModelError: a column is missing, or the database may give its value back in another form.
    """
    if len(columns) != len(of.row):
        raise ModelError(f"'{of._field_name}' has row={of.row!r}, and there is no such column")
    types = [_row_part(column, of) for column in columns]
    return types[0] if len(types) == 1 else tuple


def as_stored(type_: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """Return what brings a value of a column into the form that the database gives back, if that may be another one.

    Records are bound to what comes back.
    """
    if isinstance(type_, sa.Uuid) and not type_.as_uuid:
        return lambda value: str(UUID(value)) if isinstance(value, str) else value
    if isinstance(type_, sa.Integer):
        return _whole
    return None


def _whole(value: Any) -> Any:
    if isinstance(value, str | bytes | float):
        raise TypeError(f"a column of integers, which records are bound to, is set to a {type(value).__name__}")
    return value


def _row_part(column: sa.Column[Any], of: SealedRow) -> Any:
    if isinstance(column.type, SealedType):
        raise ModelError(f"'{of._field_name}' cannot be bound to '{column.name}', which is sealed itself")
    kind: Any = None
    with_collation = str(getattr(column.type, "collation", None) or "").lower()
    if not isinstance(column.type, sa.CHAR) and not with_collation.endswith("_ci"):
        try:
            kind = column.type.python_type
        except NotImplementedError:
            kind = None
    if kind not in (int, str, bytes, UUID):
        raise ModelError(
            f"'{of._field_name}' cannot be bound to '{column.name}' of type {column.type!r}: a row is an integer, text "
            "that is neither padded nor compared without case, bytes, a UUID, or several of these"
        )
    return kind
