"""The lab's folder and its SQLite files: private, durable, shared by several processes.

A transaction that was acknowledged is on the disk (WAL with synchronous=FULL); one that was not leaves nothing. Readers
keep what they decoded in memory and ask SQLite's ``data_version`` whether another process has committed since.
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
from typing import Any

from sealwax._core import disk, fork_locks, trusted
from sealwax._core.context import printable
from sealwax.errors import LabError

_BUSY_SECONDS = 30.0


STATE_FILE = "state.db"
KIND = trusted.Kind("the lab's file", LabError)


def private_folder(path: Path) -> None:
    """Make the folder if it is missing, and take every right from group and others.

    A folder that is there is taken only when it is a lab or empty: "." or the home folder, named by mistake, would be
    closed to everybody else.

    Raises:
        LabError: it cannot be made, is no folder, is one for other things, or somebody else can have put files there.
    """
    try:
        _make(path, 0o700)
        if path.is_symlink() and path.lstat().st_uid not in (os.geteuid(), 0):
            raise LabError(
                f"the lab's folder '{printable(str(path))}' is refused: it is a link of somebody else, who may let it "
                "point anywhere; name the folder itself"
            )
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _take(descriptor, printable(str(path)))
        finally:
            os.close(descriptor)
    except FileExistsError as error:
        raise LabError(f"the lab's folder {printable(str(path))} cannot be used: it is no folder") from error
    except OSError as error:
        raise LabError(f"the lab's folder {printable(str(path))} cannot be used: {disk.reason(error)}") from error


def _make(path: Path, mode: int) -> None:
    missing = [path]
    while missing:
        try:
            # Whatever the umask, nobody else may rename what is below.
            missing[-1].mkdir(mode if len(missing) == 1 else 0o755, exist_ok=True)
        except FileNotFoundError:
            # It is also what a place that takes no folders says, such as /proc.
            if missing[-1].parent.is_dir():
                raise
            missing.append(missing[-1].parent)
        else:
            missing.pop()


def _take(folder: int, shown: str) -> None:
    held = os.listdir(folder)
    if held and STATE_FILE not in held:
        raise LabError(f"the folder {shown} holds other files and is no lab: name a new one")
    who = trusted.who_else(folder)
    if not who or (not held and os.fstat(folder).st_uid == os.geteuid()):
        os.fchmod(folder, 0o700)
        # Once more, since somebody may have been faster.
        held = os.listdir(folder) if who else []
        who = who if held else ""
    if who:
        raise LabError(
            f"the lab's folder '{shown}' is refused: {who}, so that somebody else can have put files there; name "
            f"another one or, if nobody has, run: chmod go-w '{shown}'"
        )


class Database:
    """One SQLite file, one connection a process, usable from every thread and after a fork.

    Args:
        path: the file; made with mode 0600 when missing.
        schema: the statements of each version in turn; ``user_version`` tells how many have run.
        durable: True waits for the disk at each commit; False leaves it to the kernel, which survives the death of
            the process but not of the machine.
    """

    def __init__(self, path: Path, schema: Sequence[str], *, durable: bool) -> None:
        self._path = path
        self._schema = schema
        self._durable = durable
        self._lock = threading.RLock()
        fork_locks.renew_in_children(self)
        self._depth = 0
        self._seen = -1
        self._forgetters: list[Callable[[], None]] = []
        self._connection = self._connect()
        self._pid = os.getpid()

    def _connect(self) -> sqlite3.Connection:
        try:
            # Only a file that is not there is opened: to close one that this process has open through SQLite already
            # would take its locks away, and another process could write at the same time.
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
        self._keep_a_log(connection)
        connection.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys=ON")

    def _keep_a_log(self, connection: sqlite3.Connection) -> None:
        # SQLite does not always wait for the lock here, whatever its timeout, when several processes open a new file.
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
            raise LabError(f"the lab's file {self._path} was made by a newer release (version {version})")
        if version == len(self._schema):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have upgraded it while this one waited for the lock.
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

    def on_change(self, forget: Callable[[], None]) -> None:
        """Register what empties a cache; it is called whenever the file's content may have moved."""
        self._forgetters.append(forget)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection; caches are emptied first when another process has committed."""
        with self._lock:
            if self._pid != os.getpid():
                self._reopen_after_fork()
            try:
                if not self._depth:
                    version = self._connection.execute("PRAGMA data_version").fetchone()[0]
                    if version != self._seen:
                        self._seen = version
                        self._forget()
                yield self._connection
            except sqlite3.ProgrammingError:  # the lab's own mistake, and not the disk's
                raise
            except sqlite3.Error as error:
                raise self._failed("used", error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One IMMEDIATE transaction: committed at the end, rolled back on any exception; nested calls join it."""
        with self.reading() as connection:
            if self._depth:
                yield connection
                return
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                raise self._failed("written", error) from error
            # What was cached before the lock was ours may be out of date.
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
        for forget in self._forgetters:
            forget()

    def _after_fork(self) -> tuple[()]:
        # Another thread of the parent may have held it, and been inside a transaction.
        self._lock = threading.RLock()
        return ()

    def _reopen_after_fork(self) -> None:
        # SQLite forbids carrying a connection over a fork; even closing it here would drop the parent's locks.
        _ABANDONED.append(self._connection)
        self._connection = self._connect()
        self._pid = os.getpid()
        self._seen = -1
        self._depth = 0

    def close(self) -> None:
        """Close the connection. Everything acknowledged is already on the disk."""
        with self._lock:
            if self._pid == os.getpid():
                self._connection.close()


_ABANDONED: list[Any] = []
