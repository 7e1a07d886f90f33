"""A folder of files, or one file. Links are not followed; what sealwax is writing just now is not listed."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, cast

from sealwax._core import envelope, files
from sealwax._core.context import printable
from sealwax._core.envelope import Inspection
from sealwax._core.rewrap import Rewrap, replace_file, rewrap_file
from sealwax.errors import FileError, SealwaxError
from sealwax.stores import Change, Entry

# Shorter than a caller with one file waits: a fleet has others to go on with, and comes back to this one.
_LOCK_SECONDS: Final = 1.0
# A plan that is being made is a database, with two files of SQLite's beside it.
_BEING_WRITTEN: Final = re.compile(r"\.sealwax-[0-9a-f]+\.part(-wal|-shm)?")


class FileStore:
    """The regular files below a folder, or one file. A detached header is a file of its own.

    Args:
        where: the folder or file; if it is itself a link, what it leads to.

    Raises:
        FileError: there is none.
    """

    def __init__(self, where: files.AnyPath) -> None:
        self._location = os.fspath(where)
        with files.reported("opening", where):
            self._is_folder = stat.S_ISDIR(os.stat(where).st_mode)

    def __repr__(self) -> str:
        return f"FileStore({self._location!r})"

    @property
    def location(self) -> str:
        return self._location

    def list(self) -> Iterator[Entry | SealwaxError]:
        """Yield every regular file, in the order of their paths' bytes, and what cannot be looked at."""
        if self._is_folder:
            yield from _walk(self._location)
        else:
            with files.reported("looking at", self._location):
                yield _entry(self._location, os.stat(self._location))

    def leftovers(self, quiet: float) -> Iterator[Entry]:
        """Yield what killed processes were writing in this folder: files that no listing shows.

        They may hold plaintext, and after a crash between the two files of a detached pair they are what is left of it,
        so that a person has to look at each.

        Args:
            quiet: only those that nobody has written to for so many seconds; the others may be growing.
        """
        for parent, _, names in files.walk(self._location):
            for name in names:
                if _BEING_WRITTEN.fullmatch(name):
                    path = os.path.join(parent, name)
                    with contextlib.suppress(OSError):  # put in its place meanwhile
                        status = os.lstat(path)
                        if stat.S_ISREG(status.st_mode) and status.st_mtime <= time.time() - quiet:
                            yield _entry(path, status)

    def links(self) -> Iterator[str]:
        """Yield the links below this folder, which no listing shows and nothing here follows."""
        for parent, folders, names in files.walk(self._location):
            for name in (*folders, *names):
                path = os.path.join(parent, name)
                if os.path.islink(path):
                    yield path

    def links_out(self, roots: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield the links below this folder whose data no listing of some places shows, and where each leads.

        A link to what is in one of the places is left out, since that is listed by its own name, and so is one to a
        pipe or a device. One that leads to nothing may lead to a disk that is not mounted.

        Args:
            roots: the real names of all the places.
        """
        for link in self.links():
            there = os.path.realpath(link)
            listed = os.path.exists(there) and any(os.path.commonpath((root, there)) == root for root in roots)
            if not listed and _may_hold_data(there):
                yield link, there

    def inspect(self, name: str) -> Inspection:
        with self._folder_of(name) as folder:
            found = envelope.inspect_beginning(*files.beginning(name, folder, envelope.MOST_HEADERS_BYTES))
            if found is not None:
                return found
            with files.InputFile(name, folder, regular=True) as file:
                return envelope.inspect_file(file)

    def open(self, name: str) -> BinaryIO:
        """Open a file. A re-wrap in place changes its slots meanwhile, and nothing that was authenticated."""
        with self._folder_of(name) as folder:
            return cast("BinaryIO", files.InputFile(name, folder, regular=True))

    def rewrap(self, name: str, rewrap: Rewrap, *, size: int | None = None) -> None:  # noqa: ARG002  see S3Store
        with self._folder_of(name) as folder:
            rewrap_file(name, rewrap, folder, patience=_LOCK_SECONDS)

    def replace(self, name: str, change: Change) -> None:
        with self._folder_of(name) as folder:
            replace_file(name, change, folder, patience=_LOCK_SECONDS)

    @contextlib.contextmanager
    def held(self) -> Iterator[FileStore]:
        """See :func:`sealwax.stores.held`: the folder of one file is kept open for the next."""
        if not self._is_folder:
            yield self
            return
        store = _Held(self)
        try:
            yield store
        finally:
            store.close()

    def _folder_of(self, name: str) -> contextlib.AbstractContextManager[int | None]:
        """Hold the folder of a file in this place open, reached by no link; None where the place is one file."""
        if self._is_folder:
            return files.folder_of(name, self._location)
        if name != self._location:
            raise FileError(f"'{printable(name)}' is not in '{printable(self._location)}'; left alone")
        return contextlib.nullcontext()


class _Held(FileStore):
    """A folder of files that keeps the last one's folder open."""

    def __init__(self, store: FileStore) -> None:
        self._location = store._location
        self._is_folder = True
        self._parent: str | None = None
        self._folder: int | None = None
        self._opened = contextlib.ExitStack()

    def _folder_of(self, name: str) -> contextlib.AbstractContextManager[int | None]:
        parent, _, last = name.rpartition(os.sep)
        if parent != self._parent or last in ("", "..") or "\0" in last:
            self.close()
            self._folder = self._opened.enter_context(super()._folder_of(name))
            self._parent = parent
        return contextlib.nullcontext(self._folder)

    def close(self) -> None:
        self._parent = None
        self._opened.close()


def _may_hold_data(path: str) -> bool:
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _walk(folder: str) -> Iterator[Entry | SealwaxError]:
    # From the last to the first; a folder is sorted as its files' paths are, with the separator behind its name.
    waiting: list[tuple[bytes, str, bool]] = [(b"", folder, True)]
    while waiting:
        _, path, is_folder = waiting.pop()
        try:
            with files.reported("reading the folder" if is_folder else "looking at", path):
                if is_folder:
                    waiting += sorted(_inside(path), reverse=True)
                    continue
                status = os.lstat(path)
        except FileError as error:
            if not isinstance(error.__cause__, FileNotFoundError) or path == folder:
                yield error
            continue  # one that has gone meanwhile is not there
        if stat.S_ISREG(status.st_mode):
            yield _entry(path, status)


def _inside(folder: str) -> Iterator[tuple[bytes, str, bool]]:
    with os.scandir(folder) as found:
        for each in found:
            is_folder = each.is_dir(follow_symlinks=False)
            if is_folder or (each.is_file(follow_symlinks=False) and not _BEING_WRITTEN.fullmatch(each.name)):
                yield os.fsencode(each.path) + b"/" * is_folder, each.path, is_folder


def _entry(path: str, status: os.stat_result) -> Entry:
    # The inode tells a file that was renamed into this place from the one that stood there.
    version = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
    return Entry(path, status.st_size, version, status.st_mtime)
