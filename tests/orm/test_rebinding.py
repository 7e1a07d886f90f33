"""What is bound to a row moves with it: after a change of tenant or key, everything opens, also what was not loaded."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from sealwax import Records
from sealwax.errors import ModelError, NotARecordError, RecordTamperedError
from tests.orm.models import Base, Tenant, User


@pytest.fixture
def session(records: Records) -> Iterator[Session]:
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as made:
        made.add_all([Tenant(id="acme"), Tenant(id="globex")])
        with records.scope(tenant="acme"):
            made.add(User(tenant_id="acme", email="ada@example.com", card=b"4111", notes="VIP"))
            made.commit()
        yield made
    engine.dispose()


def load(session: Session, records: Records) -> User:
    session.expunge_all()
    with records.scope(tenant="acme"):
        user = session.scalars(select(User)).one()
    assert "card" not in sa.inspect(user).dict, "it is deferred"
    return user


def check(session: Session, records: Records, tenant: str) -> None:
    session.expunge_all()
    with records.scope(tenant=tenant):
        user = session.scalars(select(User)).one()
        assert (user.tenant_id, user.email, user.card, user.notes) == (tenant, "ada@example.com", b"4111", "VIP")


def test_what_was_not_loaded_moves_too(session: Session, records: Records) -> None:
    user = load(session, records)
    with records.scope(tenant="globex"):
        user.tenant_id = "globex"
        session.commit()
    check(session, records, "globex")


def test_a_tenant_that_was_not_loaded_is_replaced(session: Session, records: Records) -> None:
    user = load(session, records)
    with records.scope(tenant="globex"):
        for names in (["tenant_id"], ["tenant_id", "email", "card"]):
            session.expire(user, names)
            user.tenant_id = "globex"
        session.commit()
    check(session, records, "globex")


def test_a_new_key_takes_what_was_not_loaded_along(session: Session, records: Records) -> None:
    user = load(session, records)
    with records.scope(tenant="acme"):
        user.id = uuid4()
        session.commit()
    check(session, records, "acme")


def test_a_tenant_that_comes_back_before_the_flush_changes_nothing(session: Session, records: Records) -> None:
    before = session.connection().exec_driver_sql("SELECT email FROM users").scalar()
    user = load(session, records)
    with records.scope(tenant="acme"):
        user.tenant_id = "globex"
        user.tenant_id = "acme"
        session.commit()
    assert session.connection().exec_driver_sql("SELECT email FROM users").scalar() == before
    check(session, records, "acme")


def test_a_record_that_was_copied_to_another_row_is_refused(session: Session, records: Records) -> None:
    with records.scope(tenant="acme"):
        session.add(User(tenant_id="acme", email="bob@example.com", name="bob"))
        session.commit()
        session.connection().exec_driver_sql(
            "UPDATE users SET email = (SELECT email FROM users WHERE name IS NULL) WHERE name = 'bob'"
        )
        session.expunge_all()
        bob = session.scalars(select(User).where(User.name == "bob")).one()
        with pytest.raises(RecordTamperedError, match=r"users\.email"):
            _ = bob.email
        with pytest.raises(RecordTamperedError):
            session.scalars(select(User.email).where(User.name == "bob")).all()
        bob.email = "bob@example.com"
        session.commit()
        assert session.scalars(select(User.email).where(User.name == "bob")).all() == ["bob@example.com"]


def test_core_does_not_open_what_it_sees_without_its_row(session: Session, records: Records) -> None:
    table = User.__table__
    with records.scope(tenant="acme"):
        (value,) = session.execute(select(table.c.email)).one()
        assert repr(value) == "<SealedValue>"
        assert value.record.startswith(b"\xc1")
        assert (
            records.field("users.email", row=type(uuid4()), tenant="acme").open(
                value.record, row=session.scalars(select(User.id)).one()
            )
            == "ada@example.com"
        )
        with pytest.raises(ModelError, match="not known which row"):
            session.execute(sa.insert(User), [{"id": uuid4(), "tenant_id": "acme", "email": value}])


def test_text_where_a_record_should_be_is_named(session: Session, records: Records) -> None:
    """SQLite keeps it in a column of bytes."""
    with records.scope(tenant="acme"):
        for column in ("email", "notes"):
            session.connection().exec_driver_sql(f"UPDATE users SET {column} = 'plain text'")
            with pytest.raises(NotARecordError, match=f"returned a str for 'users.{column}', not a record") as refused:
                session.execute(select(User.email, User.notes)).all()
            assert "plain text" not in str(refused.value)
            session.rollback()
