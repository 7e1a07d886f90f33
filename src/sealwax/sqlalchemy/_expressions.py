"""Expressions over sealed columns that would give a wrong answer, or whose result would not open."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Bundle
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    Case,
    Cast,
    ClauseList,
    CollectionAggregate,
    ColumnClause,
    ExpressionClauseList,
    Extract,
    Grouping,
    Label,
    TextClause,
    TypeCoerce,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import CompoundSelect, Exists, ScalarSelect, Select, SelectBase

from sealwax.errors import ModelError
from sealwax.sqlalchemy._sealed_type import SealedType, refuse
from sealwax.sqlalchemy._types import Sealed, SealedRow

_NULL_TESTS: Final = (operators.is_, operators.is_not)
_ALL: Final = ("UNION ALL", "EXCEPT ALL", "INTERSECT ALL")
_TEXT: Final = re.compile(r"'(?:[^']|'')*'")
_NULL_TEST: Final = re.compile(r"[\w.\"`]+\s+is\s+(?:not\s+)?null\b", re.IGNORECASE)


def check(statement: sa.ClauseElement, *, distinct: bool = True) -> None:
    """Refuse a statement that sorts, groups, compares or computes with a sealed column.

    Raises:
        ModelError: it does.
    """
    tables = _tables_in(statement)
    if isinstance(statement, sa.Update | sa.Delete) and statement.whereclause is not None:
        _check_text([statement.whereclause], tables)
    exempt = _in_exists(statement)
    for element in visitors.iterate(statement):
        if id(element) not in exempt:
            _check_expression(element)
        if isinstance(element, Insert | Update):
            _check_copies(element)
        if isinstance(element, Insert) and element._post_values_clause is not None:
            for name in ("update_whereclause", "inferred_target_whereclause"):
                condition = getattr(element._post_values_clause, name, None)
                if isinstance(condition, sa.ClauseElement):
                    check(condition)
        if isinstance(element, Select):
            _check_select(element, tables, distinct=distinct)
        elif isinstance(element, CompoundSelect):
            _check_compound(element)
        else:
            _check_operation(element)


def _check_operation(element: Any) -> None:
    """Refuse a function, an operator, or another expression that computes with a sealed column."""
    if isinstance(element, FunctionElement):
        if getattr(element, "name", "") != "count":
            _refuse_any(f"the function {getattr(element, 'name', '')}() of", element.clauses)
    elif isinstance(element, BinaryExpression):
        if element.operator not in _NULL_TESTS:
            _refuse_any("comparing or computing with", (element.left, element.right))
    elif isinstance(element, CollectionAggregate) or (
        isinstance(element, UnaryExpression) and element.operator is operators.distinct_op
    ):
        _refuse_any("DISTINCT of", (element.element,))
    elif isinstance(element, Case) and element.value is not None:
        _refuse_any("CASE of", (element.value, *(condition for condition, _ in element.whens)))
    elif isinstance(element, Cast):
        _refuse_any("CAST of", (element.clause,))
    elif isinstance(element, Extract):
        _refuse_any("EXTRACT of", (element.expr,))
    else:
        # Of windows and of aggregates.
        parts = (getattr(element, "partition_by", None), getattr(element, "order_by", None))
        _refuse_any("DISTINCT ON", getattr(element, "_distinct_on", ()))  # of PostgreSQL
        _refuse_any("a window or an order over", [part for part in parts if isinstance(part, sa.ClauseElement)])


def _check_copies(statement: Insert | Update) -> None:
    """Refuse to copy records into columns that are not sealed."""
    if isinstance(statement, Insert) and statement.select is not None:
        _refuse_any("copying by INSERT FROM SELECT of", statement.select.selected_columns)
    for name, value in (statement._values or {}).items():
        if isinstance(value, sa.ClauseElement) and not isinstance(getattr(name, "type", None), SealedType):
            _refuse_any("copying into another column of", [value])


def _check_compound(select: CompoundSelect[Any]) -> None:
    if str(select.keyword.value).upper() not in _ALL:
        for each in select.selects:
            _refuse_any("comparing (UNION, INTERSECT, EXCEPT)", getattr(each, "inner_columns", ()))
    _refuse_any("ORDER BY or GROUP BY", (*select._order_by_clauses, *select._group_by_clauses))
    _refuse_names(select)


def _check_select(select: Select[Any], tables: Iterable[Any], *, distinct: bool) -> None:
    _refuse_any("ORDER BY", select._order_by_clauses)
    _refuse_any("GROUP BY", select._group_by_clauses)
    _refuse_any("DISTINCT ON", select._distinct_on)
    if distinct and select._distinct:
        _refuse_any("DISTINCT of", select._raw_columns)  # of which a class is one
    _refuse_names(select)
    where = () if select.whereclause is None else (select.whereclause,)
    sorted_by = (*select._order_by_clauses, *select._group_by_clauses, *select._having_criteria)
    _check_text((*where, *sorted_by), tables)
    _refuse_any("a condition by", where)


def _refuse_names(select: Select[Any] | CompoundSelect[Any]) -> None:
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
    if isinstance(clause, FunctionElement | Cast | Exists) or clause is None:
        return  # looked at by themselves
    if isinstance(clause, TypeCoerce):
        if not isinstance(clause.type, sa.LargeBinary):  # as bytes, it is the record
            yield from _operands(clause.clause)
        return
    if isinstance(clause, SelectBase | ScalarSelect):
        for column in clause.selected_columns if isinstance(clause, SelectBase) else clause.element.selected_columns:
            yield from _operands(column)
        return
    if isinstance(clause, Case):
        for result in (*(result for _, result in clause.whens), clause.else_):
            yield from _operands(result)
        return
    if isinstance(clause, ColumnClause):
        if isinstance(clause.type, SealedType):
            yield clause
    elif isinstance(clause, Label | Grouping | UnaryExpression):
        yield from _operands(clause.element)
    elif isinstance(clause, ClauseList | ExpressionClauseList):
        for each in clause.clauses:
            yield from _operands(each)
    elif clause.__visit_name__ == "label_reference":
        yield from _operands(clause.element)


# --- records of several fields in one column, or without their row


def _check_expression(element: Any) -> None:
    """Refuse a CASE or a set of SELECTs that mixes columns, and a sealed attribute in a SELECT that is one value.

    Raises:
        ModelError: it is such an expression.
    """
    if isinstance(element, Case):
        results = [result for _, result in element.whens]
        _check_one_field("a CASE", [*results, *([] if element.else_ is None else [element.else_])])
    elif isinstance(element, CompoundSelect):
        selects = [select for select in element.selects if isinstance(select, Select)]
        for select in selects:
            _refuse_bound(select, "the SELECTs of a UNION, INTERSECT or EXCEPT")
        for same_place in zip(*(select.selected_columns for select in selects), strict=False):
            _check_one_field("a UNION, INTERSECT or EXCEPT", same_place)
    elif isinstance(element, ScalarSelect) and isinstance(element.element, Select):
        _refuse_bound(element.element, "a subquery that stands for one value")


def _in_exists(statement: sa.ClauseElement) -> set[int]:
    """Return the ids of the subqueries of EXISTS, which may select anything."""
    return {id(element.element) for element in visitors.iterate(statement) if isinstance(element, Exists)}


def is_plain_value(value: Any) -> bool:
    """Whether what a statement sets a sealed column to is sealed on its way, or NULL."""
    if isinstance(value, BindParameter):
        return isinstance(value.type, SealedType | sa.types.NullType)
    return isinstance(value, sa.Null) or not isinstance(value, sa.ClauseElement)


def _check_one_field(what: str, parts: Iterable[Any]) -> None:
    fields: dict[str | None, Any] = {}
    for part in parts:
        kind = part.type
        if isinstance(kind, Sealed):
            fields[kind._field_name] = part
        elif not isinstance(kind, SealedRow) and not isinstance(part, sa.Null):
            fields[None] = part
    if len(fields) > 1:
        name = next((name for name in fields if name is not None), None)
        raise ModelError(
            f"{what} that gives '{name}', which is sealed, or something else in one column cannot be opened; select "
            "them one by one, or give such columns the same name of a field, as with Sealed(str, field='notes')"
        )


def _refuse_bound(select: Select[Any], what: str) -> None:
    for column in select.inner_columns:
        if isinstance(column._annotations.get("bundle"), Bundle) and isinstance(column.type, SealedRow):
            raise ModelError(
                f"'{column.type._field_name}' is bound to its row, and {what} cannot have it, because the row would "
                "not be known; select the attribute itself or the class"
            )


def _check_text(clauses: Iterable[Any], tables: Iterable[Any]) -> None:
    """Refuse SQL in text that sorts, groups or compares by the name of a sealed column.

    Args:
        clauses: parts of a statement.
        tables: those that the statement reads.

    Raises:
        ModelError: a text has the name of a sealed column, and not only to ask whether it is NULL.
    """
    words = {word for clause in clauses for text in _texts(clause) for word in _words(text)}
    if not words:
        return
    for table in tables:
        for column in table.c:
            if isinstance(column.type, SealedType) and column.name.lower() in words:
                refuse("sorting, grouping or comparing in text by", column)


def _texts(clause: Any) -> Iterator[str]:
    for element in visitors.iterate(clause):
        if isinstance(element, TextClause):
            yield element.text
        elif isinstance(element, ColumnClause) and element.is_literal:
            yield element.name


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", _NULL_TEST.sub(" ", _TEXT.sub(" ", text)).lower())


def _tables_in(statement: sa.ClauseElement) -> list[sa.Table]:
    """Return the tables of a statement."""
    return [element for element in visitors.iterate(statement) if isinstance(element, sa.Table)]
