"""Runs the checks, one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sealwax import errors
from sealwax._aws.session import Session
from sealwax._core.context import NoContext, as_pairs, check_new_keys
from sealwax._text import printable
from sealwax.prove import _envelopes, _moving, _outages, _records, _requests, _traces
from sealwax.prove._proof import UNANSWERED, Check, Failed, NotShown, Options, Proof
from sealwax.prove._results import FAILED, NOT_SHOWN, PASSED, CheckResult, Outcome, ProofReport

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
RECORDS_CHECKS: Final[tuple[Check, ...]] = (
    _records.records_round_trip,
    _records.records_refused,
    _records.records_roll,
    _records.records_rewrap,
    _records.records_shred,
)
# These pass: the same run may succeed later.
_TEMPORARY: Final = (errors.CredentialsError, errors.KeyStateError, errors.ThrottledError, errors.UnavailableError)


def planned_requests(
    key: str, context: Mapping[str, str] | NoContext, session: Session, options: Options | None = None
) -> int:
    """Return how many requests ``prove`` will make to KMS, without retries and replicas.

    Args:
        key: as for ``prove``.
        context: as for ``prove``.
        session: as for ``prove``.
        options: as for ``prove``.

    Returns:
        The number of requests.

    Raises:
        ConfigurationError: the key's name is invalid, or no Region is set.

    Example:
        ``planned_requests("alias/payments", {"purpose": "backup"}, session) * sealwax.events.USD_PER_CALL``
    """
    return _planned(Proof(key, as_pairs(context), session, options or Options()))


def _planned(proof: Proof) -> int:
    return sum(check.requests(proof) for check in _checks(proof))


def _checks(proof: Proof) -> tuple[Check, ...]:
    return CHECKS if proof.options.records is None else CHECKS + RECORDS_CHECKS


def prove(
    key: str,
    context: Mapping[str, str] | NoContext,
    session: Session,
    options: Options | None = None,
    on_result: Callable[[CheckResult], None] = lambda _: None,
) -> ProofReport:
    """Run every check in ``CHECKS`` against a KMS key; with ``options.records``, also those in ``RECORDS_CHECKS``.

    Args:
        key: a key ID, key ARN, alias or alias ARN of a symmetric encryption key.
        context: the context of the samples, with the pairs that policies require.
        session: a boto3 session, or an object with its ``region_name`` and ``client``.
        options: what some of the checks need.
        on_result: called after each check.

    Returns:
        The results of all checks.

    Raises:
        ContextError: the context is invalid.
        KmsError: the key cannot be used at all: its first request, GenerateDataKey, failed.

    Only kms:GenerateDataKey is required. A check whose permissions are missing is not shown;
    docs/how-to/verification.md lists the permissions of each.

    Example:
        ::

            report = prove("alias/payments", {"purpose": "backup"}, boto3.Session())
            for result in report.checks:
                print(result.outcome, result.name, result.detail)
    """
    bound = as_pairs(context)
    check_new_keys(bound)
    proof = Proof(key, bound, session, options or Options())
    results: dict[Check, CheckResult] = {}
    try:
        for check in _checks(proof):
            results[check] = run_check(check, proof, results)
            on_result(results[check])
    finally:
        proof.close()
    return ProofReport(key, proof.arn, tuple(results.values()), _planned(proof))


def run_check(check: Check, proof: Proof, results: Mapping[Check, CheckResult]) -> CheckResult:
    """Run one check, given the results of the previous ones."""
    interrupted, option = False, None
    proof.evidence = []
    outcome: Outcome
    not_passed = [need.name for need in check.needs if results[need].outcome != PASSED]
    try:
        if not_passed:
            raise NotShown(f"{', '.join(not_passed)} did not pass")
        if proof.signed_out and check.requests(proof):
            raise NotShown(f"{proof.signed_out} found no valid credentials, so KMS was not called", interrupted=True)
        outcome, detail = PASSED, check.run(proof)
    except Failed as error:
        outcome, detail = FAILED, str(error)
    except NotShown as error:
        outcome, detail, interrupted, option = NOT_SHOWN, str(error), error.interrupted, error.option
    except errors.SealwaxError as error:
        cause = error.attempts[-1][1] if isinstance(error, errors.AllKeysFailedError) else error
        if check is CHECKS[0] and isinstance(error, errors.KmsError):
            raise
        interrupted = isinstance(cause, _TEMPORARY)
        # These use other credentials or another Region, so the rest may still work.
        separate = check in (_requests.denied_principal, _moving.replicas)
        if errors.is_of_credentials(error) and not separate:
            proof.signed_out = check.name
        outcome, detail = (NOT_SHOWN if isinstance(cause, UNANSWERED) else FAILED), str(error)
    needs = tuple(need.name for need in check.needs)
    return CheckResult(
        check.name, check.shows, outcome, printable(detail), needs, tuple(proof.evidence), interrupted, option
    )
