"""Writes objects as the Amazon S3 Encryption Client does, by the published format and without sealwax."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

GCM: Final = "AES/GCM/NoPadding"
CBC: Final = "AES/CBC/PKCS5Padding"
CIPHER: Final = "aws:x-amz-cek-alg"
OF_OBJECT: Final = ("x-amz-c", "x-amz-d", "x-amz-i", "x-amz-unencrypted-content-length")


@dataclass
class Made:
    """An object.

    Attributes:
        metadata: all fields; with an instruction file, those that stay with the object.
        instructions: the fields in the instruction file; None if there is none.
    """

    body: bytes
    metadata: dict[str, str]
    instructions: dict[str, str] | None = None

    def put(self, s3: Any, key: str, *, bucket: str = "bucket", **settings: Any) -> None:
        s3.put_object(Bucket=bucket, Key=key, Body=self.body, Metadata=self.metadata, **settings)
        if self.instructions is not None:
            marked = {"x-amz-crypto-instr-file": ""}
            content = json.dumps(self.instructions).encode()
            s3.put_object(Bucket=bucket, Key=f"{key}.instruction", Body=content, Metadata=marked)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def make(
    kms: Any,
    key: str,
    data: bytes,
    context: Mapping[str, str],
    *,
    version: int = 3,
    cipher: str = GCM,
    wrapping: str = "kms+context",
    instructions: bool = False,
) -> Made:
    """Return an object. With the wrapping ``kms``, the KMS key's name is part of the context."""
    suite = "115" if version == 3 else cipher
    pairs = {**context, "kms_cmk_id": key} if wrapping == "kms" else {**context, CIPHER: suite}
    answer = kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=pairs)
    data_key, blob = answer["Plaintext"], answer["CiphertextBlob"]
    if version == 3:
        message_id = os.urandom(28)

        def derive(info: bytes, size: int) -> bytes:
            return HKDF(hashes.SHA512(), size, message_id, b"\0s" + info).derive(data_key)

        body = AESGCM(derive(b"DERIVEKEY", 32)).encrypt(b"\1" * 12, data, b"\0s")
        fields = {
            "x-amz-c": "115",
            "x-amz-3": b64(blob),
            "x-amz-w": "12",
            "x-amz-d": b64(derive(b"COMMITKEY", 28)),
            "x-amz-i": b64(message_id),
            "x-amz-t": json.dumps(pairs),
        }
    else:
        iv = os.urandom(12 if cipher == GCM else 16)
        if cipher == GCM:
            body = AESGCM(data_key).encrypt(iv, data, None)
        else:
            pad = padding.PKCS7(128).padder()
            encryptor = Cipher(algorithms.AES(data_key), modes.CBC(iv)).encryptor()
            body = encryptor.update(pad.update(data) + pad.finalize()) + encryptor.finalize()
        fields = {
            "x-amz-key-v2": b64(blob),
            "x-amz-iv": b64(iv),
            "x-amz-matdesc": json.dumps(pairs),
            "x-amz-wrap-alg": wrapping,
            "x-amz-cek-alg": cipher,
            "x-amz-unencrypted-content-length": str(len(data)),
            **({"x-amz-tag-len": "128"} if cipher == GCM else {}),
        }
    if not instructions:
        return Made(body, fields)
    own: dict[str, str] = {name: fields.pop(name) for name in OF_OBJECT if name in fields}
    return Made(body, own, fields)
