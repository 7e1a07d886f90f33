"""HKDF that leaves nothing of what it derives in memory."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sealwax._core.keyring import DATA_KEY_BYTES, KeyInBuffer

_PUBLIC: Final = bytes(DATA_KEY_BYTES)


def derive(
    algorithm: hashes.HashAlgorithm, size: int, salt: bytes | None, info: bytes, data_key: KeyInBuffer
) -> bytearray:
    """Return up to a block of the hash, for the caller to wipe."""
    # One byte more than a block: cryptography leaves a copy of the last block in memory that it frees.
    derived = bytearray(algorithm.digest_size + 1)
    try:
        HKDF(algorithm, len(derived), salt, info).derive_into(data_key.buffer, derived)
        with memoryview(derived) as view:
            return bytearray(view[:size])
    finally:
        # What was derived is still here, and what was extracted on the stack: the same call with a public key, in place
        # of both.
        HKDF(algorithm, len(derived), salt, info).derive_into(_PUBLIC, derived)
