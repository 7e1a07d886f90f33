"""Mapped classes of every kind: what they seal comes back, also after the row has changed."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import event, func, insert, select
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    column_property,
    declared_attr,
    foreign,
    joinedload,
    mapped_column,
    registry,
    relationship,
    synonym,
    validates,
)

from sealwax import Records
from sealwax.errors import ContextError, ModelError, RecordTamperedError
from sealwax.records import MemoryKeys
from sealwax.sqlalchemy import Scope, Sealed, sealed, use_records
from tests.fakes import FakeKeyring


@pytest.fixture
def own() -> Iterator[Records]:
    """Apart from those of the other models, whose metadata has one Records."""
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "classes"}) as made:
        yield made


def opened(metadata: sa.MetaData, records: Records, database: str = "sqlite://") -> Session:
    use_records(metadata, records)
    engine = sa.create_engine(database)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return Session(engine)


def again(session: Session, entity: Any) -> Any:
    session.commit()
    session.expunge_all()
    return session.scalars(select(entity)).one()


def key() -> Any:
    return mapped_column(sa.Uuid, primary_key=True, default=uuid4)


def test_hybrids_synonyms_and_column_properties(own: Records) -> None:
    class Base(DeclarativeBase):
        pass

    class Shop(Base):
        __tablename__ = "shops"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Client(Base):
        __tablename__ = "clients"
        id: Mapped[UUID] = key()
        shop_id: Mapped[int | None] = mapped_column(sa.ForeignKey("shops.id"))
        email: Mapped[str | None] = sealed(str, row="id")
        notes: Mapped[str | None] = mapped_column(Sealed(str))
        mail = synonym("email")

        @hybrid_property
        def address(self) -> str | None:
            return self.email

        @hybrid_property
        def loud(self) -> str | None:
            return self.email.upper() if self.email else None

        @loud.inplace.expression
        @classmethod
        def _loud(cls) -> Any:
            return func.upper(cls.email)

    Client.no_mail = column_property(Client.__table__.c.email.is_(None))
    Shop.last = column_property(select(Client.notes).where(Client.shop_id == Shop.id).limit(1).scalar_subquery())
    with opened(Base.metadata, own) as session:
        session.add_all([Shop(id=1), Client(email="ada@example.com", notes="n", shop_id=1)])
        client: Any = again(session, Client)
        assert (client.address, client.loud, client.mail, client.no_mail) == (
            "ada@example.com",
            "ADA@EXAMPLE.COM",
            "ada@example.com",
            False,
        )
        shop: Any = session.scalars(select(Shop)).one()
        assert shop.last == "n"
        assert session.execute(select(Client.address, Client.mail)).one() == ("ada@example.com", "ada@example.com")
        client.mail = "new@example.com"
        assert again(session, Client).email == "new@example.com"
        ordered = (select(Client).order_by(Client.address), select(Client).order_by(Client.mail))
        for statement in (select(Client.loud), *ordered):
            with pytest.raises(ModelError, match="which is sealed"):
                session.execute(statement)


def test_concrete_inheritance(own: Records) -> None:
    class Base(DeclarativeBase):
        pass

    class Staff(ConcreteBase, Base):
        __tablename__ = "staff"
        __mapper_args__ = {"polymorphic_identity": "staff", "concrete": True}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        name: Mapped[str] = sealed(str, row="id")
        notes: Mapped[str] = mapped_column(Sealed(str, field="staff.notes"))

    class Manager(Staff):
        __tablename__ = "managers"
        __mapper_args__ = {"polymorphic_identity": "manager", "concrete": True}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        name: Mapped[str] = sealed(str, row="id")
        notes: Mapped[str] = mapped_column(Sealed(str, field="staff.notes"))

    with opened(Base.metadata, own) as session:
        session.add_all([Staff(id=1, name="a", notes="x"), Manager(id=2, name="b", notes="y")])
        session.commit()
        session.expunge_all()
        found = session.scalars(select(Staff).order_by(Staff.id)).all()
        assert [(type(each), each.name, each.notes) for each in found] == [(Staff, "a", "x"), (Manager, "b", "y")]


def test_fields_of_several_names_in_one_polymorphic_union_are_refused(own: Records) -> None:
    class Base(DeclarativeBase):
        pass

    class Staff(ConcreteBase, Base):
        __tablename__ = "staff"
        __mapper_args__ = {"polymorphic_identity": "staff", "concrete": True}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True)
        notes: Mapped[str] = mapped_column(Sealed(str))

    class Manager(Staff):
        __tablename__ = "managers"
        __mapper_args__ = {"polymorphic_identity": "manager", "concrete": True}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True)
        notes: Mapped[str] = mapped_column(Sealed(str))

    with opened(Base.metadata, own) as session, pytest.raises(ModelError, match="the same name of a field"):
        session.scalars(select(Staff)).all()


def test_mixins_abstract_bases_and_attributes_that_are_added_later(own: Records) -> None:
    class Base(DeclarativeBase):
        pass

    class Contact:
        __sealed_scope__ = Scope(tenant="tenant_id")
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        tenant_id: Mapped[str]
        email: Mapped[str | None] = sealed(str, row="id")

        @declared_attr
        def phone(cls) -> Mapped[str | None]:  # noqa: N805
            return sealed(str, row="id")

        @declared_attr
        def notes(cls) -> Mapped[str | None]:  # noqa: N805
            return mapped_column(Sealed(str))

    class Numbered(Base):
        __abstract__ = True
        number: Mapped[int | None] = sealed(int, row="id")

    class Client(Contact, Numbered):
        __tablename__ = "clients"

    class Supplier(Contact, Numbered):
        __tablename__ = "suppliers"

    Supplier.iban = sealed(str, row="id", nullable=True)
    Supplier.remark = mapped_column(Sealed(str))
    with opened(Base.metadata, own) as session, own.scope(tenant="acme"):
        values = {"email": "e", "phone": "p", "notes": "n", "number": 5}
        session.add(Client(tenant_id="acme", **values))
        session.add(Supplier(tenant_id="acme", iban="i", remark="r", **values))
        for entity in (Client, Supplier):
            each: Any = again(session, entity)
            assert {name: getattr(each, name) for name in values} == values
        client, supplier = session.scalars(select(Client)).one(), each
        assert (supplier.iban, supplier.remark) == ("i", "r")
        assert session.scalars(select(supplier.__class__.iban)).all() == ["i"]
        records = session.connection().exec_driver_sql("SELECT email, iban, remark FROM suppliers").one()
        assert all(bytes(record)[:1] == b"\xc1" for record in records)
        for table, attribute in (("clients", "email"), ("suppliers", "email")):
            session.connection().exec_driver_sql(f"UPDATE {table} SET {attribute} = phone")
        session.expire_all()
        with pytest.raises(RecordTamperedError):
            _ = client.email


def test_dataclasses_and_defaults(own: Records) -> None:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    class Client(Base):
        __tablename__ = "clients"
        id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid4, init=False)
        email: Mapped[str | None] = sealed(str, row="id", repr=False, default="nobody@example.com")
        code: Mapped[str | None] = sealed(str, row="id", repr=False, init=False, insert_default=lambda: "made")
        notes: Mapped[str | None] = mapped_column(Sealed(str), default="none", repr=False)

    with opened(Base.metadata, own) as session:
        session.add(Client())
        client = again(session, Client)
        assert (client.email, client.code, client.notes) == ("nobody@example.com", "made", "none")
        assert "nobody" not in repr(client)

    class Plain(DeclarativeBase):
        pass

    class Order(Plain):
        __tablename__ = "orders"
        id: Mapped[UUID] = key()
        email: Mapped[str] = sealed(str, row="id", default="d")
        code: Mapped[str] = sealed(str, row="id", default=lambda: "made")
        state: Mapped[str] = mapped_column(Sealed(str), default="new", onupdate="changed")
        name: Mapped[str | None]

    with opened(Plain.metadata, own) as session:
        session.add(Order(name="a"))
        session.execute(insert(Order), [{"name": "b"}, {"name": "c"}])
        session.execute(insert(Order).values(name="d"))
        session.connection().execute(insert(Order.__table__), {"name": "e"})  # type: ignore[arg-type]
        session.flush()
        found = session.execute(select(Order.email, Order.code, Order.state)).all()
        assert found == [("d", "made", "new")] * 5
        session.execute(sa.update(Order).values(name="x"))
        assert set(session.scalars(select(Order.state)).all()) == {"changed"}


def test_a_default_in_the_table_of_a_subclass(own: Records) -> None:
    class Base(DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "people"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012
        __sealed_scope__ = Scope(tenant="tenant_id")
        id: Mapped[UUID] = key()
        kind: Mapped[str]
        tenant_id: Mapped[str]

    class Doctor(Person):
        __tablename__ = "doctors"
        __mapper_args__ = {"polymorphic_identity": "doctor"}  # noqa: RUF012
        id: Mapped[UUID] = mapped_column(sa.ForeignKey("people.id"), primary_key=True)
        license: Mapped[str] = sealed(str, row="id", default="none yet")

    with opened(Base.metadata, own) as session:
        session.add(Doctor(tenant_id="acme"))
        assert again(session, Doctor).license == "none yet"


def test_composite_keys_that_cascade_and_versions(database: str, own: Records) -> None:
    class Base(DeclarativeBase):
        pass

    class Album(Base):
        __tablename__ = "albums"
        shop: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        code: Mapped[str] = mapped_column(sa.String(10), primary_key=True)
        version: Mapped[int] = mapped_column()
        secret: Mapped[str | None] = sealed(str, row=["shop", "code"])
        songs: Mapped[list[Song]] = relationship(
            back_populates="album", passive_updates=False, order_by="Song.number", primaryjoin=lambda: on
        )
        __mapper_args__ = {"version_id_col": version}  # noqa: RUF012

    class Song(Base):
        __tablename__ = "songs"
        shop: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        code: Mapped[str] = mapped_column(sa.String(10), primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        secret: Mapped[str | None] = sealed(str, row=["shop", "code", "number"])
        album: Mapped[Album] = relationship(back_populates="songs", primaryjoin=lambda: on)

    # Without a constraint, which would have to be deferred.
    on = sa.and_(foreign(Song.shop) == Album.shop, foreign(Song.code) == Album.code)
    globals().update(Album=Album, Song=Song)  # for the annotations
    with opened(Base.metadata, own, database) as session:
        songs = [Song(number=n, secret=f"song {n}") for n in (1, 2)]
        session.add(Album(shop=1, code="x", secret="album", songs=songs))
        for change in ({"code": "y"}, {"shop": 2}, {"shop": 3, "code": "z", "secret": "new"}):
            album = again(session, Album)
            for name, value in change.items():
                setattr(album, name, value)
        album = again(session, Album)
        assert (album.shop, album.code, album.secret, album.version) == (3, "z", "new", 4)
        assert [song.secret for song in album.songs] == ["song 1", "song 2"]
        album.songs[0].number = 9
        session.commit()
        session.expunge_all()
        loaded = session.scalars(select(Album).options(joinedload(Album.songs))).unique().one()
        assert [(song.number, song.secret) for song in loaded.songs] == [(2, "song 2"), (9, "song 1")]
        joined = session.execute(select(Album.secret, Song.secret).join(Song.album).order_by(Song.number)).all()
        assert joined == [("new", "song 2"), ("new", "song 1")]
        savepoint = session.begin_nested()
        loaded.code = "back"
        loaded.secret = "rolled back"
        session.flush()
        savepoint.rollback()
        assert (loaded.code, loaded.secret) == ("z", "new")
        session.commit()
        assert session.scalars(select(Album)).one().secret == "new"
        Base.metadata.drop_all(session.connection())
        session.commit()
    session.get_bind().dispose()  # type: ignore[union-attr]


def test_columns_in_another_form_than_that_of_the_database(database: str, own: Records) -> None:
    class Kind(str, enum.Enum):  # noqa: UP042  # str() of it is "Kind.ACME"
        ACME = "acme"

    class Base(DeclarativeBase):
        pass

    class Client(Base):
        __tablename__ = "clients"
        __sealed_scope__ = Scope(tenant="tenant_id", kind="kind")
        id: Mapped[str] = mapped_column(sa.Uuid(as_uuid=False), primary_key=True)
        tenant_id: Mapped[int]
        kind: Mapped[str] = mapped_column(sa.String(20))
        email: Mapped[str | None] = sealed(str, row="id")

    with opened(Base.metadata, own, database) as session:
        given = str(uuid4())
        session.add(Client(id=given.upper(), tenant_id=5, kind="k", email="a"))
        client = again(session, Client)
        assert (client.id, client.email) == (given, "a")
        session.execute(insert(Client), [{"id": str(uuid4()).upper(), "tenant_id": 5, "kind": "k", "email": "b"}])
        assert {each.email for each in session.scalars(select(Client))} == {"a", "b"}
        session.rollback()
        # "05" would come back as 5, and the text of an Enum is not what the database has.
        for values, error in (({"tenant_id": "05"}, TypeError), ({"kind": Kind.ACME}, ContextError)):
            session.add(Client(**{"id": str(uuid4()), "tenant_id": 5, "kind": "k", "email": "x", **values}))
            with pytest.raises(error):
                session.flush()
            session.rollback()
        Base.metadata.drop_all(session.connection())
        session.commit()
    session.get_bind().dispose()  # type: ignore[union-attr]


def test_events_and_validators_of_the_program(own: Records) -> None:
    class Base(DeclarativeBase):
        pass

    class Client(Base):
        __tablename__ = "clients"
        id: Mapped[UUID] = key()
        email: Mapped[str] = sealed(str, row="id")
        notes: Mapped[str | None] = mapped_column(Sealed(str))

        @validates("email", "notes")
        def lower(self, name: str, value: str) -> str:  # noqa: ARG002
            return value.lower()

    seen: list[str] = []

    @event.listens_for(Client, "before_insert")
    @event.listens_for(Client, "before_update")
    def before(mapper: Any, connection: Any, target: Client) -> None:  # noqa: ARG001
        seen.append(target.email)
        target.email += "!"
        if not seen[1:]:
            target.id = uuid4()

    @event.listens_for(Client, "load")
    def load(target: Client, context: Any) -> None:  # noqa: ARG001
        seen.append(target.email)

    with opened(Base.metadata, own) as session:
        session.add(Client(email="ADA", notes="N"))
        client = again(session, Client)
        client.notes = "M"
        client = again(session, Client)
        assert (client.email, client.notes) == ("ada!!", "m")
    assert seen == ["ada", "ada!", "ada!", "ada!!"]


def test_imperative_mappings(own: Records) -> None:
    mapped = registry()

    class Note:
        id: UUID
        text: str

    columns: Any = (sa.Column("id", sa.Uuid, primary_key=True), sa.Column("text", Sealed(str)))
    table = sa.Table("notes", mapped.metadata, *columns)
    mapped.map_imperatively(Note, table)
    with opened(mapped.metadata, own) as session:
        note = Note()
        note.id, note.text = uuid4(), "x"
        session.add(note)
        assert again(session, Note).text == "x"
