"""Messages of the AWS Encryption SDK under a fixed data key, through every reader.

Nobody guesses a tag, so the header of an input gets the commitment and tag that it needs; what is behind it is reached.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealwax._core.foreign import passes
from sealwax._core.foreign.data_key import ForeignDataKey
from sealwax._core.foreign.esdk import whole
from sealwax._core.foreign.esdk.header import MAX_HEADER_BYTES, EsdkHeader, header_of, read_header
from sealwax._core.foreign.esdk.opening import OpenMessage
from sealwax._core.foreign.esdk.random_access import FrameReader
from sealwax._core.foreign.esdk.signature import PUBLIC_KEY
from sealwax._core.foreign.esdk.suites import SUITES, EsdkSuite
from sealwax.errors import HeaderError, PayloadError

KEY: Final = bytes(range(32))
PLAINTEXT: Final = bytes(range(100))
_DATA_KEYS: Final = b"\0\1\0\7aws-kms\0\3arn\0\7wrapped"


def check(data: bytes) -> None:
    header = _read(data)
    if header is None:
        return
    header = authentic(header)
    _same(header, header.signed_bytes + data[header.size :])


def _read(data: bytes) -> EsdkHeader | None:
    asked = 0
    source = io.BytesIO(data)

    def read(size: int) -> bytes:
        nonlocal asked
        asked += size
        return source.read(size)

    try:
        header = read_header(read)
    except HeaderError as error:
        if _refusal(data) != (type(error), str(error)):
            raise AssertionError("a value and a stream do not end alike") from None
        return None
    finally:
        assert asked <= MAX_HEADER_BYTES, "more was asked for than the largest header has"
    assert asked == header.size, "a header is read to its end and no further"
    assert header == header_of(data)
    assert header.signed_bytes == data[:asked], "a header has one form"
    return header


def _refusal(data: bytes) -> tuple[type[Exception], str] | None:
    try:
        header_of(data)
    except HeaderError as error:
        return type(error), str(error)
    return None


def authentic(header: EsdkHeader) -> EsdkHeader:
    """Return the header with the commitment and the tag that belong to the data key."""
    key, suite = _key(header.suite), header.suite
    body, commitment = header.body, b""
    if suite.committing:
        commitment = suite.commit(key, header.message_id)
        body = body[: -len(commitment)] + commitment
    derived = suite.derive(key, header.message_id, commitment or None)
    tag = AESGCM(derived).encrypt(header.nonce, b"", body)
    return replace(header, body=body, commitment=commitment, tag=tag)


def _key(suite: EsdkSuite) -> ForeignDataKey:
    return ForeignDataKey(bytearray(KEY[: suite.key_bytes]))


def _same(header: EsdkHeader, message: bytes) -> None:
    """Read a message in every way: all give the same plaintext, or none gives any."""

    def opened() -> OpenMessage:
        return OpenMessage(header, _key(header.suite))

    def in_memory() -> bytes:
        return whole.decrypt_body(opened(), memoryview(message)[header.size :])

    def checked_first() -> bytes:
        with passes.reader(io.BytesIO(message), header.size, opened(), whole_first=True) as reader:
            return reader.read()

    def front_to_back() -> bytes:
        with passes.reader(io.BytesIO(message), header.size, opened()) as reader:
            return reader.read()

    def at_any_place() -> bytes:
        with FrameReader(io.BytesIO(message), header.size, len(message) - header.size, opened()) as reader:
            return reader.read()

    ways: list[Callable[[], bytes]] = [in_memory, checked_first]
    if opened().early:
        ways += [front_to_back, at_any_place]
    results: set[bytes | None] = set()
    for way in ways:
        try:
            results.add(way())
        except PayloadError:
            results.add(None)
    assert len(results) == 1, "the readers do not agree"


def message(number: int, plaintext: bytes, frame_length: int) -> bytes:
    """Return a message as the specification says, written in another way than by the library."""
    suite = SUITES[number]
    private = None if suite.curve is None else ec.derive_private_key(123_456_789, suite.curve)
    context = b"\0\0"
    if private is not None:
        form = serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        point = base64.b64encode(private.public_key().public_bytes(*form))
        context = _sized(b"\0\1" + _sized(PUBLIC_KEY.encode()) + _sized(point))
    message_id = bytes(range(32 if suite.committing else 16))
    start = (b"\2" if suite.committing else b"\1\x80") + number.to_bytes(2, "big") + message_id + context + _DATA_KEYS
    length = frame_length.to_bytes(4, "big")
    kind = b"\2" if frame_length else b"\1"
    end = kind + length + bytes(32 + 16) if suite.committing else kind + bytes(4) + b"\x0c" + length + bytes(12 + 16)
    header = authentic(header_of(start + end))
    derived = suite.derive(_key(suite), message_id, header.commitment or None)
    data = header.signed_bytes + b"".join(_body(AESGCM(derived), message_id, plaintext, frame_length))
    if private is not None and suite.signature is not None:
        data += _sized(private.sign(data, ec.ECDSA(suite.signature, deterministic_signing=True)))
    return data


def _body(aead: AESGCM, message_id: bytes, plaintext: bytes, length: int) -> list[bytes]:
    def sealed(number: int, what: bytes, part: bytes) -> bytes:
        aad = message_id + b"AWSKMSEncryptionClient " + what + number.to_bytes(4, "big") + len(part).to_bytes(8, "big")
        return aead.encrypt(number.to_bytes(12, "big"), part, aad)

    if not length:
        return [(1).to_bytes(12, "big"), len(plaintext).to_bytes(8, "big"), sealed(1, b"Single Block", plaintext)]
    parts = [plaintext[at : at + length] for at in range(0, len(plaintext), length)] or [b""]
    frames = []
    for number, part in enumerate(parts, 1):
        place = number.to_bytes(4, "big") + number.to_bytes(12, "big")
        if number < len(parts):
            frames += [place, sealed(number, b"Frame", part)]
        else:
            frames += [b"\xff" * 4 + place, len(part).to_bytes(4, "big"), sealed(number, b"Final Frame", part)]
    return frames


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
