"""An object whose data key is known, and its one message of AES-GCM."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import constant_time, hashes

from sealwax._core.foreign import hkdf
from sealwax._core.foreign.gcm import MOST_BYTES, NONCE_BYTES, TAG_BYTES, GcmBody, decryptor_of
from sealwax._core.foreign.s3ec.fields import CBC, COMMITMENT_BYTES, ObjectFields
from sealwax._core.format.io import refuse_copies
from sealwax._core.keyring import DATA_KEY_BYTES, DataKey, wipe
from sealwax.errors import CommitmentError, TamperedError, UnsupportedEnvelopeError

_SUITE: Final = (115).to_bytes(2, "big")
_SHA512: Final = hashes.SHA512()
_V3_NONCE: Final = b"\1" * NONCE_BYTES


class OpenObject:
    """The key of one object. What it keeps is wiped by ``close``.

    Args:
        fields: what the object's metadata says.
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
            raise CommitmentError("the data key does not belong to this object, or its metadata was altered")
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
        if not TAG_BYTES <= size <= MOST_BYTES + TAG_BYTES:
            raise TamperedError(f"the object is cut off or extended: it has {size} bytes")

    def body(self) -> GcmBody:
        """Return what opens the object once, front to back."""
        if not self._key:
            raise ValueError("the object's key was dropped")
        return GcmBody(decryptor_of(self._key, self._nonce, self._aad), self._left)

    def signed(self) -> None:
        """Objects have no signature."""

    def close(self) -> None:
        """Drop the key."""
        wipe(self._key)
        self._key = bytearray()

    def __del__(self) -> None:
        if "_key" in self.__dict__:
            self.close()


def _derived(fields: ObjectFields, data_key: DataKey, info: bytes, size: int) -> bytearray:
    return hkdf.derive(_SHA512, size, fields.message_id, _SUITE + info, data_key)
