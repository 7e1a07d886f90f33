"""Files: read with typed errors, written whole or not at all, and changed in place without a moment of danger.

Every change that sealwax makes to a file system is made here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self, TypeVar, cast

from sealwax._core import disk, validate
from sealwax._core.context import printable
from sealwax._core.keyring import now
from sealwax.errors import FileError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

AnyPath = str | os.PathLike[str]
T = TypeVar("T")

COPY_BYTES: Final = 1 << 20
# How long a lock is waited for that another program holds, and a pipe's reader. Whoever may read a file can lock it.
LOCK_SECONDS: Final = 10.0
_PIPE_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.01

# To go through it is enough, where the system lets one say so.
_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
# What this process was handed open, as >(program) and > are: the system made these links.
_HANDED: Final = re.compile(r"/dev/(?:stdout|stderr|fd/[0-9]+)|/proc/self/fd/[0-9]+")
_EXISTS: Final = "it exists already, and is not replaced unasked (--force, or mode 'wb')"
_NOT_SPECIAL: Final = "a device or a pipe was there, and another file was put in its place; left alone"
_NOT_REGULAR: Final = "it is a link, or no regular file; left alone"
_NOT_OURS: Final = "it is a link of another user, who may let it lead anywhere; name the file itself"
_MAX_LINKS: Final = 40
# What a file system says that has no locks, or no working ones.
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})


# Two classes and not two generators: a fleet comes through here for each of a hundred thousand headers.
class _Reported:
    __slots__ = ("_doing", "_path")

    def __init__(self, doing: str, path: AnyPath) -> None:
        self._doing = doing
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        # EPIPE has a meaning of its own to a program in a pipeline.
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise FileError(
                f"{self._doing} '{printable(os.fspath(self._path))}' failed: {disk.reason(error)}"
            ) from error


def reported(doing: str, path: AnyPath) -> contextlib.AbstractContextManager[None]:
    """Turn an OSError inside into a :class:`~sealwax.FileError` that says what was being done to which file."""
    return _Reported(doing, path)


def _inside(path: AnyPath, folder: int | None) -> AnyPath:
    """Return what names ``path`` to a system call: its last part, where its folder is open as ``folder``."""
    return path if folder is None else os.path.basename(path)


def _open_regular(path: AnyPath, flags: int, folder: int | None) -> tuple[int, os.stat_result]:
    """Open a regular file and nothing else: no pipe is waited for and, in an open folder, no link followed."""
    if folder is not None:
        flags |= os.O_NOFOLLOW
    try:
        descriptor = os.open(_inside(path, folder), flags | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        if flags & os.O_NOFOLLOW and error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, _NOT_REGULAR) from None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        if folder is None and stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.ELOOP, _NOT_REGULAR)
    return descriptor, status


class _Folder:
    __slots__ = ("_folder", "_make", "_path", "_root")

    def __init__(self, path: str, root: str, make: bool) -> None:
        self._path = path
        self._root = root
        self._make = make
        self._folder: int | None = None

    def __enter__(self) -> int:
        path, root = self._path, self._root
        below = os.path.join(root, "")
        *parts, last = path[len(below) :].split(os.sep)
        if not path.startswith(below) or not last or ".." in (*parts, last) or "\0" in path:
            raise FileError(f"'{printable(path)}' is not in '{printable(root)}'; left alone")
        try:
            with reported("making the folder", os.path.dirname(path)) if self._make else reported("looking at", path):
                return self._enter(parts)
        except BaseException:
            self._close()
            raise

    def _enter(self, parts: list[str]) -> int:
        if self._make:
            _make_folders(self._root)
        folder = self._folder = os.open(self._root, _FOLDER)
        for part in filter(None, parts):
            if self._make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            try:
                self._folder = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            except OSError as error:
                if error.errno == errno.ELOOP or _mode(part, folder, stat.S_ISLNK):
                    raise FileError(f"'{printable(self._path)}' is reached by a link; left alone") from error
                raise
            os.close(folder)
            folder = self._folder
        return folder

    def _close(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder)

    def __exit__(self, *_: object) -> None:
        self._close()


def folder_of(path: str, root: str, *, make: bool = False) -> contextlib.AbstractContextManager[int]:
    """Hold the folder of a file open that is somewhere below ``root``, reached by no link.

    What was a folder at the listing may be a link by now, or become one at any moment: so each folder on the way is
    opened in the one before, and what is opened is what was looked at. ``root`` itself may be a link.

    Args:
        path: the file: ``root``, and a path below it.
        make: whether folders that are missing are made.

    Raises, when it is entered:
        FileError: a folder cannot be opened or made, is reached by a link, or is not below ``root``.
    """
    return _Folder(path, root, make)


def beginning(path: AnyPath, folder: int | None, most: int) -> tuple[bytes, int]:
    """Return the first ``most`` bytes of a regular file, or what there is, and its size.

    Args:
        folder: as for :class:`InputFile`.

    Raises:
        FileError: it cannot be read, or is not a regular file.
    """
    with reported("opening", path):
        descriptor, status = _open_regular(path, os.O_RDONLY | os.O_CLOEXEC, folder)
    try:
        with reported("reading", path):
            return os.read(descriptor, most), status.st_size
    finally:
        os.close(descriptor)


def walk(
    folder: str, on_error: Callable[[OSError], None] = lambda _: None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each folder at and below ``folder`` with the names of its folders and of what else is in it.

    As ``os.walk``, with links to folders among the folders and none of them followed, and with a list of folders that
    the caller may change: but that ends in a RecursionError at 1,000 folders within folders.

    Args:
        on_error: called where a folder cannot be read; the others are yielded all the same.
    """
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        folders: list[str] = []
        names: list[str] = []
        try:
            with os.scandir(parent) as found:
                for each in found:
                    (folders if _is_folder(each) else names).append(each.name)
        except OSError as error:
            on_error(error)
            continue
        yield parent, folders, names
        paths = [os.path.join(parent, name) for name in folders]
        waiting += [path for path in reversed(paths) if not os.path.islink(path)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _make_folders(folder: str) -> None:
    """Make a folder, and those above it that are missing; os.makedirs calls itself for each."""
    missing = []
    place = folder
    while place and not os.path.isdir(place):
        missing.append(place)
        place = os.path.dirname(place)
    for each in reversed(missing):
        try:
            os.mkdir(each)
        except FileExistsError:  # made by another meanwhile
            if not os.path.isdir(each):
                raise


def _mode(path: AnyPath, folder: int | None, is_kind: Callable[[int], bool]) -> bool:
    """Whether something is there, not through a link, and of this kind."""
    try:
        return is_kind(os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


class InputFile(io.FileIO):
    """An unbuffered file for reading, whose failures are :class:`~sealwax.FileError`.

    Args:
        path: the file.
        folder: a descriptor of its folder, where that is held open: only the last part of ``path`` is looked for then,
            in that folder, no link is followed, and it must be a regular file.
        regular: whether it must be a regular file all the same. To open another one can wait for its writer.

    Raises:
        FileError: it cannot be opened, is a folder, or not a regular file where that is asked.
    """

    def __init__(self, path: AnyPath, folder: int | None = None, *, regular: bool = False) -> None:
        self.path = path
        opener = None
        if regular or folder is not None:

            def opener(path: str, flags: int) -> int:
                return _open_regular(path, flags, folder)[0]

        with reported("opening", path):
            super().__init__(path, "rb", opener=opener)

    @property
    def on_disk(self) -> bool:
        """Whether it is a regular file, whose reads end by themselves."""
        return stat.S_ISREG(os.fstat(self.fileno()).st_mode)

    def read(self, size: int | None = -1, /) -> bytes:
        with reported("reading", self.path):
            return super().read(size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        with reported("reading", self.path):
            return super().readinto(buffer)


def sync(descriptor: int) -> None:
    """Bring a file's bytes to the disk itself. On macOS fsync stops at the drive's cache; F_FULLFSYNC does not."""
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is not None:
        try:
            fcntl.fcntl(descriptor, full_sync)
        except OSError:  # a file system without it
            os.fsync(descriptor)
    else:
        os.fsync(descriptor)


def _sync_folder(folder: int) -> None:
    try:
        descriptor = os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except PermissionError:
        # Who may put files there and not list them cannot sync the folder. The file itself is whole, and on the disk.
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; the rename is as safe there as they make it.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _is_handed(path: AnyPath) -> bool:
    return _HANDED.fullmatch(os.fsdecode(path)) is not None


def _led_to(path: AnyPath) -> str:
    """Return where the file is, or would be, that a path leads to by links of the caller's or root's.

    Otherwise whoever may make a link in a shared folder would decide which of the caller's files is written over.
    """
    if _is_handed(path):
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
        now = os.lstat(place)
        if (now.st_dev, now.st_ino, now.st_ctime_ns) != (link.st_dev, link.st_ino, link.st_ctime_ns):
            raise OSError(errno.ELOOP, _NOT_REGULAR)  # it was replaced while it was read
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    raise IsADirectoryError(errno.EISDIR, "it is a folder")


def is_special(path: AnyPath) -> bool:
    """Whether :class:`WholeFile` would write into what is there: a device or a pipe, and not through a link."""
    try:
        mode = os.stat(path, follow_symlinks=_is_handed(path)).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def _open_special(path: AnyPath, overwrite: bool) -> int:
    """Open a device or a pipe for writing, by one look at what was opened.

    It must be the caller's or root's, so that nobody else has put it there to read what is written; what the process
    was handed open is the caller's. A pipe's reader is waited for.
    """
    handed = _is_handed(path)
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if handed else os.O_NOFOLLOW)
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
                raise OSError(error.errno, f"no program has read from this pipe for {_PIPE_SECONDS:.0f} s") from None
            time.sleep(_PAUSE_SECONDS)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            raise OSError(errno.ELOOP, _NOT_SPECIAL)
        if not handed and status.st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "it is a device or a pipe of another user; left alone")
        if stat.S_ISBLK(status.st_mode) and not overwrite:
            raise FileExistsError(errno.EEXIST, _EXISTS)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def refuse_existing(path: AnyPath) -> None:
    """Refuse a path that something is at, be it a link to nowhere, before work is done for it.

    Raises:
        FileError: something is.
    """
    with reported("writing", path):
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, _EXISTS)


class WholeFile:
    """A file that appears whole or not at all: written beside its place, synced, then renamed into it.

    Leave the ``with`` block normally to put it in its place; leave it by an exception, and nothing has changed. A
    device or a named pipe of the caller's or root's is written to directly.

    The folder is opened once, and everything is done in it.

    Args:
        path: where the file is to appear. Where it may replace another, a symbolic link of the caller's or root's stays
            and the file it points to is replaced; where it may not, a link is in the way as any file is.
        overwrite: whether a file that is there may be replaced.
        mode: the permission bits it takes, less the umask; None for those of any new file.
        like: the file whose place it takes: it gets the very mode of that, and owner and group where the process may.
        times_ns: the access and modification times it takes, in nanoseconds; None leaves them.
        folder: as for :class:`InputFile`; what is replaced is a regular file then, or nothing is there.

    Raises:
        FileError: the folder cannot be written to, the file is there and may not be replaced, or the disk is full.
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
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            if folder is not None:
                self.path = Path(path)
                self._folder = os.dup(folder)
            elif is_special(path):
                self.path = Path(os.path.realpath(path))
                self.file = io.FileIO(_open_special(path, overwrite), "wb")
                return
            else:
                self.path = Path(_led_to(path) if overwrite else os.path.join(os.path.realpath(parent), name))
                self._folder = os.open(self.path.parent, _FOLDER)
            try:
                self._create(0o666 if mode is None else mode & 0o777)
            except BaseException:
                self.discard()
                raise

    def _create(self, mode: int) -> None:
        self._refuse_what_is_there()
        # As another file's successor it is nobody else's to look into before it has that one's mode.
        temporary = self._beside()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, mode if self._like is None else 0o600, dir_fd=self._folder)
        self.file = io.FileIO(descriptor, "r+b")
        self._temporary = temporary
        if self._like is not None:
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, self._like.st_uid, self._like.st_gid)

    def _refuse_what_is_there(self) -> None:
        """Refuse what must not be replaced, before work is done for it."""
        try:
            mode = os.stat(self.path.name, dir_fd=self._folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not self._overwrite:
            raise FileExistsError(errno.EEXIST, _EXISTS)
        if not stat.S_ISREG(mode):
            raise OSError(errno.ELOOP, _NOT_REGULAR)

    @staticmethod
    def _beside() -> str:
        return f".sealwax-{os.urandom(8).hex()}.part"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.finish(kind is None)

    @property
    def on_disk(self) -> bool:
        """Whether it is a regular file, whose writes end by themselves."""
        return self._temporary is not None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of ``data``; return how many bytes."""
        with reported("writing", self.path):
            return self.file.write(data)

    def commit(self) -> None:
        """Put the file in its place.

        Raises:
            FileError: it could not be, and is gone.
        """
        commit_all((self,))

    def _bring_to_disk(self) -> None:
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
                _sync_folder(self._folder)

    def _link(self, source: str, target: str) -> None:
        # Of a link that has come into the place, it is the link that gets a second name.
        os.link(source, target, src_dir_fd=self._folder, dst_dir_fd=self._folder, follow_symlinks=False)

    def _move(self, source: str, target: str) -> None:
        os.rename(source, target, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _move_into_place(self, temporary: str) -> None:
        if self._overwrite:
            os.replace(temporary, self.path.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        else:
            try:
                # A link, unlike a rename, never replaces a file that has appeared meanwhile.
                self._link(temporary, self.path.name)
            except OSError:
                # It is there by now; or the file system has no hard links, and looking once more has to do.
                self._refuse_what_is_there()
                self._move(temporary, self.path.name)
            else:
                os.unlink(temporary, dir_fd=self._folder)
        self._temporary = None

    def _keep_before(self) -> None:
        """Give what stands in the place a second name, from which it can be put back."""
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
        """Undo the appearing; return where the former file still is when that fails."""
        before, self._before = self._before, None
        try:
            # By looking, since a step that reports an error may have been done.
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
        return _mode(self.path.name, self._folder, lambda _: True)

    def _forget_before(self) -> None:
        # The new files are there and whole; a second name of an old one that cannot be removed is no failure.
        if self._before is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._before, dir_fd=self._folder)
        self._close_folder()

    def _close_folder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder)

    def finish(self, complete: bool) -> None:
        """Commit what is complete, discard what is not."""
        if complete:
            self.commit()
        else:
            self.discard()

    def discard(self) -> None:
        """Forget the file; what stood in its place still does. A forked child leaves its parent's alone."""
        # Whatever failed before is what the caller hears of; a close that fails too changes nothing about it.
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
    """Put files that belong together in their places: all of them or, where one cannot be, none.

    All are on the disk whole before the first one appears. Only a crash between two of them leaves some new and some
    old; what is missing then lies beside them, under temporary names.

    Raises:
        FileError: one could not be put in its place; what stood there before does again.
    """
    together = len(files) > 1
    try:
        for file in files:
            file._bring_to_disk()
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
            raise FileError(f"{error}; what was there before could not be put back and is kept as {names}") from error
        raise
    for file in files:
        file._forget_before()


class LockedFile:
    """An existing regular file, open for reading and writing, that no other re-wrap can touch until it is closed.

    ``locked`` is False where the file system has no locks that work.

    Args:
        path, folder: as for :class:`InputFile`; a link must be the caller's or root's.
        patience: how many seconds a lock is waited for that another program holds.

    Raises:
        FileError: the file cannot be opened for writing, or is locked all the time: its cause is then a
            BlockingIOError.
    """

    def __init__(self, path: AnyPath, folder: int | None = None, *, patience: float = LOCK_SECONDS) -> None:
        self.folder = folder
        self.locked = True
        until = now() + patience
        with reported("opening", path):
            self.path = Path(_led_to(path) if folder is None else path)
            while True:
                flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
                self.file = io.FileIO(_open_regular(self.path, flags, folder)[0], "r+b")
                try:
                    while not self._lock():
                        if now() >= until:
                            raise self._busy(patience) from BlockingIOError()
                        time.sleep(_PAUSE_SECONDS)
                    if not self.replaced():
                        return
                    # Who held the lock before put another file into this place: lock that one.
                    if now() >= until:
                        raise self._busy(patience) from BlockingIOError()
                except BaseException:
                    self.file.close()
                    raise
                self.file.close()

    def _lock(self) -> bool:
        """Take the lock; return False while another program holds it. Whoever may read the file can do so."""
        try:
            fcntl.flock(self.file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self.locked = False
        return True

    def _busy(self, patience: float) -> FileError:
        shown = printable(os.fspath(self.path))
        return FileError(
            f"locking '{shown}' failed: another program has held it for {patience:g} seconds; wait for that program or "
            f"end it ('fuser -v' and 'lslocks' name it), then run this again"
        )

    @property
    def status(self) -> os.stat_result:
        return os.fstat(self.file.fileno())

    def replaced(self) -> bool:
        """Whether another file now stands where this one was opened."""
        try:
            there = os.stat(_inside(self.path, self.folder), dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return True
        return not os.path.samestat(there, self.status)

    def overwrite(self, data: bytes, offset: int) -> None:
        """Replace bytes in place, sync, read them back and compare.

        Raises:
            OSError: a step failed; nothing more may be written then.
        """
        descriptor = self.file.fileno()
        done = 0
        while done < len(data):
            done += os.pwrite(descriptor, data[done:], offset + done)
        sync(descriptor)
        if os.pread(descriptor, len(data), offset) != data:
            raise OSError(errno.EIO, "what was written reads back differently")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def copy_rest(source: io.FileIO, target: io.FileIO, offset: int) -> None:
    """Append everything in ``source`` from ``offset`` on to ``target``, in the kernel where it can."""
    if hasattr(os, "copy_file_range"):
        try:
            os.lseek(source.fileno(), offset, os.SEEK_SET)
            while (size := os.copy_file_range(source.fileno(), target.fileno(), 1 << 30)) > 0:
                offset += size
            return
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
    while data := os.pread(source.fileno(), COPY_BYTES, offset):
        offset += len(data)
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                done += os.write(target.fileno(), view[done:])


def copied(
    source: AnyPath | BinaryIO,
    output: AnyPath | BinaryIO,
    copy: Callable[[BinaryIO, BinaryIO | WholeFile], None],
) -> None:
    """Do ``copy`` from one open file to the other; a path is read, or written whole or not at all."""
    if isinstance(source, str | os.PathLike):
        with InputFile(source) as file:
            copied(cast("BinaryIO", file), output, copy)
    elif isinstance(output, str | os.PathLike):
        with WholeFile(output, overwrite=True) as whole:
            copy(validate.file(source, "read"), whole)
    else:
        copy(validate.file(source, "read"), validate.file(output, "write"))


def opened(file: AnyPath | BinaryIO, use: Callable[[Any, Callable[[], None] | None], T]) -> T:
    """Return ``use(file, on_close)``; a path is opened for it, and closed by ``on_close`` or if ``use`` fails."""
    if not isinstance(file, str | os.PathLike):
        return use(validate.file(file, "read"), None)
    found = InputFile(file)
    try:
        return use(found, found.close)
    except BaseException:
        found.close()
        raise
