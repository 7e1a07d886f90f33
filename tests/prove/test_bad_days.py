"""What a run meets on a bad day: it says so, and takes nothing for shown that it has not seen."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sealwax.lab import Lab
from sealwax.prove import CHECKS, Helper, Options, prove
from sealwax.prove._requests import altered, wrong
from tests.prove.conftest import Doctored
from tests.prove.test_prove import CONTEXT, KEY, everything, outcomes, run

ACTIONS = (
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "Encrypt",
    "Decrypt",
    "ReEncryptFrom",
    "ReEncryptTo",
    "DescribeKey",
    "RotateKeyOnDemand",
)


# --- contexts


@pytest.mark.parametrize(
    "context",
    [
        {"sealwax-prove": ""},
        {"sealwax-prove": "other"},
        {"a": "sealwax-prove-other", "b": "sealwax-prove-other"},
        {"a": ""},
        {"a": "x"},
        {f"k{number}": "" for number in range(64)},
        {"a": "v" * 8183},
        {"a": "é" * 4000, "b": "x" * 170},
    ],
    ids=["own", "other", "as-wrong", "empty", "x", "64-pairs", "largest", "wide"],
)
def test_what_must_be_refused_is_never_the_context_itself(lab: Lab, context: dict[str, str]) -> None:
    near = altered(context)
    assert near
    assert context not in (wrong(context), *near.values())
    report = prove(KEY, context, lab.session(), Options())
    assert {result.name for result in report.checks if result.outcome == "failed"} == set(), report
    assert report.requests == report.planned


# --- the process to search


@pytest.mark.parametrize(
    "command",
    [
        ("/nonexistent/python",),
        (sys.executable, "-c", ""),
        (sys.executable, "-c", "print('no JSON')"),
        (sys.executable, "-c", "print([1])"),
        (sys.executable, "-c", "import os, sys; os.close(0); print('{}'); sys.stdout.flush(); os.close(1)"),
    ],
    ids=["missing", "silent", "garbage", "list", "deaf"],
)
def test_without_a_process_to_search_two_checks_are_not_shown(lab: Lab, command: tuple[str, ...]) -> None:
    # More than a pipe holds of what nobody reads.
    context = {f"k{number}": "v" * 100 for number in range(64)}
    report = prove(KEY, context, lab.session(), Options(helper=Helper({}, command)))
    assert {name for name in ("memory", "debug-logs") if outcomes(report)[name] == "not shown"} == {
        "memory",
        "debug-logs",
    }
    assert not any(result.outcome == "failed" for result in report.checks)


STOPPED = """
import signal, sys
from sealwax.lab import Lab
from sealwax.prove import Helper, Options, prove
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with Lab(sys.argv[1]) as lab:
    lab.create_key(alias="own")
    prove("alias/own", {"purpose": "backup"}, lab.session(), Options(helper=Helper({}, ("sh", "-c", sys.argv[2]))))
"""


@pytest.mark.parametrize("after", ["0", "0.001", "0.002", "0.005", "0.01", "0.1"])
def test_who_is_stopped_while_the_process_starts_goes_at_once_and_takes_it_along(after: str, tmp_path: Path) -> None:
    # It says its number, ends the one that started it, and then waits for its input to end as the helper does.
    told = tmp_path / "pid"
    waits = f"echo $$ > {told}; sleep {after}; kill -TERM $PPID; exec cat > /dev/null"
    with subprocess.Popen([sys.executable, "-c", STOPPED, str(tmp_path / "lab"), waits]) as process:
        try:
            assert process.wait(60) == 143
        finally:
            process.kill()
    pid = int(told.read_text())
    for _ in range(600):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("the process to search was left behind")


def test_without_a_place_for_its_log_there_is_no_process_to_search(
    lab: Lab, helper: Helper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    report = run(lab, Options(helper=helper))
    assert outcomes(report)["memory"] == outcomes(report)["debug-logs"] == "not shown"
    assert outcomes(report)["cached-offline"] == "passed"


def test_the_searched_process_is_given_no_setting_that_is_taken_away(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of somebody else")
    monkeypatch.setenv("KEPT", "yes")
    says = (
        "import json, os; print(json.dumps({'error': str([os.environ.get(n) for n in ('AWS_SESSION_TOKEN', 'KEPT')])}))"
    )
    helper = Helper({"AWS_SESSION_TOKEN": None}, (sys.executable, "-c", says))
    (memory,) = (result for result in run(lab, Options(helper=helper)).checks if result.name == "memory")
    assert memory.detail.endswith("[None, 'yes']")


# --- what the caller may not do


@pytest.mark.parametrize("missing", ACTIONS[1:])
def test_where_a_permission_is_missing_a_check_is_not_shown(lab: Lab, helper: Helper, missing: str) -> None:
    name = f"without-{missing}"
    allowed = [f"kms:{action}" for action in ACTIONS if action != missing]
    lab.add_principal(
        name, policy={"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": allowed, "Resource": "*"}]}
    )
    report = prove("alias/many", CONTEXT, lab.session(principal=name), everything(lab, helper))
    found = outcomes(report)
    assert "failed" not in found.values(), report
    lost = {
        "GenerateDataKeyWithoutPlaintext": {"generate-no-plaintext"},
        "Encrypt": set(),
        "Decrypt": {check.name for check in CHECKS} - {"generate-data-key", "generate-no-plaintext"},
        "ReEncryptFrom": {"reencrypt-same-key", "reencrypt-other-key"},
        "ReEncryptTo": {"reencrypt-same-key", "reencrypt-other-key"},
        "DescribeKey": {"replicas"},
        "RotateKeyOnDemand": set(),
    }[missing]
    if missing == "Decrypt":
        lost -= {"local-encryption", "context-in-payload", "tampered-ciphertext"}
    assert {name for name, outcome in found.items() if outcome == "not shown"} == lost | {"rotation"}


def refusing(operation: str, code: str, when: Callable[[], bool] = lambda: True) -> Callable[[str, Any], None]:
    """Return what refuses a request as KMS would, but before it is sent."""

    def ask(asked: str, parameters: dict[str, Any]) -> None:
        if asked == operation and "DryRun" not in parameters and when():
            raise ClientError({"Error": {"Code": code, "Message": ""}}, operation)

    return ask


@pytest.mark.parametrize("code", ["AccessDeniedException", "KMSInvalidStateException", "DisabledException"])
def test_a_replica_that_may_not_be_asked_is_not_shown(lab: Lab, code: str) -> None:
    lab.faults.add("eu-west-1", "error", 1.0, operation="Decrypt", code=code, seed=1)
    try:
        report = run(lab, Options(), key="alias/many")
    finally:
        lab.faults.clear("eu-west-1", None)
    assert outcomes(report)["replicas"] == "not shown", report


@pytest.mark.parametrize("code", ["LimitExceededException", "ConflictException", "UnsupportedOperationException"])
def test_a_rotation_that_kms_does_not_begin_is_not_shown(lab: Lab, code: str) -> None:
    session = Doctored(lab.session(), asked=refusing("RotateKeyOnDemand", code))
    report = run(lab, Options(allow_changes=True), session)
    assert outcomes(report)["rotation"] == "not shown", report
    assert code in next(result.detail for result in report.checks if result.name == "rotation")


def test_a_key_that_is_really_throttled_shows_nothing_of_throttling(lab: Lab) -> None:
    asked = 0
    throttled_from = 10**9

    def late() -> bool:
        nonlocal asked
        asked += 1
        return asked >= throttled_from

    session = Doctored(lab.session(), asked=refusing("Decrypt", "ThrottlingException", late))
    run(lab, Options(), session)
    # Of the last check it is one attempt, and a second one that is not sent; of the last but one it is three.
    asked, throttled_from = 0, asked - 4
    report = run(lab, Options(), session)
    assert outcomes(report)["replicas"] == "not shown"
    assert outcomes(report)["throttling"] == "not shown", report


# --- a KMS that makes no sense


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"KeyMetadata": None},
        {"KeyMetadata": {}},
        {"KeyMetadata": {"MultiRegionConfiguration": {}}},
        {"KeyMetadata": {"MultiRegionConfiguration": {"PrimaryKey": {}, "ReplicaKeys": [{}]}}},
        {"KeyMetadata": {"MultiRegionConfiguration": {"PrimaryKey": {"Arn": 5}, "ReplicaKeys": [{"Arn": "x"}]}}},
        {"KeyMetadata": {"CurrentKeyMaterialId": 5}},
    ],
)
def test_a_description_that_makes_no_sense_shows_nothing(lab: Lab, document: dict[str, Any]) -> None:
    def answer(operation: str, answered: dict[str, Any], _: dict[str, Any]) -> None:
        if operation == "DescribeKey":
            answered.clear()
            answered.update(document)

    session = Doctored(lab.session(), answered=answer)
    found = outcomes(run(lab, Options(allow_changes=True), session, key="alias/many"))
    assert found["rotation"] != "passed"
    assert found["replicas"] != "passed"
    assert found["throttling"] == found["cached-offline"] == "passed"


def test_a_key_without_a_name_fails(lab: Lab) -> None:
    def answer(operation: str, document: dict[str, Any], _: dict[str, Any]) -> None:
        if operation == "GenerateDataKey":
            document["KeyId"] = 5

    found = outcomes(run(lab, Options(), Doctored(lab.session(), answered=answer)))
    assert found["generate-data-key"] == "failed"
    assert found["generate-no-plaintext"] == "passed"
    assert found["round-trip"] == found["cached-offline"] == "not shown"
