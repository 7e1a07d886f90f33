"""A reader of records that imports nothing of the library: HKDF by hmac, CMAC and AES-GCM by cryptography."""

from __future__ import annotations

import base64
import hmac
import struct
from collections.abc import Mapping

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC


def expand(key: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand with SHA-512: https://www.rfc-editor.org/rfc/rfc5869#section-2.3"""
    block, out, number = b"", b"", 0
    while len(out) < size:
        number += 1
        block = hmac.digest(key, block + info + bytes((number,)), "sha512")
        out += block
    return out[:size]


def enc(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def canonical(pairs: Mapping[str, str]) -> bytes:
    items = sorted((key.encode(), value.encode()) for key, value in pairs.items())
    texts = [struct.pack(">H", len(text)) + text for item in items for text in item]
    return struct.pack(">H", len(items)) + b"".join(texts)


def key_id(data_key: bytes, kind: int, generation: int, scope: Mapping[str, str]) -> bytes:
    about = struct.pack(">BBI", kind, 1, generation)
    return expand(data_key, b"sealwax/records/v1/key-id\0" + about + enc(canonical(scope)), 80)[:16]


def field_key(data_key: bytes, scope: Mapping[str, str], local: Mapping[str, str], field: str) -> bytes:
    bound = enc(canonical(scope)) + enc(canonical(local)) + enc(field.encode())
    return expand(data_key, b"sealwax/records/v1/field\0\1" + bound, 80)[:32]


def xaes(key: bytes, prefix: bytes) -> AESGCM:
    halves = []
    for counter in (1, 2):
        mac = CMAC(AES(key))
        mac.update(struct.pack(">H", counter) + b"X\0" + prefix)
        halves.append(mac.finalize())
    return AESGCM(b"".join(halves))


def binary(record: bytes | str) -> bytes:
    if isinstance(record, bytes):
        return record
    mark, first, rest = record.split(".")
    assert mark == "swr1"
    return b"\xc1" + b"".join(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (first, rest))


def open_record(
    data_key: bytes,
    record: bytes | str,
    row: bytes,
    *,
    scope: Mapping[str, str],
    field: str,
    local: Mapping[str, str] | None = None,
) -> bytes:
    """Return the plaintext of a record: a byte for the type, and the value. ``row`` is in its encoded form."""
    data = binary(record)
    cipher = xaes(field_key(data_key, scope, local or {}, field), data[17:29])
    return cipher.decrypt(data[29:41], data[41:], row)
