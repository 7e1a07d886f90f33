"""A rehearsal as it is typed: what it tells, a whole run, steps that fail, and runs that are interrupted."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwax import cli
from sealwax._rehearse import plan
from sealwax._rehearse.requests import REQUESTS
from sealwax._rehearse.steps import STEPS
from tests.rehearse.account import ACCOUNT, REGIONS, Account, Call, account, reset
from tests.rehearse.conftest import EMPTY, REGION_OPTIONS, run

# What a run needs only after a kill, or in an account that has more than its own things.
_SELDOM = {
    "iam:CreateServiceLinkedRole": "the account has no multi-Region key yet",
    "iam:ListRoles": "--clean-up",
    "s3:ListAllMyBuckets": "--clean-up",
    "iam:TagRole": "part of CreateRole",
    "s3:AbortMultipartUpload": "an upload was interrupted",
    "cloudtrail:GetEventSelectors": "the account has trails",
    "cloudtrail:GetTrailStatus": "the account has trails",
    "cloudwatch:DescribeAlarms": "counted by the test under its other name",
    "events:ListTargetsByRule": "the account has rules",
    "kms:ListKeys": "a key was being made",
}
# Allowed to everybody.
_FREE = {"sts:GetCallerIdentity"}
_TWICE = {"ReEncrypt": ("kms:ReEncryptFrom", "kms:ReEncryptTo")}


class Done:
    """A whole run, done once for the tests that look at it."""

    def __init__(self, it: Account, folder: Path, out: str, err: str, status: int) -> None:
        self.account, self.folder, self.out, self.err, self.status = it, folder, out, err, status
        self.actions = it.actions()
        self.left = it.left()
        self.page = (folder / "sealwax-rehearsal/report.html").read_text()
        self.text = (folder / "sealwax-rehearsal/report.json").read_text()
        self.report = json.loads(self.text)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    folder = tmp_path_factory.mktemp("done")
    with account(folder) as it, pytest.MonkeyPatch.context() as patch:
        reset(it.url)
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))
        for name, value in it.environment.items():
            patch.setenv(name, value)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run("--apply")
        yield Done(it, folder, out.getvalue(), err.getvalue(), status)


def test_without_apply_it_tells_and_calls_nothing(aws: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["policy"] == plan.policy(REGIONS)
    assert told["usd"] == round(sum(cost["count"] * cost["each_usd"] for cost in told["costs"]), 2) == 5.0
    assert len(told["makes"]) == 4
    assert run() == 0
    said = capsys.readouterr()
    assert json.dumps(told["policy"], indent=2) in said.out
    assert "3 KMS keys in eu-west-1" in said.out
    assert "5.00 USD" in said.out
    assert "nothing was made" in said.err
    assert aws.calls == []


def test_every_step_passes_and_two_labs_answer_alike(done: Done) -> None:
    assert done.status == 0, done.out + done.err
    assert [step["name"] for step in done.report["steps"]] == [step.name for step in STEPS]
    assert len(STEPS) == 15
    assert all(step["passed"] for step in done.report["steps"])
    assert done.report["requests"] == len(REQUESTS) == len({request.name for request in REQUESTS}) == 150
    assert done.report["differences"] == []
    assert done.report["verdict"].startswith("15 of 15 steps passed, and the lab answered 150 of 150 requests")
    assert done.page.count("<td data-name") == 4 * len(STEPS)


def test_nothing_is_left(done: Done) -> None:
    assert done.left == EMPTY
    names = {path.name for path in (done.folder / "sealwax-rehearsal").iterdir()}
    assert names == {"lock", "report.html", "report.json"}


def test_the_policy_allows_what_is_done_and_nothing_else(done: Done) -> None:
    statements = plan.policy(REGIONS)["Statement"]
    assert isinstance(statements, list)
    allowed = Counter(
        action
        for each in statements
        for action in ([each["Action"]] if isinstance(each["Action"], str) else each["Action"])
    )
    made = {
        needed
        for action in done.actions
        for needed in _TWICE.get(action.partition(":")[2], (action.replace("monitoring:", "cloudwatch:"),))
    }
    assert made - _FREE <= allowed.keys()
    assert allowed.keys() - made <= _SELDOM.keys()


def test_it_sends_no_more_requests_than_it_is_said_to_cost(done: Done) -> None:
    kms = sum(count for action, count in done.actions.items() if action.startswith("kms:"))
    reads = sum(done.actions[f"s3:{name}"] for name in ("GetObject", "GetObjectTagging"))
    writes = sum(count for action, count in done.actions.items() if action.startswith("s3:")) - reads
    for count, most in ((kms, plan.KMS_REQUESTS), (writes, plan.S3_WRITES), (reads, plan.S3_READS)):
        assert most / 6 < count < most


def test_the_reports_identify_nothing(done: Done) -> None:
    real = {ACCOUNT, done.account.key["AccessKeyId"], done.account.key["Arn"], str(done.folder)}
    for key in done.account.lab.list_keys():
        real |= {key["Arn"], key["KeyId"]}
    for event in done.account.lab.trail.events():
        real |= {event.record["requestID"], event.record["userIdentity"].get("arn") or ACCOUNT}
    assert len(real) > 200
    for text in (done.page, done.text):
        assert not {each for each in real if each in text}
        assert not re.search(r"arn:aws|[0-9a-f]{8}-[0-9a-f]{4}-|mrk-|(?<![0-9])[0-9]{12}(?![0-9])|AKIA|ASIA|AROA", text)


def test_every_step_can_fail_and_all_is_taken_away(aws: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """AWS refuses everything between making and taking away."""
    kept = (
        "CreateRole AssumeRole CreateBucket CreateKey ReplicateKey CreateAlias GetCallerIdentity "
        "ListBucketMultipartUploads ListBucketVersions DeleteBucket DeleteObjectVersion DeleteAlias DeleteRole "
        "ListResourceTags ScheduleKeyDeletion"
    )
    usable = 12  # uses of keys while it waits until it may use them

    def refuse(call: Call) -> tuple[int, bytes] | None:
        nonlocal usable
        if call.operation == "GenerateDataKeyWithoutPlaintext" and usable:
            usable -= 1
            return None
        if call.operation == "DescribeKey" and (usable or aws.calls[-2].operation == "ScheduleKeyDeletion"):
            return None
        if call.operation in kept.split():
            return None
        return 400, b'{"__type": "LimitExceededException", "message": "on purpose"}'

    aws.before = refuse
    assert run("--apply", "--json") == 3
    said = capsys.readouterr().out
    report = json.loads(said)
    assert not re.search(r"[0-9a-f]{12}", said), "the run's id, which is in the name of its bucket"
    assert {step["name"]: step["passed"] for step in report["steps"]} == {step.name: False for step in STEPS}
    assert all("traceback" not in step["detail"].lower() for step in report["steps"])
    assert len({each["request"] for each in report["differences"]}) > 100
    aws.before = lambda _: None
    assert aws.left() == EMPTY


@pytest.mark.parametrize(
    ("stop", "waiting", "answer"),
    [
        (KeyboardInterrupt(), "ListKeyRotations", (200, b'{"Rotations": [], "Truncated": false}')),
        (SystemExit(143), "ReplicateKey", (400, b'{"__type": "AccessDeniedException", "message": "not yet"}')),
    ],
)
def test_a_signal_takes_everything_away(
    stop: BaseException, waiting: str, answer: tuple[int, bytes], aws: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal becomes an exception wherever the program is; here, while it waits for AWS."""

    sleep = time.sleep

    def interrupted(seconds: float) -> None:
        if aws.calls[-1].operation == waiting:
            raise stop
        sleep(seconds / 10)

    aws.before = lambda call: answer if call.operation == waiting else None
    monkeypatch.setattr(time, "sleep", interrupted)
    if isinstance(stop, KeyboardInterrupt):
        assert run("--apply", "-q") == 130
    else:
        with pytest.raises(SystemExit):
            run("--apply", "-q")
    assert aws.actions()[f"kms:{waiting}"] > 0
    assert aws.actions()["kms:ScheduleKeyDeletion"] > 2
    assert aws.left() == EMPTY


def test_only_a_run_needs_sqlalchemy(aws: Account) -> None:
    program = "import sys; sys.modules['sqlalchemy'] = None; from sealwax.cli import run; sys.exit(run(sys.argv[1:]))"
    for word, status, said in (("--apply", 1, "pip install 'sealwax[sql]'"), ("--clean-up", 0, "")):
        words = [sys.executable, "-c", program, "rehearse", *REGION_OPTIONS, word]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (status, status), done
        assert said in done.stderr
    assert "kms:CreateKey" not in aws.actions()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give --region twice"),
        (("--region", "eu-west-1"), "give --region twice"),
        (("--region", "eu-west-1", "--region", "eu-west-1"), "give --region twice"),
        (("--region", "eu-west-1", "--region", "us-east-1", "--region", "us-east-2"), "give --region twice"),
        (("--region", "eu-west-1", "--region", "mars"), "'mars' is not a Region with KMS"),
        (("--region", "eu-west-1", "--region", "cn-north-1"), "two partitions"),
        ((*REGION_OPTIONS, "--apply", "--clean-up"), "not both"),
    ],
)
def test_wrong_options(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(("rehearse", *words)) == 2
    assert said in capsys.readouterr().err
