"""Which envelopes still need a KMS key: asked before the key is taken away."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sealwax.errors import NotAnEnvelopeError, SealwaxError
from sealwax.fleet import engine
from sealwax.fleet.engines import WORKERS, batches, entries_of, parallel
from sealwax.fleet.place import is_plan
from sealwax.kms import names
from sealwax.stores import Entry, Store, open_store

_BATCH: Final = 64
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Usage:
    """What a scan found.

    Attributes:
        objects: how many were looked at.
        under: how many envelopes are under the key.
        examples: the names of the first few of them.
        unknown: how many could not be looked at, or have a damaged header, and how many places are empty: there may be
            envelopes under the key.
        reasons: why, for the first few.
    """

    objects: int
    under: int
    examples: tuple[str, ...]
    unknown: int
    reasons: tuple[str, ...]

    @property
    def clear(self) -> bool:
        """Whether nothing is under the key, and everything could be looked at."""
        return not (self.under or self.unknown)


def places_of(where: Sequence[str]) -> tuple[str, ...]:
    """Return places, each plan's places in the place of its file.

    Raises:
        PlanError: a plan cannot be read.
    """
    return tuple(place for one in where for place in (engine.status(one).where if is_plan(one) else (one,)))


def find_users(
    where: Sequence[str],
    arn: str,
    *,
    everywhere: bool = False,
    open_place: Callable[[str], Store] = open_store,
    workers: int = WORKERS,
) -> Usage:
    """Look for envelopes under a key, by their headers alone. No KMS call is made, and nothing is changed.

    Args:
        where: the places.
        arn: the key's ARN.
        everywhere: whether the same key in other Regions counts, as for the primary of a multi-Region key.

    Raises:
        FileError: a place cannot be listed.
    """
    objects = under = unknown = 0
    examples: list[str] = []
    reasons: list[str] = []
    seen: set[str] = set()
    key = names.parse_arn(arn)

    def means_it(claim: str) -> bool:
        if claim == arn:
            return True
        other = names.parse_arn(claim)
        return (
            everywhere
            and key is not None
            and other is not None
            and (other.partition, other.account, other.key_id) == (key.partition, key.account, key.key_id)
        )

    def unlisted(message: str) -> None:
        nonlocal unknown
        unknown += 1
        reasons.append(message)

    def look(store: Store, entries: list[Entry]) -> list[tuple[str, bool | SealwaxError]]:
        found: list[tuple[str, bool | SealwaxError]] = []
        for entry in entries:
            try:
                wrapped_keys = store.inspect(entry.name).wrapped_keys
                found.append((entry.name, any(means_it(one.key_arn) for one in wrapped_keys)))
            except NotAnEnvelopeError:
                found.append((entry.name, False))
            except SealwaxError as error:
                found.append((entry.name, error))
        return found

    for place in where:
        store = open_place(place)
        empty, told = True, unknown
        parts = batches(entries_of(store, unlisted), _BATCH)
        for found in parallel(parts, functools.partial(look, store), workers):
            for name, what in found:
                empty = False
                if len(where) > 1:
                    if name in seen:
                        continue
                    seen.add(name)  # places may overlap
                objects += 1
                if isinstance(what, SealwaxError):
                    unlisted(f"{name}: {what}")
                elif what:
                    under += 1
                    if under <= _SHOWN:
                        examples.append(name)
        if empty and told == unknown:
            # Mistyped, or not mounted, more likely than not; it must not clear a key.
            unlisted(f"{place}: nothing is there; is it the right place, and mounted?")
    return Usage(objects, under, tuple(examples), unknown, tuple(reasons[:_SHOWN]))
