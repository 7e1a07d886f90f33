"""What open envelopes stand on: whole buffers read from and written to files that may give or take less at a time."""

from __future__ import annotations

from typing import NoReturn, Protocol

from cryptography.utils import Buffer


class Source(Protocol):
    """What a payload is read from: a binary file object."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


class SeekableSource(Source, Protocol):
    def seek(self, offset: int, whence: int = 0, /) -> int: ...


class Sink(Protocol):
    """What an envelope is written to: a binary file object."""

    def write(self, data: memoryview, /) -> int | None: ...


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


def refuse_copies(*_: object) -> NoReturn:
    """A copy would share the file and the keys, and close them for the original."""
    raise TypeError("an open envelope cannot be copied or pickled")
