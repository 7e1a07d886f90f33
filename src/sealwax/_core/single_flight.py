"""One call for many threads: the first makes it, and the others wait for its result."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from concurrent.futures import Future
from typing import TypeVar

from sealwax.errors import SealwaxError, UnavailableError

T = TypeVar("T")


class Flights(dict[Hashable, "Future[T]"]):
    """Calls in progress, by what they fetch. The owner guards it with a lock."""

    def join(self, key: Hashable) -> tuple[Future[T], bool]:
        """Return the call for ``key``, and whether it is new: then the caller makes and ``land``s it."""
        flight = self.get(key)
        if flight is not None:
            return flight, False
        flight = self[key] = Future()
        return flight, True

    def land(self, key: Hashable, flight: Future[T]) -> None:
        """Remove a call, unless it was replaced. Its result or error is set next."""
        if self.get(key) is flight:
            del self[key]


def wait_for(flight: Future[T], seconds: float | None = None) -> T:
    """Return the result of another thread's call.

    Raises:
        UnavailableError: it did not finish within ``seconds``.
        SealwaxError: the call's error.
    """
    try:
        error = flight.exception(seconds)
    except TimeoutError:
        raise UnavailableError(
            f"another thread's call for the same data key did not finish within {seconds:g} s: KMS or the keyring "
            "behind it hangs. Try again.",
            retryable=True,
        ) from None
    if error is not None:
        # A copy for each thread, because raising changes an error.
        raise copy.copy(error) if isinstance(error, SealwaxError) else error from None
    return flight.result()
