"""What could not be asked is not shown: neither passed nor failed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealwax._core.context import NO_CONTEXT
from sealwax.lab import Lab
from sealwax.prove import CHECKS, CheckResult, Helper, Options, prove

CONTEXT = {"purpose": "backup"}


@contextlib.contextmanager
def refused(lab: Lab, code: str, operation: str, region: str = "us-east-1") -> Iterator[None]:
    """Have the lab answer an operation in a Region with an error."""
    lab.faults.add(region, "error", 1.0, operation=operation, code=code, seed=0)
    try:
        yield
    finally:
        lab.faults.clear(region, operation)


def results(lab: Lab, **options: Any) -> dict[str, CheckResult]:
    chosen = Options(to="alias/other", denied=lambda: lab.session(principal="nobody"), **options)
    report = prove("alias/many", CONTEXT, lab.session(), chosen)
    assert [(result.name, result.detail) for result in report.checks if result.outcome == "failed"] == []
    return {result.name: result for result in report.checks}


def not_shown(found: dict[str, CheckResult]) -> set[str]:
    return {name for name, result in found.items() if result.outcome == "not shown"} - {"memory", "debug-logs"}


@pytest.mark.parametrize(
    ("operation", "own"),
    [
        ("GenerateDataKeyWithoutPlaintext", {"generate-no-plaintext"}),
        ("ReEncrypt", {"reencrypt-same-key", "reencrypt-other-key", "rotation"}),
        ("DescribeKey", {"rotation", "replicas"}),
        ("RotateKeyOnDemand", {"rotation"}),
        ("Decrypt", {"decrypt"}),
    ],
)
def test_what_is_denied(operation: str, own: set[str], lab: Lab) -> None:
    with refused(lab, "AccessDeniedException", operation):
        found = results(lab, allow_changes=True)
    dependents = {check.name for check in CHECKS for other in CHECKS if other.name in own and check.depends_on(other)}
    assert not_shown(found) == (own | dependents) - {"memory", "debug-logs"}
    assert not any(result.interrupted for result in found.values())


@pytest.mark.parametrize(
    ("code", "interrupted"), [("ThrottlingException", True), ("ExpiredTokenException", True), ("AccessDenied", False)]
)
def test_a_replica_that_could_not_be_asked(code: str, interrupted: bool, lab: Lab) -> None:
    with refused(lab, code, "Decrypt", region="eu-west-1"):
        found = results(lab)
    assert not_shown(found) == {"rotation", "replicas"}
    assert found["replicas"].interrupted is interrupted


def test_a_key_that_has_had_its_rotations(lab: Lab) -> None:
    with refused(lab, "LimitExceededException", "RotateKeyOnDemand"):
        found = results(lab, allow_changes=True)
    assert not_shown(found) == {"rotation"}


def test_without_a_context_there_is_none_to_leave_out(lab: Lab) -> None:
    report = prove("alias/other", NO_CONTEXT, lab.session())
    assert report.count("failed") == 0
    shown = {result.name for result in report.checks if result.outcome == "passed"}
    assert {"context-wrong", "context-in-payload", "context-at-envelope"} <= shown
    assert not {"context-missing", "context-altered"} & shown
    assert report.requests == report.planned


def test_a_policy_that_asks_for_the_context_refuses_before_kms_looks(lab: Lab) -> None:
    key = lab.create_key()["Arn"]
    root = {"AWS": "arn:aws:iam::111122223333:root"}
    uses = ["kms:GenerateDataKey*", "kms:Decrypt", "kms:Encrypt", "kms:ReEncrypt*"]
    asked = {"StringEquals": {f"kms:EncryptionContext:{name}": value for name, value in CONTEXT.items()}}
    statements = [
        {"Effect": "Allow", "Principal": root, "Action": uses, "Resource": "*", "Condition": asked},
        {"Effect": "Allow", "Principal": root, "NotAction": uses, "Resource": "*"},
    ]
    lab.call("PutKeyPolicy", KeyId=key, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    report = prove(key, CONTEXT, lab.session())
    found = {result.name: result for result in report.checks}
    assert report.count("failed") == 0, report
    assert found["context-wrong"].detail == "another context: refused by policy"
    # One pair more is within the policy, and KMS itself refuses it.
    assert "one pair more: refused by KMS" in found["context-altered"].detail


def test_a_process_that_ends_early_shows_nothing(lab: Lab, helper: Helper) -> None:
    ended = Helper(helper.environment, ("sh", "-c", "exit 3"))
    found = results(lab, helper=ended)
    assert {found[name].outcome for name in ("memory", "debug-logs")} == {"not shown"}


def test_a_search_of_the_wrong_process_shows_nothing(lab: Lab, helper: Helper, tmp_path: Path) -> None:
    # A child of the searched process does the work: what is searched has no key, and not the mark either.
    program = tmp_path / "far.sh"
    program.write_text('cat | "$1" -P -m sealwax.prove._helper\n')
    far = Helper(helper.environment, ("sh", str(program), helper.command[0]))
    found = results(lab, helper=far)
    assert found["memory"].outcome == "not shown"
    assert found["debug-logs"].outcome == "passed"
