"""Whole buffers, read from and written to files that may give or take less at a time."""

from __future__ import annotations

from typing import NoReturn, Protocol, runtime_checkable

from cryptography.utils import Buffer


class BinarySource(Protocol):
    """A binary file object that a payload is read from."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


class SeekableSource(BinarySource, Protocol):
    def seek(self, offset: int, whence: int = 0, /) -> int: ...


class BinarySink(Protocol):
    """A binary file object that an envelope is written to."""

    def write(self, data: memoryview, /) -> int | None:
        """Write data.

        Args:
            data: what to write.

        Returns:
            How many bytes were written; an unbuffered file may write fewer than given.
        """
        ...


@runtime_checkable
class OnDisk(Protocol):
    """A file that may say that its reads and writes never wait for another program, so that a thread may do them."""

    @property
    def on_disk(self) -> bool: ...


@runtime_checkable
class OneSlot(Protocol):
    """A sink that may say that what it holds is only ever replaced whole, so that a second slot would be no use."""

    one_slot: bool


def is_on_disk(file: object) -> bool:
    return isinstance(file, OnDisk) and file.on_disk


def one_slot_only(sink: object) -> bool:
    return isinstance(sink, OneSlot) and sink.one_slot


def read_full(source: BinarySource, view: memoryview) -> int:
    """Fill ``view`` from ``source``; return the number of bytes read, fewer only at its end."""
    at = 0
    while at < len(view):
        size = source.readinto(view[at:])
        if size is None:
            raise BlockingIOError("the file is in non-blocking mode; sealwax reads blocking files only")
        if size == 0:
            break
        at += size
    return at


def write_all(sink: BinarySink, data: Buffer) -> None:
    """Write all of ``data``; an unbuffered file may take less at a time."""
    with memoryview(data).cast("B") as view:
        at = 0
        while at < len(view):
            size = sink.write(view[at:])
            if size is None:
                raise BlockingIOError("the file is in non-blocking mode; sealwax writes blocking files only")
            at += size


def refuse_copies(*_: object) -> NoReturn:
    """Refuse to copy: a copy would share the file and the keys, and close them for the original."""
    raise TypeError("an open envelope cannot be copied or pickled")
