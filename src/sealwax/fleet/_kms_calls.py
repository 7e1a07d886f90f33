"""KMS calls for a fleet: each distinct one is made once, however many envelopes and threads need it."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from sealwax._aws.session import Session
from sealwax._core.keyring import DataKey, WrappedKey
from sealwax._core.lru import LruMap
from sealwax._core.single_flight import Flights, wait_for
from sealwax._core.staleness import WantedKey
from sealwax.errors import KmsError, SealwaxError, is_of_credentials
from sealwax.events import Event, OnEvent
from sealwax.fleet._state import StepKind
from sealwax.kms import KmsKeyring, RateLimit, RetryPolicy

_REMEMBERED: Final = 4096
# Patient, since nobody waits for a single object: eight attempts over about ten seconds.
RETRIES: Final = RetryPolicy(attempts=8, deadline=120)


class AnswerStore(Protocol):
    """Stores wrapped keys that KMS has returned and further envelopes may need. They are as public as headers."""

    def get(self, unit: bytes) -> WrappedKey | None:
        """Return the wrapped key that was stored for a unit, if any."""

    def put(self, unit: bytes, answer: WrappedKey) -> None:
        """Store a wrapped key."""


class BlobStore(Protocol):
    """Stores the wrapped keys that objects of other formats had, before they get new ones."""

    def note_blob(self, name: str, key: WantedKey, old: bytes, new: bytes) -> None:
        """Store an object's wrapped key, and which KMS key its new one is under."""


class Rewrapper:
    """Wraps data keys for wanted KMS keys. One object serves all threads of a run.

    Args:
        sources: the key ARNs that may be sent to KMS.
        session: as for ``KmsKeyring``.
        limit: the rate limit that all calls share.
        retries: how often and how long a call is retried.
        answers: where shared wrapped keys are stored, besides the memory.
        blobs: where wrapped keys of other formats are stored; without it, these are not re-wrapped.
        remembered: how many wrapped keys to keep in memory.
        on_event: as for ``KmsKeyring``.

    Attributes:
        keyring: may open what is under the sources.
        sealing: returns a keyring that may too, and makes data keys under the keys that it is given.

    IAM actions: kms:ReEncryptFrom on a source and kms:ReEncryptTo on a target; to add a Region, kms:Decrypt on a source
    and kms:Encrypt on the target.
    """

    def __init__(
        self,
        sources: Sequence[str],
        *,
        session: Session | None = None,
        limit: RateLimit | None = None,
        retries: RetryPolicy = RETRIES,
        answers: AnswerStore | None = None,
        blobs: BlobStore | None = None,
        remembered: int = _REMEMBERED,
        on_event: OnEvent | None = None,
    ) -> None:
        def keyring(keys: str | Sequence[str], allowed: Sequence[str]) -> KmsKeyring:
            return KmsKeyring(
                keys, decrypt_with=allowed, session=session, retries=retries, limit=limit, on_event=self._count
            )

        self.keyring = keyring(sources[0], sources)
        self.sealing: Callable[[Sequence[str]], KmsKeyring] = lambda wanted: keyring(wanted, sources)
        self.blobs = blobs
        self._keyring_of: Callable[[str], KmsKeyring] = functools.cache(lambda key: keyring(key, ()))
        self._on_event = on_event
        self._lock = threading.Lock()
        self._memory: LruMap[bytes, WrappedKey] = LruMap(remembered)
        self._answers = answers
        self._refusals: LruMap[bytes, SealwaxError] = LruMap(_REMEMBERED)
        self._flights: Flights[WrappedKey] = Flights()
        self.calls = 0

    def _count(self, event: Event) -> None:
        with self._lock:
            self.calls += 1
        if self._on_event is not None:
            self._on_event(event)

    def wrapped_key_for(
        self, kind: StepKind, target: str, sources: Sequence[WrappedKey], context: Mapping[str, str], unit: bytes
    ) -> WrappedKey:
        """Return the wrapped key for one step of the work on an envelope.

        Args:
            kind, target, sources: as in ``Step``.
            context: the stored context.
            unit: the id of the calls, which are made once for each id.

        Raises:
            KmsError: no source could be used.
        """
        if kind == StepKind.KEEP:
            return sources[0]
        with self._lock:
            known = self._memory.get(unit)
            if known is not None:
                return known
            if (refusal := self._refusals.get(unit)) is not None:
                raise copy.copy(refusal)
            flight, mine = self._flights.join(unit)
        if not mine:
            return wait_for(flight)
        try:
            answer = None if self._answers is None else self._answers.get(unit)
            if answer is None:
                answer = self._ask(kind, target, sources, context)
                if self._answers is not None:
                    self._answers.put(unit, answer)
        except BaseException as error:
            with self._lock:
                self._flights.land(unit, flight)
                # A permanent error is not repeated for the next thousand envelopes. Credentials may still come.
                if isinstance(error, KmsError) and not error.retryable and not is_of_credentials(error):
                    self._refusals[unit] = error
            flight.set_exception(error)
            raise
        with self._lock:
            self._memory[unit] = answer
            self._flights.land(unit, flight)
        flight.set_result(answer)
        return answer

    def _ask(
        self, kind: StepKind, target: str, sources: Sequence[WrappedKey], context: Mapping[str, str]
    ) -> WrappedKey:
        if kind == StepKind.ADD:
            keyring = self._keyring_of(target)

            def wrap(data_key: DataKey) -> WrappedKey:
                return keyring.wrap(data_key, context)

            return self.keyring.unwrap(sources, context, wrap)
        return self.keyring.rewrap(sources, context, (target,))[0]
