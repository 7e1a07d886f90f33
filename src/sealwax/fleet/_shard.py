"""The work on a part of a fleet, for every engine: threads here, a partition in Spark.

Two functions, each over the objects of one store and without any state of its own: :func:`scan` reads headers and says
what is to be done, :func:`rewrap` does it. What they take and give is small, frozen and picklable; the store and the
``Rewrapper`` are made where the work is done. Both are harmless when they are repeated: an object's header is read
again under the store's lock, and what is not stale is left alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sealwax._core import context as ctx
from sealwax._core.context import printable
from sealwax._core.format import header as hdr
from sealwax._core.format.header import Header
from sealwax._core.keyring import PROVIDER_AWS_KMS, WrappedKey
from sealwax._core.staleness import Verdict, faults, judge
from sealwax.errors import (
    ContextError,
    HeaderError,
    KmsError,
    NotAnEnvelopeError,
    RewrapConflictError,
    SealwaxError,
    UnsupportedEnvelopeError,
    is_of_credentials,
)
from sealwax.fleet._kms_calls import Rewrapper
from sealwax.fleet._settings import Settings
from sealwax.kms import _names
from sealwax.stores._store import S3_SCHEME, Store, is_gone, is_locked

# One envelope's wrapped keys must not become many calls; as for a keyring.
_MAX_ATTEMPTS: Final = 3
_MAX_REASON: Final = 1000
_BY_HAND: Final = "'sealwax reencrypt' does it"

# What may be said of an object.
STALE: Final = "stale"
FRESH: Final = "fresh"
REFUSED: Final = "refused"  # stale, and these settings do not allow to re-wrap it
SKIPPED: Final = "skipped"  # its context is not one that was given
FOREIGN: Final = "foreign"  # no envelope
DAMAGED: Final = "damaged"
UNREADABLE: Final = "unreadable"
REWRAPPED: Final = "rewrapped"
REENCRYPTED: Final = "reencrypted"
FAILED: Final = "failed"
LINK: Final = "link"  # no object: what it leads to is in none of the places
LEFT: Final = "left"  # somebody else was at it, or KMS was not there: a later pass may do it


@dataclass(frozen=True, slots=True)
class Item:
    """An object to work on: its number in a plan, its name in its store and, where a listing has shown it, its size."""

    number: int
    name: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """How one wanted key comes into an envelope.

    Attributes:
        target: the wanted key's ARN.
        how: ``"keep"``: it is there; ``"rewrap"``: by kms:ReEncrypt; ``"add"``: by kms:Decrypt and kms:Encrypt.
        sources: the wrapped keys to do it from, in the order in which they are tried; for ``"keep"`` the one itself.
    """

    target: str
    how: str
    sources: tuple[WrappedKey, ...]

    @property
    def calls(self) -> int:
        """The KMS calls it takes."""
        return {"keep": 0, "rewrap": 1, "add": 2}[self.how]

    def unit(self, context: bytes) -> bytes:
        """Return what names the calls: envelopes that share a data key and a context share them.

        All sources are in it: any of them may give the answer, and only an envelope that has the same ones may take it.
        A forged one with a source of its own behind another's would else replace the other's data key by its own.

        Args:
            context: in canonical form.
        """
        parts = [self.how.encode(), self.target.encode(), context]
        for source in self.sources:
            parts += source.key_arn.encode(), source.ciphertext
        return hashlib.sha256(b"".join([len(part).to_bytes(4, "big") + part for part in parts])).digest()


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done with one envelope.

    Attributes:
        state: ``STALE``, ``FRESH``, ``SKIPPED`` or ``REFUSED``.
        reason: why not, for the last two.
        steps: one for each wanted key, where the state is ``STALE``.
    """

    state: str
    reason: str
    verdict: Verdict
    steps: tuple[Step, ...] = ()


def consider(header: Header, settings: Settings, relpath: str) -> Work:
    """Return what is to be done with an envelope. Pure.

    A wrapped key is dropped only when KMS has made another from an allowed one: that an envelope names a wanted key is
    a claim, and to drop what opens it for a claim would be to lose it.
    """
    verdict = judge(header, settings.wanted)
    refusal = settings.contexts.refusal(ctx.decode(header.preamble.kms_context), relpath)
    if refusal is not None:
        return Work(SKIPPED, refusal, verdict)
    if settings.reencrypt:
        return _anew(header, settings, verdict)
    if not verdict.stale:
        return Work(FRESH, "", verdict)
    # An unfinished one is re-wrapped from its newer slot, or from the older one where only that is allowed.
    works = [_steps(reading, settings, verdict) for reading in header.readings]
    return next((work for work in works if work.state == STALE), works[0])


def _steps(header: Header, settings: Settings, verdict: Verdict) -> Work:
    """Return what is to be done with a stale envelope, from the slot that counts in ``header``."""
    wrapped_keys = header.slot.wrapped_keys
    have = {key.key_arn: key for key in wrapped_keys if key.provider == PROVIDER_AWS_KMS}
    attempts = settings.attempts(wrapped_keys)

    def near(region: str) -> tuple[WrappedKey, ...]:
        return tuple(attempt.wrapped_key for attempt in attempts if attempt.region == region)[:_MAX_ATTEMPTS]

    steps: list[Step] = []
    for key in settings.wanted.keys:
        own = have.get(key.arn)
        if own is not None and not faults(own, key, settings.wanted.wrapped_since):
            steps.append(Step(key.arn, "keep", (own,)))
        elif sources := near(key.region):
            steps.append(Step(key.arn, "rewrap", sources))
        elif not attempts:
            return Work(REFUSED, _not_allowed(header), verdict)
        elif settings.add_regions:
            # Each once, though it may be tried in several Regions.
            sources = tuple(dict.fromkeys(attempt.wrapped_key for attempt in attempts))[:_MAX_ATTEMPTS]
            steps.append(Step(key.arn, "add", sources))
        else:
            return Work(
                REFUSED,
                f"no allowed key has wrapped it in {key.region}, and KMS re-wraps inside one Region only; "
                "--add-region adds that Region (kms:Decrypt and kms:Encrypt)",
                verdict,
            )
    if all(step.how == "keep" for step in steps):
        # Other wrapped keys, or another slot's, would be dropped for a claim.
        provable = [
            (at, sources) for at, step in enumerate(steps) if (sources := near(settings.wanted.keys[at].region))
        ]
        if not provable:
            return Work(REFUSED, _not_allowed(header), verdict)
        at, sources = provable[0]
        steps[at] = Step(steps[at].target, "rewrap", sources)
    return Work(STALE, "", verdict, tuple(steps))


def refuse_context(header: Header, settings: Settings, relpath: str) -> None:
    """Refuse an envelope that is not meant.

    Raises:
        ContextError: its stored context is not one that was given.
    """
    refusal = settings.contexts.refusal(ctx.decode(header.preamble.kms_context), relpath)
    if refusal is not None:
        raise ContextError(refusal)


def _anew(header: Header, settings: Settings, verdict: Verdict) -> Work:
    """As :func:`consider`, of data that is to be encrypted anew: as if its data key were an old one.

    Whether it is one is for who knows the plan to say: :func:`sealwax.fleet._reencrypt.judged`.
    """
    if header.preamble.kind == hdr.DETACHED:
        return Work(REFUSED, f"its payload is stored elsewhere; {_BY_HAND}", verdict)
    if header.preamble.local_pairs:
        return Work(REFUSED, f"it has a local context, which only its readers know; {_BY_HAND}", verdict)
    if not settings.attempts(header.slot.wrapped_keys):
        return Work(REFUSED, _not_allowed(header), verdict)
    return Work(STALE, "", verdict)


def _not_allowed(header: Header) -> str:
    under = ", ".join(f"'{printable(key.key_arn)}'" for key in header.slot.wrapped_keys)
    half = "" if header.finished else "; name that key too, and the re-wrap that was interrupted is finished"
    return f"it is wrapped under {under}, which is none of the keys named with --from; KMS is not asked{half}"


def keys_of(wrapped_keys: Iterable[WrappedKey]) -> tuple[tuple[str, str], ...]:
    return tuple([(key.key_arn, key.key_material_id.hex()) for key in wrapped_keys])


def _hash(key: WrappedKey) -> bytes:
    # KMS binds its key and the context to it; what a header says of them may be another thing.
    return hashlib.sha256(key.ciphertext).digest()


def relative(name: str, location: str) -> str:
    """Return an object's path below its place, with "/" between its parts."""
    if name.startswith(location):
        # One "/" and no more: to S3, "a/b" and "a//b" are two objects.
        below = name.removeprefix(location) if location.endswith("/") else name.removeprefix(location).removeprefix("/")
    else:
        # An inventory lists objects of a bucket that it need not be in.
        below = name.removeprefix(S3_SCHEME).partition("/")[2] if name.startswith(S3_SCHEME) else ""
    return below or name.rpartition("/")[2]


# --- scanning


@dataclass(frozen=True, slots=True)
class Found:
    """What a scan says of one object.

    Attributes:
        state: as of :class:`Work`; or ``FOREIGN``, ``DAMAGED``, ``UNREADABLE``.
        reasons: why it is stale, of :data:`sealwax._core.staleness.REASONS`.
        envelope_id: which envelope stood there; b"" where none did.
        keys: pairs of key ARN and material id in hex: what it says it is wrapped under, also where it is ``FOREIGN``.
        hashes: what tells its wrapped keys from others.
        context: its stored context in canonical form.
        units: pairs of what names KMS calls, and how many they are.
        format: which one it has, where it is ``FOREIGN`` and that can be told; as ``sealwax._core.recognize`` names it.
    """

    number: int
    name: str
    state: str
    reason: str = ""
    reasons: tuple[str, ...] = ()
    missing_regions: tuple[str, ...] = ()
    envelope_id: bytes = b""
    keys: tuple[tuple[str, str], ...] = ()
    hashes: tuple[bytes, ...] = ()
    context: bytes = b""
    units: tuple[tuple[bytes, int], ...] = ()
    format: str = ""

    def of(self, item: Item, envelope_id: bytes) -> Found:
        """Return the same, said of another object."""
        return Found(
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


def scan(items: Iterable[Item], settings: Settings, store: Store) -> Iterator[Found]:
    """Yield what each object is, from its header alone. No KMS call is made and nothing is written.

    Raises:
        CredentialsError: nobody is signed in, so that no other object can be read either.
    """
    # Neighbors often are under one data key, and then all that is said of them is the same but for their names.
    by_name = settings.reencrypt or settings.contexts.by_name
    last: tuple[object, ...] = ()
    for item in items:
        try:
            header = store.inspect(item.name).header
        except NotAnEnvelopeError as error:
            keys = _named_keys(error)
            yield Found(item.number, item.name, FOREIGN, _told(error), keys=keys, format=_format(error))
        except UnsupportedEnvelopeError as error:
            yield Found(item.number, item.name, UNREADABLE, _told(error))
        except HeaderError as error:
            yield Found(item.number, item.name, DAMAGED, _told(error))
        except SealwaxError as error:
            if is_of_credentials(error):
                raise
            yield Found(item.number, item.name, UNREADABLE, _told(error))
        else:
            says = (header.slots, header.preamble.kms_context)
            if by_name or says != last:
                found, last = found_of(item, header, settings, relative(item.name, store.location)), says
                yield found
            else:
                yield found.of(item, header.preamble.envelope_id)


def found_of(item: Item, header: Header, settings: Settings, relpath: str) -> Found:
    """Return what an envelope's header says. Pure."""
    work = consider(header, settings, relpath)
    context, wrapped_keys = header.preamble.kms_context, header.slot.wrapped_keys
    if settings.reencrypt:
        # A call of Decrypt, one of GenerateDataKey, and one of Encrypt for each further key, for it alone.
        unit = hashlib.sha256(item.name.encode("utf-8", "surrogateescape")).digest()
        units = ((unit, 1 + len(settings.wanted.keys)),) * (work.state == STALE)
    else:
        units = tuple([(step.unit(context), step.calls) for step in work.steps if step.calls])
    return Found(
        item.number,
        item.name,
        work.state,
        work.reason,
        work.verdict.reasons,
        () if settings.reencrypt else work.verdict.missing_regions,  # no Region needs another then
        header.preamble.envelope_id,
        keys_of(wrapped_keys),
        tuple(map(_hash, wrapped_keys)),
        context,
        units,
    )


# --- re-wrapping


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one object.

    Attributes:
        state: ``REWRAPPED``, ``REENCRYPTED``, ``FRESH`` (there was nothing to do any more), ``SKIPPED``, ``REFUSED``,
            ``FOREIGN``, ``FAILED``, or ``LEFT``.
        reason: why, but for the first three.
        keys: as of :class:`Found`, for the first three and ``FOREIGN``: what it is under now.
        kms_error: KMS could not be reached, throttles, or refused.
        no_credentials: nobody is signed in: no other object will fare better.
        format: as of :class:`Found`.
    """

    number: int
    name: str
    state: str
    reason: str = ""
    keys: tuple[tuple[str, str], ...] = ()
    kms_error: bool = False
    no_credentials: bool = False
    format: str = ""


class Settled(Exception):  # noqa: N818  it is no error
    """There is nothing to write; it ends what a store does to an object, and never leaves :func:`outcome`."""

    def __init__(self, state: str, reason: str, keys: tuple[tuple[str, str], ...]) -> None:
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
) -> Iterator[Result]:
    """Re-wrap objects; yield what became of each.

    Each header is read again under the store's lock or condition, so that what has changed since the plan is judged as
    it is now.

    Args:
        stop: asked before each object; once it says so, the rest is not begun.

    Raises:
        ValueError: the settings are those of a re-encryption, for which a re-wrap would be no remedy.
    """
    if settings.reencrypt:
        raise ValueError("these settings ask for re-encryption, and a re-wrap keeps the data key")
    for item in items:
        if stop():
            return
        yield _rewrap(item, settings, store, rewrapper)


def _rewrap(item: Item, settings: Settings, store: Store, rewrapper: Rewrapper) -> Result:
    relpath = relative(item.name, store.location)
    under: tuple[tuple[str, str], ...] = ()

    def new_keys(header: Header, _: Callable[[], bytes]) -> tuple[WrappedKey, ...]:
        work = consider(header, settings, relpath)
        if work.state != STALE:
            raise Settled(work.state, work.reason, keys_of(header.slot.wrapped_keys))
        stored = header.preamble.kms_context
        pairs = ctx.decode(stored)
        made = [rewrapper.follow(step.how, step.target, step.sources, pairs, step.unit(stored)) for step in work.steps]
        # What another provider wrapped cannot be judged here; dropping it might be the loss of the data.
        made += [key for key in header.slot.wrapped_keys if key.provider != PROVIDER_AWS_KMS]
        nonlocal under
        under = keys_of(made)
        return tuple(made)

    def work() -> Result:
        store.rewrap(item.name, new_keys, size=item.size)
        return Result(item.number, item.name, REWRAPPED, keys=under)

    return outcome(item, work)


def outcome(item: Item, work: Callable[[], Result]) -> Result:
    """Return what ``work`` on an object returns, or what its failure means."""
    try:
        return work()
    except Settled as settled:
        return Result(item.number, item.name, settled.state, settled.reason, settled.keys)
    except RewrapConflictError as error:
        return Result(item.number, item.name, LEFT, _told(error))
    except NotAnEnvelopeError as error:
        return Result(item.number, item.name, FOREIGN, _told(error), _named_keys(error), format=_format(error))
    except KmsError as error:
        # One that is retryable may be had in a later pass.
        no_credentials = is_of_credentials(error)
        state = LEFT if error.retryable or no_credentials else FAILED
        return Result(item.number, item.name, state, _told(error), kms_error=True, no_credentials=no_credentials)
    except SealwaxError as error:
        # Objects are removed and locked all the time; that is no reason to stop a run.
        left = is_gone(error) or is_locked(error)
        return Result(item.number, item.name, LEFT if left else FAILED, _told(error))


def _named_keys(error: NotAnEnvelopeError) -> tuple[tuple[str, str], ...]:
    """Return what :func:`keys_of` does, of the keys that something else than an envelope names by their ARNs."""
    named = () if error.foreign is None else error.foreign.keys
    return tuple((arn, "") for arn in named if _names.parse_arn(arn))


def _format(error: NotAnEnvelopeError) -> str:
    return "" if error.foreign is None else error.foreign.format


def _told(error: SealwaxError) -> str:
    return str(error)[:_MAX_REASON]
