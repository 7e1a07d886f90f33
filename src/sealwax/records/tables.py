"""Columns of records in the tables of an application: sealed again under newer keys, counted and verified.

It needs SQLAlchemy: ``pip install 'sealwax[postgresql]'``, ``'sealwax[mysql]'`` or ``'sealwax[sql]'``.
"""

try:
    import sqlalchemy as _sqlalchemy  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "sealwax.records.tables needs SQLAlchemy; install it and the driver of your database with "
        "pip install 'sealwax[postgresql]', 'sealwax[mysql]' or 'sealwax[sql]'",
        name="sqlalchemy",
    ) from None

from sealwax.records._columns import SealedColumn, SealedIndex
from sealwax.records._fields_file import read_fields
from sealwax.records._index_fill import IndexCounts
from sealwax.records._journal import ResealCounts
from sealwax.records._reports import KeyUse, RecordsVerifyReport, ResealReport, StaleReport
from sealwax.records._reseal import reseal, stale, verify
from sealwax.records._walk import RowFailure, VerifyCounts

__all__ = [
    "IndexCounts",
    "KeyUse",
    "RecordsVerifyReport",
    "ResealCounts",
    "ResealReport",
    "RowFailure",
    "SealedColumn",
    "SealedIndex",
    "StaleReport",
    "VerifyCounts",
    "read_fields",
    "reseal",
    "stale",
    "verify",
]
