"""Messages of one suite are written: framed, with a key commitment, not signed (0478)."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.utils import Buffer

from sealwax._core import context as ctx
from sealwax._core.foreign.esdk.header import (
    FRAMED,
    MAX_DATA_KEYS,
    MAX_FRAME_BYTES,
    MESSAGE_ID_BYTES,
    PROVIDER_AWS_KMS,
    RESERVED,
)
from sealwax._core.foreign.esdk.opening import (
    END_MARK,
    FINAL_FRAME_AAD,
    FINAL_OVERHEAD,
    FRAME_AAD,
    FRAME_OVERHEAD,
    SEQUENCE_BYTES,
    U32,
    U32_U64,
)
from sealwax._core.foreign.esdk.suites import WRITTEN
from sealwax._core.foreign.gcm import NONCE_BYTES, TAG_BYTES
from sealwax._core.format.io import refuse_copies
from sealwax._core.format.payload import GROUP_BYTES, leave_no_registers, refuse_forked
from sealwax._core.keyring import PROVIDER_AWS_KMS as KMS
from sealwax._core.keyring import KeyInBuffer, WrappedKey, wipe
from sealwax._text import printable
from sealwax.errors import ContextError

FRAME_BYTES: Final = 4096
_MOST_FRAMES: Final = 2**32 - 1


class MessageEncryptor:
    """Encrypts one message front to back, under a new id; it keeps only a key that is derived from ``data_key``.

    Each object makes one header, and each header has its own id: two headers of one id would share a nonce.

    Args:
        data_key: 32 bytes.
        context: the KMS context, which the message stores.
        wrapped_keys: the wrapped forms of the data key.
        frame_length: how many bytes of plaintext a frame has.

    Raises:
        ContextError: the context cannot be stored, or has a name that is the format's own.
        ValueError: there are no wrapped keys, or too many, or the frame length is out of range.
    """

    # A copy would continue at the same position: two plaintexts under one nonce.
    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(
        self,
        data_key: KeyInBuffer,
        context: Mapping[str, str],
        wrapped_keys: Sequence[WrappedKey],
        frame_length: int = FRAME_BYTES,
    ) -> None:
        if not 1 <= frame_length <= MAX_FRAME_BYTES:
            raise ValueError(f"the frame length must be 1 to {MAX_FRAME_BYTES}, not {frame_length}")
        self._length = frame_length
        self._number = 1
        self._finished = False
        # Two threads, or a process and its forked child, must never encrypt two plaintexts under one nonce.
        self._lock = threading.Lock()
        self._process = os.getpid()
        message_id = os.urandom(MESSAGE_ID_BYTES[WRITTEN.version])
        commitment = WRITTEN.commit(data_key, message_id)
        body = b"".join(
            (
                bytes((WRITTEN.version,)),
                WRITTEN.id.to_bytes(2, "big"),
                message_id,
                _sized(encoded(context)),
                _data_keys(wrapped_keys),
                bytes((FRAMED,)),
                U32.pack(frame_length),
                commitment,
            )
        )
        key = WRITTEN.derive(data_key, message_id, commitment)
        try:
            self._aead: AESGCM | None = AESGCM(key)
            self.head = body + self._aead.encrypt(bytes(NONCE_BYTES), b"", body)
        finally:
            wipe(key)
            leave_no_registers()
        self._aad = message_id + FRAME_AAD + U32_U64.pack(0, frame_length)
        self._final_aad = message_id + FINAL_FRAME_AAD

    def close(self) -> None:
        self._aead = None

    @property
    def group_bytes(self) -> int:
        """How many bytes ``seal_into`` writes at most for 1 MiB of plaintext."""
        return self.sealed_bytes(GROUP_BYTES, last=True) + FINAL_OVERHEAD

    def sealed_bytes(self, size: int, *, last: bool) -> int:
        """Return how many bytes ``seal_into`` writes for this many bytes of plaintext."""
        frames, rest = self._frames(size, last)
        return frames * (self._length + FRAME_OVERHEAD) + (FINAL_OVERHEAD + rest if last else 0)

    def _frames(self, size: int, last: bool) -> tuple[int, int]:
        """Return the number of frames before the final one, and the bytes that are left for it."""
        frames, rest = divmod(size, self._length)
        # A final frame should be whole rather than empty, where there is a choice.
        return (frames - 1, self._length) if last and frames and not rest else (frames, rest)

    def seal_into(self, plaintext: memoryview, into: memoryview, *, last: bool = False) -> int:
        """Encrypt whole frames, and with ``last`` the rest as the final one; return how many bytes were written.

        Raises:
            ValueError: the message is complete or has too many frames, ``plaintext`` ends within a frame that is not
                the final one, or this is a forked child of the process that began.
        """
        refuse_forked(self._process)
        with self._lock:
            frames, rest = self._frames(len(plaintext), last)
            if self._aead is None or self._finished or (rest and not last):
                raise ValueError("the message is complete, or its plaintext ends within a frame")
            number = self._number
            if number + frames > _MOST_FRAMES:
                raise ValueError(f"a message has at most {_MOST_FRAMES} frames; use longer ones")
            # Counted first, so that after a failure nothing is encrypted under the same nonces again.
            self._number, self._finished = number + frames, last
            at = self._seal_frames(self._aead, number, frames, plaintext, into)
            if last:
                at += self._seal_final(self._aead, number + frames, plaintext[frames * self._length :], into[at:])
            return at

    def _seal_frames(self, aead: AESGCM, number: int, count: int, plaintext: memoryview, into: memoryview) -> int:
        length, aad, nonce = self._length, bytearray(self._aad), bytearray(NONCE_BYTES)
        place, nonce_place = len(aad) - U32_U64.size, NONCE_BYTES - U32.size
        pack_into, work, skip = U32.pack_into, aead.encrypt_into, SEQUENCE_BYTES + NONCE_BYTES
        at = start = 0
        try:
            # This is the innermost loop of all.
            for each in range(number, number + count):
                pack_into(into, at, each)
                pack_into(nonce, nonce_place, each)
                pack_into(aad, place, each)
                into[at + SEQUENCE_BYTES : at + skip] = nonce
                end, end_into = start + length, at + length + FRAME_OVERHEAD
                work(nonce, plaintext[start:end], aad, into[at + skip : end_into])
                start, at = end, end_into
        finally:
            del work, aead  # they hold the key, and a kept exception holds this frame
            leave_no_registers()
        return at

    def _seal_final(self, aead: AESGCM, number: int, plaintext: memoryview, into: memoryview) -> int:
        nonce, size = number.to_bytes(NONCE_BYTES, "big"), len(plaintext)
        head = b"".join((U32.pack(END_MARK), U32.pack(number), nonce, U32.pack(size)))
        end = len(head) + size + TAG_BYTES
        into[: len(head)] = head
        try:
            aad = self._final_aad + U32_U64.pack(number, size)
            aead.encrypt_into(nonce, plaintext, aad, into[len(head) : end])
        finally:
            del aead
            leave_no_registers()
        return end


def encrypt(encryptor: MessageEncryptor, plaintext: Buffer) -> bytes:
    """Return a whole message, and close its encryptor."""
    try:
        with memoryview(plaintext).cast("B") as view:
            start = len(encryptor.head)
            out = io.BytesIO()
            out.seek(start + encryptor.sealed_bytes(len(view), last=True) - 1)
            out.write(b"\0")
            with out.getbuffer() as room:
                room[:start] = encryptor.head
                encryptor.seal_into(view, room[start:], last=True)
            return out.getvalue()
    finally:
        encryptor.close()


def encoded(context: Mapping[str, str]) -> bytes:
    """Return the bytes of a context, whose canonical form is also this format's.

    Raises:
        ContextError: it cannot be stored, or has a name that is the format's own.
    """
    own = next((name for name in context if name.casefold().startswith(RESERVED)), None)
    if own is not None:
        raise ContextError(
            f"names of context pairs that begin with '{RESERVED}' are the AWS Encryption SDK's own, and "
            f"'{printable(own[:100])}' is one: use another name"
        )
    ctx.check_new_keys(context)
    return ctx.encode(context) if context else b""


def _data_keys(wrapped_keys: Sequence[WrappedKey]) -> bytes:
    if not 1 <= len(wrapped_keys) <= MAX_DATA_KEYS or any(key.provider != KMS for key in wrapped_keys):
        raise ValueError(f"a message has 1 to {MAX_DATA_KEYS} data keys, each of them wrapped by AWS KMS")
    provider = _sized(PROVIDER_AWS_KMS.encode())
    keys = [provider + _sized(key.key_arn.encode()) + _sized(key.ciphertext) for key in wrapped_keys]
    return len(keys).to_bytes(2, "big") + b"".join(keys)


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
