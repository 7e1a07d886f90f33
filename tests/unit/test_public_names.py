"""The public names, pinned: adding one is a decision, taking one away breaks somebody's program."""

from __future__ import annotations

import sealwax

NAMES = [
    "NO_CONTEXT",
    "AcceptStoredContext",
    "AccessDeniedError",
    "AllKeysFailedError",
    "AnyPath",
    "AnySource",
    "AsyncFile",
    "BinarySink",
    "BytesLike",
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
    "ExpectedContext",
    "FactsError",
    "FileError",
    "ForeignFormat",
    "Header",
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
    "NoContext",
    "NotAnEnvelopeError",
    "NotPicklableError",
    "PayloadError",
    "PlanError",
    "PolicyError",
    "Preamble",
    "RateLimit",
    "RegionState",
    "RequestRefusedError",
    "RetryPolicy",
    "Rewrap",
    "RewrapConflictError",
    "Sealer",
    "SealwaxError",
    "Slot",
    "StoreError",
    "StreamReader",
    "StreamWriter",
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


def test_the_names() -> None:
    assert sealwax.__all__ == NAMES
    assert len(set(NAMES)) == len(NAMES)


def test_each_is_there_and_says_what_it_is() -> None:
    for name in NAMES:
        thing = getattr(sealwax, name)
        assert not isinstance(thing, type) or thing.__doc__
        assert name in dir(sealwax)


def test_star_import() -> None:
    names: dict[str, object] = {}
    exec("from sealwax import *", names)
    assert set(NAMES) <= set(names)


def test_the_sealers_methods() -> None:
    public = {name for name in dir(sealwax.Sealer) if not name.startswith("_")}
    assert public == {
        "decrypt",
        "decrypt_async",
        "decrypt_many",
        "encrypt",
        "encrypt_async",
        "encrypt_detached",
        "encrypt_many",
        "open",
        "open_async",
        "open_stream",
        "reencrypt",
        "reencryptor",
        "rewrap",
        "rewrapper",
        "stats",
        "verify",
        "witness",
    }
