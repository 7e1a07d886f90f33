"""Envelope encryption with AWS KMS.

A ``Sealer`` encrypts values, files and streams under data keys that a ``KmsKeyring`` takes from AWS KMS::

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

A ``str`` or ``PathLike`` is a path, and a bytes-like object is a value; ``armor`` and ``dearmor`` convert a value to
text and back. The context binds the data to its place: to decrypt, give the same map again. Every error is a
``SealwaxError``; see ``sealwax.errors`` for the tree.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from sealwax import errors as errors
from sealwax.errors import *  # noqa: F403  its __all__ is a part of this one

if TYPE_CHECKING:
    from sealwax import events as events
    from sealwax import kms as kms
    from sealwax import lab as lab
    from sealwax import records as records
    from sealwax._core.aio import AsyncFile
    from sealwax._core.cache import CacheStats, CacheWarning, CachingKeyring
    from sealwax._core.context import NO_CONTEXT, AcceptStoredContext, ExpectedContext, NoContext
    from sealwax._core.envelope import Inspection
    from sealwax._core.foreign.inspections import MessageInspection, ObjectInspection
    from sealwax._core.format.armor import armor, dearmor
    from sealwax._core.format.header import Header, Preamble, Slot
    from sealwax._core.format.io import BinarySink
    from sealwax._core.format.stream import StreamReader, StreamWriter
    from sealwax._core.inspection import inspect
    from sealwax._core.keyring import DataKey, Keyring, WrappedKey
    from sealwax._core.rewrap import Rewrap
    from sealwax._core.sealer import Sealer
    from sealwax._core.sources import AnyPath, AnySource, BytesLike
    from sealwax._foreign import ForeignFormat
    from sealwax.kms import KeyScope, KmsKeyring, MultiRegionKeyring, RateLimit, RegionState, RetryPolicy
    from sealwax.records import Records

__version__ = "0.1.0rc1"

__all__ = [
    "NO_CONTEXT",
    "AcceptStoredContext",
    "AnyPath",
    "AnySource",
    "AsyncFile",
    "BinarySink",
    "BytesLike",
    "CacheStats",
    "CacheWarning",
    "CachingKeyring",
    "DataKey",
    "ExpectedContext",
    "ForeignFormat",
    "Header",
    "Inspection",
    "KeyScope",
    "Keyring",
    "KmsKeyring",
    "MessageInspection",
    "MultiRegionKeyring",
    "NoContext",
    "ObjectInspection",
    "Preamble",
    "RateLimit",
    "Records",
    "RegionState",
    "RetryPolicy",
    "Rewrap",
    "Sealer",
    "Slot",
    "StreamReader",
    "StreamWriter",
    "WrappedKey",
    "armor",
    "dearmor",
    "inspect",
]
__all__ += errors.__all__

# Where each name is imported from when it is first used: boto3 and cryptography take far longer to import than this.
# Programs that only inspect never import boto3, and a pytest run that never uses sealwax imports neither.
_NAMES = {
    "sealwax._core.aio": ("AsyncFile",),
    "sealwax._core.cache": ("CacheStats", "CacheWarning", "CachingKeyring"),
    "sealwax._core.context": ("NO_CONTEXT", "AcceptStoredContext", "ExpectedContext", "NoContext"),
    "sealwax._core.envelope": ("Inspection",),
    "sealwax._core.foreign.inspections": ("MessageInspection", "ObjectInspection"),
    "sealwax._core.format.armor": ("armor", "dearmor"),
    "sealwax._core.format.header": ("Header", "Preamble", "Slot"),
    "sealwax._core.format.io": ("BinarySink",),
    "sealwax._core.format.stream": ("StreamReader", "StreamWriter"),
    "sealwax._core.inspection": ("inspect",),
    "sealwax._core.keyring": ("DataKey", "Keyring", "WrappedKey"),
    "sealwax._foreign": ("ForeignFormat",),
    "sealwax._core.rewrap": ("Rewrap",),
    "sealwax._core.sealer": ("Sealer",),
    "sealwax._core.sources": ("AnyPath", "AnySource", "BytesLike"),
    "sealwax.kms": ("KeyScope", "KmsKeyring", "MultiRegionKeyring", "RateLimit", "RegionState", "RetryPolicy"),
    "sealwax.records": ("Records",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
_MODULES |= dict.fromkeys(("events", "kms", "lab", "records"), "sealwax")


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'sealwax' has no attribute {name!r}")
    value = import_module(f"sealwax.{name}") if module == "sealwax" else getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
