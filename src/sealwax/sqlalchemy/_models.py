"""Attributes of mapped classes that are sealed: opened when they are looked at, sealed again when their row changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy import event, inspect
from sqlalchemy.orm import (
    Bundle,
    ColumnProperty,
    InstrumentedAttribute,
    MappedColumn,
    Mapper,
    mapped_column,
    object_session,
)
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.orm.base import NO_VALUE, PASSIVE_OFF
from sqlalchemy.orm.interfaces import EXT_CONTINUE

from sealwax.errors import ContextError, KeyNotLoadedError, ModelError, SealwaxError
from sealwax.records.moving import Moving
from sealwax.sqlalchemy._binding import (
    Pairs,
    RecordsBinding,
    Scope,
    can_await,
    declare_scope,
    pair_text,
    scope_of,
)
from sealwax.sqlalchemy._definitions import check_attribute, check_bound, columns_of
from sealwax.sqlalchemy._errors import passing_on
from sealwax.sqlalchemy._moved import MovedColumn
from sealwax.sqlalchemy._types import Sealed, SealedRow, as_stored, check_table
from sealwax.sqlalchemy._value import UNSET, SealedValue

_PLAN: Final = "sealwax_plan"
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
        plan: _Plan | None = self._parententity.mapper.class_manager.info.get(_PLAN)
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

    def __get__(self, instance: Any, owner: Any) -> Any:
        value: Any = InstrumentedAttribute.__get__(self, instance, owner)
        if value is None:
            return _plan_of(self._parententity).moved_value(instance, self.key)
        if type(value) is not SealedValue:
            return value
        if value.value is UNSET:
            plan = _plan_of(self._parententity)
            if value._unknown:
                plan.bind(inspect(instance), load=True)
            return plan.attributes[self.key]._opened(value)
        return value.value

    def label(self, name: str | None) -> Any:
        column = self.__clause_element__()
        label = column.label(name)
        return label._annotate({"bundle": column._annotations["bundle"].labeled(name, label)})


class _Plan:
    """What is sealed in a mapped class, and what it is bound to."""

    def __init__(self, mapper: Mapper[Any]) -> None:
        self.mapper = mapper
        scope = getattr(mapper.class_, "__sealed_scope__", None) or scope_of(mapper.local_table)  # type: ignore[arg-type]
        if not isinstance(scope, Scope):
            raise ModelError(
                f"__sealed_scope__ of {mapper.class_.__name__} is a Scope, such as Scope(tenant='tenant_id')"
            )
        self.scope = Scope(**{name: _key_of(mapper, column) for name, column in scope.columns.items()})
        self._scope_keys = tuple(self.scope.columns.items())
        self.attributes: dict[str, SealedRow] = {}
        self.columns: dict[str, Sealed] = {}
        self.rows: dict[str, tuple[str, ...]] = {}
        for key, kind in _sealed_in(mapper).items():
            if isinstance(kind, SealedRow):
                self.attributes[key] = kind
                self.rows[key] = tuple(_key_of(mapper, name) for name in kind.row)
            else:
                self.columns[key] = kind
        self.moved = {
            key: MovedColumn(key, kind, columns_of(mapper))
            for key, kind in self.attributes.items()
            if kind.moved_from is not None
        }
        self.bound_to = frozenset((*(key for keys in self.rows.values() for key in keys), *self.scope.columns.values()))
        forms = {key: as_stored(columns_of(mapper)[key][0].type) for key in self.bound_to}
        self._forms = {key: form for key, form in forms.items() if form is not None}

    @property
    def binding(self) -> RecordsBinding:
        return next(iter((*self.attributes.values(), *self.columns.values())))._binding

    def moved_value(self, instance: Any, key: str) -> Any:
        """Return the value of an attribute that is NULL: it may be in the column that it moves from."""
        moved = self.moved.get(key)
        if moved is None or key in inspect(instance).committed_state:
            return None
        return moved.read(getattr(instance, moved.old_key))

    # --- what a state is bound to

    def pairs(self, values: Any) -> Pairs:
        return tuple(
            [
                (name, value if type(value := self._part(key, values)) is str else pair_text(value, name, key))
                for name, key in self._scope_keys
            ]
        )

    def row(self, key: str, values: Any) -> Any:
        names = self.rows[key]
        return self._part(names[0], values) if len(names) == 1 else tuple(self._part(name, values) for name in names)

    def _part(self, key: str, values: Any) -> Any:
        value, form = values(key), self._forms.get(key)
        # An int is as it comes back, whichever form there is.
        return value if form is None or type(value) is int else form(value)

    def bind(self, state: Any, *, load: bool = False) -> None:
        """Note what the records that were loaded are bound to: the values in the database, not newer ones."""
        values, committed = state.dict, state.committed_state
        if not committed and not load and self.bound_to <= values.keys():
            self._note(values, values.__getitem__)
            return

        def stored(key: str) -> Any:
            if key in committed:
                value = committed[key]
            elif key not in values and load:
                value = state.manager[key].impl.get(state, values, PASSIVE_OFF)
            else:
                value = values.get(key, NO_VALUE)
            return value

        if not any(stored(key) is NO_VALUE for key in self.bound_to):
            self._note(values, stored)

    def _note(self, values: Any, stored: Any) -> None:
        pairs: Pairs | None = None
        for key in self.attributes:
            value = values.get(key)
            if type(value) is SealedValue and value.row is UNSET and value.record is not None:
                pairs = self.pairs(stored) if pairs is None else pairs
                value.row, value.pairs = self.row(key, stored), pairs

    # --- the flush

    def seal(self, state: Any) -> None:
        """Seal what is new, and again what is bound to something else now."""
        values = state.dict
        present = [key for key in self.attributes if type(values.get(key)) is SealedValue]
        if not present:
            return
        current = self._current(state)
        pairs = self.pairs(current)
        names: tuple[str, ...] = ()
        row: Any = None
        for key in present:
            kind, value = self.attributes[key], values[key]
            if self.rows[key] != names:
                names, row = self.rows[key], self.row(key, current)
            if row is None or type(row) is tuple:
                _check_row(kind, row)
            if value.record is None or value.row != row or value.pairs != pairs:
                values[key] = kind._sealed_for(value, row, pairs)
                if state.key is not None and key not in state.committed_state:
                    flag_modified(state.obj(), key)

    def rebind(self, state: Any) -> bool:
        """Load what is bound to values that change, and have the flush write all of it."""
        changed = [key for key in self.bound_to if _has_changed(state, key)]
        if not changed:
            return False
        scope_changed = any(key in self.scope.columns.values() for key in changed)
        for key in (*self.attributes, *(self.columns if scope_changed else ())):
            if key not in state.dict:
                self._load(state, key)
            flag_modified(state.obj(), key)
        self.bind(state)
        return True

    def _load(self, state: Any, key: str) -> None:
        session = object_session(state.obj())
        assert session is not None

        def stored(name: str) -> Any:
            return state.committed_state.get(name, state.dict.get(name))

        with session.no_autoflush, self.binding.records.scope(**dict(self.pairs(stored))):
            state.manager[key].impl.get(state, state.dict, PASSIVE_OFF)

    def check_scope(self, state: Any) -> None:
        """Compare the scope of the row with the one that its columns of type ``Sealed`` are about to be sealed for."""
        values = state.dict
        keys = [key for key in self.columns if values.get(key) is not None and _is_written(state, key)]
        if not keys:
            return
        kind = self.columns[keys[0]]
        if self.pairs(self._current(state)) != kind._current()[1]:
            raise ContextError(
                f"a row of '{kind._named.table.fullname}' is of another scope than the block of records.scope(...) "
                f"around this flush ({', '.join(self.scope.columns)} differs); flush it within a block of its own scope"
            )

    def _current(self, state: Any) -> Callable[[str], Any]:
        """Return what gives the values that a state has now."""
        values = state.dict
        return values.__getitem__ if self.bound_to <= values.keys() else _Current(state)


class _Current:
    """The values that a state has now."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def __call__(self, key: str) -> Any:
        values = self._state.dict
        if key in values:
            return values[key]
        return self._state.manager[key].impl.get(self._state, values, PASSIVE_OFF)


def _has_changed(state: Any, key: str) -> bool:
    committed = state.committed_state
    if key not in committed or key not in state.dict:
        return False
    return bool(committed[key] != state.dict[key])


def _is_written(state: Any, key: str) -> bool:
    return state.key is None or key in state.committed_state


def _check_row(kind: SealedRow, row: object) -> None:
    parts = row if isinstance(row, tuple) else (row,)
    for name, part in zip(kind.row, parts, strict=True):
        if part is None:
            raise ModelError(
                f"'{kind._field_name}' is bound to '{name}', which this row does not have yet; set it first"
            )


def _key_of(mapper: Mapper[Any], name: str) -> str:
    """Return the attribute that is called so, or that maps the column of this name."""
    attributes = columns_of(mapper)
    if name in attributes:
        return name
    for key, columns in attributes.items():
        if any(getattr(column, "name", None) == name for column in columns):
            return key
    raise ModelError(f"{mapper.class_.__name__} has no column '{name}', which a sealed column is bound to")


def _sealed_in(mapper: Mapper[Any]) -> dict[str, Sealed | SealedRow]:
    """Return the types of the attributes that are sealed columns of tables, not expressions over such columns."""
    kinds = {key: columns[0].type for key, columns in columns_of(mapper).items() if isinstance(columns[0], sa.Column)}
    return {key: kind for key, kind in kinds.items() if isinstance(kind, Sealed | SealedRow)}


def _plan_of(mapper: Any) -> _Plan:
    plan: _Plan | None = mapper.class_manager.info.get(_PLAN)
    if plan is None:
        plan = mapper.class_manager.info[_PLAN] = _Plan(mapper)
    return plan


# --- when a class is mapped


def _prepare(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Check a class that has been mapped, and let its sealed attributes open."""
    kinds = _sealed_in(mapper).values()
    if not kinds:
        return
    scope = getattr(class_, "__sealed_scope__", None)
    if isinstance(scope, Scope):
        for kind in kinds:
            declare_scope(kind._named.table, scope)
    mapper.class_manager.info.pop(_PLAN, None)
    plan = _plan_of(mapper)
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
    plan: _Plan | None = mapper.class_manager.info.get(_PLAN)
    if _sealed_in(mapper).keys() != (plan.attributes.keys() | plan.columns.keys() if plan else set()):
        _prepare(mapper, class_)  # some were added to the class since
        plan = mapper.class_manager.info[_PLAN]
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
    plan = _plan_of(state.manager.mapper)
    plan.bind(state)
    if can_await():
        _preload(plan, state)


def _refreshed(state: Any, context: Any, attributes: Any) -> None:  # noqa: ARG001
    _loaded(state, context)


def _preload(plan: _Plan, state: Any) -> None:
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
    passing_on(lambda: _seal_new(_plan_of(mapper), state))
    return EXT_CONTINUE


def _seal_new(plan: _Plan, state: Any) -> None:
    values = state.dict
    for key, kind in plan.attributes.items():
        if values.get(key) is None:
            made = client_default(kind._named)
            if made is not None:
                kind._checked(made)
                values[key] = SealedValue(made)
    if plan.attributes and _wrap_plain(plan, state):
        for key in plan.bound_to:
            if values.get(key) is None:
                _make_default(state, key)
        plan.seal(state)
    if plan.columns:
        plan.check_scope(state)


def _before_update(mapper: Mapper[Any], connection: Any, state: Any) -> None:  # noqa: ARG001
    passing_on(lambda: _seal_changed(_plan_of(state.mapper), state, connection))


def _seal_changed(plan: _Plan, state: Any, connection: Any) -> None:
    _wrap_plain(plan, state)
    for moved in plan.moved.values():
        moved.note_null(state)
    plan.bind(state)
    if plan.rebind(state):
        REBOUND.add(connection)
    plan.seal(state)
    plan.check_scope(state)


def _after_update(mapper: Mapper[Any], connection: Any, state: Any) -> None:  # noqa: ARG001
    REBOUND.discard(connection)


def _wrap_plain(plan: _Plan, state: Any) -> bool:
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


def _make_default(state: Any, key: str) -> None:
    """Make the default of a column that records are bound to, before SQLAlchemy would."""
    for column in columns_of(state.mapper)[key]:
        made = client_default(column)
        if made is not None:
            setattr(state.obj(), key, made)
            return


def client_default(column: Any) -> Any:
    """Return what the program's default of a column makes, or None.

    Raises:
        ModelError: it needs the statement, which there is not yet.
    """
    default = getattr(column, "default", None)
    if default is None or not (default.is_scalar or default.is_callable):
        return None
    if default.is_scalar:
        return default.arg
    try:
        return default.arg(None)
    except (AttributeError, TypeError):
        raise ModelError(
            f"the default of '{column}' needs the other columns, and its value is needed before; set it on the instance"
        ) from None


event.listen(Mapper, "after_mapper_constructed", _prepare)
event.listen(Mapper, "mapper_configured", _listen)
