"""Re-encryption of a fleet: new data keys, for data keys that somebody may know.

A re-wrap keeps the data key, and can tell from a header alone whether it is done. Here what is old is what the plan has
met: every envelope that is meant, by its id and by its wrapped keys, and whatever says that it was wrapped before the
plan was made. An envelope is done when a run of this plan has made it, or when none of that holds of it.

A run keeps a witness of each plaintext that it has read (:mod:`sealwax._core.format.witness`), under the key of the new
envelope, and writes it down before that envelope is in its place: a run that is killed at any moment knows its own
envelopes again, and a verification compares what can be read now with what could be read then.
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
from sealwax.fleet import _shard
from sealwax.fleet._kms_calls import RETRIES
from sealwax.fleet._settings import Settings
from sealwax.fleet._shard import Found, Item, Result
from sealwax.kms import KmsKeyring, RateLimit
from sealwax.stores import Store

DATA_KEY = "data-key"
"""The reason to be stale of what has an old data key."""


class Memory(Protocol):
    """What a plan knows of old envelopes, and of those that its runs have made. Safe to use from many threads."""

    def is_old(self, marks: Iterable[bytes]) -> bool:
        """Whether the plan has met any of these: ids of envelopes and hashes of wrapped keys."""

    def witness(self, number: int) -> bytes:
        """Return the witness of an object that a run has made, or was about to; b"" where there is none."""

    def set_witness(self, number: int, witness: bytes) -> None:
        """Keep it, at once."""


def marks_of(found: Found) -> tuple[bytes, ...]:
    """Return what an envelope is known by."""
    return found.envelope_id, *found.hashes


def judged(found: Found, memory: Memory, number: int) -> Found:
    """Return what is to be said of an envelope, once it is known whether its data key is old."""
    if found.state not in (_shard.STALE, _shard.REFUSED):
        return found
    ours = memory.witness(number)[: hdr.ENVELOPE_ID_BYTES] == found.envelope_id
    reasons = tuple(reason for reason in found.reasons if reason != "age")
    if memory.is_old(marks_of(found)) or ("age" in found.reasons and not ours):
        reasons = (DATA_KEY, *reasons)
    if reasons:
        return replace(found, reasons=reasons)
    return replace(found, state=_shard.REENCRYPTED if ours else _shard.FRESH, reason="", reasons=(), units=())


class Reencrypter:
    """Encrypts objects anew. One object serves all threads of a run.

    Args:
        settings: what is to be done; the allow-list of ``settings.sources`` opens, ``settings.wanted`` is for new keys.
        memory: the plan's.
        session: as for :class:`~sealwax.KmsKeyring`.
        limit: the rate that all calls share.

    IAM actions: kms:Decrypt on a source, kms:GenerateDataKey on the first wanted key and kms:Encrypt on each other.
    """

    def __init__(
        self,
        settings: Settings,
        memory: Memory,
        *,
        session: Session | None = None,
        limit: RateLimit | None = None,
    ) -> None:
        self._settings = settings
        self._memory = memory
        keyring = KmsKeyring(
            [key.arn for key in settings.wanted.keys],
            decrypt_with=settings.sources,
            session=session,
            retries=RETRIES,
            limit=limit,
            on_event=self._count,
        )
        self._sealer = Sealer(keyring)
        self._lock = threading.Lock()
        self.calls = 0

    def _count(self, _: object) -> None:
        with self._lock:
            self.calls += 1

    def work(self, items: Iterable[Item], store: Store, stop: Callable[[], bool]) -> Iterator[Result]:
        """Yield what becomes of each object, as :func:`sealwax.fleet._shard.rewrap` does."""
        for item in items:
            if stop():
                return
            yield _shard.outcome(item, functools.partial(self._reencrypt, item, store))

    def _reencrypt(self, item: Item, store: Store) -> Result:
        under: tuple[tuple[str, str], ...] = ()

        def expect(header: Header) -> ExpectedContext:
            # Of the very bytes that are read on from here.
            relpath = _shard.relative(item.name, store.location)
            found = judged(_shard.found_of(item, header, self._settings, relpath), self._memory, item.number)
            if found.state != _shard.STALE:
                raise _shard.Settled(found.state, found.reason, found.keys)
            return AcceptStoredContext()

        def on_written(witness: bytes, wrapped_keys: tuple[WrappedKey, ...]) -> None:
            nonlocal under
            self._memory.set_witness(item.number, witness)
            under = _shard.keys_of(wrapped_keys)

        store.replace(item.name, self._sealer.reencryptor(expect, on_written=on_written))
        return Result(item.number, item.name, _shard.REENCRYPTED, keys=under)


def compare(sealer: Sealer, store: Store, name: str, witness: bytes) -> bool:
    """Return whether the envelope that a run has made still holds the plaintext that it had read.

    Raises:
        RewrapConflictError: another envelope stands there now.
        SealwaxError: it cannot be opened.
    """

    def expect(header: Header) -> ExpectedContext:
        if header.preamble.envelope_id != witness[: hdr.ENVELOPE_ID_BYTES]:
            raise RewrapConflictError("another envelope stands there now")
        # Its id binds the context that the run has looked at.
        return AcceptStoredContext()

    file: BinaryIO
    with store.open(name) as file:
        return sealer.witness(file, expect) == witness
