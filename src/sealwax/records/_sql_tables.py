"""The two tables of a key store, for SQLAlchemy."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from sealwax.records._key_columns import EPOCH_BYTES, MAX_BLOB_BYTES
from sealwax.records._keys import KEY_ID_BYTES

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
        sa.Column("blob", _binary(MAX_BLOB_BYTES), nullable=False),
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
