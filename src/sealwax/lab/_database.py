"""The lab's folder and its SQLite files: private, durable, shared by several processes.

A committed transaction is on disk (WAL with synchronous=FULL); an uncommitted one leaves nothing. Readers cache what
they decoded; SQLite's ``data_version`` tells whether another process has committed since.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sealwax._core import disk, fork_locks, trusted
from sealwax._text import printable
from sealwax.errors import LabError

_BUSY_SECONDS = 30.0


STATE_FILE = "state.db"
TRAIL_FILE = "trail.db"
FILES = STATE_FILE, TRAIL_FILE
KIND = trusted.Kind("the lab's file", LabError)


def private_folder(path: Path) -> None:
    """Create the folder if it does not exist, and make it private to this user.

    An existing folder must be a lab or empty: otherwise a "." or home folder named by mistake would become private.

    Raises:
        LabError: it cannot be created, is not a folder, holds other files, or others can have put files there.
    """
    try:
        _make(path, 0o700)
        if path.is_symlink() and path.lstat().st_uid not in (os.geteuid(), 0):
            raise LabError(
                f"the lab's folder '{printable(str(path))}' is refused: it is a link of another user, who can "
                "make it point elsewhere; name the folder itself"
            )
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _take(descriptor, printable(str(path)))
        finally:
            os.close(descriptor)
    except FileExistsError as error:
        raise LabError(f"the lab's folder {printable(str(path))} cannot be used: it is not a folder") from error
    except OSError as error:
        raise LabError(f"the lab's folder {printable(str(path))} cannot be used: {disk.reason(error)}") from error


def _make(path: Path, mode: int) -> None:
    missing = [path]
    while missing:
        try:
            # Whatever the umask, nobody else may rename what is inside.
            missing[-1].mkdir(mode if len(missing) == 1 else 0o755, exist_ok=True)
        except FileNotFoundError:
            # A file system without folders, such as /proc, raises this too.
            if missing[-1].parent.is_dir():
                raise
            missing.append(missing[-1].parent)
        else:
            missing.pop()


def _take(folder: int, shown: str) -> None:
    files = os.listdir(folder)
    if files and STATE_FILE not in files:
        raise LabError(f"the folder {shown} holds other files and is not a lab; name a new folder")
    others = trusted.who_else(folder)
    if not others or (not files and os.fstat(folder).st_uid == os.geteuid()):
        os.fchmod(folder, 0o700)
        # Check again: somebody may have put a file there in between.
        files = os.listdir(folder) if others else []
        others = others if files else ""
    if others:
        raise LabError(
            f"the lab's folder '{shown}' is refused: {others}, so others can have put files there; use another "
            f"folder or, if all its files are yours, run: chmod go-w '{shown}'"
        )


class Database:
    """A SQLite file with one connection per process, usable from every thread and after a fork.

    Args:
        path: the file; created with mode 0600 if it does not exist.
        schema: the statements of each version; ``user_version`` counts the versions that have run.
        durable: whether each commit waits for the disk. If not, a commit survives a crash of the process but not of
            the machine.
    """

    def __init__(self, path: Path, schema: Sequence[str], *, durable: bool) -> None:
        self._path = path
        self._schema = schema
        self._durable = durable
        self._lock = threading.RLock()
        fork_locks.renew_in_children(self)
        self._depth = 0
        self._version = -1
        self._callbacks: list[Callable[[], None]] = []
        self._connection = self._connect()
        self._pid = os.getpid()

    def _connect(self) -> sqlite3.Connection:
        try:
            # Never open an existing file here: closing it would drop the locks that this process holds through SQLite,
            # and another process could write at the same time.
            with contextlib.suppress(FileExistsError):
                trusted.make_database(self._path, KIND)
            connection = trusted.connect(
                self._path,
                KIND,
                self._begin,
                isolation_level=None,
                check_same_thread=False,
                timeout=_BUSY_SECONDS,
                cached_statements=256,
            )
            try:
                self._upgrade(connection)
            except BaseException:
                connection.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise self._failed("used", error) from error
        return connection

    def _failed(self, doing: str, error: OSError | sqlite3.Error) -> LabError:
        why = disk.reason(error) if isinstance(error, OSError) else disk.reason_of_sqlite(error, self._path)
        return LabError(f"the lab's file '{printable(str(self._path))}' cannot be {doing}: {why}")

    def _begin(self, connection: sqlite3.Connection) -> None:
        self._use_wal(connection)
        connection.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys=ON")

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        # When several processes open a new file, SQLite ignores its timeout here.
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(self._schema):
            raise LabError(f"a newer version of sealwax made the lab's file {self._path}; upgrade sealwax to use it")
        if version == len(self._schema):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have upgraded it in between.
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            for statements in self._schema[version:]:
                for statement in statements.split(";"):
                    if statement.strip():
                        connection.execute(statement)
            connection.execute(f"PRAGMA user_version={len(self._schema)}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call a function, which empties a cache, whenever the file's content may have changed."""
        self._callbacks.append(callback)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection. If another process has committed, caches are emptied first."""
        with self._lock:
            if self._pid != os.getpid():
                self._reopen_after_fork()
            try:
                if not self._depth:
                    version = self._connection.execute("PRAGMA data_version").fetchone()[0]
                    if version != self._version:
                        self._version = version
                        self._forget()
                yield self._connection
            except sqlite3.ProgrammingError:  # a bug in the lab, not a problem of the disk
                raise
            except sqlite3.Error as error:
                raise self._failed("used", error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run an IMMEDIATE transaction: commit at the end, roll back on any exception. Nested calls join it."""
        with self.reading() as connection:
            if self._depth:
                yield connection
                return
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                raise self._failed("written", error) from error
            # The caches may be older than the lock.
            self._forget()
            self._depth = 1
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0
                self._forget()

    def _forget(self) -> None:
        for callback in self._callbacks:
            callback()

    def _after_fork(self) -> tuple[()]:
        # Another thread of the parent may have held the lock, inside a transaction.
        self._lock = threading.RLock()
        return ()

    def _reopen_after_fork(self) -> None:
        # SQLite connections do not survive a fork; closing it here would drop the parent's locks.
        _ABANDONED.append(self._connection)
        self._connection = self._connect()
        self._pid = os.getpid()
        self._version = -1
        self._depth = 0

    def close(self) -> None:
        """Close the connection. Committed transactions are already on disk."""
        with self._lock:
            if self._pid == os.getpid():
                self._connection.close()


_ABANDONED: list[sqlite3.Connection] = []
