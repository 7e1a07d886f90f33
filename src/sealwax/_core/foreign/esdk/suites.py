"""The algorithm suites of the AWS Encryption SDK, and the keys that each derives from a data key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.asymmetric import ec

from sealwax._core.foreign import hkdf
from sealwax._core.keyring import KeyInBuffer
from sealwax.errors import CommitmentError, DataKeyError

COMMITMENT_BYTES: Final = 32
NOT_THIS_KEY: Final = (
    "the data key or the context does not belong to this message, or its header was altered; nothing was released"
)


@dataclass(frozen=True, slots=True)
class EsdkSuite:
    """One algorithm suite. All of them encrypt with AES-GCM, nonces of 12 bytes and tags of 16.

    Attributes:
        id: its number in the header.
        key_bytes: the size of the data key, and of the key that encrypts.
        kdf: the hash of HKDF; None if the data key itself encrypts.
        signature: the hash that is signed; None if messages are not signed.
        curve: the curve of the signature.
    """

    id: int
    key_bytes: int
    kdf: hashes.HashAlgorithm | None = None
    signature: hashes.HashAlgorithm | None = None
    curve: ec.EllipticCurve | None = None

    @property
    def committing(self) -> bool:
        """Whether the header commits to the data key, so that a message opens under one key only."""
        return self.id >= 0x0400

    @property
    def version(self) -> int:
        """The version of the message format that the suite belongs to."""
        return 2 if self.committing else 1

    @property
    def name(self) -> str:
        """What the caller names to allow it, if it does not commit."""
        return f"esdk-{self.id:04x}"

    def derive(self, data_key: KeyInBuffer, message_id: bytes, commitment: bytes | None) -> bytearray:
        """Return the key that encrypts, for the caller to wipe.

        Args:
            commitment: what the header commits to; None for suites that do not commit.

        Raises:
            CommitmentError: the header commits to another data key.
            DataKeyError: the data key has a size that this suite does not use.
        """
        if len(data_key.buffer) != self.key_bytes:
            raise DataKeyError(
                f"the message's suite ({self.name}) uses a data key of {self.key_bytes} bytes, and an encrypted data "
                f"key holds {len(data_key.buffer)}"
            )
        if self.kdf is None:
            return bytearray(data_key.buffer)
        number = self.id.to_bytes(2, "big")
        if not self.committing:
            return hkdf.derive(self.kdf, self.key_bytes, None, number + message_id, data_key)
        if commitment is None or not constant_time.bytes_eq(self.commit(data_key, message_id), commitment):
            raise CommitmentError(NOT_THIS_KEY)
        return hkdf.derive(self.kdf, self.key_bytes, message_id, number + b"DERIVEKEY", data_key)

    def commit(self, data_key: KeyInBuffer, message_id: bytes) -> bytes:
        """Return the commitment to a data key, which is not secret; for suites that commit."""
        assert self.kdf is not None
        return bytes(hkdf.derive(self.kdf, COMMITMENT_BYTES, message_id, b"COMMITKEY", data_key))


_SHA256: Final = hashes.SHA256()
_SHA384: Final = hashes.SHA384()
_SHA512: Final = hashes.SHA512()

SUITES: Final = {
    suite.id: suite
    for suite in (
        EsdkSuite(0x0014, 16),
        EsdkSuite(0x0046, 24),
        EsdkSuite(0x0078, 32),
        EsdkSuite(0x0114, 16, _SHA256),
        EsdkSuite(0x0146, 24, _SHA256),
        EsdkSuite(0x0178, 32, _SHA256),
        EsdkSuite(0x0214, 16, _SHA256, _SHA256, ec.SECP256R1()),
        EsdkSuite(0x0346, 24, _SHA384, _SHA384, ec.SECP384R1()),
        EsdkSuite(0x0378, 32, _SHA384, _SHA384, ec.SECP384R1()),
        EsdkSuite(0x0478, 32, _SHA512),
        EsdkSuite(0x0578, 32, _SHA512, _SHA384, ec.SECP384R1()),
    )
}
WRITTEN: Final = SUITES[0x0478]
