"""The Records that seals the fields of the models; the setting SEALWAX names the function."""

import sealwax
from django.conf import settings
from sealwax.django import DjangoKeys
from sealwax.lab import Lab
from sealwax.records import Records


def make_records() -> Records:
    session = Lab("./lab").session() if settings.ENV == "dev" else None  # None: what boto3 finds
    keyring = sealwax.KmsKeyring(settings.KMS_KEYS[0], decrypt_with=settings.KMS_KEYS, session=session)
    # The data keys, which KMS has wrapped, are in a table of the same database.
    return Records(keyring, DjangoKeys("default"), scope={"app": "clinic", "env": settings.ENV})
