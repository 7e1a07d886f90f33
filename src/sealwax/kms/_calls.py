"""One request to KMS: limited in rate, repeated where that can help, within a deadline, watched, and its errors ours.

Repeated are throttling, failures inside KMS and failures to reach it; nothing else is retryable. The pause before
the n-th repetition is drawn evenly from 0 to 0.1 s * 2**n, at most 5 s, so that many clients do not come back at once
("full jitter": https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from sealwax import events
from sealwax._aws import responses
from sealwax._aws.session import Clients
from sealwax._core import fork_locks, validate, watch
from sealwax._core.keyring import now
from sealwax.errors import CredentialsError, KmsError, ThrottledError
from sealwax.kms._rate import RateLimit

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_MOST_ATTEMPTS: Final = 1000
_OPERATIONS: Final = {
    "generate_data_key": "GenerateDataKey",
    "generate_data_key_without_plaintext": "GenerateDataKeyWithoutPlaintext",
    "encrypt": "Encrypt",
    "decrypt": "Decrypt",
    "re_encrypt": "ReEncrypt",
    "create_grant": "CreateGrant",
    "retire_grant": "RetireGrant",
    "revoke_grant": "RevokeGrant",
    "describe_key": "DescribeKey",
    "rotate_key_on_demand": "RotateKeyOnDemand",
}


def pause_after(attempt: int) -> float:
    """Return the seconds to wait after a failed attempt, the first of which is 1: any from none to the longest."""
    return random.uniform(0, min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt))  # noqa: S311


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often a request to KMS is tried.

    Args:
        attempts: at most so many, the first included; 1 to 1000.
        deadline: at most so many seconds for all of them and the pauses between them; no attempt begins later.
    """

    attempts: int = 4
    deadline: float = 20.0

    def __post_init__(self) -> None:
        validate.whole("attempts", self.attempts, 1, _MOST_ATTEMPTS)
        validate.number("deadline", self.deadline, "seconds")


class Caller:
    """Makes requests to KMS.

    Args:
        clients: where clients come from. One that the user passed in repeats by its own settings as well.
        retries: see :class:`RetryPolicy`.
        limit: a :class:`RateLimit` for the account and Region, or None.
        on_event: called with a :class:`~sealwax.events.KmsCall` after each request.
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
        """Return what was asked so far."""
        with self._lock:
            return self._stats

    @property
    def region(self) -> str:
        """The Region for keys that name none."""
        return self._clients.region

    def call(self, region: str, operation: str, doing: str, key: str, **parameters: Any) -> responses.Answer:
        """Return KMS's answer.

        Args:
            operation: boto3's name of it.
            doing: as the subject of a sentence, for errors.
            key: the KMS key as it is named in the request.

        Raises:
            KmsError: the last attempt's error.
        """
        client = self._clients.kms(region)
        deadline = now() + self._retries.deadline
        for attempt in range(1, self._retries.attempts + 1):
            if self._limit is not None and not self._limit.acquire(deadline):
                raise ThrottledError(
                    f"{doing} with KMS key '{key}' failed: the rate limit of {self._limit.rate:g} requests a second "
                    f"leaves no room within {self._retries.deadline:g} s. Raise the limit, or do less at once.",
                    key=key,
                )
            started = now()
            try:
                answer = responses.ask(lambda: getattr(client, operation)(**parameters), doing, key)
            except KmsError as error:
                failure = error
            else:
                request_id = answer.get("ResponseMetadata", {}).get("RequestId")
                self._tell(operation, region, key, started, attempt, None, request_id)
                return answer
            self._tell(operation, region, key, started, attempt, failure.code, failure.request_id)
            if isinstance(failure, ThrottledError) and self._limit is not None:
                self._limit.throttled(started)
            pause = pause_after(attempt)
            # Who gives credentials has been asked again by botocore.
            hopeless = isinstance(failure, CredentialsError) or not failure.retryable
            if hopeless or attempt == self._retries.attempts or now() + pause > deadline:
                raise failure
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _tell(
        self,
        operation: str,
        region: str,
        key: str,
        started: float,
        attempt: int,
        error: str | None,
        request_id: str | None,
    ) -> None:
        seconds = now() - started
        with self._lock:
            self._stats += events.KmsStats(calls=1, failures=error is not None)
        self._on_event(events.KmsCall(_OPERATIONS[operation], region, key, seconds, attempt, error, request_id))
