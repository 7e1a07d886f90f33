"""Records: fields of a database, sealed one by one, under data keys that rotate without rewriting a row."""

from sealwax.records._field import Field
from sealwax.records._form import is_record
from sealwax.records._memory import MemoryKeys
from sealwax.records._records import Records, RecordsStats
from sealwax.records._rows import UNBOUND, Row, RowType, Unbound
from sealwax.records._store import Changes, KeyRow, KeyState, KeyStore, Kind
from sealwax.records._values import Value

__all__ = [
    "UNBOUND",
    "Changes",
    "Field",
    "KeyRow",
    "KeyState",
    "KeyStore",
    "Kind",
    "MemoryKeys",
    "Records",
    "RecordsStats",
    "Row",
    "RowType",
    "Unbound",
    "Value",
    "is_record",
]
