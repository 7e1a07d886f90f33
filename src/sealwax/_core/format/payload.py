"""The payload: Cobblestone-256, its keys, chunks and sizes, and whole payloads in memory.

The construction is C2SP chunked-encryption with AES-256-GCM and SHA-512 (https://c2sp.org/chunked-encryption)::

    salt 24 || commitment 32 || chunks of 16384 bytes of plaintext and a 16-byte tag; the last one is always shorter

    key 32 || base nonce 12 || commitment 32 = HKDF-Expand-SHA512(DEK, LABEL || 00 || salt || info)
    nonce of chunk k = base nonce XOR k

The keys are derived with cryptography's HKDFExpand, and the chunks encrypted with its AESGCM (``Chunks``). Its own
``cryptography.cobblestone`` is 10 to 20 percent faster, but leaves copies of the derived key, and when reading also of
the data key, in memory that it frees; and it has no random access. The known answers and the published vectors test
that both produce the same bytes.

Plaintext is decrypted into private buffers, returned only after its tag was checked, and wiped on failure and close.
"""

from __future__ import annotations

import io
import os
import struct
import threading
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.utils import Buffer

from sealwax._core.format.io import BinarySource, read_full, refuse_copies
from sealwax._core.keyring import SUITE_COBBLESTONE_256, DataKey, wipe
from sealwax.errors import CommitmentError, TamperedError

LABEL: Final = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
SALT_BYTES: Final = 24
HEAD_BYTES: Final = 56  # salt and commitment
CHUNK_BYTES: Final = 16384
TAG_BYTES: Final = 16
SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + TAG_BYTES
MAX_PLAINTEXT_BYTES: Final = 2**52 - 1

# How many chunks one system call reads or writes: 1 MiB of plaintext.
GROUP_CHUNKS: Final = 64
GROUP_BYTES: Final = GROUP_CHUNKS * CHUNK_BYTES
SEALED_GROUP_BYTES: Final = GROUP_CHUNKS * SEALED_CHUNK_BYTES

_SHA512: Final = hashes.SHA512()
_U64: Final = struct.Struct(">Q")
_U32: Final = struct.Struct(">I")
_DERIVED_BYTES: Final = 76  # payload key (32), base nonce (12) and commitment (32)
_INFO_PREFIX: Final = b"sealwax/envelope/v1\0"
_SUITE_1_PREFIX: Final = _INFO_PREFIX + bytes((SUITE_COBBLESTONE_256,))
_NOT_THIS_KEY: Final = (
    "the data key, the context or the header does not belong to this payload: a local context value differs, "
    "or the envelope was altered or put together from two; nothing was released"
)


def info(suite: int, envelope_id: bytes, kms_context: bytes, local_context: bytes) -> bytes:
    """Return the bytes that bind the payload to its envelope and the whole context; both contexts in canonical form."""
    return b"".join((_INFO_PREFIX, bytes((suite,)), envelope_id, framed(kms_context), framed(local_context)))


def framed(context: bytes) -> bytes:
    """Return one of the two contexts as ``info`` contains it."""
    return _U32.pack(len(context)) + context


def payload_size(plaintext_size: int) -> int:
    """Return the size of the payload for this many bytes of plaintext."""
    return HEAD_BYTES + plaintext_size + (plaintext_size // CHUNK_BYTES + 1) * TAG_BYTES


def plaintext_size(size: int) -> int:
    """Return the size of the plaintext in a payload of ``size`` bytes. The size alone proves nothing.

    Raises:
        TamperedError: no payload has that size.
    """
    full, rest = divmod(size - HEAD_BYTES, SEALED_CHUNK_BYTES)
    if size < HEAD_BYTES + TAG_BYTES or rest < TAG_BYTES:
        raise TamperedError(f"the payload is cut off: no payload has {max(size, 0)} bytes")
    return full * CHUNK_BYTES + rest - TAG_BYTES


_NO_KEY: Final = AESGCM(bytes(32))
_NO_NONCE: Final = bytes(12)
_NO_TEXT: Final = bytes(16)


def leave_no_registers() -> None:
    """Overwrite the round keys of the last key with those of a key of zeros.

    OpenSSL's AES-GCM for AVX-512 leaves them, and so the key, in vector registers that little else uses. The next
    signal, or the next function that the dynamic linker resolves, would save them on the stack.
    """
    _NO_KEY.encrypt(_NO_NONCE, _NO_TEXT, None)


def expand(data_key: DataKey, info: bytes) -> bytearray:
    """Return the first 76 bytes of HKDF-Expand-SHA512(DEK, info), for the caller to wipe.

    Only the first 64 bytes may contain keys: cryptography leaves a copy of its last block in memory that it frees. Here
    that is always the second block, which contains nothing secret.
    """
    derived = bytearray(_DERIVED_BYTES)
    HKDFExpand(_SHA512, _DERIVED_BYTES, info).derive_into(data_key.buffer, derived)
    return derived


class Chunks:
    """The derived keys of one payload, to encrypt and decrypt chunks at their positions.

    Raises:
        CommitmentError: ``commitment`` is given and belongs to another key.
    """

    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(self, data_key: DataKey, info: bytes, salt: bytes, commitment: Buffer | None = None) -> None:
        derived = expand(data_key, b"".join((LABEL, salt, info)))
        try:
            with memoryview(derived) as parts:
                self.commitment = bytes(parts[44:])
                if commitment is not None and not constant_time.bytes_eq(self.commitment, bytes(commitment)):
                    raise CommitmentError(_NOT_THIS_KEY)
                # The base nonce is not a key, but it is wiped with it.
                self._base_nonce = bytearray(parts[32:44])
                (self._counter,) = _U64.unpack_from(parts, 36)
                self._aead: AESGCM | None = AESGCM(parts[:32])
        finally:
            wipe(derived)

    def close(self) -> None:
        """Drop the keys. Going out of scope is not enough: the frames of an exception may keep the object."""
        self._aead = None
        wipe(self._base_nonce)
        self._counter = 0

    def __del__(self) -> None:
        if self.__dict__.get("_aead") is not None:
            self.close()

    def seal(self, first: int, plaintext: memoryview, into: memoryview, *, last: bool = False) -> int:
        """Encrypt whole chunks from ``first`` on, and with ``last`` the rest as the last one; return the new size."""
        return self._each(first, plaintext, CHUNK_BYTES, into, SEALED_CHUNK_BYTES, last)

    def seal_only(self, plaintext: memoryview) -> bytes:
        """Return chunk 0, which is also the last one, encrypted in fewer steps than ``seal``."""
        if self._aead is None:
            raise ValueError("the payload's keys were dropped")
        try:
            return self._aead.encrypt(self._base_nonce, plaintext, None)
        finally:
            leave_no_registers()

    def open_only(self, sealed: memoryview) -> bytes:
        """Return chunk 0, which is also the last one, decrypted in fewer steps than ``open``.

        Raises:
            InvalidTag: as for ``open``.
        """
        if self._aead is None:
            raise ValueError("the payload's keys were dropped")
        try:
            return self._aead.decrypt(self._base_nonce, sealed, None)
        finally:
            leave_no_registers()

    def open(self, first: int, sealed: memoryview, into: memoryview, *, last: bool = False) -> int:
        """Decrypt whole chunks from ``first`` on, and with ``last`` the rest as the last one; return the bytes written.

        Raises:
            InvalidTag: a chunk was altered or moved, or the last one is missing.
        """
        return self._each(first, sealed, SEALED_CHUNK_BYTES, into, CHUNK_BYTES, last)

    def _each(self, first: int, source: memoryview, step: int, into: memoryview, step_into: int, last: bool) -> int:
        if self._aead is None:
            raise ValueError("the payload's keys were dropped")
        work = self._aead.encrypt_into if step == CHUNK_BYTES else self._aead.decrypt_into
        # All nonces use one buffer, which is wiped. This is the innermost loop of all.
        nonce, pack_into, index = bytearray(self._base_nonce), _U64.pack_into, self._counter
        count = len(source) // step
        at = at_into = 0
        try:
            for number in range(first, first + count):
                pack_into(nonce, 4, index ^ number)
                end, end_into = at + step, at_into + step_into
                work(nonce, source[at:end], None, into[at_into:end_into])
                at, at_into = end, end_into
            if last:
                end_into = at_into + len(source) - at + step_into - step
                if end_into < at_into:
                    raise InvalidTag
                pack_into(nonce, 4, index ^ (first + count))
                work(nonce, source[at:], None, into[at_into:end_into])
                return end_into
            return at_into
        finally:
            wipe(nonce)
            del work  # it holds the key, and a kept exception holds this frame
            leave_no_registers()


class Encryptor:
    """Encrypts one payload front to back, under a new salt; it keeps only keys that are derived from ``data_key``.

    Attributes:
        head: the payload's first 56 bytes.
    """

    # A copy would continue at the same position: two plaintexts under one nonce.
    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(self, data_key: DataKey, info: bytes, salt: bytes | None = None) -> None:
        salt = os.urandom(SALT_BYTES) if salt is None else salt
        self._chunks = Chunks(data_key, info, salt)
        self.head = salt + self._chunks.commitment
        self._index = 0
        # Two threads, or a process and its forked child, must never encrypt two plaintexts under one nonce.
        self._lock = threading.Lock()
        self._process = os.getpid()

    def close(self) -> None:
        self._chunks.close()

    def seal_into(self, plaintext: memoryview, into: memoryview, *, last: bool = False) -> int:
        """Encrypt whole chunks, and with ``last`` the rest as the last one; return how many bytes were written.

        Raises:
            ValueError: this is a forked child of the process that began.
        """
        refuse_forked(self._process)
        with self._lock:
            # Counted first, so that after a failure nothing is encrypted under the same nonces again.
            first, self._index = self._index, self._index + len(plaintext) // CHUNK_BYTES + last
            return self._chunks.seal(first, plaintext, into, last=last)

    def seal_only(self, plaintext: memoryview) -> bytes:
        """Return the only chunk of a payload of fewer than 16384 bytes of plaintext."""
        with self._lock:
            if self._index:
                raise ValueError("this is not the first chunk")
            self._index = 1
            return self._chunks.seal_only(plaintext)


class Decryptor:
    """Decrypts one payload front to back.

    Args:
        data_key, info: the data key, and what binds the payload (``info``).
        head: the payload's first 56 bytes.

    Raises:
        CommitmentError: the key or the context does not belong to this payload.
    """

    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(self, data_key: DataKey, info: bytes, head: Buffer) -> None:
        with memoryview(head) as view:
            if len(view) != HEAD_BYTES:
                raise CommitmentError(_NOT_THIS_KEY)
            self._chunks = Chunks(data_key, info, bytes(view[:SALT_BYTES]), view[SALT_BYTES:])
        self._index = 0
        self._sealed = bytearray()

    def close(self) -> None:
        self._chunks.close()

    def open_from(self, source: BinarySource, into: memoryview) -> tuple[int, bool]:
        """Read and decrypt a group; return how many bytes were written, and whether it was the last one.

        Raises:
            InvalidTag: as for ``open_into``.
        """
        if not self._sealed:
            self._sealed = bytearray(SEALED_GROUP_BYTES)
        with memoryview(self._sealed) as sealed:
            size = read_full(source, sealed)
            last = size < len(sealed)
            return self.open_into(sealed[:size], into, last=last), last

    def open_into(self, sealed: memoryview, into: memoryview, *, last: bool = False) -> int:
        """Decrypt whole chunks, and with ``last`` the rest as the last one; return how many bytes were written.

        Raises:
            InvalidTag: a chunk was altered or moved, or the last one is missing.
        """
        size = self._chunks.open(self._index, sealed, into, last=last)
        self._index += len(sealed) // SEALED_CHUNK_BYTES + last
        return size

    def open_only(self, sealed: memoryview) -> bytes:
        """Return the plaintext of ``sealed``, the only chunk of a payload, which is shorter than a whole one.

        Raises:
            InvalidTag: the chunk was altered, or is not the last one.
        """
        return self._chunks.open_only(sealed)


def refuse_forked(process: int) -> None:
    """Refuse to continue in a forked child what ``process`` began: it would reuse nonces, and move a shared file.

    Raises:
        ValueError: this is another process.
    """
    if process != os.getpid():
        raise ValueError("an envelope that was open when the process was forked continues only in the parent")


def _room(size: int) -> io.BytesIO:
    """Return a buffer of ``size`` bytes that BytesIO later returns as ``bytes`` without another copy."""
    room = io.BytesIO()
    if size:
        room.seek(size - 1)
        room.write(b"\0")
    return room


def encrypt(encryptor: Encryptor, header: bytes, plaintext: Buffer) -> bytes:
    """Return a whole envelope: ``header`` and the payload of a value."""
    with memoryview(plaintext).cast("B") as view:
        if len(view) < CHUNK_BYTES:
            try:
                return b"".join((header, encryptor.head, encryptor.seal_only(view)))
            finally:
                encryptor.close()
        start = len(header) + HEAD_BYTES
        out = _room(len(header) + payload_size(len(view)))
        try:
            with out.getbuffer() as room:
                room[:start] = header + encryptor.head
                encryptor.seal_into(view, room[start:], last=True)
        finally:
            encryptor.close()
        return out.getvalue()


def decrypt(decryptor: Decryptor, body: memoryview) -> bytes:
    """Return the whole plaintext of a payload; ``body`` follows its head.

    Raises:
        TamperedError: a chunk is altered or missing, or bytes follow the end.
    """
    try:
        if TAG_BYTES <= len(body) < SEALED_CHUNK_BYTES:
            return decryptor.open_only(body)
        out = _room(plaintext_size(HEAD_BYTES + len(body)))
        with out.getbuffer() as room:
            try:
                decryptor.open_into(body, room, last=True)
            except BaseException:
                wipe(room)
                raise
        return out.getvalue()
    except InvalidTag:
        raise tampered(None) from None
    finally:
        decryptor.close()


class _Room:
    """A reusable buffer for the derived keys of one small payload at a time."""

    __slots__ = ("commitment", "derived", "key", "nonce")

    def __init__(self) -> None:
        self.derived = bytearray(_DERIVED_BYTES)
        view = memoryview(self.derived)
        self.key, self.nonce, self.commitment = view[:32], view[32:44], view[44:]


# Wiped and unused rooms: at most as many as threads have worked at once.
_rooms: Final[list[_Room]] = []


def _room_of_keys() -> _Room:
    try:
        return _rooms.pop()
    except IndexError:
        return _Room()


def seal_small(
    data_key: DataKey,
    header: tuple[bytes, ...],
    envelope_id: bytes,
    salt: bytes,
    kms: bytes,
    local: bytes,
    plaintext: bytes,
) -> bytes:
    """Return a whole envelope of less than a chunk, as ``encrypt`` does, in fewer steps.

    Args:
        header: the header's bytes, in parts.
        salt: 24 bytes that no other call has used.
        kms, local: the two contexts in canonical form, the first one ``framed``.
    """
    binding = b"".join((LABEL, salt, _SUITE_1_PREFIX, envelope_id, kms, _U32.pack(len(local)), local))
    room, aead = _room_of_keys(), None
    try:
        HKDFExpand(_SHA512, _DERIVED_BYTES, binding).derive_into(data_key.buffer, room.derived)
        aead = AESGCM(room.key)
        sealed = b"".join((*header, salt, room.commitment, aead.encrypt(room.nonce, plaintext, None)))
    finally:
        wipe(room.derived)
        del aead  # a kept exception holds this frame
        leave_no_registers()
    _rooms.append(room)  # only without an exception, whose frame would show the next use of the room
    return sealed


def open_small(data_key: DataKey, envelope_id: bytes, kms: bytes, local: bytes, sealed: bytes, start: int) -> bytes:
    """Return the plaintext of less than a chunk, as ``decrypt`` does, in fewer steps.

    Args:
        kms, local: the two contexts in canonical form, the first one ``framed``.
        start: where the payload begins in ``sealed``, which it ends.

    Raises:
        CommitmentError: the key or the context does not belong to this payload.
        TamperedError: the chunk is altered, or not the last one.
    """
    salt = sealed[start : start + SALT_BYTES]
    binding = b"".join((LABEL, salt, _SUITE_1_PREFIX, envelope_id, kms, _U32.pack(len(local)), local))
    room, aead = _room_of_keys(), None
    try:
        HKDFExpand(_SHA512, _DERIVED_BYTES, binding).derive_into(data_key.buffer, room.derived)
        if not constant_time.bytes_eq(bytes(room.commitment), sealed[start + SALT_BYTES : start + HEAD_BYTES]):
            raise CommitmentError(_NOT_THIS_KEY)
        aead = AESGCM(room.key)
        plaintext = aead.decrypt(room.nonce, sealed[start + HEAD_BYTES :], None)
    except InvalidTag:
        raise tampered(None) from None
    finally:
        wipe(room.derived)
        del aead
        leave_no_registers()
    _rooms.append(room)
    return plaintext


def tampered(position: int | None) -> TamperedError:
    """Return the error of a chunk that does not authenticate, ``position`` bytes into the plaintext."""
    where = "" if position is None else f" after byte {position} of the plaintext"
    return TamperedError(
        f"the payload does not authenticate{where}: it was altered, cut off or extended; "
        "no plaintext from there on was released"
    )
