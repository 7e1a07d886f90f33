"""Messages of the AWS Encryption SDK: data keys under a raw AES key, and every way to read a message."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealwax._core.context import encode
from sealwax._core.foreign import passes
from sealwax._core.foreign.data_key import ForeignDataKey
from sealwax._core.foreign.esdk import random_access, whole, writing
from sealwax._core.foreign.esdk.header import EsdkHeader, header_of
from sealwax._core.foreign.esdk.opening import OpenMessage
from sealwax._core.keyring import DataKey, WrappedKey

ARN: Final = "arn:aws:kms:us-east-1:111122223333:key/0a0a0a0a-0000-4000-8000-00000000000a"
NAMESPACE: Final = "tests"
NAME: Final = b"the raw key"
RAW_KEY: Final = bytes(range(32))
DEK: Final = bytes(range(7, 39))

Reader = Callable[[bytes, EsdkHeader, bytearray, Mapping[str, str]], bytes]


def unwrapped(header: EsdkHeader, unstored: Mapping[str, str] | None = None) -> bytearray:
    """The data key that a raw AES keyring of the SDK has wrapped under :data:`RAW_KEY`."""
    key = header.data_keys[0]
    assert key.provider == NAMESPACE
    assert key.info.startswith(NAME)
    assert key.info[len(NAME) :][:8] == (128).to_bytes(4, "big") + (12).to_bytes(4, "big")
    context = {**header.context, **(unstored or {})}
    bound = encode(context) if context else b""
    return bytearray(AESGCM(RAW_KEY).decrypt(key.info[-12:], key.ciphertext, bound))


def written(
    plaintext: bytes,
    context: Mapping[str, str],
    frame_length: int = 4096,
    dek: bytes = DEK,
    wrapped: tuple[str, bytes] = (ARN, b"wrapped"),
) -> bytes:
    """A message of ours, whose wrapped key is no wrapped key unless one is given."""
    with DataKey(bytearray(dek)) as data_key:
        encryptor = writing.MessageEncryptor(data_key, context, (WrappedKey(*wrapped),), frame_length)
    return writing.encrypt(encryptor, plaintext)


# --- every way to read a message


def in_memory(message: bytes, header: EsdkHeader, dek: bytearray, unstored: Mapping[str, str]) -> bytes:
    return whole.decrypt_body(opened(header, dek, unstored), memoryview(message)[header.size :])


def opened(header: EsdkHeader, dek: bytearray, unstored: Mapping[str, str]) -> OpenMessage:
    with ForeignDataKey(bytearray(dek)) as key:
        return OpenMessage(header, key, unstored)


class Slow(io.BytesIO):
    """A file that gives less than it is asked for."""

    def readinto(self, buffer: Any, /) -> int:
        with memoryview(buffer) as view:
            return super().readinto(view[:10_000])


def front_to_back(message: bytes, header: EsdkHeader, dek: bytearray, unstored: Mapping[str, str]) -> bytes:
    with passes.reader(Slow(message), header.size, opened(header, dek, unstored)) as reader:
        out = io.BytesIO()
        reader.write_to(out)
        return out.getvalue()


def checked_first(message: bytes, header: EsdkHeader, dek: bytearray, unstored: Mapping[str, str]) -> bytes:
    source = io.BytesIO(message)
    with passes.reader(source, header.size, opened(header, dek, unstored), whole_first=True) as reader:
        return reader.read()


def at_any_place(message: bytes, header: EsdkHeader, dek: bytearray, unstored: Mapping[str, str]) -> bytes:
    size = len(message) - header.size
    raw = random_access.FrameReader(io.BytesIO(message), header.size, size, opened(header, dek, unstored))
    with io.BufferedReader(raw, 1 << 16) as reader:
        parts = []
        step = max(1, raw.size // 5)
        for at in reversed(range(0, raw.size, step)):
            reader.seek(at)
            parts.append(reader.read(step))
        return b"".join(reversed(parts))


def readers(header: EsdkHeader) -> list[Reader]:
    """Every reader that can read a message with this header."""
    early = header.frame_length > 0 and header.suite.signature is None
    return [in_memory, front_to_back, checked_first, *([at_any_place] if early else [])]


def every_reader(message: bytes, dek: bytearray, unstored: Mapping[str, str] | None = None) -> Iterator[bytes]:
    header = header_of(message)
    for read in readers(header):
        yield read(message, header, dek, unstored or {})
