"""Values that move into a second column: a row has its value in the old column, or as a record in the new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm.attributes import flag_modified

from sealwax.errors import ModelError
from sealwax.records.moving import Moving, Plaintext
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
        for column in (own, self._old):
            if not column.nullable:
                raise ModelError(
                    f"'{column.table.name}.{column.name}' has to be nullable=True while values move from "
                    f"'{self._old.name}' to '{own.name}': each row has its value in one of the two"
                )

    def read(self, stored: Any) -> Any:
        """Return the value that the old column holds."""
        if stored is None:
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

    def move(self, values: dict[str, Any]) -> None:
        """Put a value of an INSERT into the old column, while that is written."""
        self.check(values)
        value = values.get(self.key)
        if type(value) is SealedValue and self.moving.writes == "old":
            values[self.old_key], values[self.key] = self.to_old(value), None

    def check(self, values: Mapping[str, Any]) -> None:
        """Refuse a statement that writes the old column alone: the row might have a record beside it.

        Raises:
            ModelError: it does.
        """
        if self.old_key in values and self.key not in values:
            own = self.kind._named
            raise ModelError(
                f"the values of '{own.table.name}.{self._old.name}' move to '{own.name}': set that one on an instance, "
                "which writes both"
            )

    # --- the flush

    def note_null(self, state: Any) -> None:
        """Have NULL that is assigned replace the old value, too."""
        if self.key in state.committed_state and state.dict.get(self.key) is None:
            _write(state, self.old_key, None)
            _write(state, self.key, None)

    def write(self, state: Any) -> None:
        """Have the flush write a value to one of the columns, and NULL to the other, whatever is there now."""
        value = state.dict.get(self.key)
        if type(value) is not SealedValue or (state.key is not None and self.key not in state.committed_state):
            return
        if self.moving.writes == "old":
            _write(state, self.old_key, self.to_old(value))
            _write(state, self.key, None)
        else:
            _write(state, self.old_key, None)


def _is_text_of_other(column: Any, kind: type) -> bool:
    """Whether a column holds values of another type as text or bytes."""
    return kind not in (str, bytes) and isinstance(column.type, sa.String | sa.LargeBinary | sa.BINARY | sa.VARBINARY)


def _write(state: Any, key: str, value: Any) -> None:
    state.dict[key] = value
    if state.key is not None:
        # Also if it seems to be so already: another process may write the other state.
        flag_modified(state.obj(), key)


def write_moved(moved: Mapping[str, MovedColumn], state: Any) -> None:
    """Write what moves, after values were sealed and indexed."""
    for each in moved.values():
        each.write(state)
