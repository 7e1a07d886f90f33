"""Running the checks, one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sealwax import aws, errors
from sealwax.context import NoContext, as_pairs, check_kms_keys, printable
from sealwax.prove import envelopes, moving, requests, traces, weather
from sealwax.prove.proof import NOT_ASKED, Check, Failed, NotShown, Options, Proof
from sealwax.prove.results import FAILED, NOT_SHOWN, PASSED, Outcome, Report, Result

CHECKS: Final[tuple[Check, ...]] = (
    requests.generate_data_key,
    requests.generate_no_plaintext,
    requests.decrypt,
    requests.own_rights,
    requests.denied_principal,
    requests.context_wrong,
    requests.context_missing,
    requests.context_altered,
    requests.tampered_wrapped_key,
    envelopes.local_encryption,
    envelopes.context_in_payload,
    envelopes.tampered_ciphertext,
    envelopes.round_trip,
    envelopes.context_at_envelope,
    envelopes.swapped_wrapped_key,
    traces.memory,
    traces.debug_logs,
    moving.reencrypt_same_key,
    moving.reencrypt_other_key,
    moving.rotation,
    moving.replicas,
    weather.throttling,
    weather.cached_offline,
)
# These pass, and the same run a little later may tell.
_PASSING: Final = (errors.CredentialsError, errors.KeyStateError, errors.ThrottledError, errors.UnavailableError)


def planned_requests(
    key: str, context: Mapping[str, str] | NoContext, session: aws.Session, options: Options | None = None
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
    session: aws.Session,
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
        others = one is requests.denied_principal or one is moving.replicas
        if errors.is_of_credentials(error) and not others:
            proof.signed_out = one.name
        outcome, detail = (NOT_SHOWN if isinstance(cause, NOT_ASKED) else FAILED), str(error)
    needs = tuple(need.name for need in one.needs)
    return Result(one.name, one.shows, outcome, printable(detail), needs, tuple(proof.evidence), interrupted)
