"""Every type comes back as it was, by every way into a table and out of it."""

from __future__ import annotations

import pickle
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import insert, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Bundle, Session, aliased, defer, load_only, selectinload, undefer

from sealwax import ModelError, Records
from sealwax.sqlalchemy import SealedValue
from tests.orm.models import Base, Doctor, Everything, Nurse, Person, Renamed, Tenant, User, notes, rows_of_everything

ROWS = rows_of_everything()


def add(session: Session) -> None:
    session.add_all([Everything(**row) for row in ROWS])


def orm_bulk(session: Session) -> None:
    session.execute(insert(Everything), ROWS)


def bulk_returning(session: Session) -> None:
    made = session.scalars(insert(Everything).returning(Everything), ROWS).all()
    check(made)


def in_values(session: Session) -> None:
    for row in ROWS[:2]:
        session.execute(insert(Everything).values(**row))
    session.execute(insert(Everything).values(ROWS[2:]))


def core(session: Session) -> None:
    session.connection().execute(insert(Everything.__table__), ROWS)  # type: ignore[arg-type]


def core_values(session: Session) -> None:
    for row in ROWS:
        session.connection().execute(insert(Everything.__table__).values(**row))  # type: ignore[arg-type]


def legacy_bulk(session: Session) -> None:
    session.bulk_insert_mappings(Everything.__mapper__, ROWS)


def legacy_objects(session: Session) -> None:
    session.bulk_save_objects([Everything(**row) for row in ROWS])


def merge(session: Session) -> None:
    for row in ROWS:
        session.merge(Everything(**row))


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other) and repr(one) == repr(other)


def check(made: Any) -> None:
    assert sorted(each.id for each in made) == [row["id"] for row in ROWS]
    for each in made:
        for name, value in ROWS[each.id].items():
            assert same(getattr(each, name), value), name


def updated(session: Session) -> None:
    session.execute(insert(Everything), [{"id": row["id"]} for row in ROWS])
    session.execute(sa.update(Everything), ROWS)


def upserted(session: Session) -> None:
    session.execute(insert(Everything), [{"id": row["id"], "bound_str": "old"} for row in ROWS])
    names = [name for name in ROWS[1] if name != "id"]
    dialect = session.get_bind().dialect.name
    made: Any = {"mysql": mysql, "postgresql": postgresql, "sqlite": sqlite}[dialect].insert(Everything)
    if dialect == "mysql":
        statement = made.on_duplicate_key_update({name: made.inserted[name] for name in names})
    else:
        new = {name: made.excluded[name] for name in names}
        statement = made.on_conflict_do_update(index_elements=["id"], set_=new)
    session.execute(statement, ROWS)


WAYS = (
    add,
    orm_bulk,
    bulk_returning,
    in_values,
    core,
    core_values,
    legacy_bulk,
    legacy_objects,
    merge,
    updated,
    upserted,
)


def test_every_type_comes_back(engine: sa.Engine) -> None:
    for write in WAYS:
        with Session(engine) as session:
            session.execute(sa.delete(Everything))
            write(session)
            session.commit()
        check_stored(engine)


def check_stored(engine: sa.Engine) -> None:
    with Session(engine) as session:
        check(session.scalars(select(Everything)).all())
        names = [name for name in ROWS[1] if name != "id"]
        columns = [getattr(Everything, name) for name in names]
        read = session.execute(select(Everything.id, *columns)).all()
        assert len(read) == len(ROWS)
        for row in read:
            assert all(same(value, ROWS[row[0]][name]) for name, value in zip(names, row[1:], strict=True))
    with engine.connect() as connection:
        table = sa.table("everything", *(sa.column(name) for name in ROWS[1]))
        for stored in connection.execute(select(table)).mappings():
            for name, value in ROWS[stored["id"]].items():
                assert name == "id" or (stored[name] is None if value is None else bytes(stored[name])[:1] == b"\xc1")
        for opened in connection.execute(select(Everything.__table__)).mappings():
            for name, value in ROWS[opened["id"]].items():
                if name.startswith("plain"):
                    assert same(opened[name], value)
                elif name.startswith("bound"):
                    assert opened[name] is None if value is None else isinstance(opened[name], SealedValue)


def user(session: Session, **more: Any) -> User:
    session.merge(Tenant(id="acme"))
    made = User(**{"tenant_id": "acme", "email": "ada@example.com", "card": b"4111", "notes": "VIP", **more})
    session.add(made)
    session.commit()
    return made


def test_ways_of_sessions(engine: sa.Engine, records: Records) -> None:
    with Session(engine) as session, records.scope(tenant="acme"):
        made = user(session)
        session.refresh(made)
        assert (made.email, made.card, made.notes) == ("ada@example.com", b"4111", "VIP")
        session.expire(made)
        assert made.email == "ada@example.com"
        session.expire(made, ["email"])
        assert made.email == "ada@example.com"
        again = pickle.loads(pickle.dumps(made))
        assert (again.email, again.notes) == ("ada@example.com", "VIP")
        session.expunge_all()
        again.email = "ada@example.org"
        merged = session.merge(again)
        session.commit()
        assert merged.email == "ada@example.org"
        session.expunge_all()
        for options in ([load_only(User.email)], [load_only(User.name)], [defer(User.email), undefer(User.card)]):
            found = session.scalars(select(User).options(*options)).one()
            assert (found.email, found.card) == ("ada@example.org", b"4111")
            session.expunge_all()
        alias = aliased(User)
        assert session.scalars(select(alias.email)).all() == ["ada@example.org"]
        assert session.execute(select(User.email.label("address"))).one().address == "ada@example.org"
        assert session.execute(select(User.email, User.card)).one() == ("ada@example.org", b"4111")
        assert session.query(User.email).all() == [("ada@example.org",)]
        assert session.scalars(select(User).where(User.email.is_not(None), User.card != None)).all()  # noqa: E711
        assert session.scalars(select(User.email).where(User.email == None)).all() == []  # noqa: E711
        assert session.scalar(select(sa.func.count(User.email))) == 1
        one_by_one = session.scalars(select(User).execution_options(yield_per=1))
        assert [each.email for each in one_by_one] == ["ada@example.org"]
        assert session.query(User).order_by(User.name).with_for_update().one().email == "ada@example.org"
        assert session.get_one(User, made.id, populate_existing=True).email == "ada@example.org"
        joined = select(Tenant.id, User.email).outerjoin(User, User.name == "nobody")
        assert session.execute(joined).one() == ("acme", None)
        assert session.execute(select(Bundle("b", User.email, User.tenant_id))).one().b == ("ada@example.org", "acme")
        by_text = select(User).from_statement(sa.text("SELECT * FROM users"))
        assert session.scalars(by_text).one().email == "ada@example.org"
        found = session.scalars(select(User).options(selectinload(User.tenant))).one()
        found.email = None
        session.commit()
        assert session.scalars(select(User.email)).all() == [None]


def test_a_tenant_and_a_key_that_the_flush_finds_out(engine: sa.Engine, records: Records) -> None:
    with Session(engine) as session, records.scope(tenant="globex"):
        session.add(User(tenant=Tenant(id="globex"), email="bob@example.com", notes="n"))
        session.commit()
        found = session.scalars(select(User)).one()
        assert (found.email, found.notes, found.tenant_id) == ("bob@example.com", "n", "globex")


def test_inheritance(engine: sa.Engine, records: Records) -> None:
    with Session(engine) as session:
        session.add_all(
            [
                Person(tenant_id="acme", name="Ada"),
                Doctor(tenant_id="acme", name="Bob", license="MD-1"),
                Nurse(tenant_id="globex", name="Eve", ward="7b"),
            ]
        )
        session.commit()
        session.expunge_all()
        found = session.scalars(select(Person).order_by(Person.kind)).all()
        assert [each.name for each in found] == ["Bob", "Eve", "Ada"]
        assert isinstance(found[0], Doctor)
        assert isinstance(found[1], Nurse)
        assert (found[0].license, found[1].ward) == ("MD-1", "7b")
        session.expunge_all()
        assert session.scalars(select(Doctor.license)).all() == ["MD-1"]
        assert session.scalars(select(Doctor.name)).all() == ["Bob"]
        assert session.scalars(select(Nurse.ward)).all() == ["7b"]
        doctor = session.scalars(select(Doctor)).one()
        doctor.tenant_id = "globex"
        session.commit()
        session.expunge_all()
        doctor = session.scalars(select(Doctor)).one()
        assert (doctor.name, doctor.license) == ("Bob", "MD-1")
    assert {dict(row.scope)["tenant"] for row in records.rows()} == {"acme", "globex"}


def test_core_with_returning(engine: sa.Engine, records: Records) -> None:
    with engine.begin() as connection, records.scope(tenant="acme"):
        connection.execute(insert(notes), [{"id": n, "tenant_id": "acme", "text": f"note {n}"} for n in range(3)])
        assert connection.scalars(select(notes.c.text)).all() == ["note 0", "note 1", "note 2"]
        connection.execute(sa.update(notes).where(notes.c.id == 1).values(text="new"))
        connection.execute(sa.update(notes).where(notes.c.id == sa.bindparam("k")), [{"k": 2, "text": "newer"}])
        assert connection.scalars(select(notes.c.text).order_by(notes.c.id)).all() == ["note 0", "new", "newer"]
        if engine.dialect.name != "mysql":
            statement = insert(notes).returning(notes.c.text)
            assert connection.execute(statement, {"id": 9, "tenant_id": "acme", "text": "x"}).scalar() == "x"


def test_upserts(engine: sa.Engine, records: Records) -> None:
    key = uuid4()
    values = {"id": key, "tenant_id": "acme", "email": "new@example.com", "notes": "new"}
    with Session(engine) as session, records.scope(tenant="acme"):
        user(session, id=key)
        if engine.dialect.name == "mysql":
            with pytest.raises(ModelError, match="another 'id'"):  # noqa: PT012  # any unique key may meet
                into = mysql.insert(User)
                session.execute(into.on_duplicate_key_update(email=into.inserted.email), [values])
            return
        upsert = (sqlite if engine.dialect.name == "sqlite" else postgresql).insert(User)
        upsert = upsert.on_conflict_do_update(
            index_elements=["id"],
            set_={name: upsert.excluded[name] for name in ("tenant_id", "email", "notes")} | {"card": sa.null()},
        )
        session.execute(upsert, [values])
        session.commit()
        found = session.scalars(select(User)).one()
        assert (found.email, found.notes, found.card) == ("new@example.com", "new", None)


def test_two_phases(mariadb: str, records: Records) -> None:
    engine = sa.create_engine(mariadb)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine, twophase=True) as session, records.scope(tenant="acme"):
        made = user(session)
        made.tenant = Tenant(id="globex")
        made.notes = None
        session.prepare()
        session.commit()
        session.expunge_all()
        assert session.scalars(select(User)).one().email == "ada@example.com"
    engine.dispose()


def test_metadata_is_shared_by_all(engine: sa.Engine) -> None:
    assert set(sa.inspect(engine).get_table_names()) >= set(Base.metadata.tables)


def test_an_attribute_of_another_name_than_its_column(engine: sa.Engine) -> None:
    with Session(engine) as session:
        session.add(Renamed(id=1, mail="ADA"))
        session.flush()
        session.execute(insert(Renamed).values(id=2, mail="b"))
        session.execute(insert(Renamed), [{"id": 3, "mail": "c"}])
        session.execute(insert(Renamed).values({Renamed.id: 4, Renamed.mail: "d"}))
        session.execute(insert(Renamed).values([{"id": 5, "mail": "e"}]))
        assert session.scalars(select(Renamed.mail).order_by(Renamed.id)).all() == ["ada", "b", "c", "d", "e"]
