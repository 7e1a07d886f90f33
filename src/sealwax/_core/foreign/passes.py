"""A message of another format as a file that is open for passes front to back.

Frames of a message of the AWS Encryption SDK that is not signed are authentic one by one. Everything else is authentic
only at its end, so it is read twice: the first pass authenticates all of it and notes a digest of each MiB of
ciphertext; the second releases the plaintext, of exactly that ciphertext.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.utils import Buffer

from sealwax._core.format.io import BinarySource, SeekableSource, read_full, refuse_copies
from sealwax._core.format.payload import GROUP_BYTES, leave_no_registers
from sealwax._core.format.stream import StreamReader
from sealwax._core.keyring import wipe
from sealwax.errors import TamperedError

_BLOCK_BYTES: Final = 1 << 20


class Body(Protocol):
    """Opens the body of a message front to back, over any number of calls.

    Attributes:
        finished: whether its end was authenticated.
        capacity: how many bytes of ciphertext one call can need.
        room: how many bytes of plaintext one call on ``capacity`` bytes can write.
    """

    finished: bool
    capacity: int
    room: int

    def open_into(self, sealed: memoryview, into: memoryview) -> tuple[int, int]:
        """Decrypt what is complete; return how many bytes were used, and how many were written.

        Raises:
            InvalidTag: a part was altered, moved, or breaks a rule of the format.
        """

    def close(self) -> None:
        """Drop the key, if it is in use."""


class Signed(Protocol):
    """Verifies the signature of a message, once it has seen all bytes before it."""

    def update(self, data: Buffer) -> None: ...

    def verify(self, footer: Buffer) -> None:
        """Check what follows the body.

        Raises:
            TamperedError: it is not a valid signature.
        """


class Opened(Protocol):
    """A message whose data key is known.

    Attributes:
        early: whether each part is authentic by itself, so that it may be released before the end.
    """

    @property
    def early(self) -> bool: ...

    def body(self) -> Body: ...

    def signed(self) -> Signed | None: ...

    def close(self) -> None: ...


class Passage:
    """Decrypts the body of a message once, front to back, from a source that is at its start.

    Args:
        message: an open message; closed with this.
    """

    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(self, message: Opened) -> None:
        self._message = message
        self._body = message.body()
        self._signed = message.signed()
        self._sealed = bytearray()
        self._start = self._end = 0
        # A frame larger than a group, and what of it was not handed on yet.
        self._plain = bytearray()
        self._from = self._to = 0

    def open_from(self, source: BinarySource, into: memoryview) -> tuple[int, bool]:
        """Read and decrypt up to 1 MiB; return how many bytes were written, and whether the end was authenticated.

        Raises:
            InvalidTag, TamperedError: a part was altered, cut off or extended.
        """
        if self._body.room <= GROUP_BYTES:
            return self._decrypt(source, into), self._body.finished
        if self._from == self._to and not self._body.finished:
            self._from, self._to = 0, self._decrypt(source, None)
        size = min(self._to - self._from, GROUP_BYTES)
        into[:size] = memoryview(self._plain)[self._from : self._from + size]
        self._from += size
        return size, self._body.finished and self._from == self._to

    def _decrypt(self, source: BinarySource, into: memoryview | None) -> int:
        """Decrypt into ``into``, or else into the private buffer, as much as the buffer of ciphertext can hold."""
        size = 0
        # Nothing written and not finished would look like the end.
        while not size and not self._body.finished:
            self._fill(source)
            room = self._room() if into is None else into
            with memoryview(self._sealed) as sealed:
                used, size = self._body.open_into(sealed[: self._end], room)
                if used and self._signed is not None:
                    self._signed.update(sealed[:used])
            self._start = used
            if not used:
                self._grow()
        if self._body.finished:
            self._finish(source)
        return size

    def _room(self) -> memoryview:
        """Return a private buffer for what the ciphertext that was read can hold."""
        most = min(self._body.room, self._end)
        if len(self._plain) < most:
            wipe(self._plain)
            self._plain = bytearray(most)
        return memoryview(self._plain)

    def _fill(self, source: BinarySource) -> None:
        """Move what was not used to the start, and fill up the rest."""
        if not self._sealed:
            self._sealed = bytearray(min(self._body.capacity, _BLOCK_BYTES))
        left = self._end - self._start
        with memoryview(self._sealed) as sealed:
            sealed[:left] = bytes(sealed[self._start : self._end])
            self._start, self._end = 0, left + read_full(source, sealed[left:])

    def _grow(self) -> None:
        """Make room for a part that is not complete. Nothing is taken for a length that is only claimed."""
        size = len(self._sealed)
        if self._end < size or size == self._body.capacity:
            raise InvalidTag  # the source ends within a part
        self._sealed += bytes(min(size, self._body.capacity - size))

    def _finish(self, source: BinarySource) -> None:
        """Authenticate what follows the body, to the end of the source."""
        self._fill(source)
        if self._end == len(self._sealed) and read_full(source, memoryview(bytearray(1))):
            raise InvalidTag  # far more than a signature
        with memoryview(self._sealed) as sealed:
            if self._signed is not None:
                self._signed.verify(sealed[: self._end])
            elif self._end:
                raise InvalidTag

    def end(self) -> None:
        """Wipe the plaintext that was not handed on; the message stays open."""
        wipe(self._plain)
        self._body.close()

    def close(self) -> None:
        self.end()
        self._message.close()


@dataclass(slots=True)
class FirstPass:
    """What a first pass found: the size of the plaintext, and a digest of each MiB of ciphertext."""

    plaintext_bytes: int = 0
    digests: list[tuple[int, bytes]] = field(default_factory=list)


class _Noting:
    """A source that notes a digest of each MiB that is read."""

    def __init__(self, source: BinarySource) -> None:
        self._source = source
        self._hash, self._size = hashlib.sha256(), 0
        self.digests: list[tuple[int, bytes]] = []

    def readinto(self, buffer: memoryview, /) -> int | None:
        part = buffer[: _BLOCK_BYTES - self._size]
        size = self._source.readinto(part)
        if size is not None:
            self._hash.update(part[:size])
            self._size += size
            if self._size == _BLOCK_BYTES or (not size and self._size):
                self.digests.append((self._size, self._hash.digest()))
                self._hash, self._size = hashlib.sha256(), 0
        return size


class _Same:
    """A source of exactly the bytes that were noted."""

    def __init__(self, source: BinarySource, digests: list[tuple[int, bytes]]) -> None:
        self._source = source
        self._left = iter(digests)
        self._block = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        if not self._block:
            size, digest = next(self._left, (0, b""))
            block = bytearray(size)
            if size and (
                read_full(self._source, memoryview(block)) != size or hashlib.sha256(block).digest() != digest
            ):
                raise TamperedError("the message changed while it was read; no plaintext from there on was released")
            self._block = memoryview(block)
        size = min(len(buffer), len(self._block))
        buffer[:size] = self._block[:size]
        self._block = self._block[size:]
        return size


def check(source: BinarySource, message: Opened) -> FirstPass:
    """Authenticate a whole body, which begins where ``source`` is, and release nothing; the message stays open.

    Raises:
        TamperedError: a part is altered or missing, the signature is not valid, or bytes follow the end.
    """
    noting, passage, checked, last = _Noting(source), Passage(message), FirstPass(), False
    room = bytearray(GROUP_BYTES)
    try:
        with memoryview(room) as view:
            while not last:
                size, last = passage.open_from(noting, view)
                checked.plaintext_bytes += size
    except InvalidTag:
        # Otherwise, nothing before the place is authentic either.
        where = f" after byte {checked.plaintext_bytes} of the plaintext" if message.early else ""
        raise TamperedError(
            f"the message does not authenticate{where}: it was altered, cut off or extended; nothing was released"
        ) from None
    finally:
        passage.end()
        wipe(room)
        leave_no_registers()
    checked.digests = noting.digests
    return checked


def reader(
    source: SeekableSource,
    start: int,
    message: Opened,
    on_close: Callable[[], None] | None = None,
    *,
    whole_first: bool = False,
) -> StreamReader:
    """Return a file of the plaintext of a message whose body begins at ``start``; it closes the message.

    Args:
        whole_first: whether to authenticate all of it first even if each frame is authentic by itself.

    Raises:
        TamperedError: as for ``check``.
    """
    source.seek(start)
    if message.early and not whole_first:
        return StreamReader(source, Passage(message), on_close)
    try:
        checked = check(source, message)
    except BaseException:
        message.close()
        raise
    source.seek(start)
    return StreamReader(_Same(source, checked.digests), Passage(message), on_close)
