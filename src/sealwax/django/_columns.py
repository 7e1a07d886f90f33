"""The columns of sealed fields in queries: they are selected, and asked for NULL, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db import models
from django.db.models import F
from django.db.models.expressions import Col, OrderBy
from django.db.models.lookups import Exact, IsNull
from django.db.models.sql import Query

from sealwax.django._errors import SealedFieldError


class RecordField(models.BinaryField):  # type: ignore[type-arg]
    """What a database knows of a sealed field: bytes, which nothing can be done with."""

    sealed: Any  # the sealed field

    def get_lookup(self, lookup_name: str) -> Any:  # noqa: RET503
        if self.sealed.sealing.moved_from:
            refuse(
                self.sealed,
                f"is not searched while values move to it from '{self.sealed.sealing.moved_from}': NULL in one of two "
                "columns says nothing",
            )
        if lookup_name in ("exact", "iexact"):
            return NullAlone
        if lookup_name == "isnull":
            return super().get_lookup(lookup_name)
        refuse(self.sealed, f"cannot be searched by {lookup_name}")

    def get_transform(self, lookup_name: str) -> Any:
        refuse(self.sealed, f"has no {lookup_name} in the database")


class NullAlone(Exact):
    """``filter(name=None)``, which asks for NULL; every other value is refused."""

    def get_prep_lookup(self) -> None:
        if self.rhs is not None:
            refuse(self.lhs.output_field.sealed, "cannot be searched by its value")


class RecordCol(Col):
    """A column of records. When it is compiled, it looks for what the query does with it."""

    target: Any
    _alone = False

    def get_db_converters(self, connection: Any) -> list[Any]:
        converters: list[Any] = self.target.get_db_converters(connection)
        return [self.target.opened_alone] if self._alone else converters

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        self._alone = not compiler.query.default_cols and any(self is col for col in compiler.query.select)
        if getattr(compiler, "_sealwax_checked", None) is not compiler.query:
            check(compiler.query)
            compiler._sealwax_checked = compiler.query
        return super().as_sql(compiler, connection)


def refuse(field: Any, what: str) -> NoReturn:
    """Refuse what a query does with a sealed field, and name the index that can do it.

    Raises:
        SealedFieldError: always.
    """
    index = next(
        (each.name for each in field.model._meta.concrete_fields if getattr(each, "index_of", None) == field.name), None
    )
    instead = (
        f"{field.model.__name__}.{index}.find(value) searches by its index"
        if index
        else f'an IndexOf("{field.name}", bits=...) beside it can be searched'
    )
    raise SealedFieldError(f"'{field.name}' of {field.model.__name__} is sealed and {what}; {instead}")


def check(query: Query) -> None:
    """Refuse a query that sorts, groups, compares or computes records.

    Raises:
        SealedFieldError: it does.
    """
    for node in _leaves(query.where):
        if not (isinstance(node, IsNull) and isinstance(node.lhs, RecordCol)):
            _refuse_in([node], "cannot be compared or computed")
    _refuse_in(query.annotations.values(), "cannot be computed or renamed by a database")
    for _, _, value in getattr(query, "values", ()) if isinstance(getattr(query, "values", ()), list) else ():
        if hasattr(value, "flatten"):
            _refuse_in([value], "cannot be copied into another column or row")
    _check_order(query)
    _check_select(query)


def _check_select(query: Query) -> None:
    selected: list[Any] = [col for col in query.select if isinstance(col, RecordCol)]
    for col in selected:
        if col.target.sealing.row:
            raise SealedFieldError(
                f"'{col.target.name}' of {col.target.model.__name__} is sealed and bound to its row, which values(), "
                "values_list() and subqueries do not have; use the objects, maybe with only()"
            )
        if query.subquery:
            refuse(col.target, "cannot be copied or compared by a subquery")
    grouped = query.group_by if isinstance(query.group_by, tuple) else ()
    keyed = query.default_cols or any(
        isinstance(col, Col) and col.target.primary_key for col in (*query.select, *grouped)
    )
    if selected and not keyed and (query.distinct or query.group_by):
        refuse(selected[0].target, "looks different in each row, so it cannot be grouped")


def _check_order(query: Query) -> None:
    orders: Iterable[Any] = query.extra_order_by or query.order_by
    if not orders and query.default_ordering and query.model is not None:
        orders = query.get_meta().ordering or ()
    for order in (*orders, *query.distinct_fields):
        for name in _names(order):
            field = _field_named(query, name)
            if field is not None and hasattr(field, "sealing"):
                refuse(field, "cannot be sorted by")


def _names(order: Any) -> Iterator[str]:
    if isinstance(order, str):
        yield order.lstrip("-+")
    elif isinstance(order, F):
        yield order.name  # type: ignore[attr-defined]
    elif isinstance(order, OrderBy) or hasattr(order, "flatten"):
        for part in order.flatten():
            if isinstance(part, F):
                yield part.name  # type: ignore[attr-defined]
            elif isinstance(part, RecordCol):
                yield part.target.name


def _field_named(query: Query, name: str) -> Any:
    if name == "?" or name in query.annotations:
        return None
    try:
        return query.names_to_path(name.split("__"), query.get_meta())[1]
    except (FieldError, FieldDoesNotExist):
        return None


def _leaves(node: Any) -> Iterator[Any]:
    for child in getattr(node, "children", ()):
        if hasattr(child, "children"):
            yield from _leaves(child)
        else:
            yield child


def _refuse_in(expressions: Iterable[Any], what: str) -> None:
    for expression in expressions:
        for part in expression.flatten() if hasattr(expression, "flatten") else ():
            if isinstance(part, RecordCol):
                refuse(part.target, what)
