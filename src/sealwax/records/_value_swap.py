"""Compare and set: values of a column are replaced, or go over to another column, if their rows still have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection
from sqlalchemy.types import TypeEngine

from sealwax.records._stored_column import MYSQL, Stored, StoredColumn
from sealwax.records._table_work import TableWork

Key = tuple[object, ...]
"""The primary key of a row."""

# A statement of MySQL compares each row with all values of its batch.
_MYSQL_BATCH: Final = 200
_BATCH_BYTES: Final = 4 << 20
_SMALL_BYTES: Final = 16


class Change(NamedTuple):
    """What shall become of one row.

    Attributes:
        key: its primary key.
        old: what it has, as ``StoredColumn.witness`` gave it.
        new: what it gets.
    """

    key: Key
    old: Stored
    new: object


class ValueSwap:
    """Replaces the values of one column; or sets another one that is NULL, and takes them out of the first.

    Args:
        work: what runs the statements.
        table: the table.
        keys: the columns of its primary key.
        old: the column whose values are compared.
        new: the column that is set; the same one, or another.
        keep: whether the values stay, as those beside an index do.
    """

    def __init__(
        self,
        work: TableWork,
        table: sa.Table,
        keys: Sequence[sa.Column[Any]],
        old: StoredColumn,
        new: StoredColumn,
        *,
        keep: bool = False,
    ) -> None:
        self._work = work
        self._table = table
        self._keys = keys
        self._old = old
        self._new = new
        self._keep = keep
        self._dialect = old.dialect

    def replace(self, changes: Sequence[Change]) -> int:
        """Change rows, each only if it still has the old value.

        Returns:
            How many were changed.
        """
        done = 0
        for batch in _batches(changes, _MYSQL_BATCH if self._dialect in MYSQL else len(changes)):
            done += self._work.run(lambda connection, batch=batch: self._replace(connection, batch))  # type: ignore[misc]
        return done

    def _replace(self, connection: Connection, changes: Sequence[Change]) -> int:
        if self._dialect == "postgresql":
            return self._replace_by_arrays(connection, changes)
        if self._dialect in MYSQL:
            return self._replace_by_cases(connection, changes)
        where = [key == sa.bindparam(f"k{number}", type_=key.type) for number, key in enumerate(self._keys)]
        exact = self._old.exact
        update = self._table.update().where(*where, exact == sa.bindparam("old", type_=exact.type), *self._free)
        update = update.ordered_values(*self._set(sa.bindparam("new", type_=self._new.column.type)))
        parameters = [
            {
                **{f"k{number}": part for number, part in enumerate(key)},
                "old": self._old.encoded(old),
                "new": new,
            }
            for key, old, new in changes
        ]
        return connection.execute(update, parameters).rowcount

    @property
    def _free(self) -> list[sa.ColumnElement[bool]]:
        return [] if self._new is self._old else [self._new.column.is_(None)]

    def _set(self, new: sa.ColumnElement[Any]) -> list[tuple[sa.Column[Any], Any]]:
        # In this order: MySQL computes one after the other, from what is there by then.
        taken = [] if self._keep or self._new is self._old else [(self._old.column, sa.null())]
        return [(self._new.column, new), *taken]

    def _replace_by_arrays(self, connection: Connection, changes: Sequence[Change]) -> int:
        text: TypeEngine[Any] = sa.LargeBinary() if self._old.text is False else sa.Text()
        names = [*(f"k{number}" for number in range(len(self._keys))), "old", "new"]
        types = [*(key.type for key in self._keys), text, self._new.sql_type]
        arrays = [sa.bindparam(name, type_=postgresql.ARRAY(type_)) for name, type_ in zip(names, types, strict=True)]
        columns = [sa.column(name, type_) for name, type_ in zip(names, types, strict=True)]
        given = sa.func.unnest(*arrays).table_valued(*columns, name="given").render_derived()
        exact = self._old.exact
        # Rows that another transaction has locked are left to the next pass: whoever waits while it holds locks stops
        # the application, and may meet it in a deadlock.
        unlocked = sa.select(*given.c).where(
            *(key == given.c[name] for key, name in zip(self._keys, names, strict=False)), exact == given.c.old
        )
        rows = unlocked.with_for_update(key_share=True, skip_locked=True, of=self._table).subquery("free")
        update = self._table.update().ordered_values(*self._set(rows.c.new))
        update = update.where(
            *(key == rows.c[name] for key, name in zip(self._keys, names, strict=False)),
            exact == rows.c.old,
            *self._free,
        )
        keys, old, new = zip(*changes, strict=True)
        parameters = dict(zip(names, [*map(list, zip(*keys, strict=True)), list(old), list(new)], strict=True))
        return connection.execute(update, parameters).rowcount

    def _replace_by_cases(self, connection: Connection, changes: Sequence[Change]) -> int:
        # By key and value: two rows may have the same value, and each gets a record of its own.
        exact = self._old.exact
        old = [self._old.encoded(each) for _, each, _ in changes]
        whens = [
            (
                sa.and_(*(column == part for column, part in zip(self._keys, key, strict=True)), exact == each),
                sa.literal(new, self._new.column.type),
            )
            for (key, _, new), each in zip(changes, old, strict=True)
        ]
        keys = [key for key, _, _ in changes]
        here = (
            self._keys[0].in_([key[0] for key in keys])
            if len(self._keys) == 1
            else sa.tuple_(*self._keys).in_([tuple(key) for key in keys])
        )
        same = sa.tuple_(*self._keys, exact).in_([(*key, each) for key, each in zip(keys, old, strict=True)])
        update = self._table.update().where(here, same, *self._free)
        update = update.ordered_values(*self._set(sa.case(*whens, else_=self._new.column)))
        return connection.execute(update).rowcount


def _batches(changes: Sequence[Change], most: int) -> Iterator[list[Change]]:
    batch: list[Change] = []
    size = 0
    for change in changes:
        new = len(change.new) if isinstance(change.new, str | bytes) else _SMALL_BYTES
        size += len(change.old) + new
        if batch and (len(batch) >= most or size > _BATCH_BYTES):
            yield batch
            batch, size = [], len(change.old) + new
        batch.append(change)
    if batch:
        yield batch
