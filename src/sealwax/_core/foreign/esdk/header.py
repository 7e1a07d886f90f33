"""The header of a message, from bytes: strict, bounded, in one pass.

For any bytes, parsing ends in a header or a ``HeaderError``. Every length is checked before anything is read for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from sealwax._core.foreign.esdk.signature import PUBLIC_KEY, public_key
from sealwax._core.foreign.esdk.suites import COMMITMENT_BYTES, SUITES, EsdkSuite
from sealwax._core.foreign.gcm import NONCE_BYTES, TAG_BYTES
from sealwax._core.keyring import WrappedKey
from sealwax._text import printable
from sealwax.errors import DamagedHeaderError, HeaderError, NotAnEnvelopeError, UnsupportedEnvelopeError

MAX_HEADER_BYTES: Final = 1 << 20
MAX_DATA_KEYS: Final = 16
MAX_FRAME_BYTES: Final = 64 << 20
MESSAGE_ID_BYTES: Final = {1: 16, 2: 32}
PROVIDER_AWS_KMS: Final = "aws-kms"
RESERVED: Final = "aws-crypto-"
"""What the names of pairs begin with that are the format's own."""

_UNFRAMED: Final = 1
FRAMED: Final = 2
_CUSTOMER_AUTHENTICATED: Final = 0x80
_ZERO_NONCE: Final = bytes(NONCE_BYTES)
_U16: Final = struct.Struct(">H")
# After the encrypted data keys: content type, reserved zeros, length of nonces, frame length, nonce, tag.
_END_1: Final = struct.Struct(">B4sBI12s16s")
# Content type, frame length, commitment, tag.
_END_2: Final = struct.Struct(">BI32s16s")


@dataclass(frozen=True, slots=True)
class EncryptedDataKey:
    """A data key as a message stores it, wrapped by one provider. None of it is secret, and none is authenticated.

    Attributes:
        provider: who wrapped it: ``"aws-kms"``, or the name space of another keyring.
        info: what the provider needs to find its key; the key's ARN for AWS KMS.
        ciphertext: the wrapped data key.
    """

    provider: str
    info: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class EsdkHeader:
    """The header of a message. None of it is authenticated until its tag is checked.

    Attributes:
        suite: the algorithm suite.
        message_id: 16 or 32 bytes.
        context: the stored pairs, with the public key of a signed message.
        data_keys: the encrypted data keys.
        frame_length: how many bytes of plaintext a frame has; 0 if the body is not framed.
        commitment: what the header commits to; empty in version 1.
        nonce, tag: what authenticates the header.
        body: the header's bytes before nonce and tag.
        public_key: what verifies the signature; None if the message is not signed.
        size: the size of the whole header in bytes.
    """

    suite: EsdkSuite
    message_id: bytes
    context: dict[str, str]
    data_keys: tuple[EncryptedDataKey, ...]
    frame_length: int
    commitment: bytes
    nonce: bytes
    tag: bytes
    body: bytes
    public_key: ec.EllipticCurvePublicKey | None = field(default=None, compare=False)

    @property
    def size(self) -> int:
        return len(self.body) + len(self.tag) + (len(self.nonce) if self.suite.version == 1 else 0)

    @property
    def signed_bytes(self) -> bytes:
        """The whole header, which a signature covers."""
        return self.body + (self.nonce if self.suite.version == 1 else b"") + self.tag

    @property
    def caller_context(self) -> dict[str, str]:
        """The stored pairs that the caller gave: all but the public key."""
        return {name: value for name, value in self.context.items() if name != PUBLIC_KEY}

    @property
    def wrapped_keys(self) -> tuple[WrappedKey, ...]:
        """The data keys that AWS KMS wrapped, as a keyring takes them."""
        return tuple(
            WrappedKey(key.info.decode("utf-8", "backslashreplace"), key.ciphertext)
            for key in self.data_keys
            if key.provider == PROVIDER_AWS_KMS
        )


class _Taken:
    """Takes the header's bytes one after the other, and keeps them."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._parts: list[bytes] = []
        self.size = 0

    def take(self, size: int) -> bytes:
        if not size:
            return b""
        self.size += size
        if self.size > MAX_HEADER_BYTES:
            raise UnsupportedEnvelopeError("the message's header is larger than 1 MiB, the most that sealwax reads")
        data = self._read(size)
        if len(data) < size:
            raise DamagedHeaderError("the message is cut off inside its header")
        self._parts.append(data)
        return data

    def number(self) -> int:
        value: int = _U16.unpack(self.take(2))[0]
        return value

    def sized(self) -> bytes:
        return self.take(self.number())

    def all(self) -> bytes:
        return b"".join(self._parts)


def read_header(read: Callable[[int], bytes]) -> EsdkHeader:
    """Read a header, and not a byte more.

    Args:
        read: returns this many bytes from the current position, fewer only at the end.

    Raises:
        DamagedHeaderError: the header breaks a rule of the format, or is cut off.
        NotAnEnvelopeError: it is not a message.
        UnsupportedEnvelopeError: an unknown suite, or more than this release reads.
    """
    taken = _Taken(read)
    suite = _suite(taken)
    message_id = taken.take(MESSAGE_ID_BYTES[suite.version])
    context = _context(taken.sized())
    if (PUBLIC_KEY in context) != (suite.signature is not None):
        which = "a message that is not signed holds" if suite.signature is None else "a signed message lacks"
        raise DamagedHeaderError(f"{which} '{PUBLIC_KEY}' in its context")
    key = None if suite.signature is None else public_key(suite, context[PUBLIC_KEY])
    data_keys = _data_keys(taken)
    end = _end_1(taken) if suite.version == 1 else _end_2(taken)
    kind, frame_length, commitment, nonce, tag = end
    _check_body(kind, frame_length)
    body = taken.all()
    after = TAG_BYTES + (NONCE_BYTES if suite.version == 1 else 0)
    return EsdkHeader(
        suite, message_id, context, data_keys, frame_length, commitment, nonce, tag, body[: len(body) - after], key
    )


def header_of(view: memoryview | bytes) -> EsdkHeader:
    """Return the header at the start of a value.

    Raises:
        HeaderError: as for ``read_header``.
    """
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        at += size
        return bytes(view[at - size : at])

    return read_header(read)


def _suite(taken: _Taken) -> EsdkSuite:
    try:
        version = taken.take(1)[0]
        if version not in MESSAGE_ID_BYTES:
            raise _not_a_message()
        if version == 1 and taken.take(1)[0] != _CUSTOMER_AUTHENTICATED:
            raise _not_a_message()
        number = taken.number()
    except DamagedHeaderError:
        raise _not_a_message() from None
    suite = SUITES.get(number)
    if suite is None or suite.version != version:
        raise UnsupportedEnvelopeError(
            f"the message's algorithm suite, {number:04x} in version {version} of the format, is unknown"
        )
    return suite


def _not_a_message() -> HeaderError:
    return NotAnEnvelopeError("this is not a message of the AWS Encryption SDK")


def _context(data: bytes) -> dict[str, str]:
    """Return the pairs of a stored context. Their order does not matter: the header is authenticated as it is."""
    pairs: dict[str, str] = {}
    if not data:
        return pairs
    at = 0

    def text() -> str:
        nonlocal at
        start = at + 2
        at = start + _U16.unpack_from(data, at)[0]
        if at > len(data):
            raise DamagedHeaderError("the message's context is cut off")
        return data[start:at].decode()

    try:
        count = _U16.unpack_from(data)[0]
        at = 2
        for _ in range(count):
            name = text()
            if name in pairs:
                raise DamagedHeaderError(f"the message's context has two pairs named '{printable(name[:100])}'")
            pairs[name] = text()
    except struct.error:
        raise DamagedHeaderError("the message's context is cut off") from None
    except UnicodeDecodeError:
        raise DamagedHeaderError("the message's context is not valid UTF-8") from None
    if at != len(data):
        raise DamagedHeaderError("bytes follow the message's context")
    return pairs


def _data_keys(taken: _Taken) -> tuple[EncryptedDataKey, ...]:
    count = taken.number()
    if not count:
        raise DamagedHeaderError("the message has no encrypted data key")
    if count > MAX_DATA_KEYS:
        raise UnsupportedEnvelopeError(
            f"the message has {count} encrypted data keys; sealwax reads messages with at most {MAX_DATA_KEYS}"
        )
    keys = []
    for _ in range(count):
        try:
            provider = taken.sized().decode()
        except UnicodeDecodeError:
            raise DamagedHeaderError("the name of an encrypted data key's provider is not valid UTF-8") from None
        keys.append(EncryptedDataKey(provider, taken.sized(), taken.sized()))
    return tuple(keys)


_End = tuple[int, int, bytes, bytes, bytes]


def _end_1(taken: _Taken) -> _End:
    kind, reserved, nonce_bytes, frame_length, nonce, tag = _END_1.unpack(taken.take(_END_1.size))
    if any(reserved) or nonce_bytes != NONCE_BYTES:
        raise DamagedHeaderError(
            "a reserved field of the message's header is not zero, or its nonces have another size"
        )
    return kind, frame_length, b"", nonce, tag


def _end_2(taken: _Taken) -> _End:
    kind, frame_length, commitment, tag = _END_2.unpack(taken.take(_END_2.size))
    assert len(commitment) == COMMITMENT_BYTES
    return kind, frame_length, commitment, _ZERO_NONCE, tag


def _check_body(kind: int, frame_length: int) -> None:
    if kind not in (_UNFRAMED, FRAMED):
        raise DamagedHeaderError(f"the message's content type is {kind}; there are only 1 and 2")
    if (kind == FRAMED) != (frame_length > 0):
        raise DamagedHeaderError("the message's frame length contradicts its content type")
    if frame_length > MAX_FRAME_BYTES:
        raise UnsupportedEnvelopeError(
            f"the message's frames have {frame_length} bytes; sealwax reads frames of at most {MAX_FRAME_BYTES}"
        )
