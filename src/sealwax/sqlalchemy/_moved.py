"""Values that move into a second column: a row has its value in the old column, or as a record in the new one."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.orm.base import NO_VALUE

from sealwax.errors import ModelError
from sealwax.records.moving import Moving, Plaintext
from sealwax.sqlalchemy._column_type import ColumnType
from sealwax.sqlalchemy._types import SealedRow
from sealwax.sqlalchemy._value import SealedValue


class MovedColumn:
    """A sealed column, and the one that its values are in until they are moved.

    Args:
        key: the attribute, or the key of the column, that is sealed.
        kind: the type of the sealed column.
        columns: the columns of each attribute, or of each key.

    Raises:
        ModelError: there is no such column, or one of the two does not take NULL.
    """

    def __init__(self, key: str, kind: SealedRow, columns: Mapping[str, Sequence[Any]]) -> None:
        assert kind.moving is not None
        self.key, self.kind = key, kind
        self.moving: Moving = kind.moving
        own, name = kind._named, kind.moved_from
        beside = [(each, column) for each, all_ in columns.items() for column in all_ if column.table is own.table]
        # By its column first: the attribute of the old name is the sealed one.
        found = [pair for pair in beside if pair[1].name == name] or [pair for pair in beside if pair[0] == name]
        if not found or found[0][1] is own:
            raise ModelError(f"'{kind._field_name}' has moved_from='{name}', and there is no such column beside it")
        self.old_key, self._old = found[0]
        # In JSON, None is a value of its own.
        self._old_null = sa.null() if self._old.type.should_evaluate_none else None
        for column in (own, self._old):
            if not column.nullable:
                raise ModelError(
                    f"'{column.table.name}.{column.name}' has to be nullable=True while values move from "
                    f"'{self._old.name}' to '{own.name}': each row has its value in one of the two"
                )

    @property
    def _indexes(self) -> list[str]:
        """The keys of the blind indexes of the column."""
        own = self.kind._named
        return [each.key for each in own.table.c if isinstance(each.type, ColumnType) and each.type._finds(own)]

    def read(self, stored: Any) -> Any:
        """Return the value that the old column holds."""
        if not _is_value(stored):
            return None
        records = self.kind._binding.records
        return self.moving.read(records, self.kind._field_name, stored, self.kind.value_type)

    def to_old(self, value: SealedValue) -> Any:
        """Return what the old column holds for a value."""
        plain = self.kind._opened(value)
        if isinstance(self.moving.old, Plaintext) and not _is_text_of_other(self._old, self.kind.value_type):
            self.kind._binding.records.note_old_value(self.kind._field_name, self.moving.old.name, read=False)
            return plain
        text = isinstance(self._old.type, sa.String)
        held = self.kind._kind.checked(plain)
        return self.moving.write(self.kind._binding.records, self.kind._field_name, held, text=text)

    # --- statements

    def move(self, values: dict[str, Any], indexes: Container[str]) -> None:
        """Put a value of an INSERT into the old column, while that is written.

        Args:
            values: what the INSERT writes, by the keys of the columns; it is changed.
            indexes: the keys of the blind indexes that it gives.

        Raises:
            ModelError: it writes the old column, and the other one or its index not.
        """
        value = values.get(self.key)
        if self.old_key in values and (self.key not in values or not self._is_one(values, indexes)):
            self._refuse()
        if type(value) is SealedValue and self.moving.writes == "old":
            values[self.old_key], values[self.key] = self.to_old(value), None

    def check_update(self, values: Mapping[str, Any]) -> None:
        """Refuse an UPDATE that writes one of the columns alone: the row might have a value in the other one.

        Args:
            values: what the UPDATE writes, by the keys of the columns.

        Raises:
            ModelError: it does, or it leaves out the index.
        """
        given = {self.key, self.old_key} & values.keys()
        if not given:
            return
        if len(given) < 2 or not self._is_one(values, values):
            self._refuse()
        if _is_value(values[self.key]) and self.moving.writes == "old":
            self._refuse()

    def check_upsert(self, names: Container[str], excluded: Container[str]) -> None:
        """Refuse an upsert that writes one of the columns alone.

        Args:
            names: the keys of the columns that the upsert sets.
            excluded: those that it sets to the values of the row that was to be inserted.

        Raises:
            ModelError: it does.
        """
        both = (self.key, self.old_key)
        if any(key in names for key in both) and not all(key in excluded for key in both):
            self._refuse()

    def _is_one(self, values: Mapping[str, Any], indexes: Container[str]) -> bool:
        """Whether at most one of the columns gets a value, with its indexes."""
        if not _is_value(values[self.old_key]):
            return True
        return not _is_value(values[self.key]) and all(key in indexes for key in self._indexes)

    def _refuse(self) -> NoReturn:
        own = self.kind._named
        raise ModelError(
            f"the values of '{own.table.name}.{self._old.name}' move to '{own.name}': set that one on an instance, "
            "which writes both"
        )

    # --- the flush

    def set_null(self, state: Any) -> None:
        """Have NULL that is assigned replace the old value, too."""
        write(state, self.old_key, self._old_null)

    def take(self, state: Any, current: Callable[[str], Any]) -> None:
        """Take the value from the old column, if the flush is about to write the row or the attribute.

        Args:
            state: of the instance.
            current: returns the value that an attribute has now.
        """
        is_written = state.key is None or self.key in state.committed_state
        if not is_written or state.dict.get(self.key) is not None:
            return
        old = current(self.old_key)
        if _is_value(old) and old is not NO_VALUE:
            state.dict[self.key] = SealedValue(self.read(old))
        elif state.key is not None:
            write(state, self.old_key, self._old_null)
            write(state, self.key, None)

    def write(self, state: Any) -> None:
        """Have the flush write a value to one of the columns, and NULL to the other, whatever is there now."""
        value = state.dict.get(self.key)
        if type(value) is not SealedValue or (state.key is not None and self.key not in state.committed_state):
            return
        if self.moving.writes == "old":
            write(state, self.old_key, self.to_old(value))
            write(state, self.key, None)
        else:
            write(state, self.old_key, self._old_null)
            write(state, self.key, value)


def _is_text_of_other(column: Any, kind: type) -> bool:
    """Whether a column holds values of another type as text or bytes."""
    return kind not in (str, bytes) and isinstance(column.type, sa.String | sa.LargeBinary | sa.BINARY | sa.VARBINARY)


def _is_value(value: Any) -> bool:
    return value is not None and not isinstance(value, sa.Null)


def write(state: Any, key: str, value: Any) -> None:
    """Have the flush write an attribute, also if it seems to be so already: the row may have changed meanwhile."""
    state.dict[key] = value
    if state.key is not None:
        flag_modified(state.obj(), key)
        state.committed_state[key] = NO_VALUE


def write_moved(moved: Mapping[str, MovedColumn], state: Any) -> None:
    """Write what moves, after values were sealed and indexed."""
    for each in moved.values():
        each.write(state)
