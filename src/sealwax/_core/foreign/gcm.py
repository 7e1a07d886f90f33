"""One message of AES-GCM over a whole body: an object, a file of a script, a message without frames."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.ciphers import AEADDecryptionContext, Cipher, algorithms, modes

from sealwax._core.format.payload import GROUP_BYTES, leave_no_registers

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
MOST_BYTES: Final = 2**36 - 32
"""How many bytes of plaintext one key and nonce may encrypt."""


def decryptor_of(key: bytearray, nonce: bytes, aad: bytes = b"") -> AEADDecryptionContext:
    """Return what decrypts one message, which has authenticated nothing but the additional data yet."""
    decryptor = Cipher(algorithms.AES(key), modes.GCM(nonce)).decryptor()
    decryptor.authenticate_additional_data(aad)
    return decryptor


class GcmBody:
    """Opens one message front to back: a ``passes.Body``. Nothing of it is authentic before ``finished``.

    Args:
        decryptor: it has seen none of the ciphertext. It is dropped at the end, and by ``close``.
        size: how many bytes of ciphertext precede the tag.
    """

    def __init__(self, decryptor: AEADDecryptionContext, size: int) -> None:
        self._decryptor: AEADDecryptionContext | None = decryptor
        self._left = size
        self.finished = False
        self.capacity = self.room = GROUP_BYTES

    def open_into(self, sealed: memoryview, into: memoryview) -> tuple[int, int]:
        decryptor = self._decryptor
        assert decryptor is not None
        try:
            used = size = min(self._left, len(sealed))
            decryptor.update_into(sealed[:size], into[:size])
            self._left -= size
            if not self._left and len(sealed) - used >= TAG_BYTES:
                decryptor.finalize_with_tag(bytes(sealed[used : used + TAG_BYTES]))
                used += TAG_BYTES
                self._decryptor = None
                self.finished = True
            return used, size
        finally:
            del decryptor  # it holds the key, and a kept exception holds this frame
            leave_no_registers()

    def close(self) -> None:
        self._decryptor = None
