"""The two tables of a key store, and a row of them."""

from __future__ import annotations

import json
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from sealwax.errors import KeyStoreError
from sealwax.records._keys import KEY_ID_BYTES
from sealwax.records._store import KeyKind, KeyRow, KeyState, scope_hash

EPOCH_ID: Final = 1
EPOCH_BYTES: Final = 16
_MAX_BLOB_BYTES: Final = 8192
_INNODB: Final[dict[str, Any]] = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}  # others have no transactions


def _binary(size: int) -> Any:
    # MySQL has no index on a BLOB of unknown length.
    return sa.LargeBinary(size).with_variant(mysql.VARBINARY(size), "mysql", "mariadb")


def key_tables(metadata: sa.MetaData, table: str = "sealwax_keys") -> tuple[sa.Table, sa.Table]:
    """Add the two tables of ``SqlKeys`` to the metadata of an application, so that Alembic makes and knows them.

    Args:
        metadata: such as ``Base.metadata``.
        table: the name that ``SqlKeys`` is given, maybe with its schema.

    Returns:
        The table of data keys, and the table of one row that changes with every change of the keys.

    Raises:
        ValueError: the name is empty.

    Example:
        >>> key_tables(Base.metadata)  # in env.py or beside the models; then: alembic revision --autogenerate
    """
    schema, _, name = table.rpartition(".")
    if not name:
        raise ValueError("the table of a key store needs a name, such as 'sealwax_keys' or 'app.sealwax_keys'")
    keys = sa.Table(
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
        sa.Index(f"ix_{name}_key_id", "key_id"),
        schema=schema or None,
        **_INNODB,
    )
    epochs = sa.Table(
        f"{name}_epoch",
        metadata,
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("epoch", _binary(EPOCH_BYTES), nullable=False),
        schema=schema or None,
        **_INNODB,
    )
    return keys, epochs


def values_of(row: KeyRow) -> dict[str, object]:
    """Return the columns of a row."""
    return {
        "scope_hash": scope_hash(row.scope),
        "kind": int(row.kind),
        "key_id": row.key_id,
        "generation": row.generation,
        "claim": row.claim,
        "state": str(row.state),
        "created": row.created,
        "made_by": row.made_by,
        # ASCII alone, which every character set and collation keeps as it is.
        "scope": json.dumps(dict(row.scope), sort_keys=True),
        "blob": row.blob,
    }


def known_state(state: str) -> KeyState | None:
    """Return the state of a row, or None for one that this release does not know."""
    try:
        return KeyState(state)
    except ValueError:
        return None


def _state_of(state: str) -> KeyState:
    known = known_state(state)
    if known is None:
        raise KeyStoreError(f"the key store has a key in the state {state[:20]!a}, which this release does not know")
    return known


def key_row(row: Any) -> KeyRow:
    """Return a row of the table.

    Raises:
        KeyStoreError: it was altered.
    """
    try:
        scope = json.loads(row.scope)
        kind = KeyKind(row.kind)
        damaged = not isinstance(scope, dict) or not all(isinstance(value, str) for value in scope.values())
    except (ValueError, RecursionError):
        damaged = True
    if damaged:
        raise KeyStoreError("the key store has a row whose scope or kind is damaged")
    if scope_hash(cast("dict[str, str]", scope)) != bytes(row.scope_hash):
        raise KeyStoreError("the key store has a row whose scope is not the one that its hash names: it was altered")
    return KeyRow(
        scope,
        kind,
        row.generation,
        bytes(row.key_id),
        _state_of(row.state),
        row.created,
        row.made_by,
        bytes(row.blob),
        row.claim,
    )
