"""The lab's root key: what every secret in the folder is encrypted under, and where it comes from itself.

Without a passphrase or a key file the root key lies in the folder, which is private: that protects nothing from whoever
can read the folder. With one, the folder alone is useless.
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
_MOST_KEY_FILE = 64 << 20
_SCRYPT_MEMORY = 64 << 20
_KEY_FILE = trusted.Kind("the lab's key file", LabError)


class RootKey:
    """Encrypts the lab's secrets at rest, each bound to a label that says whose secret it is."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(hmac.digest(key, b"sealwax lab: secrets at rest", "sha256"))
        self._key = key

    def derive(self, purpose: bytes) -> bytes:
        """Another 32-byte key for another purpose."""
        return hmac.digest(self._key, b"sealwax lab: " + purpose, "sha256")

    def seal(self, secret: bytes | bytearray, label: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, secret, label)

    def unseal(self, sealed: bytes, label: bytes) -> bytes:
        """Raises LabError when the folder's bytes are damaged."""
        try:
            return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], label)
        except InvalidTag as error:
            raise LabError("a secret in the lab's folder is damaged and does not decrypt") from error


def load(connection: sqlite3.Connection, passphrase: str | None, key_file: Path | None) -> RootKey:
    """The folder's root key, made at the first use. The connection holds a write transaction.

    Raises:
        LabError: the passphrase or key file is missing, wrong or of no use here.
    """
    if passphrase is not None and key_file is not None:
        raise LabError("a lab is opened with a passphrase or with a key file, not with both")
    protection = "passphrase" if passphrase is not None else "key file" if key_file is not None else "none"
    row = connection.execute("SELECT value FROM meta WHERE name='root'").fetchone()
    if row is None:
        key = os.urandom(32)
        salt = os.urandom(16)
        held = key if protection == "none" else _wrap(_outer(passphrase, key_file, salt), key)
        record = {"protection": protection, "salt": salt.hex(), "key": held.hex()}
        connection.execute("INSERT INTO meta VALUES ('root', ?)", (json.dumps(record),))
        return RootKey(key)
    record = json.loads(row[0])
    if record["protection"] != protection:
        wanted = {"none": "neither a passphrase nor a key file"}.get(record["protection"], f"a {record['protection']}")
        raise LabError(f"this lab was made with {wanted}; open it the same way")
    held = bytes.fromhex(record["key"])
    if protection == "none":
        return RootKey(held)
    outer = _outer(passphrase, key_file, bytes.fromhex(record["salt"]))
    try:
        return RootKey(AESGCM(outer).decrypt(held[:_NONCE], held[_NONCE:], b"sealwax lab root"))
    except InvalidTag as error:
        raise LabError(f"the {protection} does not open this lab") from error


def _wrap(outer: bytes, key: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(outer).encrypt(nonce, key, b"sealwax lab root")


def _outer(passphrase: str | None, key_file: Path | None, salt: bytes) -> bytes:
    if passphrase is not None:
        return hashlib.scrypt(passphrase.encode(), salt=salt, dklen=32, maxmem=_SCRYPT_MEMORY, **_SCRYPT)
    if key_file is None:
        raise LabError("neither a passphrase nor a key file was given")
    made, size = hmac.new(salt, digestmod="sha256"), 0
    try:
        with trusted.open_file(key_file, _KEY_FILE) as file:
            while content := file.read(1 << 16):
                made.update(content)
                size += len(content)
                if size > _MOST_KEY_FILE:
                    raise LabError(f"the lab's key file {key_file} has more than {_MOST_KEY_FILE:,} bytes")
    except OSError as error:
        raise LabError(f"the lab's key file {key_file} cannot be read: {disk.reason(error)}") from error
    if size < 32:
        raise LabError(f"the lab's key file {key_file} is shorter than 32 bytes; use random bytes from the kernel")
    return made.digest()
