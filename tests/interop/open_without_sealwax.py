"""Opens an envelope with boto3 and cryptography alone, for the day when sealwax is gone.

``python open_without_sealwax.py FILE NAME=VALUE...`` writes the plaintext to stdout. The whole context is given; pairs
that the file does not store are the local ones. It reads the first good copy of the wrapped keys, and believes their
ARNs: give it only files of your own.
"""

import struct
import sys
import zlib

import boto3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand


def pack(pairs: dict[str, str]) -> bytes:
    items = sorted((key.encode(), value.encode()) for key, value in pairs.items())
    texts = [text for item in items for text in item]
    return struct.pack(">H", len(items)) + b"".join(struct.pack(">H", len(text)) + text for text in texts)


def unpack(data: bytes) -> dict[str, str]:
    texts, at = [], 2
    while at < len(data):
        size = struct.unpack_from(">H", data, at)[0]
        texts.append(data[at + 2 : at + 2 + size].decode())
        at += 2 + size
    return dict(zip(texts[::2], texts[1::2], strict=True))


def open_envelope(data: bytes, context: dict[str, str], session: boto3.Session) -> bytes:
    slot_count, offset, slot_size = struct.unpack_from(">BHH", data, 11)
    envelope_id, context_size = data[16:32], struct.unpack_from(">H", data, 34)[0]
    stored = data[36 : 36 + context_size]
    crc = data[36 + context_size : 40 + context_size]
    slots = [data[offset + n * slot_size : offset + (n + 1) * slot_size] for n in range(slot_count)]
    good = [slot for slot in slots if zlib.crc32(crc + slot[:-4]) == struct.unpack(">I", slot[-4:])[0]]
    slot = max(good, key=lambda slot: slot[:4])

    arn_size = struct.unpack_from(">H", slot, 6)[0]
    arn = slot[8 : 8 + arn_size].decode()
    blob_size = struct.unpack_from(">H", slot, 8 + arn_size)[0]
    blob = slot[10 + arn_size : 10 + arn_size + blob_size]
    kms_context = unpack(stored)
    kms = session.client("kms", region_name=arn.split(":")[3])
    dek = kms.decrypt(KeyId=arn, CiphertextBlob=blob, EncryptionContext=kms_context)["Plaintext"]

    local = pack({key: value for key, value in context.items() if key not in kms_context})
    info = b"sealwax/envelope/v1\0\x01" + envelope_id
    info += struct.pack(">I", len(stored)) + stored + struct.pack(">I", len(local)) + local
    payload = data[offset + slot_count * slot_size :]
    salt, commitment, sealed = payload[:24], payload[24:56], payload[56:]
    label = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
    keys = HKDFExpand(SHA512(), 76, label + salt + info).derive(dek)
    if keys[44:] != commitment:
        raise ValueError("the key or the context does not belong to this payload")
    aead, nonce = AESGCM(keys[:32]), int.from_bytes(keys[32:44], "big")
    chunks = (sealed[at : at + 16400] for at in range(0, len(sealed) + 1, 16400))
    plaintext = [aead.decrypt((nonce ^ k).to_bytes(12, "big"), chunk, None) for k, chunk in enumerate(chunks)]
    return b"".join(plaintext)


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        whole = file.read()
    sys.stdout.buffer.write(open_envelope(whole, dict(pair.split("=", 1) for pair in sys.argv[2:]), boto3.Session()))
