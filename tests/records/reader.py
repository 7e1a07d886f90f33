"""A reader of records that imports nothing of the library: hmac, AES of cryptography, and a KMS client of boto3.

It is written from docs/explanation/records-format.md and docs/explanation/format.md alone.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import hmac
import json
import struct
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

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


def row_bytes(row: object) -> bytes:
    """Return the additional data of a row; None stands for a field without rows."""
    match row:
        case None:
            return b""
        case int():
            size = 1
            while not -(1 << (8 * size - 1)) <= row < 1 << (8 * size - 1):
                size += 1
            return b"\1" + enc(row.to_bytes(size, "big", signed=True))
        case str():
            return b"\2" + enc(row.encode())
        case bytes():
            return b"\3" + enc(row)
        case uuid.UUID():
            return b"\4" + row.bytes
        case tuple():
            return b"\5" + struct.pack(">H", len(row)) + b"".join(map(row_bytes, row))
    raise TypeError(type(row))


def value_of(plaintext: bytes) -> Any:
    """Return the value of an opened record."""
    kind, data = plaintext[0], plaintext[1:]
    return (
        bytes,
        bytes.decode,
        lambda data: int.from_bytes(data, "big", signed=True),
        lambda data: decimal.Decimal(data.decode()),
        lambda data: datetime.date.fromisoformat(data.decode()),
        lambda data: datetime.datetime.fromisoformat(data.decode()),
        lambda data: uuid.UUID(bytes=data),
        json.loads,
        lambda data: data != b"\0",
    )[kind - 1](data)


def data_key_of(kms: Any, key_arns: Sequence[str], blob: bytes, scope: Mapping[str, str], use: str) -> bytes:
    """Return the data key of a key row: an envelope of the empty value, opened with a KMS client of boto3."""
    context = {**scope, "sealwax-use": use}
    magic, version, kind, suite, slots, slot_at, slot_size, envelope_id, local, _, size = struct.unpack_from(
        ">8sBBBBHH16sBBH", blob
    )
    assert (magic, version, kind, suite, local) == (b"\x8aSWX\r\n\x1a\n", 1, 1, 1, 0)
    assert blob[36 : 36 + size] == canonical(context)
    slot = max((blob[slot_at + n * slot_size :][:slot_size] for n in range(slots)), key=lambda slot: slot[:4])
    opened = []
    at = 5
    for _ in range(slot[4]):
        arn_size = struct.unpack_from(">H", slot, at + 1)[0]
        arn = slot[at + 3 : at + 3 + arn_size].decode()
        at += 3 + arn_size
        blob_size = struct.unpack_from(">H", slot, at)[0]
        wrapped = slot[at + 2 : at + 2 + blob_size]
        at += 2 + blob_size
        at += 1 + slot[at] + 8
        if arn in key_arns:
            opened.append(kms.decrypt(KeyId=arn, CiphertextBlob=wrapped, EncryptionContext=context)["Plaintext"])
    payload = blob[slot_at + slots * slot_size :]
    data_key: bytes
    (data_key,) = set(opened)
    bound = b"sealwax/envelope/v1\0\1" + envelope_id + enc(canonical(context)) + enc(canonical({}))
    label = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
    derived = expand(data_key, label + payload[:24] + bound, 76)
    assert hmac.compare_digest(derived[44:], payload[24:56])
    assert AESGCM(derived[:32]).decrypt(derived[32:44], payload[56:], None) == b""
    return data_key
