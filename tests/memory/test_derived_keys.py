"""Deriving a key leaves no copy of it: each way by itself, before anything else could take the freed memory's place."""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from sealwax._core.foreign import hkdf
from sealwax._core.foreign.esdk.suites import SUITES
from sealwax._core.format import payload, witness
from sealwax._core.keyring import DataKey
from tests.memory import scan
from tests.memory.conftest import ROOT
from tests.memory.derive import ID, INFO, MESSAGE_ID, SALT
from tests.memory.midstate import sha256_state

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/PID/mem")


def expanded(secret: bytes, info: bytes, size: int) -> bytes:
    return HKDFExpand(hashes.SHA512(), size, info).derive(secret)


def hits(folder: Path, what: str) -> dict[str, int]:
    """What is found of a data key and the keys derived from it, in the memory of a program that has derived them."""
    secret = os.urandom(32)
    (folder / "key").write_bytes(secret)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.memory.derive", str(folder / "key"), what],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        derived = expanded(secret, payload.LABEL + SALT + INFO, 44)
        key = expanded(secret, witness.LABEL + INFO, 32)
        secrets = [secret, secret[:16], secret[16:], derived[:32], derived[32:], key, *esdk_keys(secret)]
        found = scan.process(process.pid, {"key": secrets})
        process.stdin.write(b"\n")
    return dict(found)


def esdk_keys(secret: bytes) -> list[bytes]:
    """The keys of messages of the AWS Encryption SDK, and what HKDF extracts first, in halves."""
    first = hmac.digest(bytes(32), secret, "sha256"), hmac.digest(MESSAGE_ID, secret, "sha512")
    old = hmac.digest(first[0], b"\1\x78" + MESSAGE_ID[:16] + b"\1", "sha256")
    new = hmac.digest(first[1], b"\4\x78DERIVEKEY\1", "sha512")
    return [first[0], first[1][:32], first[1][32:], old, new[:32]]


def test_the_keys_of_messages_are_those_of_the_format() -> None:
    secret = bytes(range(32))
    with DataKey(bytearray(secret)) as data_key:
        old = SUITES[0x0178].derive(data_key, MESSAGE_ID[:16], None)
        new = SUITES[0x0478].derive(data_key, MESSAGE_ID, SUITES[0x0478].commit(data_key, MESSAGE_ID))
    assert [bytes(old), bytes(new)] == esdk_keys(secret)[3:]


@linux
@pytest.mark.parametrize("what", ["chunks", "small", "witness", "esdk"])
def test_no_derived_key_is_left(tmp_path: Path, what: str) -> None:
    assert hits(tmp_path, what) == {}


@linux
def test_what_is_left_is_found(tmp_path: Path) -> None:
    assert hits(tmp_path, "a copy") != {}


def test_what_hkdf_worked_on_is_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its buffer, and on the stack: the same call is made with a key that is public."""
    calls: list[tuple[bytes, bytes, bytearray]] = []

    class Kept:
        def __init__(self, *given: Any) -> None:
            self._hkdf = HKDF(*given)

        def derive_into(self, key: bytes | bytearray, into: bytearray) -> None:
            self._hkdf.derive_into(key, into)
            calls.append((bytes(key), bytes(into), into))

    monkeypatch.setattr(hkdf, "HKDF", Kept)
    with DataKey(bytearray(range(32))) as data_key:
        key = hkdf.derive(hashes.SHA512(), 32, b"salt", b"info", data_key)
    (_, derived, buffer), (public, _, again) = calls
    assert public == bytes(32)
    assert again is buffer
    assert key == derived[:32]
    assert derived[:32] not in buffer
    assert derived[32:64] not in buffer


def test_the_keys_are_those_of_the_format() -> None:
    """However many bytes are derived to have them."""
    secret = bytes(range(32))
    with DataKey(bytearray(secret)) as data_key:
        chunks = payload.Chunks(data_key, INFO, SALT)
        taken = witness.Witness(data_key, ID, INFO)
        taken.update(b"data")
    assert chunks.commitment == expanded(secret, payload.LABEL + SALT + INFO, 76)[44:]
    chunks.close()
    key = expanded(secret, witness.LABEL + INFO, 32)
    assert taken.finish() == ID + hmac.digest(key, b"data", hashlib.sha256)


def test_the_state_is_that_of_sha_256() -> None:
    """Of a message of one block less the padding, which is the block here, the state is the digest."""
    message = b"what is hashed"
    padded = message + b"\x80" + bytes(64 - 1 - 8 - len(message)) + struct.pack(">Q", 8 * len(message))
    assert struct.pack(">8I", *sha256_state(padded)) == hashlib.sha256(message).digest()
