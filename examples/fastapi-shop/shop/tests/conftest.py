"""The application over a KMS and a key store of the test's own, with new tables."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import sqlalchemy as sa
from sealwax.records import Records
from sealwax.records.testing import override_records

from shop import settings
from shop.app import app, lifespan
from shop.models import Base
from shop.sealing import records


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def lab_records(sealwax_records: Records) -> Iterator[None]:
    with override_records(records, sealwax_records):
        yield


@pytest.fixture
def database() -> Iterator[sa.Engine]:
    engine = sa.create_engine(settings.DATABASE_URL)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
async def admin(monkeypatch: pytest.MonkeyPatch, database: sa.Engine) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr(settings, "ADMIN_TOKEN", "secret")
    async with lifespan(app), client("secret") as opened:
        yield opened


@pytest.fixture
async def acme(admin: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    async with await of_tenant(admin, "acme") as opened:
        yield opened


async def of_tenant(admin: httpx.AsyncClient, tenant: str) -> httpx.AsyncClient:
    """A client with the token of a new tenant."""
    created = await admin.post("/tenants", json={"id": tenant})
    return client(created.json()["token"])


def client(token: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://shop", headers={"Authorization": f"Bearer {token}"})
