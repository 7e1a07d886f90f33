"""What the clock does to keys: deletion, expiry of imported material, automatic rotation.

Nothing runs in the background. Whoever looks at a key brings it up to date first, so it looks as if it had happened in
time, also after the lab was shut down over the date.
"""

from __future__ import annotations

from dataclasses import replace

from sealwax.lab._model import ENABLED, PENDING_DELETION, PENDING_IMPORT, PENDING_REPLICA_DELETION, UNAVAILABLE, Key
from sealwax.lab._records import Records
from sealwax.lab._rotate import DAY, rotate


def settle(records: Records, key: Key, now: float) -> Key | None:
    """The key as it is at this moment, or None when its waiting time is over and it is gone."""
    if key.state == PENDING_DELETION and key.deletion_date is not None and key.deletion_date <= now:
        _delete(records, key)
        return None
    if key.origin == "EXTERNAL" and any(m.expires is not None and m.expires <= now for m in key.materials):
        key = _expire(records, key, now)
    if key.rotation_next is not None and key.rotation_next <= now and key.state == ENABLED:
        key = _rotate(records, key, now)
    if key.key_store is not None and key.state == ENABLED and not records.key_store_connected(key.key_store):
        # Not stored: the state comes back by itself when the custom key store is connected again.
        key = replace(key, state=UNAVAILABLE)
    return key


def _delete(records: Records, key: Key) -> None:
    with records.change():
        records.delete_key(key)
        if key.multi_region is None or key.deletion_date is None:
            return
        remaining = records.regions_of(key.account, key.key_id)
        if len(remaining) != 1:
            return
        primary = records.key(key.account, remaining[0], key.key_id)
        if primary is not None and primary.state == PENDING_REPLICA_DELETION and primary.pending_window is not None:
            starts = key.deletion_date
            records.put_key(
                replace(primary, state=PENDING_DELETION, deletion_date=starts + primary.pending_window * DAY)
            )


def _expire(records: Records, key: Key, now: float) -> Key:
    with records.change():
        for material in key.materials:
            if material.expires is not None and material.expires <= now:
                records.put_material(key, replace(material, secret=None, expires=None))
        if key.state not in (PENDING_DELETION, PENDING_REPLICA_DELETION):
            records.put_key(replace(key, state=PENDING_IMPORT))
        return records.key(key.account, key.region, key.key_id) or key


def _rotate(records: Records, key: Key, now: float) -> Key:
    with records.change():
        current = records.key(key.account, key.region, key.key_id)
        # One rotation for each date that has passed, unless another process was faster.
        while current is not None and current.rotation_next is not None and current.rotation_next <= now:
            rotate(records, current, current.rotation_next, "AUTOMATIC")
            current = records.key(key.account, key.region, key.key_id)
        return current or key
