"""What a record is, and which data key made it: for somebody who finds one that does not open."""

from __future__ import annotations

from dataclasses import dataclass

from sealwax.records import _form
from sealwax.records._store import KeyRow, KeyStore


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is known of a record without opening it.

    Attributes:
        text: whether it is in the text form.
        size: the bytes of its binary form, 57 more than the type and the value.
        key_id: the 16 bytes that name its data key.
        row: the row of that key, with its scope, generation and state; None if the key store does not have it.
        newest: whether new records are sealed under the same key.
    """

    text: bool
    size: int
    key_id: bytes
    row: KeyRow | None
    newest: bool


def explain(store: KeyStore, record: bytes | bytearray | memoryview | str) -> Explanation:
    """Return what is known of a record; this reads all rows of the store.

    Raises:
        NotARecordError: it does not have the form of a record.
        KeyStoreError: the store cannot be read.
    """
    parts = _form.parse(record)
    row = next((row for row in store.list() if row.key_id == parts.key_id), None)
    newest = None if row is None else store.newest(row.scope, row.kind)
    is_newest = newest is not None and newest.key_id == parts.key_id
    return Explanation(parts.text, len(parts.binary), parts.key_id, row, is_newest)
