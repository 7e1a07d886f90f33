"""The scope of the work that is under way: pairs in a context variable, for what sees a value but not its row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

_NONE: Final[Mapping[str, str]] = MappingProxyType({})
# By Records, since a program may have several. Never changed, only replaced.
_PAIRS: Final[ContextVar[Mapping[object, Mapping[str, str]]]] = ContextVar(
    "sealwax_scope", default=MappingProxyType({})
)


def pairs_of(records: object) -> Mapping[str, str]:
    """Return the pairs that the blocks around the caller have set for a ``Records``."""
    return _PAIRS.get().get(records, _NONE)


def within(records: object, pairs: Mapping[str, str]) -> contextlib.AbstractContextManager[None]:
    """Return a block in which a ``Records`` has these pairs, beside those of the blocks around it.

    Raises:
        TypeError: a value is not a str.
    """
    for name, value in pairs.items():
        if not isinstance(value, str):
            raise TypeError(f"the value of '{name}' in a scope is a str, not {type(value).__name__}")
    return _within(records, pairs)


@contextlib.contextmanager
def _within(records: object, pairs: Mapping[str, str]) -> Iterator[None]:
    token = _PAIRS.set({**_PAIRS.get(), records: {**pairs_of(records), **pairs}})
    try:
        yield
    finally:
        _PAIRS.reset(token)
