"""The way in: columns that hold plaintext, Fernet tokens or what other libraries encrypted become columns of records.

::

    from sealwax.records.moving import Moving, Plaintext

    email: Mapped[str] = sealed(str, row="id", moving=Moving(Plaintext(), writes="old"))

docs/how-to/moving-in.md has the steps.
"""

from sealwax.records._moving import Moving
from sealwax.records._old_django import DjangoCryptography, DjangoFernetEncryptedFields, DjangoFernetFields
from sealwax.records._old_forms import AnyOf, Fernet, OldForm, Plaintext
from sealwax.records._old_sqlalchemy import AesEngine, AesGcmEngine, FernetEngine

__all__ = [
    "AesEngine",
    "AesGcmEngine",
    "AnyOf",
    "DjangoCryptography",
    "DjangoFernetEncryptedFields",
    "DjangoFernetFields",
    "Fernet",
    "FernetEngine",
    "Moving",
    "OldForm",
    "Plaintext",
]
