"""The maps of models, as ``reseal``, ``stale`` and ``verify`` take them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sealwax import Records
from sealwax.errors import ModelError
from sealwax.records import UNBOUND, SqlKeys
from sealwax.records.moving import Moving, Plaintext
from sealwax.records.tables import SealedColumn, SealedIndex, reseal, stale, verify
from sealwax.sqlalchemy import IndexOf, Scope, Sealed, sealed, sealed_columns, use_records
from tests.fakes import FakeKeyring
from tests.orm.models import Base, Color

OLD = Plaintext()


def _models() -> tuple[Any, Any]:
    class Own(DeclarativeBase):
        pass

    class User(Own):
        __tablename__ = "users"
        __sealed_scope__ = Scope(tenant="tenant")
        key: Mapped[UUID] = mapped_column("id", primary_key=True)
        tenant: Mapped[int] = mapped_column("tenant_id")
        email: Mapped[str] = sealed(str, row="key", field="users.mail", name="e_mail")
        mail_index: Mapped[bytes | None] = mapped_column(IndexOf("email", normalize="email/1", bits=16))
        color: Mapped[Color | None] = sealed(
            Color, row=("key", "tenant"), storage=sa.Text, moving=Moving(OLD, writes="records")
        )
        before: Mapped[date | None] = mapped_column("born", sa.Date)
        born: Mapped[date | None] = sealed(
            date, row="key", name="born_sealed", moving=Moving(OLD, writes="records"), moved_from="born"
        )

    sa.Table("notes", Own.metadata, sa.Column("text", Sealed(str)), schema="other")
    return Own, User


def test_a_map_has_what_the_models_say() -> None:
    own, _ = _models()
    scope = {"tenant": "tenant_id"}
    by_id: dict[str, Any] = {"row": {"id": UUID}, "scope": scope, "writes": "records"}
    index = SealedIndex("mail_index", 16, "email/1")
    assert sealed_columns(own.metadata) == [
        SealedColumn("users", "e_mail", **by_id, field="users.mail", indexes=[index]),
        SealedColumn("users", "color", **{**by_id, "row": {"id": UUID, "tenant_id": int}}, moves_from=OLD, kind=str),
        SealedColumn("users", "born_sealed", **by_id, moves_from=OLD, kind=date, moved_from="born"),
        SealedColumn("other.notes", "text", row=UNBOUND, writes="records"),
    ]


def test_what_has_no_map_is_refused() -> None:
    with pytest.raises(ModelError, match="there is no sealed column in these tables"):
        sealed_columns(sa.MetaData())
    with pytest.raises(TypeError, match=r"such as Base\.metadata"):
        sealed_columns(Base)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"'doctors\.license' is bound to 'tenant_id', which is in another table"):
        sealed_columns(Base.metadata)


def test_reseal_stale_and_verify_take_a_map(tmp_path: Path) -> None:
    own, user = _models()
    own.metadata.remove(own.metadata.tables["other.notes"])
    engine = sa.create_engine(f"sqlite:///{tmp_path}/app.db")
    own.metadata.create_all(engine)
    store = SqlKeys(engine)
    store.create_table()
    columns = sealed_columns(own.metadata)
    with Records(FakeKeyring(), store, scope={"app": "shop"}) as records, Session(engine) as session:
        use_records(own.metadata, records)
        values = {"email": "a", "color": Color.RED, "born": date(2000, 1, 1)}
        session.add_all([user(key=UUID(int=number), tenant=7, **values) for number in range(5)])
        session.commit()
        session.execute(
            sa.text("UPDATE users SET color = 'GREEN', born = '1999-01-01', born_sealed = NULL WHERE rowid < 3")
        )
        session.commit()
        records.roll(tenant="7")
        assert stale(store, engine.url, columns).stale
        report = reseal(records, engine.url, columns, settle=0)
        assert [count.unopened for count in report.columns] == [0, 0, 0]
        assert sum(count.opened for count in verify(records, engine.url, columns).columns) == 15
        session.expire_all()
        rows = session.execute(select(user.color, user.born, user.before).order_by(user.key)).all()
        assert rows[0] == (Color.GREEN, date(1999, 1, 1), None)
        assert rows[4] == (Color.RED, date(2000, 1, 1), None)
    engine.dispose()
