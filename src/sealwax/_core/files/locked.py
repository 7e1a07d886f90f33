"""Files that are changed in place, under a lock."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Final, Self

from sealwax._core import locking
from sealwax._core.files.reading import inside, open_regular, reported
from sealwax._core.files.whole import resolve_own_links, sync
from sealwax._core.sources import AnyPath
from sealwax._text import printable
from sealwax.errors import FileError

LOCK_SECONDS: Final = 10.0
# The errors of file systems without working locks.
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})


class LockedFile:
    """An existing regular file, open for reading and writing, that no other re-wrap can change until it is closed.

    ``locked`` is False on a file system without working locks.

    Args:
        path, folder: as for ``InputFile``; a link must belong to the caller or root.
        patience: how many seconds to wait for a lock that another program holds.

    Raises:
        FileError: the file cannot be opened for writing, or another program holds the lock; then the cause is a
            BlockingIOError.
    """

    def __init__(self, path: AnyPath, folder: int | None = None, *, patience: float = LOCK_SECONDS) -> None:
        self.folder = folder

        def open_file() -> int:
            return open_regular(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, folder)[0]

        with reported("opening", path):
            self.path = Path(resolve_own_links(path) if folder is None else path)
            try:
                descriptor = locking.lock(open_file, self._is_at_path, patience=patience)
                self.locked = True
            except BlockingIOError as error:
                raise FileError(
                    f"locking '{printable(os.fspath(self.path))}' failed: another program has held it for {patience:g} "
                    "seconds; wait for that program or end it ('fuser -v' and 'lslocks' show it), then try again"
                ) from error
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                descriptor = open_file()
                self.locked = False
        self.file = io.FileIO(descriptor, "r+b")

    def _is_at_path(self, descriptor: int) -> bool:
        return locking.is_at(inside(self.path, self.folder), descriptor, self.folder)

    @property
    def status(self) -> os.stat_result:
        return os.fstat(self.file.fileno())

    def replaced(self) -> bool:
        """Whether another file is now where this one was opened."""
        return not self._is_at_path(self.file.fileno())

    def overwrite(self, data: bytes, offset: int) -> None:
        """Replace bytes in place, sync, read them back and compare.

        Raises:
            OSError: a step failed; write nothing more.
        """
        descriptor = self.file.fileno()
        done = 0
        while done < len(data):
            done += os.pwrite(descriptor, data[done:], offset + done)
        sync(descriptor)
        if os.pread(descriptor, len(data), offset) != data:
            raise OSError(errno.EIO, "the bytes read back differ from those written")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
