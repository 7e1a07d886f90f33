"""The database, and the Records that seals its columns."""

import sealwax
from sealwax.lab import Lab
from sealwax.records import Records, SqlKeys
from sealwax.sqlalchemy import use_records
from sqlalchemy.ext.asyncio import create_async_engine

from shop import settings
from shop.models import Base

engine = create_async_engine(settings.DATABASE_URL)
session = Lab("./lab").session() if settings.ENV == "dev" else None  # None: the credentials and Region that boto3 finds
keyring = sealwax.KmsKeyring(settings.KMS_KEYS[0], decrypt_with=settings.KMS_KEYS, session=session)
# The data keys, which KMS has wrapped, are in a table of the same database.
records = Records(keyring, SqlKeys(engine), scope={"app": "shop", "env": settings.ENV})
use_records(Base.metadata, records)
