"""The tables: what is sealed, and what each record is bound to."""

from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sealwax.records import key_tables
from sealwax.sqlalchemy import IndexOf, Scope, Sealed, sealed
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


key_tables(Base.metadata)  # for Alembic


class Tenant(Base):
    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    token_hash: Mapped[bytes] = mapped_column(unique=True)


class Customer(Base):
    __tablename__ = "customers"
    __sealed_scope__ = Scope(tenant="tenant_id")  # each tenant has a data key of its own
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[str] = mapped_column(sa.ForeignKey("tenants.id"), index=True)
    email: Mapped[str] = sealed(str, row="id")  # does not open in another row, column or tenant
    # Finds a customer by e-mail address. 128 bits, so that it can be UNIQUE.
    email_index: Mapped[bytes] = mapped_column(IndexOf("email", normalize="email/1", bits=128), unique=True)
    password_hash: Mapped[str]
    address: Mapped[dict[str, Any] | None] = sealed(dict, row="id")
    notes: Mapped[str | None] = mapped_column(Sealed(str))  # bound to column and tenant alone, so Core can read it
