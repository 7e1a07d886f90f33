"""How facts about keys are printed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from sealwax.kms._listing import LastUse

NOT_SEEN: Final = "?"


def as_plain(facts: DataclassInstance, without: Collection[str] = ()) -> dict[str, object]:
    """Return the fields in types that JSON has."""
    return {name: _plain(value) for name, value in asdict(facts).items() if name not in without}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.isoformat() if isinstance(value, datetime) else value


def last_use(use: LastUse) -> str:
    """Return when and for what a key was last used."""
    if use.time is not None:
        return f"{use.time:%Y-%m-%d} {use.operation}"
    if use.tracked_since is None:
        return NOT_SEEN
    # KMS began to record uses at some time; for an older key it cannot say "never".
    if use.created is not None and use.created >= use.tracked_since:
        return "never"
    return f"none since {use.tracked_since:%Y-%m-%d}"
