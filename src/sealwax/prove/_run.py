"""Running the checks, one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sealwax import errors
from sealwax._aws.session import Session
from sealwax._core.context import NoContext, as_pairs, check_kms_keys, printable
from sealwax.prove import _envelopes, _moving, _outages, _requests, _traces
from sealwax.prove._proof import NOT_ASKED, Check, Failed, NotShown, Options, Proof
from sealwax.prove._results import FAILED, NOT_SHOWN, PASSED, Outcome, Report, Result

CHECKS: Final[tuple[Check, ...]] = (
    _requests.generate_data_key,
    _requests.generate_no_plaintext,
    _requests.decrypt,
    _requests.own_rights,
    _requests.denied_principal,
    _requests.context_wrong,
    _requests.context_missing,
    _requests.context_altered,
    _requests.tampered_wrapped_key,
    _envelopes.local_encryption,
    _envelopes.context_in_payload,
    _envelopes.tampered_ciphertext,
    _envelopes.round_trip,
    _envelopes.context_at_envelope,
    _envelopes.swapped_wrapped_key,
    _traces.memory,
    _traces.debug_logs,
    _moving.reencrypt_same_key,
    _moving.reencrypt_other_key,
    _moving.rotation,
    _moving.replicas,
    _outages.throttling,
    _outages.cached_offline,
)
# These pass, and the same run a little later may tell.
_PASSING: Final = (errors.CredentialsError, errors.KeyStateError, errors.ThrottledError, errors.UnavailableError)


def planned_requests(
    key: str, context: Mapping[str, str] | NoContext, session: Session, options: Options | None = None
) -> int:
    """Return how many requests :func:`prove` is going to make to KMS; retries and replicas come on top.

    Raises:
        ConfigurationError: the key's name is none, or no Region is set.
    """
    return _planned(Proof(key, as_pairs(context), session, options or Options()))


def _planned(proof: Proof) -> int:
    return sum(one.requests(proof) for one in CHECKS)


def prove(
    key: str,
    context: Mapping[str, str] | NoContext,
    session: Session,
    options: Options | None = None,
    on_result: Callable[[Result], None] = lambda _: None,
) -> Report:
    """Run every check against a KMS key.

    Args:
        key: a key ID, key ARN, alias or alias ARN of a symmetric encryption key.
        context: what the samples are bound to; policies that ask for a context must find it here.
        session: a boto3 Session, or what has its ``region_name`` and ``client``.
        options: what some checks need beyond that.
        on_result: called after each check.

    IAM actions: docs/iam.md lists them for each check. kms:GenerateDataKey is indispensable; what else is missing
    leaves checks not shown.

    Raises:
        ContextError: the context cannot be one.
        KmsError: the key cannot be used at all: its first request, GenerateDataKey, was not served.
    """
    bound = as_pairs(context)
    check_kms_keys(bound)
    proof = Proof(key, bound, session, options or Options())
    results: dict[Check, Result] = {}
    try:
        for one in CHECKS:
            results[one] = run_one(one, proof, results)
            on_result(results[one])
    finally:
        proof.close()
    return Report(key, proof.arn, tuple(results.values()), _planned(proof))


def run_one(one: Check, proof: Proof, before: Mapping[Check, Result]) -> Result:
    """Run one check, given the results of those before it."""
    interrupted = False
    proof.evidence = []
    outcome: Outcome
    missing = [need.name for need in one.needs if before[need].outcome != PASSED]
    try:
        if missing:
            raise NotShown(f"{', '.join(missing)} did not pass")
        if proof.signed_out and one.requests(proof):
            raise NotShown(f"KMS was not asked: {proof.signed_out} ended for want of credentials", interrupted=True)
        outcome, detail = PASSED, one.run(proof)
    except Failed as error:
        outcome, detail = FAILED, str(error)
    except NotShown as error:
        outcome, detail, interrupted = NOT_SHOWN, str(error), error.interrupted
    except errors.SealwaxError as error:
        cause = error.attempts[-1][1] if isinstance(error, errors.AllKeysFailedError) else error
        if one is CHECKS[0] and isinstance(error, errors.KmsError):
            raise
        interrupted = isinstance(cause, _PASSING)
        # The principal that must be denied has credentials of its own, and a replica may be in a Region apart.
        others = one is _requests.denied_principal or one is _moving.replicas
        if errors.is_of_credentials(error) and not others:
            proof.signed_out = one.name
        outcome, detail = (NOT_SHOWN if isinstance(cause, NOT_ASKED) else FAILED), str(error)
    needs = tuple(need.name for need in one.needs)
    return Result(one.name, one.shows, outcome, printable(detail), needs, tuple(proof.evidence), interrupted)
