"""Sealed columns for SQLAlchemy 2: values are sealed on the way to the database, and opened when they are looked at.

::

    class User(Base):
        __tablename__ = "users"
        __sealed_scope__ = Scope(tenant="tenant_id")
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        tenant_id: Mapped[str]
        email: Mapped[str] = sealed(str, row="id")  # bound to row, column and tenant
        notes: Mapped[str | None] = mapped_column(Sealed(str))  # bound to column and tenant

    use_records(Base.metadata, records)

It needs SQLAlchemy: ``pip install 'sealwax[sqlalchemy]'``.
"""

try:
    import sqlalchemy as _sqlalchemy  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "sealwax.sqlalchemy needs SQLAlchemy; install it and the driver of your database with "
        "pip install 'sealwax[sqlalchemy,postgresql]', 'sealwax[sqlalchemy,mysql]' or 'sealwax[sqlalchemy]'",
        name="sqlalchemy",
    ) from None

from sealwax.sqlalchemy import _echo, _index_attributes, _models, _statements
from sealwax.sqlalchemy._binding import Scope, use_records
from sealwax.sqlalchemy._index import IndexOf
from sealwax.sqlalchemy._maps import sealed_columns
from sealwax.sqlalchemy._migrations import render_item
from sealwax.sqlalchemy._models import sealed
from sealwax.sqlalchemy._types import Sealed
from sealwax.sqlalchemy._value import SealedValue

__all__ = [
    "IndexOf",
    "Scope",
    "Sealed",
    "SealedValue",
    "render_item",
    "sealed",
    "sealed_columns",
    "use_records",
]

# In this order: an index is of a value that is sealed.
_models.listen()
_index_attributes.listen()
_statements.listen()
_echo.listen()
