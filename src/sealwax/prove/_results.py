"""The results of a proof: plain data, none of it secret."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final, Literal

from sealwax.events import USD_PER_CALL

Outcome = Literal["passed", "failed", "not shown"]

PASSED: Final = "passed"
FAILED: Final = "failed"
NOT_SHOWN: Final = "not shown"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A call of KMS or of the library, and how it ended.

    Attributes:
        operation: an operation of KMS such as ``"Decrypt"``, or a call of the library such as ``"Sealer.decrypt"``.
        error: KMS's error code or the library's error class; None for a success.
        request_id: AWS's request ID, or None.
        time: when it ended.
        region: the Region of a KMS request; None for a call of the library.
        simulated: whether the answer was injected, and did not come from KMS.
    """

    operation: str
    error: str | None
    request_id: str | None
    time: datetime
    region: str | None = None
    simulated: bool = False

    @property
    def is_request(self) -> bool:
        """Whether it is a request that KMS received."""
        return self.region is not None and not self.simulated

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return asdict(self) | {"time": self.time.isoformat(timespec="milliseconds")}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: the name of the check.
        shows: what the check shows if it passes.
        outcome: ``"passed"``, ``"failed"`` or ``"not shown"``.
        detail: what happened, or why it failed or is not shown.
        needs: the names of the checks that must pass first.
        evidence: the calls that it made.
        interrupted: whether a temporary problem, such as throttling, kept it from running.
        missing: the field of ``Options`` that it needs and that was not given; None if that is not the reason.
    """

    name: str
    shows: str
    outcome: Outcome
    detail: str
    needs: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    interrupted: bool = False
    missing: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return {
            "name": self.name,
            "shows": self.shows,
            "outcome": self.outcome,
            "detail": self.detail,
            "interrupted": self.interrupted,
            "needs": list(self.needs),
            "evidence": [item.as_dict() for item in self.evidence],
        }


@dataclass(frozen=True, slots=True)
class ProofReport:
    """The results of all checks.

    Attributes:
        key: the KMS key as the caller named it.
        key_arn: the key's ARN from KMS; None if KMS did not return it.
        checks: the results, in the order of ``CHECKS``.
        planned: the planned number of requests to KMS, without retries and replicas.
    """

    key: str
    key_arn: str | None
    checks: tuple[CheckResult, ...]
    planned: int

    def count(self, outcome: Outcome) -> int:
        """Count the checks with an outcome.

        Args:
            outcome: ``"passed"``, ``"failed"`` or ``"not shown"``.

        Returns:
            How many there are.
        """
        return sum(result.outcome == outcome for result in self.checks)

    @property
    def requests(self) -> int:
        """How many requests KMS received."""
        return sum(item.is_request for result in self.checks for item in result.evidence)

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON, as docs/reference/prove.schema.json describes it."""
        return {
            "format": "sealwax-prove-1",
            "key": self.key,
            "key_arn": self.key_arn,
            "checks": [result.as_dict() for result in self.checks],
            "passed": self.count("passed"),
            "failed": self.count("failed"),
            "not_shown": self.count("not shown"),
            "requests_planned": self.planned,
            "requests_made": self.requests,
            "usd": round(self.requests * USD_PER_CALL, 6),
        }
