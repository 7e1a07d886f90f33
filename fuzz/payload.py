"""Payloads under a fixed data key, through all three readers: front to back, at any place, and as one value.

Nobody guesses a tag either, so an input is one of two things: its first byte 0, a payload as it is; otherwise a list of
changes to a payload that opens (see :func:`changed`).
"""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import sealwax
from sealwax._core import context as ctx
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.keyring import DataKey, WrappedKey
from sealwax.errors import PayloadError

T = TypeVar("T")

KEY: Final = bytes(range(32))
CONTEXT: Final = {"purpose": "fuzzing"}
_ARN: Final = "arn:aws:kms:us-east-1:111122223333:key/0a0a0a0a-0000-4000-8000-00000000000a"
# Around the ends of chunks, where one chunk more or less is needed.
SIZES: Final = (0, 1, 16383, 16384, 16385, 32768, 49152, 49153)
PLAINTEXT: Final = random.Random(1).randbytes(max(SIZES))

_LAID_OUT: Final = hdr.lay_out(
    envelope_id=bytes(16),
    kms_context=ctx.encode(CONTEXT),
    local_pairs=0,
    wrapped_keys=(WrappedKey(_ARN, b"wrapped"),),
    slot_count=1,
    kind=hdr.DETACHED,
)
HEADER: Final = _LAID_OUT.to_bytes()
_INFO: Final = payload.info(
    _LAID_OUT.preamble.suite, _LAID_OUT.preamble.envelope_id, _LAID_OUT.preamble.kms_context, ctx.encode({})
)


class _FixedKeyring:
    """A keyring whose every data key is :data:`KEY`."""

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None = None,
    ) -> T:
        raise NotImplementedError

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:  # noqa: ARG002
        with DataKey(bytearray(KEY)) as data_key:
            return use(data_key)

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        raise NotImplementedError


_SEALER: Final = sealwax.Sealer(_FixedKeyring())


def sealed(plaintext: bytes, salt: bytes) -> bytes:
    """Return the one payload of ``plaintext`` under that salt."""
    with DataKey(bytearray(KEY)) as data_key:
        return payload.encrypt(payload.Encryptor(data_key, _INFO, salt), b"", plaintext)


_SEALED: Final = {size: sealed(PLAINTEXT[:size], bytes(payload.SALT_BYTES)) for size in SIZES}


def check(data: bytes) -> None:
    body = data[1:] if data[:1] == b"\0" else changed(data)
    released, whole = _front_to_back(body)
    again = sealed(released, body[: payload.SALT_BYTES]) if released or whole else b""
    if whole:
        assert again == body, "a payload has one form"
    else:
        chunks = len(released) // payload.CHUNK_BYTES
        end = payload.HEAD_BYTES + chunks * payload.SEALED_CHUNK_BYTES
        assert len(released) == chunks * payload.CHUNK_BYTES, "a last chunk is released only with its end"
        assert not chunks or again[:end] == body[:end], "what was released was not what was sealed"
    _as_one_value(body, released if whole else None)
    _at_any_place(body, released if whole else None, random.Random(zlib.crc32(data)))


def changed(script: bytes) -> bytes:
    """Return a payload that opens, after the changes in ``script``: its size's number, then four bytes a change."""
    body = bytearray(_SEALED[SIZES[script[1] % len(SIZES)] if len(script) > 1 else 0])
    for at in range(2, len(script) - 3, 4):
        what, high, low, value = script[at : at + 4]
        place = (high << 8 | low) % (len(body) + 1)
        chunk = payload.HEAD_BYTES + (place // payload.SEALED_CHUNK_BYTES) * payload.SEALED_CHUNK_BYTES
        following = slice(chunk, chunk + payload.SEALED_CHUNK_BYTES)
        match what % 7:
            case 0:
                body[place : place + 1] = bytes(byte ^ value for byte in body[place : place + 1])
            case 1:
                del body[place:]
            case 2:
                body[place:place] = bytes([value]) * (value % 64)
            case 3:
                del body[place : place + value]
            case 4:
                del body[following]
            case 5 if len(body) < 4 * payload.SEALED_CHUNK_BYTES:
                body[chunk:chunk] = body[following]
            case 6:
                body += body[following]
                del body[following]
    return bytes(body)


def _front_to_back(body: bytes) -> tuple[bytes, bool]:
    """Return what was released, and whether that was all."""
    released = bytearray()
    try:
        with _SEALER.open_stream(io.BytesIO(body), context=CONTEXT, header=HEADER) as reader:
            while part := reader.read(10_000):
                released += part
    except PayloadError:
        return bytes(released), False
    return bytes(released), True


def _as_one_value(body: bytes, expected: bytes | None) -> None:
    try:
        assert _SEALER.decrypt(body, context=CONTEXT, header=HEADER) == expected
    except PayloadError:
        assert expected is None


def _at_any_place(body: bytes, expected: bytes | None, places: random.Random) -> None:
    try:
        with _SEALER.open(io.BytesIO(body), context=CONTEXT, header=HEADER) as reader:
            size = reader.seek(0, io.SEEK_END)
            assert size == payload.plaintext_size(len(body))
            if expected is not None:
                for _ in range(4):
                    at, count = places.randrange(size + 2), places.randrange(40_000)
                    reader.seek(at)
                    assert reader.read(count) == expected[at : at + count]
            reader.seek(0)
            assert reader.read() == expected, "reading all of it has authenticated all of it"
    except PayloadError:
        assert expected is None
