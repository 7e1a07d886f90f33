"""What a listing shows of instruction files: they are beside their objects, so nobody has to ask for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from sealwax._core.foreign.s3ec.fields import INSTRUCTION_SUFFIX
from sealwax._core.lru import LruMap

# Several pages of a listing, which is read little by little while its objects are worked on.
_REMEMBERED: Final = 1 << 13
_BELIEVED_SECONDS: Final = 300
# The name of a directory bucket, whose listings are not sorted.
_UNSORTED: Final = "--x-s3"


class Beside:
    """Knows for a few minutes which objects have no instruction file, by the last pages of listings.

    A page is sorted: what would be between two of its keys, and is not there, does not exist.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By bucket and key, when they were listed. Losing one costs a request.
        self._alone: LruMap[tuple[str, str], float] = LruMap(_REMEMBERED)

    def note(self, bucket: str, keys: Sequence[str], *, more: bool) -> None:
        """Note a page of a listing.

        Args:
            keys: in the listing's order.
            more: whether another page follows.
        """
        listed, now = set(keys), self._clock()
        if bucket.endswith(_UNSORTED) or list(keys) != sorted(listed):
            return
        for key in keys:
            file = key + INSTRUCTION_SUFFIX
            if file not in listed and not (more and file > keys[-1]):
                self._alone[bucket, key] = now

    def has_none(self, bucket: str, key: str) -> bool:
        """Whether a listing has just shown that there is no instruction file beside an object."""
        listed = self._alone.get((bucket, key))
        return listed is not None and self._clock() < listed + _BELIEVED_SECONDS
