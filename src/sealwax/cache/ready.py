"""The part of a cache that never waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeVar

from sealwax.keyring import DataKey, NotReadyError, WrappedKey

if TYPE_CHECKING:
    from sealwax.cache.keyring import CachingKeyring

T = TypeVar("T")


class Ready:
    """What is in a cache now."""

    def __init__(self, cache: CachingKeyring) -> None:
        self._cache = cache

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None,
    ) -> T:
        return self._cache.generate(context, use, plaintext_bytes=plaintext_bytes, wait=False)

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        return self._cache.unwrap(wrapped_keys, context, use, wait=False)

    def rewrap(self, *_: object) -> NoReturn:
        raise NotReadyError  # there is no re-wrap without KMS
