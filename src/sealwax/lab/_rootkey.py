"""The lab's root key, which encrypts every secret in the folder.

Without a passphrase or a key file, the root key is stored in the folder, and anyone who can read the folder can read
the secrets. With one, the folder alone is useless.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sqlite3
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealwax._core import disk, trusted
from sealwax.errors import LabError

_NONCE = 12
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1}
_MAX_KEY_FILE = 64 << 20
_SCRYPT_MEMORY = 64 << 20
_KEY_FILE = trusted.Kind("the lab's key file", LabError)


class RootKey:
    """Encrypts the lab's secrets at rest, each bound to a label that names its owner."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(hmac.digest(key, b"sealwax lab: secrets at rest", "sha256"))
        self._key = key

    def derive(self, purpose: bytes) -> bytes:
        """Derive a 32-byte key for a purpose."""
        return hmac.digest(self._key, b"sealwax lab: " + purpose, "sha256")

    def seal(self, secret: bytes | bytearray, label: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, secret, label)

    def unseal(self, sealed: bytes, label: bytes) -> bytes:
        """Raises LabError if the sealed secret is damaged."""
        try:
            return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], label)
        except InvalidTag as error:
            raise LabError("a secret in the lab's folder is damaged; restore the folder or make a new lab") from error


def load(connection: sqlite3.Connection, passphrase: str | None, key_file: Path | None) -> RootKey:
    """The folder's root key; a new folder gets one. The connection holds a write transaction.

    Raises:
        LabError: the passphrase or key file is wrong or missing, or the lab has neither.
    """
    if passphrase is not None and key_file is not None:
        raise LabError("give a passphrase or a key file for the lab, not both")
    protection = "passphrase" if passphrase is not None else "key file" if key_file is not None else "none"
    row = connection.execute("SELECT value FROM meta WHERE name='root'").fetchone()
    if row is None:
        key = os.urandom(32)
        salt = os.urandom(16)
        stored = key if protection == "none" else _wrap(_outer(passphrase, key_file, salt), key)
        record = {"protection": protection, "salt": salt.hex(), "key": stored.hex()}
        connection.execute("INSERT INTO meta VALUES ('root', ?)", (json.dumps(record),))
        return RootKey(key)
    record = json.loads(row[0])
    if record["protection"] != protection:
        if record["protection"] == "none":
            raise LabError("this lab was made without a passphrase or key file; open it without one")
        raise LabError(f"this lab was made with a {record['protection']}; open it with the same one")
    stored = bytes.fromhex(record["key"])
    if protection == "none":
        return RootKey(stored)
    outer = _outer(passphrase, key_file, bytes.fromhex(record["salt"]))
    try:
        return RootKey(AESGCM(outer).decrypt(stored[:_NONCE], stored[_NONCE:], b"sealwax lab root"))
    except InvalidTag as error:
        raise LabError(f"the {protection} is not the one that this lab was made with") from error


def _wrap(outer: bytes, key: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(outer).encrypt(nonce, key, b"sealwax lab root")


def _outer(passphrase: str | None, key_file: Path | None, salt: bytes) -> bytes:
    if passphrase is not None:
        return hashlib.scrypt(passphrase.encode(), salt=salt, dklen=32, maxmem=_SCRYPT_MEMORY, **_SCRYPT)
    if key_file is None:
        raise LabError("neither a passphrase nor a key file was given")
    digest, size = hmac.new(salt, digestmod="sha256"), 0
    try:
        with trusted.open_file(key_file, _KEY_FILE) as file:
            while content := file.read(1 << 16):
                digest.update(content)
                size += len(content)
                if size > _MAX_KEY_FILE:
                    raise LabError(f"the lab's key file {key_file} has more than {_MAX_KEY_FILE:,} bytes")
    except OSError as error:
        raise LabError(f"the lab's key file {key_file} cannot be read: {disk.reason(error)}") from error
    if size < 32:
        raise LabError(f"the lab's key file {key_file} is shorter than 32 bytes; use 32 random bytes or more")
    return digest.digest()
