"""Fills index columns of rows that were there before them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, cast

from sqlalchemy.engine import Engine

from sealwax._text import printable
from sealwax.errors import SealwaxError
from sealwax.records._columns import SealedColumn, SealedIndex
from sealwax.records._records import Records
from sealwax.records._sealed_table import SealedTable
from sealwax.records._value_swap import Change
from sealwax.records._walk import (
    Failures,
    Group,
    Pace,
    RowFailure,
    Scopes,
    VerifyCounts,
    groups,
    is_passing,
    opened,
    pages,
    reason_of,
)

_MOST_WALKS: Final = 10


@dataclass(slots=True)
class IndexCounts:
    """What became of the rows without an index of one column.

    Attributes:
        column: the name of the index column.
        filled: rows that have an index now.
        changed: rows that somebody else changed meanwhile; the next run looks at them again.
        failed: rows whose value could not be read, or has no index.
        left: rows that have a value and still no index.
        failures: the first of these.
    """

    column: str
    filled: int = 0
    changed: int = 0
    failed: int = 0
    left: int = 0
    failures: list[RowFailure] = field(default_factory=list)


def fill(
    records: Records,
    engine: Engine,
    column: SealedColumn,
    index: SealedIndex,
    pace: Pace,
) -> IndexCounts:
    """Fill one index column with the indexes of records, page by page, while the application goes on.

    Args:
        records: the scopes.
        engine: the database.
        column: the sealed column.
        index: its index.
        pace: how fast.

    Raises:
        TableError: the table cannot be read or changed, or has no such column.
        KmsError, KeyStoreError: a data key cannot be loaded for now.
    """
    table = SealedTable(engine, column, index=index.column)
    counts = IndexCounts(printable(f"{column.table}.{index.column}"))
    for _ in range(_MOST_WALKS):
        before, failures = counts.changed, Failures()
        scopes = Scopes(records, column, sealing=False)
        for items in pages(table, None, pace):
            changes: list[Change] = []
            for group in groups(scopes, items, VerifyCounts(column.named), table, failures, None):
                changes += _changes(records, index, group, table, failures)
            done = table.fill(changes) if changes else 0
            counts.filled += done
            counts.changed += len(changes) - done
            pace.wait(len(items))
            pace.check(table)
        if counts.changed == before:
            break
    counts.left = table.lacking()
    counts.failures = [RowFailure(counts.column, each.key, each.reason) for each in failures.first]
    counts.failed = failures.total
    return counts


def _changes(
    records: Records, index: SealedIndex, group: Group, table: SealedTable, failures: Failures
) -> list[Change]:
    """Return the indexes of the values of a scope; those that cannot be read, or have none, are noted and left out."""
    # A scope that is refused has no group, so that no pair is None.
    pairs = cast("dict[str, str]", dict(zip(table.column.scope, group.records[0][0].pairs, strict=True)))
    maker = records.index(
        table.column.field,
        normalize=index.normalize,
        bits=index.bits,
        shared=index.shared,
        **({} if index.shared else pairs),
    )
    changes = []
    for item, value in opened(group.scope, group.records, table, failures):
        try:
            changes.append(Change(item.key, cast("bytes | str", item.value), maker.of(value)))
        except (SealwaxError, TypeError, ValueError) as error:
            if isinstance(error, SealwaxError) and is_passing(error):
                raise
            failures.add(table, item, reason_of(error))
    return changes
