"""What the types of sealed columns share, and what no table or statement may do with such a column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import operators
from sqlalchemy.types import TypeDecorator, TypeEngine

from sealwax.errors import KeyNotLoadedError, ModelError, NotARecordError, UnreadableValueError
from sealwax.records import UNBOUND, Field, RowType
from sealwax.records._form import to_text
from sealwax.records.moving import Moving
from sealwax.sqlalchemy._binding import RECORDS_INFO, Pairs, RecordsBinding, binding_of
from sealwax.sqlalchemy._column_type import ColumnType
from sealwax.sqlalchemy._kinds import PythonType
from sealwax.sqlalchemy._storage import Storage

# Drivers that take bytes as they are; SQLAlchemy wraps them for those that do not.
TAKE_BYTES: Final = ("psycopg", "psycopg_async")
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
        # Whether a value that SQLAlchemy makes for an UPDATE can be sealed.
        self._takes_onupdate = True
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
            "onupdate": column.onupdate is not None and not self._takes_onupdate,
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
        if dialect.driver not in TAKE_BYTES:
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
