"""What is sealed in a mapped class, and what it is bound to: where a flush and a look at an attribute meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, object_session
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.orm.base import NO_VALUE, PASSIVE_OFF

from sealwax.errors import ContextError, ModelError
from sealwax.sqlalchemy._binding import Pairs, RecordsBinding, Scope, pair_text, scope_of
from sealwax.sqlalchemy._column_type import client_default
from sealwax.sqlalchemy._definitions import columns_of
from sealwax.sqlalchemy._moved import MovedColumn
from sealwax.sqlalchemy._types import Sealed, SealedRow, as_stored
from sealwax.sqlalchemy._value import UNSET, SealedValue

_PLAN: Final = "sealwax_plan"
# What an opened value may be that the program can change in place.
_MUTABLE: Final = (dict, list)


class Plan:
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
        for key, kind in sealed_in(mapper).items():
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
        if moved is None:
            return None
        return moved.read(getattr(instance, moved.old_key))

    def take_moved(self, state: Any) -> None:
        """Take values that the flush writes from the columns that they move from."""
        for moved in self.moved.values():
            moved.take(state, CurrentValues(state))

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
            if type(value.value) in _MUTABLE and _is_written(state, key):
                value = SealedValue(value.value)  # it may have changed since it was sealed or opened
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
                self.load(state, key)
            flag_modified(state.obj(), key)
        self.bind(state)
        return True

    def load(self, state: Any, key: str) -> None:
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
        return values.__getitem__ if self.bound_to <= values.keys() else CurrentValues(state)


class CurrentValues:
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


def sealed_in(mapper: Mapper[Any]) -> dict[str, Sealed | SealedRow]:
    """Return the types of the attributes that are sealed columns of tables, not expressions over such columns."""
    kinds = {key: columns[0].type for key, columns in columns_of(mapper).items() if isinstance(columns[0], sa.Column)}
    return {key: kind for key, kind in kinds.items() if isinstance(kind, Sealed | SealedRow)}


def plan_of(mapper: Any) -> Plan:
    """Return the plan of a class, which is made once."""
    plan = existing_plan(mapper)
    if plan is None:
        plan = mapper.class_manager.info[_PLAN] = Plan(mapper)
    return plan


def existing_plan(mapper: Any) -> Plan | None:
    """Return the plan of a class; None while the class is being mapped, or if nothing in it is sealed."""
    plan: Plan | None = mapper.class_manager.info.get(_PLAN)
    return plan


def forget_plan(mapper: Any) -> None:
    """Have the plan of a class made again, after the class was mapped or attributes were added to it."""
    mapper.class_manager.info.pop(_PLAN, None)


def make_default(state: Any, key: str) -> None:
    """Make the default of a column that records are bound to, before SQLAlchemy would."""
    for column in columns_of(state.mapper)[key]:
        made = client_default(column)
        if made is not None:
            setattr(state.obj(), key, made)
            return
