"""The application: uvicorn shop.app:app"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sealwax
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from shop import customers, health, tenants
from shop.sealing import engine, records


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    records.close()  # wipes the data keys
    await engine.dispose()


app = FastAPI(title="shop", lifespan=lifespan)
for each in (tenants, customers, health):
    app.include_router(each.router)


@app.exception_handler(sealwax.ShreddedError)
async def gone(_: Request, __: sealwax.ShreddedError) -> JSONResponse:
    return JSONResponse({"detail": "this tenant was deleted"}, 410)


@app.exception_handler(sealwax.KmsError)
@app.exception_handler(sealwax.KeyStoreError)
async def unavailable(_: Request, error: sealwax.SealwaxError) -> JSONResponse:
    logging.getLogger(__name__).error("%s: %s", type(error).__name__, error)
    return JSONResponse({"detail": "the keys cannot be reached; try again later"}, 503, {"Retry-After": "5"})
