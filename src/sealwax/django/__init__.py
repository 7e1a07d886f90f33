"""Sealed fields of Django models.

Put ``"sealwax.django"`` into INSTALLED_APPS, and the setting SEALWAX beside it; docs/how-to/django.md shows both.
"""

try:
    import django as _django  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "django":
        raise
    raise ModuleNotFoundError(
        "sealwax.django needs Django 5.2 or later; install it with pip install 'sealwax[django]'", name="django"
    ) from None

from typing import TYPE_CHECKING

from django.db.models.signals import class_prepared as _class_prepared

from sealwax.django._errors import SealedFieldError
from sealwax.django._index import IndexOf
from sealwax.django._query import SealedManager, SealedQuerySet
from sealwax.django._query import prepare as _prepare
from sealwax.django._sealed import Sealed
from sealwax.django._settings import get_records
from sealwax.records import UNBOUND

if TYPE_CHECKING:
    from sealwax.django._keys import DjangoKeys
    from sealwax.django._maps import sealed_columns

__all__ = [
    "UNBOUND",
    "DjangoKeys",
    "IndexOf",
    "Sealed",
    "SealedFieldError",
    "SealedManager",
    "SealedQuerySet",
    "get_records",
    "sealed_columns",
]

_class_prepared.connect(_prepare, dispatch_uid="sealwax")


def __getattr__(name: str) -> object:
    # SQLAlchemy takes long to import, and most processes need it only once they need a key store.
    if name not in ("DjangoKeys", "sealed_columns"):
        raise AttributeError(f"module 'sealwax.django' has no attribute {name!r}")
    from sealwax.django._keys import DjangoKeys
    from sealwax.django._maps import sealed_columns

    globals().update(DjangoKeys=DjangoKeys, sealed_columns=sealed_columns)
    return globals()[name]
