"""Why a file could not be written: the disk is full, a quota or a limit is reached, it is read-only, or it fails.

SQLite reports the step that failed, but not why: a full disk, a quota, the process's limit on file sizes and a failing
disk are all "disk I/O error". So another file is written in the same folder to find the reason.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sealwax._core.sources import AnyPath

if TYPE_CHECKING:
    import sqlite3

_HINTS: Final = {
    errno.ENOSPC: "make room on that disk, then run this again",
    errno.EDQUOT: "make room below your quota, then run this again",
    errno.EROFS: "choose a writable place, or mount that one read-write",
    errno.EMFILE: "this process has too many files open: raise its limit ('ulimit -n'), then run this again",
    errno.ENFILE: "the system has too many files open: end other programs, then run this again",
    errno.EFBIG: "the file reached the size limit of this process ('ulimit -f'): raise it, then run this again",
    errno.EIO: "the disk may be failing: check the system log",
}
_NO_FOLDER: Final = "the current folder no longer exists: change to another, then run this again"
# More than SQLite writes in one step: 32 KiB of the index of its log, or a page of up to 64 KiB.
_PROBE: Final = 1 << 17

# What two connections hold, with a log and its index each, and a folder. They are closed by the time of the probe.
_DESCRIPTORS: Final = 8
# How each database of SQLite begins: https://www.sqlite.org/fileformat.html
SQLITE_MAGIC: Final = b"SQLite format 3\0"
# What the names of SQLite's files end with.
_FILES: Final = ("", "-wal", "-shm", "-journal")
_LONGEST_PATH: Final = 512  # of SQLite


def reason(error: OSError) -> str:
    """Return the system's message, and a hint if there is one."""
    message = error.strerror or str(error)
    hint = _NO_FOLDER if _misses_current_folder(error) else _HINTS.get(error.errno or 0)
    return f"{message}; {hint}" if hint else message


def _misses_current_folder(error: OSError) -> bool:
    """Whether a name is missing because the folder that it starts from was deleted."""
    if error.errno != errno.ENOENT or (
        isinstance(error.filename, str | bytes | os.PathLike) and Path(os.fsdecode(error.filename)).is_absolute()
    ):
        return False
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def reason_of_sqlite(error: sqlite3.Error, path: AnyPath) -> str:
    """Return why SQLite failed to use its file ``path``, as ``reason`` does."""
    import sqlite3

    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    kind = code & 0xFF  # the higher bits are the step
    if kind == sqlite3.SQLITE_FULL:
        return reason(_system(errno.ENOSPC))
    if kind not in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return str(error)
    if kind == sqlite3.SQLITE_CANTOPEN and len(os.fsencode(path)) + len("-journal") >= _LONGEST_PATH:
        return f"its path is longer than the {_LONGEST_PATH} bytes that SQLite takes"
    opening = kind == sqlite3.SQLITE_CANTOPEN
    failure = _probe(os.fspath(path), _DESCRIPTORS if opening else 0) or _closed_to_us(os.fspath(path))
    if failure is not None:
        return reason(failure)
    # The step may help to diagnose the disk.
    step = getattr(error, "sqlite_errorname", "")
    return f"{error} ({step}); {_HINTS[errno.EIO]}" if kind == sqlite3.SQLITE_IOERR else f"{error} ({step})"


def _system(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _closed_to_us(path: str) -> OSError | None:
    """Return the error for a file of the database that this user may not read and write, or None.

    Not found by opening it: closing it would release SQLite's locks on it.
    """
    effective = os.access in os.supports_effective_ids
    for suffix in _FILES:
        file = f"{path}{suffix}"
        if os.access(file, os.F_OK) and not os.access(file, os.R_OK | os.W_OK, effective_ids=effective):
            return _system(errno.EACCES)
    return None


def _probe(path: str, descriptors: int) -> OSError | None:
    """Return the error that writing to ``path`` would meet, or None.

    The file itself is not opened: closing it would release SQLite's locks on it.

    Args:
        descriptors: how many more must be free.
    """
    name = f".sealwax-{os.urandom(8).hex()}.part"
    try:
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        for suffix in _FILES:
            with contextlib.suppress(FileNotFoundError):
                if limit != resource.RLIM_INFINITY and Path(f"{path}{suffix}").stat().st_size + _PROBE > limit:
                    return _system(errno.EFBIG)
        folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        spare: list[int] = []
        try:
            while len(spare) < descriptors:
                spare.append(os.dup(folder))
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
            for descriptor in (folder, *spare):
                os.close(descriptor)
    except OSError as error:
        return error
    return None
