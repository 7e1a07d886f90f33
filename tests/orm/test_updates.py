"""UPDATE statements that name a row seal for it; others are refused, and no statement stores a value as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import bindparam, func, insert, literal, select, update
from sqlalchemy.orm import Session, make_transient
from sqlalchemy.orm.attributes import flag_modified

from sealwax import Records
from sealwax.errors import ContextError, ModelError
from tests.orm.models import Base, Doctor, Everything, Person, Renamed, Tenant, User, notes, rows_of_everything

KEY = UUID(int=5)
TABLE: Any = User.__table__
ROWS = rows_of_everything()


def fill(session: Session) -> None:
    session.add_all([Tenant(id="acme"), User(id=KEY, tenant_id="acme", email="old", notes="old", name="a")])
    session.add(User(tenant_id="acme", email="other", notes="other", name="b"))
    session.execute(insert(notes), [{"id": 1, "tenant_id": "acme", "text": "old"}])
    session.commit()


@pytest.fixture
def session(records: Records) -> Iterator[Session]:
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as made, records.scope(tenant="acme"):
        fill(made)
        yield made
    engine.dispose()


def emails(session: Session) -> list[str | None]:
    session.expire_all()
    assert session.scalars(select(User.email).order_by(User.name)).all() == [
        each.email for each in session.scalars(select(User).order_by(User.name))
    ]
    return list(session.scalars(select(User.email).order_by(User.name)).all())


OF_KEY: dict[str, Callable[[Session], Any]] = {
    "orm": lambda s: s.execute(update(User).where(User.id == KEY, User.tenant_id == "acme").values(email="new")),
    "core": lambda s: s.execute(
        update(TABLE).where((TABLE.c.id == KEY) & (TABLE.c.tenant_id == "acme")).values(email="new")
    ),
    "by attributes": lambda s: s.execute(
        update(User).where(User.id == KEY).where(User.tenant_id == "acme").values({User.email: "new"})
    ),
    "parameters": lambda s: s.connection().execute(
        update(TABLE).where(TABLE.c.id == bindparam("k"), TABLE.c.tenant_id == bindparam("t")),
        [{"k": KEY, "t": "acme", "email": "new"}, {"k": uuid4(), "t": "acme", "email": "nobody's"}],
    ),
    "query": lambda s: s.query(User).filter_by(id=KEY, tenant_id="acme").update({"email": "new"}),
    "loaded": lambda s: (
        s.scalars(select(User)).all(),
        s.execute(
            update(User).where(User.id == KEY, User.tenant_id == "acme").values(email="new"),
            execution_options={"synchronize_session": "evaluate"},
        ),
    ),
}


def test_an_update_of_a_named_row_is_sealed_for_it(engine: sa.Engine, records: Records) -> None:
    with Session(engine) as session, records.scope(tenant="acme"):
        fill(session)
        for name, run in OF_KEY.items():
            with session.begin_nested() as savepoint:
                if engine.dialect.name == "mysql":
                    # It may compare the tenant without case, so another one may be meant.
                    with pytest.raises(ModelError, match="does not say which one"):
                        run(session)
                else:
                    run(session)
                    assert emails(session) == ["new", "other"], name
                savepoint.rollback()
        check_bulk_updates(session)


def check_bulk_updates(session: Session) -> None:
    session.execute(insert(Everything), [{"id": row["id"]} for row in ROWS])
    session.execute(update(Everything), ROWS[:3])
    session.bulk_update_mappings(Everything.__mapper__, ROWS[3:])
    for each in session.scalars(select(Everything)).all():
        for name, value in ROWS[each.id].items():
            assert getattr(each, name) == value, name
    session.execute(insert(Renamed), [{"id": 1, "mail": "a"}])
    session.execute(update(Renamed).where(Renamed.id == 1).values(mail="b"))
    session.execute(update(Renamed), [{"id": 1, "mail": "c"}])
    assert session.scalars(select(Renamed.mail)).all() == ["c"]


def test_a_bulk_update_names_the_tenant_in_its_where(session: Session) -> None:
    """A primary key alone does not say which scope a value is sealed for."""
    rows = [{"id": KEY, "email": "new"}, {"id": uuid4(), "email": "nobody's"}]
    whole = {"synchronize_session": None}
    for refused, match in (
        (rows, r"its WHERE does not give tenant_id; give it there, .*where\(User\.tenant_id == .*synchronize_session"),
        ([row | {"tenant_id": "acme"} for row in rows], r"changes 'tenant_id' .*where\(User\.tenant_id == .*"),
    ):
        with pytest.raises(ModelError, match=match):
            session.execute(update(User), refused)
        session.rollback()
    for statement, given in (
        (update(User).where(User.tenant_id == "acme"), rows),
        (update(User).where(User.tenant_id == bindparam("t")), [row | {"t": "acme"} for row in rows]),
    ):
        session.execute(statement, given, execution_options=whole)
        assert emails(session) == ["new", "other"]
        session.rollback()
    session.execute(update(User).where(User.tenant_id == "globex"), rows, execution_options=whole)
    assert emails(session) == ["old", "other"]


def test_an_update_says_what_its_where_lacks(session: Session) -> None:
    for where, missing in (
        ((), "id, tenant_id; give them there"),
        ((TABLE.c.id == KEY,), "tenant_id; give it there"),
        ((TABLE.c.tenant_id == "acme", TABLE.c.id != KEY), "id; give it there"),
    ):
        for many in (False, True):
            statement = update(TABLE).where(*where) if many else update(TABLE).where(*where).values(email="new")
            with pytest.raises(ModelError, match=f"its WHERE does not give {missing}, or set it on an instance$"):
                session.connection().execute(statement, [{"email": "new"}] if many else None)
            session.rollback()


PARAMETERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "update": (
        update(TABLE).where(TABLE.c.id == bindparam("k"), TABLE.c.tenant_id == "acme").values(email=bindparam("new")),
        {"k": KEY},
    ),
    "insert": (insert(TABLE).values(name="a2", email=bindparam("new")), {"id": uuid4(), "tenant_id": "acme"}),
}


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("many", [False, True])
def test_a_parameter_of_another_name_than_its_column_is_refused(session: Session, name: str, many: bool) -> None:
    statement, given = PARAMETERS[name]
    run = session.connection().execute
    with pytest.raises(ModelError, match=r"set to the parameter 'new', .* use bindparam\('email'\)"):
        run(statement, [given | {"new": "new"}] if many else given | {"new": "new"})
    run(statement, [given | {"new": None}] if many else given | {"new": None})
    assert None in emails(session)
    session.rollback()
    same = statement.values(email=bindparam("email"))
    session.connection().execute(same, [given | {"email": "new"}] if many else given | {"email": "new"})
    assert "new" in emails(session)


def test_an_update_may_move_a_row_that_it_names_and_sets_whole(session: Session, records: Records) -> None:
    session.add(Tenant(id="globex"))
    session.flush()
    moved = {"tenant_id": "globex", "email": "new", "card": b"1", "notes": "new"}
    with records.scope(tenant="globex"):
        session.execute(update(User).where(User.id == KEY).values(**moved))
        session.expire_all()
        user = session.get_one(User, KEY)
        assert {name: getattr(user, name) for name in moved} == moved


def test_an_update_is_not_sealed_for_a_row_of_another_table(session: Session) -> None:
    """Though the WHERE names one, by the same names of columns."""
    other, alias = sa.orm.aliased(User), TABLE.alias()
    session.add(Person(id=KEY, tenant_id="acme", kind="person"))
    session.commit()
    for of_other in (
        (Person.id == KEY, Person.tenant_id == "acme", User.id != Person.id),
        (other.id == KEY, other.tenant_id == "acme", User.id != other.id),
        (alias.c.id == KEY, alias.c.tenant_id == "acme", User.id != alias.c.id),
    ):
        statement = update(User).where(*of_other).values(email="new")
        with pytest.raises(ModelError, match="does not say which one"):
            session.execute(statement, execution_options={"synchronize_session": False})
        session.rollback()
        assert emails(session) == ["old", "other"]


def test_statements_do_not_write_rows_of_another_scope(session: Session) -> None:
    """A value of ``Sealed`` would be sealed for the scope of the block."""
    for write in (
        insert(notes).values(id=7, tenant_id="globex", text="new"),
        insert(notes).values([{"id": 7, "tenant_id": "globex", "text": "new"}]),
        insert(User).values(id=uuid4(), tenant_id="globex", notes="new"),
        update(notes).where(notes.c.id == 1, notes.c.tenant_id == "globex").values(text="new"),
        update(notes).where(notes.c.id == 1).values(tenant_id="globex", text="new"),
    ):
        with pytest.raises(ContextError, match=r"another scope than the block of records\.scope"):
            session.execute(write)
        session.rollback()
    session.execute(insert(notes), [{"id": 7, "tenant_id": "globex", "text": None}])
    assert set(session.execute(select(notes.c.text, notes.c.tenant_id))) == {("old", "acme"), (None, "globex")}


STORED: dict[str, tuple[Any, Any]] = {
    "insert of a literal": (insert(notes).values(id=7, tenant_id="acme", text=literal("plain")), None),
    "insert of a parameter": (insert(notes).values(id=7, tenant_id="acme", text=bindparam("x")), {"x": "plain"}),
    "insert of a typed parameter": (insert(notes).values(id=7, text=bindparam("x", type_=sa.Text)), {"x": "plain"}),
    "insert of a function": (insert(notes).values(id=7, text=func.lower("plain")), None),
    "insert of a subquery": (insert(notes).values(id=7, text=select(func.lower("plain")).scalar_subquery()), None),
    "insert of text": (insert(notes).values(id=7, text=sa.text("'plain'")), None),
    "insert of a column in text": (insert(notes).values(id=7, text=sa.literal_column("'plain'")), None),
    "insert of rows": (insert(notes).values([{"id": 7, "text": func.lower("plain")}]), None),
    "insert of a row-bound function": (insert(User).values(id=uuid4(), tenant_id="acme", email=func.lower("p")), None),
    "update of a literal": (update(notes).values(text=literal("plain")), None),
    "update of a typed parameter": (update(notes).values(text=bindparam("x", type_=sa.Text)), {"x": "plain"}),
    "update of a function": (update(notes).values(text=func.lower("plain")), None),
    "update in order": (update(notes).ordered_values((notes.c.text, literal("plain", sa.Text))), None),
    "copy into another column": (update(User).values(name=User.notes), None),
    "copy of a record": (update(User).values(name=User.email), None),
    "copy into another table": (insert(Tenant).values(id=select(User.notes).limit(1).scalar_subquery()), None),
    "copy by select": (insert(Tenant).from_select(["id"], select(User.notes).where(User.notes.is_not(None))), None),
}


@pytest.mark.parametrize("name", STORED)
def test_no_statement_stores_a_value_as_it_is(session: Session, name: str) -> None:
    statement, parameters = STORED[name]
    refused = False
    for _ in range(2):  # also from the cache of compiled statements
        with session.begin_nested() as savepoint:
            try:
                session.execute(statement, parameters)
            except ModelError:
                refused = True
            for query in ("SELECT text FROM notes", "SELECT email FROM users", "SELECT notes FROM users"):
                for (stored,) in session.connection().exec_driver_sql(query):
                    assert bytes(stored)[:1] == b"\xc1"
            assert session.scalars(select(Tenant.id)).all() == ["acme"]
            savepoint.rollback()
    assert refused == ("literal" not in name and name != "insert of a parameter")


def test_a_flush_does_not_store_an_expression(session: Session) -> None:
    for values in ({"email": func.lower("plain")}, {"notes": func.lower("plain")}):
        with pytest.raises((ModelError, TypeError)):  # noqa: PT012  # the one or the other
            session.add(User(tenant_id="acme", **values))
            session.flush()
        session.rollback()


def test_bulk_of_a_class_of_two_tables_names_what_to_do(session: Session) -> None:
    with pytest.raises(ModelError, match=r"'tenant_id', which is not a column of 'doctors'; add .* session.add_all"):
        session.execute(insert(Doctor), [{"tenant_id": "acme", "name": "n", "license": "l"}])
    session.rollback()
    session.execute(insert(Doctor), [{"tenant_id": "acme", "name": "n", "kind": "doctor"}])
    assert session.scalars(select(Doctor.name)).all() == ["n"]


@pytest.mark.parametrize(("name", "changed"), [("dict", {"a": [1, 2.5, None, "é"], "b": 2}), ("list", ["new"])])
@pytest.mark.parametrize("kind", ["bound", "plain"])
def test_a_value_that_changed_in_place_is_stored_if_it_is_flagged(
    session: Session, kind: str, name: str, changed: Any
) -> None:
    key = f"{kind}_{name}"
    row = Everything(id=1, **{key: {"a": [1, 2.5, None, "é"]} if name == "dict" else []})
    session.add(row)
    session.commit()
    for expected in (changed, changed | {"c": 3} if name == "dict" else [*changed, 3]):
        value = getattr(row, key)
        value.update(expected) if name == "dict" else value.append(expected[-1])
        flag_modified(row, key)
        session.flush()
        value.clear()  # a change that is not flagged is not written by the next flush
        row.plain_str = str(expected)
        session.commit()
        session.expire_all()
        assert getattr(row, key) == expected


def test_a_value_that_changed_in_place_is_stored_by_an_insert(session: Session) -> None:
    row = Everything(id=1, bound_dict={"a": 1}, bound_list=[])
    session.add(row)
    session.flush()
    session.rollback()
    assert row.bound_dict is not None
    row.bound_dict["a"] = 2
    session.add(row)
    session.flush()
    make_transient(row)
    row.id = 1
    session.expunge_all()
    session.execute(sa.text("DELETE FROM everything"))
    row.bound_dict["a"] = 3
    session.add(row)
    session.commit()
    assert row.bound_dict == {"a": 3}


def test_merge_writes_a_value_that_changed_in_place(session: Session) -> None:
    row = Everything(id=1, bound_dict={"a": 1})
    session.add(row)
    session.commit()
    assert row.bound_dict is not None
    session.expunge(row)
    row.bound_dict["a"] = 2
    assert session.merge(row) is not row
    session.commit()
    assert session.get_one(Everything, 1).bound_dict == {"a": 2}
