"""Files for reading, and the error of every step that fails."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from typing import TYPE_CHECKING, Final

from sealwax._core import disk
from sealwax._core.sources import AnyPath
from sealwax._text import printable
from sealwax.errors import FileError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

NOT_REGULAR: Final = "it is a symbolic link or not a regular file"


# A class and not a generator: a fleet enters it for each of a hundred thousand headers.
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
    """Turn an OSError inside into a FileError that names the step and the file."""
    return _Reported(doing, path)


def inside(path: AnyPath, folder: int | None) -> AnyPath:
    """Return what to pass to a system call: only the last part of ``path`` if its folder is open as ``folder``."""
    return path if folder is None else os.path.basename(path)


def open_regular(path: AnyPath, flags: int, folder: int | None) -> tuple[int, os.stat_result]:
    """Open a regular file and nothing else: never wait for a pipe, and follow no link in an open folder."""
    if folder is not None:
        flags |= os.O_NOFOLLOW
    try:
        descriptor = os.open(inside(path, folder), flags | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        if flags & os.O_NOFOLLOW and error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, NOT_REGULAR) from None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        if folder is None and stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.ELOOP, NOT_REGULAR)
    return descriptor, status


def beginning(path: AnyPath, folder: int | None, most: int) -> tuple[bytes, int]:
    """Return up to ``most`` bytes from the start of a regular file, and the file's size.

    Args:
        folder: as for ``InputFile``.

    Raises:
        FileError: it cannot be read, or is not a regular file.
    """
    with reported("opening", path):
        descriptor, status = open_regular(path, os.O_RDONLY | os.O_CLOEXEC, folder)
    try:
        with reported("reading", path):
            return os.read(descriptor, most), status.st_size
    finally:
        os.close(descriptor)


class InputFile(io.FileIO):
    """An unbuffered file for reading that raises ``FileError``.

    Args:
        path: the file.
        folder: a descriptor of its open folder. Then only the last part of ``path`` is looked up, in that folder; no
            link is followed, and it must be a regular file.
        regular: whether it must be a regular file in any case. Opening another kind may wait for a writer.

    Raises:
        FileError: it cannot be opened, is a folder, or is not a regular file where it must be.
    """

    def __init__(self, path: AnyPath, folder: int | None = None, *, regular: bool = False) -> None:
        self.path = path
        opener = None
        if regular or folder is not None:

            def opener(path: str, flags: int) -> int:
                return open_regular(path, flags, folder)[0]

        with reported("opening", path):
            super().__init__(path, "rb", opener=opener)

    @property
    def on_disk(self) -> bool:
        """Whether it is a regular file, whose reads never wait for another program."""
        return stat.S_ISREG(os.fstat(self.fileno()).st_mode)

    def read(self, size: int | None = -1, /) -> bytes:
        with reported("reading", self.path):
            return super().read(size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        with reported("reading", self.path):
            return super().readinto(buffer)
