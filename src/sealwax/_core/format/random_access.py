"""A payload as a file that is open for reading at any position, and what other formats share of that."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag

from sealwax._core.format.io import SeekableSource, read_full, refuse_copies
from sealwax._core.format.payload import (
    CHUNK_BYTES,
    GROUP_BYTES,
    GROUP_CHUNKS,
    HEAD_BYTES,
    SALT_BYTES,
    SEALED_CHUNK_BYTES,
    SEALED_GROUP_BYTES,
    Chunks,
    plaintext_size,
    refuse_forked,
    tampered,
)
from sealwax._core.keyring import DataKey, wipe
from sealwax.errors import TamperedError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class PositionedReader(io.RawIOBase, ABC):
    """A file of plaintext that is read at any position: parts of one size, each of them authentic by itself.

    Attributes:
        size: the size of the plaintext in bytes.
    """

    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(self, source: SeekableSource, offset: int, part_bytes: int, most_parts: int) -> None:
        super().__init__()
        self._on_close: Callable[[], None] | None = None  # closes nothing if opening fails
        self._source = source
        self._offset = offset
        self._part_bytes, self._most_parts = part_bytes, most_parts
        self.size = self._position = 0
        self._sealed = bytearray()
        self._plain = bytearray()
        self._process = os.getpid()

    @abstractmethod
    def _open_parts(self, first: int, count: int) -> int:
        """Decrypt up to ``count`` parts from ``first`` into the private buffer; return the bytes of plaintext."""

    def _open_last(self, number: int) -> None:
        """Authenticate the last part, and with it the size. Of the parts before it, none is authentic yet."""
        try:
            self._open_parts(number, 1)
        except TamperedError:
            raise tampered(None) from None

    @abstractmethod
    def _drop_keys(self) -> None: ...

    def _read(self, at: int, size: int) -> memoryview:
        refuse_forked(self._process)
        self._source.seek(self._offset + at)
        view = memoryview(self._sealed)[:size]
        if read_full(self._source, view) < size:
            raise tampered(None)
        return view

    def _give_up(self) -> None:
        self._drop_keys()
        wipe(self._plain)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position in the plaintext, which may lie beyond its end; return the position.

        Raises:
            ValueError: the position is before the start, or ``whence`` is unknown.
        """
        if self.closed:
            raise ValueError("seek in a closed file")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        if base + offset < 0:
            raise ValueError("seek to before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill ``buffer`` with up to 1 MiB of authenticated plaintext from the current position; return 0 at the end.

        Raises:
            TamperedError: a chunk is altered or missing.
            ValueError: the file is closed, or this is a forked child of the process that opened it.
        """
        if self.closed:
            raise ValueError("read from a closed file")
        with memoryview(buffer).cast("B") as view:
            first, skip = divmod(self._position, self._part_bytes)
            wanted = min(len(view), self.size - self._position)
            if wanted <= 0:
                return 0
            count = min(-(-(skip + wanted) // self._part_bytes), self._most_parts)
            size = min(self._open_parts(first, count) - skip, wanted)
            with memoryview(self._plain) as plain:
                view[:size] = plain[skip : skip + size]
        self._position += size
        return size

    def readall(self) -> bytes:
        """Return everything from the current position on, in one allocation."""
        whole = bytearray(max(0, self.size - self._position))
        with memoryview(whole) as view:
            at = 0
            while at < len(view):
                at += self.readinto(view[at:])
        return bytes(whole)

    def close(self) -> None:
        if not self.closed:
            self._give_up()
            super().close()
            if self._on_close is not None:
                self._on_close()


class RandomAccessReader(PositionedReader):
    """Reads any position of a payload in a seekable file; each chunk is authenticated before a byte of it is used.

    Opening reads the head and the last chunk, so that the size is authenticated. Size, salt and keys are fixed then.

    Args:
        source: the file that holds the payload.
        offset: where in the file the payload begins, in bytes.
        size: the payload's size in bytes.
        data_key, info: as for ``Decryptor``.
        on_close: called once.

    Raises:
        CommitmentError: the key or the context does not belong to this payload.
        TamperedError: the last chunk does not authenticate, or no payload has that size.
    """

    def __init__(
        self,
        source: SeekableSource,
        offset: int,
        size: int,
        data_key: DataKey,
        info: bytes,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._chunks: Chunks | None = None
        super().__init__(source, offset, CHUNK_BYTES, GROUP_CHUNKS)
        self._payload_size = size
        self.size = plaintext_size(size)
        self._sealed = bytearray(min(SEALED_GROUP_BYTES, max(size, HEAD_BYTES)))
        self._plain = bytearray(min(GROUP_BYTES, self.size + 1))
        head = self._read(0, HEAD_BYTES)
        self._chunks = Chunks(data_key, info, bytes(head[:SALT_BYTES]), bytes(head[SALT_BYTES:]))
        head.release()
        self._open_last(self.size // CHUNK_BYTES)
        self._on_close = on_close

    def _open_parts(self, first: int, count: int) -> int:
        if self._chunks is None:
            raise tampered(first * CHUNK_BYTES)
        start = HEAD_BYTES + first * SEALED_CHUNK_BYTES
        end = min(start + count * SEALED_CHUNK_BYTES, self._payload_size)
        try:
            with self._read(start, end - start) as sealed, memoryview(self._plain) as plain:
                return self._chunks.open(first, sealed, plain, last=end == self._payload_size)
        except (InvalidTag, TamperedError):
            self._give_up()
            raise tampered(first * CHUNK_BYTES) from None

    def _drop_keys(self) -> None:
        if self._chunks is not None:
            self._chunks.close()
            self._chunks = None
