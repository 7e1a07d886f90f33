"""Attributes of mapped classes that are sealed: opened when they are looked at, sealed again when their row changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import event, inspect
from sqlalchemy.orm import Bundle, ColumnProperty, InstrumentedAttribute, MappedColumn, Mapper, mapped_column
from sqlalchemy.orm.interfaces import EXT_CONTINUE

from sealwax.errors import KeyNotLoadedError, SealwaxError
from sealwax.records.moving import Moving
from sealwax.sqlalchemy._binding import Scope, can_await, declare_scope, pair_text
from sealwax.sqlalchemy._column_type import client_default
from sealwax.sqlalchemy._definitions import check_attribute, check_bound
from sealwax.sqlalchemy._errors import passing_on
from sealwax.sqlalchemy._moved import MovedColumn
from sealwax.sqlalchemy._plan import Plan, existing_plan, forget_plan, make_default, plan_of, sealed_in
from sealwax.sqlalchemy._sealed_type import check_table
from sealwax.sqlalchemy._types import SealedRow
from sealwax.sqlalchemy._value import UNSET, SealedValue

# Of listeners that SQLAlchemy calls without a function of its own around them.
_AS_IT_IS: Final = {"raw": True, "retval": True, "include_key": True}
# Connections on which a flush changes what records are bound to, and writes all of the records that the row has.
REBOUND: Final[WeakSet[Any]] = WeakSet()


def sealed(
    value_type: Any,
    /,
    *,
    row: str | Sequence[str],
    length: int | None = None,
    field: str | None = None,
    storage: Any = None,
    moving: Moving | None = None,
    moved_from: str | None = None,
    **options: Any,
) -> MappedColumn[Any]:
    """Declare a sealed attribute of a mapped class, bound to its row, its column and the scope of the class.

    It is opened when it is looked at. If the row or the scope changes, the flush seals it again.

    Args:
        value_type: str, bytes, int, bool, float, Decimal, date, datetime (with a time zone), UUID, dict, list, or an
            Enum, whose names are sealed. NULL stays NULL.
        row: the attributes that records are bound to, such as the primary key. The program has to know them before
            the row is inserted.
        length: the most characters or bytes that a value may have.
        field: the name of the field, if the column is renamed; ``"table.column"`` by default.
        storage: the type of the column: of bytes, ``LargeBinary`` by default, or of text, such as ``Text``.
        moving: how values were stored before, while the column moves to records.
        moved_from: the column that they were in, if its type is neither of bytes nor of text: records go into a
            second column, and a row has its value in one of the two.
        **options: as for ``mapped_column``, such as ``name="..."`` or ``deferred=True``; ``repr=False`` in a dataclass.

    Returns:
        What ``mapped_column`` returns.

    Raises:
        TypeError: no record holds such values.

    Example:
        >>> email: Mapped[str] = sealed(str, row="id")
    """
    name = options.pop("name", None)
    given = () if name is None else (name,)
    kind = SealedRow(
        value_type, row=row, length=length, field=field, storage=storage, moving=moving, moved_from=moved_from
    )
    return mapped_column(*given, kind, **options)


class _OpenedBundle(Bundle[Any]):
    """A sealed column in a SELECT, with the columns that its records are bound to."""

    inherit_cache = True

    def __init__(
        self, name: str, kind: SealedRow, rows: int, scope: Scope, moved: MovedColumn | None, *columns: Any
    ) -> None:
        super().__init__(name, *columns)
        self._kind, self._rows, self._scope, self._moved = kind, rows, scope, moved

    def labeled(self, name: str | None, label: Any) -> _OpenedBundle:
        return _OpenedBundle(
            name or self.name, self._kind, self._rows, self._scope, self._moved, label, *self.exprs[1:]
        )

    def create_row_processor(self, query: Any, procs: Any, labels: Any) -> Any:  # noqa: ARG002
        kind, rows, scope, moved = self._kind, self._rows, self._scope, self._moved

        def opened(row: Any) -> Any:
            value, *bound = [proc(row) for proc in procs]
            del row  # a report of local variables would show it
            if moved is not None:
                old = bound.pop()
                value = moved.read(old) if value is None else value
            if type(value) is not SealedValue:
                return value
            value.row = bound[0] if rows == 1 else tuple(bound[:rows])
            value.pairs = tuple(
                (name, pair_text(part, name, column))
                for (name, column), part in zip(scope.columns.items(), bound[rows:], strict=True)
            )
            return kind._opened(value)

        return opened


class _SealedComparator(ColumnProperty.Comparator[Any]):
    """What an attribute and its synonyms are in a statement."""

    def _memoized_method___clause_element__(self) -> Any:
        column: Any = super()._memoized_method___clause_element__()
        key, entity = self.prop.key, self._parententity.entity
        plan = existing_plan(self._parententity.mapper)
        if plan is None:  # the class is being mapped, and gets another one of these
            return column
        moved = plan.moved.get(key)
        keys = (*plan.rows[key], *plan.scope.columns.values(), *(() if moved is None else (moved.old_key,)))
        bound = (getattr(entity, name) for name in keys)
        bundle = _OpenedBundle(key, plan.attributes[key], len(plan.rows[key]), plan.scope, moved, column, *bound)
        # A column everywhere but in the columns of a SELECT, where it stands for the bundle.
        return column._annotate({"bundle": bundle})


class SealedAttribute(InstrumentedAttribute[Any]):
    """The attribute of a class: opens the value of an instance, and selects a value with what it is bound to."""

    __slots__ = ()
    inherit_cache = True

    # Not a listener, which merge() calls too: NULL that was loaded says nothing of the column that a value moves from.
    def __set__(self, instance: Any, value: Any) -> None:
        InstrumentedAttribute.__set__(self, instance, value)
        if value is None:
            self._set_null(instance)

    def __delete__(self, instance: Any) -> None:
        InstrumentedAttribute.__delete__(self, instance)
        self._set_null(instance)

    def _set_null(self, instance: Any) -> None:
        moved = plan_of(self._parententity).moved.get(self.key)
        if moved is not None:
            moved.set_null(inspect(instance))

    def __get__(self, instance: Any, owner: Any) -> Any:
        value: Any = InstrumentedAttribute.__get__(self, instance, owner)
        if value is None:
            return plan_of(self._parententity).moved_value(instance, self.key)
        if type(value) is not SealedValue:
            return value
        if value.value is UNSET:
            plan = plan_of(self._parententity)
            if value._unknown:
                plan.bind(inspect(instance), load=True)
            return plan.attributes[self.key]._opened(value)
        return value.value

    def label(self, name: str | None) -> Any:
        column = self.__clause_element__()
        label = column.label(name)
        return label._annotate({"bundle": column._annotations["bundle"].labeled(name, label)})


# --- when a class is mapped


def _prepare(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Check a class that has been mapped, and let its sealed attributes open."""
    kinds = sealed_in(mapper).values()
    if not kinds:
        return
    scope = getattr(class_, "__sealed_scope__", None)
    if isinstance(scope, Scope):
        for kind in kinds:
            declare_scope(kind._named.table, scope)
    forget_plan(mapper)
    plan = plan_of(mapper)
    for table in mapper.tables:
        check_table(table)  # type: ignore[arg-type]
    for key in plan.bound_to if plan.attributes else ():
        check_bound(mapper, key)
    for key, attribute_kind in plan.attributes.items():
        check_attribute(mapper, key, attribute_kind, plan.rows[key])
        attribute = mapper.class_manager[key]
        if type(attribute) is InstrumentedAttribute:
            attribute.__class__ = SealedAttribute
            prop: Any = attribute.prop
            prop.comparator_factory = _SealedComparator
            attribute.comparator = _SealedComparator(prop, mapper)


def _listen(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Follow the instances of a class, once its attributes are complete."""
    plan = existing_plan(mapper)
    if sealed_in(mapper).keys() != (plan.attributes.keys() | plan.columns.keys() if plan else set()):
        _prepare(mapper, class_)  # some were added to the class since
        plan = plan_of(mapper)
    if plan is None:
        return
    for key in plan.attributes:
        # After the validators of the class, which see the value.
        event.listen(getattr(class_, key), "set", _wrap_for(plan.attributes[key]), **_AS_IT_IS)
    for key in plan.bound_to:
        event.listen(getattr(class_, key), "set", _note_old, active_history=True, **_AS_IT_IS)
    if plan.attributes:
        event.listen(class_, "load", _loaded, raw=True)
        event.listen(class_, "refresh", _refreshed, raw=True)
    event.listen(mapper, "before_insert", _before_insert, raw=True, retval=True)
    event.listen(mapper, "before_update", _before_update, raw=True)
    event.listen(mapper, "after_update", _after_update, raw=True)


def _wrap_for(kind: SealedRow) -> Any:
    def wrap(state: Any, value: Any, old: Any, initiator: Any, **_: Any) -> Any:  # noqa: ARG001
        if value is None or type(value) is SealedValue:
            return value
        if type(value) is not kind._exact:
            kind._checked(value)
        return SealedValue(value)

    return wrap


def _note_old(state: Any, value: Any, old: Any, initiator: Any, **_: Any) -> Any:  # noqa: ARG001
    """Have SQLAlchemy load the value that is replaced: the records in the database are bound to it."""
    return value


def _loaded(state: Any, context: Any) -> None:  # noqa: ARG001
    plan = plan_of(state.manager.mapper)
    plan.bind(state)
    if can_await():
        _preload(plan, state)


def _refreshed(state: Any, context: Any, attributes: Any) -> None:  # noqa: ARG001
    _loaded(state, context)


def _preload(plan: Plan, state: Any) -> None:
    """Load data keys while they can be awaited; the attribute is looked at when they cannot."""
    for key, kind in plan.attributes.items():
        value = state.dict.get(key)
        if type(value) is SealedValue and value.value is UNSET and not value._unknown:
            try:
                kind._opened(value)
            except KeyNotLoadedError:
                raise
            except SealwaxError:
                pass  # reported when it is looked at


def _before_insert(mapper: Mapper[Any], connection: Any, state: Any) -> Any:  # noqa: ARG001
    passing_on(lambda: _seal_new(plan_of(mapper), state))
    return EXT_CONTINUE


def _seal_new(plan: Plan, state: Any) -> None:
    values = state.dict
    plan.take_moved(state)
    for key, kind in plan.attributes.items():
        if values.get(key) is None:
            made = client_default(kind._named)
            if made is not None:
                kind._checked(made)
                values[key] = SealedValue(made)
    if plan.attributes and _wrap_plain(plan, state):
        for key in plan.bound_to:
            if values.get(key) is None:
                make_default(state, key)
        plan.seal(state)
    if plan.columns:
        plan.check_scope(state)


def _before_update(mapper: Mapper[Any], connection: Any, state: Any) -> None:  # noqa: ARG001
    passing_on(lambda: _seal_changed(plan_of(state.mapper), state, connection))


def _seal_changed(plan: Plan, state: Any, connection: Any) -> None:
    _wrap_plain(plan, state)
    plan.bind(state)
    if plan.rebind(state):
        REBOUND.add(connection)
    plan.take_moved(state)
    plan.seal(state)
    plan.check_scope(state)


def _after_update(mapper: Mapper[Any], connection: Any, state: Any) -> None:  # noqa: ARG001
    REBOUND.discard(connection)


def _wrap_plain(plan: Plan, state: Any) -> bool:
    """Wrap values that did not come through the attribute, such as by ``set_attribute``; return if there are values."""
    values, found = state.dict, False
    for key, kind in plan.attributes.items():
        value = values.get(key)
        if value is not None:
            found = True
            if type(value) is not SealedValue:
                kind._checked(value)
                values[key] = SealedValue(value)
    return found


def listen() -> None:
    """Follow all classes that are mapped."""
    event.listen(Mapper, "after_mapper_constructed", _prepare)
    event.listen(Mapper, "mapper_configured", _listen)
