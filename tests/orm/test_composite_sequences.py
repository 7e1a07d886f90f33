"""Random changes of rows with a key of two columns, of which one is the tenant: every value comes back as set."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import insert, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, make_transient, mapped_column

from sealwax import Records
from sealwax.errors import ContextError, ModelError
from sealwax.records import MemoryKeys
from sealwax.sqlalchemy import Scope, Sealed, sealed, use_records
from tests.fakes import FakeKeyring

TENANTS = (1, 2)
Key = tuple[int, int]


class Base(DeclarativeBase):
    pass


class Booking(Base):
    __tablename__ = "bookings"
    __sealed_scope__ = Scope(tenant="tenant")
    tenant: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    guest: Mapped[str | None] = sealed(str, row=("tenant", "number"))
    card: Mapped[bytes | None] = sealed(bytes, row=("number", "tenant"), deferred=True)
    remark: Mapped[str | None] = mapped_column(Sealed(str))


class Hotel:
    """A session, and what the database has to hold."""

    def __init__(self, session: Session, records: Records, seed: int) -> None:
        self.session, self.records, self.random = session, records, random.Random(seed)
        self.held: dict[Key, dict[str, Any]] = {}
        self.counter = 0

    def new(self, tenant: int) -> tuple[Key, dict[str, Any]]:
        self.counter += 1
        return (tenant, self.counter), self.values()

    def values(self) -> dict[str, Any]:
        self.counter += 1
        guest = self.random.choice([f"guest {self.counter}", "", None])
        return {"guest": guest, "card": f"{self.counter}".encode(), "remark": guest}

    def of(self, tenant: int) -> Booking:
        return self.session.get_one(Booking, self.random.choice([key for key in self.held if key[0] == tenant]))

    # --- what may happen, to rows of one tenant, within its scope

    def add(self, tenant: int) -> None:
        key, values = self.new(tenant)
        self.session.add(Booking(tenant=key[0], number=key[1], **values))
        self.held[key] = values

    def bulk(self, tenant: int) -> None:
        made = dict(self.new(tenant) for _ in range(3))
        self.session.execute(insert(Booking), [{"tenant": t, "number": n, **v} for (t, n), v in made.items()])
        self.held.update(made)

    def change(self, tenant: int) -> None:
        booking, value = self.of(tenant), f"changed {self.counter}"
        booking.guest = value
        self.held[booking.tenant, booking.number]["guest"] = value

    def renumber(self, tenant: int) -> None:
        booking = self.of(tenant)
        self.counter += 1
        self.held[tenant, self.counter] = self.held.pop((tenant, booking.number))
        booking.number = self.counter

    def move(self, tenant: int) -> None:
        old = self.random.choice(list(self.held))
        with self.records.scope(tenant=str(old[0])):
            other = self.session.get_one(Booking, old)
            _ = other.remark, self.random.random() < 0.5 and other.card
        old = (other.tenant, other.number)
        self.counter += 1
        self.held[tenant, self.counter] = self.held.pop(old)
        other.tenant, other.number = tenant, self.counter

    def savepoint(self, tenant: int) -> None:
        booking = self.of(tenant)
        self.session.flush()
        with self.session.begin_nested() as savepoint:
            booking.number = 1_000_000
            booking.guest = "rolled back"
            self.session.flush()
            savepoint.rollback()
        if self.random.random() < 0.5:
            booking.guest = self.held[booking.tenant, booking.number]["guest"] = "after the savepoint"

    def update(self, tenant: int) -> None:
        booking, values = self.of(tenant), self.values()
        self.session.flush()
        key = (booking.tenant, booking.number)
        statement = update(Booking).where(Booking.tenant == key[0], Booking.number == key[1])
        self.session.execute(statement.values(guest=values["guest"], remark=values["remark"]))
        self.held[key].update(guest=values["guest"], remark=values["remark"])

    def move_by_update(self, tenant: int) -> None:
        booking, (key, values) = self.of(tenant), self.new(tenant)
        self.session.flush()
        old = (booking.tenant, booking.number)
        self.session.expunge(booking)
        where = (Booking.tenant == old[0], Booking.number == old[1])
        self.session.execute(update(Booking).where(*where).values(number=key[1], **values))
        del self.held[old]
        self.held[key] = values

    def bulk_update(self, tenant: int) -> None:
        booking, values = self.of(tenant), self.values()
        self.session.flush()
        key = (booking.tenant, booking.number)
        self.session.execute(update(Booking), [{"tenant": key[0], "number": key[1], **values}])
        self.held[key] = values

    def partial_update_of_the_key(self, tenant: int) -> None:
        booking = self.of(tenant)
        self.session.flush()
        self.session.execute(update(Booking).where(Booking.number == booking.number).values(number=5_000_000))
        raise AssertionError("it is not refused")

    def upsert(self, tenant: int) -> None:
        booking, values = self.of(tenant), self.values()
        self.session.flush()
        dialect = self.session.get_bind().dialect.name
        made: Any = {"mysql": mysql, "postgresql": postgresql, "sqlite": sqlite}[dialect].insert(Booking)
        if dialect == "mysql":
            statement = made.on_duplicate_key_update({name: made.inserted[name] for name in values})
        else:
            new = {name: made.excluded[name] for name in values}
            statement = made.on_conflict_do_update(index_elements=["tenant", "number"], set_=new)
        self.session.execute(statement, [{"tenant": tenant, "number": booking.number, **values}])
        self.held[tenant, booking.number] = values

    def merge(self, tenant: int) -> None:
        booking = self.of(tenant)
        _ = (booking.guest, booking.card, booking.remark)
        self.session.flush()
        old = (tenant, booking.number)
        detached = pickle.loads(pickle.dumps(booking))
        self.session.expunge(booking)
        if self.random.random() < 0.5:
            make_transient(detached)
            self.counter += 1
            detached.number = self.counter
            self.held[tenant, self.counter] = dict(self.held[old])
        detached.guest = self.held[tenant, detached.number]["guest"] = f"merged {self.counter}"
        self.session.merge(detached)

    def expire(self, tenant: int) -> None:
        booking = self.of(tenant)
        self.session.flush()
        self.session.expire(booking, self.random.choice([None, ["guest"], ["number"], ["card", "tenant"]]))

    def delete(self, tenant: int) -> None:
        booking = self.of(tenant)
        self.session.delete(booking)
        del self.held[tenant, booking.number]

    def step(self, moves: list[Callable[[int], None]]) -> tuple[str, bool]:
        tenant = self.random.choice(TENANTS)
        few = sum(key[0] == tenant for key in self.held) < 3
        move = self.add if few else self.random.choice(moves)
        before = copy.deepcopy(self.held)
        with self.records.scope(tenant=str(tenant)):
            try:
                move(tenant)
                self.session.commit()
            except (ModelError, ContextError):
                self.session.rollback()
                self.session.expunge_all()
                self.held = before
                return move.__name__, True
        if self.random.random() < 0.5:
            self.session.expunge_all()
        return move.__name__, False

    def check(self, after: str) -> None:
        with Session(self.session.get_bind()) as session:
            keys = [tuple(key) for key in session.execute(select(Booking.tenant, Booking.number))]
            assert set(keys) == self.held.keys(), after
            for tenant in TENANTS:
                with self.records.scope(tenant=str(tenant)):
                    for each in session.scalars(select(Booking).where(Booking.tenant == tenant)):
                        held = self.held[tenant, each.number]
                        assert {name: getattr(each, name) for name in held} == held, after


def test_random_sequences(database: str) -> None:
    engine = sa.create_engine(database)
    outcomes: dict[str, set[bool]] = {}
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "hotel"}) as records:
        use_records(Base.metadata, records)
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        with Session(engine, autoflush=False) as session:
            hotel = Hotel(session, records, 2)
            moves = [value for name, value in vars(Hotel).items() if name in MOVES]
            for _ in range(90):
                name, refused = hotel.step([move.__get__(hotel) for move in moves])
                outcomes.setdefault(name, set()).add(refused)
                hotel.check(name)
        Base.metadata.drop_all(engine)
    engine.dispose()
    assert outcomes.keys() == MOVES
    assert outcomes.pop("partial_update_of_the_key") == {True}
    assert not [name for name, refused in outcomes.items() if refused != {False}]


MOVES = {
    "add",
    "bulk",
    "change",
    "renumber",
    "move",
    "savepoint",
    "update",
    "move_by_update",
    "bulk_update",
    "partial_update_of_the_key",
    "upsert",
    "merge",
    "expire",
    "delete",
}
