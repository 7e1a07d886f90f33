"""Deriving a key leaves no copy of it: each way by itself, before anything else could take the freed memory's place."""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from sealwax._core.format import payload, witness
from sealwax._core.keyring import DataKey
from tests.memory import scan
from tests.memory.conftest import ROOT
from tests.memory.derive import ID, INFO, SALT
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
        found = scan.process(process.pid, {"key": [secret, derived[:32], derived[32:], key]})
        process.stdin.write(b"\n")
    return dict(found)


@linux
@pytest.mark.parametrize("what", ["chunks", "small", "witness"])
def test_no_derived_key_is_left(tmp_path: Path, what: str) -> None:
    assert hits(tmp_path, what) == {}


@linux
def test_what_is_left_is_found(tmp_path: Path) -> None:
    assert hits(tmp_path, "a copy") != {}


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
