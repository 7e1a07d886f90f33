"""The signature of a message: its public key is a pair of the context, and it covers all that is before it."""

from __future__ import annotations

import binascii
import struct
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.utils import Buffer

from sealwax._core.foreign.esdk.suites import EsdkSuite
from sealwax.errors import DamagedHeaderError, TamperedError

PUBLIC_KEY: Final = "aws-crypto-public-key"
_LENGTH: Final = struct.Struct(">H")
# In DER, two numbers as long as the curve's order, each with a sign byte, and their lengths.
MOST_DER_BYTES: Final = 128


def public_key(suite: EsdkSuite, text: str) -> ec.EllipticCurvePublicKey:
    """Return the public key that a context holds: a compressed point in base64.

    Raises:
        DamagedHeaderError: it is anything else.
    """
    assert suite.curve is not None
    try:
        point = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
        if len(point) != 1 + suite.curve.key_size // 8:  # only a compressed point has this size
            raise ValueError
        return ec.EllipticCurvePublicKey.from_encoded_point(suite.curve, point)
    except ValueError:
        raise DamagedHeaderError(f"the message's context holds no public key in '{PUBLIC_KEY}'") from None


class SignedBytes:
    """Takes in a message, front to back, and verifies the signature of what it took in."""

    def __init__(self, key: ec.EllipticCurvePublicKey, algorithm: hashes.HashAlgorithm) -> None:
        self._key = key
        self._algorithm = algorithm
        self._hash = hashes.Hash(algorithm)

    def update(self, data: Buffer) -> None:
        self._hash.update(data)

    def verify(self, footer: Buffer) -> None:
        """Verify a footer, which is all that follows. No ``update`` may follow.

        Raises:
            TamperedError: it is no signature of these bytes.
        """
        with memoryview(footer) as view:
            try:
                if not _LENGTH.size < len(view) <= _LENGTH.size + MOST_DER_BYTES:
                    raise InvalidSignature
                if _LENGTH.unpack_from(view)[0] != len(view) - _LENGTH.size:
                    raise InvalidSignature
                signature = bytes(view[_LENGTH.size :])
                self._key.verify(signature, self._hash.finalize(), ec.ECDSA(Prehashed(self._algorithm)))
            except InvalidSignature:
                raise TamperedError(
                    "the message's signature is not valid: it was altered, cut off or extended; nothing was released"
                ) from None
