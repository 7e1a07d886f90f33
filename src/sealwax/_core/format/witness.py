"""A witness: a keyed digest that recognizes a plaintext, only for those who can unwrap the data key.

It is the envelope's id, and HMAC-SHA-256 over the plaintext under a key of its own::

    HKDF-Expand-SHA512(DEK, "sealwax/witness/v1" || 00 || info), 32 bytes

A plain digest would confirm a correct guess of the plaintext. A witness says nothing without the data key, and the
witnesses of two envelopes of one plaintext have nothing in common. No part of an envelope depends on it.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.utils import Buffer

from sealwax._core.format.io import refuse_copies
from sealwax._core.format.payload import expand
from sealwax._core.keyring import DataKey, wipe

LABEL: Final = b"sealwax/witness/v1\0"


class Witness:
    """Takes in a plaintext, front to back.

    Args:
        data_key: the envelope's data key; nothing of it is kept.
        envelope_id, info: the envelope's id, and what binds its payload (``payload.info``).
    """

    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(self, data_key: DataKey, envelope_id: bytes, info: bytes) -> None:
        self._envelope_id = envelope_id
        derived = expand(data_key, LABEL + info)
        try:
            with memoryview(derived) as view:
                self._hmac = HMAC(view[:32], hashes.SHA256())
        finally:
            wipe(derived)

    def update(self, plaintext: Buffer) -> None:
        self._hmac.update(plaintext)

    def finish(self) -> bytes:
        """Return the witness: 48 bytes. No ``update`` may follow."""
        return self._envelope_id + self._hmac.finalize()
