"""What reseal makes of rows that were there before: tenants, blind indexes, and the states of releases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sealwax import Records
from sealwax.errors import ModelError
from sealwax.records import MemoryKeys
from sealwax.records.moving import Moving, Plaintext
from sealwax.records.tables import ResealReport, reseal, stale
from sealwax.sqlalchemy import IndexOf, Scope, sealed, sealed_columns, use_records
from tests.fakes import FakeKeyring

OLD = Plaintext()


class Shop:
    """Rows of an application, of the models that a test gives."""

    def __init__(self, url: str, base: Any) -> None:
        self.engine = sa.create_engine(url)
        base.metadata.drop_all(self.engine)
        base.metadata.create_all(self.engine)
        self.records = Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"})
        self.columns = sealed_columns(base.metadata)
        use_records(base.metadata, self.records)

    def run(self, statement: str, **values: object) -> Any:
        with self.engine.begin() as connection:
            return connection.execute(sa.text(statement), values)

    def reseal(self, **options: Any) -> ResealReport:
        return reseal(self.records, self.engine, self.columns, **{"settle": 0, **options})

    def close(self) -> None:
        self.records.close()
        self.engine.dispose()


@pytest.fixture
def shop(database: str) -> Iterator[Callable[[Any], Shop]]:
    with contextlib.ExitStack() as stack:

        def made(base: Any) -> Shop:
            own = Shop(database, base)
            stack.callback(own.close)
            stack.callback(base.metadata.drop_all, own.engine)
            return own

        yield made


def test_a_tenant_that_is_a_uuid_is_the_same_to_the_map_and_to_the_model(shop: Callable[[Any], Shop]) -> None:
    class Own(DeclarativeBase):
        pass

    class Client(Own):
        __tablename__ = "clients_of_uuids"
        __sealed_scope__ = Scope(tenant="tenant_id")
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        tenant_id: Mapped[UUID]
        email: Mapped[str] = sealed(str, row="id", storage=sa.Text, moving=Moving(OLD, writes="records"))

    own, tenant = shop(Own), UUID(int=7)
    own.records.ensure(tenant="other")
    with Session(own.engine) as session:
        session.add(Client(id=1, tenant_id=tenant, email="ada@example.com"))
        session.commit()
        own.run("UPDATE clients_of_uuids SET email = 'bob@example.com'")
        report = own.reseal()
        assert ([count.moved for count in report.columns], report.left, report.failures) == ([1], 0, ())
        session.rollback()
        assert session.get_one(Client, 1).email == "bob@example.com"
        assert sorted(row.scope["tenant"] for row in own.records.store.list()) == sorted([str(tenant), "other"])


class Shouted(sa.TypeDecorator[str]):
    """A column that has its values in upper case."""

    impl = sa.String(20)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        return value and value.upper()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        return value and value.lower()


@pytest.mark.parametrize(
    ("changed", "kind"),
    [("tenant_id", Shouted()), ("tenant_id", sa.Uuid(as_uuid=False)), ("id", sa.Uuid(as_uuid=False))],
)
def test_what_the_program_sees_otherwise_than_the_database_is_refused(changed: str, kind: Any) -> None:
    types = {"id": sa.String(20), "tenant_id": sa.String(20), changed: kind}

    class Own(DeclarativeBase):
        pass

    class Client(Own):
        __tablename__ = "clients"
        __sealed_scope__ = Scope(tenant="tenant_id")
        id: Mapped[str] = mapped_column(types["id"], primary_key=True)
        tenant_id: Mapped[str] = mapped_column(types["tenant_id"])
        email: Mapped[str] = sealed(str, row="id")

    assert Client.__table__ is not None
    with pytest.raises(ModelError, match=rf"'clients\.email' is bound to '{changed}' of type .* by hand"):
        sealed_columns(Own.metadata)


def _searched(table: str, state: Moving | None) -> tuple[Any, Any]:
    class Own(DeclarativeBase):
        pass

    class Client(Own):
        __tablename__ = table
        __table_args__ = ({"mysql_charset": "utf8mb4"},)
        __sealed_scope__ = Scope(tenant="tenant_id")
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        tenant_id: Mapped[int]
        email: Mapped[str | None] = sealed(str, row="id", storage=sa.Text, moving=state)
        email_index: Mapped[bytes | None] = mapped_column(IndexOf("email", normalize="email/1", bits=20), index=True)
        everywhere: Mapped[bytes | None] = mapped_column(IndexOf("email", bits=128, shared=True))

    return Own, Client


def test_reseal_fills_the_indexes_of_rows_that_were_there_before(shop: Callable[[Any], Shop]) -> None:
    base, client = _searched("searched", Moving(OLD, writes="records"))
    own = shop(base)
    own.records.ensure(tenant="1")
    with Session(own.engine) as session, own.records.scope(tenant="1"):
        session.add_all([client(id=each, tenant_id=1, email=f"{each}@example.com") for each in range(3)])
        session.commit()
        made = session.execute(sa.text("SELECT email_index, everywhere FROM searched ORDER BY id")).all()
        # Records without an index, a value of the old form, NULL, and one that the normalizer does not take.
        own.run("UPDATE searched SET email_index = NULL, everywhere = NULL WHERE id > 0")
        insert = "INSERT INTO searched (id, tenant_id, email) VALUES (:id, 1, :email)"
        for number, email in ((3, "Ada@Example.com"), (4, None), (5, "\u0378@example.com")):
            own.run(insert, id=number, email=email)
        lacking = stale(own.records.store, own.engine, own.columns).without_index
        assert lacking == {"searched.email_index": 4, "searched.everywhere": 4}
        report = own.reseal()
        session.rollback()
        assert [(each.column, each.filled, each.failed, each.left) for each in report.indexes] == [
            ("searched.email_index", 3, 1, 1),
            ("searched.everywhere", 4, 0, 0),
        ]
        assert [(each.key, each.column) for each in report.indexes[0].failures] == [((5,), "searched.email_index")]
        assert session.execute(sa.text("SELECT email_index, everywhere FROM searched ORDER BY id")).all()[:3] == made
        for number, email in ((1, "1@example.com"), (2, "2@EXAMPLE.com"), (3, "ada@example.com")):
            assert [each.id for each in client.email_index.find(session, email)] == [number]
    assert [each.filled for each in own.reseal().indexes] == [0, 0]


def test_an_index_is_not_set_beside_a_value_that_changes_meanwhile(shop: Callable[[Any], Shop]) -> None:
    base, client = _searched("searched_meanwhile", None)
    own = shop(base)
    with Session(own.engine) as session, own.records.scope(tenant="1"):
        session.add_all([client(id=each, tenant_id=1, email="old@example.com") for each in range(3)])
        session.commit()
        new = session.execute(sa.text("SELECT email, email_index FROM searched_meanwhile WHERE id = 2")).one()
        session.get_one(client, 1).email = "new@example.com"
        session.commit()
        own.run("UPDATE searched_meanwhile SET email_index = NULL, everywhere = NULL")
        changed: list[int] = []

        # Between the page that was read and the indexes that are written.
        @sa.event.listens_for(own.engine, "before_cursor_execute")
        def change(*given: Any) -> None:
            if "UPDATE" in given[2] and "everywhere" not in given[2] and not changed:
                changed.append(0)
                own.run("UPDATE searched_meanwhile SET email = NULL WHERE id = 0")

        counts = own.reseal().indexes[0]
        assert changed == [0]
        assert (counts.filled, counts.changed, counts.left) == (2, 1, 0)
        assert session.execute(sa.text("SELECT email_index FROM searched_meanwhile WHERE id = 0")).scalar() is None
        assert session.execute(sa.text("SELECT email_index FROM searched_meanwhile WHERE id = 2")).scalar() == new[1]


def test_nothing_moves_that_another_release_could_not_read(shop: Callable[[Any], Shop]) -> None:
    base, client = _searched("releases", Moving(OLD, writes="old"))
    own = shop(base)
    own.records.ensure(tenant="1")
    with Session(own.engine) as session, own.records.scope(tenant="1"):
        session.add(client(id=1, tenant_id=1, email="ada@example.com"))
        session.commit()
        report = own.reseal()
        assert ([count.moved for count in report.columns], report.left, report.next_steps) == ([0], 1, {})
        assert session.execute(sa.text("SELECT email FROM releases")).scalar() == "ada@example.com"
    for state in (None, Moving(OLD, writes="records")):
        columns = sealed_columns(_searched("releases", state)[0].metadata)
        with pytest.raises(ValueError, match=r'records cannot move out of releases\.email .* writes="old"'):
            reseal(own.records, own.engine, columns, settle=0, to=OLD)
    own.reseal(to=OLD)
