"""Why a file could not be written: the disk is full, a quota or a limit is reached, it is read-only, or it fails.

SQLite says which of its steps failed and keeps the system's reason to itself: a full disk, a used-up quota, a file that
has reached the size limit of the process and a disk that is dying are all "disk I/O error". So the reason is looked for
where the file is, by writing another one there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

AnyPath = str | os.PathLike[str]

_HINTS: Final = {
    errno.ENOSPC: "make room on that disk, then run this again",
    errno.EDQUOT: "make room below your quota, then run this again",
    errno.EROFS: "name a place that can be written, or mount that one read-write",
    errno.EMFILE: "this process has as many files open as it may: raise its limit ('ulimit -n'), then run this again",
    errno.ENFILE: "the whole system has as many files open as it may: end other programs, then run this again",
    errno.EFBIG: "the limit on the size of a file is reached ('ulimit -f'): raise it, then run this again",
    errno.EIO: "the disk may be failing: look into the system's log",
}
# More than SQLite writes in one step: a piece of the index of its log has 32 KiB, and a page up to 64.
_PROBE: Final = 1 << 17

_LONGEST_PATH: Final = 512  # of SQLite


def reason(error: OSError) -> str:
    """Return what the system says, and what helps where that is known."""
    said = error.strerror or str(error)
    hint = _HINTS.get(error.errno or 0)
    return f"{said}; {hint}" if hint else said


def reason_of_sqlite(error: sqlite3.Error, path: AnyPath) -> str:
    """Return why SQLite failed to use its file ``path``, as :func:`reason` does."""
    import sqlite3

    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    kind = code & 0xFF  # what is above is the step
    if kind == sqlite3.SQLITE_FULL:
        return reason(_system(errno.ENOSPC))
    if kind not in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return str(error)
    if kind == sqlite3.SQLITE_CANTOPEN and len(os.fsencode(path)) + len("-journal") >= _LONGEST_PATH:
        return f"its path is longer than the {_LONGEST_PATH} bytes that SQLite takes"
    found = _probe(os.fspath(path))
    if found is not None:
        return reason(found)
    # Which step it was may help who looks for what is wrong with the disk.
    step = getattr(error, "sqlite_errorname", "")
    return f"{error} ({step}); {_HINTS[errno.EIO]}" if kind == sqlite3.SQLITE_IOERR else f"{error} ({step})"


def _system(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _probe(path: str) -> OSError | None:
    """Return what the system has against writing to ``path``; None where it has nothing.

    The file itself is not opened: to close it would take away the locks that SQLite has on it.
    """
    name = f".sealwax-{os.urandom(8).hex()}.part"
    try:
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                if limit != resource.RLIM_INFINITY and Path(f"{path}{suffix}").stat().st_size + _PROBE > limit:
                    return _system(errno.EFBIG)
        folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if os.fstatvfs(folder).f_flag & os.ST_RDONLY:
                return _system(errno.EROFS)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(name, flags, 0o600, dir_fd=folder)
            try:
                os.unlink(name, dir_fd=folder)
                left = _PROBE
                while left:
                    left -= os.write(file, bytes(left))
                os.fsync(file)
            finally:
                os.close(file)
        finally:
            os.close(folder)
    except OSError as error:
        return error
    return None
