"""Key material: made, named, and found again."""

from __future__ import annotations

import hashlib
import os

from sealwax.lab._model import CURRENT, Key, Material

MATERIAL_BYTES = 32


def material_id(account: str, key_id: str, secret: bytes) -> str:
    """The 64 hexadecimal digits that tell materials apart: the same material of the same key has the same id.

    The material is 256 random bits, so a digest of it gives nothing away.
    """
    digest = hashlib.sha256(b"sealwax lab key material\x00")
    digest.update(f"{account} {key_id}\x00".encode())
    digest.update(secret)
    return digest.hexdigest()


def new_material(key: Key, *, number: int, now: float, rotation_type: str | None = None) -> Material:
    """Fresh random material for a key that KMS makes the material of."""
    secret = os.urandom(MATERIAL_BYTES)
    return Material(
        material_id=material_id(key.account, key.key_id, secret),
        number=number,
        secret=secret,
        state=CURRENT,
        created=now,
        rotation_type=rotation_type,
        description=None,
        expires=None,
    )
