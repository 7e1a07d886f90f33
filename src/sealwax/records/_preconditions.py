"""What must be so before values move: else the programs could not open what they find."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Set
from typing import Final, cast

from sealwax.errors import NotARecordError, TableError
from sealwax.records import _form
from sealwax.records._columns import SealedColumn
from sealwax.records._records import Records
from sealwax.records._sealed_table import SealedTable
from sealwax.records._store import KeyKind, KeyState
from sealwax.records._walk import Failures, Scopes, VerifyCounts, groups, opened

_SAMPLE: Final = 20


def check_writes(columns: Iterable[SealedColumn]) -> None:
    """Refuse to move records out of columns into which programs go on to write records.

    Raises:
        ValueError: there is one.
    """
    for column in columns:
        if column.writes == "records":
            raise ValueError(
                f"records cannot move out of {column.named} while the models write records there, and do not read what "
                'they would become: deploy Moving(..., writes="old") everywhere first'
            )


def check_map(records: Records, table: SealedTable) -> None:
    """Refuse to move values in a way that programs could not open, by the records that they have written.

    Raises:
        TableError: there are records, under data keys of the store, and none of the first ones opens.
    """
    items = table.first_records(_SAMPLE)
    failures = Failures()
    scopes = Scopes(records, table.column, sealing=False)
    found = groups(scopes, items, VerifyCounts(table.column.named), table, failures, None)
    if any(opened(group.scope, group.records, table, failures) for group in found) or failures.refused:
        return
    rows = records.store.list({})  # of any scope: that of these Records may be the mistake
    live = {row.key_id for row in rows if row.kind is KeyKind.DATA and row.state is KeyState.LIVE}
    if any(_is_under(item.value, live) for item in items):
        raise TableError(
            f"none of the first records that {table.column.named} has opens, so programs could not open what would be "
            "sealed either; correct its row, scope or field in the map of fields, or the pairs that all records share. "
            "Nothing was changed. The first one: "
            f"{failures.first[0].reason}"
        )


def _is_under(value: object, key_ids: Set[bytes]) -> bool:
    with contextlib.suppress(NotARecordError):  # what was cut off says nothing
        return _form.parse(cast("bytes | str", value)).key_id in key_ids
    return False
