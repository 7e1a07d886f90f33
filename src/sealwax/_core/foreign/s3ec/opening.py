"""An object whose data key is known, and its one message of AES-GCM."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.ciphers import AEADDecryptionContext, Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sealwax._core.foreign.s3ec.fields import CBC, COMMITMENT_BYTES, GCM_NONCE_BYTES, ObjectFields
from sealwax._core.format.io import refuse_copies
from sealwax._core.format.payload import GROUP_BYTES, leave_no_registers
from sealwax._core.keyring import DATA_KEY_BYTES, DataKey, wipe
from sealwax.errors import CommitmentError, TamperedError, UnsupportedEnvelopeError

TAG_BYTES: Final = 16
_SUITE: Final = (115).to_bytes(2, "big")
_V3_NONCE: Final = b"\1" * GCM_NONCE_BYTES
# What one key and nonce of AES-GCM may encrypt.
_MOST_BYTES: Final = 2**36 - 32


class OpenObject:
    """The key of one object. What it keeps is wiped by ``close``.

    Args:
        fields: what the object's metadata say.
        data_key: its data key; only version 2 keeps a copy of it.
        size: the object's size in bytes.

    Raises:
        CommitmentError: the object commits to another data key.
        TamperedError: an object of this size has no tag, or is longer than its key may encrypt.
        UnsupportedEnvelopeError: it was encrypted with CBC, which authenticates nothing.
    """

    __copy__ = __reduce_ex__ = refuse_copies

    # Nothing is authentic before the end.
    early: Final = False

    def __init__(self, fields: ObjectFields, data_key: DataKey, size: int) -> None:
        self._key = bytearray()
        self._left = size - TAG_BYTES
        self._nonce, self._aad = fields.nonce, b""
        self.check(fields, size)
        if fields.version == 2:
            self._key = bytearray(data_key.buffer)
            return
        if not constant_time.bytes_eq(
            bytes(_derived(fields, data_key, b"COMMITKEY", COMMITMENT_BYTES)), fields.commitment
        ):
            raise CommitmentError("the data key does not belong to this object, or its metadata were altered")
        self._key = _derived(fields, data_key, b"DERIVEKEY", DATA_KEY_BYTES)
        self._nonce, self._aad = _V3_NONCE, _SUITE

    @staticmethod
    def check(fields: ObjectFields, size: int) -> None:
        """Refuse what cannot be opened with any data key.

        Raises:
            TamperedError, UnsupportedEnvelopeError: see above.
        """
        if fields.cipher == CBC:
            raise UnsupportedEnvelopeError(
                "the object is encrypted with AES-CBC, which does not authenticate it, so that what it opens to may be "
                "somebody else's; read it with the S3 Encryption Client, and encrypt it again"
            )
        if not TAG_BYTES <= size <= _MOST_BYTES + TAG_BYTES:
            raise TamperedError(f"the object is cut off or extended: it has {size} bytes")

    def body(self) -> ObjectBody:
        """Return what opens the object once, front to back."""
        if not self._key:
            raise ValueError("the object's key was dropped")
        decryptor = Cipher(algorithms.AES(self._key), modes.GCM(self._nonce)).decryptor()
        decryptor.authenticate_additional_data(self._aad)
        return ObjectBody(decryptor, self._left)

    def signed(self) -> None:
        """Objects have no signature."""

    def close(self) -> None:
        """Drop the key."""
        wipe(self._key)
        self._key = bytearray()

    def __del__(self) -> None:
        if "_key" in self.__dict__:
            self.close()


class ObjectBody:
    """Opens an object front to back; nothing of it is authentic before ``finished``."""

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

    def plaintext_bytes(self, sealed: memoryview) -> int:
        if len(sealed) != self._left + TAG_BYTES:
            raise InvalidTag
        return self._left

    def close(self) -> None:
        self._decryptor = None


def _derived(fields: ObjectFields, data_key: DataKey, info: bytes, size: int) -> bytearray:
    # One byte more than a block: cryptography leaves a copy of the last block in memory that it frees.
    derived = bytearray(hashes.SHA512.digest_size + 1)
    try:
        HKDF(hashes.SHA512(), len(derived), fields.message_id, _SUITE + info).derive_into(data_key.buffer, derived)
        with memoryview(derived) as view:
            return bytearray(view[:size])
    finally:
        wipe(derived)
