"""The work on a part of a fleet, for every engine: threads here, or a partition in Spark.

Two stateless functions work on objects of one store: ``scan`` reads headers and claims what to do, ``rewrap`` does it.
What they take and return is small, frozen and picklable; the store and the ``Rewrapper`` are created where the work is
done. Both may be repeated: a header is read again under the store's lock, and what is not stale is left alone.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from sealwax._core import context as ctx
from sealwax._core import moved, moving, objects
from sealwax._core.format.header import Header
from sealwax._core.keyring import WrappedKey, kept_by_rewrap
from sealwax._core.rewrap import Rewrap
from sealwax.errors import (
    HeaderError,
    KeyRowError,
    KeyStoreError,
    KmsError,
    NotAnEnvelopeError,
    PayloadError,
    RewrapConflictError,
    SealwaxError,
    UnsupportedEnvelopeError,
    is_of_credentials,
)
from sealwax.fleet import _client_objects, _moving
from sealwax.fleet._decision import decide
from sealwax.fleet._kms_calls import Rewrapper
from sealwax.fleet._settings import Settings
from sealwax.fleet._state import State
from sealwax.kms import _names
from sealwax.stores._store import ChangesMetadata, Store, is_gone, is_locked, is_refused, relative

_MAX_REASON: Final = 1000

Keys = tuple[tuple[str, str], ...]
"""Pairs of key ARN and key material id in hex."""


@dataclass(frozen=True, slots=True)
class Item:
    """An object to work on: its number in a plan, its name in its store, and its size if a listing gave it."""

    number: int
    name: str
    size: int | None = None


def keys_of(wrapped_keys: Iterable[WrappedKey]) -> Keys:
    """Return the ARNs and key material ids of wrapped keys."""
    return tuple([(key.key_arn, key.key_material_id.hex()) for key in wrapped_keys])


def _hash(key: WrappedKey) -> bytes:
    # KMS binds its key and the context to the ciphertext; what a header claims about them may be false.
    return hashlib.sha256(key.ciphertext).digest()


# --- scanning


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a scan claims about one object.

    Attributes:
        number, name: as in ``Item``.
        state: as in ``EnvelopeDecision``, or ``FOREIGN``, ``DAMAGED``, ``UNREADABLE`` or ``LINK``.
        reason: why it has this state, if that needs a reason.
        reasons: why it is stale, of ``staleness.REASONS``.
        missing_regions: Regions of wanted keys in which no key has wrapped it.
        envelope_id: the envelope's id; b"" if it is not an envelope.
        keys: the keys that it claims it is wrapped under, or names in another format.
        hashes: a hash of each wrapped key.
        context: its stored context in canonical form.
        units: ids of KMS calls, each with the number of calls.
        format: the format of a foreign object, if recognized; as ``_core.recognize`` names it.
    """

    number: int
    name: str
    state: State
    reason: str = ""
    reasons: tuple[str, ...] = ()
    missing_regions: tuple[str, ...] = ()
    envelope_id: bytes = b""
    keys: Keys = ()
    hashes: tuple[bytes, ...] = ()
    context: bytes = b""
    units: tuple[tuple[bytes, int], ...] = ()
    format: str = ""

    def of(self, item: Item, envelope_id: bytes) -> ScanResult:
        """Return the same result for another object."""
        return ScanResult(
            item.number,
            item.name,
            self.state,
            self.reason,
            self.reasons,
            self.missing_regions,
            envelope_id,
            self.keys,
            self.hashes,
            self.context,
            self.units,
            self.format,
        )


def scan(items: Iterable[Item], settings: Settings, store: Store) -> Iterator[ScanResult]:
    """Yield what each object is, from its header alone. Nothing is written, and KMS is not called.

    Raises:
        CredentialsError: there are no credentials, so no other object can be read either.
    """
    # Neighbors often share a data key; their results then differ in their names only.
    by_name = settings.reencrypt or settings.contexts.by_name
    last: tuple[object, ...] = ()
    for item in items:
        try:
            header = store.inspect(item.name).header
        except NotAnEnvelopeError as error:
            yield _scan_other(item, error, settings, store)
        except UnsupportedEnvelopeError as error:
            yield ScanResult(item.number, item.name, State.UNREADABLE, _reason(error))
        except HeaderError as error:
            yield ScanResult(item.number, item.name, State.DAMAGED, _reason(error))
        except KeyRowError as error:
            yield ScanResult(item.number, item.name, State.REFUSED, _reason(error))
        except SealwaxError as error:
            if is_of_credentials(error):
                raise
            yield ScanResult(item.number, item.name, State.UNREADABLE, _reason(error))
        else:
            claims = (header.slots, header.preamble.kms_context)
            if by_name or claims != last:
                result, last = scan_result_of(item, header, settings, relative(item.name, store.location)), claims
                yield result
            else:
                yield result.of(item, header.preamble.envelope_id)


def _scan_other(item: Item, error: NotAnEnvelopeError, settings: Settings, store: Store) -> ScanResult:
    """Return what an object is that is no envelope.

    Raises:
        CredentialsError: as for ``scan``.
    """
    keys = _named_keys(error)
    foreign = ScanResult(item.number, item.name, State.FOREIGN, _reason(error), keys=keys, format=_format(error))
    if _moving.may_be_asked_for(foreign.format, settings):
        found = _scan_movable(item, error, foreign, settings, store)
        if found.state != State.FOREIGN or settings.move is not None:
            return found
        foreign = found
    try:
        fields = _client_objects.fields_of(store, item.name, error, settings)
    except (NotAnEnvelopeError, UnsupportedEnvelopeError) as refusal:
        return _refused(foreign, refusal)
    except HeaderError as refusal:
        return replace(foreign, state=State.DAMAGED, reason=_reason(refusal), format="")
    except SealwaxError as refusal:
        if is_of_credentials(refusal):
            raise
        return replace(foreign, state=State.UNREADABLE, reason=_reason(refusal), format="")
    if fields is None:
        return foreign
    decision = _client_objects.decide(fields, settings, relative(item.name, store.location))
    if decision.state == State.STALE and not fields.in_instructions and isinstance(store, ChangesMetadata):
        (target,) = settings.wanted.keys
        try:
            store.check_metadata(
                item.name, error.metadata, fields.changed(fields.wrapped_key, fields.context_under(target.arn))
            )
        except SealwaxError as refusal:
            decision = decision._replace(state=State.REFUSED, reason=_reason(refusal))
    blob = _client_objects.hash_of(fields.wrapped_key)
    return ScanResult(
        item.number,
        item.name,
        decision.state,
        decision.reason,
        (_client_objects.kind_of(fields),),
        envelope_id=_client_objects.id_of(fields),
        hashes=(blob,),
        context=decision.context,
        # Each has a data key of its own.
        units=((hashlib.sha256(item.name.encode("utf-8", "surrogateescape") + blob).digest(), 1),)
        * (decision.state == State.STALE),
    )


def _scan_movable(
    item: Item, error: NotAnEnvelopeError, foreign: ScanResult, settings: Settings, store: Store
) -> ScanResult:
    """Return what a file is that a plan may move.

    Args:
        error: what ``inspect`` raised for it.
        foreign: what it is otherwise.

    Raises:
        CredentialsError: as for ``scan``.
    """
    try:
        with store.open(item.name) as file:
            # An object that is not to be moved need not be one that opens.
            if not _moving.is_asked_for(_client_objects.NAME, settings) and objects.is_object(error, file):
                return foreign
            original = moving.look(file, _moving.rules_of(settings))
            mark = moved.mark_of(file)
    except NotAnEnvelopeError as refusal:
        if not _moving.belongs(foreign.format):
            return replace(foreign, reason=_reason(refusal))
        return _refused(foreign, refusal)
    except UnsupportedEnvelopeError as refusal:
        return _refused(foreign, refusal)
    except (HeaderError, PayloadError) as refusal:
        return replace(foreign, state=State.DAMAGED, reason=_reason(refusal), format="")
    except SealwaxError as refusal:
        if is_of_credentials(refusal):
            raise
        return replace(foreign, state=State.UNREADABLE, reason=_reason(refusal), format="")
    if original is None or not _moving.is_asked_for(original.movable.format, settings):
        return foreign
    decision = _moving.decide(original.movable, settings, relative(item.name, store.location))
    # Decrypt, GenerateDataKey, and Encrypt for each further key.
    unit = hashlib.sha256(item.name.encode("utf-8", "surrogateescape") + mark.encode()).digest()
    return ScanResult(
        item.number,
        item.name,
        decision.state,
        decision.reason,
        (original.movable.format,),
        envelope_id=_moving.id_of_mark(mark),
        keys=foreign.keys,
        context=decision.context,
        units=((unit, 1 + len(settings.wanted.keys)),) * (decision.state == State.STALE),
    )


def _refused(foreign: ScanResult, refusal: SealwaxError) -> ScanResult:
    """Return what a file is that the plan is about, and that cannot be moved."""
    kinds = (foreign.format,) if foreign.format else ()
    return replace(foreign, state=State.REFUSED, reason=_reason(refusal), reasons=kinds, format="")


def scan_result_of(item: Item, header: Header, settings: Settings, relpath: str) -> ScanResult:
    """Return what an envelope's header says. Pure."""
    decision = decide(header, settings, relpath)
    context, wrapped_keys = header.preamble.kms_context, header.slot.wrapped_keys
    if settings.reencrypt:
        # Decrypt, GenerateDataKey, and Encrypt for each further key: not shared with other envelopes.
        unit = hashlib.sha256(item.name.encode("utf-8", "surrogateescape")).digest()
        units = ((unit, 1 + len(settings.wanted.keys)),) * (decision.state == State.STALE)
    else:
        units = tuple([(step.unit(context), step.calls) for step in decision.steps if step.calls])
    return ScanResult(
        item.number,
        item.name,
        decision.state,
        decision.reason,
        decision.verdict.reasons,
        () if settings.reencrypt else decision.verdict.missing_regions,  # re-encryption wraps in every Region
        header.preamble.envelope_id,
        keys_of(wrapped_keys),
        tuple(map(_hash, wrapped_keys)),
        context,
        units,
    )


# --- re-wrapping


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did with one object.

    Attributes:
        number, name: as in ``Item``.
        state: ``REWRAPPED``, ``REENCRYPTED``, ``FRESH`` (nothing was left to do), ``SKIPPED``, ``REFUSED``,
            ``FOREIGN``, ``FAILED`` or ``LEFT``.
        reason: why, except for the first three.
        keys: for the first three and ``FOREIGN``, as in ``ScanResult``.
        kms_error: KMS, or a key store's database, was unreachable, throttled, or refused.
        no_credentials: there are no credentials: every other object will fail too.
        format: as in ``ScanResult``.
        buried: the re-wrap has replaced what another program wrote: this run does not work on it again.
    """

    number: int
    name: str
    state: State
    reason: str = ""
    keys: Keys = ()
    kms_error: bool = False
    no_credentials: bool = False
    format: str = ""
    buried: bool = False


class NothingToDo(Exception):  # noqa: N818  not an error
    """Nothing to write. Ends a store's work on an object, and never leaves ``outcome``."""

    def __init__(self, state: State, reason: str, keys: Keys) -> None:
        super().__init__()
        self.state = state
        self.reason = reason
        self.keys = keys


def rewrap(
    items: Iterable[Item],
    settings: Settings,
    store: Store,
    rewrapper: Rewrapper,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[RunResult]:
    """Re-wrap objects, and yield what was done with each.

    Each header is read again under the store's lock or condition, so an object that has changed since the plan is
    treated as it is now.

    Args:
        stop: called before each object; once it returns true, no more objects are started.

    Raises:
        ValueError: the settings ask for re-encryption.
    """
    if settings.reencrypt:
        raise ValueError("these settings ask for re-encryption, and a re-wrap keeps the data key")
    for item in items:
        if stop():
            return
        result = _rewrap(item, settings, store, rewrapper)
        if result.state == State.FOREIGN and _moving.is_refused(result.format, settings):
            result = replace(result, state=State.REFUSED, reason=_moving.NOT_MOVED, keys=(), format="")
        yield result


def _rewrap(item: Item, settings: Settings, store: Store, rewrapper: Rewrapper) -> RunResult:
    relpath = relative(item.name, store.location)
    under: Keys = ()

    def new_keys(header: Header, _: Callable[[], bytes]) -> tuple[WrappedKey, ...]:
        decision = decide(header, settings, relpath)
        if decision.state != State.STALE:
            raise NothingToDo(decision.state, decision.reason, keys_of(header.slot.wrapped_keys))
        stored = header.preamble.kms_context
        pairs = ctx.decode(stored)
        rewrapped = (
            rewrapper.wrapped_key_for(step.kind, step.target, step.sources, pairs, step.unit(stored))
            for step in decision.steps
        )
        wrapped_keys = (*rewrapped, *kept_by_rewrap(header.slot.wrapped_keys))
        nonlocal under
        under = keys_of(wrapped_keys)
        return wrapped_keys

    def work() -> RunResult:
        store.rewrap(item.name, new_keys, size=item.size)
        return RunResult(item.number, item.name, State.REWRAPPED, keys=under)

    if isinstance(store, _client_objects.HasObjects) and _client_objects.NAME in settings.also:
        return _rewrap_any(item, settings, store, rewrapper, new_keys, lambda: under)
    return outcome(item, work)


def _rewrap_any(
    item: Item,
    settings: Settings,
    store: Store,
    rewrapper: Rewrapper,
    of_envelope: Rewrap,
    under: Callable[[], Keys],
) -> RunResult:
    """Re-wrap an object that is an envelope or an object of the S3 Encryption Client."""
    blobs = rewrapper.blobs
    wanted = _client_objects.keys_of(settings)
    if blobs is None:
        return RunResult(item.number, item.name, State.FAILED, "there is no journal for its old wrapped key")
    planned = _client_objects.PlannedRewrap(
        of_envelope,
        rewrapper.keyring,
        settings,
        relative(item.name, store.location),
        functools.partial(blobs.note_blob, item.name),
    )

    def work() -> RunResult:
        try:
            store.rewrap(item.name, planned, size=item.size)
        except _client_objects.NothingToDoError as end:
            raise NothingToDo(end.state, end.reason, wanted if end.state == State.FRESH else ()) from None
        except UnsupportedEnvelopeError as error:
            raise NothingToDo(State.REFUSED, _reason(error), ()) from None
        return RunResult(item.number, item.name, State.REWRAPPED, keys=wanted if planned.met else under())

    return outcome(item, work)


def outcome(item: Item, work: Callable[[], RunResult]) -> RunResult:
    """Return what ``work`` on an object returns, or the result that its failure means."""
    try:
        return work()
    except NothingToDo as end:
        return RunResult(item.number, item.name, end.state, end.reason, end.keys)
    except RewrapConflictError as error:
        return RunResult(item.number, item.name, State.LEFT, _reason(error), buried=error.buried)
    except NotAnEnvelopeError as error:
        return RunResult(
            item.number, item.name, State.FOREIGN, _reason(error), _named_keys(error), format=_format(error)
        )
    except KmsError as error:
        # A retryable error may be gone in a later pass.
        no_credentials = is_of_credentials(error)
        state = State.LEFT if error.retryable or no_credentials else State.FAILED
        return RunResult(item.number, item.name, state, _reason(error), kms_error=True, no_credentials=no_credentials)
    except KeyRowError as error:
        return RunResult(item.number, item.name, State.REFUSED, _reason(error))
    except KeyStoreError as error:
        # Counted like failures of KMS: a database that is away ends a run, which another one resumes.
        state = State.LEFT if error.retryable else State.FAILED
        return RunResult(item.number, item.name, state, _reason(error), kms_error=True)
    except SealwaxError as error:
        # Objects are removed and locked all the time, so this must not stop a run.
        left = is_gone(error) or is_locked(error)
        state = State.LEFT if left else State.REFUSED if is_refused(error) else State.FAILED
        return RunResult(item.number, item.name, state, _reason(error))


def _named_keys(error: NotAnEnvelopeError) -> Keys:
    """Return the keys that a foreign object names by their ARNs."""
    named = () if error.foreign is None else error.foreign.keys
    return tuple((arn, "") for arn in named if _names.parse_arn(arn))


def _format(error: NotAnEnvelopeError) -> str:
    return "" if error.foreign is None else error.foreign.format


def _reason(error: SealwaxError) -> str:
    return str(error)[:_MAX_REASON]
