"""What `sealwax migrate` has moved: a file with a line of JSON for each source, from which a later run goes on.

A line is on the disk before the envelope that it is about is in its place, so that a run that was killed recognizes its
own. It holds names, what a source can be told by, and the witness of the plaintext: no key, no plaintext, and no digest
that confirms a guess.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from dataclasses import asdict, fields
from typing import Final, Protocol

from sealwax._core import trusted
from sealwax._core.files import reported
from sealwax._core.files.whole import sync, sync_folder
from sealwax._core.moved import WITNESS_BYTES, Moved, MoveMemory
from sealwax._text import printable
from sealwax.cli import locations
from sealwax.errors import FileError

NAME: Final = "sealwax-migrate.journal"
_HEAD: Final = '{"sealwax": "migrate", "version": 1}'
_KIND: Final = trusted.Kind("the journal", FileError)
_FIELDS: Final = {each.name: bool if each.name == "removed" else str for each in fields(Moved)}


class MemoryFile(MoveMemory, Protocol):
    """A memory in a file that is open."""

    def close(self) -> None:
        """Close the file."""


def open_journal(path: str, *, writes: bool) -> MemoryFile:
    """Open a journal, or the plan of a fleet, whose runs note their moves in it; as for ``MoveJournal``.

    Raises:
        PlanError: a plan is damaged, or in use.
    """
    from sealwax.fleet._planfile import is_plan

    if not is_plan(path):
        return MoveJournal(path, writes=writes)
    from sealwax.fleet._moves import PlanMoves

    return PlanMoves(path, writes=writes)


class MoveJournal:
    """An open journal, for one run at a time and all of its threads.

    Args:
        path: its file.
        writes: whether it is written; else one that does not exist is empty.

    Raises:
        FileError: it cannot be read or written, is not a journal, is in use, or others may write to it.
    """

    def __init__(self, path: str, *, writes: bool) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], Moved] = {}
        self._descriptor: int | None = None
        if writes:
            self._open()
        if os.path.lexists(path):
            self._read()

    def _open(self) -> None:
        with reported("opening the journal", self.path):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            self._descriptor = os.open(self.path, flags, 0o600)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                raise FileError(
                    f"the journal '{printable(self.path)}' is in use by another run; wait for it, or name another one"
                ) from None

    def _read(self) -> None:
        try:
            with reported("reading the journal", self.path), trusted.open_file(self.path, _KIND) as file:
                *lines, rest = file.read().split(b"\n")
            head = lines[0] if lines else rest
            if head != _HEAD.encode() and (lines or not _HEAD.encode().startswith(head)):
                raise ValueError
            if self._descriptor is not None and (rest or not lines):
                self._repair(rest, empty=not lines)
            for line in lines[1:]:
                moved = _parsed(line)
                self._entries[moved.source, moved.target] = moved
        except ValueError:
            self.close()
            raise FileError(
                f"'{printable(self.path)}' is not a journal of sealwax migrate, or is damaged; name another file, or "
                "restore it"
            ) from None
        except BaseException:
            self.close()
            raise

    def _repair(self, rest: bytes, *, empty: bool) -> None:
        """Drop a line that a killed run did not finish, and begin a new file."""
        assert self._descriptor is not None
        with reported("writing the journal", self.path):
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - len(rest))
            if empty:
                self._append(_HEAD)
                self._keep_name()

    def _keep_name(self) -> None:
        """Let a new file's name reach the disk too: without it, nobody knows whose the envelopes are."""
        with contextlib.suppress(PermissionError):  # one that nobody may list cannot be synced
            folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                sync_folder(folder)
            finally:
                os.close(folder)

    def find(self, source: str, target: str) -> Moved | None:
        """Return what is known of a source that was moved to a target."""
        with self._lock:
            return self._entries.get((locations.real(source), locations.real(target)))

    def add(self, moved: Moved) -> None:
        """Note a source; what was known of it before is forgotten."""
        text = json.dumps(asdict(moved))
        with self._lock, reported("writing the journal", self.path):
            self._append(text)
            self._entries[moved.source, moved.target] = moved

    def _append(self, text: str) -> None:
        assert self._descriptor is not None
        size = os.fstat(self._descriptor).st_size
        data = memoryview(text.encode("ascii") + b"\n")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            sync(self._descriptor)
        except OSError:
            # Of a full disk: the next line must not follow half of this one.
            os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _parsed(line: bytes) -> Moved:
    try:
        entry = json.loads(line)
    except RecursionError:
        raise ValueError from None
    if not isinstance(entry, dict) or {name: type(value) for name, value in entry.items()} != _FIELDS:
        raise ValueError
    moved = Moved(**entry)
    if len(bytes.fromhex(moved.witness)) != WITNESS_BYTES:
        raise ValueError
    return moved
