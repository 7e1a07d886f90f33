"""An ``AsyncSession`` awaits data keys that are not in memory, where it can, and says what to await where it cannot."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sealwax import Records
from sealwax.errors import KeyNotLoadedError
from sealwax.records import MemoryKeys
from sealwax.sqlalchemy import use_records
from tests.fakes import FakeKeyring
from tests.orm.models import Base, Everything, Tenant, User, notes, rows_of_everything


def of(database: str) -> AsyncEngine:
    return create_async_engine(database.replace("sqlite:", "sqlite+aiosqlite:"))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])  # there is no driver of MySQL that awaits here
def test_an_async_session_awaits_what_is_missing(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/app.db" if kind == "sqlite" else request.getfixturevalue("postgresql")
    keyring, store = FakeKeyring(), MemoryKeys()

    async def write() -> None:
        async with AsyncSession(engine) as session:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.drop_all)
                await connection.run_sync(Base.metadata.create_all)
            session.add(Tenant(id="acme"))
            session.add(User(tenant_id="acme", email="ada@example.com", card=b"4111", notes="VIP"))
            await session.commit()
            await session.execute(insert(notes), [{"id": 1, "tenant_id": "acme", "text": "one"}])
            await session.commit()

    async def read() -> None:
        async with AsyncSession(engine) as session:
            user = (await session.scalars(select(User))).one()
            assert (user.email, user.notes) == ("ada@example.com", "VIP")
            await session.refresh(user, ["card"])
            assert user.card == b"4111"
            assert (await session.scalars(select(User.email))).all() == ["ada@example.com"]
            user.tenant_id = "globex"
            session.add(Tenant(id="globex"))
            with records.scope(tenant="globex"):
                await session.commit()
                await session.refresh(user)
            assert user.email == "ada@example.com"

    engine = of(database)
    for work in (write, read):
        with Records(keyring, store, scope={"app": "shop"}) as records, records.scope(tenant="acme"):
            use_records(Base.metadata, records)

            async def run(work: object = work) -> None:
                await work()  # type: ignore[operator]
                await engine.dispose()

            asyncio.run(run())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_type_comes_back(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/app.db" if kind == "sqlite" else request.getfixturevalue("postgresql")
    rows = rows_of_everything()
    names = [name for name in rows[1] if name != "id"]

    async def run() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine, expire_on_commit=False) as session:
            session.add_all([Everything(**row) for row in rows[:2]])
            await session.commit()
            await session.execute(insert(Everything), rows[2:4])
            await session.execute(insert(Everything).returning(Everything), rows[4:])
            await session.execute(update(Everything), rows)
            await session.commit()
        async with AsyncSession(engine) as session:
            columns = [getattr(Everything, name) for name in names]
            read = (await session.execute(select(Everything.id, *columns))).all()
            streamed = [each async for each in await session.stream_scalars(select(Everything))]
            assert len(read) == len(streamed) == len(rows)
            for values in (*read, *((each.id, *(getattr(each, name) for name in names)) for each in streamed)):
                assert dict(zip(("id", *names), values, strict=True)) == rows[values[0]]
            one = await session.get_one(Everything, 1)
            one.bound_str = "changed"
            await session.commit()
            await session.refresh(one)
            assert one.bound_str == "changed"
        await engine.dispose()

    engine = of(database)
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as records:
        use_records(Base.metadata, records)
        asyncio.run(run())


def test_rows_of_core_that_are_read_in_the_loop_name_what_to_await(tmp_path: Path) -> None:
    keyring, store = FakeKeyring(), MemoryKeys()
    url = f"{tmp_path}/app.db"
    engine = sa.create_engine(f"sqlite:///{url}")
    with Records(keyring, store, scope={"app": "shop"}) as records, records.scope(tenant="acme"):
        use_records(Base.metadata, records)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.execute(insert(notes), [{"id": 1, "tenant_id": "acme", "text": "one"}])
            session.commit()
    engine.dispose()

    async def read(records: Records) -> None:
        asynchronous = create_async_engine(f"sqlite+aiosqlite:///{url}")
        async with asynchronous.connect() as connection:
            rows = await connection.execute(select(notes.c.text))
            with pytest.raises(KeyNotLoadedError, match=r"await records\.ensure_async"):
                rows.all()
            await records.ensure_async(tenant="acme")
            assert (await connection.scalars(select(notes.c.text))).all() == ["one"]
        await asynchronous.dispose()

    with Records(keyring, store, scope={"app": "shop"}) as records, records.scope(tenant="acme"):
        use_records(Base.metadata, records)
        asyncio.run(read(records))
