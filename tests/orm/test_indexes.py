"""Blind indexes of models: written with their columns, whatever way the values come, and searched by values."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import enum
import textwrap
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import insert, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    aliased,
    defer,
    mapped_column,
    relationship,
    undefer,
)
from sqlalchemy.orm.attributes import flag_modified, set_attribute

from sealwax import Records
from sealwax.errors import ContextError, ModelError
from sealwax.records import MemoryKeys
from sealwax.sqlalchemy import IndexOf, Scope, Sealed, render_item, sealed, use_records
from tests.fakes import FakeKeyring


class Base(DeclarativeBase):
    pass


class Plan(enum.Enum):
    FREE = 1
    PAID = 2


class WithNotes:
    """A mixin."""

    notes: Mapped[str | None] = mapped_column(Sealed(str))
    notes_index: Mapped[bytes | None] = mapped_column(IndexOf("notes", normalize="casefold-nfc/1", bits=32), index=True)


class Account(WithNotes, Base):
    __tablename__ = "accounts"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "account"}  # noqa: RUF012
    __sealed_scope__ = Scope(tenant="tenant_id")
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    kind: Mapped[str] = mapped_column(sa.String(20))
    tenant_id: Mapped[str] = mapped_column(sa.String(40))
    name: Mapped[str | None] = mapped_column(sa.String(40))
    email: Mapped[str | None] = sealed(str, row="id", name="e_mail", deferred=True)
    email_index: Mapped[bytes | None] = mapped_column(IndexOf("email", normalize="email/1", bits=20), index=True)
    login: Mapped[str | None] = sealed(str, row="id")
    login_index: Mapped[bytes | None] = mapped_column(IndexOf("login", bits=128), unique=True)
    born: Mapped[date | None] = sealed(date, row="id")
    born_index: Mapped[bytes | None] = mapped_column(IndexOf("born", bits=9, shared=True), index=True)
    parent_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("accounts.id"))
    parts: Mapped[list[Account]] = relationship(lazy="joined", join_depth=1)


class Company(Account):
    """Joined inheritance."""

    __tablename__ = "companies"
    __mapper_args__ = {"polymorphic_identity": "company"}  # noqa: RUF012
    id: Mapped[UUID] = mapped_column(sa.ForeignKey("accounts.id"), primary_key=True)
    vat: Mapped[str | None] = sealed(str, row="id")
    vat_index: Mapped[bytes | None] = mapped_column(IndexOf("vat", normalize="digits/1", bits=12))


class Guest(Account):
    """Single-table inheritance."""

    __mapper_args__ = {"polymorphic_identity": "guest"}  # noqa: RUF012
    plan: Mapped[Plan | None] = sealed(Plan, row="id", nullable=True)
    plan_index: Mapped[bytes | None] = mapped_column(IndexOf("plan", bits=4), nullable=True)


TABLE: Any = Account.__table__


@pytest.fixture
def records() -> Iterator[Records]:
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as made:
        use_records(Base.metadata, made)
        yield made


@pytest.fixture
def session(records: Records) -> Iterator[Session]:
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as made, records.scope(tenant="acme"):
        yield made
    engine.dispose()


def _index(records: Records, name: str, column: str, tenant: str = "acme") -> bytes:
    """Return the index of a value as the column must have it."""
    kinds: dict[str, tuple[str, int]] = {"e_mail": ("email/1", 20), "notes": ("casefold-nfc/1", 32)}
    normalize, bits = kinds[column]
    return records.index(f"accounts.{column}", normalize=normalize, bits=bits, tenant=tenant).of(name)


def _stored(session: Session) -> list[Any]:
    return list(session.execute(sa.text("SELECT email_index, notes_index FROM accounts ORDER BY name")).all())


def _ada(**values: Any) -> Account:
    return Account(**{"tenant_id": "acme", "name": "a", "email": "Ada@x.org", "notes": "VIP", **values})


def test_models_search_in_every_database(database: str, records: Records) -> None:
    engine = sa.create_engine(database)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session, records.scope(tenant="acme"):
        session.add_all(
            [_ada(), _ada(name="b", email="bob@x.org", notes=None), Company(tenant_id="acme", name="c", vat="1 2")]
        )
        session.commit()
        (ada,) = Account.email_index.find(session, " ada@X.ORG")
        assert (ada.name, ada.email, ada.notes) == ("a", "Ada@x.org", "VIP")
        assert ada.email_index == _index(records, "Ada@x.org", "e_mail")
        assert _stored(session)[:2] == [
            (_index(records, "Ada@x.org", "e_mail"), _index(records, "VIP", "notes")),
            (_index(records, "bob@x.org", "e_mail"), None),
        ]
        assert Account.email_index.find(session, "ada@x.com") == []
        assert [each.name for each in Account.notes_index.find(session, "vip")] == ["a"]
        assert [each.vat for each in Company.vat_index.find(session, "12")] == ["1 2"]
        ada.login = "ada"
        session.commit()
        assert session.scalars(select(Account.name).where(Account.login_index == "ada")).all() == ["a"]
        session.add(_ada(login="ada"))
        with pytest.raises(sa.exc.IntegrityError):
            session.flush()
    with engine.connect() as connection:
        names = sa.inspect(connection).get_indexes("accounts")
        assert ["email_index"] in [each["column_names"] for each in names]
    Base.metadata.drop_all(engine)
    engine.dispose()


WRITES: dict[str, Callable[[Session], Any]] = {
    "add": lambda session: session.add(_ada()),
    "attribute": lambda session: setattr(_added(session, email="x", notes="y"), "email", "Ada@x.org"),
    "from null": lambda session: _set(_added(session, email=None, notes=None), email="Ada@x.org", notes="VIP"),
    "bulk": lambda session: session.execute(insert(Account), [_row()]),
    "bulk values": lambda session: session.execute(insert(Account).values([_row()])),
    "one value": lambda session: session.execute(insert(Account).values(**_row())),
    "parameters and values": lambda session: session.execute(
        insert(Account).values(kind="account"), [{key: value for key, value in _row().items() if key != "kind"}]
    ),
    "objects": lambda session: session.bulk_save_objects([_ada(kind="account")]),
    "core": lambda session: session.execute(insert(TABLE).values(**_core_row())),
    "core many": lambda session: session.connection().execute(insert(TABLE), [_core_row()]),
    "merge": lambda session: session.merge(_ada(id=_added(session, email="x", notes="y").id)),
    "merge new": lambda session: session.merge(_ada(id=uuid4())),
    "merge loaded": lambda session: _merge_loaded(session),
    "merge over null": lambda session: _merge_loaded(session, null=True),
    "set_attribute": lambda session: set_attribute(_added(session), "email_index", b"\0\0\0"),
    "upsert": lambda session: session.execute(_upsert(sqlite.insert(TABLE), _core_row(), "e_mail", "notes")),
    "flagged": lambda session: _flagged(session),
    "of another tenant": lambda session: _moved(session),
    "another key": lambda session: setattr(_added(session), "id", uuid4()),
}


def _row(**values: Any) -> dict[str, Any]:
    given = {"id": uuid4(), "kind": "account", "tenant_id": "acme", "name": "a", "email": "Ada@x.org", "notes": "VIP"}
    return {**given, **values}


def _core_row() -> dict[str, Any]:
    row = _row()
    return {"e_mail" if key == "email" else key: value for key, value in row.items()}


def _set(account: Account, **values: Any) -> None:
    for key, value in values.items():
        setattr(account, key, value)


def _added(session: Session, **values: Any) -> Account:
    account = _ada(**values)
    session.add(account)
    session.commit()
    session.refresh(account)
    if values.get("notes") == "y":
        account.notes = "VIP"
    return account


def _merge_loaded(session: Session, *, null: bool = False) -> None:
    account = _added(session)
    assert account.email
    session.expunge(account)
    if null:
        session.execute(sa.text("UPDATE accounts SET email_index = NULL"))
    set_attribute(account, "email_index", b"\0\0\0")
    session.merge(account)


def _upsert(statement: Any, row: dict[str, Any], *columns: str) -> Any:
    names = [name for column in columns for name in (column, f"{column.replace('e_m', 'em')}_index")]
    return statement.values(**row).on_conflict_do_update(
        index_elements=["id", "tenant_id"], set_={name: statement.excluded[name] for name in names}
    )


def _flagged(session: Session) -> None:
    """As rows are given an index that had none."""
    account = _added(session)
    session.execute(sa.text("UPDATE accounts SET email_index = NULL, notes_index = NULL"))
    session.expire(account)
    assert (account.email, account.notes) == ("Ada@x.org", "VIP")
    flag_modified(account, "email")
    flag_modified(account, "notes")


def _moved(session: Session) -> None:
    account = _added(session)
    assert _stored(session)
    account.tenant_id = "beta"
    session.info["tenant"] = "beta"


@pytest.mark.parametrize("write", WRITES)
def test_an_index_is_written_with_its_column(session: Session, records: Records, write: str) -> None:
    if write == "upsert":
        session.execute(sa.text("CREATE UNIQUE INDEX both ON accounts (id, tenant_id)"))
    WRITES[write](session)
    tenant = session.info.get("tenant", "acme")
    with records.scope(tenant=tenant):
        session.commit()
        expected = (_index(records, "Ada@x.org", "e_mail", tenant), _index(records, "VIP", "notes", tenant))
        assert _stored(session) == [expected]
        (found,) = Account.email_index.find(session, "ada@x.org")
        assert (found.email, found.email_index) == ("Ada@x.org", expected[0])
        assert Account.notes_index.find(session, "vip") == [found]


def test_updates_of_core_write_indexes(session: Session, records: Records) -> None:
    account = _added(session)
    key = account.id
    expected = _index(records, "new", "notes")
    writes: tuple[Callable[[], Any], ...] = (
        lambda: session.execute(update(Account).values(notes="new")),
        lambda: session.execute(update(Account), [{"id": key, "notes": "new"}]),
        lambda: session.execute(update(TABLE).values({TABLE.c.notes: "new"})),
        lambda: session.connection().execute(update(TABLE), {"notes": "new"}),
        lambda: session.connection().execute(
            update(TABLE).where(TABLE.c.id == sa.bindparam("key")), [{"key": key, "notes": "new"}]
        ),
    )
    for write in writes:
        write()
        assert _stored(session)[0][1] == expected
        session.execute(update(Account).values(notes=None))
        assert _stored(session)[0][1] is None


def test_an_update_writes_the_index_of_the_scope_of_its_row(session: Session, records: Records) -> None:
    """Which its WHERE or its values name, whatever scope is around it."""
    account = _ada(tenant_id="beta", notes=None)
    session.add(account)
    session.commit()
    key = account.id
    of_row = (Account.id == key, Account.tenant_id == "beta")
    by_parameters = update(TABLE).where(TABLE.c.id == sa.bindparam("k"), TABLE.c.tenant_id == sa.bindparam("t"))
    writes: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("beta", lambda: session.execute(update(Account).where(*of_row).values(email="new@x.org"))),
        ("beta", lambda: session.connection().execute(by_parameters, [{"k": key, "t": "beta", "e_mail": "new@x.org"}])),
        ("gamma", lambda: session.execute(update(TABLE).where(TABLE.c.id == key).values(_whole("gamma")))),
    )
    for tenant, write in writes:
        write()
        assert _stored(session)[0][0] == _index(records, "new@x.org", "e_mail", tenant)
        (found,) = Account.email_index.find(session, "new@x.org", tenant=tenant)
        assert found.email == "new@x.org"
        session.rollback()


def _whole(tenant: str) -> dict[str, Any]:
    """Return values that move a row to another tenant, with every column that is bound to it."""
    nothing = dict.fromkeys(("login", "born", "notes", "plan"))
    return {**nothing, "tenant_id": tenant, "e_mail": "new@x.org"}


BY_HAND: dict[str, Callable[[Session], Any]] = {
    "attribute": lambda session: setattr(_added(session), "notes_index", b"1234"),
    "constructor": lambda session: _ada(notes_index=b"1234"),  # noqa: ARG005
    "delete": lambda session: delattr(_added(session), "notes_index"),
    "insert": lambda session: session.execute(insert(Account), [_row(notes_index=b"1234")]),
    "insert alone": lambda session: session.execute(
        insert(Account).values(id=uuid4(), kind="account", tenant_id="acme", notes_index=b"1234")
    ),
    "insert core": lambda session: session.execute(insert(TABLE).values(**_core_row(), notes_index=b"1234")),
    "insert from select": lambda session: session.execute(
        insert(TABLE).from_select(["id", "notes_index"], select(TABLE.c.id, TABLE.c.notes_index))
    ),
    "update": lambda session: session.execute(update(Account).values(notes_index=b"1234")),
    "update many": lambda session: session.execute(
        update(Account), [{"id": _added(session).id, "notes_index": b"1234"}]
    ),
    "update both": lambda session: session.execute(update(Account).values(notes="x", notes_index=b"1234")),
    "update expression": lambda session: session.execute(update(Account).values(notes_index=Account.email_index)),
    "update parameter": lambda session: session.execute(
        update(TABLE).values(notes=sa.bindparam("new")), {"new": "secret"}
    ),
    "update ordered": lambda session: session.execute(
        update(TABLE).ordered_values((TABLE.c.name, "a"), (TABLE.c.notes, "secret"))
    ),
    "upsert without": lambda session: session.execute(
        sqlite.insert(TABLE)
        .values(**_core_row())
        .on_conflict_do_update(index_elements=["id", "tenant_id"], set_={"notes": sqlite.insert(TABLE).excluded.notes})
    ),
    "upsert value": lambda session: session.execute(
        postgresql.insert(TABLE)
        .values(**_core_row())
        .on_conflict_do_update(index_elements=["id", "tenant_id"], set_={"notes": "secret", "notes_index": b"1234"})
    ),
}


@pytest.mark.parametrize("how", BY_HAND)
def test_an_index_is_not_set_by_hand(session: Session, how: str) -> None:
    with pytest.raises(ModelError, match=r"\b(a|the|no) (blind )?index.*\b(set|leave|give|use)\b") as refused:
        BY_HAND[how](session)
    assert "secret" not in str(refused.value)


def test_a_search_opens_and_compares(session: Session) -> None:
    session.add_all([Guest(tenant_id="acme", name=str(number), plan=Plan(number % 2 + 1)) for number in range(20)])
    session.add_all([_ada(name=str(number), email=f"u{number}@x.org") for number in range(20)])
    session.commit()
    assert len(Guest.plan_index.find(session, Plan.PAID)) == 10
    # A candidate that has another value: as by chance, or as somebody copied the index.
    session.execute(
        sa.text(
            "UPDATE accounts SET email_index = "
            "(SELECT email_index FROM accounts WHERE name = '7' AND e_mail IS NOT NULL)"
        )
    )
    session.expire_all()
    assert [each.name for each in Account.email_index.find(session, "U7@x.org")] == ["7"]
    # An instance in the session that is older than its row.
    (loaded,) = (
        Account.email_index.find(session, "u8@x.org")
        or session.scalars(select(Account).where(Account.name == "8").where(Account.kind == "account")).unique()
    )
    assert loaded.email == "u8@x.org"
    with Session(session.connection()) as other:
        other.get_one(Account, loaded.id).email = "later@x.org"
        other.commit()
    assert Account.email_index.find(session, "later@x.org") == [loaded]


def test_statements_narrow_a_search(session: Session) -> None:
    session.add_all([_ada(name=name, notes=f"n{name}") for name in "abcd"])
    parent = _ada(name="z", parts=[_ada(name="y", notes="x")])
    session.add(parent)
    session.commit()
    narrow = select(Account).where(Account.name.in_(["a", "c", "z"])).order_by(Account.name.desc())
    assert [each.name for each in Account.email_index.find(session, "ada@x.org", narrow)] == ["z", "c", "a"]
    eager = narrow.options(undefer(Account.email))
    assert [each.email for each in Account.email_index.find(session, "ada@x.org", eager)] == ["Ada@x.org"] * 3
    alias = aliased(Account)
    assert [each.name for each in alias.email_index.find(session, "ada@x.org", select(alias).filter_by(name="b"))] == [
        "b"
    ]
    assert len(alias.email_index.find(session, "ada@x.org")) == 6
    assert Account.email_index.find(session, "ada@x.org", select(Company)) == []
    for wrong in (select(Account.id), select(Guest.id), sa.text("SELECT 1"), select(TABLE)):
        with pytest.raises(TypeError, match=r"of find is a select\(Account\)"):
            Account.email_index.find(session, "ada@x.org", wrong)
    for cut in (select(Account).limit(1), select(Account).offset(1), select(Account).fetch(1)):
        with pytest.raises(ModelError, match="has a LIMIT"):
            Account.email_index.find(session, "ada@x.org", cut)
    with pytest.raises(TypeError, match=r"'accounts.email_index': the value is of type bytes"):
        Account.email_index.find(session, b"secret")


def test_scopes_have_indexes_of_their_own(session: Session, records: Records) -> None:
    for tenant in ("acme", "beta"):
        with records.scope(tenant=tenant):
            session.add(_ada(tenant_id=tenant, name=tenant, born=date(2000, 1, 1)))
            session.commit()
    # Copied, so that only the comparison can tell.
    assert [each.name for each in Account.email_index.find(session, "ada@x.org")] == ["acme"]
    assert [each.name for each in Account.email_index.find(session, "ada@x.org", tenant="beta")] == ["beta"]
    assert len({index for index, _ in _stored(session)}) == 2
    every = select(Account).order_by(Account.name).options(defer(Account.notes))  # of one scope
    assert [each.name for each in Account.born_index.find(session, date(2000, 1, 1), every)] == ["acme", "beta"]
    assert [each.name for each in Account.born_index.find(session, date(2000, 1, 1), every, tenant="beta")] == ["beta"]
    with pytest.raises(ContextError, match="has no pair 'region'"):
        Account.email_index.find(session, "ada@x.org", region="eu")


def test_a_search_needs_its_scope(session: Session) -> None:
    with pytest.raises(ContextError, match=r"search with find\(session, value, tenant=\.\.\.\)"):
        contextvars.Context().run(Account.email_index.find, session, "ada@x.org")
    session.add(_ada())
    session.commit()
    found = contextvars.Context().run(lambda: Account.email_index.find(session, "ada@x.org", tenant="acme"))
    assert len(found) == 1


def test_of_128_bits_an_index_compares_with_values(session: Session) -> None:
    session.add_all([_ada(name=name, login=login) for name, login in (("a", "ada"), ("b", "bob"), ("c", None))])
    session.commit()
    index: Any = Account.login_index
    for condition, names in (
        (index == "ada", "a"),
        (index != "ada", "b"),
        (index.in_(["ada", "bob", "cyd"]), "ab"),
        (index.not_in(["bob"]), "a"),
        (index.is_(None), "c"),
        (index == None, "c"),  # noqa: E711
        (index.is_not(None), "ab"),
    ):
        assert "".join(session.scalars(select(Account.name).where(condition).order_by(Account.name))) == names
    assert session.scalars(select(Account.name).filter_by(login_index="bob")).all() == ["b"]
    wrongs: tuple[tuple[Callable[[], Any], type[Exception]], ...] = (
        (lambda: index == b"secret", TypeError),
        (lambda: index < "secret", ModelError),
    )
    for wrong, error in wrongs:
        with pytest.raises(error) as refused:
            wrong()
        assert "secret" not in str(refused.value)
    statement = select(Account.name).where(index == "secret")
    assert "secret" not in str(statement.compile(compile_kwargs={"literal_binds": True}))
    assert "secret" not in repr(statement.compile().params)
    with pytest.raises(ModelError, match="compare it with a value, not with a parameter"):
        session.execute(select(Account.name).where(index == sa.bindparam("x")), {"x": "secret"})


@pytest.mark.parametrize("compare", ["eq", "ne", "in", "like", "less", "filter_by"])
def test_shorter_indexes_are_not_compared(session: Session, compare: str) -> None:  # noqa: ARG001
    index: Any = Account.email_index
    statements: dict[str, Callable[[], Any]] = {
        "eq": lambda: index == "secret",
        "ne": lambda: index != "secret",
        "in": lambda: index.in_(["secret"]),
        "like": lambda: index.like("secret"),
        "less": lambda: index < "secret",
        "filter_by": lambda: select(Account).filter_by(email_index="secret"),
    }
    with pytest.raises(ModelError, match=r"Account\.email_index\.find\(session, value\) searches") as refused:
        statements[compare]()
    assert "secret" not in str(refused.value)
    assert index.is_(None) is not None
    assert select(Account.email_index, sa.func.count()).group_by(Account.email_index) is not None


def test_refusals_name_the_index(session: Session) -> None:
    with pytest.raises(ModelError, match=r"IndexOf column instead, with Account\.email_index\.find\(session, value\)"):
        session.execute(select(Account.id).order_by(Account.email))
    with pytest.raises(ModelError, match=r"with Account\.notes_index\.find\(session, value\)"):
        session.execute(select(Account.id).where(Account.notes == "x"))


def test_an_async_session_searches(records: Records, tmp_path: Any) -> None:
    async def search() -> list[str]:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/a.db")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            with records.scope(tenant="acme"):
                session.add(_ada(login="ada"))
                await session.commit()
                names = [each.name for each in await Account.email_index.find_async(session, "ada@x.org")]
                names += await session.scalars(select(Account.name).where(Account.login_index == "ada"))
            with pytest.raises(TypeError, match="find takes a Session"):
                Account.email_index.find(session, "ada@x.org")
        await engine.dispose()
        return names

    # The keys are loaded while the flush, the search and the statement wait.
    assert asyncio.run(search()) == ["a", "a"]


WRONG: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "unique": (
        r"UNIQUE on 't.i' needs bits=128, not 32",
        lambda add: add(sa.Column("i", IndexOf("v", bits=32), unique=True)),
    ),
    "constraint": (
        r"UNIQUE on 't.i' needs bits=128, not 32",
        lambda add: add(sa.Column("i", IndexOf("v", bits=32)), sa.UniqueConstraint("id", "i")),
    ),
    "unique index": (
        r"UNIQUE on 't.i' needs bits=128, not 32",
        lambda add: add(sa.Column("i", IndexOf("v", bits=32)), sa.Index("x", "i", unique=True)),
    ),
    "no column": (
        r"'w', which is not a column of the table 't'",
        lambda add: add(sa.Column("i", IndexOf("w", bits=8))),
    ),
    "not sealed": (r"'id', which is not sealed", lambda add: add(sa.Column("i", IndexOf("id", bits=8)))),
    "default": (r"a default on 't.i'", lambda add: add(sa.Column("i", IndexOf("v", bits=8), default=b""))),
    "primary key": (
        r"the primary key on 't.i'",
        lambda add: add(sa.Column("i", IndexOf("v", bits=8), primary_key=True)),
    ),
    "type": (
        r"email/1 does not take Decimal; 'exact/1' takes str",
        lambda add: add(sa.Column("i", IndexOf("d", normalize="email/1", bits=8))),
    ),
    "exact type": (r"exact/1 does not take Decimal", lambda add: add(sa.Column("i", IndexOf("d", bits=8)))),
    "bits": (r"bits is an int from 1 to 256, not 0", lambda add: add(IndexOf("v", bits=0))),
    "normalizer": (r"there is no normalizer 'x'", lambda add: add(IndexOf("v", bits=8, normalize="x"))),
}


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("name", WRONG)
def test_an_index_that_cannot_work_is_refused(records: Records, name: str, mapped: bool) -> None:
    metadata = sa.MetaData()
    use_records(metadata, records)

    def add(*more: Any) -> None:
        columns = [sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)]
        columns += [sa.Column("v", Sealed(str)), sa.Column("d", Sealed(Decimal))]
        table = sa.Table("t", metadata, *columns, *more)
        if mapped:
            type("T", (DeclarativeBase,), {"metadata": metadata})
            registry = sa.orm.registry(metadata=metadata)
            registry.map_imperatively(type("T", (), {}), table)
        else:
            with sa.create_engine("sqlite://").connect() as connection:
                connection.execute(insert(table), {"id": 1, "v": "x"})

    match, make = WRONG[name]
    with pytest.raises((ModelError, ValueError), match=match):
        make(add)


def test_a_dataclass_does_not_take_an_index(records: Records) -> None:  # noqa: ARG001
    def make(column: Any) -> Any:
        class Own(MappedAsDataclass, DeclarativeBase):
            pass

        class Row(Own):
            __tablename__ = "rows"
            id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
            email: Mapped[str] = sealed(str, row="id", repr=False)
            email_index: Mapped[bytes] = column

        return Row

    with pytest.raises(ModelError, match=r"'Row.email_index' is a blind index, .* add init=False"):
        make(mapped_column(IndexOf("email", bits=8)))
    row = make(mapped_column(IndexOf("email", bits=8), init=False, repr=False))
    assert [field.name for field in dataclasses.fields(row) if field.init] == ["id", "email"]


def test_core_alone_writes_and_compares(records: Records) -> None:
    metadata = sa.MetaData()
    use_records(metadata, records)
    table = sa.Table(
        "t",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("v", Sealed(str), default=lambda: "made"),
        sa.Column("i", IndexOf("v", bits=128)),
    )
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"v": "a"}, {"v": "b"}, {"v": None}])
        connection.execute(insert(table))
        for value, ids in (("a", [1]), ("made", [4]), ("c", [])):
            assert connection.scalars(select(table.c.id).where(table.c.i == value)).all() == ids
        assert connection.scalars(insert(table).returning(table.c.i), {"v": "x"}).one() == records.index(
            "t.v", bits=128
        ).of("x")
    engine.dispose()


def test_a_default_is_indexed(records: Records) -> None:
    class Own(DeclarativeBase):
        pass

    class Row(Own):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)
        level: Mapped[str] = mapped_column(Sealed(str), default=lambda: "made")
        level_index: Mapped[bytes] = mapped_column(IndexOf("level", bits=32))

    use_records(Own.metadata, records)
    engine = sa.create_engine("sqlite://")
    Own.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Row())
        session.flush()
        session.execute(insert(Row), [{}])
        assert [row.level for row in Row.level_index.find(session, "made")] == ["made", "made"]
    engine.dispose()


def test_migrations_have_the_types_of_the_database(database: str) -> None:
    metadata = sa.MetaData()
    table = sa.Table(
        "migrated",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("v", Sealed(str, storage=sa.Text)),
        sa.Column("w", Sealed(str, length=5, storage=sa.String(400))),
        sa.Column("b", Sealed(bytes, length=5, storage=sa.LargeBinary)),
        sa.Column("i", IndexOf("v", bits=20), index=True),
        sa.Column("u", IndexOf("w", bits=128), unique=True),
    )
    engine = sa.create_engine(database)
    metadata.drop_all(engine)
    options = {
        "render_item": render_item,
        "include_object": lambda item, *_: getattr(item, "table", item) is table or "migrated" in str(item),
        "include_name": lambda name, kind, parents: kind != "table" or name == "migrated",  # noqa: ARG005
    }
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={**options, "target_metadata": metadata})
        made = produce_migrations(context, metadata).upgrade_ops
        assert made is not None
        code = render_python_code(made, render_item=render_item, migration_context=context)
        mysql_ = engine.dialect.name == "mysql"
        text, index = (
            ("mysql.MEDIUMTEXT()", "sa.VARBINARY(length=3)") if mysql_ else ("sa.Text()", "sa.LargeBinary(length=3)")
        )
        for column in (f"'v', {text}", "'w', sa.String(length=400)", "'b', sa.LargeBinary()", f"'i', {index}"):
            assert f"sa.Column({column}, nullable=True)" in code
        assert "sealwax" not in code
        exec(textwrap.dedent("    " + code), {"op": Operations(context), "sa": sa, "mysql": mysql})
        assert compare_metadata(context, metadata) == []
    metadata.drop_all(engine)
    engine.dispose()
