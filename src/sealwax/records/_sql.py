"""A key store in a database: PostgreSQL, MySQL, MariaDB or SQLite, by SQLAlchemy Core.

It has connections of its own, one for each call, and never those or the transaction of the caller: a transaction that
is rolled back would take the key with it, and a pool that waits for a key for its last connection would wait forever.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from sealwax._core import context as ctx
from sealwax.errors import KeyStoreError
from sealwax.records._keys import KEY_ID_BYTES
from sealwax.records._memory import tombstone
from sealwax.records._store import Changes, KeyKind, KeyRow, KeyState, KeyStore

T = TypeVar("T")
Rows = list[KeyRow]

_EPOCH_BYTES: Final = 16
_MAX_BLOB_BYTES: Final = 8192
_ATTEMPTS: Final = 8
_PAUSE_SECONDS: Final = 0.05
# How long to wait while another connection writes to SQLite. The caller may hold that lock, and would wait for itself.
_SQLITE_SECONDS: Final = 5.0
_SQLITE_WAIT_MS: Final = 100
_ROWS_AT_ONCE: Final = 500
# Serialization failures and deadlocks had no effect: the SQLSTATE of PostgreSQL, and the numbers of MySQL.
_TRY_AGAIN: Final = {"40001", "40P01", 1213, 1205}


def _binary(size: int) -> Any:
    # MySQL has no index on a BLOB of unknown length.
    return sa.LargeBinary(size).with_variant(mysql.VARBINARY(size), "mysql", "mariadb")


def key_table(metadata: sa.MetaData, name: str = "sealwax_keys") -> sa.Table:
    """Return the table of data keys, for a migration or ``create_table``."""
    return sa.Table(
        name,
        metadata,
        sa.Column("scope_hash", _binary(32), primary_key=True),
        sa.Column("kind", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("key_id", _binary(KEY_ID_BYTES), primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("claim", sa.Integer, nullable=True),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("made_by", sa.String(128), nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("blob", _binary(_MAX_BLOB_BYTES), nullable=False),
        sa.UniqueConstraint("scope_hash", "kind", "claim", name=f"uq_{name}_claim"),
    )


def epoch_table(metadata: sa.MetaData, name: str = "sealwax_keys") -> sa.Table:
    """Return the table of one row that changes with every change of the keys."""
    return sa.Table(
        f"{name}_epoch",
        metadata,
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("epoch", _binary(_EPOCH_BYTES), nullable=False),
    )


class SqlKeys(KeyStore):
    """A key store in a database.

    Args:
        database: a SQLAlchemy ``Engine`` or a URL, such as ``"postgresql+psycopg://db.example.com/shop"``. Of an
            engine, its way to connect is used, and none of its connections.
        table: the name of the table.
        read_only: whether to refuse every change: for a replica, whose keys open and are never made.

    Raises:
        ValueError: it is a SQLite database in memory, which another connection does not see; use ``MemoryKeys``.

    Example:
        >>> store = SqlKeys("postgresql+psycopg://db.example.com/shop")
        >>> store.create_table()
        >>> records = sealwax.Records(keyring, store, scope={"app": "shop"})
    """

    def __init__(self, database: Engine | URL | str, *, table: str = "sealwax_keys", read_only: bool = False) -> None:
        self._engine = _own_engine(database)
        # SQLite begins a change by taking the lock that it needs: a transaction that reads first may never get it.
        self._writing = self._engine.execution_options(sealwax_writes=True)
        self._read_only = read_only
        metadata = sa.MetaData()
        self._keys = key_table(metadata, table)
        self._epochs = epoch_table(metadata, table)
        self._metadata = metadata

    def __repr__(self) -> str:
        return f"<SqlKeys {self.url}>"

    @property
    def url(self) -> str:
        """The database, without a password."""
        return self._engine.url.render_as_string(hide_password=True)

    def create_table(self) -> None:
        """Create the two tables, unless they are there.

        Raises:
            KeyStoreError: the database refuses.
        """

        def create(connection: Connection) -> None:
            self._metadata.create_all(connection)
            if connection.execute(sa.select(self._epochs.c.id)).first() is None:
                connection.execute(self._epochs.insert().values(id=1, epoch=os.urandom(_EPOCH_BYTES)))

        self._change(create, "creating its tables")

    # --- reading

    def newest(self, scope: Mapping[str, str], kind: KeyKind) -> KeyRow | None:
        return self._read(lambda connection: self._newest(connection, _hash(scope), kind))

    def _newest(self, connection: Connection, scope_hash: bytes, kind: KeyKind) -> KeyRow | None:
        keys = self._keys
        query = keys.select().where(
            keys.c.scope_hash == scope_hash, keys.c.kind == int(kind), keys.c.claim.is_not(None)
        )
        row = connection.execute(query.order_by(keys.c.claim.desc()).limit(1)).first()
        return None if row is None else _key_row(row)

    def get_many(self, scope: Mapping[str, str], key_ids: Sequence[bytes] | None = None) -> Rows:
        keys = self._keys
        query = keys.select().where(keys.c.scope_hash == _hash(scope))
        if key_ids is not None:
            query = query.where(keys.c.key_id.in_(list(key_ids)))
        return self._read(lambda connection: [_key_row(row) for row in connection.execute(query)])

    def list(self, scope: Mapping[str, str] | None = None) -> Iterator[KeyRow]:
        wanted = (scope or {}).items()
        keys = self._keys
        order = (keys.c.scope_hash, keys.c.kind, keys.c.key_id)
        after: tuple[bytes, int, bytes] | None = None
        while True:
            query = keys.select().order_by(*order).limit(_ROWS_AT_ONCE)
            if after is not None:
                query = query.where(_after(order, after))
            rows = self._read(functools.partial(_all, query))
            for row in rows:
                key_row = _key_row(row)
                if wanted <= key_row.scope.items():
                    yield key_row
            if len(rows) < _ROWS_AT_ONCE:
                return
            after = rows[-1].scope_hash, rows[-1].kind, rows[-1].key_id

    def check(self, key_ids: Sequence[bytes]) -> Changes:
        keys = self._keys

        def look(connection: Connection) -> Changes:
            epoch = connection.execute(sa.select(self._epochs.c.epoch)).scalar_one_or_none()
            states: dict[bytes, KeyState | None] = dict.fromkeys(key_ids)
            for start in range(0, len(key_ids), _ROWS_AT_ONCE):
                part = list(key_ids[start : start + _ROWS_AT_ONCE])
                for key_id, state in connection.execute(
                    sa.select(keys.c.key_id, keys.c.state).where(keys.c.key_id.in_(part))
                ):
                    states[bytes(key_id)] = _state(state)
            return Changes(bytes(epoch or b""), states)

        return self._read(look)

    # --- changing

    def create(self, row: KeyRow) -> KeyRow:
        def add(connection: Connection) -> KeyRow:
            there = self._same_id(connection, row)
            if there is None and row.claim is not None:
                there = self._claimed(connection, row)
            if there is None:
                self._insert(connection, row)
                return row
            return there

        # Whoever loses the race for a claim finds the winner at the next attempt.
        return self._change(add, "adding a key")

    def _same_id(self, connection: Connection, row: KeyRow) -> KeyRow | None:
        return self._first(connection, row, self._keys.c.key_id == row.key_id)

    def _claimed(self, connection: Connection, row: KeyRow) -> KeyRow | None:
        return self._first(connection, row, self._keys.c.claim == row.generation)

    def _first(self, connection: Connection, row: KeyRow, condition: sa.ColumnElement[bool]) -> KeyRow | None:
        keys = self._keys
        query = keys.select().where(keys.c.scope_hash == _hash(row.scope), keys.c.kind == int(row.kind), condition)
        found = connection.execute(query).first()
        return None if found is None else _key_row(found)

    def _insert(self, connection: Connection, row: KeyRow) -> None:
        connection.execute(
            self._keys.insert().values(
                scope_hash=_hash(row.scope),
                kind=int(row.kind),
                key_id=row.key_id,
                generation=row.generation,
                claim=row.claim,
                state=str(row.state),
                created=row.created,
                made_by=row.made_by,
                scope=json.dumps(dict(row.scope), sort_keys=True),
                blob=row.blob,
            )
        )
        self._redraw(connection)

    def _redraw(self, connection: Connection) -> None:
        connection.execute(self._epochs.update().values(epoch=os.urandom(_EPOCH_BYTES)))

    def put_back(self, row: KeyRow) -> bool:
        def add(connection: Connection) -> bool:
            if self._same_id(connection, row) is not None:
                return False
            taken = self._claimed(connection, row) is not None
            self._insert(connection, dataclasses.replace(row, claim=None if taken else row.generation))
            return True

        return self._change(add, "putting a key back")

    def replace(self, row: KeyRow, blob: bytes) -> bool:
        return self._update(row, {"blob": blob}, "replacing a wrapped key")

    def retire(self, row: KeyRow) -> bool:
        def retire(connection: Connection) -> bool:
            newest = self._newest(connection, _hash(row.scope), row.kind)
            if newest is None or newest.key_id == row.key_id or row.state is not KeyState.LIVE:
                return False
            return self._updated(connection, row, {"state": str(KeyState.RETIRED)})

        return self._change(retire, "retiring a key")

    def remove(self, row: KeyRow) -> bool:
        def remove(connection: Connection) -> bool:
            done = connection.execute(self._keys.delete().where(*self._is(row))).rowcount == 1
            if done:
                self._redraw(connection)
            return done

        return self._change(remove, "removing a key")

    def shred(self, scope: Mapping[str, str]) -> Rows:
        keys = self._keys
        scope_hash = _hash(scope)

        def shred(connection: Connection) -> Rows:
            # First the claims: a process that is just making a key then loses to them, or has made it already.
            for kind in KeyKind:
                newest = self._newest(connection, scope_hash, kind)
                self._insert(connection, tombstone(scope, kind, 1 if newest is None else (newest.claim or 0) + 1))
            of_scope = keys.c.scope_hash == scope_hash
            rows = connection.execute(keys.select().where(of_scope, keys.c.state != str(KeyState.SHREDDED))).all()
            connection.execute(keys.update().where(of_scope).values(state=str(KeyState.SHREDDED), blob=b""))
            return [_key_row(row) for row in rows]

        shredded = self._change(shred, "shredding a scope")
        while more := self._read(
            lambda connection: connection.execute(
                keys.select().where(keys.c.scope_hash == scope_hash, keys.c.state != str(KeyState.SHREDDED))
            ).all()
        ):
            del more
            shredded += self._change(shred, "shredding a scope")
        return shredded

    def _is(self, row: KeyRow) -> tuple[sa.ColumnElement[bool], ...]:
        keys = self._keys
        return (
            keys.c.scope_hash == _hash(row.scope),
            keys.c.kind == int(row.kind),
            keys.c.key_id == row.key_id,
            keys.c.blob == row.blob,
        )

    def _updated(self, connection: Connection, row: KeyRow, values: Mapping[str, object]) -> bool:
        update = self._keys.update().where(*self._is(row), self._keys.c.state == str(row.state)).values(**values)
        done = connection.execute(update).rowcount == 1
        if done:
            self._redraw(connection)
        return done

    def _update(self, row: KeyRow, values: Mapping[str, object], doing: str) -> bool:
        return self._change(lambda connection: self._updated(connection, row, values), doing)

    # --- connections

    def _read(self, work: Callable[[Connection], T]) -> T:
        return self._try(self._engine, work, "reading it")

    def _change(self, work: Callable[[Connection], T], doing: str) -> T:
        if self._read_only:
            raise KeyStoreError(
                f"the key store {self.url} is open for reading only, so {doing} is refused; use the primary database"
            )
        return self._try(self._writing, work, doing)

    def _try(self, engine: Engine, work: Callable[[Connection], T], doing: str) -> T:
        locked_until = time.monotonic() + _SQLITE_SECONDS
        attempt = 0
        while True:
            attempt += 1
            try:
                with contextlib.closing(engine.connect()) as connection, connection.begin():
                    return work(connection)
            except IntegrityError:
                if attempt >= _ATTEMPTS:
                    raise KeyStoreError(f"the key store {self.url}: {doing} lost {attempt} races in a row") from None
            except SQLAlchemyError as error:
                again = attempt < _ATTEMPTS and isinstance(error, DBAPIError) and _may_succeed(error)
                if not again and not (_is_locked(error) and time.monotonic() < locked_until):
                    raise self._failed(doing, error) from None
            time.sleep(_PAUSE_SECONDS * min(attempt, _ATTEMPTS) * random.random())  # noqa: S311  not for a secret

    def _failed(self, doing: str, error: SQLAlchemyError) -> KeyStoreError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        hint = ""
        if _is_locked(error):
            hint = ". Another connection is writing; if it is this program's own, call ensure() before its transaction"
        elif "no such table" in reason or "does not exist" in reason or "doesn't exist" in reason:
            hint = ". Create its tables with create_table() or a migration"
        away = isinstance(error, DBAPIError) and (
            error.connection_invalidated or isinstance(error, sa.exc.OperationalError)
        )
        return KeyStoreError(
            f"the key store {self.url} failed while {doing}: {reason}{hint}", retryable=bool(away) and not hint
        )


def _own_engine(database: Engine | URL | str) -> Engine:
    if isinstance(database, Engine):
        _refuse_memory(database.url)
        # The pool's way to connect knows what the caller gave: arguments, a creator, passwords that are renewed.
        connect = functools.partial(cast("Callable[[None], Any]", database.pool.recreate()._invoke_creator), None)
        engine = sa.create_engine(database.url, poolclass=NullPool, creator=connect)
    else:
        url = make_url(database)
        _refuse_memory(url)
        engine = sa.create_engine(url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _refuse_memory(url: URL) -> None:
    if url.get_backend_name() == "sqlite" and (
        not url.database or ":memory:" in url.database or "mode=memory" in str(url)
    ):
        raise ValueError(
            "a SQLite database in memory is gone with its connection, and the key store needs one of its own; use "
            "MemoryKeys() for tests, or a file"
        )


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions too late
    connection.execute(f"PRAGMA busy_timeout = {_SQLITE_WAIT_MS}")
    connection.execute("PRAGMA synchronous = FULL")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("sealwax_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _is_locked(error: SQLAlchemyError) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else None
    return isinstance(cause, sqlite3.OperationalError) and "locked" in str(cause)


def _may_succeed(error: DBAPIError) -> bool:
    code = getattr(error.orig, "sqlstate", None) or (error.orig.args[:1] or (None,))[0] if error.orig else None
    return code in _TRY_AGAIN


def _hash(scope: Mapping[str, str]) -> bytes:
    return hashlib.sha256(ctx.encode(scope)).digest()


def _state(state: str) -> KeyState:
    try:
        return KeyState(state)
    except ValueError:
        raise KeyStoreError(
            f"the key store has a key in the state '{state[:20]}', which this release does not know"
        ) from None


def _key_row(row: Any) -> KeyRow:
    try:
        scope = json.loads(row.scope)
        kind = KeyKind(row.kind)
    except ValueError:
        raise KeyStoreError("the key store has a row whose scope or kind is damaged") from None
    if not isinstance(scope, dict) or _hash(cast("dict[str, str]", scope)) != bytes(row.scope_hash):
        raise KeyStoreError("the key store has a row whose scope is not the one that its hash names: it was altered")
    return KeyRow(
        scope,
        kind,
        row.generation,
        bytes(row.key_id),
        _state(row.state),
        row.created,
        row.made_by,
        bytes(row.blob),
        row.claim,
    )


def _all(query: sa.Select[Any], connection: Connection) -> Sequence[Any]:
    return connection.execute(query).all()


def _after(order: Sequence[Any], values: Sequence[object]) -> sa.ColumnElement[bool]:
    """Return the condition that a row comes after one with these values; not every database compares tuples well."""
    conditions = []
    for count in range(len(order)):
        equal = [column == value for column, value in zip(order[:count], values, strict=False)]
        conditions.append(sa.and_(*equal, order[count] > values[count]))
    return sa.or_(*conditions)
