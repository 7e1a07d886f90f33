"""The part of a cache that never waits, and that serves small values in few steps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NoReturn, Protocol, TypeVar

from sealwax._core.cache.entries import CacheEntry
from sealwax._core.cache.held import HeldKeys
from sealwax._core.keyring import DataKey, NotReadyError, WrappedKey

T = TypeVar("T")


class Lender(Protocol):
    """A cache as ``Ready`` uses it."""

    def _generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        size: int | None,
        *,
        wait: bool,
    ) -> T: ...

    def _unwrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T], *, wait: bool
    ) -> T: ...

    def _is_overridden(self) -> bool: ...


class Ready:
    """A keyring that lends what a cache holds now, and raises NotReadyError instead of waiting.

    An entry can be *marked*: then it is also found by its mark, and carries a note. It has one mark at a time and loses
    it when the cache drops the entry, so there are never more marks and notes than entries, and none outlives its
    entry. All notes that an entry ever has say the same, and may be read as long as the entry is on loan.

    If a subclass or a patch replaces ``generate`` or ``unwrap`` of the cache, nothing is ever ready here: every loan
    then goes through the replacement.
    """

    def __init__(self, cache: Lender, held: HeldKeys) -> None:
        self._cache = cache
        self._held = held
        self.take = held.take_marked
        self.mark = held.mark
        self.give_back = held.give_back

    def _ready(self) -> Ready:
        return self

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None,
    ) -> T:
        self._refuse_overridden()
        return self._cache._generate(context, use, plaintext_bytes, wait=False)

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        self._refuse_overridden()
        return self._cache._unwrap(wrapped_keys, context, use, wait=False)

    def rewrap(self, *_: object) -> NoReturn:
        raise NotReadyError  # re-wrapping always calls KMS

    def _unwrap_foreign(self, *_: object) -> NoReturn:
        raise NotReadyError  # only data keys of envelopes are held

    def find(
        self, mark: Hashable, pairs: frozenset[tuple[str, str]], wrapped_keys: tuple[WrappedKey, ...] | None = None
    ) -> CacheEntry | None:
        """Return an entry to mark, by its KMS context and, for decrypting, its wrapped keys; None if there is none."""
        return None if self._cache._is_overridden() else self._held.find_unmarked(mark, pairs, wrapped_keys)

    def _refuse_overridden(self) -> None:
        if self._cache._is_overridden():
            raise NotReadyError
