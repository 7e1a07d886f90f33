"""A message whose header was authenticated, and the parts of its body."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import AEADDecryptionContext
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.utils import Buffer

from sealwax._core import context as ctx
from sealwax._core.foreign.esdk.header import EsdkHeader
from sealwax._core.foreign.esdk.signature import SignedBytes
from sealwax._core.foreign.esdk.suites import NOT_THIS_KEY
from sealwax._core.foreign.gcm import MOST_BYTES, NONCE_BYTES, TAG_BYTES, GcmBody, decryptor_of
from sealwax._core.format.io import refuse_copies
from sealwax._core.format.payload import GROUP_BYTES, leave_no_registers, tampered
from sealwax._core.keyring import KeyInBuffer, wipe
from sealwax.errors import CommitmentError

FRAME_AAD: Final = b"AWSKMSEncryptionClient Frame"
FINAL_FRAME_AAD: Final = b"AWSKMSEncryptionClient Final Frame"
_SINGLE_AAD: Final = b"AWSKMSEncryptionClient Single Block"
END_MARK: Final = 0xFFFFFFFF
SEQUENCE_BYTES: Final = 4
FRAME_OVERHEAD: Final = SEQUENCE_BYTES + NONCE_BYTES + TAG_BYTES
# The end mark, sequence number, nonce and length; the ciphertext; the tag.
_FINAL_HEAD: Final = struct.Struct(">II12sI")
FINAL_OVERHEAD: Final = _FINAL_HEAD.size + TAG_BYTES
_SINGLE_HEAD: Final = struct.Struct(">12sQ")
U32: Final = struct.Struct(">I")
U32_U64: Final = struct.Struct(">IQ")


class OpenMessage:
    """The keys of one message, once its header is authentic. What it keeps is wiped by ``close``.

    Args:
        header: the message's header.
        data_key: its data key; nothing of it is kept, except where the suite encrypts with the data key itself.
        unstored: the pairs of the context that are bound and not stored.

    Raises:
        CommitmentError: the data key or the context does not belong to this header.
        DataKeyError: the data key has a size that the suite does not use.
    """

    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(self, header: EsdkHeader, data_key: KeyInBuffer, unstored: Mapping[str, str] | None = None) -> None:
        self.header = header
        self._aead: AESGCM | None = None
        self._key = bytearray()
        key = header.suite.derive(data_key, header.message_id, header.commitment or None)
        aead: AESGCM | None = None
        try:
            aead = AESGCM(key)
            bound = header.body + (ctx.encode(unstored) if unstored else b"")
            aead.decrypt(header.nonce, header.tag, bound)
            self._aead = aead
            if not header.frame_length:
                self._key = bytearray(key)
        except InvalidTag:
            raise CommitmentError(NOT_THIS_KEY) from None
        finally:
            wipe(key)
            aead = None
            leave_no_registers()

    @property
    def early(self) -> bool:
        """Whether each frame is authentic by itself, so that it may be released before the end."""
        return bool(self.header.frame_length) and self.header.suite.signature is None

    def body(self) -> FramedBody | UnframedBody:
        """Return what opens the body once, front to back."""
        if self.header.frame_length:
            return FramedBody(self)
        return UnframedBody(self)

    def signed(self) -> SignedBytes | None:
        """Return what verifies the message's signature, after its header; None if the message has none."""
        algorithm = self.header.suite.signature
        if algorithm is None or self.header.public_key is None:
            return None
        signed = SignedBytes(self.header.public_key, algorithm)
        signed.update(self.header.signed_bytes)
        return signed

    @property
    def aead(self) -> AESGCM:
        if self._aead is None:
            raise ValueError("the message's keys were dropped")
        return self._aead

    def decryptor(self, nonce: bytes, aad: bytes) -> AEADDecryptionContext:
        """Return what decrypts a body that is not framed, for one pass."""
        if not self._key:
            raise ValueError("the message's keys were dropped")
        return decryptor_of(self._key, nonce, aad)

    def close(self) -> None:
        """Drop the keys. Going out of scope is not enough: the frames of an exception may keep the object."""
        self._aead = None
        wipe(self._key)
        self._key = bytearray()

    def __del__(self) -> None:
        if "_key" in self.__dict__:
            self.close()


class Frames:
    """Opens frames at their positions.

    A writer's nonces are the numbers of the frames, or random in old messages; published vectors have others. So the
    nonce that a frame stores counts, and nothing is expected of it.

    Args:
        message: a message with frames.
    """

    def __init__(self, message: OpenMessage) -> None:
        self.length = message.header.frame_length
        self.step = self.length + FRAME_OVERHEAD
        self._message = message
        self._message_id = message.header.message_id
        self._aad = self._message_id + FRAME_AAD + U32_U64.pack(0, self.length)

    def open(self, number: int, sealed: memoryview, into: memoryview) -> int:
        """Decrypt the complete frames before the final one, the first of which has this number; return how many.

        Raises:
            InvalidTag: a frame was altered or moved.
        """
        length, step, aad = self.length, self.step, bytearray(self._aad)
        place = len(aad) - U32_U64.size
        mark_at, pack_into, work = U32.unpack_from, U32.pack_into, self._message.aead.decrypt_into
        at, at_into, first, most = 0, 0, number, len(sealed) - step
        try:
            # This is the innermost loop of all.
            while at <= most:
                mark = mark_at(sealed, at)[0]
                if mark != number or mark == END_MARK:
                    if mark == END_MARK:
                        break
                    raise InvalidTag
                pack_into(aad, place, number)
                nonce_at, start, at = at + SEQUENCE_BYTES, at + SEQUENCE_BYTES + NONCE_BYTES, at + step
                end_into = at_into + length
                work(sealed[nonce_at:start], sealed[start:at], aad, into[at_into:end_into])
                at_into = end_into
                number += 1
            return number - first
        finally:
            del work  # it holds the key, and a kept exception holds this frame
            leave_no_registers()

    def open_final(self, number: int, sealed: memoryview, into: memoryview) -> tuple[int, int] | None:
        """Decrypt the final frame, which must have this number; None if there is not all of it.

        Returns:
            The size of the frame, and of its plaintext.

        Raises:
            InvalidTag: the frame was altered or moved, or is longer than a frame may be.
        """
        if len(sealed) < FINAL_OVERHEAD:
            return None
        mark, stored, nonce, size = _FINAL_HEAD.unpack_from(sealed)
        if mark != END_MARK or stored != number or size > self.length:
            raise InvalidTag
        if len(sealed) < FINAL_OVERHEAD + size:
            return None
        aad = self._message_id + FINAL_FRAME_AAD + U32_U64.pack(number, size)
        try:
            self._message.aead.decrypt_into(nonce, sealed[_FINAL_HEAD.size : FINAL_OVERHEAD + size], aad, into[:size])
        finally:
            leave_no_registers()
        return FINAL_OVERHEAD + size, size


class FramedBody:
    """Opens a body of frames front to back."""

    def __init__(self, message: OpenMessage) -> None:
        self._frames = Frames(message)
        self._number = 1
        self.finished = False
        per_group = max(1, GROUP_BYTES // self._frames.step)
        # The final frame may be longer than the others, by what its overhead has more.
        self.capacity = per_group * self._frames.step + FINAL_OVERHEAD - FRAME_OVERHEAD
        self.room = per_group * self._frames.length

    def open_into(self, sealed: memoryview, into: memoryview) -> tuple[int, int]:
        count = self._frames.open(self._number, sealed, into)
        self._number += count
        used, size = count * self._frames.step, count * self._frames.length
        if len(sealed) - used < U32.size or U32.unpack_from(sealed, used)[0] != END_MARK:
            return used, size
        final = self._frames.open_final(self._number, sealed[used:], into[size:])
        if final is None:
            return used, size
        self.finished = True
        return used + final[0], size + final[1]

    def plaintext_bytes(self, sealed: memoryview) -> int:
        """Return how many bytes of plaintext the whole body claims to have, no more than it is long.

        Raises:
            TamperedError: it is cut off.
        """
        at, most, step = 0, len(sealed) - FINAL_OVERHEAD, self._frames.step
        while at <= most:
            mark, _, _, size = _FINAL_HEAD.unpack_from(sealed, at)
            if mark == END_MARK:
                if size > most - at:
                    break
                return at // step * self._frames.length + int(size)
            at += step
        raise tampered(None)

    def close(self) -> None:
        """Nothing is kept but the message."""


class UnframedBody:
    """Opens a body of one part front to back. Nothing of it is authentic before its end."""

    def __init__(self, message: OpenMessage) -> None:
        self._message = message
        self._body: GcmBody | None = None
        self.finished = False
        self.capacity = self.room = GROUP_BYTES

    def open_into(self, sealed: memoryview, into: memoryview) -> tuple[int, int]:
        head = 0
        if self._body is None:
            if len(sealed) < _SINGLE_HEAD.size:
                return 0, 0
            head = _SINGLE_HEAD.size
            self._body = self._begun(sealed)
        used, size = self._body.open_into(sealed[head:], into)
        self.finished = self._body.finished
        return head + used, size

    def _begun(self, sealed: Buffer) -> GcmBody:
        nonce, size = _SINGLE_HEAD.unpack_from(sealed)
        if size > MOST_BYTES:
            raise InvalidTag
        aad = self._message.header.message_id + _SINGLE_AAD + U32_U64.pack(1, size)
        return GcmBody(self._message.decryptor(nonce, aad), size)

    def plaintext_bytes(self, sealed: memoryview) -> int:
        """Return how many bytes of plaintext the whole body claims to have; as for ``FramedBody``."""
        if len(sealed) >= _SINGLE_HEAD.size + TAG_BYTES:
            size: int = _SINGLE_HEAD.unpack_from(sealed)[1]
            if size <= len(sealed) - _SINGLE_HEAD.size - TAG_BYTES:
                return size
        raise tampered(None)

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
