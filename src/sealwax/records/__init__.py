"""Records: fields of databases, sealed one by one, under data keys that rotate without rewriting a row."""

from typing import TYPE_CHECKING

from sealwax.records._explain import Explanation
from sealwax.records._field import Field
from sealwax.records._form import is_record
from sealwax.records._index import Index
from sealwax.records._memory import MemoryKeys
from sealwax.records._records import Records, RecordsStats
from sealwax.records._rows import UNBOUND, Row, RowType, Unbound
from sealwax.records._store import Changes, KeyKind, KeyRow, KeyState, KeyStore
from sealwax.records._values import Value

if TYPE_CHECKING:
    from sealwax.records._sql import SqlKeys
    from sealwax.records._sql_tables import key_tables

__all__ = [
    "UNBOUND",
    "Changes",
    "Explanation",
    "Field",
    "Index",
    "KeyKind",
    "KeyRow",
    "KeyState",
    "KeyStore",
    "MemoryKeys",
    "Records",
    "RecordsStats",
    "Row",
    "RowType",
    "SqlKeys",
    "Unbound",
    "Value",
    "is_record",
    "key_tables",
]


def __getattr__(name: str) -> object:
    # SQLAlchemy is an extra, and takes long to import.
    if name not in ("SqlKeys", "key_tables"):
        raise AttributeError(f"module 'sealwax.records' has no attribute {name!r}")
    try:
        from sealwax.records._sql import SqlKeys
        from sealwax.records._sql_tables import key_tables
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "sqlalchemy":
            raise
        raise ModuleNotFoundError(
            f"{name} needs SQLAlchemy; install it and the driver of your database with "
            "pip install 'sealwax[postgresql]', 'sealwax[mysql]' or 'sealwax[sql]'",
            name="sqlalchemy",
        ) from None
    globals().update(SqlKeys=SqlKeys, key_tables=key_tables)
    return globals()[name]
