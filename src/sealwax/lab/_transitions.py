"""Transitions of a key over time: deletion, expiry of imported material, automatic rotation.

Nothing runs in the background. A key is brought up to date when it is read, with the times at which each transition was
due.
"""

from __future__ import annotations

from dataclasses import replace

from sealwax.lab._model import ENABLED, PENDING_DELETION, PENDING_IMPORT, PENDING_REPLICA_DELETION, KeyRecord
from sealwax.lab._records import KeyRecords
from sealwax.lab._rotate import DAY, rotate


def settle(records: KeyRecords, key: KeyRecord, now: float) -> KeyRecord | None:
    """The key in its state at ``now``, or None if it has been deleted by then."""
    if key.state == PENDING_DELETION and key.deletion_date is not None and key.deletion_date <= now:
        _delete(records, key)
        return None
    if any(material.expires is not None and material.expires <= now for material in key.materials):
        key = _expire(records, key, now)
    if key.rotation_next is not None and key.rotation_next <= now and key.state == ENABLED:
        key = _rotate(records, key, now)
    return key


def _delete(records: KeyRecords, key: KeyRecord) -> None:
    with records.change():
        records.delete_key(key)
        if key.multi_region is None or key.deletion_date is None:
            return
        remaining = records.regions_of(key.account, key.key_id)
        if len(remaining) != 1:
            return
        primary = records.key(key.account, remaining[0], key.key_id)
        if primary is not None and primary.state == PENDING_REPLICA_DELETION and primary.pending_window is not None:
            due = key.deletion_date + primary.pending_window * DAY
            records.put_key(replace(primary, state=PENDING_DELETION, deletion_date=due))


def _expire(records: KeyRecords, key: KeyRecord, now: float) -> KeyRecord:
    with records.change():
        for material in key.materials:
            if material.expires is not None and material.expires <= now:
                records.put_material(key, replace(material, secret=None, expires=None))
        if key.state not in (PENDING_DELETION, PENDING_REPLICA_DELETION):
            records.put_key(replace(key, state=PENDING_IMPORT))
        return records.key(key.account, key.region, key.key_id) or key


def _rotate(records: KeyRecords, key: KeyRecord, now: float) -> KeyRecord:
    with records.change():
        current = records.key(key.account, key.region, key.key_id)
        # One rotation per date that has passed, unless another process did it.
        while current is not None and current.rotation_next is not None and current.rotation_next <= now:
            rotate(records, current, current.rotation_next, "AUTOMATIC")
            current = records.key(key.account, key.region, key.key_id)
        return current or key
