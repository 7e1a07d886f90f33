"""Makes blind indexes and imports nothing of the library: written from docs/explanation/records-format.md alone."""

from __future__ import annotations

import hmac
import struct
import unicodedata
import uuid
from collections.abc import Mapping


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


def normalized(value: object, normalizer: str) -> bytes:
    match normalizer, value:
        case "exact/1", str():
            return b"\2" + value.encode()
        case "exact/1", bytes():
            return b"\1" + value
        case "exact/1", int():
            size = 1
            while not -(1 << (8 * size - 1)) <= value < 1 << (8 * size - 1):
                size += 1
            return b"\3" + value.to_bytes(size, "big", signed=True)
        case "exact/1", uuid.UUID():
            return b"\7" + value.bytes
        case "exact/1", _:
            return b"\5" + str(value).encode()
        case "casefold-nfc/1", str():
            return unicodedata.normalize("NFC", unicodedata.normalize("NFD", value).casefold()).encode()
        case "digits/1", str():
            return "".join(str(unicodedata.decimal(c)) for c in value if unicodedata.category(c) == "Nd").encode()
        case "email/1", str():
            # Three characters stay as they are: U+212A, U+037E and U+1FEF, whose NFC is ASCII.
            composed, run = "", ""
            for c in value.strip("\t\n\v\f\r ") + "\u212a":
                if c in ("\u212a", "\u037e", "\u1fef"):
                    composed, run = composed + unicodedata.normalize("NFC", run) + c, ""
                else:
                    run += c
            composed = composed[:-1]
            return "".join(c.lower() if c.isascii() else c for c in composed).encode()
    raise TypeError(normalizer)


def index_key(
    data_key: bytes, scope: Mapping[str, str], local: Mapping[str, str], field: str, normalizer: str, bits: int
) -> bytes:
    bound = enc(canonical(scope)) + enc(canonical(local)) + enc(field.encode()) + enc(normalizer.encode())
    return expand(data_key, b"sealwax/records/v1/index\0" + bound + struct.pack(">H", bits), 80)[:32]


def index(
    data_key: bytes,
    value: object,
    *,
    scope: Mapping[str, str],
    local: Mapping[str, str],
    field: str,
    normalizer: str,
    bits: int,
) -> bytes:
    key = index_key(data_key, scope, local, field, normalizer, bits)
    digest = hmac.digest(key, enc(normalized(value, normalizer)), "sha256")
    size = -(-bits // 8)
    number = int.from_bytes(digest[:size], "big")
    spare = 8 * size - bits
    return (number >> spare << spare).to_bytes(size, "big")
