"""Requests to KMS: rate limited, retried within a deadline, reported as events, with sealwax's errors.

Throttling, internal errors of KMS and network failures are retried; other errors are not. The pause before the n-th
retry is random between 0 and 0.1 s * 2**n, at most 5 s, so that clients do not retry at the same moment ("full jitter":
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Final

from sealwax import events
from sealwax._aws import calls, responses
from sealwax._aws.session import Clients
from sealwax._core import fork_locks, validate, watch
from sealwax._core.keyring import now
from sealwax.errors import CredentialsError, KmsError, ThrottledError
from sealwax.kms._rate import RateLimit

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_MOST_ATTEMPTS: Final = 1000


def pause_after(attempt: int) -> float:
    """Return a random pause in seconds after a failed attempt; the first attempt is 1."""
    return random.uniform(0, min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt))  # noqa: S311


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a request to KMS is tried.

    Args:
        attempts: the most attempts, including the first; 1 to 1000.
        deadline: the most seconds for all attempts and the pauses between them; no attempt begins later.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of range.

    Example:
        >>> KmsKeyring("alias/payments", retries=RetryPolicy(attempts=2, deadline=5))
    """

    attempts: int = 4
    deadline: float = 20.0

    def __post_init__(self) -> None:
        validate.whole("attempts", self.attempts, 1, _MOST_ATTEMPTS)
        validate.number("deadline", self.deadline, "seconds")


class KmsCaller:
    """Sends requests to KMS.

    Args:
        clients: supplies the clients. A client that the user passed in also retries by its own settings.
        limit: for the account and Region, or None.
        on_event: called with a ``KmsCall`` after each request.
    """

    def __init__(
        self,
        clients: Clients,
        retries: RetryPolicy,
        limit: RateLimit | None,
        on_event: events.OnEvent | None,
    ) -> None:
        validate.watcher(on_event)
        self._clients = clients
        self._retries = validate.kind("retries", retries, RetryPolicy)
        self._limit = None if limit is None else validate.kind("limit", limit, RateLimit)
        self._on_event = watch.guarded(on_event)
        self._lock = threading.Lock()
        fork_locks.renew_lock_in_children(self)
        self._stats = events.KmsStats()

    def kms_stats(self) -> events.KmsStats:
        """Return counts of the requests so far."""
        with self._lock:
            return self._stats

    @property
    def region(self) -> str:
        """The default Region."""
        return self._clients.region

    def call(self, region: str, operation: str, doing: str, key: str, **parameters: object) -> responses.Answer:
        """Send a request and return KMS's answer.

        Args:
            operation: boto3's name for it.
            doing: for errors, as the subject of a sentence.
            key: the KMS key as named in the request.

        Raises:
            KmsError: the last attempt's error.
        """
        client = self._clients.kms(region)
        name = operation.title().replace("_", "")
        deadline = now() + self._retries.deadline
        for attempt in range(1, self._retries.attempts + 1):
            if self._limit is not None and not self._limit.acquire(deadline):
                raise ThrottledError(
                    f"{doing} with KMS key '{key}' failed: the rate limit of {self._limit.rate:g} requests per second "
                    f"allows no request within {self._retries.deadline:g} s. Raise the limit, or do less at once.",
                    key=key,
                )
            started = now()
            failure: KmsError | None = None
            try:
                with calls.attempt(attempt):
                    answer = responses.ask(lambda: getattr(client, operation)(**parameters), doing, key)
                code, request_id = None, answer.get("ResponseMetadata", {}).get("RequestId")
            except KmsError as error:
                failure, code, request_id = error, error.code, error.request_id
            self._report(events.KmsCall(name, region, key, now() - started, attempt, code, request_id))
            if failure is None:
                return answer
            if isinstance(failure, ThrottledError) and self._limit is not None:
                self._limit.throttled(started)
            pause = pause_after(attempt)
            # botocore has already retried the lookup of credentials.
            hopeless = isinstance(failure, CredentialsError) or not failure.retryable
            if hopeless or attempt == self._retries.attempts or now() + pause > deadline:
                raise failure
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _report(self, call: events.KmsCall) -> None:
        with self._lock:
            self._stats += events.KmsStats(calls=1, failures=call.error is not None)
        watch.note(call)
        self._on_event(call)
