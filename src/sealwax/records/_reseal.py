"""Walks through columns of records: seals them again, moves them in and out, counts them by key, and opens them."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy.engine import URL, Engine

from sealwax._text import printable
from sealwax.errors import OldFormError, SealwaxError
from sealwax.records._columns import SealedColumn
from sealwax.records._index_fill import fill
from sealwax.records._journal import Position, ResealCounts, ResealJournal
from sealwax.records._moves import NewValues, OldValues, check_columns, check_null, next_step
from sealwax.records._old_forms import OldForm
from sealwax.records._preconditions import check_map, check_writes
from sealwax.records._records import Records
from sealwax.records._reports import KeyUse, RecordsVerifyReport, ResealReport, StaleReport
from sealwax.records._sealed_table import SealedTable
from sealwax.records._sql_connect import shown_url
from sealwax.records._store import KeyKind, KeyRow, KeyState, KeyStore
from sealwax.records._table_work import connected
from sealwax.records._value_swap import Change
from sealwax.records._walk import (
    Failures,
    Group,
    Pace,
    Reason,
    Scopes,
    VerifyCounts,
    check_scopes,
    groups,
    is_passing,
    opened,
    pages,
    read_old,
    reason_of,
    sealed,
    sealed_old,
)

_log: Final = logging.getLogger("sealwax")
_MOST_PASSES: Final = 10

Columns = Sequence[SealedColumn]
Database = Engine | URL | str
OnProgress = Callable[[Sequence[ResealCounts]], None]


def stale(
    store: KeyStore, database: Database, columns: Columns, *, scope: Mapping[str, str] | None = None
) -> StaleReport:
    """Count records by the data key that they are under; the database does it, with one scan for each column.

    Args:
        store: the key store.
        database: where the columns are: a SQLAlchemy ``Engine`` or a URL.
        columns: the columns.
        scope: leave out records under data keys of scopes without these pairs; None counts all. Records whose data key
            is not in the store count always.

    Returns:
        The counts, by column and data key.

    Raises:
        TableError: a table cannot be read, or is not as its column says.
        KeyStoreError: the key store cannot be read.
    """
    with connected(database) as engine:
        report = _counted(store, {}, [SealedTable(engine, column) for column in columns])
        without_index = {
            printable(f"{column.table}.{index.column}"): SealedTable(engine, column, index=index.column).lacking()
            for column in columns
            for index in column.indexes
        }
    pairs = (scope or {}).items()
    return replace(
        report,
        without_index=without_index,
        uses=tuple(use for use in report.uses if use.row is None or pairs <= use.row.scope.items()),
    )


def _counted(store: KeyStore, scope: Mapping[str, str], tables: Sequence[SealedTable]) -> StaleReport:
    # First the records, then the keys: so no key of a record is made in between.
    counts = [(table.column, table.count()) for table in tables]
    rows = {row.key_id: row for row in store.list(scope) if row.kind is KeyKind.DATA}
    newest = _newest_ids(rows.values())
    uses = tuple(
        KeyUse(column.named, key_id, rows.get(key_id), key_id in newest, count)
        for column, tally in counts
        for key_id, count in sorted(tally.records.items())
    )
    old = sum(tally.others for column, tally in counts if column.moves_from is not None)
    others = sum(tally.others + tally.damaged for _, tally in counts)
    return StaleReport(uses, others - old, sum(tally.null for _, tally in counts), old)


def _newest_ids(rows: Iterable[KeyRow]) -> set[bytes]:
    newest: dict[tuple[tuple[str, str], ...], KeyRow] = {}
    for row in rows:
        scope = tuple(sorted(row.scope.items()))
        if row.claim is not None and (scope not in newest or row.claim > (newest[scope].claim or 0)):
            newest[scope] = row
    return {row.key_id for row in newest.values()}


def reseal(
    records: Records,
    database: Database,
    columns: Columns,
    *,
    journal: str | os.PathLike[str] | None = None,
    rate: float | None = None,
    throttle_lag: float | None = None,
    settle: float = 120.0,
    to: OldForm | None = None,
    on_progress: OnProgress | None = None,
    on_wait: Callable[[float], None] | None = None,
) -> ResealReport:
    """Seal every record again that is not under the newest data key of its scope, while the application goes on.

    Values of the form that a column moves from become records too. The first one of a scope may need its first data
    key, which is made if another scope with the same names, and the pairs that all records share, has one.

    A record is replaced only if its row still has the old one, so no update is lost. Then the records are counted
    twice, ``settle`` seconds apart, because other processes may go on to seal under an older key for a while; if a
    count finds such records, there is another pass. At the end, indexes that are NULL are filled.

    Args:
        records: the scopes; its fields are made from the columns.
        database: where the columns are: a SQLAlchemy ``Engine`` or a URL.
        columns: the columns.
        journal: a file that remembers how far it has come; a call with the same file goes on there, and deletes it at
            the end.
        rate: rows per second, at most.
        throttle_lag: wait while a replica of a PostgreSQL database is behind by more than these seconds.
        settle: seconds between the two counts: more than the longest ``recheck`` of any process that seals, and than
            its longest transaction.
        to: the way out: make every record a value of this form instead, and leave indexes alone. What the application
            writes must be of this form already, ``Moving(..., writes="old")``.
        on_progress: called with the counts after each page of rows.
        on_wait: called with ``settle`` before each time that it waits so long.

    Returns:
        What was done, what is left, and which data keys are not in use any more.

    Raises:
        ValueError: the columns do not fit the scope of ``records``, a number is out of range, or records are to move
            out of columns into which programs write records.
        TableError: a table cannot be read or changed, is not as its column says, has a column that is too short for its
            records, or one from which no record opens where values are to move. What was done is kept.
        KmsError, KeyStoreError: a data key cannot be loaded for now.
        FileError: the journal cannot be read or written.

    IAM: kms:Decrypt; kms:GenerateDataKey too, where values move into scopes without a data key, or indexes are filled
    that have no index key.
    """
    if settle < 0 or (rate is not None and rate <= 0) or (throttle_lag is not None and throttle_lag < 0):
        raise ValueError("settle and throttle_lag are seconds from 0 on, and rate is above 0")
    check_scopes(records, columns)
    if to is not None:
        check_writes(columns)
    with connected(database) as engine:
        tables = [SealedTable(engine, column) for column in columns]
        run = _Run(records, tables, Pace(rate, throttle_lag), to, on_progress, on_wait)
        forms = [column.moves_from for column in columns]
        names = [None if form is None else form.name for form in forms]
        if to is not None:
            _log.warning("moving the records of %s to %s", ", ".join(column.named for column in columns), to.name)
            names = [f"to {to.name}"] * len(columns)
        log = ResealJournal(journal, shown_url(engine.url), [column.named for column in columns], names)
        report = run.whole(log, settle)
        indexes = (
            []
            if to is not None
            else [
                fill(records, engine, column, index, Pace(rate, throttle_lag))
                for column in columns
                for index in column.indexes
            ]
        )
        log.remove()
        return replace(report, indexes=tuple(indexes))


def verify(
    records: Records,
    database: Database,
    columns: Columns,
    *,
    rate: float | None = None,
    on_progress: Callable[[Sequence[VerifyCounts]], None] | None = None,
) -> RecordsVerifyReport:
    """Open every record, and say which ones do not open; read values of the form that a column moves from, too.

    Args:
        records: the scopes; its fields are made from the columns.
        database: where the columns are: a SQLAlchemy ``Engine`` or a URL.
        columns: the columns.
        rate: rows per second, at most.
        on_progress: called with the counts after each page of rows.

    Returns:
        The counts, and the records that did not open.

    Raises:
        ValueError: the columns do not fit the scope of ``records``.
        TableError: a table cannot be read, or is not as its column says.
        KmsError, KeyStoreError: a data key cannot be loaded for now.

    IAM: kms:Decrypt.
    """
    check_scopes(records, columns)
    with connected(database) as engine:
        tables = [SealedTable(engine, column) for column in columns]
        counts = [VerifyCounts(column.named) for column in columns]
        pace, failures = Pace(rate, None), Failures()
        for table, count in zip(tables, counts, strict=True):
            scopes = Scopes(records, table.column, sealing=False)
            old = None if table.column.moves_from is None else OldValues(table)
            for items in pages(table, None, pace):
                for group in groups(scopes, items, count, table, failures, old):
                    values = opened(group.scope, group.records, table, failures)
                    count.opened += len(values)
                    count.unopened += len(group.records) - len(values)
                    if old is not None:
                        read = read_old(old, group.old, table, failures)
                        count.old += len(read)
                        count.unmoved += len(group.old) - len(read)
                if on_progress is not None:
                    on_progress(counts)
                pace.wait(len(items))
        return RecordsVerifyReport(tuple(counts), tuple(failures.first), failures.refused)


# --- a run


class _Run:
    def __init__(
        self,
        records: Records,
        tables: Sequence[SealedTable],
        pace: Pace,
        to: OldForm | None,
        on_progress: OnProgress | None,
        on_wait: Callable[[float], None] | None,
    ) -> None:
        self._records = records
        self._tables = tables
        self._pace = pace
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._failures = Failures()
        self._out = to is not None
        walks = [functools.partial(pages, table, None, Pace(None, None)) for table in tables]
        # All of them before anything is changed.
        self._old: list[OldValues | None] = []
        self._new: list[NewValues | None] = []
        for table, walk in zip(tables, walks, strict=True):
            self._new.append(None if to is None else NewValues(table, to))
            if to is not None:
                check_null(table, table.value)
            # While the old form is written, an older version may still read it.
            moves = to is None and table.column.moves_from is not None and table.column.writes != "old"
            self._old.append(values := OldValues(table) if moves else None)
            if values is not None:
                check_columns(table, values, walk)
                check_map(records, table)
        for table in tables:
            pace.check(table)

    def whole(self, log: ResealJournal, settle: float) -> ResealReport:
        counts = [position.counts for position in log.positions]
        scope = self._records._kms_scope({})
        # Of a pass that another run began, this one does not see what that has done.
        resumed = any(position.done or position.after is not None for position in log.positions)
        while True:
            before = _changed(counts)
            self._failures = Failures()
            for number, position in enumerate(log.positions):
                self._pass(number, position, lambda: self._told(log, counts))
            log.write(now=True)
            first = _counted(self._records.store, scope, self._tables)
            if self._on_wait is not None:
                self._on_wait(settle)
            time.sleep(settle)
            second = _counted(self._records.store, scope, self._tables)
            # What cannot be opened or moved is no reason to walk through everything again.
            if self._todo(first) == self._todo(second) and self._is_done(second, counts):
                break
            if not (_changed(counts) - before or resumed) or log.passes >= _MOST_PASSES:
                break
            log.next_pass()
            resumed = False
        return ResealReport(
            tuple(replace(count) for count in counts),
            log.passes,
            0 if self._out else second.stale,
            tuple(self._retirable(scope, first, second)),
            tuple(self._failures.first),
            self._failures.refused,
            self._todo(second)[1],
            self._next_steps(self._todo(first), self._todo(second), counts),
        )

    def _todo(self, report: StaleReport) -> tuple[int, int]:
        """Return how many records are under older keys, and how many values are to be moved."""
        return (0, report.records) if self._out else (report.stale, report.old)

    def _is_done(self, report: StaleReport, counts: Sequence[ResealCounts]) -> bool:
        unopened, unmoved = sum(count.unopened for count in counts), sum(count.unmoved for count in counts)
        stale, left = self._todo(report)
        return stale in (0, unopened) and left in (0, unopened + unmoved if self._out else unmoved)

    def _next_steps(
        self, first: tuple[int, int], second: tuple[int, int], counts: Sequence[ResealCounts]
    ) -> dict[str, str]:
        if first[1] or second[1] or any(count.unmoved for count in counts):
            return {}
        moved = [table for table, old in zip(self._tables, self._old, strict=True) if old is not None]
        return {table.column.named: next_step(table) for table in moved}

    def _told(self, log: ResealJournal, counts: Sequence[ResealCounts]) -> None:
        log.write()
        if self._on_progress is not None:
            self._on_progress(counts)

    def _pass(self, number: int, position: Position, told: Callable[[], None]) -> None:
        if position.done:
            return
        table = self._tables[number]
        scopes = Scopes(self._records, table.column, sealing=not self._out)
        for items in pages(table, position.after, self._pace):
            # The counts of a page count together with its position, so that the journal has both or none.
            counts = replace(position.counts)
            found = groups(scopes, items, counts, table, self._failures, self._old[number])
            new = self._new[number]
            if new is not None:
                self._move_out(table, found, new, counts)
            else:
                self._seal(table, found, self._old[number], counts)
            position.counts.become(counts)
            position.after = items[-1].key
            told()
            self._pace.wait(len(items))
            self._pace.check(table)
        position.done = True

    def _seal(self, table: SealedTable, found: Sequence[Group], old: OldValues | None, counts: ResealCounts) -> None:
        changes: list[Change] = []
        moves: list[Change] = []
        for group in found:
            scope = group.scope
            try:
                stale = [(item, key_id) for item, key_id in group.records if key_id != scope.newest(item.row)]
                values = opened(scope, stale, table, self._failures)
                made = sealed(scope, values, text=table.text) if values else []
                read = read_old(old, group.old, table, self._failures) if old is not None else []
                moving = sealed_old(scope, read, old, table, self._failures) if old is not None else []
            except SealwaxError as error:
                if is_passing(error):
                    raise
                self._refuse(group, table, reason_of(error), counts)  # it was shredded meanwhile
                continue
            counts.newest += len(group.records) - len(stale)
            counts.unopened += len(stale) - len(values)
            counts.unmoved += len(group.old) - len(moving)
            changes += [Change(item.key, item.value, new) for (item, _), new in zip(values, made, strict=True)]  # type: ignore[arg-type]
            moves += moving
        resealed = table.replace(changes) if changes else 0
        moved = table.move(moves) if moves else 0
        counts.resealed += resealed
        counts.moved += moved
        counts.changed += len(changes) - resealed + len(moves) - moved

    def _move_out(self, table: SealedTable, found: Sequence[Group], new: NewValues, counts: ResealCounts) -> None:
        moves: list[Change] = []
        for group in found:
            values = opened(group.scope, group.records, table, self._failures)
            counts.unopened += len(group.records) - len(values)
            for item, value in values:
                try:
                    moves.append(Change(item.key, item.value, new.write(value)))  # type: ignore[arg-type]
                except OldFormError as error:
                    counts.unmoved += 1
                    self._failures.add(table, item, Reason(str(error)))
        moved = table.move_out(moves) if moves else 0
        counts.moved += moved
        counts.changed += len(moves) - moved

    def _refuse(self, group: Group, table: SealedTable, reason: Reason, counts: ResealCounts) -> None:
        group.scope.refused = reason
        counts.unopened += len(group.records)
        counts.unmoved += len(group.old)
        for item in (*(item for item, _ in group.records), *group.old):
            self._failures.add(table, item, reason)

    def _retirable(self, scope: Mapping[str, str], first: StaleReport, second: StaleReport) -> Iterator[KeyRow]:
        used = self._failures.other_form | {use.key_id for report in (first, second) for use in report.uses}
        # The store may have keys of other tables, whose scopes have other pairs.
        names = [
            self._records._kms_scope(dict.fromkeys(table.column.scope.keys() - scope.keys(), "")).keys()
            for table in self._tables
        ]
        rows = [row for row in self._records.store.list(scope) if row.kind is KeyKind.DATA]
        newest = _newest_ids(rows)
        for row in rows:
            counts = row.state is KeyState.LIVE and row.claim is not None and row.scope.keys() in names
            if counts and row.key_id not in used | newest:
                yield row


def _changed(counts: Sequence[ResealCounts]) -> int:
    return sum(count.resealed + count.moved + count.changed for count in counts)
