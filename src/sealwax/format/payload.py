"""The payload: Cobblestone-256, written and read in one pass, or read at any place.

The construction is C2SP chunked-encryption with AES-256-GCM and SHA-512 (https://c2sp.org/chunked-encryption)::

    salt 24 || commitment 32 || chunks of 16384 bytes of plaintext and a 16-byte tag; the last one is always shorter

    key 32 || base nonce 12 || commitment 32 = HKDF-Expand-SHA512(DEK, LABEL || 00 || salt || info)
    nonce of chunk k = base nonce XOR k

The keys are derived with cryptography's HKDFExpand and the chunks sealed with its AESGCM (:class:`Chunks`). Its own
``cryptography.cobblestone`` does the same 10 to 20 percent faster, but leaves copies of the derived key, and when it
reads of the data key too, in memory that it gives back; and it has no random access. The known answers and the
published vectors hold both to the same bytes.

Plaintext is decrypted into private buffers, handed out only after its tag was checked, and wiped on failure and close.
"""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.utils import Buffer

from sealwax.errors import CommitmentError, TamperedError
from sealwax.keyring import DataKey, wipe

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

LABEL: Final = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
SALT_BYTES: Final = 24
HEAD_BYTES: Final = 56  # salt and commitment
CHUNK_BYTES: Final = 16384
TAG_BYTES: Final = 16
SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + TAG_BYTES
MAX_PLAINTEXT_BYTES: Final = 2**52 - 1

# One system call and one call into the library for so many chunks: 1 MiB of plaintext.
GROUP_CHUNKS: Final = 64
GROUP_BYTES: Final = GROUP_CHUNKS * CHUNK_BYTES
_SEALED_GROUP_BYTES: Final = GROUP_CHUNKS * SEALED_CHUNK_BYTES

_SHA512: Final = hashes.SHA512()
_U64: Final = struct.Struct(">Q")
_U32: Final = struct.Struct(">I")
_INFO_PREFIX: Final = b"sealwax/envelope/v1\0"
_NOT_THIS_KEY: Final = (
    "the data key, the context or the header does not belong to this payload: a local context value differs, "
    "or the envelope was altered or put together from two; nothing was released"
)


class Source(Protocol):
    """What a payload is read from: a binary file object."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


class SeekableSource(Source, Protocol):
    def seek(self, offset: int, whence: int = 0, /) -> int: ...


class Sink(Protocol):
    """What an envelope is written to: a binary file object."""

    def write(self, data: memoryview, /) -> int | None: ...


def info(suite: int, envelope_id: bytes, kms_context: bytes, local_context: bytes) -> bytes:
    """Return what binds the payload to its envelope and to the whole context; both contexts in canonical form."""
    return b"".join(
        (
            _INFO_PREFIX,
            bytes((suite,)),
            envelope_id,
            _U32.pack(len(kms_context)),
            kms_context,
            _U32.pack(len(local_context)),
            local_context,
        )
    )


def payload_size(plaintext_size: int) -> int:
    """Return the bytes that a payload of ``plaintext_size`` bytes takes."""
    return HEAD_BYTES + plaintext_size + (plaintext_size // CHUNK_BYTES + 1) * TAG_BYTES


def plaintext_size(size: int) -> int:
    """Return the bytes of plaintext in a payload of ``size`` bytes. The size alone proves nothing.

    Raises:
        TamperedError: no payload has that size.
    """
    full, rest = divmod(size - HEAD_BYTES, SEALED_CHUNK_BYTES)
    if size < HEAD_BYTES + TAG_BYTES or rest < TAG_BYTES:
        raise TamperedError(f"the payload is cut off: no payload has {max(size, 0)} bytes")
    return full * CHUNK_BYTES + rest - TAG_BYTES


_NO_KEY: Final = AESGCM(bytes(32))


def _leave_no_registers() -> None:
    """Put the round keys of a key of zeros where those of the last key are.

    OpenSSL's AES-GCM for AVX-512 leaves them, and so the key, in vector registers that little else ever uses. The next
    signal, or the next function that the dynamic linker has to find, would save them on the stack.
    """
    _NO_KEY.encrypt(bytes(12), bytes(16), None)


class Chunks:
    """The derived keys of one payload: single chunks, sealed and opened at their places.

    Raises:
        CommitmentError: ``commitment`` is given and is not this key's.
    """

    def __init__(self, data_key: DataKey, info: bytes, salt: bytes, commitment: Buffer | None = None) -> None:
        derived = bytearray(76)
        key = bytearray(32)
        try:
            HKDFExpand(_SHA512, len(derived), b"".join((LABEL, salt, info))).derive_into(data_key.buffer, derived)
            with memoryview(derived) as parts:
                self.commitment = bytes(parts[44:])
                if commitment is not None and not constant_time.bytes_eq(self.commitment, bytes(commitment)):
                    raise CommitmentError(_NOT_THIS_KEY)
                # Not by cutting ``derived``, which would move it and leave the old place as it was.
                key[:] = parts[:32]
                # The base nonce is no key, but it goes when the key goes.
                self._base_nonce = bytearray(parts[32:44])
            (self._counter,) = _U64.unpack_from(self._base_nonce, 4)
            self._aead: AESGCM | None = AESGCM(key)
        finally:
            wipe(derived)
            wipe(key)

    def close(self) -> None:
        """Give the keys up. Going out of scope is not enough: the frames of an exception may keep the object."""
        self._aead = None
        wipe(self._base_nonce)
        self._counter = 0

    def __del__(self) -> None:
        if "_base_nonce" in self.__dict__:
            self.close()

    def seal(self, first: int, plaintext: memoryview, into: memoryview, *, last: bool) -> int:
        """Seal whole chunks from ``first`` on, and with ``last`` the rest as the last one; return the bytes written."""
        return self._each(first, plaintext, CHUNK_BYTES, into, SEALED_CHUNK_BYTES, last)

    def open(self, first: int, sealed: memoryview, into: memoryview, *, last: bool) -> int:
        """Open whole chunks from ``first`` on, and with ``last`` the rest as the last one; return the bytes written.

        Raises:
            InvalidTag: cryptography's; a chunk is not the one that was sealed at its place, or the last one is missing.
        """
        return self._each(first, sealed, SEALED_CHUNK_BYTES, into, CHUNK_BYTES, last)

    def _each(self, first: int, source: memoryview, step: int, into: memoryview, step_into: int, last: bool) -> int:
        if self._aead is None:
            raise ValueError("the payload's keys were given up")
        work = self._aead.encrypt_into if step == CHUNK_BYTES else self._aead.decrypt_into
        # The nonces are made in one place, which is wiped, and in few steps: this is the innermost loop of all.
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
            del work  # it holds the key, and an exception that is kept holds this frame
            _leave_no_registers()


class Encryptor:
    """Seals one payload front to back, under a new salt; it keeps nothing of ``data_key``, only keys derived from it.

    Attributes:
        head: the payload's first 56 bytes.
    """

    def __init__(self, data_key: DataKey, info: bytes, salt: bytes | None = None) -> None:
        salt = os.urandom(SALT_BYTES) if salt is None else salt
        self._chunks = Chunks(data_key, info, salt)
        self.head = salt + self._chunks.commitment
        self._index = 0
        # Two threads at one index would be two texts under one nonce.
        self._lock = threading.Lock()

    def close(self) -> None:
        self._chunks.close()

    def seal_into(self, plaintext: memoryview, into: memoryview, *, last: bool) -> int:
        """Seal whole chunks, and with ``last`` the rest as the last one; return how many bytes were written."""
        with self._lock:
            # Counted before, so that what fails half-way is not sealed a second time under the same nonces.
            first, self._index = self._index, self._index + len(plaintext) // CHUNK_BYTES + last
            return self._chunks.seal(first, plaintext, into, last=last)


class Decryptor:
    """Opens one payload front to back.

    Args:
        head: the payload's first 56 bytes.

    Raises:
        CommitmentError: the key or the context is not this payload's.
    """

    def __init__(self, data_key: DataKey, info: bytes, head: Buffer) -> None:
        with memoryview(head) as view:
            if len(view) != HEAD_BYTES:
                raise CommitmentError(_NOT_THIS_KEY)
            self._chunks = Chunks(data_key, info, bytes(view[:SALT_BYTES]), view[SALT_BYTES:])
        self._index = 0

    def close(self) -> None:
        self._chunks.close()

    def open_into(self, sealed: memoryview, into: memoryview, *, last: bool) -> int:
        """Open whole chunks, and with ``last`` the rest as the last one; return how many bytes were written.

        Raises:
            InvalidTag: cryptography's; a chunk is not the one that was sealed at its place, or the last one is missing.
        """
        size = self._chunks.open(self._index, sealed, into, last=last)
        self._index += len(sealed) // SEALED_CHUNK_BYTES + last
        return size


def encryptor(data_key: DataKey, info: bytes) -> Encryptor:
    return Encryptor(data_key, info)


def decryptor(data_key: DataKey, info: bytes, head: Buffer) -> Decryptor:
    return Decryptor(data_key, info, head)


def _room(size: int) -> io.BytesIO:
    """Return ``size`` bytes to write into, which BytesIO gives out as ``bytes`` without copying them once more."""
    room = io.BytesIO()
    if size:
        room.seek(size - 1)
        room.write(b"\0")
    return room


def encrypt(encryptor: Encryptor, header: bytes, plaintext: Buffer) -> bytes:
    """Return a whole envelope of a value: ``header`` and its payload."""
    with memoryview(plaintext).cast("B") as view:
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
    """Return the whole plaintext of a payload; ``body`` is what follows its head.

    Raises:
        TamperedError: a chunk is altered or missing, or bytes follow the end.
    """
    try:
        out = _room(plaintext_size(HEAD_BYTES + len(body)))
        with out.getbuffer() as room:
            try:
                decryptor.open_into(body, room, last=True)
            except BaseException:
                wipe(room)
                raise
        return out.getvalue()
    except InvalidTag:
        raise _tampered(None) from None
    finally:
        decryptor.close()


def _tampered(position: int | None) -> TamperedError:
    where = "" if position is None else f" after byte {position} of the plaintext"
    return TamperedError(
        f"the payload does not authenticate{where}: it was altered, cut off or extended; "
        "nothing from there on was released"
    )


def refuse_copies(*_: object) -> NoReturn:
    """A copy would share the file and the keys, and close them for the original."""
    raise TypeError("an open envelope cannot be copied or pickled")


class StreamWriter(io.RawIOBase):
    """Writes an envelope to ``sink`` as plaintext comes in. Only :meth:`close` writes its last chunk.

    Args:
        sink: where the envelope goes; not closed here.
        encryptor: from :func:`encryptor`.
        header: called once with whether the plaintext has reached 1 MiB; returns the header's bytes.
        on_close: called once, with whether the envelope is complete.
    """

    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(
        self,
        sink: Sink,
        encryptor: Encryptor,
        header: Callable[[bool], bytes],
        on_close: Callable[[bool], None] | None = None,
    ) -> None:
        super().__init__()
        self._on_close = on_close
        self._sink = sink
        self._encryptor: Encryptor | None = encryptor
        self._header: Callable[[bool], bytes] | None = header
        self._pending = bytearray(GROUP_BYTES)
        self._filled = 0
        self._sealed = bytearray(_SEALED_GROUP_BYTES)
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        """Return the bytes of plaintext taken so far."""
        return self._written

    def write(self, data: ReadableBuffer, /) -> int:
        """Take all of ``data``.

        Raises:
            ValueError: the file is closed, or more than 2**52 - 1 bytes were written.
        """
        if self.closed or self._encryptor is None:
            raise ValueError("write to a closed or failed file")
        with memoryview(data).cast("B") as view:
            size = len(view)
            if self._written + size > MAX_PLAINTEXT_BYTES:
                raise ValueError("an envelope holds at most 2**52 - 1 bytes")
            at = 0
            try:
                while at < size:
                    if not self._filled and size - at >= GROUP_BYTES:
                        self._seal(self._encryptor, view[at : at + GROUP_BYTES])
                        at += GROUP_BYTES
                        continue
                    take = min(GROUP_BYTES - self._filled, size - at)
                    self._pending[self._filled : self._filled + take] = view[at : at + take]
                    self._filled += take
                    at += take
                    if self._filled == GROUP_BYTES:
                        self._flush_pending(self._encryptor)
            except BaseException:
                # What reached the sink is not known, and a salt never serves two byte sequences: no second try.
                self.abandon()
                raise
        self._written += size
        return size

    def _flush_pending(self, encryptor: Encryptor, *, last: bool = False) -> None:
        with memoryview(self._pending) as pending:
            self._seal(encryptor, pending[: self._filled], last=last)
        self._filled = 0

    def _seal(self, encryptor: Encryptor, plaintext: memoryview, *, last: bool = False) -> None:
        if self._header is not None:
            write_all(self._sink, self._header(len(plaintext) >= GROUP_BYTES))
            self._header = None
            write_all(self._sink, encryptor.head)
        with memoryview(self._sealed) as sealed:
            write_all(self._sink, sealed[: encryptor.seal_into(plaintext, sealed, last=last)])

    def close(self) -> None:
        """Write the last chunk. A second call does nothing."""
        if self.closed:
            return
        encryptor = self._encryptor
        complete = False
        try:
            if encryptor is not None:
                self._flush_pending(encryptor, last=True)
                complete = True
        finally:
            self._close(complete)

    def abandon(self) -> None:
        """Close without the last chunk: what was written so far does not open as an envelope."""
        if not self.closed:
            self._close(complete=False)

    def _close(self, complete: bool) -> None:
        if self._encryptor is not None:
            self._encryptor.close()
            self._encryptor = None
        wipe(self._pending)
        super().close()
        if self._on_close is not None:
            self._on_close(complete)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def __del__(self) -> None:
        # Going out of scope is no decision to finish.
        if "_pending" in self.__dict__:
            self.abandon()


class StreamReader(io.RawIOBase):
    """Reads a payload from where ``source`` stands to its end, once, front to back; ``on_close`` is called once.

    A ``with`` block may be left early: what was read until then was authenticated, the rest was not looked at.
    """

    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(self, source: Source, decryptor: Decryptor, on_close: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._on_close = on_close
        self._source = source
        self._decryptor: Decryptor | None = decryptor
        self._sealed = bytearray(_SEALED_GROUP_BYTES)
        self._plain = bytearray(GROUP_BYTES)
        self._start = self._end = 0
        self._position = 0
        self._finished = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill ``buffer`` with authenticated plaintext; 0 only after the whole payload was authenticated.

        Raises:
            TamperedError: the payload is altered, cut off or extended.
            ValueError: the file is closed.
        """
        if self.closed:
            raise ValueError("read from a closed file")
        if self._start == self._end:
            self._fill()
        with memoryview(buffer).cast("B") as view, memoryview(self._plain) as plain:
            size = min(len(view), self._end - self._start)
            view[:size] = plain[self._start : self._start + size]
        self._start += size
        self._position += size
        return size

    def _fill(self) -> None:
        self._start = self._end = 0
        if self._finished:
            return
        if self._decryptor is None:
            raise _tampered(self._position)
        with memoryview(self._sealed) as sealed, memoryview(self._plain) as plain:
            size = read_full(self._source, sealed)
            last = size < len(sealed)
            try:
                self._end = self._decryptor.open_into(sealed[:size], plain, last=last)
                self._finished = last
            except InvalidTag:
                self._give_up()
                self._end = 0
                wipe(self._plain)
                raise _tampered(self._position) from None

    def _give_up(self) -> None:
        if self._decryptor is not None:
            self._decryptor.close()
            self._decryptor = None

    def tell(self) -> int:
        """Return the bytes of plaintext handed out so far."""
        return self._position

    def close(self) -> None:
        if not self.closed:
            self._give_up()
            wipe(self._plain)
            super().close()
            if self._on_close is not None:
                self._on_close()


def _encrypt_with_salt(data_key: DataKey, info: bytes, salt: bytes, plaintext: bytes) -> bytes:
    """Return a payload under a salt that is given: for known answers only, since no salt may serve twice."""
    return encrypt(Encryptor(data_key, info, salt), b"", plaintext)


class RandomAccessReader(io.RawIOBase):
    """Reads any place of a payload in a seekable file; every chunk is authenticated before a byte of it is used.

    Opening reads the head and the last chunk, so that the size is known to be true before anyone asks for it. Length,
    salt and keys are fixed then.

    Args:
        source: the file that holds the payload.
        offset: where in the file the payload begins, in bytes.
        size: the payload's size in bytes.
        data_key, info: as for :func:`decryptor`.
        on_close: called once.

    Raises:
        CommitmentError: the key or the context is not this payload's.
        TamperedError: the last chunk does not authenticate, or no payload has that size.
    """

    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(
        self,
        source: SeekableSource,
        offset: int,
        size: int,
        data_key: DataKey,
        info: bytes,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._on_close: Callable[[], None] | None = None  # a reader that never opened closes nothing
        self._source = source
        self._offset = offset
        self._payload_size = size
        self.size = plaintext_size(size)
        self._position = 0
        self._sealed = bytearray(min(_SEALED_GROUP_BYTES, max(size, HEAD_BYTES)))
        self._plain = bytearray(min(GROUP_BYTES, self.size + 1))
        self._failed = False
        head = self._read(0, HEAD_BYTES)
        self._chunks: Chunks | None = Chunks(data_key, info, bytes(head[:SALT_BYTES]), bytes(head[SALT_BYTES:]))
        head.release()
        self._open_chunks(self.size // CHUNK_BYTES, 1)
        self._on_close = on_close

    def _read(self, at: int, size: int) -> memoryview:
        self._source.seek(self._offset + at)
        view = memoryview(self._sealed)[:size]
        if read_full(self._source, view) < size:
            raise _tampered(None)
        return view

    def _open_chunks(self, first: int, count: int) -> int:
        """Decrypt ``count`` chunks from ``first`` into the private buffer; return the bytes of plaintext."""
        if self._chunks is None or self._failed:
            raise _tampered(first * CHUNK_BYTES)
        start = HEAD_BYTES + first * SEALED_CHUNK_BYTES
        end = min(start + count * SEALED_CHUNK_BYTES, self._payload_size)
        try:
            with self._read(start, end - start) as sealed, memoryview(self._plain) as plain:
                return self._chunks.open(first, sealed, plain, last=end == self._payload_size)
        except (InvalidTag, TamperedError):
            raise self._fail(first * CHUNK_BYTES) from None

    def _give_up(self) -> None:
        if self._chunks is not None:
            self._chunks.close()
            self._chunks = None

    def _fail(self, position: int) -> TamperedError:
        self._failed = True
        self._give_up()
        wipe(self._plain)
        return _tampered(position)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a place of the plaintext, which may lie beyond its end; return it.

        Raises:
            ValueError: a place before the start, or an unknown ``whence``.
        """
        if self.closed:
            raise ValueError("seek in a closed file")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"whence is {whence}; 0, 1 and 2 are possible")
        if base + offset < 0:
            raise ValueError("seek to before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill ``buffer`` with up to 1 MiB of authenticated plaintext from the present place; 0 at the end.

        Raises:
            TamperedError: a chunk is altered or missing.
            ValueError: the file is closed.
        """
        if self.closed:
            raise ValueError("read from a closed file")
        with memoryview(buffer).cast("B") as view:
            first, skip = divmod(self._position, CHUNK_BYTES)
            wanted = min(len(view), self.size - self._position)
            if wanted <= 0:
                return 0
            count = min(-(-(skip + wanted) // CHUNK_BYTES), GROUP_CHUNKS)
            size = min(self._open_chunks(first, count) - skip, wanted)
            with memoryview(self._plain) as plain:
                view[:size] = plain[skip : skip + size]
        self._position += size
        return size

    def readall(self) -> bytes:
        """Return everything from the present place on, in one allocation."""
        whole = bytearray(max(0, self.size - self._position))
        with memoryview(whole) as view:
            at = 0
            while at < len(view):
                at += self.readinto(view[at:])
        return bytes(whole)

    def close(self) -> None:
        if not self.closed:
            self._give_up()
            wipe(self._plain)
            super().close()
            if self._on_close is not None:
                self._on_close()


def read_full(source: Source, view: memoryview) -> int:
    """Fill ``view`` from ``source``; return how many bytes came before its end."""
    at = 0
    while at < len(view):
        size = source.readinto(view[at:])
        if size is None:
            raise BlockingIOError("the file is in non-blocking mode; sealwax reads blocking files only")
        if size == 0:
            break
        at += size
    return at


def write_all(sink: Sink, data: Buffer) -> None:
    """Write all of ``data``; an unbuffered file may take less at a time."""
    with memoryview(data).cast("B") as view:
        at = 0
        while at < len(view):
            size = sink.write(view[at:])
            if size is None:
                raise BlockingIOError("the file is in non-blocking mode; sealwax writes blocking files only")
            at += size
