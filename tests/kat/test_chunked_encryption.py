"""The AES-256 vectors of C2SP chunked-encryption, through every reader and the writer.

They come from ``cryptography_vectors``, and were made with HKDF-SHA-256. The construction leaves the hash open, and
Cobblestone-256 is the one with SHA-512. So each vector is first opened here, by a few lines of its own over AESGCM and
HKDFExpand, which its known key, nonce and plaintext hold to the text; then the same lines seal the same chunks under
SHA-512, fault by fault, and that is what our readers and the library's get. It pins SHA-512, the label, the order of
the derived keys and the nonces.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from sealwax._core.format import payload, random_access, stream
from sealwax._core.keyring import DataKey
from sealwax.errors import CommitmentError, PayloadError, TamperedError

SALT, HEAD, SEALED, TAG = 24, 56, 16400, 16


class Derived:
    """The keys of one payload, by the construction's text alone."""

    def __init__(self, algorithm: hashes.HashAlgorithm, key: bytes, salt: bytes, context: bytes) -> None:
        label = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
        self.all = HKDFExpand(algorithm, 76, label + salt + context).derive(key)
        self.key, self.base_nonce, self.commitment = self.all[:32], self.all[32:44], self.all[44:]

    def nonce(self, index: int) -> bytes:
        return (int.from_bytes(self.base_nonce, "big") ^ index).to_bytes(12, "big")

    def open(self, index: int, chunk: bytes) -> bytes | None:
        try:
            return AESGCM(self.key).decrypt(self.nonce(index), chunk, None)
        except InvalidTag:
            return None

    def seal(self, index: int, text: bytes) -> bytes:
        return AESGCM(self.key).encrypt(self.nonce(index), text, None)

    def open_unauthenticated(self, index: int, chunk: bytes) -> bytes:
        cipher = Cipher(algorithms.AES(self.key), modes.CTR(self.nonce(index) + b"\0\0\0\2"))
        return cipher.decryptor().update(chunk[:-TAG])


def _under_sha512(vector: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return a vector's bytes as Cobblestone-256 has them, and the plaintext of the chunks that open at their place."""
    key, context, data = bytes.fromhex(vector["key"]), vector["context"].encode(), vector["bytes"]
    salt = data[:SALT]
    old, new = (Derived(algorithm, key, salt, context) for algorithm in (hashes.SHA256(), hashes.SHA512()))
    if "aead_key" in vector:
        assert (old.key.hex(), old.base_nonce.hex()) == (vector["aead_key"], vector["base_nonce"])
    if data[SALT:HEAD] != old.commitment:
        return data, b""  # it must fail at the commitment, and does so under either hash
    out, plain = [salt, new.commitment], []
    whole = True
    pieces = [data[at : at + SEALED] for at in range(HEAD, len(data), SEALED)]
    for index, piece in enumerate(pieces):
        text = old.open(index, piece)
        if text is not None:
            out.append(new.seal(index, text))
            if whole:
                plain.append(text)
            continue
        whole = False
        out.append(_faulty_piece(old, new, index, piece, len(pieces)))
    return b"".join(out), b"".join(plain)


def _faulty_piece(old: Derived, new: Derived, index: int, piece: bytes, count: int) -> bytes:
    for other in range(count):  # a chunk of another place
        text = old.open(other, piece)
        if text is not None:
            return new.seal(other, text)
    for size in range(TAG, len(piece)):  # a good last chunk that something follows
        text = old.open(index, piece[:size])
        if text is not None:
            rest = piece[size:]
            extra = old.open(index + 1, rest)
            return new.seal(index, text) + (rest if extra is None else new.seal(index + 1, extra))
    if len(piece) < TAG:
        return piece
    sealed = bytearray(new.seal(index, old.open_unauthenticated(index, piece)))
    sealed[-1] ^= 1
    return bytes(sealed)


def _load() -> list[dict[str, Any]]:
    text = resources.files("cryptography_vectors").joinpath("chunked-encryption/vectors.json").read_text("utf-8")
    vectors: list[dict[str, Any]] = json.loads(text)["vectors"]
    for vector in vectors:
        data = base64.b64decode(vector["ciphertext"] or "")
        vector["bytes"] = zlib.decompress(data) if vector.get("compressed") else data
    return [vector for vector in vectors if vector["aead"] == "AEAD_AES_256_GCM"]


VECTORS = _load()
# A data key of another length never becomes a DataKey, so these two end before any reader.
WRONG_LENGTH = [vector for vector in VECTORS if len(vector["key"]) != 64]
READABLE = [vector for vector in VECTORS if len(vector["key"]) == 64]
for _vector in READABLE:
    _vector["bytes"], _vector["plaintext"] = _under_sha512(_vector)
SUCCESS = [vector for vector in READABLE if vector["expect"] == "success"]

# What each vector that must fail fails with, so that a reader cannot fail for another reason than the vector's.
NO_COMMITMENT = {"wrong_commitment", "wrong_key", "wrong_context", "wrong_salt"}


def test_how_many_vectors_there_are() -> None:
    assert Counter(vector["expect"] for vector in VECTORS) == {"success": 9, "failure": 25}
    assert len(WRONG_LENGTH) == 2
    assert {vector["expect"] for vector in WRONG_LENGTH} == {"failure"}


def _inputs(vector: dict[str, Any]) -> tuple[DataKey, bytes, bytes]:
    return DataKey(bytearray.fromhex(vector["key"])), vector["context"].encode(), vector["bytes"]


def by_decrypt(vector: dict[str, Any]) -> bytes:
    data_key, info, data = _inputs(vector)
    payload.plaintext_size(len(data))
    with data_key:
        decryptor = payload.Decryptor(data_key, info, data[: payload.HEAD_BYTES])
    return payload.decrypt(decryptor, memoryview(data)[payload.HEAD_BYTES :])


def by_stream(vector: dict[str, Any]) -> bytes:
    data_key, info, data = _inputs(vector)
    payload.plaintext_size(len(data))
    source = io.BytesIO(data)
    with data_key:
        decryptor = payload.Decryptor(data_key, info, source.read(payload.HEAD_BYTES))
    with stream.StreamReader(source, decryptor) as reader:
        return reader.readall() or b""


def by_random_access(vector: dict[str, Any]) -> bytes:
    data_key, info, data = _inputs(vector)
    with data_key:
        reader = random_access.RandomAccessReader(io.BytesIO(b"before" + data), 6, len(data), data_key, info)
    with reader:
        return reader.readall()


def by_random_access_backwards(vector: dict[str, Any]) -> bytes:
    data_key, info, data = _inputs(vector)
    with data_key:
        reader = random_access.RandomAccessReader(io.BytesIO(data), 0, len(data), data_key, info)
    parts: list[bytes] = []
    with reader:
        end = reader.size
        while end > 0:
            start = max(0, end - 70_001)
            reader.seek(start)
            parts.append(io.BufferedReader(_Window(reader), 1024).read(end - start))
            end = start
    return b"".join(reversed(parts))


class _Window(io.RawIOBase):
    """Lends a reader to a BufferedReader without giving it away to be closed."""

    def __init__(self, reader: random_access.RandomAccessReader) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._reader.readinto(buffer)


READERS = (by_decrypt, by_stream, by_random_access, by_random_access_backwards)


@pytest.mark.parametrize("read", READERS)
def test_every_vector(read: Callable[[dict[str, Any]], bytes]) -> None:
    ended: Counter[str] = Counter()
    for vector in READABLE:
        name = vector["name"].removeprefix("aes256gcm_")
        if vector["expect"] == "success":
            plaintext = read(vector)
            assert len(plaintext) == vector["payload_length"], name
            assert hashlib.sha256(plaintext).hexdigest() == vector["payload_sha256"], name
            ended["success"] += 1
        else:
            expected = CommitmentError if name in NO_COMMITMENT else TamperedError
            with pytest.raises(PayloadError) as caught:
                read(vector)
            assert type(caught.value) is expected, name
            ended[expected.__name__] += 1
    assert ended == {"success": 9, "CommitmentError": 4, "TamperedError": 19}


def test_a_key_of_another_length_is_no_data_key() -> None:
    for vector in WRONG_LENGTH:
        buffer = bytearray.fromhex(vector["key"])
        with pytest.raises(ValueError, match="a data key must have 32 bytes"):
            DataKey(buffer)
        assert not any(buffer)


def test_the_writer_under_the_vectors_salt() -> None:
    written = 0
    for vector in SUCCESS:
        data_key, info, data = _inputs(vector)
        with data_key:
            assert (
                payload.encrypt(payload.Encryptor(data_key, info, data[: payload.SALT_BYTES]), b"", by_decrypt(vector))
                == data
            )
        written += 1
    assert written == 9


def test_every_vector_is_what_its_text_says() -> None:
    """The lines that moved the vectors to SHA-512 opened exactly what the vectors say is in them."""
    with_keys = [vector for vector in READABLE if "aead_key" in vector]
    with_text = [vector for vector in READABLE if "payload_sha256" in vector]
    for vector in with_text:
        assert len(vector["plaintext"]) == vector["payload_length"], vector["name"]
        assert hashlib.sha256(vector["plaintext"]).hexdigest() == vector["payload_sha256"], vector["name"]
    assert (len(with_keys), len(with_text)) == (24, 18)


def test_our_derivation() -> None:
    for vector in SUCCESS:
        data_key, info, data = _inputs(vector)
        expected = Derived(hashes.SHA512(), bytes(data_key.buffer), data[:SALT], info)
        with data_key:
            chunks = payload.Chunks(data_key, info, data[:SALT])
        assert chunks.commitment == expected.commitment
        for index in (0, 1, 255, 256, 2**31, 2**38 - 1):
            sealed = bytearray(3 + TAG)
            assert chunks.seal(index, memoryview(b"abc"), memoryview(sealed), last=True) == len(sealed)
            assert sealed == expected.seal(index, b"abc")
