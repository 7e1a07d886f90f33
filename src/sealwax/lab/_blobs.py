"""Ciphertext blobs: opaque to callers, self-describing to the lab, and bound to what KMS's blobs are bound to.

A blob is ``magic 8 | account 6 | key id 16 | flags 1 | material id 32 | salt 16 | nonce 12 | ciphertext + tag 16 | seal
16``. The plaintext is encrypted with AES-256-GCM under a key derived from the key material and the salt; the header and
the encryption context are the additional data. The seal is the lab's MAC over everything before it, so damage is
detected before the header is used. It does not name the Region: a multi-Region key decrypts it in every Region.
"""

from __future__ import annotations

import hmac
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_MAGIC = b"\x01swxlab\x01"
_HEADER = len(_MAGIC) + 6 + 16 + 1 + 32
_SALT, _NONCE, _TAG, _SEAL = 16, 12, 16, 16
_SMALLEST = _HEADER + _SALT + _NONCE + _TAG + _SEAL
_MULTI_REGION = 1

MULTI_REGION_PREFIX = "mrk-"


@dataclass(frozen=True, slots=True)
class CiphertextBlob:
    """A blob with a valid seal."""

    account: str
    key_id: str
    material_id: str
    header: bytes
    body: bytes


def encrypt(
    secret: bytearray | bytes,
    context: Mapping[str, str],
    *,
    account: str,
    key_id: str,
    material_id: str,
    material: bytes,
    seal_key: bytes,
) -> bytes:
    """Encrypt a secret of at most 4096 bytes."""
    multi_region = key_id.startswith(MULTI_REGION_PREFIX)
    header = b"".join(
        (
            _MAGIC,
            int(account).to_bytes(6, "big"),
            uuid.UUID(hex=key_id.removeprefix(MULTI_REGION_PREFIX)).bytes,
            bytes([_MULTI_REGION if multi_region else 0]),
            bytes.fromhex(material_id),
        )
    )
    fresh = os.urandom(_SALT + _NONCE)
    salt, nonce = fresh[:_SALT], fresh[_SALT:]
    body = _aead(material, salt).encrypt(nonce, secret, _bound(header, context))
    sealed = header + fresh + body
    return sealed + hmac.digest(seal_key, sealed, "sha256")[:_SEAL]


def parse(blob: bytes, seal_key: bytes) -> CiphertextBlob | None:
    """Parse a blob; None if this lab did not make it or it is damaged."""
    if len(blob) < _SMALLEST or not blob.startswith(_MAGIC):
        return None
    sealed, seal = blob[:-_SEAL], blob[-_SEAL:]
    if not hmac.compare_digest(hmac.digest(seal_key, sealed, "sha256")[:_SEAL], seal):
        return None
    at = len(_MAGIC)
    account = f"{int.from_bytes(sealed[at : at + 6], 'big'):012d}"
    identifier = uuid.UUID(bytes=sealed[at + 6 : at + 22])
    multi_region = sealed[at + 22] == _MULTI_REGION
    return CiphertextBlob(
        account=account,
        key_id=f"{MULTI_REGION_PREFIX}{identifier.hex}" if multi_region else str(identifier),
        material_id=sealed[at + 23 : _HEADER].hex(),
        header=sealed[:_HEADER],
        body=sealed[_HEADER:],
    )


def decrypt(blob: CiphertextBlob, context: Mapping[str, str], material: bytes) -> bytearray | None:
    """The secret, in a buffer that the caller wipes; None if the context is wrong."""
    salt, nonce, body = blob.body[:_SALT], blob.body[_SALT : _SALT + _NONCE], blob.body[_SALT + _NONCE :]
    secret = bytearray(len(body) - _TAG)
    try:
        _aead(material, salt).decrypt_into(nonce, body, _bound(blob.header, context), secret)
    except InvalidTag:
        return None
    return secret


def _aead(material: bytes, salt: bytes) -> AESGCM:
    return AESGCM(hmac.digest(material, b"sealwax lab blob\x00" + salt, "sha256"))


def _bound(header: bytes, context: Mapping[str, str]) -> bytes:
    parts = [header]
    for name in sorted(context):
        for text in (name, context[name]):
            encoded = text.encode()
            parts += (len(encoded).to_bytes(4, "big"), encoded)
    return b"".join(parts)
