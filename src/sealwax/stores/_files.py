"""A folder of files, or one file. Links are not followed; files that sealwax is still writing are not listed."""

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
from sealwax._core.envelope import Inspection
from sealwax._core.rewrap import Rewrap, replace_file, rewrap_file
from sealwax._text import printable
from sealwax.errors import FileError, SealwaxError
from sealwax.stores._store import Change, Entry, Store

# Shorter than the wait for a single file: a fleet continues with other files, and returns to this one later.
_LOCK_SECONDS: Final = 1.0
# SQLite keeps two files beside a plan that is being written.
_BEING_WRITTEN: Final = re.compile(r"\.sealwax-[0-9a-f]+\.part(-wal|-shm)?")


class FileStore(Store):
    """The regular files below a folder, or one file. A detached header is a separate file.

    Args:
        location: the folder or file. If it is itself a link, the link is followed.

    Raises:
        FileError: it does not exist.
    """

    def __init__(self, location: files.AnyPath) -> None:
        self._location = os.fspath(location)
        with files.reported("opening", location):
            self._is_folder = stat.S_ISDIR(os.stat(location).st_mode)

    def __repr__(self) -> str:
        return f"FileStore({self._location!r})"

    @property
    def location(self) -> str:
        return self._location

    def list(self) -> Iterator[Entry | SealwaxError]:
        """Yield every regular file, sorted by the bytes of its path, and an error for each that cannot be examined."""
        if self._is_folder:
            yield from _walk(self._location)
        else:
            with files.reported("examining", self._location):
                yield _entry(self._location, os.stat(self._location))

    def leftovers(self, quiet: float) -> Iterator[Entry]:
        """Yield the temporary files of killed processes in this folder, which are not listed.

        They may hold plaintext. After a crash between the two files of a detached pair, one may be all that is left of
        it, so a person has to examine each.

        Args:
            quiet: leave out those written to within this many seconds, which may still be growing.
        """
        for parent, _, names in files.walk(self._location):
            for name in names:
                if _BEING_WRITTEN.fullmatch(name):
                    path = os.path.join(parent, name)
                    with contextlib.suppress(OSError):  # it was renamed to its final name meanwhile
                        status = os.lstat(path)
                        if stat.S_ISREG(status.st_mode) and status.st_mtime <= time.time() - quiet:
                            yield _entry(path, status)

    def links(self) -> Iterator[str]:
        """Yield the links below this folder, which are neither listed nor followed."""
        for parent, folders, names in files.walk(self._location):
            for name in (*folders, *names):
                path = os.path.join(parent, name)
                if os.path.islink(path):
                    yield path

    def links_out(self, roots: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield the links below this folder to data outside some locations, each with its target.

        A link into one of the locations is left out, since its target is listed there, and so is one to a pipe or a
        device. A link to nothing is included: it may point to a disk that is not mounted.

        Args:
            roots: the real paths of all locations.
        """
        for link in self.links():
            target = os.path.realpath(link)
            listed = os.path.exists(target) and any(os.path.commonpath((root, target)) == root for root in roots)
            if not listed and _may_hold_data(target):
                yield link, target

    def inspect(self, name: str) -> Inspection:
        with self._folder_of(name) as folder:
            inspection = envelope.inspect_beginning(*files.beginning(name, folder, envelope.MOST_HEADERS_BYTES))
            if inspection is not None:
                return inspection
            with files.InputFile(name, folder, regular=True) as file:
                return envelope.inspect_file(file)

    def open(self, name: str) -> BinaryIO:
        """Open a file. A re-wrap in place may change its slots meanwhile, but nothing that was authenticated."""
        with self._folder_of(name) as folder:
            return cast("BinaryIO", files.InputFile(name, folder, regular=True))

    def rewrap(self, name: str, rewrap: Rewrap, *, size: int | None = None) -> None:  # noqa: ARG002  see S3Store
        with self._folder_of(name) as folder:
            rewrap_file(name, rewrap, folder, patience=_LOCK_SECONDS)

    def replace(self, name: str, change: Change) -> None:
        with self._folder_of(name) as folder:
            replace_file(name, change, folder, patience=_LOCK_SECONDS)

    def create(self, name: str, *, size: int, mode: int | None = None) -> files.WholeFile:  # noqa: ARG002  see S3Store
        if not self._is_folder:
            raise FileError(f"'{printable(name)}' is not in '{printable(self._location)}'; it was left alone")
        with files.folder_of(name, self._location, make=True) as folder:
            return files.WholeFile(name, overwrite=False, mode=mode, folder=folder)

    @contextlib.contextmanager
    def keeping_folder_open(self) -> Iterator[FileStore]:
        """Lend this store with the folder of each file kept open for the next file."""
        if not self._is_folder:
            yield self
            return
        store = _OpenFolderStore(self)
        try:
            yield store
        finally:
            store.close()

    def _folder_of(self, name: str) -> contextlib.AbstractContextManager[int | None]:
        """Hold the folder of a file open, reached through no link; None if the location is one file."""
        if self._is_folder:
            return files.folder_of(name, self._location)
        if name != self._location:
            raise FileError(f"'{printable(name)}' is not in '{printable(self._location)}'; it was left alone")
        return contextlib.nullcontext()


class _OpenFolderStore(FileStore):
    """A folder of files that keeps the folder of the last file open."""

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
    # A stack, the first on top. A folder sorts as its files' paths do, with the separator after its name.
    waiting: list[tuple[bytes, str, bool]] = [(b"", folder, True)]
    while waiting:
        _, path, is_folder = waiting.pop()
        try:
            with files.reported("reading the folder" if is_folder else "examining", path):
                if is_folder:
                    waiting += sorted(_inside(path), reverse=True)
                    continue
                status = os.lstat(path)
        except FileError as error:
            if not isinstance(error.__cause__, FileNotFoundError) or path == folder:
                yield error
            continue  # it was removed meanwhile
        if stat.S_ISREG(status.st_mode):
            yield _entry(path, status)


def _inside(folder: str) -> Iterator[tuple[bytes, str, bool]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder or (entry.is_file(follow_symlinks=False) and not _BEING_WRITTEN.fullmatch(entry.name)):
                yield os.fsencode(entry.path) + b"/" * is_folder, entry.path, is_folder


def _entry(path: str, status: os.stat_result) -> Entry:
    # The inode distinguishes a file that was renamed to this path from the one before it.
    version = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
    return Entry(path, status.st_size, version, status.st_mtime)
