"""The two tables of a key store, as SqlKeys makes them too: both read what the other writes."""

from __future__ import annotations

from typing import Any, Final

KEYS: Final = "sealwax_keys"
EPOCH: Final = "sealwax_keys_epoch"

_TYPES: Final = {
    "postgresql": ("bytea", "bytea", "bytea", ""),
    "sqlite": ("BLOB", "BLOB", "BLOB", ""),
    "mysql": ("VARBINARY(32)", "VARBINARY(16)", "VARBINARY(8192)", " ENGINE=InnoDB"),
}


def statements(connection: Any) -> list[str]:
    """Return the statements that make the tables, unless they are there.

    Raises:
        KeyError: the database is of another kind.
    """
    hash_type, id_type, blob_type, engine = _TYPES[connection.vendor]
    quoted = connection.ops.quote_name
    index = f"INDEX {quoted('ix_sealwax_keys_key_id')} (key_id)"
    keys = f"""CREATE TABLE IF NOT EXISTS {quoted(KEYS)} (
    scope_hash {hash_type} NOT NULL,
    kind SMALLINT NOT NULL,
    key_id {id_type} NOT NULL,
    generation INTEGER NOT NULL,
    claim INTEGER,
    state VARCHAR(8) NOT NULL,
    created BIGINT NOT NULL,
    made_by VARCHAR(128) NOT NULL,
    scope TEXT NOT NULL,
    {quoted("blob")} {blob_type} NOT NULL,
    PRIMARY KEY (scope_hash, kind, key_id),
    CONSTRAINT {quoted("uq_sealwax_keys_claim")} UNIQUE (scope_hash, kind, claim){f", {index}" if engine else ""}
){engine}"""
    epoch = f"""CREATE TABLE IF NOT EXISTS {quoted(EPOCH)} (
    id SMALLINT NOT NULL,
    epoch {id_type} NOT NULL,
    PRIMARY KEY (id)
){engine}"""
    made = [keys, epoch]
    if not engine:  # MySQL has no IF NOT EXISTS for an index
        made.append(f"CREATE {index.replace('INDEX', 'INDEX IF NOT EXISTS', 1).replace(' (', f' ON {quoted(KEYS)} (')}")
    return made
