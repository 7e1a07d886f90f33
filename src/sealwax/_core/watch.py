"""Calling the caller's ``on_event``, and asking keyrings for their counts."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

from sealwax.events import CountsKmsCalls, Event, KmsCall, KmsStats, OnEvent

_log: Final = logging.getLogger("sealwax")
_noted: Final[ContextVar[list[KmsCall] | None]] = ContextVar("noted", default=None)


@contextlib.contextmanager
def noting() -> Iterator[list[KmsCall]]:
    """Yield a list that receives the KMS requests of this thread, and of those that work for it."""
    calls: list[KmsCall] = []
    token = _noted.set(calls)
    try:
        yield calls
    finally:
        _noted.reset(token)


def note(call: KmsCall) -> None:
    """Add a request to the list of whoever wants it."""
    calls = _noted.get()
    if calls is not None:
        calls.append(call)


def ignore(_: Event) -> None:
    """Do nothing with an event."""


def guarded(on_event: OnEvent | None) -> OnEvent:
    """Return a function that calls ``on_event`` and logs its errors, so that they never fail the data's operation."""
    if on_event is None:
        return ignore

    def watch(event: Event) -> None:
        try:
            on_event(event)
        except Exception:
            _log.exception("the on_event function failed")

    return watch


def kms_stats(keyring: object) -> KmsStats:
    """Return a keyring's counts, or zeros if it does not count."""
    return keyring.kms_stats() if isinstance(keyring, CountsKmsCalls) else KmsStats()
