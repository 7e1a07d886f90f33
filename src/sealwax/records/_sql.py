"""A key store in a database: PostgreSQL, MySQL, MariaDB or SQLite, by SQLAlchemy Core."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from sealwax.errors import KeyStoreError, NotPicklableError
from sealwax.records._key_columns import EPOCH_BYTES, EPOCH_ID, key_row, known_state, proven_scope, values_of
from sealwax.records._sql_connect import KeyDatabase
from sealwax.records._sql_tables import key_tables
from sealwax.records._store import Changes, KeyKind, KeyRow, KeyState, KeyStore, scope_hash, tombstone

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")
Rows = list[KeyRow]

_ROWS_AT_ONCE: Final = 500
_SHREDDED: Final = str(KeyState.SHREDDED)


class TableKeys(KeyStore):
    """A key store in two tables of a database, however it is reached."""

    def _open(self, database: KeyDatabase, table: str = "sealwax_keys", *, read_only: bool = False) -> None:
        self._database = database
        self._read_only = read_only
        self._metadata = sa.MetaData()
        self._keys, self._epochs = key_tables(self._metadata, table)

    def __reduce__(self) -> NoReturn:
        raise NotPicklableError(
            "a key store is not copied or pickled: the pickle would hold the password of its database. Make another one"
        )

    def create_table(self) -> None:
        """Create the two tables, unless they are there; any number of processes may do so at once.

        Raises:
            KeyStoreError: the database refuses.
        """
        self._refuse_read_only(doing := "creating its tables")
        self._database.run(self._metadata.create_all, doing, changes=True)
        # From here on, changes can be told from the state before.
        self._change(lambda _connection: None, doing)

    # --- reading

    def newest(self, scope: Mapping[str, str], kind: KeyKind) -> KeyRow | None:
        return self._read(lambda connection: self._newest(connection, scope_hash(scope), kind))

    def _newest(self, connection: Connection, hashed: bytes, kind: KeyKind) -> KeyRow | None:
        keys = self._keys
        query = keys.select().where(keys.c.scope_hash == hashed, keys.c.kind == int(kind), keys.c.claim.is_not(None))
        row = connection.execute(query.order_by(keys.c.claim.desc()).limit(1)).first()
        return None if row is None else key_row(row)

    def get_many(self, scope: Mapping[str, str], key_ids: Sequence[bytes] | None = None) -> Rows:
        keys = self._keys
        query = keys.select().where(keys.c.scope_hash == scope_hash(scope))
        if key_ids is None:
            return self._read(lambda connection: [key_row(row) for row in connection.execute(query)])
        parts = list(_parts(key_ids))
        return self._read(
            lambda connection: [
                key_row(row) for part in parts for row in connection.execute(query.where(keys.c.key_id.in_(part)))
            ]
        )

    def list(self, scope: Mapping[str, str] | None = None) -> Iterator[KeyRow]:
        wanted = (scope or {}).items()
        keys = self._keys
        order = (keys.c.scope_hash, keys.c.kind, keys.c.key_id)
        after: tuple[bytes, int, bytes] | None = None
        damaged: KeyStoreError | None = None
        while True:
            query = keys.select().order_by(*order).limit(_ROWS_AT_ONCE)
            if after is not None:
                query = query.where(_after(order, after))
            rows = self._read(functools.partial(_all, query))
            for row in rows:
                try:
                    found = key_row(row)
                except KeyStoreError as error:
                    scope_of_row = proven_scope(row)
                    if scope_of_row is None or wanted <= scope_of_row.items():
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
        keys, epochs, others = self._keys, self._epochs, self._keys.alias()
        of_scope = (others.c.scope_hash == keys.c.scope_hash) & (others.c.kind == keys.c.kind)
        highest = sa.select(sa.func.max(others.c.claim)).where(of_scope).scalar_subquery()
        columns = (keys.c.key_id, keys.c.state, keys.c.scope_hash, keys.c.kind, keys.c.claim, highest)

        def look(connection: Connection) -> Changes:
            epoch = connection.execute(sa.select(epochs.c.epoch).where(epochs.c.id == EPOCH_ID)).scalar_one_or_none()
            states: dict[bytes, KeyState | None] = dict.fromkeys(key_ids)
            newest = set()
            for part in _parts(key_ids):
                query = sa.select(*columns).where(keys.c.key_id.in_(part))
                for key_id, state, hashed, kind, claim, highest_claim in connection.execute(query):
                    # A copy of a row in another scope must not hide that the key was shredded.
                    if states[bytes(key_id)] is not KeyState.SHREDDED:
                        states[bytes(key_id)] = known_state(state)
                    if claim is not None and claim == highest_claim:
                        newest.add((bytes(hashed), kind, bytes(key_id)))
            return Changes(bytes(epoch or b""), states, frozenset(newest))

        return self._read(look)

    # --- changing

    def create(self, row: KeyRow) -> KeyRow:
        keys = self._keys

        def add(connection: Connection) -> KeyRow:
            same = keys.c.key_id == row.key_id
            there = self._first(connection, row, same if row.claim is None else same | (keys.c.claim == row.claim))
            if there is None:
                self._insert(connection, row)
            return there or row

        return self._change(add, "adding a key")

    def put_back(self, row: KeyRow) -> bool:
        keys = self._keys
        later = (keys.c.generation >= row.generation) & (keys.c.state == _SHREDDED)

        def add(connection: Connection) -> bool:
            if self._first(connection, row, (keys.c.key_id == row.key_id) | later) is not None:
                return False
            taken = self._first(connection, row, keys.c.claim == row.generation) is not None
            self._insert(connection, dataclasses.replace(row, claim=None if taken else row.generation))
            return True

        return self._change(add, "putting a key back")

    def replace(self, row: KeyRow, blob: bytes) -> bool:
        keys = self._keys
        old = (keys.c.key_id == row.key_id) & (keys.c.blob == row.blob) & (keys.c.state != _SHREDDED)
        return self._change(
            lambda connection: self._update(connection, row, old, {"blob": blob}), "replacing a wrapped key"
        )

    def retire(self, row: KeyRow) -> bool:
        keys = self._keys
        live = (keys.c.key_id == row.key_id) & (keys.c.state == str(KeyState.LIVE))

        def retire(connection: Connection) -> bool:
            newest = self._newest(connection, scope_hash(row.scope), row.kind)
            if newest is None or newest.key_id == row.key_id:
                return False
            return self._update(connection, row, live, {"state": str(KeyState.RETIRED)})

        return self._change(retire, "retiring a key")

    def remove(self, row: KeyRow) -> bool:
        keys = self._keys
        same = (keys.c.key_id == row.key_id) & (keys.c.blob == row.blob) & (keys.c.state != _SHREDDED)

        def remove(connection: Connection) -> bool:
            if self._first(connection, row, same) is None:
                return False
            connection.execute(keys.delete().where(self._of(row), keys.c.key_id == row.key_id))
            self._redraw(connection)
            return True

        return self._change(remove, "removing a key")

    def shred(self, scope: Mapping[str, str]) -> Rows:
        keys = self._keys
        hashed = scope_hash(scope)
        of_scope = keys.c.scope_hash == hashed

        def shred(connection: Connection) -> Rows:
            rows = connection.execute(keys.select().where(of_scope, keys.c.state != _SHREDDED)).all()
            connection.execute(keys.update().where(of_scope).values(state=_SHREDDED, blob=b""))
            # A process that is just making a key loses to the claims.
            for kind in KeyKind:
                newest = self._newest(connection, hashed, kind)
                self._insert(connection, tombstone(scope, kind, 1 if newest is None else (newest.claim or 0) + 1))
            return [key_row(row) for row in rows]

        return self._change(shred, "shredding a scope")

    # --- in a transaction

    def _of(self, row: KeyRow) -> sa.ColumnElement[bool]:
        return (self._keys.c.scope_hash == scope_hash(row.scope)) & (self._keys.c.kind == int(row.kind))

    def _first(self, connection: Connection, row: KeyRow, condition: sa.ColumnElement[bool]) -> KeyRow | None:
        found = connection.execute(self._keys.select().where(self._of(row), condition)).first()
        return None if found is None else key_row(found)

    def _insert(self, connection: Connection, row: KeyRow) -> None:
        connection.execute(self._keys.insert().values(values_of(row)))
        self._redraw(connection)

    def _update(
        self, connection: Connection, row: KeyRow, condition: sa.ColumnElement[bool], values: Mapping[str, object]
    ) -> bool:
        # Not by the count of rows: drivers differ in whether they count what stays the same.
        if self._first(connection, row, condition) is None:
            return False
        connection.execute(self._keys.update().where(self._of(row), condition).values(**values))
        self._redraw(connection)
        return True

    def _redraw(self, connection: Connection) -> None:
        epochs = self._epochs
        connection.execute(epochs.update().where(epochs.c.id == EPOCH_ID).values(epoch=os.urandom(EPOCH_BYTES)))

    def _lock(self, connection: Connection) -> None:
        epochs = self._epochs
        query = sa.select(epochs.c.id).where(epochs.c.id == EPOCH_ID).with_for_update()
        if connection.execute(query).first() is None:
            # A migration makes no rows. If two processes get here, one of them fails and begins again.
            connection.execute(epochs.insert().values(id=EPOCH_ID, epoch=os.urandom(EPOCH_BYTES)))

    def _read(self, work: Callable[[Connection], T]) -> T:
        return self._database.run(work, "reading it", changes=False)

    def _change(self, work: Callable[[Connection], T], doing: str) -> T:
        self._refuse_read_only(doing)

        def locked(connection: Connection) -> T:
            self._lock(connection)
            return work(connection)

        return self._database.run(locked, doing, changes=True)

    def _refuse_read_only(self, doing: str) -> None:
        if self._read_only:
            raise KeyStoreError(
                f"{self._database.named} is open for reading only, so {doing} is refused; use the primary database"
            )


class SqlKeys(TableKeys):
    """A key store in a database.

    Each call has a connection of its own, which is closed after it. Every change holds a lock on one row, the epoch, so
    that changes of all processes happen one after another.

    Args:
        database: a SQLAlchemy ``Engine`` or ``AsyncEngine``, or a URL, such as
            ``"postgresql+psycopg://db.example.com/shop"``. Of an engine, its arguments, creator and events are used to
            connect, and none of its connections.
        table: the name of the table, maybe with its schema: ``"app.sealwax_keys"``.
        read_only: whether to refuse every change: for a replica, whose keys open and are never made.

    Raises:
        ValueError: the URL is not understood; the database is of another kind; or it is a SQLite database in memory,
            which another connection does not see: use ``MemoryKeys``.
        TypeError: it is neither an engine nor a URL, such as a connection or a session.
        ModuleNotFoundError: the driver of the URL is not installed.

    Example:
        >>> store = SqlKeys("postgresql+psycopg://db.example.com/shop")
        >>> store.create_table()
        >>> records = sealwax.Records(keyring, store, scope={"app": "shop"})
    """

    def __init__(
        self, database: Engine | AsyncEngine | URL | str, *, table: str = "sealwax_keys", read_only: bool = False
    ) -> None:
        self._open(KeyDatabase(database, read_only=read_only), table, read_only=read_only)

    def __repr__(self) -> str:
        return f"<SqlKeys {self.url}>"

    @property
    def url(self) -> str:
        """The database, without a password."""
        return self._database.url


def _parts(key_ids: Sequence[bytes]) -> Iterator[list[bytes]]:
    several = iter(dict.fromkeys(key_ids))
    while part := list(itertools.islice(several, _ROWS_AT_ONCE)):
        yield part


def keeping_connections(url: URL) -> SqlKeys:
    """Return a key store that keeps its connections, for a program that works on many rows and ends."""
    keys = SqlKeys(url)
    keys._database = KeyDatabase(url, read_only=False, keep=True)
    weakref.finalize(keys, keys._database.close)
    return keys


def _all(query: sa.Select[Any], connection: Connection) -> Sequence[Any]:
    return connection.execute(query).all()


def _after(order: Sequence[Any], values: Sequence[object]) -> sa.ColumnElement[bool]:
    """Return the condition that a row comes after one with these values; not every database compares tuples well."""
    conditions = []
    for count in range(len(order)):
        equal = [column == value for column, value in zip(order[:count], values, strict=False)]
        conditions.append(sa.and_(*equal, order[count] > values[count]))
    return sa.or_(*conditions)
