"""Typed access to keys, aliases, grants and tags in the folder, cached until a process commits a change."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any, TypeAlias

from sealwax._core.lru import LruMap
from sealwax.lab._database import Database
from sealwax.lab._model import AliasRecord, GrantRecord, KeyRecord, MaterialRecord
from sealwax.lab._rootkey import RootKey

_KEY_COLUMNS = tuple(field.name for field in fields(KeyRecord) if field.name != "materials")
_ALIAS_COLUMNS = tuple(field.name for field in fields(AliasRecord))
_GRANT_COLUMNS = tuple(field.name for field in fields(GrantRecord))
_MATERIAL_COLUMNS = "material_id, number, sealed, state, created, rotation_type, description, expires"
_THIS_KEY = "account=? AND region=? AND key_id=?"


# Names that do not exist are cached too, so requests for ever new names must not fill the memory.
_MAX_CACHED = 4096
_MAX_IMPORTS_OF_A_KEY = 64
_Name: TypeAlias = tuple[str | None, ...]


class KeyRecords:
    """Reads and writes the state file. Writers call inside ``change``."""

    def __init__(self, database: Database, root: RootKey) -> None:
        self._database = database
        self._root = root
        self._cache: LruMap[_Name, Any] = LruMap(_MAX_CACHED)
        database.on_change(self._cache.clear)

    def change(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction: after the block, all of it is on disk or none of it."""
        return self._database.writing()

    # keys

    def key(self, account: str, region: str, key_id: str) -> KeyRecord | None:
        name = ("key", account, region, key_id)
        with self._database.reading() as connection:
            if name not in self._cache:
                row = connection.execute(
                    f"SELECT {', '.join(_KEY_COLUMNS)} FROM keys WHERE {_THIS_KEY}",  # noqa: S608
                    name[1:],
                ).fetchone()
                materials = self._materials(connection, account, region, key_id) if row else ()
                values = dict(zip(_KEY_COLUMNS, row, strict=True)) if row else {}
                self._cache[name] = KeyRecord(**values, materials=materials) if row else None
            key: KeyRecord | None = self._cache[name]
            return key

    def _materials(
        self, connection: sqlite3.Connection, account: str, region: str, key_id: str
    ) -> tuple[MaterialRecord, ...]:
        rows = connection.execute(
            f"SELECT {_MATERIAL_COLUMNS} FROM materials WHERE {_THIS_KEY} ORDER BY number",  # noqa: S608
            (account, region, key_id),
        )
        return tuple(
            MaterialRecord(
                row[0],
                row[1],
                None if row[2] is None else self._root.unseal(row[2], _label(account, key_id, row[0])),
                *row[3:],
            )
            for row in rows.fetchall()
        )

    def put_key(self, key: KeyRecord) -> None:
        """Add or change a key, without its materials (see ``put_material``)."""
        columns = ", ".join(_KEY_COLUMNS)
        updates = ", ".join(f"{name}=excluded.{name}" for name in _KEY_COLUMNS[3:])
        with self._database.writing() as connection:
            connection.execute(
                f"INSERT INTO keys ({columns}) VALUES ({_marks(_KEY_COLUMNS)}) "  # noqa: S608
                f"ON CONFLICT (account, region, key_id) DO UPDATE SET {updates}",
                [getattr(key, name) for name in _KEY_COLUMNS],
            )
            self._forget("key", key.account, key.region, key.key_id)

    def delete_key(self, key: KeyRecord) -> None:
        """Remove a key with its materials, aliases, tags and grants."""
        with self._database.writing() as connection:
            connection.execute(f"DELETE FROM keys WHERE {_THIS_KEY}", _of(key))  # noqa: S608
            self._cache.clear()

    def put_material(self, key: KeyRecord, material: MaterialRecord) -> None:
        secret = material.secret
        sealed = (
            None if secret is None else self._root.seal(secret, _label(key.account, key.key_id, material.material_id))
        )
        with self._database.writing() as connection:
            connection.execute(
                f"INSERT OR REPLACE INTO materials (account, region, key_id, {_MATERIAL_COLUMNS}) "  # noqa: S608
                f"VALUES ({_marks(range(11))})",
                (
                    *_of(key),
                    material.material_id,
                    material.number,
                    sealed,
                    material.state,
                    material.created,
                    material.rotation_type,
                    material.description,
                    material.expires,
                ),
            )
            self._forget("key", *_of(key))

    def key_ids(self, account: str, region: str) -> list[str]:
        """The IDs of all keys of an account in a Region, sorted."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT key_id FROM keys WHERE account=? AND region=? ORDER BY key_id", (account, region)
            )
            return [row[0] for row in rows]

    def regions_of(self, account: str, key_id: str) -> list[str]:
        """The Regions that have a key with this ID, sorted; more than one only for a multi-Region key."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT region FROM keys WHERE account=? AND key_id=? ORDER BY region", (account, key_id)
            )
            return [row[0] for row in rows]

    def every_key(self) -> list[KeyRecord]:
        """All keys of the lab, by account, Region and ID."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT account, region, key_id FROM keys ORDER BY account, region, key_id")
            names = rows.fetchall()
            return [key for name in names if (key := self.key(*name)) is not None]

    # aliases

    def alias(self, account: str, region: str, name: str) -> AliasRecord | None:
        cached = ("alias", account, region, name)
        with self._database.reading() as connection:
            if cached not in self._cache:
                row = connection.execute(
                    f"SELECT {', '.join(_ALIAS_COLUMNS)} FROM aliases "  # noqa: S608
                    "WHERE account=? AND region=? AND name=?",
                    cached[1:],
                ).fetchone()
                self._cache[cached] = AliasRecord(*row) if row else None
            alias: AliasRecord | None = self._cache[cached]
            return alias

    def aliases(self, account: str, region: str, key_id: str | None = None) -> tuple[AliasRecord, ...]:
        """The aliases of an account in a Region, or of one key there, by name."""
        cached = ("aliases", account, region, key_id)
        with self._database.reading() as connection:
            if cached not in self._cache:
                rows = connection.execute(
                    f"SELECT {', '.join(_ALIAS_COLUMNS)} FROM aliases "  # noqa: S608
                    "WHERE account=? AND region=? AND (? IS NULL OR key_id=?) ORDER BY name",
                    (account, region, key_id, key_id),
                )
                self._cache[cached] = tuple(AliasRecord(*row) for row in rows)
            aliases: tuple[AliasRecord, ...] = self._cache[cached]
            return aliases

    def put_alias(self, alias: AliasRecord) -> None:
        with self._database.writing() as connection:
            connection.execute(
                f"INSERT OR REPLACE INTO aliases VALUES ({_marks(_ALIAS_COLUMNS)})",  # noqa: S608
                [getattr(alias, name) for name in _ALIAS_COLUMNS],
            )
            self._cache.clear()

    def delete_alias(self, alias: AliasRecord) -> None:
        with self._database.writing() as connection:
            connection.execute(
                "DELETE FROM aliases WHERE account=? AND region=? AND name=?", (alias.account, alias.region, alias.name)
            )
            self._cache.clear()

    # tags

    def tags(self, key: KeyRecord) -> dict[str, str]:
        """A key's tags by name, sorted."""
        cached = ("tags", *_of(key))
        with self._database.reading() as connection:
            if cached not in self._cache:
                rows = connection.execute(
                    f"SELECT tag, value FROM tags WHERE {_THIS_KEY} ORDER BY tag",  # noqa: S608
                    cached[1:],
                )
                self._cache[cached] = dict(rows.fetchall())
            tags: dict[str, str] = self._cache[cached]
            return tags

    def put_tags(self, key: KeyRecord, tags: Iterable[tuple[str, str]]) -> None:
        with self._database.writing() as connection:
            for tag, value in tags:
                connection.execute("INSERT OR REPLACE INTO tags VALUES (?, ?, ?, ?, ?)", (*_of(key), tag, value))
            self._forget("tags", *_of(key))

    def delete_tags(self, key: KeyRecord, tags: Iterable[str]) -> None:
        with self._database.writing() as connection:
            for tag in tags:
                connection.execute(f"DELETE FROM tags WHERE {_THIS_KEY} AND tag=?", (*_of(key), tag))  # noqa: S608
            self._forget("tags", *_of(key))

    # grants

    def grants(self, key: KeyRecord) -> tuple[GrantRecord, ...]:
        """A key's grants, oldest first."""
        cached = ("grants", *_of(key))
        with self._database.reading() as connection:
            if cached not in self._cache:
                rows = connection.execute(
                    f"SELECT {', '.join(_GRANT_COLUMNS)} FROM grants "  # noqa: S608
                    f"WHERE {_THIS_KEY} ORDER BY created, grant_id",
                    cached[1:],
                )
                self._cache[cached] = tuple(_grant(row) for row in rows)
            grants: tuple[GrantRecord, ...] = self._cache[cached]
            return grants

    def find_grants(self, condition: str, *values: str) -> list[GrantRecord]:
        """The grants that match an SQL condition, oldest first. The condition is never a caller's."""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {', '.join(_GRANT_COLUMNS)} FROM grants WHERE {condition} "  # noqa: S608
                "ORDER BY created, grant_id",
                values,
            )
            return [_grant(row) for row in rows.fetchall()]

    def put_grant(self, grant: GrantRecord) -> None:
        values = [getattr(grant, name) for name in _GRANT_COLUMNS]
        values[_GRANT_COLUMNS.index("operations")] = json.dumps(grant.operations)
        values[_GRANT_COLUMNS.index("constraints")] = json.dumps(grant.constraints)
        with self._database.writing() as connection:
            connection.execute(
                f"INSERT INTO grants ({', '.join(_GRANT_COLUMNS)}) VALUES ({_marks(_GRANT_COLUMNS)})",  # noqa: S608
                values,
            )
            self._forget("grants", grant.account, grant.region, grant.key_id)

    def delete_grant(self, grant: GrantRecord) -> None:
        with self._database.writing() as connection:
            connection.execute("DELETE FROM grants WHERE grant_id=?", (grant.grant_id,))
            self._forget("grants", grant.account, grant.region, grant.key_id)

    # imports in progress

    def put_import(
        self, token: bytes, key: KeyRecord, algorithm: str, private: bytes, valid_to: float, now: float
    ) -> None:
        """Store a wrapping key under its import token, and remove expired ones and those beyond the maximum."""
        sealed = self._root.seal(private, b"import " + hashlib.sha256(token).digest())
        with self._database.writing() as connection:
            connection.execute("DELETE FROM imports WHERE valid_to < ?", (now,))
            connection.execute(
                f"DELETE FROM imports WHERE {_THIS_KEY} AND token_id NOT IN "  # noqa: S608
                f"(SELECT token_id FROM imports WHERE {_THIS_KEY} ORDER BY valid_to DESC LIMIT ?)",
                (*_of(key), *_of(key), _MAX_IMPORTS_OF_A_KEY - 1),
            )
            connection.execute(
                "INSERT INTO imports VALUES (?, ?, ?, ?, ?, ?, ?)",
                (hashlib.sha256(token).digest(), *_of(key), algorithm, sealed, valid_to),
            )

    def pending_import(self, token: bytes, key: KeyRecord) -> tuple[str, bytes, float] | None:
        """The algorithm, private key (PKCS #8, DER) and expiry of an import token of this key."""
        name = hashlib.sha256(token).digest()
        with self._database.reading() as connection:
            row = connection.execute(
                f"SELECT algorithm, sealed, valid_to FROM imports WHERE token_id=? AND {_THIS_KEY}",  # noqa: S608
                (name, *_of(key)),
            ).fetchone()
        return None if row is None else (row[0], self._root.unseal(row[1], b"import " + name), row[2])

    def _forget(self, *name: str) -> None:
        self._cache.pop(name, None)


def _label(account: str, key_id: str, material_id: str) -> bytes:
    # Without the Region: the replicas of a multi-Region key share their material.
    return f"material {account} {key_id} {material_id}".encode()


def _of(key: KeyRecord) -> tuple[str, str, str]:
    return key.account, key.region, key.key_id


def _marks(columns: Iterable[object]) -> str:
    return ", ".join("?" for _ in columns)


def _grant(row: tuple[Any, ...]) -> GrantRecord:
    values = dict(zip(_GRANT_COLUMNS, row, strict=True))
    values["operations"] = tuple(json.loads(values["operations"]))
    values["constraints"] = json.loads(values["constraints"])
    return GrantRecord(**values)
