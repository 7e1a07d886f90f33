"""What to do with one envelope of a fleet, by its header alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from sealwax._core import context as ctx
from sealwax._core.format import header as hdr
from sealwax._core.format.header import Header
from sealwax._core.keyring import PROVIDER_AWS_KMS, WrappedKey
from sealwax._core.staleness import Staleness, faults, staleness_of
from sealwax._text import printable
from sealwax.errors import ContextError
from sealwax.fleet._settings import Settings
from sealwax.fleet._state import State, StepKind

# One envelope must not cause many KMS calls; as for a keyring.
_MAX_ATTEMPTS: Final = 3
_BY_HAND: Final = "re-encrypt it by itself, not as part of a fleet"


@dataclass(frozen=True, slots=True)
class Step:
    """How one wanted key gets into an envelope.

    Attributes:
        target: the wanted key's ARN.
        kind: the way.
        sources: the wrapped keys to try, in order; for ``KEEP`` the one to keep.
    """

    target: str
    kind: StepKind
    sources: tuple[WrappedKey, ...]

    @property
    def calls(self) -> int:
        """The number of KMS calls that it takes."""
        return {StepKind.KEEP: 0, StepKind.REWRAP: 1, StepKind.ADD: 2}[self.kind]

    def unit(self, context: bytes) -> bytes:
        """Return an id of the calls: envelopes with the same data key and context share them.

        It covers all sources, since any may lead to the result, and only an envelope with the same ones may use it.
        Otherwise a forged envelope, with a source of its own behind another envelope's, could replace that envelope's
        data key with its own.

        Args:
            context: the stored context in canonical form.
        """
        parts = [self.kind.encode(), self.target.encode(), context]
        for source in self.sources:
            parts += source.key_arn.encode(), source.ciphertext
        return hashlib.sha256(b"".join([len(part).to_bytes(4, "big") + part for part in parts])).digest()


@dataclass(frozen=True, slots=True)
class EnvelopeDecision:
    """What to do with one envelope.

    Attributes:
        state: ``STALE``, ``FRESH``, ``SKIPPED`` or ``REFUSED``.
        reason: why, for the last two.
        verdict: whether it is stale, and why.
        steps: one for each wanted key of a stale envelope.
    """

    state: State
    reason: str
    verdict: Staleness
    steps: tuple[Step, ...] = ()


def decide(header: Header, settings: Settings, relpath: str) -> EnvelopeDecision:
    """Return what to do with an envelope. Pure.

    A wrapped key is dropped only once KMS has made another from an allowed one: an envelope merely claims to be under a
    wanted key, and dropping what opens it for a false claim would lose it.
    """
    verdict = staleness_of(header, settings.wanted)
    refusal = settings.contexts.refusal(ctx.decode(header.preamble.kms_context), relpath)
    if refusal is not None:
        return EnvelopeDecision(State.SKIPPED, refusal, verdict)
    if settings.reencrypt:
        return _decide_reencryption(header, settings, verdict)
    if not verdict.stale:
        return EnvelopeDecision(State.FRESH, "", verdict)
    # An unfinished envelope is re-wrapped from its newer slot, or from the older one if only that is allowed.
    decisions = [_steps(reading, settings, verdict) for reading in header.readings]
    return next((decision for decision in decisions if decision.state == State.STALE), decisions[0])


def _steps(header: Header, settings: Settings, verdict: Staleness) -> EnvelopeDecision:
    """Return what to do with a stale envelope, using the current slot of ``header``."""
    wrapped_keys = header.slot.wrapped_keys
    present = {key.key_arn: key for key in wrapped_keys if key.provider == PROVIDER_AWS_KMS}
    attempts = settings._attempts(wrapped_keys)

    def sources_in(region: str) -> tuple[WrappedKey, ...]:
        return tuple(attempt.wrapped_key for attempt in attempts if attempt.region == region)[:_MAX_ATTEMPTS]

    steps: list[Step] = []
    for key in settings.wanted.keys:
        own = present.get(key.arn)
        if own is not None and not faults(own, key, settings.wanted.wrapped_since):
            steps.append(Step(key.arn, StepKind.KEEP, (own,)))
        elif sources := sources_in(key.region):
            steps.append(Step(key.arn, StepKind.REWRAP, sources))
        elif not attempts:
            return EnvelopeDecision(State.REFUSED, _not_allowed(header), verdict)
        elif settings.add_regions:
            # Each once, although it may be tried in several Regions.
            sources = tuple(dict.fromkeys(attempt.wrapped_key for attempt in attempts))[:_MAX_ATTEMPTS]
            steps.append(Step(key.arn, StepKind.ADD, sources))
        else:
            reason = (
                f"it is not wrapped under a source key in {key.region}, KMS re-wraps within one Region only, and the "
                "plan does not add Regions"
            )
            return EnvelopeDecision(State.REFUSED, reason, verdict)
    if all(step.kind == StepKind.KEEP for step in steps):
        # Otherwise other wrapped keys, or another slot's, would be dropped because of a claim.
        provable = [
            (at, sources) for at, step in enumerate(steps) if (sources := sources_in(settings.wanted.keys[at].region))
        ]
        if not provable:
            return EnvelopeDecision(State.REFUSED, _not_allowed(header), verdict)
        at, sources = provable[0]
        steps[at] = Step(steps[at].target, StepKind.REWRAP, sources)
    return EnvelopeDecision(State.STALE, "", verdict, tuple(steps))


def refuse_context(header: Header, settings: Settings, relpath: str) -> None:
    """Refuse an envelope whose stored context is not one of those given.

    Raises:
        ContextError: it is not.
    """
    refusal = settings.contexts.refusal(ctx.decode(header.preamble.kms_context), relpath)
    if refusal is not None:
        raise ContextError(refusal)


def _decide_reencryption(header: Header, settings: Settings, verdict: Staleness) -> EnvelopeDecision:
    """As ``decide``, for re-encryption, on the assumption that the data key is old.

    Only the plan knows whether it is: ``_reencrypt.reencryption_state``.
    """
    if header.preamble.kind == hdr.DETACHED:
        return EnvelopeDecision(State.REFUSED, f"its payload is stored elsewhere; {_BY_HAND}", verdict)
    if header.preamble.local_pairs:
        return EnvelopeDecision(
            State.REFUSED, f"it has a local context, which only its readers know; {_BY_HAND}", verdict
        )
    try:
        ctx.refuse_records(ctx.decode(header.preamble.kms_context))
    except ContextError as error:
        return EnvelopeDecision(State.REFUSED, str(error), verdict)
    if not settings._attempts(header.slot.wrapped_keys):
        return EnvelopeDecision(State.REFUSED, _not_allowed(header), verdict)
    return EnvelopeDecision(State.STALE, "", verdict)


def _not_allowed(header: Header) -> str:
    under = ", ".join(f"'{printable(key.key_arn)}'" for key in header.slot.wrapped_keys)
    hint = "" if header.finished else "; to finish its interrupted re-wrap, add that key to the sources"
    return f"it is wrapped under {under}, not under a source key of the plan, so KMS was not called{hint}"
