"""Statements with sealed columns: INSERTs are sealed, and what would give a wrong answer or lose a value is refused."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.orm.exc import UnmappedColumnError
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.sql.elements import (
    BindParameter,
    ColumnClause,
)

from sealwax.errors import ContextError, ModelError
from sealwax.sqlalchemy._binding import binding_of, pair_text, scope_of
from sealwax.sqlalchemy._column_type import client_default, key_of
from sealwax.sqlalchemy._errors import passing_on
from sealwax.sqlalchemy._expressions import check, is_plain_value
from sealwax.sqlalchemy._index import TableIndexes
from sealwax.sqlalchemy._models import REBOUND
from sealwax.sqlalchemy._moved import MovedColumn
from sealwax.sqlalchemy._sealed_type import SealedType, check_table
from sealwax.sqlalchemy._types import Sealed, SealedRow, as_stored
from sealwax.sqlalchemy._updates import pinned, value_of
from sealwax.sqlalchemy._value import UNSET, HiddenValue, SealedValue

_checked: Final[WeakSet[Any]] = WeakSet()


class _SealedTable:
    """The sealed columns of a table, and what they are bound to."""

    def __init__(self, table: sa.Table) -> None:
        self.table = table
        self.size = len(table.c)
        columns = [column for column in table.c if isinstance(column.type, SealedType)]
        self.sealed = {column.key: column for column in columns}
        self.rows = [column for column in columns if isinstance(column.type, SealedRow)]
        self.scope = {name: key_of(table, column) for name, column in scope_of(table).columns.items()}
        self.bound_to = set(self.scope.values()) if columns else set()
        for column in self.rows:
            self.bound_to.update(self.row_of(column))
        self.scope_keys = tuple(self.scope.items())
        self.keys = [(column, column.key, self.row_of(column)) for column in self.rows]
        self.scoped = [column.key for column in columns if isinstance(column.type, Sealed)]
        if columns:
            check_table(table)
        self.indexes = TableIndexes(table)
        beside = {column.key: [column] for column in table.c}
        kinds = [(column.key, column.type) for column in self.rows]
        self.moved = [
            MovedColumn(key, kind, beside)
            for key, kind in kinds
            if isinstance(kind, SealedRow) and kind.moved_from is not None
        ]

    def row_of(self, column: sa.Column[Any]) -> list[str]:
        assert isinstance(column.type, SealedRow)
        return [key_of(self.table, name) for name in column.type.row]

    # --- INSERT

    def seal(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of a row with its values sealed, or hidden until they are."""
        values = dict(given)
        self._refuse_expressions(values)
        pairs = tuple([(name, values.get(key)) for name, key in self.scope_keys])
        for column, key, row in self.keys:
            value = values.get(key)
            if type(value) is SealedValue and _is_bound(value, row, pairs, values):
                continue
            if value is None and key not in values:
                value = client_default(column)
            if value is not None and not isinstance(value, sa.ClauseElement):
                values[key] = self._seal(column, row, value, values)
            _check_parameter(column, value, given)
        if self.indexes.types:
            self.indexes.fill(values, new=True)
        for moved in self.moved:
            moved.move(values, given)
        if self.scoped:
            self.check_scope(values, values)
            hide(self, values)
        return values

    def check_scope(self, values: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        """Compare the scope of a row with the one that its columns of type ``Sealed`` are about to be sealed for.

        Args:
            values: what the statement writes, by the keys of the columns.
            known: that, and what is known of the row otherwise.

        Raises:
            ContextError: they differ.
        """
        if not self.scope:
            return
        for written in self.scoped:
            if values.get(written) is not None:
                break
        else:
            return
        kind = self.sealed[written].type
        assert isinstance(kind, Sealed)
        for name, text in kind._current()[1]:
            key = self.scope[name]
            value = known.get(key)
            if type(value) is str and value == text:
                continue  # as nearly always
            if value is None or isinstance(value, sa.ClauseElement):
                continue
            if pair_text(value, name, key) != text:
                raise ContextError(
                    f"this statement writes a row of '{self.table.fullname}' of another scope than the block of "
                    f"records.scope(...) around it ('{key}' differs); run it within a block of the scope of the row"
                )

    def seal_known(self, known: dict[str, Any], keys: Container[str]) -> dict[str, Any]:
        """Return the values of these keys sealed, as far as it is known for which row."""
        sealed = {}
        for column, _, row in self.keys:
            value = known.get(column.key)
            if column.key not in keys or value is None or isinstance(value, sa.ClauseElement):
                continue
            bound = [known.get(key) for key in (*row, *self.scope.values())]
            if type(value) is SealedValue and value.record is not None:
                continue  # by a flush
            if not any(part is None or isinstance(part, sa.ClauseElement) for part in bound):
                sealed[column.key] = self._seal(column, row, value, known)
        return sealed

    def _refuse_expressions(self, values: Mapping[str, Any]) -> None:
        for key in self.sealed:
            value = values.get(key)
            if type(value) is not SealedValue and not is_plain_value(value):
                raise ModelError(
                    f"this INSERT sets '{self.table.name}.{key}', which is sealed, to an SQL expression, so the value "
                    "would be stored as it is; give a value"
                )

    def _seal(self, column: sa.Column[Any], row: list[str], value: Any, values: dict[str, Any]) -> SealedValue:
        kind = column.type
        assert isinstance(kind, SealedRow)
        if type(value) is SealedValue and value.record is not None and not self.bound_to <= values.keys():
            return value  # a flush has sealed it; what it is bound to is in another table
        parts = [self._part(kind, name, values) for name in row]
        pairs = tuple((name, pair_text(self._part(kind, key, values), name, key)) for name, key in self.scope.items())
        sealed = value if type(value) is SealedValue else SealedValue(value)
        return kind._sealed_for(sealed, parts[0] if len(parts) == 1 else tuple(parts), pairs)

    def _part(self, kind: SealedRow, key: str, values: dict[str, Any]) -> Any:
        value = values.get(key)
        if value is None and key in self.table.c:
            value = client_default(self.table.c[key])
            if value is not None:
                values[key] = value
        if key not in self.table.c:
            raise ModelError(
                f"'{kind._field_name}' is bound to '{key}', which is not a column of '{self.table.name}'; add "
                "instances with session.add_all(), which knows the whole row"
            )
        if value is None or isinstance(value, sa.ClauseElement):
            raise ModelError(
                f"'{kind._field_name}' is bound to '{key}', and this INSERT does not give it as a value; add it"
            )
        form = as_stored(self.table.c[key].type)
        return value if form is None else form(value)


def _is_bound(value: SealedValue, row: list[str], pairs: tuple[Any, ...], values: Mapping[str, Any]) -> bool:
    """Whether a record is bound to these very values, as that of a flush is."""
    if value.record is None or value.row is UNSET:
        return False
    parts = values.get(row[0]) if len(row) == 1 else tuple([values.get(name) for name in row])
    return parts is not None and value.row == parts and value.pairs == pairs


def hide(table: _SealedTable, values: dict[str, Any]) -> None:
    """Hide what a type seals later from messages that show parameters."""
    for key in table.scoped:
        value = values.get(key)
        if value is not None and not isinstance(value, sa.ClauseElement):
            values[key] = HiddenValue(value)


def _sealed_table(table: Any) -> _SealedTable | None:
    if not isinstance(table, sa.Table):
        return None
    # In the metadata, which goes when its tables go; Alembic writes Table.info into migrations.
    tables = table.metadata.info.setdefault("sealwax_tables", {})
    known: _SealedTable | None = tables.get(table)
    if known is None or known.size != len(table.c):
        known = tables[table] = _SealedTable(table)
    return known if known.sealed or known.indexes.types else None


def _target(statement: Any) -> Any:
    """Return the table that an INSERT or UPDATE writes; of a bulk statement of a class of several tables, one."""
    given = statement._annotations
    return given.get("_emit_insert_table", given.get("_emit_update_table", statement.table))


# --- before a statement is compiled


def _before_execute(
    connection: Any,
    statement: Any,
    many: Any,
    one: Any,
    options: Any,  # noqa: ARG001
) -> tuple[Any, Any, Any]:
    if not isinstance(statement, Insert | Update):
        return statement, many, one
    given = HiddenValue((many, one))
    del many, one  # a report of local variables would show them
    return passing_on(lambda: _prepared(connection, statement, *given.value))


def _prepared(connection: Any, statement: Insert | Update, many: Any, one: Any) -> tuple[Any, Any, Any]:
    table = _sealed_table(_target(statement))
    if table is None:
        return statement, many, one
    binding_of(table.table)
    if isinstance(statement, Update):
        return _seal_update(table, statement, many, one, connection.dialect.name)
    return _seal_insert(table, statement, many, one)


def _seal_update(table: _SealedTable, statement: Update, many: Any, one: Any, dialect: str) -> tuple[Any, Any, Any]:
    """Seal what an UPDATE sets in a row that its WHERE names, write its indexes, and hide what is sealed later."""
    literals = _literals(table, _set_by(statement), statement)
    pins = pinned(table.table, statement.whereclause, dialect)
    rows = []
    for given in many or [one]:
        own = {_key_in(table, key, statement): value for key, value in given.items()}
        values = {**literals, **{key: value for key, value in own.items() if key in table.table.c}}
        known = {**{key: value_of(pin, given) for key, pin in pins.items()}, **values}
        sealed = table.seal_known(known, values)
        indexes = _indexes_of(table, {**values, **sealed})  # of the scope of the row, where that is known
        table.check_scope(values, known)
        for column, key, names in table.keys:
            _check_parameter(column, values.get(key), given)
            if key not in sealed and _is_open(values.get(key)):
                _refuse_unnamed(table, statement, column, [*names, *table.scope.values()], known, dialect)
        hidden = {key: values[key] for key in table.scoped if key in values}
        hide(table, hidden)
        sealed.update(hidden)
        row = {key: sealed.get(_key_in(table, key, statement), value) for key, value in given.items()}
        if many or own.keys() & table.indexes.sources.values():
            row.update(indexes)
        else:
            statement = _with_values(table, statement, {key: sealed[key] for key in sealed if key not in own}, indexes)
        rows.append(row)
    return (statement, rows, one) if many else (statement, many, rows[0])


def _is_open(value: object) -> bool:
    """Whether a value would be stored as it is."""
    if value is None or isinstance(value, sa.ClauseElement):
        return False
    return type(value) is not SealedValue or value.record is None


def _check_parameter(column: sa.Column[Any], value: object, given: Mapping[str, Any]) -> None:
    """Refuse a value in a parameter of another name than its column: no row's values have it by its column."""
    if isinstance(value, BindParameter) and value.required and _is_open(given.get(value.key)):
        assert isinstance(column.type, SealedRow)
        raise ModelError(
            f"'{column.type._field_name}' is set to the parameter '{value.key}', and only a parameter that is named as "
            f"the column is sealed for its row: use bindparam('{column.key}'), or leave it out of values()"
        )


def _refuse_unnamed(
    table: _SealedTable,
    statement: Update,
    column: sa.Column[Any],
    keys: list[str],
    known: Mapping[str, Any],
    dialect: str,
) -> NoReturn:
    """Refuse to set a value in a row that is not known, with what its WHERE lacks.

    Raises:
        ModelError: always.
    """
    assert isinstance(column.type, SealedRow)
    says = f"'{column.type._field_name}' is bound to its row, and this statement does not say which one that is: "
    missing = [key for key in keys if known.get(key) is None or isinstance(known[key], sa.ClauseElement)]
    inexact = pinned(table.table, statement.whereclause, dialect, exact=False).keys() & set(missing)
    if inexact:
        raise ModelError(
            f"{says}more than one value may be equal to what its WHERE gives for {min(inexact)}; set it on an instance"
        )
    raise ModelError(
        f"{says}its WHERE does not give {', '.join(missing)}; give {'them' if len(missing) > 1 else 'it'} "
        f"there{_such_as(statement, missing[-1])}, or set it on an instance"
    )


def _such_as(statement: Update, key: str) -> str:
    """Return how a bulk UPDATE of a class has a WHERE; nothing for another UPDATE."""
    if "_emit_update_table" not in statement._annotations:
        return ""
    name = statement._propagate_attrs["plugin_subject"].class_.__name__
    return f", as in update({name}).where({name}.{key} == ...), with the execution option synchronize_session=None"


def _indexes_of(table: _SealedTable, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the indexes of the values that an UPDATE writes."""
    if not table.indexes.types and not table.moved:
        return {}
    for moved in table.moved:
        moved.check_update(values)
    complete = dict(values)
    table.indexes.fill(complete, new=False)
    return {key: complete[key] for key in table.indexes.types if key in complete}


def _with_values(
    table: _SealedTable, statement: Update, sealed: Mapping[str, Any], indexes: Mapping[str, Any]
) -> Update:
    """Return an UPDATE with sealed literals instead of its own, and with indexes."""
    in_order = getattr(statement, "_ordered_values", None) or getattr(statement, "_maintain_values_ordering", False)
    if indexes and in_order:
        raise ModelError(
            f"this UPDATE of '{table.table.name}' has ordered_values(), which no blind index goes with; use values()"
        )
    names = {_key_in(table, name, statement): name for name in statement._values or ()}
    named = {} if in_order else {names[key]: value for key, value in sealed.items() if key in names}
    new = named | {table.table.c[key]: value for key, value in indexes.items()}
    return statement.values(new) if new else statement


def _set_by(statement: Update) -> dict[Any, Any]:
    return dict(statement._values or getattr(statement, "_ordered_values", None) or ())


def _seal_insert(table: _SealedTable, statement: Insert, many: Any, one: Any) -> tuple[Any, Any, Any]:
    given = statement._values
    rows = statement._multi_values
    if rows:
        sealed_rows = [table.seal(_literals(table, row, statement)) for part in rows for row in _dicts(table, part)]
        copy = statement._generate()
        copy._multi_values = ()
        named = [{_name_in(table, key, statement): value for key, value in row.items()} for row in sealed_rows]
        return copy.values(named), many, one
    if given:
        literals = _literals(table, given, statement)
        if not many:
            sealed = table.seal({**literals, **one})
            names = {_key_in(table, name, statement): name for name in given}
            new = {
                names[key] if key in names else _name_in(table, key, statement): value
                for key, value in sealed.items()
                if key not in one
            }
            return statement.values(new), many, {key: value for key, value in sealed.items() if key in one}
        return statement, [table.seal({**literals, **values}) for values in many], one
    if many:
        return statement, [table.seal(values) for values in many], one
    return statement, many, table.seal(one) if one or table.indexes.types else one


def _dicts(table: _SealedTable, rows: Any) -> Iterator[Mapping[Any, Any]]:
    for row in rows:
        yield row if isinstance(row, Mapping) else dict(zip(table.table.c.keys(), row, strict=False))


def _key_in(table: _SealedTable, name: Any, statement: Any) -> str:
    """Return the key of a column that a statement names, maybe by its attribute."""
    if not isinstance(name, str):
        element = name.__clause_element__() if hasattr(name, "__clause_element__") else name
        return key_of(table.table, str(element.key))
    mapper = getattr(statement._propagate_attrs.get("plugin_subject"), "mapper", None)
    if mapper is not None and name in mapper.columns:
        return str(mapper.columns[name].key)
    return key_of(table.table, name)


def _name_in(table: _SealedTable, key: str, statement: Any) -> str:
    """Return the name that a statement has for a column: that of its attribute, or its key."""
    mapper = getattr(statement._propagate_attrs.get("plugin_subject"), "mapper", None)
    if mapper is None or key not in table.table.c:
        return key
    try:
        return str(mapper.get_property_by_column(table.table.c[key]).key)
    except UnmappedColumnError:
        return key


def _literals(table: _SealedTable, given: Mapping[Any, Any], statement: Any) -> dict[str, Any]:
    """Return the values of a statement by the keys of their columns."""
    values: dict[str, Any] = {}
    for name, value in given.items():
        is_value = isinstance(value, BindParameter) and not value.required
        values[_key_in(table, name, statement)] = value.value if is_value else value
    return values


# --- before a compiled statement is executed


def _before_cursor_execute(
    connection: Any,
    cursor: Any,  # noqa: ARG001
    text: str,  # noqa: ARG001
    parameters: Any,
    context: Any,
    many: bool,  # noqa: ARG001
) -> None:
    del parameters  # a report of local variables would show them
    compiled = getattr(context, "compiled", None)
    if compiled is not None and compiled not in _checked:
        passing_on(lambda: _check_compiled(connection, compiled))


def _check_compiled(connection: Any, compiled: Any) -> None:
    statement = compiled.statement
    if isinstance(statement, sa.ClauseElement):
        check(statement)
        state = getattr(compiled, "compile_state", None)
        inner = getattr(state, "statement", None)
        if inner is not None and inner is not statement:
            check(inner, distinct=False)
        if isinstance(statement, Insert | Update):
            table = _sealed_table(_target(statement))
            if table is not None:
                _check_dml(table, statement, compiled, by_flush=connection in REBOUND)
                if connection in REBOUND:
                    return
    _checked.add(compiled)


# --- INSERT and UPDATE


def _check_dml(table: _SealedTable, statement: Insert | Update, compiled: Any, *, by_flush: bool) -> None:
    if isinstance(statement, Update):
        given = _set_by(statement)
        names = {key_of(table.table, name) if isinstance(name, str) else name.key for name in given}
        names |= set(compiled.column_keys or ()) & set(table.table.c.keys())
        _check_set(table, statement, names, given, by_flush=by_flush)
        return
    if statement.select is not None:
        names = {getattr(name, "key", name) for name in statement._select_names or ()}
        for key, column in table.sealed.items():
            if key in names:
                raise ModelError(
                    f"'{table.table.name}.{column.name}' is sealed, and records that are copied between rows do not "
                    "open: read the values and insert them, without a SELECT in the INSERT"
                )
        for key in table.indexes.types:
            if key in names:
                raise ModelError(
                    f"'{table.table.name}.{key}' is a blind index, which is written with its column: leave it out"
                )
    clause = statement._post_values_clause
    if clause is not None:
        _check_upsert(table, clause)


def _check_set(
    table: _SealedTable, statement: Update, names: set[str], given: Mapping[Any, Any], *, by_flush: bool
) -> None:
    """Refuse to change what records are bound to without the records, and to set records that are of another row."""
    touched = sorted(names & table.bound_to)
    left = [key for key in table.sealed if key not in names]
    if touched and left and not by_flush:
        raise ModelError(
            f"this UPDATE changes '{touched[0]}' of '{table.table.name}', and '{left[0]}' is bound to it and would not "
            "open any more; change it on an instance, which seals again; if it only says which row is meant, give it "
            f"in the WHERE{_such_as(statement, touched[0])}"
        )
    for name, value in given.items():
        key = key_of(table.table, name) if isinstance(name, str) else name.key
        if key in table.sealed and not is_plain_value(value):
            if isinstance(value, ColumnClause) and value.key == key and value.table is table.table:
                continue
            raise ModelError(
                f"this UPDATE sets '{table.table.name}.{key}', which is sealed, to an SQL expression, whose records "
                "would not open there; give a value"
            )


def _check_upsert(table: _SealedTable, clause: Any) -> None:
    name = clause.__visit_name__
    if name == "on_conflict_do_nothing":
        return
    if name == "on_duplicate_key_update":
        updates = dict(clause.update)
        target = None if _other_keys(table) else {column.key for column in table.table.primary_key}
    else:
        updates = dict(clause.update_values_to_set)
        target = _target_of(table, clause)
    names = {key_of(table.table, key) if isinstance(key, str) else key.key for key in updates}
    excluded = {
        key_of(table.table, key) if isinstance(key, str) else key.key
        for key, value in updates.items()
        if _is_excluded(value, key)
    }
    table.indexes.check_upsert(names, excluded)
    for moved in table.moved:
        moved.check_upsert(names, excluded)
    if not names & (table.sealed.keys() | table.bound_to):
        return
    _check_target(table, names, target or set(), excluded)
    for key, value in updates.items():
        own = key_of(table.table, key) if isinstance(key, str) else key.key
        if own in table.sealed and not is_plain_value(value) and not _is_excluded(value, key):
            raise ModelError(
                f"this upsert sets '{table.table.name}.{own}', which is sealed, to an SQL expression, whose records "
                "would not open there; use the value of the inserted row"
            )


def _check_target(table: _SealedTable, names: set[str], target: set[str], excluded: set[str]) -> None:
    """Refuse an upsert that meets a row which the records of the inserted one are not bound to."""
    missing = sorted(table.bound_to - target - excluded)
    if missing:
        raise ModelError(
            f"this upsert may write sealed values into a row of '{table.table.name}' with another '{missing[0]}', "
            "where they would not open; name it in the conflict target, or load the row and change it"
        )
    touched = sorted((names & table.bound_to) - target)
    left = [key for key in table.sealed if key not in names]
    if touched and left:
        raise ModelError(
            f"this upsert changes '{touched[0]}' of '{table.table.name}', and '{left[0]}' is bound to it and would not "
            "open any more; set it too"
        )


def _is_excluded(value: Any, key: Any) -> bool:
    """Whether a value of an upsert is that of the row that was to be inserted."""
    name = key if isinstance(key, str) else key.key
    alias = getattr(getattr(value, "table", None), "name", None)
    return isinstance(value, ColumnClause) and value.key == name and alias in ("excluded", "new", "inserted")


def _other_keys(table: _SealedTable) -> bool:
    """Whether a row can conflict by something else than the primary key."""
    return (
        any(isinstance(constraint, sa.UniqueConstraint) for constraint in table.table.constraints)
        or any(index.unique for index in table.table.indexes)
        or any(column.unique for column in table.table.c)
    )


def _target_of(table: _SealedTable, clause: Any) -> set[str]:
    elements: Sequence[Any] = clause.inferred_target_elements or ()
    name = getattr(clause, "constraint_target", None)  # of PostgreSQL
    if name is not None:
        for constraint in table.table.constraints:
            if constraint.name == name and hasattr(constraint, "columns"):
                return {column.key for column in constraint.columns}
        return set()
    return {key_of(table.table, each) if isinstance(each, str) else getattr(each, "key", "") for each in elements}


def listen() -> None:
    """Look at the statements of all engines."""
    event.listen(Engine, "before_execute", _before_execute, retval=True)
    event.listen(Engine, "before_cursor_execute", _before_cursor_execute)
