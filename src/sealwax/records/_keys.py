"""The keys of records: each is derived from the data key of a scope, and nothing of it is stored.

::

    data key --HKDF--> key id (16 bytes, public)
             --HKDF--> field key --CMAC, with a prefix of 12 bytes--> record key

The record key encrypts with AES-256-GCM and a nonce of its own 12 bytes, the suffix: together this is XAES-256-GCM
(https://c2sp.org/XAES-256-GCM) under the field key, with prefix and suffix as its nonce of 24 bytes. The key of a blind
index is derived as a field key is, from a data key of its own kind.
"""

from __future__ import annotations

import struct
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from sealwax._core.format.io import refuse_copies
from sealwax._core.format.payload import framed
from sealwax._core.keyring import DataKey, wipe

SUITE_XAES_256_GCM: Final = 1
KEY_ID_BYTES: Final = 16
PREFIX_BYTES: Final = 12
SUFFIX_BYTES: Final = 12

_LABEL: Final = b"sealwax/records/v1/"
_SHA512: Final = hashes.SHA512()
# More than one block of SHA-512: cryptography leaves a copy of the last block in memory that it frees.
_DERIVED_BYTES: Final = 80
_FIELD_KEY_BYTES: Final = 32
_INDEX_KEY_BYTES: Final = 32
_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_FIRST_HALF: Final = b"\0\1X\0"
_SECOND_HALF: Final = b"\0\2X\0"


def _expand(data_key: DataKey, info: bytes) -> bytearray:
    derived = bytearray(_DERIVED_BYTES)
    HKDFExpand(_SHA512, _DERIVED_BYTES, info).derive_into(data_key.buffer, derived)
    return derived


def key_id(data_key: DataKey, kind: int, generation: int, scope: bytes) -> bytes:
    """Return what names a data key in every record: a value that only this key, kind, generation and scope have.

    Args:
        kind: 1 for the keys of data, 2 for those of indexes.
        scope: the canonical bytes of the scope that KMS sees.
    """
    about = bytes((kind, SUITE_XAES_256_GCM)) + _U32.pack(generation)
    derived = _expand(data_key, b"".join((_LABEL, b"key-id\0", about, framed(scope))))
    try:
        return bytes(derived[:KEY_ID_BYTES])
    finally:
        wipe(derived)


class FieldKey:
    """The key of one field of one scope; it makes a record key for each prefix.

    Args:
        scope, local_scope: the canonical bytes of the pairs that KMS sees, and of those that it does not.
        field: the name of the field.
    """

    def __init__(self, data_key: DataKey, scope: bytes, local_scope: bytes, field: str) -> None:
        bound = b"".join((framed(scope), framed(local_scope), framed(field.encode())))
        derived = _expand(data_key, b"".join((_LABEL, b"field\0", bytes((SUITE_XAES_256_GCM,)), bound)))
        try:
            with memoryview(derived) as view:
                self._mac = CMAC(AES(view[:_FIELD_KEY_BYTES]))
        finally:
            wipe(derived)

    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = refuse_copies

    def record_key(self, prefix: bytes) -> AESGCM:
        """Return the cipher of the records that begin with a prefix."""
        first, second = self._mac.copy(), self._mac.copy()
        first.update(_FIRST_HALF + prefix)
        second.update(_SECOND_HALF + prefix)
        key = bytearray(32)
        try:
            key[:16] = first.finalize()
            key[16:] = second.finalize()
            return AESGCM(key)
        finally:
            wipe(key)


class IndexKey:
    """The key of one blind index of one scope.

    Args:
        scope, local_scope: the canonical bytes of the pairs that KMS sees, and of those that it does not.
        field: the name of the field.
        normalizer: the name and version of the normalizer.
        bits: the length of an index.
    """

    def __init__(
        self, data_key: DataKey, scope: bytes, local_scope: bytes, field: str, normalizer: str, bits: int
    ) -> None:
        texts = scope, local_scope, field.encode(), normalizer.encode()
        derived = _expand(data_key, b"".join((_LABEL, b"index\0", *map(framed, texts), _U16.pack(bits))))
        try:
            with memoryview(derived) as view:
                self._mac = HMAC(view[:_INDEX_KEY_BYTES], hashes.SHA256())
        finally:
            wipe(derived)

    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = refuse_copies

    def digest(self, *parts: bytes) -> bytes:
        """Return the index of some parts, before it is cut: 32 bytes."""
        mac = self._mac.copy()
        mac.update(b"".join(map(framed, parts)))
        return mac.finalize()
