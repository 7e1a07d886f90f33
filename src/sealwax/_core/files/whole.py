"""Files that appear whole or not at all: written beside their place, synced, then renamed into it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from sealwax._core.files.folders import FOLDER, exists
from sealwax._core.files.reading import NOT_REGULAR, reported
from sealwax._core.keyring import now
from sealwax._core.sources import AnyPath
from sealwax._text import printable
from sealwax.errors import FileError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# How long to wait for a pipe's reader.
_PIPE_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.01
_MAX_LINKS: Final = 40

# Open files of this process by name, as >(program) and > name them: the system made these links.
_OPEN_HERE: Final = re.compile(r"/dev/(?:stdout|stderr|fd/[0-9]+)|/proc/self/fd/[0-9]+")
_EXISTS: Final = "it already exists"
_IS_FOLDER: Final = "it is a folder"
_NOT_SPECIAL: Final = "another program replaced the device or pipe with a file; it was left alone"
_NOT_OURS: Final = "it is a symbolic link of another user, who could point it anywhere; name the file itself"


def sync(descriptor: int) -> None:
    """Write a file's bytes through to the disk itself. On macOS, fsync stops at the drive's cache."""
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is not None:
        try:
            fcntl.fcntl(descriptor, full_sync)
        except OSError:  # a file system without it
            os.fsync(descriptor)
    else:
        os.fsync(descriptor)


def sync_folder(folder: int) -> None:
    """Write the names in an open folder through to the disk, as far as its file system can."""
    try:
        descriptor = os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except PermissionError:
        # A folder that the caller may write but not list cannot be synced. The file itself is on the disk.
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; their rename is as safe as they make it.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _is_open_here(path: AnyPath) -> bool:
    return _OPEN_HERE.fullmatch(os.fsdecode(path)) is not None


def resolve_own_links(path: AnyPath) -> str:
    """Return the file that ``path`` names, following only links that belong to the caller or root.

    Other users who can create links in a shared folder must not choose which of the caller's files is overwritten.
    """
    if _is_open_here(path):
        return os.path.realpath(path)
    named = os.fspath(path)
    for _ in range(_MAX_LINKS):
        parent, name = os.path.split(named)
        if name in ("", ".", ".."):
            break
        place = os.path.join(os.path.realpath(parent), name)
        try:
            link = os.lstat(place)
        except FileNotFoundError:
            return place
        if not stat.S_ISLNK(link.st_mode):
            return place
        named = os.path.join(os.path.dirname(place), os.readlink(place))
        if link.st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, _NOT_OURS)
        again = os.lstat(place)
        if (again.st_dev, again.st_ino, again.st_ctime_ns) != (link.st_dev, link.st_ino, link.st_ctime_ns):
            raise OSError(errno.ELOOP, NOT_REGULAR)  # it was replaced while it was read
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    raise IsADirectoryError(errno.EISDIR, _IS_FOLDER)


def is_special(path: AnyPath) -> bool:
    """Whether ``WholeFile`` would write directly into what is there: a device or a pipe, and no link to one."""
    try:
        mode = os.stat(path, follow_symlinks=_is_open_here(path)).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def _open_special(path: AnyPath, overwrite: bool) -> int:
    """Open a device or a pipe for writing, check what was opened, and wait for a pipe's reader.

    It must belong to the caller or root: another user could have put it there to read what is written. What is already
    open in this process is the caller's.
    """
    open_here = _is_open_here(path)
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if open_here else os.O_NOFOLLOW)
    until = now() + _PIPE_SECONDS
    while True:
        try:
            descriptor = os.open(path, flags)
            break
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, _NOT_SPECIAL) from None
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise
            if now() > until:
                raise OSError(
                    error.errno, f"no program opened this pipe for reading in {_PIPE_SECONDS:.0f} s"
                ) from None
            time.sleep(_PAUSE_SECONDS)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            raise OSError(errno.ELOOP, _NOT_SPECIAL)
        if not open_here and status.st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "it is a device or a pipe of another user; it was left alone")
        if stat.S_ISBLK(status.st_mode) and not overwrite:
            raise FileExistsError(errno.EEXIST, _EXISTS)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def refuse_existing(path: AnyPath) -> None:
    """Refuse a path that exists, even as a broken link, before any work is done.

    Raises:
        FileError: it exists.
    """
    with reported("writing", path):
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, _EXISTS)


class WholeFile:
    """A file that appears whole or not at all: written beside its place, synced, then renamed into it.

    Leaving the ``with`` block normally puts it in its place; leaving it by an exception changes nothing. A device or a
    named pipe that belongs to the caller or root is written to directly.

    The folder is opened once, and everything is done in it.

    Args:
        path: where the file appears. With ``overwrite``, a symbolic link that belongs to the caller or root stays, and
            the file it points to is replaced. Without it, a link is in the way like any other file.
        overwrite: whether an existing file may be replaced.
        mode: its permission bits, before the umask; None for those of any new file.
        like: the file it replaces: it gets exactly that mode, and if possible that owner and group.
        times_ns: its access and modification times in nanoseconds; None for now.
        folder: as for ``InputFile``; only a regular file can be replaced then.

    Raises:
        FileError: the folder cannot be written to, the file exists and may not be replaced, or the disk is full.
    """

    def __init__(
        self,
        path: AnyPath,
        *,
        overwrite: bool,
        mode: int | None = None,
        like: os.stat_result | None = None,
        times_ns: tuple[int, int] | None = None,
        folder: int | None = None,
    ) -> None:
        self._folder: int | None = None
        self._overwrite = overwrite
        self._like = like
        self._times_ns = times_ns
        self._temporary: str | None = None
        self._before: str | None = None
        self._written: os.stat_result | None = None
        self._process = os.getpid()
        parent, name = os.path.split(path)
        with reported("writing", path):
            if name in ("", ".", ".."):
                raise IsADirectoryError(errno.EISDIR, _IS_FOLDER)
            if folder is not None:
                self.path = Path(path)
                self._folder = os.dup(folder)
            elif is_special(path):
                self.path = Path(os.path.realpath(path))
                self.file = io.FileIO(_open_special(path, overwrite), "wb")
                return
            else:
                self.path = Path(resolve_own_links(path) if overwrite else os.path.join(os.path.realpath(parent), name))
                self._folder = os.open(self.path.parent, FOLDER)
            try:
                self._create(0o666 if mode is None else mode & 0o777)
            except BaseException:
                self.discard()
                raise

    def _create(self, mode: int) -> None:
        self._refuse_existing()
        # Nobody else may read another file's successor before it has that file's mode.
        temporary = self._beside()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, mode if self._like is None else 0o600, dir_fd=self._folder)
        self.file = io.FileIO(descriptor, "r+b")
        self._temporary = temporary
        if self._like is not None:
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, self._like.st_uid, self._like.st_gid)

    def _refuse_existing(self) -> None:
        """Refuse what must not be replaced, before any work is done."""
        try:
            mode = os.stat(self.path.name, dir_fd=self._folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, _IS_FOLDER)
        if not self._overwrite:
            raise FileExistsError(errno.EEXIST, _EXISTS)
        if not stat.S_ISREG(mode):
            raise OSError(errno.ELOOP, NOT_REGULAR)

    @staticmethod
    def _beside() -> str:
        return f".sealwax-{os.urandom(8).hex()}.part"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.finish(kind is None)

    @property
    def on_disk(self) -> bool:
        """Whether it is a regular file, whose writes never wait for another program."""
        return self._temporary is not None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of ``data``; return the number of bytes written."""
        with reported("writing", self.path):
            return self.file.write(data)

    def commit(self) -> None:
        """Put the file in its place.

        Raises:
            FileError: that failed, and the new file is gone.
        """
        commit_all((self,))

    def _write_to_disk(self) -> None:
        with reported("writing", self.path):
            if self._temporary is not None:
                if self._like is not None:
                    os.fchmod(self.file.fileno(), stat.S_IMODE(self._like.st_mode))
                if self._times_ns is not None:
                    os.utime(self.file.fileno(), ns=self._times_ns)
                sync(self.file.fileno())
                self._written = os.fstat(self.file.fileno())
            self.file.close()

    def _appear(self) -> None:
        if self._temporary is not None:
            with reported("writing", self.path):
                self._move_into_place(self._temporary)
                assert self._folder is not None
                sync_folder(self._folder)

    def _link(self, source: str, target: str) -> None:
        # If a link has just appeared here, the link itself gets the second name.
        os.link(source, target, src_dir_fd=self._folder, dst_dir_fd=self._folder, follow_symlinks=False)

    def _move(self, source: str, target: str) -> None:
        os.rename(source, target, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _move_into_place(self, temporary: str) -> None:
        if self._overwrite:
            os.replace(temporary, self.path.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        else:
            try:
                # Unlike a rename, a hard link never replaces a file that has just appeared.
                self._link(temporary, self.path.name)
            except OSError:
                # It exists by now; or the file system has no hard links, and a second check has to do.
                self._refuse_existing()
                self._move(temporary, self.path.name)
            else:
                os.unlink(temporary, dir_fd=self._folder)
        self._temporary = None

    def _keep_before(self) -> None:
        """Give the existing file a second name, to restore it from."""
        if self._temporary is None or not self._overwrite:
            return
        with reported("writing", self.path):
            before = self._beside()
            try:
                self._link(self.path.name, before)
            except FileNotFoundError:
                return
            except OSError:  # no hard links here
                self._move(self.path.name, before)
            self._before = before

    def _put_back(self) -> Path | None:
        """Undo ``_appear``; if that fails, return where the previous file still is."""
        before, self._before = self._before, None
        try:
            # Check first: a step that reported an error may still have been done.
            if before is None:
                if self._written is not None and os.path.samestat(self._status_of(self.path.name), self._written):
                    os.unlink(self.path.name, dir_fd=self._folder)
            elif self._is_there() and os.path.samestat(self._status_of(self.path.name), self._status_of(before)):
                os.unlink(before, dir_fd=self._folder)  # renaming one name of a file to its other one does nothing
            else:
                os.replace(before, self.path.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            return None if before is None else self.path.with_name(before)
        return None

    def _status_of(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._folder, follow_symlinks=False)

    def _is_there(self) -> bool:
        return exists(self.path.name, self._folder)

    def _forget_before(self) -> None:
        # The new files are in place; failing to remove a second name of an old one is no failure.
        if self._before is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._before, dir_fd=self._folder)
        self._close_folder()

    def _close_folder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder)

    def finish(self, complete: bool) -> None:
        """Commit the file if it is complete, otherwise discard it."""
        if complete:
            self.commit()
        else:
            self.discard()

    def discard(self) -> None:
        """Drop the file; whatever was in its place stays. A forked child leaves its parent's file alone."""
        # The caller gets the first error; a close that fails too changes nothing about it.
        if hasattr(self, "file"):
            with contextlib.suppress(OSError):
                self.file.close()
        if self._temporary is not None:
            if self._process == os.getpid():
                with contextlib.suppress(OSError):
                    os.unlink(self._temporary, dir_fd=self._folder)
            self._temporary = None
        self._close_folder()


def commit_all(files: Sequence[WholeFile]) -> None:
    """Put files that belong together in their places: all of them, or none if one fails.

    All are completely on the disk before the first one appears. Only a crash in between leaves some new and some old;
    the missing ones are then beside them, under temporary names.

    Raises:
        FileError: one could not be put in its place; the previous files are back.
    """
    together = len(files) > 1
    try:
        for file in files:
            file._write_to_disk()
        if together:
            for file in files:
                file._keep_before()
        for file in files:
            file._appear()
    except BaseException as error:
        kept = [place for file in files if (place := file._put_back()) is not None] if together else []
        for file in files:
            file.discard()
        if kept:
            names = ", ".join(f"'{printable(str(place))}'" for place in kept)
            raise FileError(f"{error}; the previous files could not be restored and are kept as {names}") from error
        raise
    for file in files:
        file._forget_before()
