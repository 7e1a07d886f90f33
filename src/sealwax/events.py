"""What happens inside, for who wants to watch: one function is called with small records. None holds a secret."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_log: Final = logging.getLogger("sealwax")


@dataclass(frozen=True, slots=True)
class KmsCall:
    """One request to KMS has ended.

    Attributes:
        operation: such as ``"GenerateDataKey"``.
        region: where it went.
        key: the KMS key as it was named.
        seconds: how long it took.
        attempt: 1 for the first, and so on.
        error: the error code, or None where it succeeded.
        request_id: AWS's, or None.
    """

    operation: str
    region: str
    key: str
    seconds: float
    attempt: int
    error: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class RegionHealth:
    """A Region was given up for a while, or taken back.

    Attributes:
        region: which one.
        healthy: whether it is used again.
        error: why not.
    """

    region: str
    healthy: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class CacheUse:
    """A data key was lent by a cache.

    Attributes:
        kind: ``"hit"``, ``"miss"``, ``"wait"`` (for another one's call), ``"bypass"`` or ``"stale"``.
        decrypting: whether for decrypting.
    """

    kind: str
    decrypting: bool


Event = KmsCall | RegionHealth | CacheUse
OnEvent = Callable[[Event], None]


def ignore(_: Event) -> None:
    """Watch nothing."""


def guarded(on_event: OnEvent | None) -> OnEvent:
    """Return a watcher whose own errors do not become the data's."""
    if on_event is None:
        return ignore

    def watch(event: Event) -> None:
        try:
            on_event(event)
        except Exception:
            _log.exception("the on_event function failed")

    return watch
