"""Files that sealwax acts on, and so must trust: a plan, facts, a baseline, a context, a lab, a lock.

Such a file is used only if nobody but the caller and root can have written it:

- It is a regular file of the caller or root, and neither its group nor others may write to it.
- The same holds for its folder, in which others could otherwise replace it. A folder like /tmp, whose sticky bit keeps
  users from renaming each other's files, is good enough for a file with one name. It is not for SQLite, which opens
  further files by name that anybody could create.

A group counts as others unless it is the caller's own: not root's, with the caller's name, and without other members
(as pam_umask recognizes it; such users often have the umask 002). Linux shows an ACL that lets somebody write as a
permission of the group; then the group counts as others in any case.

Everything is checked through descriptors, first of the folder and then of the file in it, and no link of another user
is followed. A pipe or a terminal passed in as /dev/stdin or /dev/fd/N was opened by whoever started this program, and
is trusted.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import grp
import io
import os
import pwd
import re
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from sealwax._core import fork_locks
from sealwax._core.sources import AnyPath
from sealwax._text import printable
from sealwax.errors import SealwaxError

if TYPE_CHECKING:
    import sqlite3

_ROOT: Final = 0
_HANDED_IN: Final = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/([0-9]{1,9})")
# Such a descriptor needs no permission to list a folder. Closing one of a file that SQLite has open keeps SQLite's
# locks, which closing an ordinary one would release. macOS does not have it.
_PLACE: Final[int | None] = getattr(os, "O_PATH", None)
_FOLDER: Final = os.O_DIRECTORY | os.O_CLOEXEC | (_PLACE or os.O_RDONLY)
# Without O_NONBLOCK, opening a pipe that somebody has put there would wait.
_FILE: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_BESIDE: Final = ("-wal", "-shm", "-journal")
_MAX_LINKS: Final = 40


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of trusted file.

    Args:
        name: what errors call it, with its article.
        error: raised if it is refused.
    """

    name: str
    error: type[SealwaxError]


@dataclass(frozen=True, slots=True)
class _Look:
    status: os.stat_result
    acl: bool

    @property
    def identity(self) -> tuple[int, int]:
        return self.status.st_dev, self.status.st_ino


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a file is or will be: its open folder, and its name there."""

    folder: int
    path: str
    name: str
    sticky: bool


def others(status: os.stat_result, caller: int, *, acl: bool = False) -> str:
    """Return who else can have written a file, or can write in a folder; "" if nobody can.

    Args:
        caller: the user id that may own the file, besides root.
        acl: whether the group's permission stands for an ACL.
    """
    if status.st_uid not in (caller, _ROOT):
        return f"it belongs to {_user(status.st_uid)}"
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IWOTH:
        return f"everybody may write to it (mode {mode:04o})"
    if mode & stat.S_IWGRP and (acl or not _is_own(status.st_gid, caller)):
        listed = ", or users in its ACL," if acl else ""
        return f"its group {_group(status.st_gid)}{listed} may write to it (mode {mode:04o})"
    return ""


def who_else(descriptor: int) -> str:
    """Return ``others`` of an open file or folder."""
    look = _look_at(descriptor)
    return others(look.status, os.geteuid(), acl=look.acl)


def handed_in(path: AnyPath) -> int | None:
    """Return the descriptor that a name such as /dev/stdin means; None for any other name."""
    match = _HANDED_IN.fullmatch(os.fspath(path))
    return int(match[1] or 0) if match else None


def open_file(path: AnyPath, kind: Kind) -> io.BufferedReader:
    """Open a file for reading. The caller closes it.

    Raises:
        SealwaxError: the kind's error: somebody else can have written it.
        OSError: it cannot be opened.
    """
    given = handed_in(path)
    if given is not None:
        descriptor = os.dup(given)
        with _closed_unless_good(descriptor):
            look = _look_at(descriptor)
            if stat.S_ISREG(look.status.st_mode):
                _refuse_untrusted(kind, path, look)
        return open(descriptor, "rb")
    with _spot(path, kind) as spot:
        return open(_opened(path, kind, spot, os.O_RDONLY), "rb")


def check(path: AnyPath, kind: Kind) -> None:
    """Check a file that other code opens by name afterwards.

    Raises:
        SealwaxError, OSError: as for ``open_file``.
    """
    open_file(path, kind).close()


def open_own(path: AnyPath, kind: Kind) -> int:
    """Open a file for reading and writing, creating it (mode 0600) if it is missing; return its descriptor.

    Raises:
        SealwaxError: the kind's error: somebody else can have written it.
        OSError: it cannot be opened, or is a link.
    """
    with _spot(path, kind, follow=False) as spot:
        return _opened(path, kind, spot, os.O_RDWR | os.O_CREAT)


def check_folder(path: AnyPath, kind: Kind) -> None:
    """Check the folder for a SQLite file.

    Raises:
        SealwaxError: the kind's error: others may write in it.
        OSError: it cannot be opened.
    """
    with _spot(path, kind, private=True, follow=False):
        pass


def make_database(path: AnyPath, kind: Kind) -> None:
    """Create an empty file (mode 0600) for SQLite.

    Raises:
        SealwaxError: the kind's error: others may write in its folder.
        OSError: it exists, or cannot be created.
    """
    with _spot(path, kind, private=True, follow=False) as spot, _named(path):
        os.close(os.open(spot.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=spot.folder))


def connect(
    path: AnyPath, kind: Kind, begin: Callable[[sqlite3.Connection], object], **options: Any
) -> sqlite3.Connection:
    """Open an existing SQLite file.

    SQLite also reads files beside it with certain names, so all of them are checked first. Then it is checked that
    these are the files that SQLite has open: somebody could have swapped a parent folder meanwhile. The first
    connection cannot write, since a refused file must not get into the database, as a log would when its last
    connection is closed, and a journal when it is found. While that connection holds its lock, a second one cannot.

    Args:
        begin: called with the connection, to set it up.
        options: for ``sqlite3.connect``.

    Raises:
        SealwaxError: the kind's error: somebody else can have written one of the files.
        OSError: it cannot be opened.
        sqlite3.Error: it is not a SQLite file, or is damaged.
    """
    with _counting.lock, _spot(path, kind, private=True) as spot, contextlib.ExitStack() as stack:
        looks = {suffix: _look(f"{spot.name}{suffix}", spot.folder) for suffix in ("", *_BESIDE)}
        if looks[""] is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        for suffix, look in looks.items():
            if look is not None:
                _refuse_untrusted(kind, path, look, beside=suffix and f"{spot.path}{suffix}")
        has_log = False
        if looks["-journal"] is None:  # otherwise it is ours, and is rolled back
            uri = f"file:{quote(os.fsencode(spot.path))}?mode=ro"
            first, has_log = _confirmed(path, kind, spot, uri, lambda _: None, uri=True)
            if has_log:
                stack.callback(first.close)
            else:
                first.close()
        connection, has_log_now = _confirmed(path, kind, spot, spot.path, begin, **options)
        if has_log and not has_log_now:
            connection.close()
            raise _swapped(path, kind)
        return connection


def _confirmed(
    path: AnyPath,
    kind: Kind,
    spot: _Spot,
    database: str,
    begin: Callable[[sqlite3.Connection], object],
    **options: Any,
) -> tuple[sqlite3.Connection, bool]:
    """Connect to the file at a spot; return the connection, and whether the database keeps a log."""
    import sqlite3

    before = Counter(_held())
    connection: sqlite3.Connection = sqlite3.connect(database, factory=_connection_class(), **options)
    try:
        begin(connection)
        connection.execute("PRAGMA user_version").fetchone()  # so that SQLite opens what it reads
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        held = Counter(_held())
        # SQLite may reuse an older descriptor of the file itself and of the log's index, and may close unused ones at
        # any time.
        for suffix in ("", "-wal", "-shm") if mode == "wal" else ("",):
            look = _look(f"{spot.name}{suffix}", spot.folder)
            if look is None or held[look.identity] < (before[look.identity] + 1 if suffix == "-wal" else 1):
                raise _swapped(path, kind)
    except BaseException:
        connection.close()
        raise
    return connection, mode == "wal"


class _Counting:
    """While open files are counted, no other thread may open or close a database.

    A thread may take the lock twice, since a finalizer may close a database at any moment.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        fork_locks.renew_in_children(self)

    def _after_fork(self) -> tuple[()]:
        self.lock = threading.RLock()
        return ()


_counting: Final = _Counting()


@functools.cache
def _connection_class() -> type[sqlite3.Connection]:
    import sqlite3

    class Connection(sqlite3.Connection):
        def close(self) -> None:
            with _counting.lock:
                super().close()

    return Connection


def _swapped(path: AnyPath, kind: Kind) -> SealwaxError:
    return _refusal(kind, path, "it was replaced while it was being opened", "try again")


# --- looking


@contextlib.contextmanager
def _spot(path: AnyPath, kind: Kind, *, private: bool = False, follow: bool = True) -> Iterator[_Spot]:
    """Hold open the folder where a file really is, or will be.

    Args:
        private: whether to refuse a folder in which others may create files.
        follow: whether the file may be a link.
    """
    named = os.fspath(path)
    for _ in range(_MAX_LINKS):
        folder = os.path.realpath(os.path.dirname(named) or ".")
        name = os.path.basename(named)
        with _named(path):
            descriptor = os.open(folder, _FOLDER)
        try:
            sticky = _refuse_open_folder(kind, path, folder, _look_at(descriptor), private)
            look = _look(name, descriptor)
            if not follow or look is None or not stat.S_ISLNK(look.status.st_mode):
                yield _Spot(descriptor, os.path.join(folder, name), name, sticky)
                return
            if look.status.st_uid not in (os.geteuid(), _ROOT):
                raise _refusal(
                    kind,
                    path,
                    f"it is a symbolic link of {_user(look.status.st_uid)}, who could point it anywhere",
                    "name the file itself",
                )
            named = os.path.join(folder, os.readlink(name, dir_fd=descriptor))
        finally:
            os.close(descriptor)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))


def _look(name: str, folder: int) -> _Look | None:
    """Look at a file or link in a folder; return None if it is missing. SQLite's locks on it stay."""
    try:
        if _PLACE is None:
            return _Look(os.stat(name, dir_fd=folder, follow_symlinks=False), acl=False)
        descriptor = os.open(name, _PLACE | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        return _look_at(descriptor)
    finally:
        os.close(descriptor)


def _look_at(descriptor: int) -> _Look:
    status = os.fstat(descriptor)
    return _Look(status, acl=bool(status.st_mode & stat.S_IWGRP) and _has_acl(descriptor))


def _has_acl(descriptor: int) -> bool:
    if not hasattr(os, "listxattr"):  # macOS, whose ACLs are not in the mode at all
        return False
    try:
        # By this name, since O_PATH descriptors do not list attributes.
        return any("acl" in name for name in os.listxattr(f"/proc/self/fd/{descriptor}"))
    except OSError as error:
        return error.errno != errno.ENOTSUP


def _held() -> Iterator[tuple[int, int]]:
    """Yield device and inode of every file that this process has open."""
    try:
        names = os.listdir("/dev/fd")
    except FileNotFoundError:
        raise OSError(errno.ENOSYS, "cannot check which files SQLite opened, since /proc is not mounted") from None
    for name in names:
        with contextlib.suppress(OSError):  # the listing's own descriptor, and those that other threads close meanwhile
            status = os.fstat(int(name))
            yield status.st_dev, status.st_ino


def _opened(path: AnyPath, kind: Kind, spot: _Spot, flags: int) -> int:
    look = _look(spot.name, spot.folder)
    # Checked before it is opened too: opening a device may do something, and others' files may not be opened at all.
    if look is not None and not stat.S_ISLNK(look.status.st_mode):
        _refuse_untrusted(kind, path, look, alone=spot.sticky)
    with _named(path):
        descriptor = os.open(spot.name, flags | _FILE, 0o600, dir_fd=spot.folder)
    with _closed_unless_good(descriptor):
        _refuse_untrusted(kind, path, _look_at(descriptor), alone=spot.sticky)
    return descriptor


@contextlib.contextmanager
def _closed_unless_good(descriptor: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise


@contextlib.contextmanager
def _named(path: AnyPath) -> Iterator[None]:
    """Make an OSError name the path as the caller did."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


# --- refusing


def _refuse_untrusted(kind: Kind, path: AnyPath, look: _Look, *, alone: bool = False, beside: str = "") -> None:
    """Refuse a file that others can have written.

    Args:
        alone: whether to refuse a file with other names (hard links).
        beside: the path of the file, if it is one that SQLite reads besides the database.
    """
    if not stat.S_ISREG(look.status.st_mode):
        if beside:
            raise _refusal(
                kind, path, f"'{printable(beside)}' is not SQLite's: it is not a regular file", "remove that file"
            )
        raise _refusal(kind, path, "it is not a regular file", "name a regular file")
    who = others(look.status, os.geteuid(), acl=look.acl)
    if who:
        if look.status.st_uid in (os.geteuid(), _ROOT):
            advice = f"if nobody has changed it, run: chmod go-w '{printable(beside or os.fspath(path))}'"
        elif beside:
            advice = "remove that file"
        else:
            advice = "copy it to a file of your own if you know what it holds, or run this as its owner"
        if beside:
            who = f"SQLite would read '{printable(beside)}' with it, and {who}"
        raise _refusal(kind, path, f"{who}, so somebody else could have written it", advice)
    if alone and look.status.st_nlink > 1:
        raise _refusal(
            kind,
            path,
            "it has other names (hard links), and anybody could have created this one in a folder open to all",
            "copy it into a folder of your own",
        )


def _refuse_open_folder(kind: Kind, path: AnyPath, folder: str, look: _Look, private: bool) -> bool:
    """Refuse a file that others could replace in its folder; return whether only the sticky bit prevents that."""
    who = others(look.status, os.geteuid(), acl=look.acl)
    sticky = bool(who and look.status.st_mode & stat.S_ISVTX and look.status.st_uid in (os.geteuid(), _ROOT))
    if who and not (sticky and not private):
        what = "create files there that SQLite reads" if sticky else "put another file in its place"
        raise _refusal(
            kind,
            path,
            f"its folder '{printable(folder)}' is open to others, who could {what}: {who}",
            "move it to a folder that only you can write to"
            + (
                "" if sticky or look.status.st_uid not in (os.geteuid(), _ROOT) else ", or run 'chmod go-w' on that one"
            ),
        )
    return sticky


def _refusal(kind: Kind, path: AnyPath, why: str, advice: str) -> SealwaxError:
    return kind.error(f"{kind.name} '{printable(os.fspath(path))}' is refused: {why}; {advice}")


def _is_own(gid: int, caller: int) -> bool:
    """Whether nobody else is in a group, as far as the names of users and groups show."""
    try:
        user, group = pwd.getpwuid(caller), grp.getgrgid(gid)
    except KeyError:
        return False
    return (
        caller != _ROOT and user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
    )


def _user(uid: int) -> str:
    try:
        return f"{printable(pwd.getpwuid(uid).pw_name)} (user id {uid})"
    except KeyError:
        return f"user id {uid}"


def _group(gid: int) -> str:
    try:
        return f"'{printable(grp.getgrgid(gid).gr_name)}'"
    except KeyError:
        return str(gid)
