"""What walks through a column of records: pages at a pace, the fields of the scopes, and opening what is there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast

from sealwax._core import context as ctx
from sealwax._text import printable
from sealwax.errors import (
    AccessDeniedError,
    AllKeysFailedError,
    ContextError,
    KeyRowError,
    KeyStateError,
    KeyStoreError,
    KmsError,
    NotARecordError,
    OldFormError,
    SealwaxError,
    TableError,
    WrappedKeyRefusedError,
    WrongKeyError,
)
from sealwax.records import _form
from sealwax.records._columns import SealedColumn
from sealwax.records._field import Field
from sealwax.records._journal import ResealCounts
from sealwax.records._moves import OldValues, too_long
from sealwax.records._records import Records
from sealwax.records._rows import Row, Unbound
from sealwax.records._sealed_table import ColumnValue, SealedTable
from sealwax.records._store import KeyKind, KeyState
from sealwax.records._value_swap import Change, Key
from sealwax.records._values import Value

_FIRST_PAGE: Final = 50
_LARGEST_PAGE: Final = 1000
_PAGE_BYTES: Final = 4 << 20
# Scopes that are at hand at once, each with a field of its own.
_MOST_SCOPES: Final = 1000
_MOST_FAILURES: Final = 1000
_LAG_SECONDS: Final = 1.0
# What is wrong with one KMS key or one data key: other records may open. A key that does not exist or is not allowed is
# a mistake of the caller.
_OF_ONE_KEY: Final = (
    AccessDeniedError,
    AllKeysFailedError,
    KeyStateError,
    WrappedKeyRefusedError,
    WrongKeyError,
)

Record = bytes | str
Pairs = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class RowFailure:
    """A record that could not be opened, or a value that could not be moved.

    Attributes:
        column: the name of its column.
        key: the primary key of its row.
        reason: why; it holds no part of the value.
    """

    column: str
    key: tuple[object, ...]
    reason: str


@dataclass(slots=True)
class VerifyCounts:
    """What became of the values of one column.

    Attributes:
        column: its name.
        rows: rows that were looked at.
        opened: records that were opened.
        null: rows without a value.
        not_records: values that do not have the form of a record.
        unopened: records that could not be opened.
        old: values of the form that the column moves from, which can be read.
        unmoved: values that could not be moved.
    """

    column: str
    rows: int = 0
    opened: int = 0
    null: int = 0
    not_records: int = 0
    unopened: int = 0
    old: int = 0
    unmoved: int = 0


# --- pages


class Pace:
    """Keeps to a rate, and waits for replicas."""

    def __init__(self, rate: float | None, lag: float | None) -> None:
        self._rate = rate
        self._lag = lag
        self._began = self._checked = time.monotonic()
        self._rows = 0

    @property
    def most(self) -> int:
        """How many rows to read at once."""
        return _LARGEST_PAGE if self._rate is None else max(1, min(_LARGEST_PAGE, int(self._rate)))

    def wait(self, rows: int) -> None:
        self._rows += rows
        if self._rate is not None:
            time.sleep(max(0.0, self._began + self._rows / self._rate - time.monotonic()))

    def check(self, table: SealedTable) -> None:
        """Wait while a replica is too far behind; look once a second."""
        if self._lag is None or (self._rows and time.monotonic() - self._checked < _LAG_SECONDS):
            return
        while (lag := table.lag()) is None or lag > self._lag:
            if lag is None:
                raise TableError(
                    f"the database of {table.column.named} does not show how far its replicas are behind: that needs "
                    "PostgreSQL, and the role pg_monitor"
                )
            time.sleep(_LAG_SECONDS)
        self._checked = time.monotonic()


def pages(table: SealedTable, after: Key | None, pace: Pace) -> Iterator[list[ColumnValue]]:
    """Yield the rows of a table; a page is smaller if its values are large."""
    count = min(_FIRST_PAGE, pace.most)
    while items := table.page(after, count, _PAGE_BYTES):
        yield items
        after = items[-1].key
        count = min(2 * count, pace.most)


# --- scopes


def check_scopes(records: Records, columns: Iterable[SealedColumn]) -> None:
    """Refuse columns whose scopes these Records cannot have, whatever is in their rows.

    Raises:
        ValueError: a pair is given twice, or no column has one that ``local_scope`` names.
    """
    for column in columns:
        if twice := sorted(records._kms_scope({}).keys() & column.scope.keys()):
            raise ValueError(
                f"the pair '{printable(twice[0])}' is in the scope that all records share and, in the map of fields, "
                f"in a column of {column.named}; leave it out of one of them"
            )
        try:
            scope, local = records._split(dict.fromkeys(column.scope, ""))
            ctx.encode(scope)
            ctx.encode(local)
        except (ContextError, ValueError) as error:
            raise ValueError(f"no record of {column.named} can have its scope: {error}") from None


RecordItems = list[tuple[ColumnValue, bytes]]
"""Records, with their key ids."""


class Reason(NamedTuple):
    """Why a record could not be opened; and whether KMS, or the keyring, has refused its data key."""

    text: str
    by_kms: bool = False


class FieldOfScope:
    """A field of one scope; or why there is none."""

    def __init__(self, field_: Field | None, refused: Reason | None = None, *, keyless: bool = False) -> None:
        self.field = field_
        self.refused = refused
        self.keyless = keyless
        self.failed: dict[bytes, Reason] = {}

    def newest(self, row: Row | Unbound | None) -> bytes:
        """Return the id of the key that seals now: whatever the field seals begins with it."""
        assert self.field is not None
        assert row is not None
        return self.field.seal(b"", row=row)[1 : _form.ID_END]


class Group(NamedTuple):
    """Values of one scope.

    Attributes:
        scope: the field, or why there is none.
        records: its records.
        old: its values of the form that the column moves from.
    """

    scope: FieldOfScope
    records: RecordItems
    old: list[ColumnValue]


@dataclass(slots=True)
class Failures:
    """What could not be opened.

    Attributes:
        first: the first of them.
        other_form: ids of the keys of records in the form that a count by the database does not look for.
        refused: how many could not be opened because KMS, or the keyring, refused their data key.
        total: how many there are.
    """

    first: list[RowFailure] = field(default_factory=list)
    other_form: set[bytes] = field(default_factory=set)
    refused: int = 0
    total: int = 0

    def add(self, table: SealedTable, item: ColumnValue, reason: Reason) -> None:
        self.refused += reason.by_kms
        self.total += 1
        if len(self.first) < _MOST_FAILURES:
            self.first.append(RowFailure(table.column.named, item.key, reason.text))


class Scopes:
    """The fields of one column, by the values of its scope columns."""

    def __init__(self, records: Records, column: SealedColumn, *, sealing: bool) -> None:
        self._records = records
        self._column = column
        self._sealing = sealing
        self._scopes: dict[Pairs, FieldOfScope] = {}
        self._known: bool | None = None

    def of(self, pairs: Pairs, row: Row | Unbound, *, for_old: bool = False) -> FieldOfScope:
        """Return the field of a scope; for a value of an old form, a scope without a data key may get its first one."""
        scope = self._scopes.get(pairs)
        if scope is None or (scope.keyless and for_old):
            if len(self._scopes) >= _MOST_SCOPES:
                self._scopes.clear()
            scope = self._scopes[pairs] = self._made(pairs, row, for_old and self._sealing)
            scope.keyless = scope.keyless and not for_old
        return scope

    def _made(self, values: Pairs, row: Row | Unbound, first_key: bool) -> FieldOfScope:
        pairs = {name: value for name, value in zip(self._column.scope, values, strict=True) if value is not None}
        if len(pairs) < len(values):
            return FieldOfScope(None, Reason("a column of its scope is NULL"))
        try:
            scope = self._records._kms_scope(pairs)
            newest = self._records.store.newest(scope, KeyKind.DATA)
            if newest is None and first_key and self._is_known(scope.keys()):
                self._records.ensure(**pairs)
                newest = self._records.store.newest(scope, KeyKind.DATA)
            # Asked before anything is sealed: a mistaken scope must not get a key.
            if newest is None:
                reason = f"the key store has no data key for its scope {_shown(scope)}"
                if first_key:
                    reason += (
                        ", and none for any with these names: if the pairs are right, make the first one with ensure()"
                    )
                return FieldOfScope(None, Reason(reason), keyless=True)
            if newest.state is KeyState.SHREDDED:
                return FieldOfScope(None, Reason(f"the data keys of its scope {_shown(scope)} were shredded"))
            made = FieldOfScope(self._records.field(self._column.field, row=self._column.row_type, **pairs))
            if self._sealing and made.newest(row) != newest.key_id:
                # Another process has rolled, and these Records have not seen it yet.
                self._records._ring(scope, KeyKind.DATA).load_all()
        except SealwaxError as error:
            if is_passing(error):
                raise
            return FieldOfScope(None, reason_of(error))
        return made

    def _is_known(self, names: Set[str]) -> bool:
        """Whether a scope with these names, and the pairs that all records share, has a data key, so none is a mistake.

        With a pair too few, too many, or not known to be local, it would be another scope than that of the programs.
        """
        if self._known is None:
            rows = self._records.store.list(self._records._kms_scope({}))
            live = (row for row in rows if row.kind is KeyKind.DATA and row.state is KeyState.LIVE)
            self._known = any(row.scope.keys() == names for row in live)
        return self._known


def groups(
    scopes: Scopes,
    items: Sequence[ColumnValue],
    counts: ResealCounts | VerifyCounts,
    table: SealedTable,
    failures: Failures,
    old: OldValues | None,
) -> list[Group]:
    """Return the values of a page by their scopes, and count what is none, or has no scope."""
    groups: dict[Pairs, Group] = {}
    counts.rows += len(items)
    for item in items:
        is_old = old is not None and old.has(item)
        key_id = b"" if is_old else _record_in(item, counts, table, failures, old)
        if key_id is None:
            continue
        row = item.row
        refused = Reason("a column of its row is NULL")
        if row is not None:
            group = groups.get(item.pairs)
            if group is None or (is_old and group.scope.keyless):
                group = groups[item.pairs] = Group(scopes.of(item.pairs, row, for_old=is_old), [], [])
            if group.scope.refused is None:
                if is_old:
                    group.old.append(item)
                else:
                    group.records.append((item, key_id))
                continue
            refused = group.scope.refused
        if is_old:
            counts.unmoved += 1
        else:
            counts.unopened += 1
        failures.add(table, item, refused)
    return [group for group in groups.values() if group.records or group.old]


def _record_in(
    item: ColumnValue,
    counts: ResealCounts | VerifyCounts,
    table: SealedTable,
    failures: Failures,
    old: OldValues | None,
) -> bytes | None:
    """Return the key id of the record in a row; None if there is none, which is counted."""
    value = item.value
    if item.old is not None:
        if value is None:
            counts.not_records += 1  # it is where it should be: values move out
            return None
        counts.unmoved += 1
        failures.add(table, item, Reason("both columns have a value, and only one of them can be right"))
    if value is None:
        counts.null += 1
        return None
    key_id = _key_id(value, text=table.text)
    if key_id is not None:
        return key_id
    other = _in_other_form(value, text=table.text)
    if other is not None:
        counts.unopened += 1
        failures.other_form.add(other)
        form = "bytes, and the column is of text" if table.text else "text, and the column is of bytes"
        failures.add(table, item, Reason(f"it is a record in {form}"))
    elif old is not None and item.old is None and table.column.moved_from is None:
        counts.unmoved += 1
        failures.add(table, item, Reason("it begins as a record does, but is not one"))
    else:
        counts.not_records += 1
    return None


def _key_id(value: object, *, text: bool) -> bytes | None:
    if isinstance(value, str) != text or not _form.is_record(value):
        return None
    if isinstance(value, str):
        try:
            return _form.key_id_of(value)
        except ValueError:
            return b""  # it has the form's beginning, so it is a damaged record
    return bytes(cast("bytes", value)[1 : _form.ID_END])


def _in_other_form(value: object, *, text: bool) -> bytes | None:
    """Return the key id of a record that stands in bytes in a column of text, or the other way around."""
    if not text and isinstance(value, bytes) and value.startswith(_form.TEXT_START.encode()):
        value = value.decode("ascii", "replace")
    try:
        return _form.parse(value).key_id if isinstance(value, bytes if text else str) else None
    except NotARecordError:
        return None


# --- opening and sealing


def opened(
    scope: FieldOfScope, group: RecordItems, table: SealedTable, failures: Failures
) -> list[tuple[ColumnValue, Value]]:
    """Open records; those that do not open are noted, and left out."""
    assert scope.field is not None
    values = None
    if not any(key_id in scope.failed for _, key_id in group):
        try:
            rows = [cast("Row", item.row) for item, _ in group]
            unbound = isinstance(table.column.row, Unbound)
            values = scope.field.open_many(
                [cast("Record", item.value) for item, _ in group],
                rows=table.column.row if unbound else rows,  # type: ignore[arg-type]
            )
        except (SealwaxError, ValueError) as error:
            if is_passing(error):
                raise
    if values is not None:
        return [(item, value) for (item, _), value in zip(group, values, strict=True)]
    opened = []
    for item, key_id in group:
        reason = scope.failed.get(key_id)
        if reason is None:
            try:
                opened.append((item, scope.field.open(cast("Record", item.value), row=cast("Row", item.row))))
                continue
            except (SealwaxError, ValueError) as error:
                if is_passing(error):
                    raise
                reason = reason_of(error)
                if isinstance(error, KmsError | KeyRowError):
                    scope.failed[key_id] = reason  # the same for every record under this key
        failures.add(table, item, reason)
    return opened


def read_old(
    values: OldValues, items: Sequence[ColumnValue], table: SealedTable, failures: Failures
) -> list[tuple[ColumnValue, Value]]:
    """Read values of an old form; those that cannot be read are noted, and left out."""
    read = []
    for item in items:
        try:
            read.append((item, values.read(item)))
        except OldFormError as error:
            failures.add(table, item, reason_of(error))
    return read


def sealed(scope: FieldOfScope, values: Sequence[tuple[ColumnValue, Value]], *, text: bool) -> list[Record]:
    """Seal values for their rows."""
    assert scope.field is not None
    rows = [item.row for item, _ in values]
    unbound = next((row for row in rows if isinstance(row, Unbound)), None)
    records = scope.field.seal_many([value for _, value in values], rows=unbound or cast("list[Row]", rows))
    return [_form.to_text(record) for record in records] if text else list(records)


def sealed_old(
    scope: FieldOfScope,
    values: Sequence[tuple[ColumnValue, Value]],
    old: OldValues,
    table: SealedTable,
    failures: Failures,
) -> list[Change]:
    """Seal values of an old form; those that no record can hold, or the column, are noted and left out."""
    changes = []
    try:
        records: Iterable[Record | Reason] = sealed(scope, values, text=table.text) if values else []
    except (TypeError, ValueError):
        records = [_sealed_one(scope, each, text=table.text) for each in values]
    for (item, _), record in zip(values, records, strict=True):
        if not isinstance(record, Reason) and (excess := too_long(table.value, record)) is not None:
            record = Reason(f"its record {excess}")
        if isinstance(record, Reason):
            failures.add(table, item, record)
        else:
            changes.append(Change(item.key, old.witness(item), record))
    return changes


def _sealed_one(scope: FieldOfScope, value: tuple[ColumnValue, Value], *, text: bool) -> Record | Reason:
    try:
        return sealed(scope, [value], text=text)[0]
    except (TypeError, ValueError) as error:
        return reason_of(error)


def reason_of(error: Exception) -> Reason:
    return Reason(str(error), isinstance(error, KmsError))


def is_passing(error: Exception) -> bool:
    """Whether a failure is none of the record or its key: the same record may open later."""
    if isinstance(error, KmsError):
        return error.retryable or not isinstance(error, _OF_ONE_KEY)
    return isinstance(error, KeyStoreError)


def _shown(scope: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}={value}" for name, value in sorted(scope.items())) + "}"
