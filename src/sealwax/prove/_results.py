"""What a proof found: plain data, and none of it secret."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

Outcome = Literal["passed", "failed", "not shown"]

PASSED: Final = "passed"
FAILED: Final = "failed"
NOT_SHOWN: Final = "not shown"
# https://aws.amazon.com/kms/pricing/ : a request of a symmetric key, in USD.
USD_PER_REQUEST: Final = 0.03 / 10_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that was asked, of KMS or of the library, and how it ended.

    Attributes:
        operation: ``"Decrypt"``, or what of the library: ``"Sealer.decrypt"``.
        error: KMS's error code or the library's error class; None where it succeeded.
        request_id: AWS's, or None.
        time: when it ended.
        region: where KMS was asked; None where it was not.
        simulated: whether something else answered in KMS's place: an injected answer, or a port where nobody listens.
    """

    operation: str
    error: str | None
    request_id: str | None
    time: datetime
    region: str | None = None
    simulated: bool = False

    @property
    def is_request(self) -> bool:
        """Whether KMS got it."""
        return self.region is not None and not self.simulated

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"time": self.time.isoformat(timespec="milliseconds")}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one check.

    Attributes:
        name: the check's.
        shows: what it shows when it passes.
        detail: what was seen, or why it failed or is not shown.
        needs: the checks without which it is not run.
        interrupted: whether it was about to run and something came in between that may pass, such as throttling.
    """

    name: str
    shows: str
    outcome: Outcome
    detail: str
    needs: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    interrupted: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "shows": self.shows,
            "outcome": self.outcome,
            "detail": self.detail,
            "interrupted": self.interrupted,
            "needs": list(self.needs),
            "evidence": [one.as_dict() for one in self.evidence],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All results, in the order of the checks.

    Attributes:
        key: the KMS key as it was named.
        key_arn: what KMS called it.
        planned: how many requests to KMS were foreseen; retries and replicas add to them.
    """

    key: str
    key_arn: str | None
    checks: tuple[Result, ...]
    planned: int

    def count(self, outcome: Outcome) -> int:
        return sum(result.outcome == outcome for result in self.checks)

    @property
    def requests(self) -> int:
        """How many requests were made to KMS."""
        return sum(one.is_request for result in self.checks for one in result.evidence)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; docs/prove.schema.json is its schema."""
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
            "usd": round(self.requests * USD_PER_REQUEST, 6),
        }
