"""A second reader of envelopes, written from the format's text alone. It imports nothing of sealwax.

``python second_reader.py envelopes.json`` checks every vector and prints how many there were of each outcome.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

CHUNK, TAG = 16384, 16


class Refused(Exception):  # noqa: N818  # its argument is the name of the error
    pass


def parse_map(data: bytes) -> dict[bytes, bytes]:
    if not 2 <= len(data) <= 8192:
        raise Refused("DamagedHeaderError")
    count, at, pairs = struct.unpack(">H", data[:2])[0], 2, []
    for _ in range(2 * count):
        size = int.from_bytes(data[at : at + 2], "big")
        text = data[at + 2 : at + 2 + size]
        if at + 2 + size > len(data):
            raise Refused("DamagedHeaderError")
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("DamagedHeaderError") from None
        pairs.append(text)
        at += 2 + size
    keys = pairs[::2]
    if at != len(data) or count > 64 or b"" in keys or keys != sorted(set(keys)):
        raise Refused("DamagedHeaderError")
    return dict(zip(keys, pairs[1::2], strict=True))


def write_map(pairs: dict[bytes, bytes]) -> bytes:
    out = struct.pack(">H", len(pairs))
    for key in sorted(pairs):
        out += struct.pack(">H", len(key)) + key + struct.pack(">H", len(pairs[key])) + pairs[key]
    return out


def parse_slot(slot: bytes, preamble_crc: bytes) -> dict[str, Any] | None:
    """Return what a valid slot holds, None for any other."""
    if int.from_bytes(slot[-4:], "big") != zlib.crc32(preamble_crc + slot[:-4]):
        return None
    body, at = slot[:-4], 5
    sequence, count = struct.unpack(">IB", body[:5])
    if sequence == 0 or not 1 <= count <= 16:
        return None
    keys = []
    for _ in range(count):
        key: dict[str, Any] = {"provider": body[at : at + 1]}
        at += 1
        for name, width in (("arn", 2), ("ciphertext", 2), ("material_id", 1)):
            size = int.from_bytes(body[at : at + width], "big")
            key[name] = body[at + width : at + width + size]
            at += width + size
        key["time"] = int.from_bytes(body[at : at + 8], "big")
        at += 8
        if at > len(body) or key["provider"] == b"\0":
            return None
        if key["provider"] == b"\1" and not (
            1 <= len(key["arn"]) <= 2048
            and all(0x21 <= byte <= 0x7E for byte in key["arn"])
            and 1 <= len(key["ciphertext"]) <= 6144
            and len(key["material_id"]) in (0, 32)
            and key["time"] <= 253402300799
        ):
            return None
        keys.append(key)
    if any(body[at:]) or len({(key["provider"], key["arn"]) for key in keys}) != len(keys):
        return None
    return {"sequence": sequence, "keys": keys, "bytes": slot}


def parse_header(data: bytes) -> dict[str, Any]:
    """Return the fields of a header, with ``payload`` for what follows it."""
    magic = b"\x8aSWX\r\n\x1a\n"
    if not data or data[:8] != magic[: len(data)]:
        raise Refused("NotAnEnvelopeError")
    if len(data) > 8 and data[8] != 1:
        raise Refused("UnsupportedEnvelopeError")
    if len(data) < 36:
        raise Refused("DamagedHeaderError")
    kind, suite, slots, offset, size = struct.unpack(">BBBHH", data[9:16])
    if suite != 1:
        raise Refused("UnsupportedEnvelopeError")
    local_pairs, zero, length = struct.unpack(">BBH", data[32:36])
    if (
        kind not in (1, 2)
        or slots not in (1, 2)
        or size < 64
        or local_pairs > 64
        or zero != 0
        or not 2 <= length <= 8192
        or offset < 40 + length
        or len(data) < offset
    ):
        raise Refused("DamagedHeaderError")
    crc = data[36 + length : 40 + length]
    if int.from_bytes(crc, "big") != zlib.crc32(data[: 36 + length]) or any(data[40 + length : offset]):
        raise Refused("DamagedHeaderError")
    stored = data[36 : 36 + length]
    found = [
        parse_slot(data[at : at + size], crc)
        for at in (offset + n * size for n in range(slots))
        if at + size <= len(data)
    ]
    valid = [slot for slot in found if slot is not None]
    if not valid:
        raise Refused("DamagedHeaderError")
    return {
        "kind": kind,
        "id": data[16:32],
        "context": parse_map(stored),
        "stored": stored,
        "local_pairs": local_pairs,
        "current": max(valid, key=lambda slot: slot["sequence"]),
        "finished": all(slot == valid[0] for slot in found) and len(found) == slots,
        "payload": data[offset + slots * size :],
    }


class Payload:
    def __init__(self, dek: bytes, salt: bytes, info: bytes) -> None:
        label = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
        derived = HKDFExpand(SHA512(), 76, label + salt + info).derive(dek)
        self.salt, self.commitment = salt, derived[44:]
        self.aead, self.nonce = AESGCM(derived[:32]), int.from_bytes(derived[32:44], "big")

    def seal(self, plaintext: bytes) -> bytes:
        out = [self.salt, self.commitment]
        for k in range(len(plaintext) // CHUNK + 1):
            part = plaintext[k * CHUNK : (k + 1) * CHUNK]
            out.append(self.aead.encrypt((self.nonce ^ k).to_bytes(12, "big"), part, None))
        return b"".join(out)

    def open(self, payload: bytes) -> bytes:
        if len(payload) < 56 + TAG:
            raise Refused("TamperedError")
        if payload[24:56] != self.commitment:
            raise Refused("CommitmentError")
        chunks = [payload[at : at + CHUNK + TAG] for at in range(56, len(payload), CHUNK + TAG)]
        if len(chunks[-1]) == CHUNK + TAG or len(chunks[-1]) < TAG:
            raise Refused("TamperedError")
        try:
            return b"".join(
                self.aead.decrypt((self.nonce ^ k).to_bytes(12, "big"), chunk, None) for k, chunk in enumerate(chunks)
            )
        except InvalidTag:
            raise Refused("TamperedError") from None


def info_of(header: dict[str, Any], local: bytes) -> bytes:
    stored = header["stored"]
    return b"".join(
        (
            b"sealwax/envelope/v1\0\x01",
            header["id"],
            len(stored).to_bytes(4, "big"),
            stored,
            len(local).to_bytes(4, "big"),
            local,
        )
    )


def open_envelope(data: bytes, dek: bytes, context: dict[str, str], local_names: list[str], apart: bool) -> bytes:
    """Return the plaintext. ``apart`` says that header and payload were stored in places of their own."""
    header = parse_header(data)
    if header["kind"] != (2 if apart else 1):
        raise Refused("DamagedHeaderError")
    if len(header["payload"]) < 56 + TAG:
        raise Refused("TamperedError")
    given = {key.encode(): value.encode() for key, value in context.items()}
    names = {name.encode() for name in local_names}
    stored = header["context"]
    local = {key: value for key, value in given.items() if key not in stored}
    if (
        any(given.get(key) != value for key, value in stored.items())
        or any(key in names for key in stored)
        or any(key not in names for key in local)
        or len(local) != header["local_pairs"]
    ):
        raise Refused("ContextError")
    return Payload(dek, header["payload"][:24], info_of(header, write_map(local))).open(header["payload"])


def pattern(size: int) -> bytes:
    """The plaintext of a vector of that size."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def bytes_of(vector: dict[str, Any]) -> bytes:
    """Return a vector's envelope: as it stands there, or built from its header, salt and pattern."""
    data = zlib.decompress(base64.b64decode(vector["bytes"]))
    if "salt" in vector:
        header = parse_header(data)
        local = write_map({name.encode(): vector["context"][name].encode() for name in vector["local_names"]})
        sealed = Payload(bytes.fromhex(vector["dek"]), bytes.fromhex(vector["salt"]), info_of(header, local))
        data += sealed.seal(pattern(vector["plaintext_bytes"]))
    if hashlib.sha256(data).hexdigest() != vector["sha256"]:
        raise AssertionError(f"{vector['name']}: not the frozen bytes")
    return data


def check(vector: dict[str, Any]) -> str:
    """Return the outcome of one vector, after holding it against everything that the vector says."""
    data = bytes_of(vector)
    try:
        plaintext = open_envelope(
            data, bytes.fromhex(vector["dek"]), vector["context"], vector["local_names"], vector["apart"]
        )
    except Refused as error:
        outcome = str(error.args[0])
    else:
        outcome = "success"
        if plaintext != pattern(vector["plaintext_bytes"]):
            raise AssertionError(f"{vector['name']}: another plaintext")
    if outcome != vector["expect"]:
        raise AssertionError(f"{vector['name']}: {outcome}, not {vector['expect']}")
    if "header" in vector:
        header = parse_header(data)
        found = {
            "sequence": header["current"]["sequence"],
            "finished": header["finished"],
            "keys": [[key["provider"][0], key["arn"].decode("latin-1")] for key in header["current"]["keys"]],
        }
        if found != vector["header"]:
            raise AssertionError(f"{vector['name']}: {found}, not {vector['header']}")
    return outcome


if __name__ == "__main__":
    vectors = json.loads(Path(sys.argv[1]).read_text("utf-8"))["vectors"]
    outcomes = Counter(check(vector) for vector in vectors)
    if any(module.partition(".")[0] == "sealwax" for module in sys.modules):
        raise AssertionError("the second reader has imported the first")
    print(json.dumps(dict(sorted(outcomes.items()))))
