"""Files of two scripts that many have copied: ENVKMS01, and the one of the boto3 guide.

ENVKMS01 is AES-256-GCM without AAD, so nothing of it is authentic before its end::

    "ENVKMS01" | u32 length + wrapped key | u32 length + JSON of the context | nonce (12) | ciphertext | tag (16)

The guide's file binds its data key to no context::

    u32 length + wrapped key | Fernet token: base64url(80 | u64 time | IV (16) | AES-128-CBC | HMAC-SHA-256 (32))

The token is read here in pieces, with AES-CBC and HMAC of ``cryptography``: its class ``Fernet`` takes the whole file
into memory, and keeps copies of the key that cannot be wiped.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hmac import HMAC

from sealwax._core.foreign.gcm import MOST_BYTES, NONCE_BYTES, TAG_BYTES, GcmBody, decryptor_of
from sealwax._core.foreign.json_text import object_in, texts_of
from sealwax._core.foreign.passes import Body
from sealwax._core.foreign.rules import BOTO3_FERNET, ENVKMS, ENVKMS_MAGIC, LONGEST_BLOB
from sealwax._core.format.io import refuse_copies
from sealwax._core.format.payload import GROUP_BYTES, leave_no_registers
from sealwax._core.keyring import DataKey, wipe
from sealwax.errors import DamagedHeaderError, NotAnEnvelopeError, TamperedError

_MAX_CONTEXT_BYTES: Final = 1 << 16

_VERSION: Final = 0x80
_IV: Final = slice(9, 25)
_HMAC_BYTES: Final = 32
_BLOCK_BYTES: Final = 16
_SIGNING_BYTES: Final = 16
# In base64: the part of a token before its ciphertext, and what is kept back until the end is known.
_BEFORE: Final = 36
_KEPT_BACK: Final = 72
_SMALLEST_TOKEN: Final = 100
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True)
class ScriptHeader:
    """What precedes the ciphertext. None of it is authenticated.

    Attributes:
        format: ``"envkms01"`` or ``"boto3-fernet"``.
        wrapped_key: the data key as KMS wrapped it; which key wrapped it is not said.
        context: the pairs that KMS sees.
        nonce: of ENVKMS01; empty in the guide's file.
        size: how many bytes all of this takes.
    """

    format: str
    wrapped_key: bytes
    context: Mapping[str, str]
    nonce: bytes
    size: int

    def check_body(self, size: int) -> None:
        """Refuse a body of a size that none has; no KMS call is needed for that.

        Raises:
            TamperedError: it is cut off or extended.
        """
        if self.format == ENVKMS:
            fits = TAG_BYTES <= size <= MOST_BYTES + TAG_BYTES
        else:
            fits = size >= _SMALLEST_TOKEN and size % 4 <= 1
        if not fits:
            raise TamperedError(f"the file is cut off or extended: {size} bytes follow its header")


def read_header(read: Callable[[int], bytes]) -> ScriptHeader:
    """Return the header of a file.

    Args:
        read: returns this many bytes, fewer only at the end.

    Raises:
        DamagedHeaderError: it is cut off, or a part is longer than any is.
        NotAnEnvelopeError: it is of neither format.
    """
    first = read(4)
    if first == ENVKMS_MAGIC[:4]:
        if read(4) != ENVKMS_MAGIC[4:]:
            raise NotAnEnvelopeError("this is not an ENVKMS01 file, although it begins like one")
        blob = _sized(read, _taken(read, 4), LONGEST_BLOB, "wrapped key")
        text = _sized(read, _taken(read, 4), _MAX_CONTEXT_BYTES, "context")
        size = len(ENVKMS_MAGIC) + 4 + len(blob) + 4 + len(text) + NONCE_BYTES
        return ScriptHeader(ENVKMS, blob, _context(text), _taken(read, NONCE_BYTES), size)
    if len(first) < 4:
        raise NotAnEnvelopeError("this is not a file of the boto3 guide: it is too short")
    blob = _sized(read, first, LONGEST_BLOB, "wrapped key")
    return ScriptHeader(BOTO3_FERNET, blob, {}, b"", 4 + len(blob))


def _taken(read: Callable[[int], bytes], size: int) -> bytes:
    data = read(size)
    if len(data) < size:
        raise DamagedHeaderError("the file is cut off inside its header")
    return data


def _sized(read: Callable[[int], bytes], length: bytes, most: int, what: str) -> bytes:
    size = int.from_bytes(length, "big")
    if not size and most == LONGEST_BLOB:
        raise DamagedHeaderError(f"the file's {what} is empty")
    if size > most:
        raise DamagedHeaderError(f"the file's {what} would have {size} bytes, and can have {most} at most")
    return _taken(read, size)


def _context(text: bytes) -> dict[str, str]:
    if not text or text.strip() == b"null":
        return {}
    return texts_of(object_in(text, "the file's context", _damaged), "the file's context", _damaged)


def _damaged(what: str) -> NoReturn:
    raise DamagedHeaderError(what)


class OpenScript:
    """The key of one file; wiped by ``close``.

    Args:
        header: the file's header.
        data_key: its data key, which is copied.

    Attributes:
        size: how many bytes follow the header; to be set before the body is opened.
    """

    __copy__ = __reduce_ex__ = refuse_copies

    # Nothing is authentic before the end.
    early: Final = False

    def __init__(self, header: ScriptHeader, data_key: DataKey) -> None:
        self._header = header
        self._key = bytearray(data_key.buffer)
        self.size = 0

    def body(self) -> Body:
        """Return what opens the file once, front to back."""
        if not self._key:
            raise ValueError("the file's key was dropped")
        self._header.check_body(self.size)
        if self._header.format == BOTO3_FERNET:
            return TokenBody(self._key, self.size)
        return GcmBody(decryptor_of(self._key, self._header.nonce), self.size - TAG_BYTES)

    def signed(self) -> None:
        """No file has a signature."""

    def close(self) -> None:
        """Drop the key."""
        wipe(self._key)
        self._key = bytearray()

    def __del__(self) -> None:
        if "_key" in self.__dict__:
            self.close()


class TokenBody:
    """Opens a Fernet token front to back; nothing of it is authentic before ``finished``.

    Args:
        key: 16 bytes that authenticate, and 16 that encrypt. They are not kept.
        size: how many characters the token has, with the newline that an editor may have put after it.
    """

    def __init__(self, key: bytearray, size: int) -> None:
        with memoryview(key) as view:
            self._hmac: HMAC | None = HMAC(view[:_SIGNING_BYTES], hashes.SHA256())
            self._key: bytearray | None = bytearray(view[_SIGNING_BYTES:])
        self._decryptor: CipherContext | None = None
        self._left = size
        self.finished = False
        self.capacity = self.room = GROUP_BYTES

    def open_into(self, sealed: memoryview, into: memoryview) -> tuple[int, int]:
        size = min(self._left, len(sealed))
        last = size == self._left
        if not last:
            size = max(0, size - _KEPT_BACK) & ~3
            if size < _BEFORE:
                return 0, 0
        text = bytes(sealed[:size])
        data = self._decoded(text.removesuffix(b"\n") if last else text, last=last)
        try:
            written = self._decrypt(data, into, last=last)
        finally:
            leave_no_registers()
        self._left -= size
        return size, written

    @staticmethod
    def _decoded(text: bytes, *, last: bool) -> bytes:
        if not last and text.endswith(b"="):
            raise InvalidTag
        try:
            return binascii.a2b_base64(text.translate(_TO_STANDARD), strict_mode=True)
        except binascii.Error:
            raise InvalidTag from None

    def _decrypt(self, data: bytes, into: memoryview, *, last: bool) -> int:
        assert self._hmac is not None
        end = len(data) - (_HMAC_BYTES if last else 0)
        self._hmac.update(data[: max(0, end)])
        if last:
            try:
                self._hmac.verify(data[max(0, end) :])
            except InvalidSignature:
                raise InvalidTag from None
        start = 0
        if self._decryptor is None:
            start = self._begin(data[:end])
        assert self._decryptor is not None
        size = self._decryptor.update_into(data[start:end], into)
        return self._unpadded(into, size) if last else size

    def _begin(self, data: bytes) -> int:
        if len(data) < _IV.stop or data[0] != _VERSION or self._key is None:
            raise InvalidTag
        self._decryptor = Cipher(algorithms.AES(self._key), modes.CBC(data[_IV])).decryptor()
        return _IV.stop

    def _unpadded(self, into: memoryview, size: int) -> int:
        """Return how many bytes remain of ``size``; what is unpadded here is authentic."""
        assert self._decryptor is not None
        unpadder = padding.PKCS7(8 * _BLOCK_BYTES).unpadder()
        try:
            self._decryptor.finalize()
            final = unpadder.update(bytes(into[max(0, size - _BLOCK_BYTES) : size])) + unpadder.finalize()
        except ValueError:
            raise InvalidTag from None
        self.finished = True
        self.close()
        return size - _BLOCK_BYTES + len(final)

    def close(self) -> None:
        if self._key is not None:
            wipe(self._key)
        self._key = self._decryptor = self._hmac = None
