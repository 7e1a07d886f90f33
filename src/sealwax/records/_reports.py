"""What the walks through columns of records have found and done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sealwax.records._index_fill import IndexCounts
from sealwax.records._journal import ResealCounts
from sealwax.records._store import KeyRow
from sealwax.records._walk import RowFailure, VerifyCounts


@dataclass(frozen=True, slots=True)
class KeyUse:
    """The records of one column under one data key.

    Attributes:
        column: the name of the column.
        key_id: what the records begin with.
        row: the row of the data key; None if the key store has none with this id.
        newest: whether it is the newest data key of its scope.
        records: how many records there are.
    """

    column: str
    key_id: bytes
    row: KeyRow | None
    newest: bool
    records: int


@dataclass(frozen=True, slots=True)
class StaleReport:
    """Records by data key.

    Attributes:
        uses: one for each column and data key.
        not_records: values that do not have the form of a record.
        null: rows without a value.
        old: values of the form that their column moves from, whether or not they can be read.
        without_index: by the name of each index of the columns, how many rows have a value and no index.
    """

    uses: tuple[KeyUse, ...]
    not_records: int
    null: int
    old: int = 0
    without_index: Mapping[str, int] = field(default_factory=dict)

    @property
    def stale(self) -> int:
        """How many records are not under the newest key of their scope."""
        return sum(use.records for use in self.uses if not use.newest)

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(use.records for use in self.uses)


@dataclass(frozen=True, slots=True)
class ResealReport:
    """What a reseal has done.

    Attributes:
        columns: the counts of each column.
        passes: how often the columns were walked through.
        stale: records that are still not under the newest key of their scope, by the last count.
        retirable: data keys under which two counts found no record in these columns, so that they can be retired if no
            other column has any.
        failures: the first records that could not be opened in the last pass, without those that an earlier call with
            the same journal met; ``verify`` names them all.
        refused: how many of these, beyond the first ones too, have a data key that KMS, or the keyring, has refused.
        left: by the last count, values that are still of the form that their column moves from; if records move out,
            how many records are left.
        next_steps: by the names of columns that have moved as a whole, SQL that keeps them so: a CHECK, or what drops
            the column that they came from.
        indexes: what became of the rows without an index, for each index of the columns.
    """

    columns: tuple[ResealCounts, ...]
    passes: int
    stale: int
    retirable: tuple[KeyRow, ...]
    failures: tuple[RowFailure, ...]
    refused: int
    left: int = 0
    next_steps: Mapping[str, str] = field(default_factory=dict)
    indexes: tuple[IndexCounts, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordsVerifyReport:
    """What opening every record showed.

    Attributes:
        columns: the counts of each column.
        failures: the first 1,000 records that could not be opened.
        refused: how many could not be opened because KMS, or the keyring, refused their data key.
    """

    columns: tuple[VerifyCounts, ...]
    failures: tuple[RowFailure, ...]
    refused: int
