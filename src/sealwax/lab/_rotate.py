"""Rotation of a key and its replicas in other Regions to new key material."""

from __future__ import annotations

from dataclasses import replace

from sealwax.lab._materials import new_material
from sealwax.lab._model import CURRENT, NON_CURRENT, KeyRecord, MaterialRecord
from sealwax.lab._records import KeyRecords

DAY = 86400


def family(records: KeyRecords, key: KeyRecord) -> list[KeyRecord]:
    """The key as stored in each of its Regions; more than one only for a multi-Region key."""
    regions = records.regions_of(key.account, key.key_id)
    members = [records.key(key.account, region, key.key_id) for region in regions]
    return [member for member in members if member is not None]


def rotate(records: KeyRecords, key: KeyRecord, now: float, rotation_type: str) -> None:
    """Give a key and its replicas new material. The caller holds a transaction."""
    number = 1 + max((material.number for material in key.materials), default=0)
    make_current(records, key, new_material(key, number=number, now=now, rotation_type=rotation_type))


def make_current(records: KeyRecords, key: KeyRecord, material: MaterialRecord) -> None:
    """Make a material current for a key and its replicas. The caller holds a transaction."""
    for member in family(records, key):
        for old in member.materials:
            if old.state == CURRENT and old.material_id != material.material_id:
                records.put_material(member, replace(old, state=NON_CURRENT))
        # Imported material can have another expiry in each Region.
        copy = member.material(material.material_id) or material
        dated = replace(copy, state=CURRENT, created=material.created, rotation_type=material.rotation_type)
        records.put_material(member, dated)
        rotation_next = member.rotation_next
        if member.rotation_period is not None and material.rotation_type == "AUTOMATIC":
            rotation_next = material.created + member.rotation_period * DAY
        records.put_key(replace(member, current_material=material.material_id, rotation_next=rotation_next))
