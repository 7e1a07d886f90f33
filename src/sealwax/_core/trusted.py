"""Files that decide something: a plan, facts, a baseline, a context, a lab, a lock.

Such a file is used only where nobody but the caller and root can have written it:

- it is a regular file that belongs to the caller or to root, and neither its group nor others may write it;
- the same holds for its folder, where files could be renamed otherwise. A folder like /tmp, where the sticky bit keeps
  everybody from renaming what is another's, is good enough for a file with one name; for SQLite it is not, because
  SQLite opens further files by their names, and anybody could create those.

A group counts as others unless it is the caller's own: not root's, with the caller's name, and without another member
(as pam_umask tells such a group; their users often have the umask 002). Where an ACL lets somebody write, Linux shows
that as a right of the group, and the group counts as others then whatever it is.

Files are looked at through descriptors, of the folder first and of the file in it, and no link is followed that
somebody else has made. A pipe or a terminal that was handed in as /dev/stdin or /dev/fd/N was opened by whoever started
this program, and is taken as it is.
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
from sealwax._core.context import printable
from sealwax.errors import SealwaxError

if TYPE_CHECKING:
    import sqlite3

AnyPath = str | os.PathLike[str]

_ROOT: Final = 0
_HANDED_IN: Final = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/([0-9]{1,9})")
# Such a descriptor needs no right to list a folder; and to close one of a file that SQLite has open leaves SQLite its
# locks, as closing another would not. macOS has none of these.
_PLACE: Final[int | None] = getattr(os, "O_PATH", None)
_FOLDER: Final = os.O_DIRECTORY | os.O_CLOEXEC | (_PLACE or os.O_RDONLY)
# A pipe that somebody has put there would be waited for.
_FILE: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_BESIDE: Final = ("-wal", "-shm", "-journal")
_MAX_LINKS: Final = 40


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of files that decide something.

    Args:
        name: what one is called in errors, with its article.
        error: raised where one is refused.
    """

    name: str
    error: type[SealwaxError]


@dataclass(frozen=True, slots=True)
class _Seen:
    status: os.stat_result
    acl: bool

    @property
    def identity(self) -> tuple[int, int]:
        return self.status.st_dev, self.status.st_ino


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a file is, or is to be: its folder, open, and its name there."""

    folder: int
    path: str
    name: str
    sticky: bool


def others(status: os.stat_result, caller: int, *, acl: bool = False) -> str:
    """Say who else may have written a file, or may write in a folder; return nothing where nobody may.

    Args:
        caller: the user id that the file is to belong to; root's does as well.
        acl: whether an ACL stands behind the group's right.
    """
    if status.st_uid not in (caller, _ROOT):
        return f"it belongs to {_user(status.st_uid)}"
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IWOTH:
        return f"everybody may write it (mode {mode:04o})"
    if mode & stat.S_IWGRP and (acl or not _is_own(status.st_gid, caller)):
        listed = ", or whom its ACL names," if acl else ""
        return f"its group {_group(status.st_gid)}{listed} may write it (mode {mode:04o})"
    return ""


def who_else(descriptor: int) -> str:
    """Say of an open file or folder what :func:`others` says."""
    seen = _looked_at(descriptor)
    return others(seen.status, os.geteuid(), acl=seen.acl)


def handed_in(path: AnyPath) -> int | None:
    """Return which descriptor a name such as /dev/stdin means; None for any other name."""
    found = _HANDED_IN.fullmatch(os.fspath(path))
    return int(found[1] or 0) if found else None


def open_file(path: AnyPath, kind: Kind) -> io.BufferedReader:
    """Open a file for reading. The caller closes it.

    Raises:
        SealwaxError: of the kind's class: somebody else can have written it.
        OSError: it cannot be opened.
    """
    given = handed_in(path)
    if given is not None:
        descriptor = os.dup(given)
        with _closed_unless_good(descriptor):
            seen = _looked_at(descriptor)
            if stat.S_ISREG(seen.status.st_mode):
                _judge(kind, path, seen)
        return open(descriptor, "rb")
    with _spot(path, kind) as spot:
        return open(_opened(path, kind, spot, os.O_RDONLY), "rb")


def check(path: AnyPath, kind: Kind) -> None:
    """Look at a file that somebody else's code opens by its name afterwards.

    Raises:
        SealwaxError, OSError: as :func:`open_file`.
    """
    open_file(path, kind).close()


def open_own(path: AnyPath, kind: Kind) -> int:
    """Open a file for reading and writing, and make it (mode 0600) where there is none; return its descriptor.

    Raises:
        SealwaxError: of the kind's class: somebody else can have written it.
        OSError: it cannot be opened, or is a link.
    """
    with _spot(path, kind, follow=False) as spot:
        return _opened(path, kind, spot, os.O_RDWR | os.O_CREAT)


def check_folder(path: AnyPath, kind: Kind) -> None:
    """Look at the folder in which a SQLite file is to be.

    Raises:
        SealwaxError: of the kind's class: others may write in it.
        OSError: it cannot be opened.
    """
    with _spot(path, kind, private=True, follow=False):
        pass


def make_database(path: AnyPath, kind: Kind) -> None:
    """Make an empty file (mode 0600) for SQLite.

    Raises:
        SealwaxError: of the kind's class: others may write in its folder.
        OSError: it is there, or cannot be made.
    """
    with _spot(path, kind, private=True, follow=False) as spot, _named(path):
        os.close(os.open(spot.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=spot.folder))


def connect(
    path: AnyPath, kind: Kind, begin: Callable[[sqlite3.Connection], object], **options: Any
) -> sqlite3.Connection:
    """Open a SQLite file that is there.

    SQLite reads what lies beside it under certain names, so all of that is looked at before; and then whether these are
    the files that SQLite has open, because somebody could have swapped a folder further up meanwhile. That is done with
    a connection that cannot write first: what is refused must not get into the file either, as a log does when its last
    connection is closed, and a journal when it is found. While that connection holds its lock, a second one cannot.

    Args:
        begin: called with the connection, to set it up.
        options: for :func:`sqlite3.connect`.

    Raises:
        SealwaxError: of the kind's class: somebody else can have written one of them.
        OSError: it cannot be opened.
        sqlite3.Error: it is not one of SQLite, or damaged.
    """
    with _counting.lock, _spot(path, kind, private=True) as spot, contextlib.ExitStack() as stack:
        found = {suffix: _look(f"{spot.name}{suffix}", spot.folder) for suffix in ("", *_BESIDE)}
        if found[""] is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        for suffix, seen in found.items():
            if seen is not None:
                _judge(kind, path, seen, beside=suffix and f"{spot.path}{suffix}")
        has_log = False
        if found["-journal"] is None:  # else it is ours, and to be rolled back
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
    """Connect to the file at a spot; return also whether it keeps a log."""
    import sqlite3

    before = Counter(_held())
    connection: sqlite3.Connection = sqlite3.connect(database, factory=_connection_class(), **options)
    try:
        begin(connection)
        connection.execute("PRAGMA user_version").fetchone()  # so that SQLite opens what it reads
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        held = Counter(_held())
        # A descriptor of the file itself, and of the log's index, may be one that SQLite has had already; and it closes
        # those that it no longer needs at any time.
        for suffix in ("", "-wal", "-shm") if mode == "wal" else ("",):
            seen = _look(f"{spot.name}{suffix}", spot.folder)
            if seen is None or held[seen.identity] < (before[seen.identity] + 1 if suffix == "-wal" else 1):
                raise _swapped(path, kind)
    except BaseException:
        connection.close()
        raise
    return connection, mode == "wal"


class _Counting:
    """While files are counted, no other thread may open or close a database: that would be miscounted.

    The lock is one that a thread may take twice, since a finalizer may close a database at any moment.
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
    return _refusal(kind, path, "it was replaced while it was opened", "run the same command again")


# --- looking


@contextlib.contextmanager
def _spot(path: AnyPath, kind: Kind, *, private: bool = False, follow: bool = True) -> Iterator[_Spot]:
    """Lend the place where a file really is, or would be.

    Args:
        private: whether nobody else may create files in its folder either.
        follow: whether it may be a link.
    """
    named = os.fspath(path)
    for _ in range(_MAX_LINKS):
        folder = os.path.realpath(os.path.dirname(named) or ".")
        name = os.path.basename(named)
        with _named(path):
            descriptor = os.open(folder, _FOLDER)
        try:
            sticky = _judge_folder(kind, path, folder, _looked_at(descriptor), private)
            seen = _look(name, descriptor)
            if not follow or seen is None or not stat.S_ISLNK(seen.status.st_mode):
                yield _Spot(descriptor, os.path.join(folder, name), name, sticky)
                return
            if seen.status.st_uid not in (os.geteuid(), _ROOT):
                raise _refusal(
                    kind,
                    path,
                    f"it is a link of {_user(seen.status.st_uid)}, who may let it point anywhere",
                    "name the file itself",
                )
            named = os.path.join(folder, os.readlink(name, dir_fd=descriptor))
        finally:
            os.close(descriptor)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))


def _look(name: str, folder: int) -> _Seen | None:
    """Look at a file of a folder, or a link; return None where there is none. SQLite's locks on it stay."""
    try:
        if _PLACE is None:
            return _Seen(os.stat(name, dir_fd=folder, follow_symlinks=False), acl=False)
        descriptor = os.open(name, _PLACE | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        return _looked_at(descriptor)
    finally:
        os.close(descriptor)


def _looked_at(descriptor: int) -> _Seen:
    status = os.fstat(descriptor)
    return _Seen(status, acl=bool(status.st_mode & stat.S_IWGRP) and _has_acl(descriptor))


def _has_acl(descriptor: int) -> bool:
    if not hasattr(os, "listxattr"):  # macOS, whose ACLs are not in the mode at all
        return False
    try:
        # By this name, since a descriptor that is a mere place has no attributes to be listed.
        return any("acl" in name for name in os.listxattr(f"/proc/self/fd/{descriptor}"))
    except OSError as error:
        return error.errno != errno.ENOTSUP


def _held() -> Iterator[tuple[int, int]]:
    """Yield device and inode of every file that this process has open."""
    try:
        names = os.listdir("/dev/fd")
    except OSError:
        raise OSError(errno.ENOSYS, "nothing tells which files SQLite opened, since /proc is not mounted") from None
    for name in names:
        with contextlib.suppress(OSError):  # that of the listing itself, and what another thread closes meanwhile
            status = os.fstat(int(name))
            yield status.st_dev, status.st_ino


def _opened(path: AnyPath, kind: Kind, spot: _Spot, flags: int) -> int:
    seen = _look(spot.name, spot.folder)
    # Before it is opened too: to open a device may do something, and what is another's may not be opened at all.
    if seen is not None and not stat.S_ISLNK(seen.status.st_mode):
        _judge(kind, path, seen, alone=spot.sticky)
    with _named(path):
        descriptor = os.open(spot.name, flags | _FILE, 0o600, dir_fd=spot.folder)
    with _closed_unless_good(descriptor):
        _judge(kind, path, _looked_at(descriptor), alone=spot.sticky)
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
    """Have an OSError name the path as the caller did."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


# --- judging


def _judge(kind: Kind, path: AnyPath, seen: _Seen, *, alone: bool = False, beside: str = "") -> None:
    """Refuse a file that others can have written.

    Args:
        alone: whether it may have no other name.
        beside: the path of the file, where it is one that SQLite reads besides.
    """
    if not stat.S_ISREG(seen.status.st_mode):
        if beside:
            raise _refusal(
                kind, path, f"'{printable(beside)}' is not SQLite's: it is not a regular file", "remove that"
            )
        raise _refusal(kind, path, "it is not a regular file", "name one that is")
    who = others(seen.status, os.geteuid(), acl=seen.acl)
    if who:
        if seen.status.st_uid in (os.geteuid(), _ROOT):
            advice = f"if nobody has changed it, run: chmod go-w '{printable(beside or os.fspath(path))}'"
        elif beside:
            advice = "remove that file"
        else:
            advice = "copy it to a file of your own if you know what it holds, or run this as its owner"
        if beside:
            who = f"SQLite would read '{printable(beside)}' with it, and {who}"
        raise _refusal(kind, path, f"{who}, so that somebody else can decide what it says", advice)
    if alone and seen.status.st_nlink > 1:
        raise _refusal(
            kind,
            path,
            "it has other names (hard links), and anybody can have made this one in a folder that all may write",
            "copy it into a folder of your own",
        )


def _judge_folder(kind: Kind, path: AnyPath, folder: str, seen: _Seen, private: bool) -> bool:
    """Refuse a file in whose folder others could exchange it; return whether only the sticky bit keeps them from it."""
    who = others(seen.status, os.geteuid(), acl=seen.acl)
    sticky = bool(who and seen.status.st_mode & stat.S_ISVTX and seen.status.st_uid in (os.geteuid(), _ROOT))
    if who and not (sticky and not private):
        what = "create files there that SQLite reads" if sticky else "put another file in its place"
        raise _refusal(
            kind,
            path,
            f"its folder '{printable(folder)}' is open to others, who could {what}: {who}",
            "put it into a folder that only you can write"
            + ("" if sticky or seen.status.st_uid not in (os.geteuid(), _ROOT) else ", or 'chmod go-w' that one"),
        )
    return sticky


def _refusal(kind: Kind, path: AnyPath, why: str, advice: str) -> SealwaxError:
    return kind.error(f"{kind.name} '{printable(os.fspath(path))}' is refused: {why}; {advice}")


def _is_own(gid: int, caller: int) -> bool:
    """Whether nobody else is in a group, as far as users and groups are told apart by their names."""
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
