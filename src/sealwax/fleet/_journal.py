"""The plan file: settings, objects and the journal of runs, in one SQLite file.

It holds no key bytes: names, states, hashes of wrapped keys, stored contexts, and wrapped keys that KMS has answered
with and that further envelopes share. It says which keys are trusted, so it is as trusted as the command line that made
it: it has mode 0600, and one that somebody else can have written is refused (:mod:`sealwax._core.trusted`). A commit
survives the death of the process; a loss of power may take the last ones, after which a run finds those objects done.
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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from sealwax._core import disk, trusted
from sealwax._core.context import printable
from sealwax._core.format import header as hdr
from sealwax._core.keyring import WrappedKey
from sealwax.errors import FileError, HeaderError, PlanError
from sealwax.fleet import _shard
from sealwax.fleet._planfile import APPLICATION, KIND, alone
from sealwax.fleet._settings import Settings
from sealwax.fleet._shard import Found, Item, Result
from sealwax.stores import Entry

VERSION: Final = 2
_MAX_TEXT: Final = 16 << 20
_BUSY_SECONDS: Final = 10.0
_PAGE: Final = 256
_KEYSETS: Final = 4096
_MAX_SCANS: Final = 1 << 60
_NOT_LISTED: Final = "its place could not be listed whole, and it was not among what could"
_USAGE: Final = 1000  # files may claim any number of keys

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
_SHAPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "where": lambda value: isinstance(value, list) and all(map(_is_place, value)),
    "empty": lambda value: isinstance(value, list),
    "rate": lambda value: _is_number(value) and value > 0,
    "older_than": lambda value: value is None or (_is_number(value) and value > 0),
    "digests": lambda value: value is None or (type(value) is int and value >= 0),
    "kms_calls": lambda value: type(value) is int,
}
_KINDS: Final = {"i": int, "t": str, "b": bytes}
_COUNTS: Final = ("units", "wrapped", "contexts", "regions", "unlisted")
_ADD: Final = "ON CONFLICT DO UPDATE SET objects = objects + excluded.objects"
_ADD_UNITS: Final = f"INSERT INTO units VALUES (?,?,?) {_ADD}"  # noqa: S608
_ADD_CONTEXTS: Final = f"INSERT INTO contexts VALUES (?,?) {_ADD}"  # noqa: S608
_ADD_REGIONS: Final = f"INSERT INTO regions VALUES (?,?) {_ADD}"  # noqa: S608
# What a run has still to do.
TO_DO: Final = (_shard.STALE, _shard.REFUSED, _shard.FAILED, _shard.LEFT)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_place(value: Any) -> bool:
    # What no system call takes is no name: a NUL, and half a character.
    try:
        return isinstance(value, str) and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _as_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _as_name(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _columns(connection: sqlite3.Connection) -> set[str]:
    """Return every ``table.column`` of a database."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    query = "SELECT name FROM pragma_table_info(?)"
    return {f"{table}.{column}" for table in tables for (column,) in connection.execute(query, (table,))}


@functools.cache
def _wanted_columns() -> frozenset[str]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return frozenset(_columns(connection))


class Journal:
    """An open plan file. Safe to use from many threads.

    Args:
        path: the plan file.

    Raises:
        PlanError: it is not there, no plan, of a newer release, or damaged; or somebody else can have written it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._shown = printable(os.fspath(path))
        self._lock = threading.RLock()
        self._keysets: dict[tuple[tuple[str, str], ...], int] = {}
        # To read it here would drop SQLite's locks of this process on it, when the file is closed: POSIX says so.
        try:
            found = self.path.stat()
        except OSError as error:
            raise PlanError(f"opening the plan '{self._shown}' failed: {disk.reason(error)}") from error
        if not (stat.S_ISREG(found.st_mode) and found.st_size):
            raise self._foreign()
        if not os.access(self.path, os.R_OK):
            raise PlanError(f"opening the plan '{self._shown}' failed: {os.strerror(errno.EACCES)}")
        self._opened = found
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
    def create(cls, path: str | os.PathLike[str], called: str | os.PathLike[str]) -> Journal:
        """Make an empty plan file where none is; errors name the one that it is to become.

        Raises:
            FileError: it cannot be written.
            PlanError: others may write in its folder.
        """
        try:
            trusted.check_folder(called, KIND)  # whose name the error is to have
            trusted.make_database(path, KIND)
        except OSError as error:
            raise FileError(
                f"writing the plan '{printable(os.fspath(called))}' failed: {disk.reason(error)}"
            ) from error
        journal = cls.__new__(cls)
        journal.path = Path(path)
        journal._shown = printable(os.fspath(called))
        journal._lock = threading.RLock()
        journal._keysets = {}
        journal._connection = journal._connect(new=True)
        try:
            with journal._reported():
                journal._connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
                journal._connection.execute(f"PRAGMA application_id={APPLICATION}")
                journal._connection.execute(f"PRAGMA user_version={VERSION}")
        except BaseException:
            journal._connection.close()
            raise
        return journal

    def _check(self) -> None:
        with self._reported():
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if application != APPLICATION:
                raise PlanError(f"'{self._shown}' is no plan: it is a database of another program")
            if version != VERSION:
                raise PlanError(f"the plan '{self._shown}' has version {version}; this release reads version {VERSION}")
            found, wanted = _columns(self._connection), _wanted_columns()
            if missing := sorted(wanted - found):
                raise self._of_another_build(f"it lacks {', '.join(missing)}")
            if unknown := sorted(found - wanted):
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
        return PlanError(f"'{self._shown}' is no plan: name the file that 'sealwax fleet plan -o' wrote")

    def _of_another_build(self, how: str) -> PlanError:
        return PlanError(
            f"the plan '{self._shown}' was made by another build of sealwax: {how}; make it again with this one "
            "('sealwax fleet plan --force'), or use it with that build"
        )

    def damaged(self, error: Exception) -> PlanError:
        """Return what is to be said of a plan that cannot be read."""
        return PlanError(f"the plan '{self._shown}' is damaged ({error}); make it anew")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end, rolled back on any exception; nested ones join it."""
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

    def _all(self, kinds: str, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query.

        Args:
            kinds: a letter for each column, since SQLite keeps anything in any: of :data:`_KINDS`.

        Raises:
            PlanError: something else stands in one.
        """
        with self._lock, self._reported():
            rows = self._connection.execute(query, values).fetchall()
        for row in rows:
            for kind, value in zip(kinds, row, strict=True):
                if type(value) is not _KINDS[kind]:
                    raise self.damaged(ValueError(f"a {type(value).__name__} where there can be none"))
        return rows

    # --- facts

    def fact(self, name: str) -> Any:
        """Return a fact's value.

        Raises:
            PlanError: it is not there, or nothing that such a fact can be.
        """
        rows = self._all("t", "SELECT value FROM facts WHERE name = ? AND length(value) <= ?", name, _MAX_TEXT)
        try:
            if not rows and not self._all("i", "SELECT 1 FROM facts WHERE name = ?", name):
                raise self._of_another_build(f"it lacks its {name}")
            value = json.loads(rows[0][0])
            if not _SHAPES.get(name, lambda _: True)(value):
                raise ValueError
            return value
        except (IndexError, ValueError, TypeError, RecursionError):
            raise PlanError(f"the plan '{self._shown}' is damaged: it lacks its {name}; make it anew") from None

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

    def set_fact(self, name: str, value: Any) -> None:
        with self.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    # --- scanning

    def begin_scan(self) -> int:
        """Forget the counts of the last scan; return the number of this one. To be called inside ``writing``."""
        with self.writing() as connection:
            for table in _COUNTS:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608  one of ours
            connection.execute("DELETE FROM items WHERE state = ?", (_shard.LINK,))
            ((last,),) = self._all("i", "SELECT coalesce(max(scan), 0) FROM items")
            if not 0 <= last < _MAX_SCANS:
                raise self.damaged(ValueError("a scan of that number cannot be"))
            return int(last) + 1

    def met(self, scan: int, place: int, names: Iterable[str]) -> set[str]:
        """Return which of these names this scan has met in an earlier place: places may overlap."""
        query = "SELECT 1 FROM items WHERE place = ? AND name = ? AND scan = ?"
        return {
            name
            for name in names
            if any(self._all("i", query, earlier, _as_bytes(name), scan) for earlier in range(place))
        }

    def record(self, scan: int, place: int, batch: Sequence[tuple[Entry, Found]]) -> None:
        """Keep what a scan found."""
        units: Counter[tuple[bytes, int]] = Counter()
        contexts: Counter[bytes] = Counter()
        regions: Counter[str] = Counter()
        wrapped: set[bytes] = set()
        rows = []
        for entry, found in batch:
            rows.append(
                (
                    place,
                    _as_bytes(found.name),
                    entry.size,
                    found.state,
                    found.reason,
                    found.format or " ".join(found.reasons),  # only what is foreign has a format, and it has no reasons
                    found.envelope_id,
                    self._keyset(found.keys),
                    scan,
                )
            )
            if found.context:
                contexts[found.context] += 1
            regions.update(found.missing_regions)
            wrapped.update(found.hashes)
            units.update(found.units)
        with self.writing() as connection:
            connection.executemany(
                "INSERT INTO items (place, name, size, state, reason, reasons, envelope, keyset, scan)"
                " VALUES (?,?,?,?,?,?,?,?,?)"
                " ON CONFLICT (place, name) DO UPDATE SET size = excluded.size, reason = excluded.reason,"
                " reasons = excluded.reasons, keyset = excluded.keyset, scan = excluded.scan,"
                # What a run has re-wrapped is fresh now, and stays known as re-wrapped.
                " state = CASE WHEN state = 'rewrapped' AND excluded.state = 'fresh' AND envelope = excluded.envelope"
                " THEN state ELSE excluded.state END,"
                " envelope = excluded.envelope",
                rows,
            )
            connection.executemany("INSERT OR IGNORE INTO wrapped VALUES (?)", ((one,) for one in wrapped))
            connection.executemany(_ADD_UNITS, ((unit, calls, n) for (unit, calls), n in units.items()))
            connection.executemany(_ADD_CONTEXTS, contexts.items())
            connection.executemany(_ADD_REGIONS, regions.items())

    def record_unlisted(self, message: str) -> None:
        """Keep that a part of a place could not be looked at."""
        with self.writing() as connection:
            connection.execute("INSERT INTO unlisted VALUES (?)", (message,))

    def end_scan(self, scan: int, in_part: Iterable[int]) -> int:
        """Forget objects that this scan has not met; return how many.

        Args:
            in_part: the places that could not be listed whole. What was not met there may be there still: it is kept,
                with its digest, as what could not be read.
        """
        with self.writing() as connection:
            connection.executemany(
                "UPDATE items SET scan = ?, state = ?, reason = ? WHERE place = ? AND scan <> ?",
                ((scan, _shard.UNREADABLE, _NOT_LISTED, place, scan) for place in in_part),
            )
            return connection.execute("DELETE FROM items WHERE scan <> ?", (scan,)).rowcount

    # --- reading

    def items(self, states: Sequence[str], place: int) -> Iterator[list[Item]]:
        """Yield the objects of a place in some states, a page at a time. States may change meanwhile."""
        last = 0
        marks = ",".join("?" * len(states))
        while rows := self._all(
            "ibi",
            f"SELECT number, name, size FROM items WHERE number > ? AND place = ? AND state IN ({marks})"  # noqa: S608
            " ORDER BY number LIMIT ?",
            last,
            place,
            *states,
            _PAGE,
        ):
            last = rows[-1][0]
            yield [Item(number, _as_name(name), size) for number, name, size in rows]

    def sample(self, states: Sequence[str], size: int) -> list[tuple[int, Item]]:
        """Return random objects in some states, with their places."""
        marks = ",".join("?" * len(states))
        rows = self._all(
            "iib",
            f"SELECT place, number, name FROM items WHERE state IN ({marks}) ORDER BY random() LIMIT ?",  # noqa: S608
            *states,
            size,
        )
        return [(place, Item(number, _as_name(name))) for place, number, name in rows]

    def listed(self, states: Iterable[str], limit: int) -> list[tuple[str, str, str]]:
        """Return names, states and reasons of objects in some states, in the order of the scan."""
        states = tuple(states)
        marks = ",".join("?" * len(states))
        rows = self._all(
            "btt",
            f"SELECT name, state, reason FROM items WHERE state IN ({marks}) ORDER BY number LIMIT ?",  # noqa: S608
            *states,
            limit,
        )
        found = [(_as_name(name), state, reason) for name, state, reason in rows]
        if "unlisted" in states:
            found += [
                ("", "unlisted", text) for (text,) in self._all("t", "SELECT message FROM unlisted LIMIT ?", limit)
            ]
        return found

    def states(self) -> dict[str, tuple[int, int]]:
        """Return how many objects there are in each state, and their bytes."""
        rows = self._all("tii", "SELECT state, count(*), sum(size) FROM items GROUP BY state")
        found = {state: (count, size) for state, count, size in rows}
        ((unlisted,),) = self._all("i", "SELECT count(*) FROM unlisted")
        return found | ({"unlisted": (unlisted, 0)} if unlisted else {})

    def reasons(self) -> dict[str, int]:
        """Return for how many objects that are meant each reason to be stale was found."""
        found: Counter[str] = Counter()
        query = "SELECT reasons, count(*) FROM items WHERE reasons <> '' AND state NOT IN (?, ?) GROUP BY reasons"
        for text, count in self._all("ti", query, _shard.SKIPPED, _shard.FOREIGN):
            for reason in text.split():
                found[reason] += count
        return dict(found)

    def formats(self) -> dict[str, int]:
        """Return how many foreign objects there are of each format, the most frequent first; last "", none known.

        A plan of a release that knew no formats has "" for all of them.
        """
        query = (
            "SELECT reasons, count(*) AS n FROM items WHERE state = ? GROUP BY reasons"
            " ORDER BY reasons = '', n DESC, reasons"
        )
        return dict(self._all("ti", query, _shard.FOREIGN))

    def usage(self, states: Sequence[str] | None = None) -> list[tuple[str, str, int]]:
        """Return key ARNs, material ids in hex and the number of objects under them: the most used, in this order."""
        found: Counter[tuple[str, str]] = Counter()
        where = "" if states is None else f"WHERE state IN ({','.join('?' * len(states))})"
        query = f"SELECT keys, count(*) FROM items JOIN keysets USING (keyset) {where} GROUP BY keyset"  # noqa: S608
        for text, count in self._all("ti", query, *states or ()):
            for arn, material in self._keys_of(text):
                found[arn, material] += count
        return sorted(((arn, material, n) for (arn, material), n in found.items()), key=lambda row: (-row[2], row))[
            :_USAGE
        ]

    def keys(self) -> list[str]:
        """Return the ARNs of all keys that objects are under, in order."""
        query = "SELECT keys FROM keysets WHERE keyset IN (SELECT keyset FROM items)"
        return sorted({arn for (text,) in self._all("t", query) for arn, _ in self._keys_of(text)})

    def _keys_of(self, text: str) -> list[tuple[str, str]]:
        try:
            keys = [(arn, material) for arn, material in json.loads(text)]
            if not all(isinstance(part, str) for key in keys for part in key):
                raise ValueError("no keys")
        except (ValueError, TypeError, RecursionError) as error:
            raise self.damaged(error) from None
        return keys

    def _keyset(self, keys: tuple[tuple[str, str], ...]) -> int | None:
        """Return the number that stands for these keys and materials; None for none."""
        if not keys:
            return None
        number = self._keysets.get(keys)
        if number is None:
            text = json.dumps(sorted(keys))
            with self.writing() as connection:
                connection.execute("INSERT OR IGNORE INTO keysets (keys) VALUES (?)", (text,))
                (number,) = connection.execute("SELECT keyset FROM keysets WHERE keys = ?", (text,)).fetchone()
            if len(self._keysets) >= _KEYSETS:
                self._keysets.clear()
            self._keysets[keys] = number
        return number

    def contexts(self, limit: int) -> tuple[int, list[tuple[bytes, int]]]:
        """Return how many distinct contexts there are, and the most frequent ones."""
        ((count,),) = self._all("i", "SELECT count(*) FROM contexts")
        return count, self._all(
            "bi", "SELECT context, objects FROM contexts ORDER BY objects DESC, context LIMIT ?", limit
        )

    def missing_regions(self) -> dict[str, int]:
        return dict(self._all("ti", "SELECT region, objects FROM regions ORDER BY region"))

    def wrapped(self) -> int:
        """Return the number of distinct wrapped keys, each with its context."""
        return int(self._all("i", "SELECT count(*) FROM wrapped")[0][0])

    def calls(self) -> int:
        """Return the number of KMS calls that the scan found to be needed."""
        return int(self._all("i", "SELECT coalesce(sum(calls), 0) FROM units")[0][0])

    # --- digests: each is that of a payload, behind the id of the envelope that it was taken of

    def digested(self, size: int | None) -> Iterator[tuple[int, Item, bytes]]:
        """Yield places, objects that have a digest, and it: of so many at random, or of all."""
        last = 0
        # What the last scan could not read is told as that.
        query = (
            "SELECT number, place, name, digest FROM items"
            " WHERE digest IS NOT NULL AND state <> 'unreadable' AND number > ?"
        )
        if size is not None:
            rows = self._all("iibb", f"{query} ORDER BY random() LIMIT ?", last, size)
            yield from ((place, Item(number, _as_name(name)), digest) for number, place, name, digest in rows)
            return
        while rows := self._all("iibb", f"{query} ORDER BY number LIMIT ?", last, _PAGE):
            last = rows[-1][0]
            yield from ((place, Item(number, _as_name(name)), digest) for number, place, name, digest in rows)

    def digests(self) -> int:
        """Return how many objects have a digest."""
        return int(self._all("i", "SELECT count(*) FROM items WHERE digest IS NOT NULL")[0][0])

    def set_digests(self, digests: Iterable[tuple[int, bytes]]) -> None:
        """Keep digests of objects."""
        with self.writing() as connection:
            connection.executemany(
                "UPDATE items SET digest = ? WHERE number = ?", ((digest, number) for number, digest in digests)
            )

    # --- re-encryption: a witness stands where a digest would. See sealwax.fleet._reencrypt.Memory.

    def set_old(self, marks: Iterable[bytes]) -> None:
        """Keep what the envelopes are known by whose data keys are old."""
        with self.writing() as connection:
            connection.executemany("INSERT OR IGNORE INTO old VALUES (?)", ((mark,) for mark in marks))

    def is_old(self, marks: Iterable[bytes]) -> bool:
        return any(self._all("i", "SELECT 1 FROM old WHERE mark = ?", mark) for mark in marks)

    def witness(self, number: int) -> bytes:
        rows = self._all("b", "SELECT digest FROM items WHERE number = ? AND digest IS NOT NULL", number)
        return rows[0][0] if rows else b""

    def set_witness(self, number: int, witness: bytes) -> None:
        self.set_digests([(number, witness)])

    def number_of(self, place: int, name: str) -> int:
        """Return an object's number; 0 where the plan has not met it."""
        rows = self._all("i", "SELECT number FROM items WHERE place = ? AND name = ?", place, _as_bytes(name))
        return int(rows[0][0]) if rows else 0

    # --- running

    def settle(self, results: Iterable[Result]) -> None:
        """Keep what became of objects."""
        with self.writing() as connection:
            connection.executemany(
                "UPDATE items SET state = ?, reason = ?, keyset = coalesce(?, keyset),"
                " reasons = CASE ? WHEN 'foreign' THEN ? ELSE reasons END WHERE number = ?",
                [
                    (
                        result.state,
                        result.reason,
                        self._keyset(result.keys),
                        result.state,
                        result.format,
                        result.number,
                    )
                    for result in results
                ],
            )

    def get(self, unit: bytes) -> WrappedKey | None:
        """Return KMS's answer to the calls of a unit. See :class:`~sealwax.fleet._kms_calls.Answers`."""
        rows = self._all("tbbi", "SELECT arn, ciphertext, material, wrapped_at FROM answers WHERE unit = ?", unit)
        if not rows:
            return None
        answer = WrappedKey(*rows[0])
        try:
            hdr.check_wrapped_key(answer)
        except HeaderError as error:
            raise self.damaged(error) from None
        return answer

    def put(self, unit: bytes, answer: WrappedKey) -> None:
        """Keep an answer that further envelopes share, at once: what is lost with the process costs another call."""
        with self.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO answers SELECT ?,?,?,?,? WHERE EXISTS"
                " (SELECT 1 FROM units WHERE unit = ? AND objects > 1)",
                (unit, answer.key_arn, answer.ciphertext, answer.key_material_id, answer.wrapped_at, unit),
            )

    def forget_answers(self) -> None:
        """Drop the answers: nothing that needs them is left."""
        with self.writing() as connection:
            connection.execute("DELETE FROM answers")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the plan for one run.

        Raises:
            PlanError: another run holds it, or another plan stands in its place.
        """
        with alone(self.path, self._shown):
            if not (self.path.exists() and os.path.samestat(self.path.stat(), self._opened)):
                raise PlanError(f"the plan '{self._shown}' was replaced just now; run it again")
            yield

    def close(self) -> None:
        """Close the file. What was committed stays."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
