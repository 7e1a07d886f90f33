"""What the application promises, through HTTP as its users have it, and in the tables as whoever copies them has it."""

from typing import Any

import pytest
import sqlalchemy as sa
from httpx import AsyncClient
from sealwax.records import is_record

from shop import health
from shop.tests.conftest import of_tenant

pytestmark = pytest.mark.anyio
ADA = {
    "email": "Ada@example.com",
    "password": "engine",
    "address": {"city": "London", "street": "12 St James's Square"},
    "notes": "prefers letters",
}


async def test_a_customer_comes_back_and_signs_in(acme: AsyncClient) -> None:
    created = await acme.post("/customers", json=ADA)
    assert created.status_code == 201
    customer = created.json()
    assert customer.items() >= {name: value for name, value in ADA.items() if name != "password"}.items()
    assert (await acme.get(f"/customers/{customer['id']}")).json() == customer
    assert (await acme.post("/sign-in", json={"email": "ada@EXAMPLE.com", "password": "engine"})).json() == customer
    assert (await acme.post("/sign-in", json={"email": "ada@example.com", "password": "other"})).status_code == 401
    assert (await acme.post("/customers", json={**ADA, "email": "ADA@example.com"})).status_code == 409


async def test_the_tables_tell_nothing(acme: AsyncClient, database: sa.Engine) -> None:
    await acme.post("/customers", json=ADA)
    with database.connect() as connection:
        row = connection.execute(sa.text("SELECT * FROM customers")).mappings().one()
    assert all(is_record(row[name]) for name in ("email", "address", "notes"))
    assert not any(word in repr(dict(row)).lower() for word in ("example.com", "london", "letters", "engine"))


async def test_a_tenant_has_its_own_customers(admin: AsyncClient, acme: AsyncClient, database: sa.Engine) -> None:
    mine = (await acme.post("/customers", json=ADA)).json()["id"]
    async with await of_tenant(admin, "globex") as globex:
        assert (await globex.post("/customers", json={**ADA, "password": "other"})).status_code == 201
        assert (await globex.get(f"/customers/{mine}")).status_code == 404
        refused = await globex.post("/sign-in", json={"email": "ada@example.com", "password": "engine"})
        assert refused.status_code == 401
    with database.connect() as connection:
        indexes = connection.execute(sa.text("SELECT email_index FROM customers")).scalars().all()
    assert len(set(indexes)) == 2  # the same address, and nobody sees that it is


async def test_a_value_does_not_open_in_another_row(acme: AsyncClient, database: sa.Engine) -> None:
    ada = (await acme.post("/customers", json=ADA)).json()["id"]
    bob = (await acme.post("/customers", json={**ADA, "email": "bob@example.com"})).json()["id"]
    with database.begin() as connection:
        query = "UPDATE customers SET email = (SELECT email FROM customers WHERE id = :ada) WHERE id = :bob"
        connection.execute(sa.text(query), {"ada": ada, "bob": bob})
    assert (await acme.get(f"/customers/{bob}")).status_code == 500


async def test_without_a_token_there_is_nothing(acme: AsyncClient) -> None:
    assert (await acme.post("/tenants", json={"id": "mine"})).status_code == 403
    assert (await acme.delete("/tenants/acme?confirm=acme")).status_code == 403
    acme.headers["Authorization"] = "Bearer guess"
    assert (await acme.post("/customers", json=ADA)).status_code == 401


async def test_a_deleted_tenant_does_not_come_back(admin: AsyncClient, acme: AsyncClient, database: sa.Engine) -> None:
    customer = (await acme.post("/customers", json=ADA)).json()["id"]
    with database.connect() as connection:
        tables = ("tenants", "customers")
        backup = [connection.execute(sa.text(f"SELECT * FROM {table}")).mappings().one() for table in tables]
    assert (await admin.delete("/tenants/acme?confirm=amce")).status_code == 400
    # The data key, and that of the index.
    assert (await admin.delete("/tenants/acme?confirm=acme")).json() == {"customers": 1, "data_keys": 2}
    assert (await acme.get(f"/customers/{customer}")).status_code == 401
    with database.begin() as connection:
        for table, row in zip(tables, backup, strict=True):
            names = list(map(str, row))
            values = ", ".join(f":{name}" for name in names)
            connection.execute(sa.text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})"), dict(row))
    # The rows are back. What they say is not.
    assert (await acme.get(f"/customers/{customer}")).status_code == 410


async def test_health_says_whether_kms_answers(
    admin: AsyncClient, acme: AsyncClient, sealwax_kms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "SECONDS", -1.0)
    assert (await admin.get("/health")).json() == {"database": "ok", "kms": "ok"}
    await acme.post("/customers", json=ADA)
    key = sealwax_kms.describe_key(KeyId="alias/sealwax-records")["KeyMetadata"]["KeyId"]
    sealwax_kms.disable_key(KeyId=key)
    assert (await admin.get("/health")).json() == {"database": "ok", "kms": "KeyStateError"}
    # Tenants whose data keys are in memory do not notice.
    assert (await acme.post("/customers", json={**ADA, "email": "bob@example.com"})).status_code == 201
    refused = await admin.post("/tenants", json={"id": "new"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
