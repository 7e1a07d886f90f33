"""An envelope or a payload as a file that is open for one pass, front to back.

In a large file, a second thread writes one MiB while the next one is encrypted, and reads and decrypts one MiB ahead.
The bytes are the same.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidTag

from sealwax._core.format.io import BinarySink, BinarySource, refuse_copies, write_all
from sealwax._core.format.payload import (
    GROUP_BYTES,
    MAX_PLAINTEXT_BYTES,
    SEALED_GROUP_BYTES,
    refuse_forked,
    tampered,
)
from sealwax._core.format.readahead import AFTER_GROUPS, BackgroundTask, worth_it
from sealwax._core.keyring import wipe
from sealwax._text import printable
from sealwax.errors import TamperedError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class GroupEncryptor(Protocol):
    """Encrypts a plaintext front to back: a ``payload.Encryptor``, or another format's.

    Attributes:
        head: what is written before the first group, after the header.
    """

    head: bytes

    def seal_into(self, plaintext: memoryview, into: memoryview, *, last: bool = False) -> int:
        """Encrypt up to 1 MiB, less only with ``last``; return how many bytes were written."""

    def close(self) -> None: ...


class StreamWriter(io.RawIOBase):
    """A file of plaintext, open for writing; ``Sealer.open(..., "wb")`` returns it.

    Only ``close()``, or the normal end of ``with``, completes the envelope; an exception in the block abandons it.

    Args:
        sink: the file that the envelope is written to; not closed here.
        encryptor: for the payload.
        header: called once with whether the plaintext has reached 1 MiB; returns the header's bytes.
        on_close: called once with whether the envelope is complete.
        room: how many bytes the encryptor writes at most for 1 MiB.

    Example:
        >>> with sealer.open("backup.tar.swx", "wb", context={"purpose": "backup"}) as file:
        ...     shutil.copyfileobj(tar, file)
    """

    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(
        self,
        sink: BinarySink,
        encryptor: GroupEncryptor,
        header: Callable[[bool], bytes],
        on_close: Callable[[bool], None] | None = None,
        *,
        room: int = SEALED_GROUP_BYTES,
    ) -> None:
        super().__init__()
        self._process = os.getpid()
        self._on_close = on_close
        self._sink = sink
        self._encryptor: GroupEncryptor | None = encryptor
        self._header: Callable[[bool], bytes] | None = header
        self._pending = bytearray(GROUP_BYTES)
        self._filled = 0
        self._sealed = bytearray(room)
        self._written = 0
        self._groups = 0
        # The write of the group before, and the buffer that it frees.
        self._spare = bytearray()
        self._behind: BackgroundTask[None] | None = BackgroundTask() if worth_it(sink) else None

    def writable(self) -> bool:
        """Whether it is open for writing.

        Returns:
            True.
        """
        return True

    def tell(self) -> int:
        """Get the current position.

        Returns:
            How many bytes of plaintext were written so far.
        """
        return self._written

    def write(self, data: ReadableBuffer, /) -> int:
        """Write plaintext.

        Args:
            data: all of it is written.

        Returns:
            How many bytes were written.

        Raises:
            FileError: the file at a path cannot be written to.
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
                # What reached the sink is unknown, and a salt must never serve two byte sequences: no second try.
                self.abandon()
                raise
        self._written += size
        return size

    def _flush_pending(self, encryptor: GroupEncryptor, *, last: bool = False) -> None:
        with memoryview(self._pending) as pending:
            self._seal(encryptor, pending[: self._filled], last=last)
        self._filled = 0

    def _seal(self, encryptor: GroupEncryptor, plaintext: memoryview, *, last: bool = False) -> None:
        # Before the header is written: this refuses a forked child, which shares the file with its parent.
        sealed = memoryview(self._sealed)
        sealed = sealed[: encryptor.seal_into(plaintext, sealed, last=last)]
        if self._header is not None:
            write_all(self._sink, self._header(len(plaintext) >= GROUP_BYTES))
            self._header = None
            write_all(self._sink, encryptor.head)
        behind = self._behind
        if behind is None:
            write_all(self._sink, sealed)
            return
        if behind.busy:
            behind.wait()
        self._groups += 1
        if last or self._groups <= AFTER_GROUPS:
            write_all(self._sink, sealed)
        elif behind.start(write_all, self._sink, sealed):
            self._sealed, self._spare = self._spare or bytearray(len(self._sealed)), self._sealed
        else:
            self._behind = None
            write_all(self._sink, sealed)

    def close(self) -> None:
        """Write the last chunk, which completes the envelope. A second call does nothing.

        Raises:
            FileError: it could not be written, and the file at a path did not appear.
        """
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
        """Close without the last chunk: what was written so far never opens as an envelope."""
        if not self.closed:
            self._close(complete=False)

    def _close(self, complete: bool, *, join: bool = True) -> None:
        try:
            if self._behind is not None:
                self._behind.close(join=join)
        finally:
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
        # Going out of scope is no decision to finish. The warning is that of io for a file that was never closed.
        if "_behind" in self.__dict__ and not self.closed:
            self._close(complete=False, join=False)
            if self._process == os.getpid():  # in a forked child it is the parent's to close
                name = getattr(self._sink, "path", None) or getattr(self._sink, "name", "a file object")
                what = f"an envelope was never closed and is lost: {printable(str(name))}"
                warnings.warn(what, ResourceWarning, stacklevel=2, source=self)


class GroupDecryptor(Protocol):
    """Decrypts what a source holds, front to back: a ``payload.Decryptor``, or another format's."""

    def open_from(self, source: BinarySource, into: memoryview) -> tuple[int, bool]:
        """Read and decrypt up to 1 MiB; return how many bytes were written, and whether the end was authenticated."""

    def close(self) -> None: ...


class StreamReader(io.RawIOBase):
    """A file of plaintext, open for one pass front to back; ``Sealer.open_stream`` returns it.

    It returns only authenticated plaintext. If a ``with`` block ends early, the rest was not checked.

    Args:
        source: a file whose current position is the start of the payload's chunks; read to its end.
        decryptor: for the payload.
        on_close: called once.

    Example:
        >>> with sealer.open_stream("backup.tar.swx", context={"purpose": "backup"}) as reader:
        ...     reader.write_to(sys.stdout.buffer)
    """

    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(
        self, source: BinarySource, decryptor: GroupDecryptor, on_close: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        self._on_close = on_close
        self._source = source
        self._decryptor: GroupDecryptor | None = decryptor
        self._plain = bytearray(GROUP_BYTES)
        self._start = self._end = 0
        self._position = 0
        self._finished = self._tampered = False
        self._process = os.getpid()
        # The group that is read ahead, and its buffer.
        self._spare = bytearray()
        self._ahead: BackgroundTask[tuple[int, bool]] | None = BackgroundTask() if worth_it(source) else None

    def readable(self) -> bool:
        """Whether it is open for reading.

        Returns:
            True.
        """
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read authenticated plaintext into a buffer.

        Args:
            buffer: what to fill.

        Returns:
            How many bytes were read; 0 only after the whole payload was authenticated.

        Raises:
            FileError: the file at a path cannot be read.
            TamperedError: the payload is altered, cut off or extended.
            ValueError: the file is closed or has failed, or this is a forked child of the process that opened it.
        """
        if self._at_end():
            return 0
        with memoryview(buffer).cast("B") as view, memoryview(self._plain) as plain:
            size = min(len(view), self._end - self._start)
            view[:size] = plain[self._start : self._start + size]
        self._start += size
        self._position += size
        return size

    def write_to(self, sink: BinarySink) -> int:
        """Write all remaining plaintext to a file, without copying it.

        Args:
            sink: a binary file object; not closed. It may keep what it is given.

        Returns:
            How many bytes were written.

        Raises:
            FileError, TamperedError, ValueError: as for ``readinto``; earlier plaintext was written. Errors of ``sink``
                are not caught.
        """
        return self.drain(lambda data: write_all(sink, data))

    def drain(self, *takers: Callable[[memoryview], object]) -> int:
        """Pass all remaining plaintext, part by part, to functions.

        Args:
            takers: each is called with each part, after it was authenticated: a read-only view of the buffer that it
                was decrypted into. A part that a taker keeps does not change, and is not wiped when the reader is
                closed, as all others are. A taker may read from this reader, or close it.

        Returns:
            How many bytes were passed on.

        Raises:
            FileError, TamperedError, ValueError: as for ``readinto``. Errors of a taker are not caught; then the part
                is wiped, even if it was kept.
        """
        drained = 0
        while not self._at_end():
            size, lent = self._end - self._start, self._plain
            with memoryview(lent) as plain:
                part = plain[self._start : self._end].toreadonly()
            self._start = self._end
            self._position += size
            try:
                for take in takers:
                    take(part)
            except BaseException:
                wipe(lent)  # a kept exception holds the frames that hold the part
                raise
            del part
            # A taker closed the reader or read on, which did not wipe the part.
            if (self.closed or lent is not self._plain) and _is_free(lent):
                wipe(lent)
            drained += size
        return drained

    def _at_end(self) -> bool:
        """Whether all plaintext was returned; if not, read some.

        Raises:
            FileError, TamperedError, ValueError: as for ``readinto``.
        """
        if self.closed:
            raise ValueError("read from a closed file")
        if self._start == self._end and not self._finished:
            self._next()
        return self._start == self._end

    def _next(self) -> None:
        refuse_forked(self._process)
        if self._decryptor is None:
            raise tampered(self._position) if self._tampered else ValueError("read from a file whose reading failed")
        self._start = self._end = 0
        try:
            self._take(self._decryptor)
        except BaseException as error:
            # How far the source was read is unknown; going on might skip a group.
            self._start = self._end = 0
            self._finished = False
            self._tampered = isinstance(error, TamperedError)
            self._give_up()
            raise

    def _take(self, decryptor: GroupDecryptor) -> None:
        # A taker may still hold the buffer, which is about to be overwritten here or by the second thread.
        if not _is_free(self._plain):
            self._plain = bytearray(GROUP_BYTES)
        ahead = self._ahead
        if ahead is not None and ahead.busy:
            size, last = ahead.wait()
            self._plain, self._spare = self._spare, self._plain
        else:
            size, last = self._group(decryptor, self._plain, self._position)
        after = self._position + size
        if ahead is not None and not last and after >= AFTER_GROUPS * GROUP_BYTES:
            self._spare = self._spare or bytearray(GROUP_BYTES)
            if not ahead.start(self._group, decryptor, self._spare, after):
                self._ahead = None
        self._end, self._finished = size, last

    def _group(self, decryptor: GroupDecryptor, plain: bytearray, position: int) -> tuple[int, bool]:
        """Read and decrypt a group into ``plain``; return its size, and whether it is the last one."""
        with memoryview(plain) as view:
            try:
                return decryptor.open_from(self._source, view)
            except InvalidTag:
                raise tampered(position) from None

    def _give_up(self, *, join: bool = True) -> None:
        """Drop the second thread, the keys and the plaintext, except for a buffer that a taker still holds."""
        try:
            if self._ahead is not None:
                self._ahead.close(join=join)
        finally:
            if self._decryptor is not None:
                self._decryptor.close()
                self._decryptor = None
            for buffer in (self._plain, self._spare):
                if buffer and _is_free(buffer):
                    wipe(buffer)

    def tell(self) -> int:
        """Get the current position.

        Returns:
            How many bytes of plaintext were returned so far.
        """
        return self._position

    def close(self) -> None:
        """Close the reader and wipe its keys and buffers."""
        if not self.closed:
            self._close()

    def _close(self, *, join: bool = True) -> None:
        try:
            self._give_up(join=join)
        finally:
            super().close()
            if self._on_close is not None:
                self._on_close()

    def __del__(self) -> None:
        if "_ahead" in self.__dict__ and not self.closed:
            self._close(join=False)


def _is_free(buffer: bytearray) -> bool:
    """Whether no view of a non-empty buffer exists."""
    try:
        # A buffer with a view cannot change its size. Removing and adding one byte moves nothing.
        buffer.append(buffer.pop())
    except BufferError:
        return False
    return True
