"""A snapshot of a process, restored: what its memory draws repeats, and what seals an envelope does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

import sealwax
from sealwax._core import context as ctx
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format import payload
from tests import fakes
from tests.memory import snapshot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads and writes /proc/PID/mem")

CONTEXT = {"purpose": "test"}
PROGRAM = """
import os, random
from cryptography.cobblestone import Cobblestone256Encryptor
import sealwax
from tests.fakes import FakeKeyring

cache = sealwax.CachingKeyring(FakeKeyring(), max_age=3600)
sealer = sealwax.Sealer(cache)
while os.read(0, 1):
    sealed = sealer.encrypt(b"x", context={"purpose": "test"})
    library = Cobblestone256Encryptor(bytes(32), b"")
    salt = (library.update(b"x") + library.finalize())[:24]
    os.write(1, f"{sealed.hex()} {salt.hex()} {random.random()} {cache.stats().calls}\\n".encode())
"""


def payload_key_and_nonce(sealed: bytes, salt: bytes | None = None) -> bytes:
    """Derive them as the format says, under another salt than the envelope's own where one is given."""
    header = inspect_envelope(sealed).header
    data_key = fakes.unwrap(header.slot.wrapped_keys[0], CONTEXT)
    preamble = header.preamble
    info = payload.info(1, preamble.envelope_id, ctx.encode(CONTEXT), ctx.encode({}))
    salt = sealed[preamble.payload_offset :][:24] if salt is None else salt
    return HKDFExpand(hashes.SHA512(), 76, payload.LABEL + salt + info).derive(data_key)[:44]


def test_a_restored_snapshot_repeats_no_key_and_nonce() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def turn() -> list[str]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        return process.stdout.readline().decode().split()

    try:
        for _ in range(50):
            turn()  # until it maps no more memory
        taken = snapshot.take(process.pid)
        first, salt, drawn, calls = turn()
        snapshot.restore(process.pid, taken)
        second, salt_again, drawn_again, calls_again = turn()
    finally:
        process.stdin.close()
        process.stdout.close()
        process.kill()
        process.wait()
    # It was restored: Python's generator and the library's own have said the same twice.
    assert (drawn_again, salt_again, calls_again) == (drawn, salt, calls)
    one, other = bytes.fromhex(first), bytes.fromhex(second)
    assert calls == "1"
    assert sealwax.inspect(one).wrapped_keys == sealwax.inspect(other).wrapped_keys  # one cached data key
    assert one[16:32] != other[16:32]
    assert payload_key_and_nonce(one) != payload_key_and_nonce(other)
    # Were the salt drawn from such a generator too, the envelope id alone would still keep them apart.
    assert payload_key_and_nonce(one, bytes(24)) != payload_key_and_nonce(other, bytes(24))
