"""What cannot work is refused: when a class is defined, or before a statement runs, with a sentence that helps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    aliased,
    mapped_column,
    with_loader_criteria,
)

from sealwax import Records
from sealwax.errors import ContextError, ModelError, RecordError
from sealwax.records import MemoryKeys
from sealwax.sqlalchemy import Scope, Sealed, sealed, use_records
from sealwax.sqlalchemy._expressions import check
from tests.fakes import FakeKeyring
from tests.orm.models import Everything, Tenant, User, notes

OTHER = aliased(User)
OF_SUBQUERY: Any = aliased(User, select(User).subquery())
CTE = select(notes.c.text.label("t"), notes.c.id).cte()
LABELED = select(User.email.label("e"), User.id).subquery()
TABLE: Any = User.__table__
EMAIL, ID = TABLE.c.email, TABLE.c.id

SELECTS: dict[str, Callable[[], Any]] = {
    "order": lambda: select(User).order_by(User.email),
    "order core": lambda: select(notes).order_by(notes.c.text),
    "order desc": lambda: select(User).order_by(sa.desc(User.email)),
    "order nulls": lambda: select(notes.c.id).order_by(sa.nulls_last(sa.asc(notes.c.text))),
    "order by name": lambda: select(notes).order_by("text"),
    "order by name desc": lambda: select(notes).order_by(sa.desc("text")),
    "order by label": lambda: select(notes.c.text.label("t")).order_by("t"),
    "order by attribute name": lambda: select(User).order_by("email"),
    "order of alias": lambda: select(OTHER.id).order_by(OTHER.email),
    "order in subquery": lambda: select(select(notes).order_by(notes.c.text).limit(1).subquery().c.id),
    "order of subquery": lambda: select(select(notes).subquery().c.id).order_by(select(notes).subquery().c.text),
    "group": lambda: select(func.count()).group_by(User.notes),
    "group core": lambda: select(notes.c.text, func.count()).group_by(notes.c.text),
    "distinct": lambda: select(User.email).distinct(),
    "distinct core": lambda: select(notes.c.text).distinct(),
    "count distinct": lambda: select(func.count(sa.distinct(notes.c.text))),
    "union": lambda: sa.union(select(notes.c.text), select(notes.c.text)),
    "max": lambda: select(func.max(User.email)),
    "lower": lambda: select(func.lower(notes.c.text)),
    "lower compared": lambda: select(notes.c.id).where(func.lower(notes.c.text) == "secret"),
    "coalesce": lambda: select(func.coalesce(notes.c.text, "secret")),
    "cast": lambda: select(sa.cast(notes.c.text, sa.Text)),
    "window": lambda: select(func.row_number().over(order_by=notes.c.text)),
    "equal": lambda: select(User).where(User.email == "secret"),
    "equal reversed": lambda: select(User.id).where(sa.literal("secret") == User.email),
    "equal core": lambda: select(notes).where(notes.c.text == "secret"),
    "filter_by": lambda: select(User).filter_by(email="secret"),
    "columns": lambda: select(User.id).where(User.email == OTHER.email),
    "in": lambda: select(User).where(User.email.in_(["secret"])),
    "like": lambda: select(User).where(User.email.like("secret%")),
    "less": lambda: select(User).where(User.email < "secret"),
    "plus": lambda: select(User.notes + "secret"),
    "having": lambda: select(func.count()).select_from(notes).having(func.min(notes.c.text) > "secret"),
    "join": lambda: select(User.id).join(notes, notes.c.text == User.notes),
    "delete": lambda: sa.delete(notes).where(sa.literal("secret") == notes.c.text),
    "order by text": lambda: select(User).order_by(sa.text("users.email DESC")),
    "order by literal column": lambda: select(notes).order_by(sa.literal_column("text")),
    "group by text": lambda: select(func.count()).select_from(notes).group_by(sa.text("text")),
    "where in text": lambda: select(User.id).where(sa.text("lower(email) = 'secret'")),
    "having in text": lambda: select(User.name).group_by(User.name).having(sa.text("max(notes) > 'secret'")),
    "delete in text": lambda: sa.delete(notes).where(sa.text("text = 'secret'")),
    "order of union by name": lambda: sa.union_all(select(notes.c.text), select(notes.c.text)).order_by("text"),
    "order by attribute's label": lambda: select(User.email.label("e")).order_by("e"),
    "order by label desc": lambda: select(User.email.label("e")).order_by(sa.desc("e")),
    "group by label": lambda: select(User.email.label("e")).group_by("e"),
    "order of aliased subquery": lambda: select(OF_SUBQUERY).order_by(OF_SUBQUERY.email),
    "where of cte": lambda: select(CTE.c.id).where(CTE.c.t == "secret"),
    "order of label in subquery": lambda: select(LABELED.c.e).order_by(LABELED.c.e),
    "in subquery": lambda: select(User.id).where(User.name.in_(select(User.notes))),
    "compared with subquery": lambda: select(User.id).where(
        User.name == select(OTHER.notes).limit(1).scalar_subquery()
    ),
    "order by subquery": lambda: select(Tenant.id).order_by(select(User.notes).limit(1).scalar_subquery()),
    "case of": lambda: select(sa.case({"secret": 1}, value=User.notes)),
    "case compared": lambda: select(User.id).where(sa.case((User.name == "a", User.notes), else_=None) == "secret"),
    "order by case": lambda: select(User.id).order_by(sa.case((User.name == "a", User.notes))),
    "between": lambda: select(User.id).where(User.name.between(User.notes, "secret")),
    "tuple in": lambda: select(User.id).where(sa.tuple_(User.notes, User.name).in_([("secret", "a")])),
    "condition": lambda: select(User.id).where(User.notes),  # type: ignore[arg-type]
    "coerced": lambda: select(User.id).where(sa.type_coerce(User.notes, sa.String) == "secret"),
    "order coerced": lambda: select(User.id).order_by(sa.type_coerce(User.notes, sa.String)),
    "concatenation": lambda: select(User.name.concat(User.notes)),
    "filter": lambda: select(func.count(User.id).filter(User.notes == "secret")),
    "within group": lambda: select(func.percentile_disc(0.5).within_group(User.notes)),
    "partition": lambda: select(func.count().over(partition_by=User.notes)),
    "loader criteria": lambda: select(User).options(with_loader_criteria(User, lambda of: of.notes == "secret")),
    "returning": lambda: insert(notes).values(id=5, tenant_id="acme").returning(func.lower(notes.c.text)),
    "upsert where": lambda: (
        sqlite.insert(User)
        .values(id=uuid4(), tenant_id="acme")
        .on_conflict_do_update(index_elements=["id"], set_={"name": "x"}, where=func.lower(User.email) == "secret")
    ),
}

# What would not open, or be of another shape than the program expects.
UNREADABLE: dict[str, Callable[[], Any]] = {
    "one value of a row": lambda: select(Tenant.id, select(User.email).limit(1).scalar_subquery()),
    "union of rows' values": lambda: sa.union_all(select(User.email), select(User.email)),
    "union of fields": lambda: sa.union_all(select(notes.c.text), select(User.notes)),
    "union with a plain column": lambda: sa.union_all(select(notes.c.text), select(notes.c.tenant_id)),
    "case of fields": lambda: select(sa.case((User.name == "a", User.notes), else_="secret")),
    "in rows' values": lambda: select(User.id).where(User.name.in_(select(User.email))),
}


@pytest.fixture
def session(records: Records) -> Any:
    engine = sa.create_engine("sqlite://")
    User.metadata.create_all(engine)
    with Session(engine) as made, records.scope(tenant="acme"):
        made.add(Tenant(id="acme"))
        made.add(User(tenant_id="acme", name="a", email="ada@example.com", notes="VIP"))
        made.commit()
        yield made
    engine.dispose()


@pytest.mark.parametrize("name", SELECTS)
def test_a_wrong_answer_is_refused(session: Session, name: str) -> None:
    for _ in range(2):  # also from the cache of compiled statements
        with pytest.raises(ModelError, match=r"which is sealed, cannot work: .* IndexOf column instead") as refused:
            session.execute(SELECTS[name]())
        assert "secret" not in str(refused.value)


def test_distinct_on_is_refused() -> None:
    of_postgresql = getattr(postgresql, "distinct_on", None)  # since SQLAlchemy 2.1
    statement: Any = select(User.id)
    statement = statement.ext(of_postgresql(User.notes)) if of_postgresql else statement.distinct(User.notes)
    with pytest.raises(ModelError, match=r"DISTINCT ON 'users\.notes'"):
        check(statement)


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_would_not_open_is_refused(session: Session, name: str) -> None:
    for _ in range(2):
        with pytest.raises(ModelError, match=r"which is sealed|bound to its row") as refused:
            session.execute(UNREADABLE[name]()).all()
        assert "secret" not in str(refused.value)


RIGHT: dict[str, tuple[Callable[[], Any], list[Any] | None]] = {
    "is not distinct": (lambda: select(User.name).where(User.email.is_not_distinct_from(None)), []),
    "is distinct": (lambda: select(User.name).where(User.email.is_distinct_from(None)), ["a"]),
    "not": (lambda: select(User.name).where(~User.email.is_(None)), ["a"]),
    "text of other columns": (lambda: select(User.email).where(sa.text("name = 'email'")), []),
    "null in text": (
        lambda: select(User.email).where(sa.text("users.email IS NOT NULL")).order_by(sa.text("name")),
        None,
    ),
    "exists": (lambda: select(Tenant.id).where(sa.exists(select(User.email))), ["acme"]),
    "subquery of a label": (lambda: select(LABELED.c.id.is_not(None)).order_by(LABELED.c.id), [True]),
    "label of a subquery": (lambda: select(LABELED.c.e.is_not(None)), [True]),
    "aliased subquery": (lambda: select(OF_SUBQUERY.email), ["ada@example.com"]),
    "aliased cte": (lambda: select(aliased(User, select(User).cte()).email), ["ada@example.com"]),
    "label": (lambda: select(User.email.label("e")).order_by(User.name), ["ada@example.com"]),
    "one value": (lambda: select(select(User.notes).limit(1).scalar_subquery()), ["VIP"]),
    "case": (lambda: select(sa.case((User.name == "a", User.notes), else_=None)), ["VIP"]),
    "order by a test": (lambda: select(User.email).order_by(sa.case((User.email.is_(None), 1), else_=0)), None),
    "count over": (lambda: select(func.count(User.email).over(partition_by=User.name)), [1]),
    "union of one field": (lambda: sa.union_all(select(User.notes), select(User.notes)), ["VIP", "VIP"]),
    "union with null": (lambda: sa.union_all(select(User.notes), select(sa.null())), ["VIP", None]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_not_refused(session: Session, name: str) -> None:
    statement, expected = RIGHT[name]
    assert session.scalars(statement()).all() == (["ada@example.com"] if expected is None else expected)


def test_what_gives_right_answers_is_not_refused(session: Session, records: Records) -> None:
    assert len(session.scalars(select(User).distinct()).unique().all()) == 1
    assert session.scalar(select(func.count(User.email))) == 1
    assert session.scalars(select(User).where(User.email.is_(None))).all() == []
    assert session.scalar(select(sa.exists().where(User.email.is_not(None))))
    assert session.scalars(select(User.email).order_by(User.name, User.email.is_(None))).all() == ["ada@example.com"]
    record = session.scalar(select(sa.type_coerce(User.notes, sa.LargeBinary)).order_by(User.id))
    assert record is not None
    assert record.startswith(b"\xc1")
    assert session.execute(sa.union_all(select(notes.c.text), select(notes.c.text))).all() == []
    with records.scope(tenant="globex"):
        session.execute(update(notes).where(notes.c.text.is_(None)).values(tenant_id="globex", text="x"))
    session.execute(update(User).values(name="b"))


WRITES: dict[str, tuple[Callable[[], Any], Any]] = {
    "update of a row": (lambda: update(User).values(email="secret"), None),
    "update of a row or others": (
        lambda: update(User).where(sa.or_(User.id == uuid4(), User.tenant_id == "acme")).values(email="secret"),
        None,
    ),
    "update of all rows but one": (
        lambda: update(User).where(User.id != uuid4(), User.tenant_id == "acme").values(email="secret"),
        None,
    ),
    "update of the scope": (lambda: update(User).values(tenant_id="globex"), None),
    "update of the scope, core": (lambda: update(notes).values(tenant_id="globex"), None),
    "update of the key": (lambda: update(TABLE).values(id=uuid4()), None),
    "bulk update of the scope": (lambda: update(User), [{"id": uuid4(), "tenant_id": "globex"}]),
    "bulk update of a row": (lambda: update(User), [{"id": uuid4(), "email": "secret"}]),
    "update from a column": (
        lambda: update(notes).values(text=sa.type_coerce(notes.c.tenant_id, notes.c.text.type)),
        None,
    ),
    "update from a function": (lambda: update(notes).values(text=func.lower("SECRET")), None),
    "insert from select": (lambda: insert(notes).from_select(["id", "text"], select(notes.c.id, notes.c.text)), None),
    "insert without the scope": (lambda: insert(TABLE), {"id": uuid4(), "email": "secret"}),
    "insert without the key": (
        lambda: insert(Everything.__table__),  # type: ignore[arg-type]
        {"bound_str": "secret"},
    ),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_lost_value_is_refused(session: Session, name: str) -> None:
    statement, parameters = WRITES[name]
    before = session.connection().exec_driver_sql("SELECT * FROM users").all()
    for _ in range(2):
        with pytest.raises((ModelError, ContextError)) as refused:
            session.execute(statement(), parameters)
        assert "secret" not in str(refused.value).lower()
    assert session.connection().exec_driver_sql("SELECT * FROM users").all() == before
    session.expire_all()
    assert session.scalars(select(User.email)).all() == ["ada@example.com"]


def upsert(target: list[str], *names: str, **more: Any) -> Any:
    from sqlalchemy.dialects.sqlite import insert as made

    statement = made(TABLE)
    return statement.on_conflict_do_update(
        index_elements=target, set_={**{name: statement.excluded[name] for name in names}, **more}
    )


@pytest.mark.parametrize(
    ("target", "names", "more"),
    [
        (["name"], ["email"], {}),
        (["name"], ["email", "tenant_id"], {}),
        (["id"], ["email"], {}),
        (["id"], ["tenant_id"], {}),
        (["id"], ["notes"], {}),
        (["id"], ["tenant_id", "notes", "email", "card"], {"email": sa.func.lower("X")}),
    ],
)
def test_an_upsert_into_another_row_is_refused(
    session: Session, target: list[str], names: list[str], more: dict[str, Any]
) -> None:
    row = {"id": uuid4(), "tenant_id": "acme", "name": "a", "email": "secret", "notes": "secret", "card": b"1"}
    with pytest.raises(ModelError, match="would not open") as refused:
        session.execute(upsert(target, *names, **more), row)
    assert "secret" not in str(refused.value)
    session.execute(upsert(["id"], "tenant_id", "email", "notes", "card"), {**row, "name": "b"})
    assert session.scalars(select(User.email).where(User.name == "b")).all() == ["secret"]


def test_an_upsert_of_mysql_on_any_key_is_refused() -> None:
    from sqlalchemy.dialects.mysql import insert as made

    from sealwax.sqlalchemy._statements import _check_upsert, _sealed_table

    statement = made(TABLE)
    statement = statement.on_duplicate_key_update(email=statement.inserted.email)
    table = _sealed_table(TABLE)
    assert table is not None
    with pytest.raises(ModelError, match="would not open"):
        _check_upsert(table, statement._post_values_clause)


# --- when a class is defined


def declared(**columns: Any) -> type[Any]:
    base = type("Base", (DeclarativeBase,), {})
    return type("Model", (base,), {"__tablename__": "models", **columns})


def key() -> Any:
    return mapped_column(sa.Uuid, primary_key=True, default=uuid4)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (lambda: {"id": mapped_column(sa.Integer, primary_key=True), "a": sealed(str, row="id")}, "default=uuid4"),
        (
            lambda: {
                "id": mapped_column(sa.Uuid, primary_key=True, server_default=func.gen_random_uuid()),
                "a": sealed(str, row="id"),
            },
            "default=uuid4",
        ),
        (lambda: {"id": key(), "a": sealed(str, row="key")}, "no column 'key'"),
        (lambda: {"id": key(), "n": mapped_column(sa.Numeric), "a": sealed(str, row="n")}, "cannot be bound to 'n'"),
        (lambda: {"id": key(), "n": mapped_column(sa.CHAR(4)), "a": sealed(str, row="n")}, "cannot be bound to 'n'"),
        (lambda: {"id": key(), "n": mapped_column(sa.Boolean), "a": sealed(str, row="n")}, "cannot be bound to 'n'"),
        (lambda: {"id": key(), "n": mapped_column(sa.DateTime), "a": sealed(str, row="n")}, "cannot be bound to 'n'"),
        (lambda: {"id": key(), "a": sealed(str, row="id", unique=True)}, "UNIQUE on 'models.a'.*IndexOf"),
        (lambda: {"id": key(), "a": mapped_column(Sealed(str), index=True)}, "an index on 'models.a'.*IndexOf"),
        (lambda: {"id": key(), "a": mapped_column(Sealed(str), server_default="x")}, "a server_default on 'models.a'"),
        (lambda: {"id": key(), "a": mapped_column(Sealed(str), default=func.now())}, "an SQL expression as default"),
        (lambda: {"id": key(), "a": mapped_column(Sealed(str), sa.ForeignKey("models.id"))}, "a foreign key on"),
        (lambda: {"a": mapped_column(Sealed(str), primary_key=True)}, "the primary key on 'models.a'"),
        (
            lambda: {
                "id": key(),
                "a": mapped_column(Sealed(str)),
                "__table_args__": (sa.UniqueConstraint("a"),),
            },
            "UNIQUE or a key on 'models.a'",
        ),
        (
            lambda: {"id": key(), "a": mapped_column(Sealed(str)), "__table_args__": (sa.Index("i", "a"),)},
            "an index on 'models.a'",
        ),
        (lambda: {"id": key(), "a": sealed(str, row="id"), "__sealed_scope__": Scope(tenant="t")}, "no column 't'"),
        (lambda: {"id": key(), "a": sealed(str, row="id"), "__sealed_scope__": "t"}, "__sealed_scope__ of Model"),
        (
            lambda: {"id": key(), "n": mapped_column(sa.Integer, onupdate=2), "a": sealed(str, row=("id", "n"))},
            "bound to 'n', which changes by itself",
        ),
        (
            lambda: {
                "id": key(),
                "t": mapped_column(sa.String, server_onupdate=sa.FetchedValue()),
                "a": sealed(str, row="id"),
                "__sealed_scope__": Scope(tenant="t"),
            },
            "bound to 't', which changes by itself",
        ),
        (
            lambda: {
                "id": key(),
                "v": (v := mapped_column(sa.Integer)),
                "a": sealed(str, row=("id", "v")),
                "__mapper_args__": {"version_id_col": v},
            },
            "bound to 'v', which changes by itself",
        ),
        (lambda: {"id": key(), "b": sealed(str, row="id"), "a": sealed(str, row="b")}, "which is sealed itself"),
        (
            lambda: {
                "id": key(),
                "t": mapped_column(Sealed(str)),
                "a": sealed(str, row="id"),
                "__sealed_scope__": Scope(tenant="t"),
            },
            "the scope of Model cannot be in 't', which is sealed itself",
        ),
        (lambda: {"id": key(), "a": sealed(str, row="id", onupdate=lambda: "x")}, "onupdate on 'models.a'"),
    ],
)
def test_a_class_that_cannot_work_is_refused(columns: Callable[[], dict[str, Any]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        declared(**columns())


def test_types_that_no_record_holds_are_refused() -> None:
    for kind in (complex, "str", None, object, sa.String(50)):
        with pytest.raises(TypeError, match="a sealed column is of a type of Python"):
            Sealed(kind)
    for length in (0, True, "5"):
        with pytest.raises(ValueError, match="length is"):
            Sealed(str, length=length)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="length is"):
        Sealed(int, length=5)
    with pytest.raises(TypeError, match="row names the columns"):
        sealed(str, row=())


def test_the_repr_of_a_dataclass_shows_nothing() -> None:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    with pytest.raises(ModelError, match="add repr=False"):

        class Loud(Base):
            __tablename__ = "loud"
            id: Mapped[UUID] = mapped_column(primary_key=True)
            a: Mapped[str] = sealed(str, row="id")

    class Quiet(Base):
        __tablename__ = "quiet"
        id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid4)
        a: Mapped[str] = sealed(str, row="id", repr=False, default="secret")

    made: Any = Quiet()
    assert dataclasses.is_dataclass(Quiet)
    assert "secret" not in repr(made)
    assert made.a == "secret"


# --- when a value is set or a flush runs


def test_values_of_another_type_or_length_are_refused(session: Session) -> None:
    user = session.scalars(select(User)).one()
    with pytest.raises(TypeError, match=r"'users.email': the value is of type int, and the column of str"):
        user.email = 4111  # type: ignore[assignment]
    everything = Everything(id=1)
    for name, value in {"bound_int": True, "bound_date": 5, "bound_decimal": 1.5, "bound_enum": "RED"}.items():
        with pytest.raises(TypeError):
            setattr(everything, name, value)
    user.notes = 4111  # type: ignore[assignment]
    with pytest.raises(TypeError, match="the value is of type int"):
        session.flush()
    session.rollback()
    short = sa.Table("short", sa.MetaData(), sa.Column("a", Sealed(str, length=5)))
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as records:
        use_records(short.metadata, records)
        short.create(session.connection())
        session.execute(insert(short), {"a": "12345"})
        with pytest.raises(ValueError, match="has 6 characters, and may have 5"):
            session.execute(insert(short), {"a": "123456"})


def test_without_its_scope_nothing_is_sealed(session: Session, records: Records) -> None:
    session.add(User(email="x@example.com", name="c"))
    with pytest.raises(ContextError, match="'tenant' of the scope is in 'tenant_id', which this row does not have"):
        session.flush()
    session.rollback()
    session.add(User(tenant_id="globex", notes="of globex"))
    with pytest.raises(ContextError, match="of another scope than the block"):
        session.flush()
    session.rollback()
    with records.scope(tenant="globex"), pytest.raises(RecordError):
        session.scalars(select(User)).all()


def test_a_table_of_no_records_is_refused() -> None:
    table = sa.Table("lonely", sa.MetaData(), sa.Column("a", Sealed(str)))
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        table.create(connection)
        with pytest.raises(ModelError, match=r"no Records seals them; call sealwax.sqlalchemy.use_records"):
            connection.execute(insert(table), {"a": "x"})
    engine.dispose()
    with pytest.raises(TypeError, match="takes the metadata"):
        use_records(User, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a Records"):
        use_records(sa.MetaData(), None)  # type: ignore[arg-type]
