"""Key material and its ID."""

from __future__ import annotations

import hashlib
import os

from sealwax.lab._model import CURRENT, KeyRecord, MaterialRecord

MATERIAL_BYTES = 32


def material_id(account: str, key_id: str, secret: bytes) -> str:
    """The ID of key material, 64 hexadecimal digits; the same material of the same key has the same ID.

    The material is 256 random bits, so its digest reveals nothing.
    """
    digest = hashlib.sha256(b"sealwax lab key material\x00")
    digest.update(f"{account} {key_id}\x00".encode())
    digest.update(secret)
    return digest.hexdigest()


def new_material(key: KeyRecord, *, number: int, now: float, rotation_type: str | None = None) -> MaterialRecord:
    """New random material, which is current."""
    secret = os.urandom(MATERIAL_BYTES)
    return MaterialRecord(
        material_id=material_id(key.account, key.key_id, secret),
        number=number,
        secret=secret,
        state=CURRENT,
        created=now,
        rotation_type=rotation_type,
        description=None,
        expires=None,
    )
