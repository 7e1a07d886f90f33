"""Calling the caller's ``on_event``, and asking keyrings for their counts."""

from __future__ import annotations

import logging
from typing import Final

from sealwax.events import CountsKmsCalls, Event, KmsStats, OnEvent

_log: Final = logging.getLogger("sealwax")


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
