"""No plaintext is printed: not by an error of any kind, the echo, a log, a warning or a repr."""

from __future__ import annotations

import io
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column

from sealwax import Records
from sealwax.errors import KeyStoreError, SealwaxError, UnreadableValueError
from sealwax.records import MemoryKeys
from sealwax.sqlalchemy import IndexOf, Sealed, sealed, use_records
from tests.fakes import FakeKeyring
from tests.orm.models import Base, Tenant, User, notes

SECRET = "4111-secret-1111"


class Broken(MemoryKeys):
    """A store that fails once broken."""

    broken = False

    def newest(self, scope: Any, kind: Any) -> Any:
        self.check_broken()
        return super().newest(scope, kind)

    def get_many(self, scope: Any, key_ids: Any = None) -> Any:
        self.check_broken()
        return super().get_many(scope, key_ids)

    def check_broken(self) -> None:
        if self.broken:
            raise KeyStoreError("the store is away")


def of_tenant(**more: Any) -> dict[str, Any]:
    return {"id": uuid4(), "tenant_id": "acme", "email": SECRET, "notes": SECRET, "card": SECRET.encode(), **more}


def flush(session: Session, *users: User) -> None:
    session.add_all(users)
    session.flush()


def note(**values: Any) -> list[dict[str, Any]]:
    return [{"id": 1, "tenant_id": "acme", "text": SECRET, **values}]


USERS: Any = User.__table__
# Each fails; those of a store that is away are run when it is.
FAILURES: dict[str, Callable[[Session], Any]] = {
    "unique": lambda s: flush(s, User(**of_tenant(name="a")), User(**of_tenant(name="a"))),
    "not null": lambda s: s.execute(insert(USERS), of_tenant(tenant_id=None)),
    "foreign key of another type": lambda s: s.execute(insert(User), [of_tenant(id="no uuid")]),
    "bind of another column": lambda s: s.execute(insert(notes), note(id=object())),
    "bind of another column, core": lambda s: s.connection().execute(
        insert(USERS), [of_tenant(), of_tenant(id="no uuid")]
    ),
    "bind of another column, values": lambda s: s.execute(insert(User).values(**of_tenant(id="no uuid"))),
    "bind of another column, rows": lambda s: s.execute(insert(User).values([of_tenant(), of_tenant(id="no uuid")])),
    "missing parameter": lambda s: s.execute(
        insert(notes), [{"id": 1, "text": SECRET, "tenant_id": "acme"}, {"id": 2, "tenant_id": "acme"}]
    ),
    "another type": lambda s: s.execute(insert(notes), [{"id": 1, "text": [SECRET], "tenant_id": "acme"}]),
    "another type of a row": lambda s: s.execute(insert(User), [of_tenant(email=[SECRET])]),
    "flush of another type": lambda s: flush(s, User(**of_tenant(notes=[SECRET]))),
    "flush without a scope": lambda s: flush(s, User(**of_tenant(tenant_id=None))),
    "surrogate": lambda s: flush(s, User(**of_tenant(email=SECRET + "\ud800"))),
    "surrogate of a type": lambda s: s.execute(insert(notes), note(text=SECRET + "\ud800")),
    "comparison": lambda s: s.execute(select(User).where(User.email == SECRET)),
    "reversed comparison": lambda s: s.execute(select(notes).where(sa.literal(SECRET) == notes.c.text)),
    "update": lambda s: s.execute(update(User).values(email=SECRET)),
    "update of parameters": lambda s: s.execute(
        update(USERS).where(USERS.c.id == sa.bindparam("k")), [{"k": 1, "email": SECRET}]
    ),
    "literals": lambda s: (
        str(insert(notes).values(id=1, text=SECRET).compile(s.get_bind(), compile_kwargs={"literal_binds": True}))
        + fail()
    ),
    "literals of a row": lambda s: (
        str(insert(USERS).values(email=SECRET).compile(s.get_bind(), compile_kwargs={"literal_binds": True})) + fail()
    ),
    "pickle": lambda _: pickle.dumps(User(**of_tenant())),
}


def fail() -> str:
    raise ZeroDivisionError


def printed(session: Session, fails: Callable[[Session], Any], name: str = "") -> str:
    """Return all that a failure prints, and what is around it then."""
    try:
        fails(session)
    except Exception as error:
        failed = error
    else:
        pytest.fail(f"'{name}' does not fail")
    text = "".join(traceback.format_exception(failed)) + repr(failed) + str(failed.__dict__)
    text += "".join(shown for file, name, shown in frames_of(failed) if "/sealwax/" in file and name not in GIVEN)
    cause: BaseException | None = failed
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        text += repr(getattr(cause, "params", "")) + repr(cause.args)
        cause = cause.__cause__ or cause.__context__
    text += "".join(repr(each) + repr(sa.inspect(each).attrs.email.history) for each in session.new)
    session.rollback()
    # The lines of this file and of SQLAlchemy that a traceback quotes have names, and not values.
    return text


# They get what a program hands to SQLAlchemy, which has it in its own variables.
GIVEN = ("wrap", "checked", "operate", "reverse_operate")


def frames_of(error: BaseException) -> Iterator[tuple[str, str, str]]:
    """Yield file, name and local variables of each function that an error passed, as reports of errors show them."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        for frame, _ in traceback.walk_tb(cause.__traceback__):
            yield frame.f_code.co_filename, frame.f_code.co_name, repr(frame.f_locals)
        cause = cause.__cause__ or cause.__context__


@pytest.fixture
def log() -> Any:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.filterwarnings("ignore")
def test_a_run_in_which_everything_fails_once(log: io.StringIO, capfd: pytest.CaptureFixture[str]) -> None:
    store = Broken()
    engine = sa.create_engine("sqlite://", echo="debug", logging_name="shop")
    everything = ""
    with Records(FakeKeyring(), store, scope={"app": "shop"}) as records, records.scope(tenant="acme"):
        use_records(Base.metadata, records)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Tenant(id="acme"))
            session.add(User(**of_tenant(name="there")))
            session.execute(insert(notes), [{"id": 77, "tenant_id": "acme", "text": SECRET}])
            session.commit()
            for name, fails in FAILURES.items():
                everything += printed(session, fails, name)
            store.broken = True
            with records.scope(tenant="globex"):
                for fails in (
                    lambda s: flush(s, User(**of_tenant(tenant_id="globex"))),
                    lambda s: s.execute(insert(notes), [{"id": 5, "tenant_id": "globex", "text": SECRET}]),
                    lambda s: s.scalars(select(notes.c.text)).all(),
                    lambda s: s.scalars(select(User.notes)).all() and fail(),
                ):
                    everything += printed(session, fails)
            store.broken = False
            assert session.scalars(select(notes.c.text)).all() == [SECRET]
            found = session.scalars(select(User)).all()
            assert found
            everything += repr([each.__dict__ for each in found])
            session.connection().exec_driver_sql("DROP TABLE users")
            everything += printed(session, lambda s: flush(s, User(**of_tenant())))
    engine.dispose()
    out = capfd.readouterr()
    everything += log.getvalue() + out.out + out.err
    assert "INSERT INTO users" in everything
    # What a column of type Sealed has on an instance is its value, and only a repr of the program's own shows it.
    everything = everything.replace(f"'notes': '{SECRET}'", "")
    lines = [line for line in everything.splitlines() if SECRET in line]
    assert not lines, lines[:5]


ROWS: dict[str, Callable[[], Any]] = {
    "entities": lambda: select(User),
    "columns": lambda: select(User.notes, User.email),
    "subquery": lambda: select(select(User.notes).subquery().c.notes),
    "union": lambda: sa.union_all(select(User.notes), select(User.notes)),
    "joined": lambda: select(User).options(joinedload(User.tenant)),
    "text": lambda: select(User).from_statement(sa.text("SELECT * FROM users")),
    "returning": lambda: insert(User).values(**of_tenant(name="b")).returning(User.notes, User.email),
    "returning of several": lambda: insert(User).returning(User.notes, User.email),
    "core, of several": lambda: insert(USERS).returning(USERS.c.notes),
    "update": lambda: update(User).values(name=User.name).returning(User.notes),
    "scalar": lambda: select(Tenant.id, select(User.notes).limit(1).scalar_subquery()),
}


BULK = {name: [of_tenant(), of_tenant()] for name in ("returning of several", "core, of several")}


def test_rows_with_opened_values_are_not_logged(log: io.StringIO) -> None:
    engine = sa.create_engine("sqlite://", echo="debug", logging_name="shop")
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as records, records.scope(tenant="acme"):
        use_records(Base.metadata, records)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Tenant(id="acme"))
            session.add(User(**of_tenant(name="a")))
            session.commit()
            for name, statement in ROWS.items():
                found = session.execute(statement(), BULK.get(name)).all()
                values = [value.notes if isinstance(value, User) else value for value in found[0]]
                assert SECRET in values, name
            assert log.getvalue().count("Rows are not logged: sealed columns are opened in them") == len(ROWS)
            assert SECRET not in log.getvalue()
            # The others are, and so are the statements.
            session.execute(select(Tenant.id)).all()
            session.execute(insert(notes), note())
            assert "Row ('acme',)" in log.getvalue()
            assert "INSERT INTO notes" in log.getvalue()
    engine.dispose()


def test_a_value_of_another_type_is_not_in_the_variables_of_its_error() -> None:
    engine = sa.create_engine("sqlite://")
    metadata = sa.MetaData()
    text = sa.Table("t", metadata, sa.Column("a", Sealed(str, field="f")))
    number = sa.Table("t", other := sa.MetaData(), sa.Column("a", Sealed(int, field="f")))
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as records, engine.begin() as connection:
        use_records(metadata, records)
        use_records(other, records)
        metadata.create_all(connection)
        connection.execute(insert(text), {"a": SECRET})
        with pytest.raises(UnreadableValueError) as refused:
            connection.execute(select(number)).all()
        assert not [name for file, name, shown in frames_of(refused.value) if SECRET in shown and file != __file__]
    engine.dispose()


def test_a_flush_of_bound_values_has_none_in_any_variable() -> None:
    engine = sa.create_engine("sqlite://")
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as records, records.scope(tenant="acme"):
        use_records(Base.metadata, records)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all([User(tenant_id="acme", email=SECRET, name="a"), User(tenant_id="acme", name="a")])
            with pytest.raises(sa.exc.IntegrityError) as refused:
                session.flush()
            assert not [name for _, name, shown in frames_of(refused.value) if SECRET in shown]
    engine.dispose()


class Member(DeclarativeBase):
    pass


class Reader(Member):
    __tablename__ = "readers"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str | None] = sealed(str, row="id")
    email_index: Mapped[bytes | None] = mapped_column(IndexOf("email", bits=16))
    notes: Mapped[str | None] = mapped_column(Sealed(str))


# What fails, and whether the store is away or the table is gone.
SEARCHES: dict[str, tuple[Callable[[Session], Any], str]] = {
    "store": (lambda s: Reader.email_index.find(s, SECRET), "store"),
    "database": (lambda s: Reader.email_index.find(s, SECRET), "table"),
    "wrong type": (lambda s: Reader.email_index.find(s, [SECRET]), ""),
    "surrogate": (lambda s: Reader.email_index.find(s, SECRET + "\ud800"), ""),
    "attribute that is no record": (lambda s: s.scalars(select(Reader)).one().email, ""),
    "column that is no record": (lambda s: s.scalars(select(Reader.email)).all(), ""),
    "type that is no record": (lambda s: s.scalars(select(Reader.notes)).all(), ""),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_and_what_is_no_record_are_in_no_variable_of_ours(name: str) -> None:
    search, away = SEARCHES[name]
    engine, store = sa.create_engine("sqlite://"), Broken()
    with Records(FakeKeyring(), store, scope={"app": "shop"}) as records, Session(engine) as session:
        use_records(Member.metadata, records)
        Member.metadata.create_all(session.connection())
        session.add(Reader(notes="x" if "type" not in name else None))
        session.flush()
        column = "notes" if "type" in name else "email"
        session.execute(sa.text(f"UPDATE readers SET {column} = CAST('{SECRET}' AS BLOB)"))
        session.expire_all()
        if away == "table":
            session.execute(sa.text("DROP TABLE readers"))
        store.broken = away == "store"
        with pytest.raises((SealwaxError, TypeError, ValueError, sa.exc.OperationalError)) as refused:
            search(session)
        shown = [
            (file, each) for file, each, text in frames_of(refused.value) if SECRET in text and "/sealwax/" in file
        ]
        assert not shown
        assert SECRET not in str(refused.value)
    engine.dispose()


def test_errors_are_of_the_classes_that_callers_catch() -> None:
    engine = sa.create_engine("sqlite://")
    store = Broken()
    with Records(FakeKeyring(), store, scope={"app": "shop"}) as records, records.scope(tenant="acme"):
        use_records(Base.metadata, records)
        Base.metadata.create_all(engine)
        store.broken = True
        with Session(engine) as session, pytest.raises(KeyStoreError) as refused:
            session.execute(insert(notes), [{"id": 5, "tenant_id": "acme", "text": SECRET}])
        again = pickle.loads(pickle.dumps(refused.value))
        assert type(again) is KeyStoreError
        assert str(again) == "the store is away"
    engine.dispose()
