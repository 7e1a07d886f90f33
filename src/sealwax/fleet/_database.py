"""The database in a plan file: opening and creating it, transactions, rows of checked types, and facts.

It says which keys are trusted, so it is as trusted as the command that made it: its mode is 0600, and one that another
user can have written is refused (``sealwax._core.trusted``).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import math
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from sealwax._core import disk, trusted
from sealwax._text import printable
from sealwax.errors import FileError, PlanError
from sealwax.fleet._planfile import APPLICATION, KIND, alone
from sealwax.fleet._settings import Settings
from sealwax.fleet._state import State

VERSION: Final = 2
_MAX_TEXT: Final = 16 << 20
_BUSY_SECONDS: Final = 10.0
_SCHEMA: Final = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
    number INTEGER PRIMARY KEY, place INTEGER NOT NULL, name BLOB NOT NULL, size INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, reasons TEXT NOT NULL, envelope BLOB NOT NULL, digest BLOB,
    keyset INTEGER, scan INTEGER NOT NULL, UNIQUE (place, name)
);
CREATE TABLE keysets (keyset INTEGER PRIMARY KEY, keys TEXT NOT NULL UNIQUE);
CREATE INDEX items_by_state ON items (state, number);
CREATE TABLE unlisted (message TEXT NOT NULL);
CREATE TABLE units (unit BLOB PRIMARY KEY, calls INTEGER NOT NULL, objects INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE wrapped (hash BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE contexts (context BLOB PRIMARY KEY, objects INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE regions (region TEXT PRIMARY KEY, objects INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE old (mark BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE answers (
    unit BLOB PRIMARY KEY, arn TEXT NOT NULL, ciphertext BLOB NOT NULL, material BLOB NOT NULL,
    wrapped_at INTEGER NOT NULL
) WITHOUT ROWID;
"""
# What a run notes of other formats. Plans of earlier builds have none of these, and no such objects.
_OF_OTHER_FORMATS: Final = {
    "blobs": """(
    name BLOB, new BLOB, key TEXT, material BLOB, old BLOB NOT NULL, PRIMARY KEY (name, new, key, material)
) WITHOUT ROWID""",
    "moves": """(
    source BLOB, target BLOB, mark TEXT NOT NULL, witness TEXT NOT NULL, removed INTEGER NOT NULL,
    PRIMARY KEY (source, target)
) WITHOUT ROWID""",
}
_SHAPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "where": lambda value: isinstance(value, list) and all(map(_is_location, value)),
    "empty": lambda value: isinstance(value, list),
    "rate": lambda value: _is_number(value) and value > 0,
    "older_than": lambda value: value is None or (_is_number(value) and value > 0),
    "digests": lambda value: value is None or (type(value) is int and value >= 0),
    "kms_calls": lambda value: type(value) is int,
    "aliases": lambda value: (
        isinstance(value, dict)
        and all(isinstance(names, list) and set(map(type, names)) <= {str} for names in value.values())
    ),
}
_STATES: Final = frozenset(State)
_TYPES: Final = {"i": int, "t": str, "b": bytes, "s": str}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_location(value: object) -> bool:
    # No system call accepts a name with a NUL or half a surrogate pair.
    try:
        return isinstance(value, str) and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _schema() -> str:
    return _SCHEMA + "".join(f"CREATE TABLE {name} {columns};\n" for name, columns in _OF_OTHER_FORMATS.items())


def _columns(connection: sqlite3.Connection) -> set[str]:
    """Return each column of a database as ``table.column``."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    query = "SELECT name FROM pragma_table_info(?)"
    return {f"{table}.{column}" for table in tables for (column,) in connection.execute(query, (table,))}


@functools.cache
def _expected_columns() -> frozenset[str]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_schema())
        return frozenset(_columns(connection))


class PlanDatabase:
    """The database in an open plan file. Safe to use from many threads.

    Args:
        path: the plan file.

    Raises:
        PlanError: it does not exist, is not a plan, is from a newer release or damaged, or another user may have
            written it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._shown = printable(os.fspath(path))
        self._lock = threading.RLock()
        # Reading it here would drop SQLite's locks of this process when the file is closed, as POSIX demands.
        try:
            status = self.path.stat()
        except OSError as error:
            raise PlanError(f"opening the plan '{self._shown}' failed: {disk.reason(error)}") from error
        if not (stat.S_ISREG(status.st_mode) and status.st_size):
            raise self._foreign()
        if not os.access(self.path, os.R_OK):
            raise PlanError(f"opening the plan '{self._shown}' failed: {os.strerror(errno.EACCES)}")
        self._opened = status
        self._connection = self._connect()
        try:
            self._check()
        except BaseException:
            self._connection.close()
            raise

    def _connect(self, *, new: bool = False) -> sqlite3.Connection:
        def begin(connection: sqlite3.Connection) -> None:
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.execute("PRAGMA cell_size_check=ON")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA temp_store=MEMORY")
            if new:
                connection.execute("PRAGMA journal_mode=WAL")

        try:
            with self._reported():
                return trusted.connect(
                    self.path, KIND, begin, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
                )
        except OSError as error:
            raise PlanError(f"opening the plan '{self._shown}' failed: {disk.reason(error)}") from error

    @classmethod
    def create(cls, path: str | os.PathLike[str], called: str | os.PathLike[str]) -> Self:
        """Create an empty plan file. Errors name the file that it will be renamed to, ``called``.

        Raises:
            FileError: it cannot be written.
            PlanError: other users may write in its folder.
        """
        try:
            trusted.check_folder(called, KIND)
            trusted.make_database(path, KIND)
        except OSError as error:
            raise FileError(
                f"writing the plan '{printable(os.fspath(called))}' failed: {disk.reason(error)}"
            ) from error
        plan = cls.__new__(cls)
        plan.path = Path(path)
        plan._shown = printable(os.fspath(called))
        plan._lock = threading.RLock()
        plan._connection = plan._connect(new=True)
        try:
            with plan._reported():
                plan._connection.executescript(f"BEGIN;{_schema()}COMMIT;")
                plan._connection.execute(f"PRAGMA application_id={APPLICATION}")
                plan._connection.execute(f"PRAGMA user_version={VERSION}")
        except BaseException:
            plan._connection.close()
            raise
        return plan

    def _check(self) -> None:
        with self._reported():
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if application != APPLICATION:
                raise PlanError(f"'{self._shown}' is not a plan, but a database of another program")
            if version != VERSION:
                raise PlanError(f"the plan '{self._shown}' has version {version}; this release reads version {VERSION}")
            columns, expected = _columns(self._connection), _expected_columns()
            for name, definition in _OF_OTHER_FORMATS.items():
                if not any(column.startswith(f"{name}.") for column in columns):
                    # Empty while it is open: nothing is ever noted there.
                    self._connection.execute(f"CREATE TEMP TABLE {name} {definition}")
                    columns |= {column for column in expected if column.startswith(f"{name}.")}
            if missing := sorted(expected - columns):
                raise self._of_another_build(f"it lacks {', '.join(missing)}")
            if unknown := sorted(columns - expected):
                raise self._of_another_build(f"it has {', '.join(map(printable, unknown))}")

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            code = getattr(error, "sqlite_errorcode", None)
            if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR:
                why = disk.reason_of_sqlite(error, self.path)
                raise FileError(f"using the plan '{self._shown}' failed: {why}") from error
            if code == sqlite3.SQLITE_NOTADB:
                raise self._foreign() from None
            raise self.damaged(error) from error

    def _foreign(self) -> PlanError:
        return PlanError(f"'{self._shown}' is not a plan; name a plan file")

    def _of_another_build(self, how: str) -> PlanError:
        return PlanError(
            f"the plan '{self._shown}' is from another build of sealwax: {how}; plan again with this build, or use the "
            "plan with that one"
        )

    def damaged(self, error: Exception) -> PlanError:
        """Return the error for a plan that cannot be read."""
        return PlanError(f"the plan '{self._shown}' is damaged ({error}); plan again")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction: committed at the end, rolled back on any exception. A nested one joins it."""
        with self._lock, self._reported():
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, types: str, query: str, *values: object) -> list[Any]:
        """Return the rows of a query.

        Args:
            types: a letter of ``_TYPES`` for each column, since SQLite stores any type in any column; "s" is a state.

        Raises:
            PlanError: a column holds another type, or a state that does not exist.
        """
        with self._lock, self._reported():
            rows = self._connection.execute(query, values).fetchall()
        for row in rows:
            for letter, value in zip(types, row, strict=True):
                if type(value) is not _TYPES[letter]:
                    raise self.damaged(ValueError(f"unexpected {type(value).__name__}"))
                if letter == "s" and value not in _STATES:
                    raise self.damaged(ValueError(f"unknown state '{printable(str(value)[:20])}'"))
        return rows

    def sync_each_commit(self) -> None:
        """Let each commit reach the disk itself, so that it survives losing power."""
        with self._lock, self._reported():
            self._connection.execute("PRAGMA synchronous=FULL")

    # --- facts

    def fact(self, name: str) -> Any:
        """Return a fact's value.

        Raises:
            PlanError: it is missing or not valid.
        """
        rows = self._rows("t", "SELECT value FROM facts WHERE name = ? AND length(value) <= ?", name, _MAX_TEXT)
        try:
            if not rows and not self._rows("i", "SELECT 1 FROM facts WHERE name = ?", name):
                raise self._of_another_build(f"it lacks its {name}")
            value = json.loads(rows[0][0])
            if not _SHAPES.get(name, lambda _: True)(value):
                raise ValueError
            return value
        except (IndexError, ValueError, TypeError, RecursionError):
            raise PlanError(
                f"the plan '{self._shown}' is damaged: its {name} is missing or not valid; plan again"
            ) from None

    def settings(self) -> Settings:
        """Return the plan's settings.

        Raises:
            PlanError: they are damaged.
        """
        data = self.fact("settings")
        try:
            return Settings.from_dict(data)
        except KeyError as error:
            raise self._of_another_build(f"its settings lack {error.args[0]}") from None
        except (ValueError, TypeError) as error:
            raise self.damaged(error) from None

    def locations(self) -> tuple[str, ...]:
        """Return the plan's locations, which plan files call "where"."""
        return tuple(self.fact("where"))

    def aliases(self) -> dict[str, tuple[str, ...]]:
        """Return the aliases by which the plan's keys were named, by key ARN; plans of early builds have none."""
        if not self._rows("i", "SELECT 1 FROM facts WHERE name = 'aliases'"):
            return {}
        return {arn: tuple(names) for arn, names in self.fact("aliases").items()}

    def set_fact(self, name: str, value: object) -> None:
        """Store a fact."""
        with self.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the plan for one run.

        Raises:
            PlanError: another run holds it, or another plan has replaced it.
        """
        with alone(self.path, self._shown):
            if not (self.path.exists() and os.path.samestat(self.path.stat(), self._opened)):
                raise PlanError(f"the plan '{self._shown}' was replaced just now; run this again")
            yield

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
