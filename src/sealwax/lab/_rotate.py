"""Rotation: a key gets new current material, and every Region's copy of a multi-Region key gets the same."""

from __future__ import annotations

from dataclasses import replace

from sealwax.lab._materials import new_material
from sealwax.lab._model import CURRENT, NON_CURRENT, Key, Material
from sealwax.lab._records import Records

DAY = 86400


def family(records: Records, key: Key) -> list[Key]:
    """The key as it is recorded now in every Region that has it; one for a key that is no multi-Region key."""
    regions = records.regions_of(key.account, key.key_id)
    members = [records.key(key.account, region, key.key_id) for region in regions]
    return [member for member in members if member is not None]


def rotate(records: Records, key: Key, now: float, rotation_type: str) -> None:
    """Give a key and its replicas fresh material. Runs inside a transaction of the caller's."""
    number = 1 + max((material.number for material in key.materials), default=0)
    make_current(records, key, new_material(key, number=number, now=now, rotation_type=rotation_type))


def make_current(records: Records, key: Key, material: Material) -> None:
    """Let a material be the current one of a key and its replicas. Runs inside a transaction of the caller's."""
    for member in family(records, key):
        for old in member.materials:
            if old.state == CURRENT and old.material_id != material.material_id:
                records.put_material(member, replace(old, state=NON_CURRENT))
        # Imported material can have an expiry of its own in each Region.
        held = member.material(material.material_id) or material
        dated = replace(held, state=CURRENT, created=material.created, rotation_type=material.rotation_type)
        records.put_material(member, dated)
        following = None
        if member.rotation_period is not None and material.rotation_type == "AUTOMATIC":
            following = material.created + member.rotation_period * DAY
        records.put_key(
            replace(
                member,
                current_material=material.material_id,
                rotation_next=following if following is not None else member.rotation_next,
            )
        )
