"""KMS ciphertexts, and formats that begin with one, recognized by their structure.

A CiphertextBlob of AWS KMS begins with a version and contains a PKCS #7 structure after its length. Neither is
documented, but every blob seen so far has both. A blob of the lab begins with a name.
"""

from __future__ import annotations

import re
from typing import Final

from sealwax._foreign import ForeignFormat

ENVKMS: Final = b"ENVKMS01"
LAB: Final = b"\x01swxlab\x01"
_BEGINS: Final = re.compile(rb"\x01[\x01\x02][\x01-\x04]\x00|" + re.escape(LAB))
# DER: a SEQUENCE that begins with the OID of PKCS #7's encryptedData.
_ENCRYPTED_DATA: Final = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x06\xa0"
_FARTHEST: Final = 160
_SMALLEST: Final = 64
_LARGEST: Final = 8192  # KMS gives out at most 6144
_U32: Final = 4
_FERNET: Final = re.compile(rb"gAAAAA[A-Za-z0-9_-]*={0,2}\s*")
_NONCE_AND_TAG: Final = 28
_BY_NAME: Final = "to read it, allow {} by name"


def begins_as_blob(data: bytes, at: int = 0) -> bool:
    """Whether the bytes at ``at`` begin like a KMS ciphertext."""
    return _BEGINS.match(data, at) is not None


def holds_blob(data: bytes) -> bool:
    """Whether these bytes contain a KMS ciphertext anywhere, by more than its first bytes."""
    if LAB in data:
        return True
    at = data.find(_ENCRYPTED_DATA)
    while at >= 0:
        if _is_sized(data, at):
            return True
        at = data.find(_ENCRYPTED_DATA, at + 1)
    return False


def _is_sized(data: bytes, at: int) -> bool:
    """Whether a PKCS #7 structure follows its own length, and a blob begins shortly before it.

    PKCS #12 files contain such structures too, but without a length before them.
    """
    for header in (2, 3, 4):  # the SEQUENCE's tag and length
        start = at - header
        if start >= _U32 and data[start] == 0x30:
            first = data[start + 1]
            size = first if header == 2 else int.from_bytes(data[start + 2 : at], "big")
            is_form = first < 0x80 if header == 2 else first == 0x80 + header - 2
            stated = int.from_bytes(data[start - _U32 : start], "big")
            if is_form and stated == header + size:
                return any(begins_as_blob(data, each) for each in range(max(0, start - _FARTHEST), start))
    return False


def recognize(data: bytes, size: int | None) -> ForeignFormat | None:
    """Return the format of bytes by their beginning.

    Args:
        data: the first bytes.
        size: the object's size; None if unknown.
    """
    stated = int.from_bytes(data[:_U32], "big")
    if data.startswith(ENVKMS) and _could_be(int.from_bytes(data[8:12], "big")) and len(data) >= 12:
        return ForeignFormat("envkms01", "an ENVKMS01 file", advice=_BY_NAME.format("envkms01"))
    if _could_be(stated) or _could_be(int.from_bytes(data[:_U32], "little")):
        for order in (stated, int.from_bytes(data[:_U32], "little")):
            if _could_be(order) and _FERNET.fullmatch(data, _U32 + order):
                title = "a file of the boto3 guide, a wrapped data key and a Fernet token"
                return ForeignFormat("boto3-fernet", title, sure=False, advice=_BY_NAME.format("boto3-fernet"))
    if _could_be(stated) and begins_as_blob(data, _U32):
        if size is None or size >= _U32 + stated + _NONCE_AND_TAG:
            return ForeignFormat("tink", "a Tink KMS envelope, a wrapped data key and what is under it", sure=False)
        return ForeignFormat("kms-ciphertext", "a KMS ciphertext after its length", sure=False)
    if begins_as_blob(data) and len(data) >= _SMALLEST:
        return ForeignFormat("kms-ciphertext", "a KMS ciphertext", sure=False)
    if holds_blob(data):
        return ForeignFormat("kms-ciphertext", "something that holds a KMS ciphertext", sure=False)
    return None


def _could_be(size: int) -> bool:
    return _SMALLEST <= size <= _LARGEST
