"""Cache entries, their identity, and which errors they outlive."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from sealwax._core.keyring import SUITE_COBBLESTONE_256, DataKey, WrappedKey
from sealwax.errors import (
    AllKeysFailedError,
    CredentialsError,
    KmsError,
    SealwaxError,
    ThrottledError,
    UnavailableError,
)


class CacheWarning(UserWarning):
    """The cache is used in a way that cannot help, or it serves a data key beyond ``max_age``."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache has done since it was created.

    Attributes:
        hits: loans served from an entry.
        misses: loans that found no entry.
        calls: calls of the inner keyring, without bypasses.
        waits: loans that waited for another thread's call.
        refreshes: entries replaced before their end.
        stale_serves: loans beyond ``max_age``, during an outage.
        evictions: entries removed to make room.
        bypasses: data keys that were not cached: the plaintext's size was unknown or above ``max_bytes``, or the
            program was ending.
        entries: for each entry, the number of messages and the bytes of plaintext it has served.
    """

    hits: int
    misses: int
    calls: int
    waits: int
    refreshes: int
    stale_serves: int
    evictions: int
    bypasses: int
    entries: tuple[tuple[int, int], ...]


@dataclass(slots=True, eq=False)
class CacheEntry:
    """A data key that is held.

    Attributes:
        monotonic, wall: when it was added, by the monotonic clock and by the time of day.
        messages, bytes: what it has served.
        lends: how often it is on loan now.
        retry_age: KMS is not called again before this age.
        outage: the last refresh's error if KMS was out of reach.
        stale: whether it is served beyond ``max_age``, and the warning is out.
        mark: another key under which it is found while it is held.
        note: what was derived from the context and the wrapped keys; not secret.
    """

    identity: Hashable
    key: DataKey
    wrapped_keys: tuple[WrappedKey, ...]
    monotonic: float
    wall: float
    messages: int = 0
    bytes: int = 0
    lends: int = 0
    retry_age: float = 0.0
    outage: KmsError | None = None
    stale: bool = False
    mark: Hashable = None
    note: object = None


def identity_of(pairs: frozenset[tuple[str, str]], wrapped_keys: tuple[WrappedKey, ...] | None = None) -> Hashable:
    """Return the identity of an entry: its KMS context and, for decrypting, the wrapped keys."""
    return (SUITE_COBBLESTONE_256, pairs) if wrapped_keys is None else (SUITE_COBBLESTONE_256, pairs, wrapped_keys)


def is_outage(error: SealwaxError) -> bool:
    """Whether KMS is out of reach or throttling, in every Region and for every key that was tried.

    The service that issues credentials may be out of reach, too. Missing or rejected credentials are not an outage:
    then nobody may be served.
    """
    if isinstance(error, AllKeysFailedError):
        return all(is_outage(cause) for _, cause in error.attempts)
    return isinstance(error, UnavailableError | ThrottledError) or (
        isinstance(error, CredentialsError) and error.retryable
    )


def is_of_one_payload(error: KmsError) -> bool:
    """Whether an error concerns one payload only, and no other thread."""
    return isinstance(error, AllKeysFailedError) and not all(isinstance(cause, KmsError) for _, cause in error.attempts)
