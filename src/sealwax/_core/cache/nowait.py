"""The part of a cache that never waits, and what it does in few steps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from sealwax import events
from sealwax._core import fork_locks
from sealwax._core.cache.entries import CLOCK_SKEW_SECONDS, Entry, identity_of
from sealwax._core.keyring import DataKey, NotReadyError, WrappedKey

if TYPE_CHECKING:
    from sealwax._core.cache.keyring import CachingKeyring

T = TypeVar("T")


class Ready:
    """What is in a cache now.

    An entry can be *marked*: then it is found by its mark too, and carries a note. It has one mark at a time and loses
    it when the cache gives the entry up. So there are never more marks and notes than entries, and none outlives its
    entry. Whatever the mark, the note of one entry says the same: it may be read as long as the entry is lent.

    Args:
        marks: whether entries can be marked at all.
    """

    def __init__(self, cache: CachingKeyring, *, marks: bool) -> None:
        self._cache = cache
        self._marks = marks
        self.give_back = cache._give_back

    def _ready(self) -> Ready:
        return self

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

    # --- by marks: no more than an ordinary hit, for callers who go the long way for all the rest

    def take(self, mark: Hashable, size: int | None) -> Entry | None:
        """Lend a marked entry where nothing but its use is to be counted; whoever gets it gives it back.

        Args:
            size: the bytes of plaintext it will encrypt; None for decrypting.
        """
        fork_locks.notice()
        cache = self._cache
        with cache._lock:
            entry = cache._marked.get(mark)
            if entry is None:
                return None
            # Most often it is far from its end, and by both clocks, which is told in fewer steps than its age.
            monotonic, wall = cache._clocks()
            elapsed, elapsed_wall = monotonic - entry.monotonic, wall - entry.wall
            young = elapsed < cache._refresh_from and elapsed_wall < cache._refresh_from
            if not (young and -CLOCK_SKEW_SECONDS <= elapsed - elapsed_wall <= CLOCK_SKEW_SECONDS):
                age = cache._age(entry)
                if age >= cache._max_age or cache._is_due(entry, age):
                    return None
            if size is not None:
                if entry.messages >= cache._max_messages or entry.bytes + size > cache._max_bytes:
                    return None
                cache._made_in_a_row = 0
            cache._lend(entry, size)
            cache._hits += 1
        if cache._on_event is not None:
            cache._on_event(events.CacheLookup("hit", decrypting=size is None))
        return entry

    def find(
        self, mark: Hashable, pairs: frozenset[tuple[str, str]], wrapped_keys: tuple[WrappedKey, ...] | None = None
    ) -> Entry | None:
        """Return the entry of a KMS context and, for decrypting, of wrapped keys, unless it has this mark already."""
        if not self._marks:
            return None
        with self._cache._lock:
            entry = self._cache._entries.get(identity_of(pairs, wrapped_keys))
        return None if entry is None or entry.mark == mark else entry

    def mark(self, entry: Entry, mark: Hashable, note: Any) -> None:
        """Give an entry a mark and a note, in place of those it has; one that was given up meanwhile gets none."""
        cache = self._cache
        with cache._lock:
            if cache._entries.get(entry.identity) is entry:
                cache._unmark(entry)
                entry.note, entry.mark = note, mark
                cache._marked[mark] = entry
