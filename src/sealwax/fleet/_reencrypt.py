"""Re-encryption of a fleet: new data keys, in case somebody knows the old ones.

A re-wrap keeps the data key, and a header alone shows whether it is done. Here, "old" is what the plan has seen: every
envelope with a given context, by its id and its wrapped keys, and every one that says it was wrapped before the plan
was made. An envelope is done when a run of this plan has written it, or when it is not old.

A run records a witness of each plaintext that it reads (``_core.format.witness``), under the key of the new envelope,
before that envelope is in place. So a killed run recognizes its envelopes, and a verification can compare plaintexts.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO, Protocol

from sealwax._aws.session import Session
from sealwax._core.context import AcceptStoredContext, ExpectedContext
from sealwax._core.format import header as hdr
from sealwax._core.format.header import Header
from sealwax._core.keyring import WrappedKey
from sealwax._core.sealer import Sealer
from sealwax.errors import RewrapConflictError
from sealwax.events import Event, OnEvent
from sealwax.fleet import _shard
from sealwax.fleet._kms_calls import RETRIES
from sealwax.fleet._settings import Settings
from sealwax.fleet._shard import Item, RunResult, ScanResult
from sealwax.fleet._state import State
from sealwax.kms import KmsKeyring, RateLimit, RetryPolicy
from sealwax.stores import Store
from sealwax.stores._store import relative

DATA_KEY = "data-key"
"""The reason for which an envelope with an old data key is stale."""


class Memory(Protocol):
    """What a plan knows about old envelopes and those that its runs have written. Safe to use from many threads."""

    def is_old(self, marks: Iterable[bytes]) -> bool:
        """Whether the plan has seen any of these ids of envelopes and hashes of wrapped keys."""

    def witness(self, number: int) -> bytes:
        """Return the witness of an object that a run has written or was about to write; else b""."""

    def set_witness(self, number: int, witness: bytes) -> None:
        """Store it, at once."""


def marks_of(result: ScanResult) -> tuple[bytes, ...]:
    """Return the id and hashes that identify an envelope."""
    return result.envelope_id, *result.hashes


def reencryption_state(result: ScanResult, memory: Memory, number: int) -> ScanResult:
    """Return the result of a scan, corrected by whether the plan knows the data key as old."""
    if result.state not in (State.STALE, State.REFUSED):
        return result
    ours = memory.witness(number)[: hdr.ENVELOPE_ID_BYTES] == result.envelope_id
    reasons = tuple(reason for reason in result.reasons if reason != "age")
    if memory.is_old(marks_of(result)) or ("age" in result.reasons and not ours):
        reasons = (DATA_KEY, *reasons)
    if reasons:
        return replace(result, reasons=reasons)
    return replace(result, state=State.REENCRYPTED if ours else State.FRESH, reason="", reasons=(), units=())


class Reencrypter:
    """Re-encrypts objects. One object serves all threads of a run.

    Args:
        settings: the plan's: ``sources`` may open envelopes, ``wanted`` are the keys of new ones.
        memory: what the plan knows.
        session: as for ``KmsKeyring``.
        limit: the rate limit that all calls share.
        retries: how often and how long a call is retried.
        on_event: as for ``KmsKeyring``.

    IAM actions: kms:Decrypt on a source, kms:GenerateDataKey on the first wanted key and kms:Encrypt on each other.
    """

    def __init__(
        self,
        settings: Settings,
        memory: Memory,
        *,
        session: Session | None = None,
        limit: RateLimit | None = None,
        retries: RetryPolicy = RETRIES,
        on_event: OnEvent | None = None,
    ) -> None:
        self._settings = settings
        self._memory = memory
        keyring = KmsKeyring(
            [key.arn for key in settings.wanted.keys],
            decrypt_with=settings.sources,
            session=session,
            retries=retries,
            limit=limit,
            on_event=self._count,
        )
        self._sealer = Sealer(keyring)
        self._on_event = on_event
        self._lock = threading.Lock()
        self.calls = 0

    def _count(self, event: Event) -> None:
        with self._lock:
            self.calls += 1
        if self._on_event is not None:
            self._on_event(event)

    def work(self, items: Iterable[Item], store: Store, stop: Callable[[], bool]) -> Iterator[RunResult]:
        """Yield what was done with each object, as ``_shard.rewrap``."""
        for item in items:
            if stop():
                return
            yield _shard.outcome(item, functools.partial(self._reencrypt, item, store))

    def _reencrypt(self, item: Item, store: Store) -> RunResult:
        under: _shard.Keys = ()

        def expect(header: Header) -> ExpectedContext:
            # Checked on the very bytes that are then read on.
            relpath = relative(item.name, store.location)
            result = reencryption_state(
                _shard.scan_result_of(item, header, self._settings, relpath), self._memory, item.number
            )
            if result.state != State.STALE:
                raise _shard.NothingToDo(result.state, result.reason, result.keys)
            return AcceptStoredContext()

        def on_written(witness: bytes, wrapped_keys: tuple[WrappedKey, ...]) -> None:
            nonlocal under
            self._memory.set_witness(item.number, witness)
            under = _shard.keys_of(wrapped_keys)

        store.replace(item.name, self._sealer.reencryptor(expect, on_written=on_written))
        return RunResult(item.number, item.name, State.REENCRYPTED, keys=under)


def compare(sealer: Sealer, store: Store, name: str, witness: bytes) -> bool:
    """Return whether the envelope that a run has written still holds the same plaintext.

    Raises:
        RewrapConflictError: another envelope has replaced it.
        SealwaxError: it cannot be opened.
    """

    def expect(header: Header) -> ExpectedContext:
        if header.preamble.envelope_id != witness[: hdr.ENVELOPE_ID_BYTES]:
            raise RewrapConflictError("another envelope has replaced it")
        # The id is bound to the context, which the run has checked.
        return AcceptStoredContext()

    file: BinaryIO
    with store.open(name) as file:
        return sealer.witness(file, expect) == witness
