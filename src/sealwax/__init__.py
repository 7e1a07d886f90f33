"""sealwax: envelope encryption with AWS KMS.

A :class:`Sealer` encrypts values, files and streams under data keys that a :class:`KmsKeyring` takes from AWS KMS::

    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/payments"))
    sealed = sealer.encrypt(b"4111 1111 1111 1111", context={"table": "users", "id": "123"})
    sealer.decrypt(sealed, context={"table": "users", "id": "123"})

    with sealer.open("backup.tar.swx", "wb", context={"purpose": "backup"}) as file:
        file.write(b"...")
    with sealer.open("backup.tar.swx", "rb", context={"purpose": "backup"}) as file:
        file.seek(2)
        file.read(1)

    sealwax.inspect("backup.tar.swx")  # no KMS call
    sealer.rewrap("backup.tar.swx", to="alias/payments-2027", context={"purpose": "backup"})

``str`` and ``PathLike`` are paths, bytes-like objects are values; ``armor`` and ``dearmor`` turn a value into text and
back. The context binds the data to its place: whoever decrypts gives the same map again. Every error is a
:class:`SealwaxError`; the tree of them is drawn in :mod:`sealwax.errors`.
"""

from typing import TYPE_CHECKING

from sealwax._core.cache import CacheStats, CacheWarning, CachingKeyring
from sealwax._core.context import NO_CONTEXT, AcceptStoredContext
from sealwax._core.envelope import Inspection, inspect
from sealwax._core.format.armor import armor, dearmor
from sealwax._core.keyring import DataKey, Keyring, WrappedKey
from sealwax._core.sealer import Sealer
from sealwax.errors import (
    AccessDeniedError,
    AllKeysFailedError,
    CommitmentError,
    ConfigurationError,
    ContextError,
    CredentialsError,
    DamagedHeaderError,
    DataKeyError,
    EngineError,
    FactsError,
    FileError,
    HeaderError,
    KeyNotAllowedError,
    KeyNotFoundError,
    KeyStateError,
    KmsError,
    LabError,
    NotAnEnvelopeError,
    NotPicklableError,
    PayloadError,
    PlanError,
    PolicyError,
    RequestRefusedError,
    RewrapConflictError,
    SealwaxError,
    StoreError,
    TamperedError,
    ThrottledError,
    UnavailableError,
    UnsupportedEnvelopeError,
    WrappedKeyRefusedError,
    WrongKeyError,
)

if TYPE_CHECKING:
    from sealwax.kms import KeyScope, KmsKeyring, MultiRegionKeyring, RateLimit, RegionState, RetryPolicy

__version__ = "0.1.0"

__all__ = [
    "NO_CONTEXT",
    "AcceptStoredContext",
    "AccessDeniedError",
    "AllKeysFailedError",
    "CacheStats",
    "CacheWarning",
    "CachingKeyring",
    "CommitmentError",
    "ConfigurationError",
    "ContextError",
    "CredentialsError",
    "DamagedHeaderError",
    "DataKey",
    "DataKeyError",
    "EngineError",
    "FactsError",
    "FileError",
    "HeaderError",
    "Inspection",
    "KeyNotAllowedError",
    "KeyNotFoundError",
    "KeyScope",
    "KeyStateError",
    "Keyring",
    "KmsError",
    "KmsKeyring",
    "LabError",
    "MultiRegionKeyring",
    "NotAnEnvelopeError",
    "NotPicklableError",
    "PayloadError",
    "PlanError",
    "PolicyError",
    "RateLimit",
    "RegionState",
    "RequestRefusedError",
    "RetryPolicy",
    "RewrapConflictError",
    "Sealer",
    "SealwaxError",
    "StoreError",
    "TamperedError",
    "ThrottledError",
    "UnavailableError",
    "UnsupportedEnvelopeError",
    "WrappedKey",
    "WrappedKeyRefusedError",
    "WrongKeyError",
    "armor",
    "dearmor",
    "inspect",
]


_FROM_KMS = frozenset({"KeyScope", "KmsKeyring", "MultiRegionKeyring", "RateLimit", "RegionState", "RetryPolicy"})


def __getattr__(name: str) -> object:
    # boto3 takes longer to import than everything else together; who only inspects or decrypts with a keyring of
    # another kind never pays for it.
    if name in _FROM_KMS:
        from sealwax import kms

        return getattr(kms, name)
    raise AttributeError(f"module 'sealwax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
