"""Files as two scripts write them, with data keys of a lab."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealwax.lab import Lab


def sized(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def envkms(lab: Lab, key: str, data: bytes, context: Mapping[str, str]) -> bytes:
    """Return an ENVKMS01 file."""
    made = lab.session().client("kms").generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=dict(context))
    nonce = os.urandom(12)
    sealed = AESGCM(made["Plaintext"]).encrypt(nonce, data, None)
    return b"ENVKMS01" + sized(made["CiphertextBlob"]) + sized(json.dumps(dict(context)).encode()) + nonce + sealed


def guide(lab: Lab, key: str, data: bytes) -> bytes:
    """Return the file of the boto3 guide."""
    made = lab.session().client("kms").generate_data_key(KeyId=key, KeySpec="AES_256")
    token = Fernet(base64.urlsafe_b64encode(made["Plaintext"])).encrypt(data)
    return sized(made["CiphertextBlob"]) + token
