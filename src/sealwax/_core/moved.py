"""What is remembered of a file that became an envelope: what tells the file again, and which envelope is its own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple, Protocol, runtime_checkable

from sealwax._core.envelope import read_full
from sealwax._core.files import COPY_BYTES
from sealwax._core.format.header import ENVELOPE_ID_BYTES
from sealwax._text import printable
from sealwax.errors import FileError, SealwaxError

WITNESS_BYTES: Final = 48


@dataclass(frozen=True, slots=True)
class Moved:
    """A source that was moved, or was about to be.

    Attributes:
        source, target: their names: real paths, or ``s3://bucket/key``.
        mark: what the source can be told by: ``mark_of_file`` or ``mark_of_object``.
        witness: of the plaintext, in the envelope that was written; in hex.
        removed: whether the source was removed afterwards, or was about to be.
    """

    source: str
    target: str
    mark: str
    witness: str
    removed: bool = False

    @property
    def envelope_id(self) -> bytes:
        return bytes.fromhex(self.witness)[:ENVELOPE_ID_BYTES]


class MoveMemory(Protocol):
    """What remembers moves: a journal, or the plan of a fleet. Safe to use from many threads."""

    def find(self, source: str, target: str) -> Moved | None:
        """Return what is known of a source that was moved to a target, or was about to be."""

    def add(self, moved: Moved) -> None:
        """Note a source, at once; what was known of it before is forgotten."""


@runtime_checkable
class StoredObject(Protocol):
    """An open object of S3."""

    etag: str

    @property
    def version_id(self) -> str | None:
        """The version, if the bucket keeps versions."""
        ...

    def instructions(self) -> bytes | None:
        """Return the instruction file that belongs to it."""
        ...


def mark_of_file(status: os.stat_result) -> str:
    """Return what a file can be told by: its inode, its time and its size."""
    return f"file {status.st_ino} {status.st_mtime_ns} {status.st_size}"


def mark_of_object(file: StoredObject) -> str:
    """Return what an object can be told by: its ETag, its version and its instruction file."""
    instructions = file.instructions()
    beside = "" if instructions is None else hashlib.sha256(instructions).hexdigest()
    return f"object {file.etag} {file.version_id or ''} {beside}".rstrip()


def mark_of(file: BinaryIO) -> str:
    """Return what an open file or object can be told by."""
    return mark_of_object(file) if isinstance(file, StoredObject) else mark_of_file(os.fstat(file.fileno()))


class Conflict(NamedTuple):
    """Why a source and what is at its target's place do not belong together.

    Attributes:
        changed: whether the source has changed; else there is another target.
        why: a sentence without its end.
    """

    changed: bool
    why: str


def conflict(moved: Moved | None, there: bytes, mark: str, target: str, memory: str) -> Conflict | None:
    """Return why something at a target's place does not complete the move of its source; None if it does.

    Args:
        moved: what is remembered of the source.
        there: the id of the envelope at the target's place; b"" if it is something else.
        mark: what the source can be told by now.
        target: the target's name.
        memory: what remembers: ``"the journal"``.
    """
    name = f"'{printable(target)}'"
    if moved is None:
        return Conflict(False, f"{name} already exists, and {memory} does not know it")
    if there != moved.envelope_id:
        return Conflict(False, f"{name} is not the envelope that was written for it")
    if mark != moved.mark:
        return Conflict(True, f"it has changed since {name} was written")
    return None


@contextlib.contextmanager
def name_taken(raised: Callable[[str], SealwaxError]) -> Iterator[None]:
    """Raise another error if the block fails because a program has just written a file of the target's name.

    Args:
        raised: returns it, of a sentence without its end.
    """
    try:
        yield
    except FileError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise raised("the name of its envelope is taken") from None
        raise


def equal(left: BinaryIO | io.RawIOBase, right: BinaryIO | io.RawIOBase) -> bool:
    """Whether two files hold the same from where they are."""
    while data := read_full(left, COPY_BYTES):
        if data != read_full(right, COPY_BYTES):
            return False
    return not right.read(1)
