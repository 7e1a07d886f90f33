"""No check passes that could not be run: each of them is kept from it in every way there is, one way at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sealwax import errors
from sealwax.lab import Lab
from sealwax.prove import CHECKS, Check, CheckResult, Helper, Options, prove
from sealwax.prove._proof import NotShown, Proof
from sealwax.prove._results import PASSED
from sealwax.prove._run import run_check
from tests.prove.conftest import Doctored
from tests.prove.test_prove import CONTEXT, everything

# One of each kind of answer that says nothing of the question.
CODES = (
    "AccessDeniedException",
    "ExpiredTokenException",
    "DisabledException",
    "NotFoundException",
    "ThrottlingException",
)
#: Those that ask nobody, or have another process or principal ask.
SILENT = {
    "denied-principal",
    "local-encryption",
    "context-in-payload",
    "tampered-ciphertext",
    "context-at-envelope",
    "memory",
    "debug-logs",
}
ASKING = [check for check in CHECKS if check.name not in SILENT]


class Barred:
    """A run in which KMS refuses everything while one check is at it."""

    def __init__(self, lab: Lab, check: Check, code: str) -> None:
        names = [one.name for one in CHECKS]
        self.turn = 0
        self.session = Doctored(lab.session(), refused=lambda *_: code if names[self.turn] == check.name else None)

    def go_on(self, _: CheckResult) -> None:
        self.turn += 1


def outcomes_where(check: Check, code: str, lab: Lab, options: Options) -> dict[str, str]:
    barred = Barred(lab, check, code)
    # Rotations are counted for each key, and cost time: they are asked for where it is about them.
    options = replace(options, allow_changes=check.name == "rotation", rotation_timeout=0.0)
    report = prove("alias/many", CONTEXT, barred.session, options, barred.go_on)
    return {result.name: result.outcome for result in report.checks}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("check", ASKING, ids=[check.name for check in ASKING])
def test_a_check_whose_requests_kms_refuses(check: Check, code: str, lab: Lab, helper: Helper) -> None:
    options = replace(everything(lab, helper), helper=None)
    if check is CHECKS[0]:
        with pytest.raises(errors.KmsError):
            outcomes_where(check, code, lab, options)
        return
    found = outcomes_where(check, code, lab, options)
    # A dry run that is denied contradicts what the caller has just done: that is a failure, and says so.
    denied = check.name == "own-rights" and code == "AccessDeniedException"
    assert found[check.name] == ("failed" if denied else "not shown")
    assert {found[one.name] for one in CHECKS if one.depends_on(check)} <= {"not shown"}


def test_the_others_ask_nothing(lab: Lab) -> None:
    assert len(ASKING) == 16
    assert sum(check.requests(_planning(lab)) for check in CHECKS if check.name in SILENT) == 0


def _planning(lab: Lab) -> Proof:
    return Proof("alias/many", CONTEXT, lab.session(), Options())


@pytest.mark.parametrize("code", [code for code in CODES if code != "AccessDeniedException"])
def test_a_denied_principal_who_is_refused_for_another_reason(code: str, lab: Lab) -> None:
    nobody = Doctored(lab.session(principal="nobody"), refused=lambda *_: code)
    report = prove("alias/many", CONTEXT, lab.session(), Options(denied=lambda: nobody))
    assert {result.name: result.outcome for result in report.checks}["denied-principal"] == "not shown"


@pytest.mark.parametrize("error", [errors.AccessDeniedError, errors.CredentialsError, errors.LabError])
def test_a_denied_principal_who_cannot_be_had(error: type[errors.SealwaxError], lab: Lab) -> None:
    def open_session() -> Any:
        raise error("the role is not given")

    report = prove("alias/many", CONTEXT, lab.session(), Options(denied=open_session))
    (result,) = (result for result in report.checks if result.name == "denied-principal")
    assert (result.outcome, result.detail, result.interrupted) == ("not shown", "the role is not given", True)
    assert report.count("failed") == 0
    assert [check.name for check in CHECKS] == [result.name for result in report.checks]


@pytest.mark.parametrize("outcome", ["failed", "not shown"])
@pytest.mark.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])
def test_a_check_one_of_whose_needs_did_not_pass(check: Check, outcome: Any, lab: Lab) -> None:
    def result(one: Check, became: Any) -> CheckResult:
        return CheckResult(one.name, one.shows, became, "", (), ())

    def never(_: object) -> str:
        raise AssertionError("it was run")

    for missing in check.needs:
        before: Mapping[Check, CheckResult] = {
            need: result(need, outcome if need is missing else PASSED) for need in check.needs
        }
        found = run_check(replace(check, run=never), _planning(lab), before)
        assert (found.outcome, found.detail) == ("not shown", f"{missing.name} did not pass")


@pytest.mark.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])
def test_a_check_that_says_it_was_not_shown(check: Check, lab: Lab) -> None:
    def not_shown(_: object) -> str:
        raise NotShown("for a reason")

    before = {need: CheckResult(need.name, need.shows, PASSED, "", (), ()) for need in check.needs}
    assert run_check(replace(check, run=not_shown), _planning(lab), before).outcome == "not shown"


def test_a_policy_that_shuts_the_caller_out_meanwhile_refuses_no_context(lab: Lab) -> None:
    # Denied from the check on, with every context: that a policy refuses the wrong one is not seen.
    for check in ASKING:
        if check.name.startswith("context-"):
            found = outcomes_where(check, "AccessDeniedException", lab, Options())
            assert found[check.name] == "not shown"
