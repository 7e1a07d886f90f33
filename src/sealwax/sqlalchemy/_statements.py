"""Statements with sealed columns: INSERTs are sealed, and what would give a wrong answer or lose a value is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    Cast,
    ClauseList,
    CollectionAggregate,
    ColumnClause,
    Extract,
    Grouping,
    Label,
    Null,
    Over,
    TypeCoerce,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import CompoundSelect, Select

from sealwax.errors import ModelError
from sealwax.sqlalchemy._binding import binding_of, pair_text, scope_of
from sealwax.sqlalchemy._errors import passing_on
from sealwax.sqlalchemy._models import REBOUND, client_default
from sealwax.sqlalchemy._types import Sealed, SealedRow, SealedType, check_table, refuse
from sealwax.sqlalchemy._value import HiddenValue, SealedValue

_NULL_TESTS: Final = (operators.is_, operators.is_not)
_ALL: Final = ("UNION ALL", "EXCEPT ALL", "INTERSECT ALL")
_checked: Final[WeakSet[Any]] = WeakSet()


class _SealedTable:
    """The sealed columns of a table, and what they are bound to."""

    def __init__(self, table: sa.Table) -> None:
        self.table = table
        self.size = len(table.c)
        columns = [column for column in table.c if isinstance(column.type, SealedType)]
        self.sealed = {column.key: column for column in columns}
        self.rows = [column for column in columns if isinstance(column.type, SealedRow)]
        self.scope = {name: _key_of(table, column) for name, column in scope_of(table).columns.items()}
        self.bound_to = set(self.scope.values()) if columns else set()
        for column in self.rows:
            self.bound_to.update(self.row_of(column))
        self.keys = [(column, self.row_of(column)) for column in self.rows]
        self.scoped = [column.key for column in columns if isinstance(column.type, Sealed)]
        if columns:
            check_table(table)

    def row_of(self, column: sa.Column[Any]) -> list[str]:
        assert isinstance(column.type, SealedRow)
        return [_key_of(self.table, name) for name in column.type.row]

    # --- INSERT

    def seal(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of a row with its values sealed, or hidden until they are."""
        values = dict(given)
        for column, row in self.keys:
            value = values.get(column.key)
            if value is not None and not isinstance(value, sa.ClauseElement):
                values[column.key] = self._seal(column, row, value, values)
        hide(self, values)
        return values

    def _seal(self, column: sa.Column[Any], row: list[str], value: Any, values: dict[str, Any]) -> SealedValue:
        kind = column.type
        assert isinstance(kind, SealedRow)
        if type(value) is SealedValue and value.record is not None and not self.bound_to <= values.keys():
            return value  # a flush has sealed it; what it is bound to is in another table
        parts = [self._part(kind, name, values) for name in row]
        pairs = tuple((name, pair_text(self._part(kind, key, values), name, key)) for name, key in self.scope.items())
        sealed = value if type(value) is SealedValue else SealedValue(value)
        return kind.sealed_for(sealed, parts[0] if len(parts) == 1 else tuple(parts), pairs)

    def _part(self, kind: SealedRow, key: str, values: dict[str, Any]) -> Any:
        value = values.get(key)
        if value is None and key in self.table.c:
            value = client_default(self.table.c[key])
            if value is not None:
                values[key] = value
        if value is None or isinstance(value, sa.ClauseElement):
            raise ModelError(
                f"'{kind.field_name}' is bound to '{key}', and this INSERT does not give it as a value; add it"
            )
        return value


def hide(table: _SealedTable, values: dict[str, Any]) -> None:
    """Hide what a type seals later from messages that show parameters."""
    for key in table.scoped:
        value = values.get(key)
        if value is not None and not isinstance(value, sa.ClauseElement):
            values[key] = HiddenValue(value)


def _key_of(table: sa.Table, name: str) -> str:
    """Return the key of a column that is named so, or by that of its attribute."""
    if name in table.c:
        return name
    return next((column.key for column in table.c if column.name == name), name)


def _sealed_table(table: Any) -> _SealedTable | None:
    if not isinstance(table, sa.Table):
        return None
    # In the metadata, which goes when its tables go; Alembic writes Table.info into migrations.
    tables = table.metadata.info.setdefault("sealwax_tables", {})
    known: _SealedTable | None = tables.get(table)
    if known is None or known.size != len(table.c):
        known = tables[table] = _SealedTable(table)
    return known if known.sealed else None


# --- before a statement is compiled


def _before_execute(
    connection: Any,  # noqa: ARG001
    statement: Any,
    many: Any,
    one: Any,
    options: Any,  # noqa: ARG001
) -> tuple[Any, Any, Any]:
    if not isinstance(statement, Insert | Update):
        return statement, many, one
    return passing_on(lambda: _prepared(statement, many, one))


def _prepared(statement: Insert | Update, many: Any, one: Any) -> tuple[Any, Any, Any]:
    table = _sealed_table(statement.table)
    if table is None:
        return statement, many, one
    binding_of(table.table)
    if isinstance(statement, Update):
        return statement, [_hidden(table, values) for values in many], _hidden(table, one)
    return _seal_insert(table, statement, many, one)


def _hidden(table: _SealedTable, given: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(given)
    hide(table, values)
    return values


def _seal_insert(table: _SealedTable, statement: Insert, many: Any, one: Any) -> tuple[Any, Any, Any]:
    given = statement._values
    rows = statement._multi_values
    if rows:
        sealed_rows = [table.seal(_literals(table, row, statement)) for part in rows for row in _dicts(table, part)]
        copy = statement._generate()
        copy._multi_values = ()
        return copy.values(sealed_rows), many, one
    if given:
        literals = _literals(table, given, statement)
        if not many:
            sealed = table.seal({**literals, **one})
            names = {_key_in(table, name, statement): name for name in given}
            new = {names.get(key, key): value for key, value in sealed.items() if key not in one}
            return statement.values(new), many, {key: value for key, value in sealed.items() if key in one}
        return statement, [table.seal({**literals, **values}) for values in many], one
    if many:
        return statement, [table.seal(values) for values in many], one
    return statement, many, table.seal(one) if one else one


def _dicts(table: _SealedTable, rows: Any) -> Iterator[Mapping[Any, Any]]:
    for row in rows:
        yield row if isinstance(row, Mapping) else dict(zip(table.table.c.keys(), row, strict=False))


def _key_in(table: _SealedTable, name: Any, statement: Any) -> str:
    """Return the key of a column that a statement names, maybe by its attribute."""
    key = name if isinstance(name, str) else str(name.key)
    mapper = getattr(statement._propagate_attrs.get("plugin_subject"), "mapper", None)
    if mapper is not None and key in mapper.columns:
        return str(mapper.columns[key].key)
    return _key_of(table.table, key)


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
    parameters: Any,  # noqa: ARG001
    context: Any,
    many: bool,  # noqa: ARG001
) -> None:
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
            table = _sealed_table(statement.table)
            if table is not None:
                _check_dml(table, statement, compiled, by_flush=connection in REBOUND)
                if connection in REBOUND:
                    return
    _checked.add(compiled)


def check(statement: sa.ClauseElement, *, distinct: bool = True) -> None:
    """Refuse a statement that sorts, groups, compares or computes with a sealed column.

    Raises:
        ModelError: it does.
    """
    for element in visitors.iterate(statement):
        if isinstance(element, Select):
            _check_select(element, distinct=distinct)
        elif isinstance(element, CompoundSelect):
            if str(element.keyword.value).upper() not in _ALL:
                for select in element.selects:
                    _refuse_any("comparing (UNION, INTERSECT, EXCEPT)", getattr(select, "_raw_columns", ()))
            _refuse_any("ORDER BY or GROUP BY", (*element._order_by_clauses, *element._group_by_clauses))
        elif isinstance(element, FunctionElement):
            if getattr(element, "name", "") != "count":
                _refuse_any(f"the function {getattr(element, 'name', '')}() of", element.clauses)
        elif isinstance(element, BinaryExpression):
            if element.operator not in _NULL_TESTS:
                _refuse_any("comparing or computing with", (element.left, element.right))
        elif isinstance(element, CollectionAggregate) or (
            isinstance(element, UnaryExpression) and element.operator is operators.distinct_op
        ):
            _refuse_any("DISTINCT of", (element.element,))
        elif isinstance(element, Cast):
            _refuse_any("CAST of", (element.clause,))
        elif isinstance(element, Extract):
            _refuse_any("EXTRACT of", (element.expr,))
        elif isinstance(element, Over):
            parts = (element.partition_by, element.order_by)
            _refuse_any("a window over", [part for part in parts if part is not None])


def _check_select(select: Select[Any], *, distinct: bool) -> None:
    _refuse_any("ORDER BY", select._order_by_clauses)
    _refuse_any("GROUP BY", select._group_by_clauses)
    _refuse_any("DISTINCT ON", select._distinct_on)
    if distinct and select._distinct:
        _refuse_any("DISTINCT of", select._raw_columns)
    names = {
        str(getattr(clause, "element", "")).rpartition(".")[2]
        for part in (*select._order_by_clauses, *select._group_by_clauses)
        for clause in visitors.iterate(part)
        if clause.__visit_name__ == "textual_label_reference"
    }
    if names:
        for column in select.selected_columns:
            if isinstance(column.type, SealedType) and getattr(column, "name", None) in names:
                refuse("ORDER BY or GROUP BY", column)


def _refuse_any(what: str, clauses: Any) -> None:
    for clause in clauses:
        for column in _operands(clause):
            refuse(what, column)


def _operands(clause: Any) -> Iterator[Any]:
    """Yield the sealed columns whose values an expression takes as they are."""
    if isinstance(clause, TypeCoerce | FunctionElement | Cast) or clause is None:
        return  # looked at by themselves
    if isinstance(clause, ColumnClause):
        if isinstance(clause.type, SealedType):
            yield clause
    elif isinstance(clause, Label | Grouping | UnaryExpression):
        yield from _operands(clause.element)
    elif isinstance(clause, ClauseList):
        for each in clause.clauses:
            yield from _operands(each)
    elif clause.__visit_name__ == "label_reference":
        yield from _operands(clause.element)


# --- INSERT and UPDATE


def _check_dml(table: _SealedTable, statement: Insert | Update, compiled: Any, *, by_flush: bool) -> None:
    if isinstance(statement, Update):
        given = statement._values or dict(getattr(statement, "_ordered_values", None) or ())
        names = {_key_of(table.table, name) if isinstance(name, str) else name.key for name in given}
        names |= set(compiled.column_keys or ()) & set(table.table.c.keys())
        _check_set(table, names, given, by_flush=by_flush)
        return
    if statement.select is not None:
        names = {getattr(name, "key", name) for name in statement._select_names or ()}
        for key, column in table.sealed.items():
            if key in names:
                raise ModelError(
                    f"'{table.table.name}.{column.name}' is sealed, and records that are copied between rows do not "
                    "open: read the values and insert them, without a SELECT in the INSERT"
                )
    clause = statement._post_values_clause
    if clause is not None:
        _check_upsert(table, clause)


def _check_set(table: _SealedTable, names: set[str], given: Mapping[Any, Any], *, by_flush: bool) -> None:
    """Refuse to change what records are bound to without the records, and to set records that are of another row."""
    touched = sorted(names & table.bound_to)
    left = [key for key in table.sealed if key not in names]
    if touched and left and not by_flush:
        raise ModelError(
            f"this UPDATE changes '{touched[0]}' of '{table.table.name}', and '{left[0]}' is bound to it and would not "
            "open any more; change it on an instance, which seals again"
        )
    for name, value in given.items():
        key = _key_of(table.table, name) if isinstance(name, str) else name.key
        if key in table.sealed and not isinstance(value, BindParameter | Null) and isinstance(value, sa.ClauseElement):
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
    names = {_key_of(table.table, key) if isinstance(key, str) else key.key for key in updates}
    if not names & (table.sealed.keys() | table.bound_to):
        return
    fixed = (target or set()) | {
        _key_of(table.table, key) if isinstance(key, str) else key.key
        for key, value in updates.items()
        if _is_excluded(value, key)
    }
    bound_to = set(table.scope.values())
    for column in table.rows:
        bound_to.update(table.row_of(column))
    missing = sorted(bound_to - fixed)
    if missing:
        raise ModelError(
            f"this upsert may write sealed values into a row of '{table.table.name}' with another '{missing[0]}', "
            "where they would not open; name it in the conflict target, or load the row and change it"
        )
    touched = sorted((names & table.bound_to) - (target or set()))
    left = [key for key in table.sealed if key not in names]
    if touched and left:
        raise ModelError(
            f"this upsert changes '{touched[0]}' of '{table.table.name}', and '{left[0]}' is bound to it and would not "
            "open any more; set it too"
        )
    for key, value in updates.items():
        own = _key_of(table.table, key) if isinstance(key, str) else key.key
        is_value = isinstance(value, BindParameter | Null) or not isinstance(value, sa.ClauseElement)
        if own in table.sealed and not is_value and not _is_excluded(value, key):
            raise ModelError(
                f"this upsert sets '{table.table.name}.{own}', which is sealed, to an SQL expression, whose records "
                "would not open there; use the value of the inserted row"
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
    return {_key_of(table.table, each) if isinstance(each, str) else getattr(each, "key", "") for each in elements}


def listen() -> None:
    """Look at the statements of all engines."""
    event.listen(Engine, "before_execute", _before_execute, retval=True)
    event.listen(Engine, "before_cursor_execute", _before_cursor_execute)
