"""The types of sealed columns: ``Sealed``, which SQLAlchemy Core can use alone, and that of ``sealed``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import operators
from sqlalchemy.types import TypeDecorator, TypeEngine

from sealwax.errors import KeyNotLoadedError, ModelError, NotARecordError, SealwaxError, UnreadableValueError
from sealwax.records import UNBOUND, Field, RowType, Value
from sealwax.records._current import pairs_of
from sealwax.records._form import to_text
from sealwax.records.moving import Moving
from sealwax.sqlalchemy._binding import RECORDS_INFO, Pairs, RecordsBinding, Scope, binding_of, current_pairs
from sealwax.sqlalchemy._column_type import ColumnType
from sealwax.sqlalchemy._errors import passed_on, passing_on
from sealwax.sqlalchemy._kinds import PythonType
from sealwax.sqlalchemy._storage import Storage
from sealwax.sqlalchemy._value import UNSET, HiddenValue, SealedValue

# Drivers that take bytes as they are; SQLAlchemy wraps them for those that do not.
_TAKE_BYTES: Final = ("psycopg", "psycopg_async")
_NO_INFO: Final[Mapping[Any, Any]] = {}
_ALLOWED: Final = (operators.is_, operators.is_not)
# With NULL, the same.
_DISTINCT: Final = {operators.is_distinct_from: operators.is_not, operators.is_not_distinct_from: operators.is_}


def refuse(what: str, column: Any) -> NoReturn:
    """Refuse a statement that would give a wrong answer.

    Raises:
        ModelError: always.
    """
    raise ModelError(f"{what} '{_name(column)}', which is sealed, cannot work: {_instead(column.type._column)}")


def _instead(column: sa.Column[Any] | None) -> str:
    """Say how to search a column: through its index, if it has one."""
    beside = column.table.c if column is not None and isinstance(column.table, sa.Table) else ()
    names = [each.type._finds(column) for each in beside if isinstance(each.type, ColumnType) and column is not None]
    name = next(filter(None, names), "")
    through = f"its IndexOf column instead, with {name}.find(session, value)" if name else "an IndexOf column instead"
    return f"the database sees a different record each time a value is sealed; search through {through}"


def _name(column: Any) -> str:
    table = getattr(column, "table", None)
    name = getattr(table, "name", None)
    own = str(getattr(column, "name", None) or "a column")
    return f"{name}.{own}" if isinstance(name, str) else own


class SealedType(ColumnType):
    """What the types of sealed columns share."""

    cache_ok = True

    class Comparator(TypeDecorator.Comparator[Any]):
        """Refuses every operator but IS NULL."""

        def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
            if op in (operators.eq, operators.ne) and len(other) == 1 and _is_null(other[0]):
                op, other = (operators.is_ if op is operators.eq else operators.is_not), (sa.null(),)
            if op in _DISTINCT and _is_null(other[0]):
                op, other = _DISTINCT[op], (sa.null(),)
            # SQLAlchemy itself asks whether a column is in a list of columns; statements are looked at before they run.
            of_columns = op in (operators.eq, operators.ne) and isinstance(other[0], sa.ColumnElement)
            if op not in _ALLOWED and not of_columns:
                refuse("comparing, sorting or computing with", self.expr)
            return super().operate(op, *other, **kwargs)

        def reverse_operate(self, op: Any, other: Any, **kwargs: Any) -> Any:  # noqa: ARG002
            refuse("comparing or computing with", self.expr)

    comparator_factory = Comparator

    def __init__(
        self,
        value_type: Any,
        /,
        *,
        length: int | None = None,
        field: str | None = None,
        storage: Any = None,
        moving: Moving | None = None,
    ) -> None:
        super().__init__()
        self._kind = PythonType(value_type)
        self.value_type = self._kind.type
        if length is not None and (type(length) is not int or length < 1 or self.value_type not in (str, bytes)):
            raise ValueError("length is the most characters or bytes of a value of str or bytes, a positive int")
        self.length = length
        self.field = field
        self._forget_column()
        # Values of exactly this type need no other look; None if they always do.
        self._exact = None if length is not None or self._kind.enum is not None else self.value_type
        if moving is not None and not isinstance(moving, Moving):
            raise TypeError(
                f"moving is a Moving, such as Moving(Plaintext(), writes='old'), not {type(moving).__name__}"
            )
        self.moving = moving
        self.storage = Storage(storage, self._kind, length)
        # Whether the column holds nothing but records in their binary form.
        self._binary = moving is None and not self.storage.text
        self.impl = self.storage.type  # type: ignore[assignment]  # SQLAlchemy takes an instance here too

    @property
    def python_type(self) -> type[Any]:
        """The type of the values."""
        return self.value_type

    # --- the column

    def _check_column(self, column: sa.Column[Any]) -> None:
        wrong = {
            "the primary key": column.primary_key,
            "UNIQUE": column.unique,
            "an index": column.index,
            "a foreign key": bool(column.foreign_keys),
            "a server_default": column.server_default is not None or column.server_onupdate is not None,
            "Computed": column.computed is not None,
            "an SQL expression as default": any(
                default is not None and not (default.is_scalar or default.is_callable)
                for default in (column.default, column.onupdate)
            ),
            "onupdate": column.onupdate is not None and isinstance(column.type, SealedRow),
        }
        for what, there in wrong.items():
            if there:
                refuse_column(what, column)
        self.storage.check(f"{column.table.name}.{column.name}")
        if self.moving is not None:
            self.moving.check(self._field_name)

    def _forget_column(self) -> None:
        self._info: Mapping[Any, Any] = _NO_INFO
        # What the last value was sealed or opened by, while nothing around it changes.
        self._last: tuple[Any, Any, Field | None, Pairs] = (None, None, None, ())

    @property
    def _field_name(self) -> str:
        """The name of the field, which binds its records."""
        column = self._named
        return self.field or f"{column.table.fullname}.{column.name}"

    @property
    def _binding(self) -> RecordsBinding:
        binding = self._info.get(RECORDS_INFO)
        if type(binding) is RecordsBinding:
            return binding
        table = self._named.table
        self._info = table.metadata.info
        return binding_of(table)

    @property
    def _row_type(self) -> RowType:
        return UNBOUND

    # --- values

    def _checked(self, value: Any) -> Any:
        """Return what a record holds for a value.

        Raises:
            TypeError, ValueError: it is of another type, or too long; the message does not show it.
        """
        try:
            held = self._kind.checked(value)
        except TypeError as error:
            raise TypeError(f"'{self._field_name}': {error}") from None
        if self.length is not None and len(held) > self.length:
            raise ValueError(f"'{self._field_name}': the value has {len(held)} characters, and may have {self.length}")
        return held

    def _field_of(self, pairs: Pairs) -> Field:
        binding = self._binding
        last_binding, last_pairs, field, _ = self._last
        if last_binding is not binding or last_pairs != pairs or field is None:
            field = binding.field(self._field_name, self._row_type, pairs)
            self._last = binding, pairs, field, pairs
        return field

    def _seal(self, value: Any, row: Any, pairs: Pairs) -> bytes | str:
        """Return what the column holds for a value: a record, or the old form while it is written."""
        held: Any = value if type(value) is self._exact else self._checked(value)
        if self.moving is not None and self.moving.writes == "old":
            return self.moving.write(self._binding.records, self._field_name, held, text=self.storage.text)
        field = self._field_of(pairs)
        try:
            record = field.seal(held, row=row)
        except KeyNotLoadedError:
            record = self._binding.seal(field, pairs, held, row)
        return to_text(record) if self.storage.text else record

    def _open(self, record: bytes | str, row: Any, pairs: Pairs) -> Any:
        """Return the value that the column holds: of a record, or of the old form while it is read."""
        if self.moving is not None and self.moving.is_old(record):
            return self.moving.read(self._binding.records, self._field_name, record, self.value_type)
        field = self._field_of(pairs)
        try:
            opened: Any = field.open(record, row=row)
        except KeyNotLoadedError:
            opened = self._binding.open(field, pairs, record, row)
        if type(opened) is self.value_type:
            return opened
        try:
            return self._kind.restored(opened)
        except UnreadableValueError as error:
            failure = error.with_traceback(None)
            del opened  # a report of local variables would show it
        raise failure

    def _record(self, value: Any) -> bytes | str:
        """Return what a driver gives back; some give views of memory."""
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        if isinstance(value, str) and not self._binary:
            return value
        # SQLite keeps text in any column.
        raise NotARecordError(f"the database returned a {type(value).__name__} for '{self._field_name}', not a record")

    def bind_processor(self, dialect: Dialect) -> Any:
        """Return what seals the values of a statement."""
        process = self.process_bind_param
        if dialect.driver not in _TAKE_BYTES:
            return super().bind_processor(dialect)
        return lambda value: process(value, dialect)

    def process_literal_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002
        """Return what stands for a value where SQLAlchemy writes it into SQL."""
        return "<sealed>"

    def literal_processor(self, dialect: Dialect) -> Callable[[Any], str]:  # noqa: ARG002
        """Return what writes a value into SQL."""
        # Not valid SQL, so that it is never executed; an error would show the value.
        return lambda _: "<sealed>"

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:  # noqa: ARG002
        """Return the type of what the column is compared with."""
        return self

    def _options(self) -> str:
        given = [f"{name}={getattr(self, name)!r}" for name in ("length", "field") if getattr(self, name) is not None]
        given += ["moving=..."] if self.moving is not None else []
        return "".join(f", {option}" for option in given)


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
        return passing_on(lambda: self._open(self._record(value), UNBOUND, self._current()[1]))

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
            value.value = self._open(value.record, value.row, value.pairs)
        return value.value

    def _sealed_for(self, value: SealedValue, row: Any, pairs: Any) -> SealedValue:
        """Return a value with a record that is bound to a row."""
        if value.record is not None and value.row == row and value.pairs == pairs:
            return value
        if value.record is None and value.value is not UNSET:
            # Nothing was written of it yet.
            value.record, value.row, value.pairs = self._seal(value.value, row, pairs), row, pairs
            return value
        plain = self._opened(value)
        return SealedValue(plain, self._seal(plain, row, pairs), row, pairs)

    def bind_processor(self, dialect: Dialect) -> Any:
        bound = super().bind_processor(dialect)
        if dialect.driver not in _TAKE_BYTES:
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
                f"on an instance, or add {', '.join(self.row)} and the columns of the scope to an INSERT"
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


def _is_null(value: object) -> bool:
    return value is None or isinstance(value, sa.Null)


def refuse_column(what: str, column: sa.Column[Any]) -> NoReturn:
    raise ModelError(f"{what} on '{column.table.name}.{column.name}', which is sealed, cannot work: {_instead(column)}")


def check_table(table: sa.Table) -> None:
    """Refuse constraints and indexes of a table that name a sealed column.

    Raises:
        ModelError: there is one.
    """
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint | sa.PrimaryKeyConstraint | sa.ForeignKeyConstraint):
            for column in constraint.columns:
                if isinstance(column.type, SealedType):
                    refuse_column("UNIQUE or a key", column)
    for index in table.indexes:
        for expression in index.expressions:
            if isinstance(getattr(expression, "type", None), SealedType) and isinstance(expression, sa.Column):
                refuse_column("an index", expression)
