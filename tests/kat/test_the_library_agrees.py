"""What ``cryptography.cobblestone`` writes every reader here opens, and the reverse: one construction, two programs."""

from __future__ import annotations

import io
import os

import pytest
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor

from sealwax._core.format import payload, random_access, stream
from sealwax._core.keyring import DataKey

SIZES = (0, 1, 16383, 16384, 16385, 65536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000)
INFO = b"what binds the payload"


def key_of(secret: bytes) -> DataKey:
    return DataKey(bytearray(secret))


def ours(secret: bytes, plaintext: bytes) -> list[bytes]:
    """Return the payload as a value and as a stream."""
    sink = io.BytesIO()
    with stream.StreamWriter(sink, payload.Encryptor(key_of(secret), INFO), lambda _: b"") as writer:
        writer.write(plaintext)
    return [payload.encrypt(payload.Encryptor(key_of(secret), INFO), b"", plaintext), sink.getvalue()]


@pytest.mark.parametrize("size", SIZES)
def test_the_library_opens_what_is_written_here(size: int) -> None:
    secret, plaintext = os.urandom(32), os.urandom(size)
    for sealed in ours(secret, plaintext):
        opened = Cobblestone256Decryptor(secret, INFO)
        assert opened.update(sealed) + opened.finalize() == plaintext


@pytest.mark.parametrize("size", SIZES)
def test_every_reader_here_opens_what_the_library_writes(size: int) -> None:
    secret, plaintext = os.urandom(32), os.urandom(size)
    made = Cobblestone256Encryptor(secret, INFO)
    sealed = made.update(plaintext) + made.finalize()
    head, body = sealed[: payload.HEAD_BYTES], sealed[payload.HEAD_BYTES :]
    assert payload.decrypt(payload.Decryptor(key_of(secret), INFO, head), memoryview(body)) == plaintext
    front = stream.StreamReader(io.BytesIO(body), payload.Decryptor(key_of(secret), INFO, head))
    assert front.readall() == plaintext
    anywhere = random_access.RandomAccessReader(io.BytesIO(sealed), 0, len(sealed), key_of(secret), INFO)
    assert anywhere.readall() == plaintext
