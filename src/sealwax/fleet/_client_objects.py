"""Objects of the S3 Encryption Client in a fleet: what a scan says of one, and its re-wrap.

They do not name the KMS key that wraps them, so a plan counts each as stale that a run of the same plan has not
re-wrapped; the run asks KMS. The journal keeps each old wrapped key, before the object gets the new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import BinaryIO, Final, Protocol, runtime_checkable

from sealwax._core import context as ctx
from sealwax._core import objects
from sealwax._core.context import AcceptStoredContext
from sealwax._core.envelope import read_full
from sealwax._core.foreign.rules import ForeignRules
from sealwax._core.foreign.s3ec.fields import (
    CBC,
    MAX_INSTRUCTION_BYTES,
    ObjectFields,
    needs_instructions,
    object_fields,
    wrapped_in,
)
from sealwax._core.format.header import ENVELOPE_ID_BYTES, MAGIC, Header
from sealwax._core.keyring import WrappedKey
from sealwax._core.objects import ObjectOpener
from sealwax._core.recognize.s3ec import CONTRADICTION, INSTRUCTIONS
from sealwax._core.rewrap import Rewrap
from sealwax._core.staleness import WantedKey
from sealwax._text import printable
from sealwax.errors import ContextError, DamagedHeaderError, NotAnEnvelopeError, SealwaxError
from sealwax.fleet._settings import Settings
from sealwax.fleet._state import ForeignDecision, State
from sealwax.kms import KmsKeyring, _names
from sealwax.stores._store import Store

NAME: Final = "s3ec"
"""What ``also`` calls these objects."""

WORDS: Final = {
    "s3ec-v3": "of the S3 Encryption Client, V3",
    "s3ec-v2": "of the S3 Encryption Client, V2",
    "s3ec-kms": "of the S3 Encryption Client, with its old wrapping",
    "s3ec-cbc": "of the S3 Encryption Client, in AES-CBC",
}
"""Why they are stale, as words after their number."""


@runtime_checkable
class HasObjects(Protocol):
    """A store that may hold such objects."""

    @property
    def has_own_instructions(self) -> bool:
        """Whether it knows which instruction file belongs to an object."""
        ...

    def instructions(self, name: str, metadata: Mapping[str, str]) -> bytes | None:
        """Return the instruction file of an object with this metadata; None if there is none.

        Raises:
            StoreError: it cannot be read.
        """
        ...


def kind_of(fields: ObjectFields) -> str:
    """Return the kind of an object, of ``WORDS``."""
    return "s3ec-cbc" if fields.cipher == CBC else fields.legacy_name or "s3ec-v3"


def fields_of(store: Store, name: str, error: NotAnEnvelopeError, settings: Settings) -> ObjectFields | None:
    """Return how an object was encrypted, if it is one that the plan is about.

    Raises:
        SealwaxError: as ``object_fields_of``.
    """
    if NAME not in settings.also or not isinstance(store, HasObjects):
        return None
    if error.foreign is not None and error.foreign.format == CONTRADICTION:
        raise DamagedHeaderError(str(error))
    return object_fields_of(store, name, error)


def object_fields_of(store: HasObjects, name: str, error: NotAnEnvelopeError) -> ObjectFields | None:
    """Return how an object was encrypted; None if it is not of the S3 Encryption Client.

    Args:
        error: what ``inspect`` raised for it.

    Raises:
        HeaderError: its fields contradict each other, or are not read.
        StoreError: its instruction file cannot be read.
    """
    if error.foreign is not None and not objects.claims_object(error):
        return None
    instructions = store.instructions(name, error.metadata)
    # Version 2 may leave no mark on the object itself.
    if error.foreign is None and instructions is None:
        return None
    return object_fields(error.metadata, instructions)


def wrapped_of(store: Store, name: str, error: NotAnEnvelopeError) -> tuple[bytes, Mapping[str, str]] | None:
    """Return the wrapped key of an object or an instruction file, and its context; None if another object has it.

    Raises:
        SealwaxError: nobody can say.
    """
    assert error.foreign is not None
    if error.foreign.format == INSTRUCTIONS:
        with store.open(name) as file:
            return wrapped_in(read_full(file, MAX_INSTRUCTION_BYTES + 1))
    if not isinstance(store, HasObjects):
        raise error
    if not store.has_own_instructions and needs_instructions(error.metadata):
        return None  # each version of its instruction file is looked at, whichever is its own
    fields = object_fields_of(store, name, error)
    if fields is None:
        raise error
    return fields.wrapped_key, fields.context


def decide(fields: ObjectFields, settings: Settings, relpath: str) -> ForeignDecision:
    """Return what to do with an object, as far as its fields say. Pure."""
    pairs = fields.caller_context
    try:
        context = ctx.encode(pairs)
    except SealwaxError as error:
        return ForeignDecision(State.REFUSED, str(error))
    refusal = settings.contexts.refusal(pairs, relpath)
    if refusal is not None:
        return ForeignDecision(State.SKIPPED, refusal, context)
    if len(settings.wanted.keys) > 1:
        why = "it has one wrapped key, and the plan wants several: plan these objects apart, with one key"
        return ForeignDecision(State.REFUSED, why, context)
    (key,) = settings.wanted.keys
    if not any((arn := _names.parse_arn(source)) and arn.region == key.region for source in settings.sources):
        why = f"no source key of the plan is in {printable(key.region)}, and KMS re-wraps within one Region only"
        return ForeignDecision(State.REFUSED, why, context)
    return ForeignDecision(State.STALE, "", context)


def id_of(fields: ObjectFields) -> bytes:
    """Return what stays the same of an object in each re-wrap, in place of an envelope's id."""
    return hashlib.sha256(fields.nonce + fields.message_id).digest()[:ENVELOPE_ID_BYTES]


def hash_of(blob: bytes) -> bytes:
    """Return a hash of a wrapped key."""
    return hashlib.sha256(blob).digest()


def keys_of(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return what a journal records of an object that is under the wanted key: nothing says under which material."""
    return tuple((key.arn, "") for key in settings.wanted.keys)


class NothingToDoError(Exception):
    """There is nothing to write. It never leaves the package.

    Attributes:
        state, reason: what the run reports.
    """

    def __init__(self, state: State, reason: str = "") -> None:
        super().__init__()
        self.state = state
        self.reason = reason


class PlannedRewrap:
    """A ``Rewrap`` that also re-wraps these objects, as a plan says.

    Args:
        of_envelope: re-wraps envelopes.
        keyring: allows the plan's source keys.
        note: called with the new KMS key, the old and the new wrapped key, before the object gets the new one.

    Attributes:
        met: whether it met such an object.
    """

    def __init__(
        self,
        of_envelope: Rewrap,
        keyring: KmsKeyring,
        settings: Settings,
        relpath: str,
        note: Callable[[WantedKey, bytes, bytes], None],
    ) -> None:
        self._of_envelope = of_envelope
        self.met = False
        self._opener = ObjectOpener(keyring, ForeignRules())
        self._settings = settings
        self._relpath = relpath
        self._note = note
        self._targets = [key.arn for key in settings.wanted.keys]

    def __call__(self, header: Header, head: Callable[[], bytes]) -> tuple[WrappedKey, ...]:
        return self._of_envelope(header, head)

    def fields_before_kms(self, fields: ObjectFields) -> dict[str, str]:
        self.met = True
        decision = decide(fields, self._settings, self._relpath)
        if decision.state != State.STALE:
            raise NothingToDoError(decision.state, decision.reason)
        return self._opener.fields_before_kms(fields, AcceptStoredContext(), self._targets)

    def rewrap_object(self, fields: ObjectFields, file: Callable[[], BinaryIO]) -> dict[str, str]:
        accepted = AcceptStoredContext()  # checked before
        changed = self._opener.rewrap(fields, file, accepted, self._targets, verify=False, current=True)
        if not changed:
            # KMS said so: a later scan of this plan need not ask again.
            self._note(self._settings.wanted.keys[0], fields.wrapped_key, fields.wrapped_key)
            raise NothingToDoError(State.FRESH)
        self._note(self._settings.wanted.keys[0], fields.wrapped_key, fields.blob_of(changed))
        return changed


class NotReadError(Exception):
    """An object in AES-CBC, which is re-wrapped and not read. It never leaves the package."""


def expected(file: BinaryIO, settings: Settings, relpath: str) -> AcceptStoredContext | None:
    """Return the context to verify an open object with; None if it is not of this format.

    Raises:
        ContextError: the plan is not about objects with its context.
        HeaderError: its fields contradict each other.
        NotReadError: it is not read.
    """
    if NAME not in settings.also:
        return None
    beginning = read_full(file, len(MAGIC))
    file.seek(0)
    if beginning == MAGIC:
        return None
    fields = objects.fields_of(file)
    if fields.cipher == CBC:
        raise NotReadError
    refusal = settings.contexts.refusal(fields.caller_context, relpath)
    if refusal is not None:
        raise ContextError(refusal)
    # Held against the fields that are then read.
    return AcceptStoredContext(fields.caller_context)
