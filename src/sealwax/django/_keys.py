"""``DjangoKeys``: a key store in a database of Django's settings."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from django.db import connections
from django.db.utils import DatabaseError, IntegrityError, InterfaceError, OperationalError, load_backend

from sealwax._text import printable
from sealwax.django import _tables
from sealwax.errors import KeyStoreError, NotPicklableError
from sealwax.records._key_columns import EPOCH_BYTES, EPOCH_ID, key_row, known_state, values_of
from sealwax.records._store import Changes, KeyKind, KeyRow, KeyState, KeyStore, scope_hash, tombstone

T = TypeVar("T")
Rows = list[KeyRow]

_NAMES: Final = (
    "scope_hash", "kind", "key_id", "generation", "claim", "state", "created", "made_by", "scope", "blob",
)  # fmt: skip
_ORDER: Final = ("scope_hash", "kind", "key_id")
_ROWS_AT_ONCE: Final = 500
_SHREDDED: Final = str(KeyState.SHREDDED)
_ATTEMPTS: Final = 16
_PAUSE_SECONDS: Final = 0.05
# How long to wait for a lock of another connection. The caller may hold it, and would wait for itself.
_LOCK_SECONDS: Final = 5
_CONNECT_SECONDS: Final = 10
_OPTIONS_NOT_TAKEN: Final = ("pool", "isolation_level", "assume_role")
# Serialization failures, deadlocks, and tables that another process creates: none had an effect.
_TRY_AGAIN: Final = frozenset({"40001", "40P01", 1213, 1020})
_NO_TABLE: Final = frozenset({"42P01", "3F000", 1146})
_LOCKED: Final = frozenset({"55P03", 1205})
_MIGRATE: Final = 'Run manage.py migrate, with "sealwax.django" in INSTALLED_APPS.'
_ENSURE: Final = "Another transaction holds the lock; if it is this program's own, call ensure() before it begins."
_COPY: Final = "This server is a read-only copy. Name the primary database."


class _Row(NamedTuple):
    scope_hash: Any
    kind: int
    key_id: Any
    generation: int
    claim: int | None
    state: str
    created: int
    made_by: str
    scope: str
    blob: Any


class DjangoKeys(KeyStore):
    """A key store in a database of the setting DATABASES: PostgreSQL, MySQL, MariaDB or SQLite.

    Each call has a connection of its own, which is closed after it: a transaction of the application that is rolled
    back does not take a key with it. ``manage.py migrate`` makes the tables; ``SqlKeys`` and the command line read them
    too.

    Args:
        alias: the name of the database in DATABASES; the primary one, and no replica.

    Example:
        >>> records = sealwax.Records(keyring, DjangoKeys("default"), scope={"app": "shop"})
    """

    def __init__(self, alias: str = "default") -> None:
        self.alias = alias

    def __repr__(self) -> str:
        return f"<DjangoKeys {self.alias}>"

    def __reduce__(self) -> NoReturn:
        raise NotPicklableError("a key store is not copied or pickled; make another one")

    def create_table(self) -> None:
        """Create the two tables, unless they are there; ``manage.py migrate`` does it too.

        Raises:
            KeyStoreError: the database refuses.
        """

        def create(session: _Session) -> None:
            for statement in _tables.statements(session.connection):
                session.execute(statement)

        self._run(create, "creating its tables", changes=True, locks=False)
        self._change(lambda _: None, "creating its tables")

    # --- reading

    def newest(self, scope: Mapping[str, str], kind: KeyKind) -> KeyRow | None:
        return self._read(lambda session: session.newest(scope_hash(scope), kind))

    def get_many(self, scope: Mapping[str, str], key_ids: Sequence[bytes] | None = None) -> Rows:
        hashed = scope_hash(scope)
        if key_ids is None:
            return self._read(lambda session: session.rows("scope_hash = %s", hashed))
        parts = list(_parts(key_ids))
        return self._read(
            lambda session: [
                row
                for part in parts
                for row in session.rows(f"scope_hash = %s AND key_id IN {_marks(part)}", hashed, *part)
            ]
        )

    def list(self, scope: Mapping[str, str] | None = None) -> Iterator[KeyRow]:
        wanted = (scope or {}).items()
        after: tuple[Any, ...] = ()
        damaged: KeyStoreError | None = None
        while True:
            rows = self._read(lambda session, after=after: session.page(after))  # type: ignore[misc]
            for row in rows:
                try:
                    found = key_row(row)
                except KeyStoreError as error:
                    damaged = damaged or error
                    continue
                if wanted <= found.scope.items():
                    yield found
            if len(rows) < _ROWS_AT_ONCE:
                break
            after = bytes(rows[-1].scope_hash), rows[-1].kind, bytes(rows[-1].key_id)
        if damaged is not None:
            raise damaged

    def check(self, key_ids: Sequence[bytes]) -> Changes:
        def look(session: _Session) -> Changes:
            epoch = session.execute(f"SELECT epoch FROM {_tables.EPOCH} WHERE id = %s", EPOCH_ID)  # noqa: S608  names
            states: dict[bytes, KeyState | None] = dict.fromkeys(key_ids)
            for part in _parts(key_ids):
                query = f"SELECT key_id, state FROM {_tables.KEYS} WHERE key_id IN {_marks(part)}"  # noqa: S608  names
                for key_id, state in session.execute(query, *part):
                    # A copy of a row in another scope must not hide that the key was shredded.
                    if states[bytes(key_id)] is not KeyState.SHREDDED:
                        states[bytes(key_id)] = known_state(state)
            return Changes(bytes(epoch[0][0]) if epoch else b"", states)

        return self._read(look)

    # --- changing

    def create(self, row: KeyRow) -> KeyRow:
        def add(session: _Session) -> KeyRow:
            there = (
                session.first(row, "key_id = %s", row.key_id)
                if row.claim is None
                else session.first(row, "(key_id = %s OR claim = %s)", row.key_id, row.claim)
            )
            if there is None:
                session.insert(row)
            return there or row

        return self._change(add, "adding a key")

    def put_back(self, row: KeyRow) -> bool:
        def add(session: _Session) -> bool:
            there = "(key_id = %s OR (generation >= %s AND state = %s))"
            if session.first(row, there, row.key_id, row.generation, _SHREDDED) is not None:
                return False
            taken = session.first(row, "claim = %s", row.generation) is not None
            session.insert(dataclasses.replace(row, claim=None if taken else row.generation))
            return True

        return self._change(add, "putting a key back")

    def replace(self, row: KeyRow, blob: bytes) -> bool:
        return self._change(
            lambda session: session.update(row, _same(session), (row.key_id, row.blob, _SHREDDED), "blob", blob),
            "replacing a wrapped key",
        )

    def retire(self, row: KeyRow) -> bool:
        def retire(session: _Session) -> bool:
            newest = session.newest(scope_hash(row.scope), row.kind)
            if newest is None or newest.key_id == row.key_id:
                return False
            live = row.key_id, str(KeyState.LIVE)
            return session.update(row, "key_id = %s AND state = %s", live, "state", str(KeyState.RETIRED))

        return self._change(retire, "retiring a key")

    def remove(self, row: KeyRow) -> bool:
        def remove(session: _Session) -> bool:
            if session.first(row, _same(session), row.key_id, row.blob, _SHREDDED) is None:
                return False
            query = f"DELETE FROM {_tables.KEYS} WHERE scope_hash = %s AND kind = %s AND key_id = %s"  # noqa: S608  names
            session.execute(query, scope_hash(row.scope), int(row.kind), row.key_id)
            session.redraw()
            return True

        return self._change(remove, "removing a key")

    def shred(self, scope: Mapping[str, str]) -> Rows:
        hashed = scope_hash(scope)

        def shred(session: _Session) -> Rows:
            rows = session.rows("scope_hash = %s AND state <> %s", hashed, _SHREDDED)
            query = f"UPDATE {_tables.KEYS} SET state = %s, {session.blob} = %s WHERE scope_hash = %s"  # noqa: S608  names
            session.execute(query, _SHREDDED, b"", hashed)
            # A process that is just making a key loses to the claims.
            for kind in KeyKind:
                newest = session.newest(hashed, kind)
                session.insert(tombstone(scope, kind, 1 if newest is None else (newest.claim or 0) + 1))
            return rows

        return self._change(shred, "shredding a scope")

    # --- transactions

    def _read(self, work: Callable[[_Session], T]) -> T:
        return self._run(work, "reading it", changes=False)

    def _change(self, work: Callable[[_Session], T], doing: str) -> T:
        def locked(session: _Session) -> T:
            session.lock()
            return work(session)

        return self._run(locked, doing, changes=True)

    def _run(self, work: Callable[[_Session], T], doing: str, *, changes: bool, locks: bool = True) -> T:
        """Return what ``work`` returns in a transaction of its own; repeat it if it failed and had no effect."""
        locked_until = time.monotonic() + _LOCK_SECONDS
        attempt = 0
        while True:
            attempt += 1
            try:
                return _transaction(self.alias, work, changes=changes and locks)
            except (DatabaseError, InterfaceError) as error:
                again = attempt < _ATTEMPTS and (isinstance(error, IntegrityError) or _code(error) in _TRY_AGAIN)
                if not again and not (_is_locked(error) and time.monotonic() < locked_until):
                    failed = self._failed(doing, error)
                    break
            time.sleep(_PAUSE_SECONDS * min(attempt, 8) * random.random())  # noqa: S311  not for a secret
        # Raised out here, it has no cause or context: those of a driver may hold what it was given to connect.
        raise failed

    def _failed(self, doing: str, error: Exception) -> KeyStoreError:
        code = _code(error)
        cause = error.__cause__ or error
        hint = ""
        if code in _NO_TABLE or "no such table" in str(cause):
            hint = _MIGRATE
        elif code in _LOCKED or _is_locked(error):
            hint = _ENSURE
        said = cause.args[1] if len(cause.args) == 2 and isinstance(cause.args[0], int) else cause
        reason = next(iter(str(said).splitlines()), "") or type(cause).__name__
        password = str(connections.settings[self.alias].get("PASSWORD") or "")
        reason = printable(reason.replace(password, "***") if password else reason).rstrip(".")
        away = isinstance(error, OperationalError | InterfaceError) and not hint
        return KeyStoreError(
            f"the key store in the database '{self.alias}' failed while {doing}: {reason}"
            + (f". {hint}" if hint else ""),
            retryable=away,
        )


class _Session:
    """One transaction on the tables."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.blob = connection.ops.quote_name("blob")
        self._columns = ", ".join(self.blob if name == "blob" else name for name in _NAMES)

    def execute(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        binary = self.connection.Database.Binary
        with self.connection.cursor() as cursor:
            cursor.execute(query, [binary(each) if isinstance(each, bytes) else each for each in values])
            return cursor.fetchall() if cursor.description else []

    def _select(self, condition: str, *values: object) -> list[_Row]:
        query = f"SELECT {self._columns} FROM {_tables.KEYS} WHERE {condition}"  # noqa: S608  names
        return [_Row(*row) for row in self.execute(query, *values)]

    def rows(self, condition: str, *values: object) -> Rows:
        return [key_row(row) for row in self._select(condition, *values)]

    def newest(self, hashed: bytes, kind: KeyKind) -> KeyRow | None:
        condition = "scope_hash = %s AND kind = %s AND claim IS NOT NULL ORDER BY claim DESC LIMIT 1"
        return next(iter(self.rows(condition, hashed, int(kind))), None)

    def first(self, row: KeyRow, condition: str, *values: object) -> KeyRow | None:
        of_row = f"scope_hash = %s AND kind = %s AND {condition}"
        return next(iter(self.rows(of_row, scope_hash(row.scope), int(row.kind), *values)), None)

    def page(self, after: tuple[Any, ...]) -> list[_Row]:
        """Return the next rows in the order of their primary keys; not every database compares tuples well."""
        conditions, values = ["1 = 1"] if not after else [], list[object]()
        for count in range(len(after)):
            equal = [f"{name} = %s" for name in _ORDER[:count]]
            conditions.append(" AND ".join([*equal, f"{_ORDER[count]} > %s"]))
            values += after[: count + 1]
        order = f"ORDER BY {', '.join(_ORDER)} LIMIT {_ROWS_AT_ONCE}"
        return self._select(f"({') OR ('.join(conditions)}) {order}", *values)

    def insert(self, row: KeyRow) -> None:
        values = values_of(row)
        marks = _marks(_NAMES)
        query = f"INSERT INTO {_tables.KEYS} ({self._columns}) VALUES {marks}"  # noqa: S608  names
        self.execute(query, *(values[name] for name in _NAMES))
        self.redraw()

    def update(self, row: KeyRow, condition: str, values: tuple[object, ...], name: str, value: object) -> bool:
        # Not by the count of rows: drivers differ in whether they count what stays the same.
        if self.first(row, condition, *values) is None:
            return False
        column = self.connection.ops.quote_name(name)
        query = f"UPDATE {_tables.KEYS} SET {column} = %s WHERE scope_hash = %s AND kind = %s AND {condition}"  # noqa: S608
        self.execute(query, value, scope_hash(row.scope), int(row.kind), *values)
        self.redraw()
        return True

    def redraw(self) -> None:
        query = f"UPDATE {_tables.EPOCH} SET epoch = %s WHERE id = %s"  # noqa: S608  names
        self.execute(query, os.urandom(EPOCH_BYTES), EPOCH_ID)

    def lock(self) -> None:
        for_update = "" if self.connection.vendor == "sqlite" else " FOR UPDATE"
        if not self.execute(f"SELECT id FROM {_tables.EPOCH} WHERE id = %s{for_update}", EPOCH_ID):  # noqa: S608  names
            # A migration makes no rows. If two processes get here, one of them fails and begins again.
            query = f"INSERT INTO {_tables.EPOCH} (id, epoch) VALUES (%s, %s)"  # noqa: S608  names
            self.execute(query, EPOCH_ID, os.urandom(EPOCH_BYTES))


def _same(session: _Session) -> str:
    return f"key_id = %s AND {session.blob} = %s AND state <> %s"


def _marks(values: Sequence[object]) -> str:
    return f"({', '.join(['%s'] * len(values))})"


def _parts(key_ids: Sequence[bytes]) -> Iterator[list[bytes]]:
    several = iter(dict.fromkeys(key_ids))
    while part := list(itertools.islice(several, _ROWS_AT_ONCE)):
        yield part


# --- connections


def _transaction(alias: str, work: Callable[[_Session], T], *, changes: bool) -> T:
    """Return what ``work`` returns in a transaction on a connection of its own."""
    connection = _connect(alias)
    try:
        _begin(connection, changes=changes)
        result = work(_Session(connection))
        if connection.vendor == "sqlite":
            connection.cursor().execute("COMMIT")
        else:
            connection.commit()
        return result
    finally:
        connection.close()


def _connect(alias: str) -> Any:
    given = connections[alias].settings_dict
    settings = {**copy.deepcopy({name: value for name, value in given.items() if name != "OPTIONS"})}
    options = {**given.get("OPTIONS", {})}
    for name in _OPTIONS_NOT_TAKEN:
        options.pop(name, None)
    settings.update(OPTIONS=options, CONN_MAX_AGE=0, ATOMIC_REQUESTS=False, AUTOCOMMIT=True)
    connection = load_backend(settings["ENGINE"]).DatabaseWrapper(settings, alias)
    if connection.vendor not in ("postgresql", "mysql", "sqlite"):
        raise ValueError(f"a key store is in PostgreSQL, MySQL, MariaDB or SQLite, not in {connection.display_name}")
    if connection.vendor == "postgresql":
        options.setdefault("connect_timeout", _CONNECT_SECONDS)
    if connection.vendor == "sqlite" and connection.is_in_memory_db():
        raise ValueError(
            f"the database '{alias}' is a SQLite database in memory, which another connection does not share. In "
            "tests, use override_records(get_records(), sealwax_records), or MemoryKeys()"
        )
    return connection


def _begin(connection: Any, *, changes: bool) -> None:
    """Begin a transaction, bound the waits for locks, and refuse a copy, which may not know the newest key yet."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            # A transaction that reads first may never get the lock that it needs.
            cursor.execute("BEGIN IMMEDIATE" if changes else "BEGIN")
            return
        if connection.vendor == "mysql":
            # Without strict mode, MySQL cuts off what is too long for a column.
            cursor.execute(
                "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',STRICT_ALL_TABLES'), "
                f"innodb_lock_wait_timeout = {_LOCK_SECONDS}, lock_wait_timeout = {_LOCK_SECONDS}"
            )
            cursor.execute("SELECT @@GLOBAL.read_only, @@GLOBAL.innodb_read_only")
            is_copy = any(str(mode) not in ("0", "OFF") for mode in cursor.fetchone())
            connection.set_autocommit(False)
        else:
            connection.set_autocommit(False)
            cursor.execute("SELECT pg_is_in_recovery(), set_config('lock_timeout', %s, true)", [f"{_LOCK_SECONDS}s"])
            is_copy = cursor.fetchone()[0]
    if is_copy:
        raise KeyStoreError(f"the key store in the database '{connection.alias}' was refused: {_COPY}")


def _code(error: Exception) -> object:
    cause = error.__cause__ or error
    first = cause.args[0] if cause.args else None
    # Errors of mysql drivers have a number first, and maybe a state, which says less.
    return first if isinstance(first, int) else getattr(cause, "sqlstate", None)


def _is_locked(error: Exception) -> bool:
    cause = error.__cause__
    return isinstance(cause, sqlite3.OperationalError) and getattr(cause, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )
