"""What a cache holds: entries, calls under way, and what is told of them."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

from sealwax._core.keyring import SUITE_COBBLESTONE_256, DataKey, WrappedKey
from sealwax.errors import (
    AllKeysFailedError,
    CredentialsError,
    KmsError,
    SealwaxError,
    ThrottledError,
    UnavailableError,
)

# Two clocks that run apart by more than this have not been running together: the machine slept or was restored.
CLOCK_SKEW_SECONDS: Final = 5.0


class CacheWarning(UserWarning):
    """The cache is used in a way that cannot help, or serves a data key beyond its age."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache has done since it was made.

    Attributes:
        hits: loans from an entry that was there.
        misses: loans that found none.
        calls: calls of the inner keyring, not counting bypasses.
        waits: loans that waited for another one's call.
        refreshes: entries replaced ahead of their end.
        stale_serves: loans beyond ``max_age``, during an outage.
        evictions: entries given up for room.
        bypasses: data keys not cached, for plaintext of unknown size or more than ``max_bytes``, or while the program
            ends.
        entries: for each entry there is: messages and bytes of plaintext it has served.
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


class Entry:
    __slots__ = (
        "bytes",
        "identity",
        "key",
        "lends",
        "mark",
        "messages",
        "monotonic",
        "note",
        "outage",
        "patience",
        "stale",
        "wall",
        "wrapped_keys",
    )

    def __init__(
        self, identity: Hashable, key: DataKey, wrapped_keys: tuple[WrappedKey, ...], now: tuple[float, float]
    ) -> None:
        self.identity = identity
        self.key = key
        self.wrapped_keys = wrapped_keys
        self.monotonic, self.wall = now
        self.messages = 0
        self.bytes = 0
        self.lends = 0
        self.patience = 0.0  # KMS is not asked again before this age
        self.outage: KmsError | None = None  # why the last refresh failed, where KMS was out of reach
        self.stale = False  # whether it is served beyond its age, which has been said
        self.mark: Hashable = None  # what it is also found by, as long as it is held
        self.note: Any = None  # what came of looking at the context and wrapped keys, and is no key


class Flight:
    """One call of the inner keyring, and everyone who waits for it."""

    __slots__ = ("done", "error", "generation")

    def __init__(self, generation: int) -> None:
        self.done = threading.Event()
        self.error: KmsError | None = None
        self.generation = generation  # what is fetched for entries that were wiped meanwhile is not kept


def identity_of(pairs: frozenset[tuple[str, str]], wrapped_keys: tuple[WrappedKey, ...] | None = None) -> Hashable:
    """Return what an entry is held under: a KMS context and, for decrypting, the wrapped keys that were opened."""
    return (SUITE_COBBLESTONE_256, pairs) if wrapped_keys is None else (SUITE_COBBLESTONE_256, pairs, wrapped_keys)


def is_outage(error: SealwaxError) -> bool:
    """Whether KMS is out of reach, or throttles: in every Region and for every key that was tried.

    It is out of reach, too, while whoever gives credentials is. That there are none, or none that are accepted, is no
    outage: then nobody is to be served.
    """
    if isinstance(error, AllKeysFailedError):
        return all(is_outage(one) for _, one in error.attempts)
    return isinstance(error, UnavailableError | ThrottledError) or (
        isinstance(error, CredentialsError) and error.retryable
    )


def is_of_one_payload(error: KmsError) -> bool:
    return isinstance(error, AllKeysFailedError) and not all(isinstance(one, KmsError) for _, one in error.attempts)
