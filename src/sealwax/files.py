"""Files: read with typed errors, written whole or not at all, and changed in place without a moment of danger.

Every change that sealwax makes to a file system is made here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self, TypeVar, cast

from sealwax import given
from sealwax.context import printable
from sealwax.errors import FileError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

AnyPath = str | os.PathLike[str]
T = TypeVar("T")

COPY_BYTES: Final = 1 << 20
_EXISTS: Final = "it exists already, and is not replaced unasked (--force, or mode 'wb')"
_NOT_REGULAR: Final = "it is a link, or no regular file; left alone"
# What a file system says that has no locks, or no working ones.
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})


@contextlib.contextmanager
def reported(doing: str, path: AnyPath) -> Iterator[None]:
    """Turn an OSError inside into a :class:`~sealwax.FileError` that says what was being done to which file."""
    try:
        yield
    except OSError as error:
        # EPIPE has a meaning of its own to a program in a pipeline.
        if isinstance(error, BrokenPipeError):
            raise
        raise FileError(f"{doing} '{printable(os.fspath(path))}' failed: {error.strerror or error}") from error


def _inside(path: AnyPath, folder: int | None) -> AnyPath:
    """Return what names ``path`` to a system call: its last part, where its folder is open as ``folder``."""
    return path if folder is None else os.path.basename(path)


def _opener(folder: int | None) -> Callable[[str, int], int] | None:
    """Return how a file in an open folder is opened: no link, and no pipe that would be waited for."""
    if folder is None:
        return None

    def opener(path: str, flags: int) -> int:
        try:
            descriptor = os.open(_inside(path, folder), flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, _NOT_REGULAR) from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.ELOOP, _NOT_REGULAR)
        return descriptor

    return opener


class InputFile(io.FileIO):
    """An unbuffered file for reading, whose failures are :class:`~sealwax.FileError`.

    Args:
        path: the file.
        folder: a descriptor of its folder, where that is held open: only the last part of ``path`` is looked for then,
            in that folder, and no link is followed.

    Raises:
        FileError: it cannot be opened, or is a folder.
    """

    def __init__(self, path: AnyPath, folder: int | None = None) -> None:
        self.path = path
        with reported("opening", path):
            super().__init__(path, "rb", opener=_opener(folder))

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


def _sync_folder(path: Path, folder: int | None) -> None:
    descriptor = os.open(path if folder is None else ".", os.O_RDONLY, dir_fd=folder)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; the rename is as safe there as they make it.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def is_special(path: AnyPath) -> bool:
    """Whether the path is there and is neither a file nor a folder: a device, a pipe, a socket."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def refuse_existing(path: AnyPath) -> None:
    """Refuse a path that something is at, before work is done for it.

    Raises:
        FileError: something is.
    """
    with reported("writing", path):
        if Path(os.path.realpath(path)).exists():
            raise FileExistsError(errno.EEXIST, _EXISTS)


class WholeFile:
    """A file that appears whole or not at all: written beside its place, synced, then renamed into it.

    Leave the ``with`` block normally to put it in its place; leave it by an exception, and nothing has changed. A
    device or a named pipe is written to directly.

    Args:
        path: where the file is to appear; through a symbolic link, the link stays and its target is replaced.
        overwrite: whether a file that is there may be replaced.
        mode: the permission bits it takes; None leaves them to the umask.
        masked: where ``mode`` is None, the permission bits from which the umask takes some away.
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
        masked: int = 0o666,
        times_ns: tuple[int, int] | None = None,
        folder: int | None = None,
    ) -> None:
        self.path = Path(os.path.realpath(path) if folder is None else path)
        self._folder = folder
        self._overwrite = overwrite
        self._mode = mode
        self._times_ns = times_ns
        self._temporary: Path | None = None
        self._before: Path | None = None
        self._written: os.stat_result | None = None
        self._process = os.getpid()
        with reported("writing", path):
            if folder is None:
                if is_special(path):
                    self.file = io.FileIO(path, "wb")
                    return
                if self.path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "it is a folder")
                if not overwrite and self.path.exists():
                    raise FileExistsError(errno.EEXIST, _EXISTS)
            self._temporary = self._beside()
            # With a mode to take over, nobody else may look in before it is set; without, the umask decides.
            descriptor = os.open(
                _inside(self._temporary, folder),
                os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                masked if mode is None else 0o600,
                dir_fd=folder,
            )
            self.file = io.FileIO(descriptor, "r+b")

    def _beside(self) -> Path:
        return self.path.with_name(f".sealwax-{os.urandom(8).hex()}.part")

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
                if self._mode is not None:
                    os.fchmod(self.file.fileno(), self._mode)
                if self._times_ns is not None:
                    os.utime(self.file.fileno(), ns=self._times_ns)
                sync(self.file.fileno())
                self._written = os.fstat(self.file.fileno())
            self.file.close()

    def _appear(self) -> None:
        if self._temporary is not None:
            with reported("writing", self.path):
                self._move_into_place(self._temporary)
                _sync_folder(self.path.parent, self._folder)

    def _move_into_place(self, temporary: Path) -> None:
        if self._overwrite:
            source, target = (_inside(path, self._folder) for path in (temporary, self.path))
            os.replace(source, target, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        else:
            try:
                # A link, unlike a rename, never replaces a file that has appeared meanwhile.
                os.link(temporary, self.path)
            except OSError:
                # It is there by now; or the file system has no hard links, and looking once more has to do.
                if os.path.lexists(self.path):
                    raise FileExistsError(errno.EEXIST, _EXISTS) from None
                os.rename(temporary, self.path)
            else:
                os.unlink(temporary)
        self._temporary = None

    def _keep_before(self) -> None:
        """Give what stands in the place a second name, from which it can be put back."""
        if self._temporary is None or not self._overwrite:
            return
        with reported("writing", self.path):
            before = self._beside()
            try:
                os.link(self.path, before)
            except FileNotFoundError:
                return
            except OSError:  # no hard links here
                os.rename(self.path, before)
            self._before = before

    def _put_back(self) -> Path | None:
        """Undo the appearing; return where the former file still is when that fails."""
        before, self._before = self._before, None
        try:
            # By looking, since a step that reports an error may have been done.
            if before is None:
                if self._written is not None and os.path.samestat(os.stat(self.path), self._written):
                    os.unlink(self.path)
            elif self.path.exists() and self.path.samefile(before):
                os.unlink(before)  # renaming one name of a file to its other one does nothing
            else:
                os.replace(before, self.path)
        except OSError:
            return before
        return None

    def _forget_before(self) -> None:
        # The new files are there and whole; a second name of an old one that cannot be removed is no failure.
        if self._before is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._before)

    def finish(self, complete: bool) -> None:
        """Commit what is complete, discard what is not."""
        if complete:
            self.commit()
        else:
            self.discard()

    def take_owner(self, status: os.stat_result) -> None:
        """Give the file the owner and group of another, where this process may."""
        if self._temporary is not None:
            with contextlib.suppress(PermissionError):
                os.fchown(self.file.fileno(), status.st_uid, status.st_gid)

    def discard(self) -> None:
        """Forget the file; what stood in its place still does. A forked child leaves its parent's alone."""
        # Whatever failed before is what the caller hears of; a close that fails too changes nothing about it.
        with contextlib.suppress(OSError):
            self.file.close()
        if self._temporary is not None:
            if self._process == os.getpid():
                with contextlib.suppress(OSError):
                    os.unlink(_inside(self._temporary, self._folder), dir_fd=self._folder)
            self._temporary = None


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
    """An existing file, open for reading and writing, that no other re-wrap can touch until it is closed.

    ``locked`` is False where the file system has no locks that work.

    Args:
        path, folder: as for :class:`InputFile`.

    Raises:
        FileError: the file cannot be opened for writing.
    """

    def __init__(self, path: AnyPath, folder: int | None = None) -> None:
        self.path = Path(os.path.realpath(path) if folder is None else path)
        self.folder = folder
        self.locked = True
        with reported("opening", path):
            while True:
                self.file = io.FileIO(self.path, "r+b", opener=_opener(folder))
                try:
                    fcntl.flock(self.file.fileno(), fcntl.LOCK_EX)
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        self.file.close()
                        raise
                    self.locked = False
                if not self.replaced():
                    return
                # Who held the lock before put another file into this place: lock that one.
                self.file.close()

    @property
    def status(self) -> os.stat_result:
        return os.fstat(self.file.fileno())

    def replaced(self) -> bool:
        """Whether another file now stands where this one was opened."""
        try:
            there = os.stat(_inside(self.path, self.folder), dir_fd=self.folder, follow_symlinks=self.folder is None)
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
            copy(given.file(source, "read"), whole)
    else:
        copy(given.file(source, "read"), given.file(output, "write"))


def opened(file: AnyPath | BinaryIO, use: Callable[[Any, Callable[[], None] | None], T]) -> T:
    """Return ``use(file, on_close)``; a path is opened for it, and closed by ``on_close`` or if ``use`` fails."""
    if not isinstance(file, str | os.PathLike):
        return use(given.file(file, "read"), None)
    found = InputFile(file)
    try:
        return use(found, found.close)
    except BaseException:
        found.close()
        raise
