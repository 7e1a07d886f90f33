"""``IndexOf``: the blind index of a sealed column, in a column beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import operators
from sqlalchemy.types import TypeDecorator, TypeEngine

from sealwax.errors import ModelError
from sealwax.records._index import MAX_BITS, UNIQUE_BITS
from sealwax.records._normalize import normalizer
from sealwax.sqlalchemy._binding import IndexSettings, Pairs, RecordsBinding, binding_of, current_pairs
from sealwax.sqlalchemy._column_type import ColumnType, client_default, key_of
from sealwax.sqlalchemy._errors import passed_on, passing_on
from sealwax.sqlalchemy._sealed_type import SealedType
from sealwax.sqlalchemy._value import HiddenValue, SealedValue

_NULL_TESTS: Final = (operators.is_, operators.is_not)
_SAME: Final = (operators.eq, operators.ne)
_ONE_OF: Final = (operators.in_op, operators.not_in_op)
_SORTED: Final = (operators.asc_op, operators.desc_op, operators.nulls_first_op, operators.nulls_last_op)


class IndexOf(ColumnType):
    """The type of a column with the blind index of a sealed column of the same table; it is written with it.

    ``User.email_index.find(session, "ada@example.com")`` returns the users with this address; ``find_async`` does so
    for an ``AsyncSession``. docs/how-to/blind-indexes.md says what an index tells to those who see it.

    Args:
        column: the sealed column or attribute.
        bits: the length of an index; `sealwax records index-bits` suggests one. UNIQUE and ``==`` need 128.
        normalize: which values are the same: ``"exact/1"``, ``"casefold-nfc/1"``, ``"digits/1"`` or ``"email/1"``.
        shared: one index for all scopes.

    Raises:
        TypeError: the column is not given by its name.
        ValueError: ``bits`` is out of range, or there is no such normalizer.

    Example:
        >>> email_index: Mapped[bytes] = mapped_column(IndexOf("email", normalize="email/1", bits=16), index=True)
    """

    cache_ok = True

    class IndexComparator(TypeDecorator.Comparator[Any]):
        """Compares with values of the sealed column, if the index is long enough to tell them apart."""

        def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
            kind = self.expr.type
            assert isinstance(kind, IndexOf)
            given: Any = other[0] if other else None
            if op in _NULL_TESTS or op in _SORTED or (op in _SAME and _is_sql(given)):
                return super().operate(op, *other, **kwargs)
            if op not in (*_SAME, *_ONE_OF):
                kind._refuse("this comparison with")
            if kind.bits < UNIQUE_BITS:
                kind._refuse("comparing", f", because other values have the same index of {kind.bits} bits")
            if op in _ONE_OF:
                if _is_sql(given):
                    return super().operate(op, *other, **kwargs)
                return super().operate(op, [kind._wanted(each) for each in given], **kwargs)
            return super().operate(op, kind._wanted(given), **kwargs)

        def reverse_operate(self, op: Any, other: Any, **kwargs: Any) -> Any:  # noqa: ARG002
            kind = self.expr.type
            assert isinstance(kind, IndexOf)
            kind._refuse("computing with")

    comparator_factory = IndexComparator

    def __init__(self, column: str, /, *, bits: int, normalize: str = "exact/1", shared: bool = False) -> None:
        """Take the sealed column."""
        super().__init__()
        if not isinstance(column, str):
            raise TypeError(f"IndexOf names the sealed column by a str, not {type(column).__name__}")
        normalizer(normalize)
        if type(bits) is not int or not 1 <= bits <= MAX_BITS:
            raise ValueError(f"bits is an int from 1 to {MAX_BITS}, not {bits!r}")
        self.of, self.bits, self.normalize, self.shared = column, bits, normalize, shared
        # The key of the sealed column, where an attribute of another name has it; and how messages name the index.
        self._declared_key = self._shown = ""
        size = (bits + 7) // 8
        self._mysql = mysql.VARBINARY(size)  # which has no index on a BLOB
        self._stored = sa.LargeBinary(size)
        both = self._stored.with_variant(self._mysql, "mysql", "mariadb")
        self.impl = both  # type: ignore[assignment]  # SQLAlchemy takes an instance here too

    def __repr__(self) -> str:
        shared = ", shared=True" if self.shared else ""
        return f"IndexOf({self.of!r}, normalize={self.normalize!r}, bits={self.bits}{shared})"

    def _stored_in(self, dialect: str) -> TypeEngine[Any]:
        """Return the type that the column has in a database."""
        return self._mysql if dialect in ("mysql", "mariadb") else self._stored

    @property
    def python_type(self) -> type[Any]:
        """The type of the values."""
        return bytes

    # --- the columns

    @property
    def _name(self) -> str:
        """The column, as messages name it."""
        column = self._named
        return f"{column.table.name}.{column.name}"

    @property
    def _source_key(self) -> str:
        """The key of the sealed column."""
        return self._declared_key or key_of(self._named.table, self.of)

    @property
    def _source(self) -> SealedType:
        """The type of the sealed column.

        Raises:
            ModelError: it is not sealed, in another table, or of a type that has no index.
        """
        column = self._named.table.c.get(self._source_key)
        if column is None or not isinstance(column.type, SealedType):
            what = "is not sealed" if column is not None else f"is not a column of the table '{self._named.table.name}'"
            raise ModelError(f"'{self._name}' is an index of '{self.of}', which {what}; name a sealed column beside it")
        return column.type

    def _declare(self, source_key: str, shown: str) -> None:
        """Say which column the attribute is that the index is of, and how messages name the index."""
        self._declared_key, self._shown = source_key, shown

    def _finds(self, column: sa.Column[Any]) -> str:
        return (self._shown or self._name) if column.key == self._source_key else ""

    def _check_column(self, column: sa.Column[Any]) -> None:
        wrong = {
            "the primary key": column.primary_key,
            "a foreign key": bool(column.foreign_keys),
            "a default": column.default is not None or column.server_default is not None,
        }
        for what, there in wrong.items():
            if there:
                raise ModelError(
                    f"{what} on '{self._name}', which is a blind index, cannot work: it is written with '{self.of}'"
                )
        if column.unique:
            self._check_unique()

    def _check_table(self) -> None:
        """Check an index whose table is complete.

        Raises:
            ModelError: it cannot work.
        """
        kind = self._source._kind
        if not kind.has_index(self.normalize):
            raise ModelError(
                f"'{self._name}' cannot be an index of '{self.of}': the normalizer {self.normalize} does not take "
                f"{kind.name}; 'exact/1' takes str, bytes, int, date, UUID and an Enum, the others str and an Enum"
            )
        table = self._named.table
        if table.c[self._source_key].onupdate is not None:
            raise ModelError(f"'{self._name}' is an index of '{self.of}', which has onupdate=; set it on instances")
        constraints = [each for each in table.constraints if isinstance(each, sa.UniqueConstraint)]
        if any(self._named in each.columns.values() for each in constraints) or any(
            index.unique and self._named in index.columns.values() for index in table.indexes
        ):
            self._check_unique()

    def _check_unique(self) -> None:
        if self.bits < UNIQUE_BITS:
            raise ModelError(
                f"UNIQUE on '{self._name}' needs bits={UNIQUE_BITS}, not {self.bits}: different values may have the "
                "same index, and the second one could not be inserted"
            )

    def _refuse(self, what: str, why: str = "") -> NoReturn:
        """Refuse a statement that would give a wrong answer.

        Raises:
            ModelError: always.
        """
        how = f"{self._shown}.find(session, value) searches" if self._shown else "open and compare what it finds"
        raise ModelError(f"{what} '{self._name}', which is a blind index, cannot work{why}; {how}")

    # --- values

    def _wanted(self, value: Any) -> HiddenValue:
        """Return what stands for a value of the sealed column in a statement.

        Raises:
            TypeError: it is of another type; the message does not show it.
        """
        return HiddenValue(self._held(value))

    def _held(self, value: Any) -> Any:
        """Return what a record holds for a value that is searched.

        Raises:
            TypeError: it is of another type; the message does not show it.
        """
        try:
            return self._source._kind.checked(value)
        except TypeError as error:
            raise TypeError(f"'{self._name}': {error}") from None

    def _of_held(self, held: Any, pairs: Pairs) -> bytes:
        """Return the index of what a record holds, in a scope."""
        return self._binding.index_of(self._source._field_name, self._settings, () if self.shared else pairs, held)

    def _of_value(self, value: Any) -> bytes | None:
        """Return the index of a value that is about to be written; None for NULL."""
        source = self._source
        if type(value) is HiddenValue:
            value = value.value
        if value is None or isinstance(value, sa.Null):
            return None
        if type(value) is SealedValue:
            return self._of_held(source._kind.checked(source._opened(value)), value.pairs)
        return self._of_held(source._checked(value), current_pairs(self._binding, self._named.table))

    def _same(self, opened: Any, held: Any, pairs: Pairs) -> bool:
        """Whether a value that was found is the one that is searched."""
        index = self._binding.index(self._source._field_name, self._settings, () if self.shared else pairs)
        return opened is not None and index.same(self._source._kind.checked(opened), held)

    @property
    def _binding(self) -> RecordsBinding:
        return binding_of(self._named.table)

    @property
    def _settings(self) -> IndexSettings:
        return self.bits, self.normalize, self.shared

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        """Return an index, or that of a value which the column is compared with."""
        if value is None or isinstance(value, bytes):
            return value
        if type(value) is HiddenValue:
            return passing_on(lambda: self._of_held(value.value, current_pairs(self._binding, self._named.table)))
        raise passed_on(ModelError(f"'{self._name}' is a blind index; compare it with a value, not with a parameter"))

    def process_literal_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002
        """Return what stands for a value where SQLAlchemy writes it into SQL."""
        return "<index>"

    def literal_processor(self, dialect: Dialect) -> Callable[[Any], str]:  # noqa: ARG002
        """Return what writes a value into SQL."""
        # Not valid SQL, so that it is never executed; an error would show the value.
        return lambda _: "<index>"

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:  # noqa: ARG002
        """Return the type of what the column is compared with."""
        return self


def _is_sql(value: object) -> bool:
    return value is None or isinstance(value, sa.ClauseElement) or hasattr(value, "__clause_element__")


class TableIndexes:
    """The blind indexes of a table, as INSERTs and UPDATEs of Core write them."""

    def __init__(self, table: sa.Table) -> None:
        self.types = {column.key: column.type for column in table.c if isinstance(column.type, IndexOf)}
        for kind in self.types.values():
            kind._check_table()
        self.sources = {key: kind._source_key for key, kind in self.types.items()}
        self.moved = {
            source
            for key, source in self.sources.items()
            if getattr(self.types[key]._source, "moved_from", None) is not None
        }

    def fill(self, values: dict[str, Any], *, new: bool) -> None:
        """Add the indexes of the values that a statement writes.

        Args:
            values: what the statement writes, by the keys of the columns.
            new: whether it inserts rows, which have the defaults of their columns.

        Raises:
            ModelError: the statement sets an index to something else, or the value is not known.
        """
        for key, kind in self.types.items():
            source = self.sources[key]
            if new and source not in values:
                made = client_default(kind._named.table.c[source])
                if made is not None:
                    values[source] = made
            if source in values:
                value = values[source]
                if value is None and source in self.moved:
                    values.setdefault(key, None)  # the flush made it of the value in the old column
                    continue
                if isinstance(value, sa.ClauseElement) and not isinstance(value, sa.Null):
                    raise ModelError(
                        f"'{kind._name}' is the index of '{source}', whose value this statement does not say; give the "
                        "value itself"
                    )
                own = kind._of_value(value)
                if key not in values or values[key] == own:
                    values[key] = own
                    continue
            elif key not in values:
                continue
            raise ModelError(
                f"'{kind._name}' is a blind index, which is written with '{source}'; set '{source}', and leave out "
                f"'{key}'"
            )

    def check_upsert(self, names: set[str], excluded: set[str]) -> None:
        """Refuse an upsert that would leave an index and its column of different rows.

        Args:
            names: the keys of the columns that the upsert sets.
            excluded: those that it sets to the values of the row that was to be inserted.

        Raises:
            ModelError: it would.
        """
        for key, source in self.sources.items():
            if (source in names or key in names) and not {key, source} <= excluded:
                raise ModelError(
                    f"'{self.types[key]._name}' is the blind index of '{source}'; this upsert has to set both, to the "
                    "values of the inserted row"
                )
