"""Customers: sealed attributes are used as any others; an index finds a customer by e-mail address."""

import base64
import hashlib
import hmac
import os
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError

from shop.models import Customer
from shop.tenants import CurrentTenant, Session

router = APIRouter()


class NewCustomer(BaseModel):
    email: str
    password: str
    address: dict[str, Any] | None = None
    notes: str | None = None


class Shown(BaseModel):
    id: UUID
    email: str
    address: dict[str, Any] | None
    notes: str | None


class SignIn(BaseModel):
    email: str
    password: str


@router.post("/customers", status_code=201)
async def create(new: NewCustomer, tenant: CurrentTenant, session: Session) -> Shown:
    customer = Customer(
        tenant_id=tenant,
        email=new.email,
        password_hash=hash_password(new.password),
        address=new.address,
        notes=new.notes,
    )
    session.add(customer)
    try:
        await session.commit()
    except IntegrityError:
        raise HTTPException(409, "there is a customer with this e-mail address") from None
    return shown(customer)


@router.get("/customers/{customer_id}")
async def read(customer_id: UUID, tenant: CurrentTenant, session: Session) -> Shown:
    query = sa.select(Customer).where(Customer.id == customer_id, Customer.tenant_id == tenant)
    customer = await session.scalar(query)
    if customer is None:
        raise HTTPException(404, "there is no such customer")
    return shown(customer)


@router.post("/sign-in")
async def sign_in(given: SignIn, tenant: CurrentTenant, session: Session) -> Shown:
    for customer in await Customer.email_index.find_async(session, given.email, tenant=tenant):
        if password_fits(given.password, customer.password_hash):
            return shown(customer)
    raise HTTPException(401, "wrong e-mail address or password")


def shown(customer: Customer) -> Shown:
    return Shown(id=customer.id, email=customer.email, address=customer.address, notes=customer.notes)


def hash_password(password: str, salt: bytes | None = None) -> str:
    salt = salt or os.urandom(16)
    return base64.b64encode(salt + hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)).decode()


def password_fits(password: str, hashed: str) -> bool:
    return hmac.compare_digest(hash_password(password, base64.b64decode(hashed)[:16]), hashed)
