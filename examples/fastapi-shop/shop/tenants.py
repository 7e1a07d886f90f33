"""Tenants: which one a request is for, how one is made, and how one is forgotten."""

import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from shop import settings
from shop.models import Customer, Tenant
from shop.sealing import engine, records

router = APIRouter(prefix="/tenants")
Bearer = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


async def session() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine, expire_on_commit=False) as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


# `async def`, even if nothing were awaited: FastAPI runs a `def` in another thread, where records.scope ends with it.
async def current_tenant(session: Session, bearer: Bearer) -> AsyncIterator[str]:
    """The tenant of the token. What this request seals and opens is of this tenant."""
    tenant = await session.scalar(sa.select(Tenant).where(Tenant.token_hash == digest(bearer.credentials)))
    if tenant is None:
        raise HTTPException(401, "unknown token")
    with records.scope(tenant=tenant.id):
        yield tenant.id


CurrentTenant = Annotated[str, Depends(current_tenant)]


def admin(bearer: Bearer) -> None:
    if not settings.ADMIN_TOKEN or not hmac.compare_digest(digest(bearer.credentials), digest(settings.ADMIN_TOKEN)):
        raise HTTPException(403, "only an admin may do this")


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class NewTenant(BaseModel):
    id: str = Field(pattern="^[a-z0-9-]{1,40}$")


@router.post("", status_code=201, dependencies=[Depends(admin)])
async def create(new: NewTenant, session: Session) -> dict[str, str]:
    if await session.get(Tenant, new.id):
        raise HTTPException(409, "there is such a tenant")
    await records.ensure_async(tenant=new.id)  # its data key; refused if a tenant of this name was shredded
    token = secrets.token_urlsafe(32)
    session.add(Tenant(id=new.id, token_hash=digest(token)))
    await session.commit()
    return {"id": new.id, "token": token}


@router.delete("/{tenant_id}", dependencies=[Depends(admin)])
async def forget(tenant_id: str, confirm: str, session: Session) -> dict[str, int]:
    """Destroy the data keys of a tenant, then its rows. Copies of the rows, as in backups, never open again."""
    if confirm != tenant_id:
        raise HTTPException(400, "confirm has to repeat the id of the tenant")
    if await session.get(Tenant, tenant_id) is None:
        raise HTTPException(404, "there is no such tenant")
    shredded = await records.shred_async(tenant=tenant_id)  # first: if it fails, the same request can be sent again
    deleted = await session.scalars(sa.delete(Customer).where(Customer.tenant_id == tenant_id).returning(Customer.id))
    count = len(deleted.all())
    await session.execute(sa.delete(Tenant).where(Tenant.id == tenant_id))
    await session.commit()
    return {"customers": count, "data_keys": len(shredded)}
