"""Blind indexes as attributes of mapped classes: the flush writes them, and they search."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import InstrumentedAttribute, Mapper, Session
from sqlalchemy.orm.attributes import flag_modified

from sealwax.errors import ContextError, ModelError
from sealwax.records._current import pairs_of
from sealwax.sqlalchemy._binding import Pairs, binding_of, pair_text
from sealwax.sqlalchemy._definitions import columns_of
from sealwax.sqlalchemy._errors import passing_on
from sealwax.sqlalchemy._index import IndexOf
from sealwax.sqlalchemy._moved import write, write_moved
from sealwax.sqlalchemy._plan import CurrentValues, existing_plan, make_default, plan_of
from sealwax.sqlalchemy._types import Sealed
from sealwax.sqlalchemy._value import HiddenValue, SealedValue

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

_INDEXES: Final = "sealwax_indexes"


class FindingAttribute(InstrumentedAttribute[Any]):
    """The attribute of a class: searches by values of the sealed attribute, and is not set by hand."""

    __slots__ = ()
    inherit_cache = True

    def __set__(self, instance: Any, value: Any) -> None:
        self._refuse()

    def __delete__(self, instance: Any) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        source = _indexes_of(self.parent.mapper)[self.key][0]
        raise ModelError(f"'{self}' is a blind index, which is written with '{source}'; set '{source}'")

    def find(self, session: Session, value: object, statement: Any = None, /, **pairs: str) -> list[Any]:
        """Return the instances whose sealed attribute has a value: the index finds them, and each is compared.

        Args:
            session: where to look.
            value: the value; the normalizer says which others are the same.
            statement: a ``select(User)``, with conditions and an order; all rows by default.
            **pairs: the scope to look in, beside that of ``records.scope``.

        Returns:
            The instances, in the order of the statement.

        Raises:
            ContextError: a pair of the scope is missing.
            ModelError: the statement has a LIMIT, which would cut off before the values are compared.
            TypeError: the value is of another type, or an argument is something else.
        """
        if not isinstance(session, Session):
            raise TypeError(f"find takes a Session, not {type(session).__name__}; find_async takes an AsyncSession")
        # Not in a variable, which a report of the local variables of an error would show.
        hidden = value if type(value) is HiddenValue else HiddenValue(value)
        del value
        search = passing_on(lambda: _Search(self, hidden.value, statement, pairs))
        with search.binding.records.scope(**search.around):
            return [row[0] for row in session.execute(search.statement).unique() if search.has_found(row)]

    async def find_async(
        self, session: AsyncSession, value: object, statement: Any = None, /, **pairs: str
    ) -> list[Any]:
        """Return what ``find`` returns, for an ``AsyncSession``.

        Args:
            session, value, statement, **pairs: as for ``find``.
        """
        if isinstance(session, Session):
            raise TypeError("find_async takes an AsyncSession; find takes a Session")
        hidden = HiddenValue(value)
        del value
        return await session.run_sync(lambda inner: self.find(inner, hidden, statement, **pairs))


class _Search:
    """The search for a value: the statement that finds its candidates, and their comparison."""

    def __init__(self, attribute: FindingAttribute, value: object, statement: Any, pairs: Mapping[str, str]) -> None:
        plan = plan_of(attribute.parent.mapper)
        source_key, self._kind = _indexes_of(attribute.parent.mapper)[attribute.key]
        self.binding = binding_of(self._kind._named.table)
        self._plan, self._held = plan, self._kind._held(value)
        self.around, self._pairs = self._scope(pairs)
        statement = sa.select(attribute.parent.entity) if statement is None else statement
        entity = _entity_of(statement, attribute)
        own = self._kind._of_held(self._held, self._pairs)
        # Coerced, since an index compares with values of the sealed column only.
        statement = statement.where(sa.type_coerce(getattr(entity, attribute.key), sa.LargeBinary()) == own)
        scope = [getattr(entity, plan.scope.columns[name]) for name, _ in self._pairs]
        for column, (_, text) in zip(scope, self._pairs, strict=True):
            typed = _typed(column, text)
            statement = statement if typed is None else statement.where(column == typed)
        # With the values of the rows: an instance that was loaded before may be older.
        self.statement = statement.add_columns(getattr(entity, source_key), *scope)

    def has_found(self, row: Any) -> bool:
        """Whether a candidate is of this scope, and has the value."""
        _, opened, *scope = row
        if any(
            part is None or pair_text(part, name, name) != text
            for part, (name, text) in zip(scope, self._pairs, strict=True)
        ):
            return False
        return self._kind._same(opened, self._held, self._pairs)

    def _scope(self, given: Mapping[str, str]) -> tuple[Mapping[str, str], Pairs]:
        """Return the pairs for the block around the statement, and those that rows must have."""
        names = self._plan.scope.columns
        table = self._kind._named.table.fullname
        for name in given.keys() - names.keys():
            raise ContextError(f"the scope of the table '{table}' has no pair '{name}'")
        # Types that see a value but not its row open what is of the scope around them.
        everywhere = self._kind.shared and not isinstance(self._kind._source, Sealed)
        around = {**({} if everywhere else pairs_of(self.binding.records)), **given}
        for name in () if everywhere else names:
            if name not in around:
                raise ContextError(
                    f"the scope of the table '{table}' has the pair '{name}', and it is not set here; search with "
                    f"find(session, value, {name}=...), or within records.scope({name}=...)"
                )
        return given, tuple((name, around[name]) for name in names if name in around)


def _entity_of(statement: Any, attribute: FindingAttribute) -> Any:
    """Return what a statement selects."""
    selected = statement.column_descriptions[0] if isinstance(statement, sa.Select) else {}
    entity = selected.get("entity")
    mapper = None if entity is None or selected["expr"] is not entity else sa.inspect(entity).mapper
    if mapper is None or not mapper.isa(attribute.parent.mapper):
        raise TypeError(f"the statement of find is a select({attribute.parent.class_.__name__}), maybe with conditions")
    if any(getattr(statement, name) is not None for name in ("_limit_clause", "_offset_clause", "_fetch_clause")):
        raise ModelError(
            "the statement of find has a LIMIT, which would count candidates that have another value; leave it out, "
            "and take as many of the instances as you need"
        )
    return entity


def _typed(column: Any, text: str) -> Any:
    """Return the value that a column of the scope has for a pair; None if that is not known."""
    try:
        kind = column.type.python_type
        return kind(text) if kind in (str, int, UUID) else None
    except (NotImplementedError, ValueError):
        return None


# --- when a class is mapped


def _indexes_of(mapper: Any) -> dict[str, tuple[str, IndexOf]]:
    """Return the indexes of a class by their attributes, each with the attribute that is sealed."""
    indexes: dict[str, tuple[str, IndexOf]] = mapper.class_manager.info.get(_INDEXES, {})
    return indexes


def _prepare(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Check the indexes of a class that has been mapped, and let them search."""
    attributes = columns_of(mapper)
    indexes: dict[str, tuple[str, IndexOf]] = {}
    for key, columns in attributes.items():
        kind = columns[0].type
        if not isinstance(kind, IndexOf):
            continue
        source = _source_of(attributes, kind)
        if source is not None:
            own = next(column for column in attributes[source] if column.table is kind._named.table)
            kind._declare(own.key, kind._shown or f"{class_.__name__}.{key}")
        kind._check_table()  # says it if there is no source
        assert source is not None
        indexes[key] = source, kind
        fields = dataclasses.fields(class_) if dataclasses.is_dataclass(class_) else ()
        if any(each.name == key and each.init for each in fields):
            raise ModelError(f"'{class_.__name__}.{key}' is a blind index, which is not set by hand; add init=False")
        attribute = mapper.class_manager[key]
        if type(attribute) is InstrumentedAttribute:
            attribute.__class__ = FindingAttribute
    mapper.class_manager.info[_INDEXES] = indexes


def _source_of(attributes: Mapping[str, list[Any]], kind: IndexOf) -> str | None:
    """Return the attribute that an index is of: named so, or mapping the column of this name."""
    beside = {
        key: [column for column in columns if column.table is kind._named.table] for key, columns in attributes.items()
    }
    if beside.get(kind.of):
        return kind.of
    return next((key for key, columns in beside.items() if any(each.name == kind.of for each in columns)), None)


# --- the flush


def _listen(mapper: Mapper[Any], class_: type[Any]) -> None:  # noqa: ARG001
    plan = existing_plan(mapper)
    if _indexes_of(mapper) or (plan is not None and plan.moved):
        event.listen(mapper, "before_insert", _before_insert, raw=True)
        event.listen(mapper, "before_update", _before_update, raw=True)


def _before_insert(mapper: Mapper[Any], connection: Any, state: Any) -> None:  # noqa: ARG001
    passing_on(lambda: _fill_new(state))


def _fill_new(state: Any) -> None:
    plan = plan_of(state.mapper)
    for key, (source, kind) in _indexes_of(state.mapper).items():
        if source in plan.columns and state.dict.get(source) is None:
            make_default(state, source)
            plan.check_scope(state)
        state.dict[key] = kind._of_value(_value_of(plan, state, source))
    write_moved(plan.moved, state)


def _value_of(plan: Any, state: Any, source: str) -> Any:
    """Return the value that an index is of; it may be in the column that it moves from."""
    value = state.dict.get(source)
    moved = plan.moved.get(source)
    if value is not None or moved is None:
        return value
    current = CurrentValues(state)
    plain = moved.read(current(moved.old_key))
    return None if plain is None else SealedValue(plain, None, plan.row(source, current), plan.pairs(current))


def _before_update(mapper: Mapper[Any], connection: Any, state: Any) -> None:  # noqa: ARG001
    passing_on(lambda: _fill_changed(state))


def _fill_changed(state: Any) -> None:
    plan, values, committed = plan_of(state.mapper), state.dict, state.committed_state
    for key, (source, kind) in _indexes_of(state.mapper).items():
        if source not in committed:
            if key not in committed:
                continue
            # Such as by merge(): it goes with the value that it is of.
            if source not in values:
                plan.load(state, source)
            flag_modified(state.obj(), source)
            plan.take_moved(state)
            plan.seal(state)
        own = kind._of_value(_value_of(plan, state, source))
        if source in plan.moved:
            write(state, key, own)  # a statement that writes the two columns of a value writes its index
        elif key not in values or values[key] != own:
            values[key] = own
            if key not in committed:
                flag_modified(state.obj(), key)
    write_moved(plan.moved, state)


def listen() -> None:
    """Follow all classes that are mapped; call it after what seals their values, which listens first then."""
    event.listen(Mapper, "after_mapper_constructed", _prepare)
    event.listen(Mapper, "mapper_configured", _listen)
