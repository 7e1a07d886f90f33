"""Models as applications have them."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, validates

from sealwax.sqlalchemy import Scope, Sealed, sealed


class Base(DeclarativeBase):
    pass


class Color(enum.Enum):
    RED = 1
    GREEN = "g"


class Tenant(Base):
    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)


class User(Base):
    __tablename__ = "users"
    __sealed_scope__ = Scope(tenant="tenant_id")
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[str] = mapped_column(sa.ForeignKey("tenants.id"))
    tenant: Mapped[Tenant] = relationship()
    name: Mapped[str | None] = mapped_column(sa.String(40), unique=True)
    email: Mapped[str | None] = sealed(str, row="id")
    card: Mapped[bytes | None] = sealed(bytes, row="id", deferred=True)
    notes: Mapped[str | None] = mapped_column(Sealed(str))


class Everything(Base):
    """A column of each type, twice."""

    __tablename__ = "everything"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    bound_str: Mapped[str | None] = sealed(str, row="id")
    bound_bytes: Mapped[bytes | None] = sealed(bytes, row="id")
    bound_int: Mapped[int | None] = sealed(int, row="id")
    bound_bool: Mapped[bool | None] = sealed(bool, row="id")
    bound_float: Mapped[float | None] = sealed(float, row="id")
    bound_decimal: Mapped[Decimal | None] = sealed(Decimal, row="id")
    bound_date: Mapped[date | None] = sealed(date, row="id")
    bound_datetime: Mapped[datetime | None] = sealed(datetime, row="id")
    bound_uuid: Mapped[UUID | None] = sealed(UUID, row="id")
    bound_dict: Mapped[dict[str, Any] | None] = sealed(dict, row="id")
    bound_list: Mapped[list[Any] | None] = sealed(list, row="id")
    bound_enum: Mapped[Color | None] = sealed(Color, row="id")
    plain_str: Mapped[str | None] = mapped_column(Sealed(str))
    plain_bytes: Mapped[bytes | None] = mapped_column(Sealed(bytes))
    plain_int: Mapped[int | None] = mapped_column(Sealed(int))
    plain_bool: Mapped[bool | None] = mapped_column(Sealed(bool))
    plain_float: Mapped[float | None] = mapped_column(Sealed(float))
    plain_decimal: Mapped[Decimal | None] = mapped_column(Sealed(Decimal))
    plain_date: Mapped[date | None] = mapped_column(Sealed(date))
    plain_datetime: Mapped[datetime | None] = mapped_column(Sealed(datetime))
    plain_uuid: Mapped[UUID | None] = mapped_column(Sealed(UUID))
    plain_dict: Mapped[dict[str, Any] | None] = mapped_column(Sealed(dict))
    plain_list: Mapped[list[Any] | None] = mapped_column(Sealed(list))
    plain_enum: Mapped[Color | None] = mapped_column(Sealed(Color))


VALUES: dict[str, list[Any]] = {
    "str": ["Ada", "", "Тбилиси თბილისი Việt \U0001f511", "swr1.looks like one", "x" * 100_000],
    "bytes": [b"", b"\xc1" + bytes(80), bytes(range(256))],
    "int": [0, -1, 2**70, 1],
    "bool": [True, False],
    "float": [0.0, -1.5e300],
    "decimal": [Decimal("0.10"), Decimal("-1E+30")],
    "date": [date(1815, 12, 10)],
    "datetime": [
        datetime(2026, 2, 28, 12, tzinfo=UTC),
        datetime(2026, 2, 28, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    ],
    "uuid": [UUID(int=7)],
    "dict": [{}, {"a": [1, 2.5, None, "é"]}],
    "list": [[], [1, "x", {"y": None}]],
    "enum": [Color.RED, Color.GREEN],
}


def rows_of_everything() -> list[dict[str, Any]]:
    """Return rows that have every value, and one without any."""
    longest = max(map(len, VALUES.values()))
    rows: list[dict[str, Any]] = [{"id": 0}]
    for number in range(longest):
        values = {kind: given[number % len(given)] for kind, given in VALUES.items()}
        both = {f"{start}_{kind}": value for kind, value in values.items() for start in ("bound", "plain")}
        rows.append({"id": number + 1, **both})
    names = [name for name in rows[1] if name != "id"]
    rows[0].update(dict.fromkeys(names))
    return rows


class Renamed(Base):
    """An attribute of another name than its column, with a validator."""

    __tablename__ = "renamed"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    mail: Mapped[str] = sealed(str, row="id", name="e_mail")

    @validates("mail")
    def lower(self, key: str, value: str) -> str:  # noqa: ARG002
        return value.lower()


class Person(Base):
    """Joined inheritance, and below it single-table inheritance."""

    __tablename__ = "people"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012
    __sealed_scope__ = Scope(tenant="tenant_id")
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    kind: Mapped[str] = mapped_column(sa.String(20))
    tenant_id: Mapped[str] = mapped_column(sa.String(40))
    name: Mapped[str | None] = sealed(str, row="id")


class Doctor(Person):
    __tablename__ = "doctors"
    __mapper_args__ = {"polymorphic_identity": "doctor"}  # noqa: RUF012
    id: Mapped[UUID] = mapped_column(sa.ForeignKey("people.id"), primary_key=True)
    license: Mapped[str | None] = sealed(str, row="id")


class Nurse(Person):
    __mapper_args__ = {"polymorphic_identity": "nurse"}  # noqa: RUF012
    ward: Mapped[str | None] = sealed(str, row="id", nullable=True)


notes = sa.Table(
    "notes",
    Base.metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("tenant_id", sa.String(40)),
    sa.Column("text", Sealed(str, scope=Scope(tenant="tenant_id"))),
)
