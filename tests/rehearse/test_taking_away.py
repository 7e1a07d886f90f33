"""Whatever a run was doing when it was killed, everything is taken away later, even if its state is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest

from sealwax._rehearse.plan import TAG
from sealwax._rehearse.run import clean_up, end
from sealwax._rehearse.state import Folder
from sealwax._rehearse.world import completed, make, take_away
from tests.rehearse.account import ACCOUNT, REGIONS, Account, Call
from tests.rehearse.conftest import EMPTY, QUIET, Reached, run, world

# After the n-th answer to what: each thing that a run makes is there, and its own state does not say so yet.
KILLS = [
    ("CreateRole", 1),
    ("CreateBucket", 1),
    ("CreateKey", 3),
    ("ReplicateKey", 1),
    ("CreateAlias", 3),
    pytest.param("CreateRole", 2, marks=pytest.mark.soak),
    pytest.param("CreateKey", 1, marks=pytest.mark.soak),
    pytest.param("CreateAlias", 1, marks=pytest.mark.soak),
    pytest.param("AssumeRole", 2, marks=pytest.mark.soak),
]


LOOKED = f"keys were looked for in {REGIONS[0]} and {REGIONS[1]} only"
_DENIED = b'{"__type": "AccessDeniedException", "message": "no"}'


class Killed(BaseException):
    """The program is gone: nothing that it would do in the end is done."""


def killed_after(operation: str, number: int) -> Reached:
    seen = 0

    def after(name: str, _answer: Any) -> None:
        nonlocal seen
        seen += name == operation
        if seen == number and name == operation:
            raise Killed

    return Reached(after)


def first(operation: str, answer: tuple[int, bytes], times: int = 1) -> Callable[[Call], tuple[int, bytes] | None]:
    """Return what answers the first requests for an operation in the account's place."""
    seen = 0

    def before(call: Call) -> tuple[int, bytes] | None:
        nonlocal seen
        seen += call.operation == operation
        return answer if call.operation == operation and seen <= times else None

    return before


@pytest.mark.parametrize("operation", ["CreateRole", "CreateBucket", "CreateKey", "ReplicateKey"])
def test_a_signal_waits_for_what_is_being_made(operation: str, aws: Account) -> None:
    """Else AWS would make it after it was taken away."""

    def interrupt(call: Call) -> None:
        if call.operation == operation:
            aws.before = lambda _: None
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    aws.before = interrupt
    assert run("--apply", "-q") == 130
    assert aws.left() == EMPTY


def test_a_signal_in_the_start_of_a_thread_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    start, made = threading.Thread.start, list[int]()

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        time.sleep(0.1)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        completed(lambda: made.append(1))
    time.sleep(0.1)
    assert made == []


def test_no_number_of_signals_leaves_a_request_under_way() -> None:
    made: list[int] = []

    def make_it() -> None:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        made.append(1)

    with pytest.raises(KeyboardInterrupt):
        completed(make_it)
    assert made == [1]


def test_one_signal_does_not_stop_the_taking_away(
    aws: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(tmp_path, Reached()) as (it, folder):
        make(it, folder, lambda _: None)
        aws.before = first("DeleteBucket", (409, b"<Error><Code>BucketNotEmpty</Code></Error>"))
        sleep, signals, said = time.sleep, iter([KeyboardInterrupt]), list[str]()

        def interrupted(seconds: float) -> None:
            if aws.calls[-1].operation == "DeleteBucket":
                for stop in signals:
                    raise stop
            sleep(seconds)

        monkeypatch.setattr(time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            end(it, folder, replace(QUIET, left=said.append))
        assert said == ["everything is still being taken away; another signal stops that"]
        assert folder.unfinished() is None
    assert aws.left() == EMPTY


def test_what_another_program_made_is_never_taken_away(
    aws: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that end with an account's id or a date, tags of another meaning, and a state that names any key."""
    iam, s3 = boto3.client("iam", region_name="us-east-1"), boto3.client("s3", region_name="us-east-1")
    kms = partial(aws.lab.call, region=REGIONS[0], account=ACCOUNT)
    names = [f"sealwax-rehearsal-{ACCOUNT}", "sealwax-rehearsal-202607251230"]
    roles = [f"{names[0]}-admin", f"{names[0]}-reader", "sealwax-rehearsal-deadbeefcafe-admin"]
    for name in names:
        s3.create_bucket(Bucket=name)
    for role in roles:
        iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")
    tags: list[Any] = [[{"TagKey": TAG, "TagValue": value}] for value in ("keep: billing", "0" * 12)]
    tags.append([{"TagKey": "app", "TagValue": "billing"}])
    keys = [kms("CreateKey", Tags=each)["KeyMetadata"]["Arn"] for each in tags]
    kms("CreateAlias", AliasName=f"alias/{names[0]}-main", TargetKeyId=keys[0])
    assert run("--clean-up") == 0
    assert capsys.readouterr().out == f"no rehearsal has left anything; {LOOKED}\n"
    state = {"run": "a" * 12, "account": ACCOUNT, "regions": REGIONS, "begun": ["key main"], "keys": {"main": keys[2]}}
    place = tmp_path / "sealwax-rehearsal" / "state.json"
    place.write_text(json.dumps(state))
    assert run("--clean-up") == 8
    assert "does not have the tag of this rehearsal, so it was left as it is" in capsys.readouterr().err
    left = aws.left()
    assert (sorted(left["keys"]), sorted(left["buckets"]), sorted(left["roles"])) == (
        sorted(keys),
        sorted(names),
        sorted(roles),
    )
    assert left["aliases"] == [f"alias/{names[0]}-main"]
    assert {key["KeyState"] for key in aws.lab.list_keys() if key["Arn"] in keys} == {"Enabled"}
    for name in names:
        s3.delete_bucket(Bucket=name)
    for role in roles:
        iam.delete_role(RoleName=role)
    kms("DeleteAlias", AliasName=left["aliases"][0])
    for key in keys:
        kms("ScheduleKeyDeletion", KeyId=key)
    place.unlink()


def test_a_key_that_kms_does_not_find_yet_is_no_key_that_is_gone(aws: Account, tmp_path: Path) -> None:
    with world(tmp_path, Reached()) as (it, folder):
        make(it, folder, lambda _: None)
        aws.before = first("ScheduleKeyDeletion", (400, b'{"__type": "NotFoundException", "message": "not yet"}'))
        assert take_away(it) == []
    assert aws.left() == EMPTY


def test_keys_whose_tags_cannot_be_read_are_said(aws: Account, capsys: pytest.CaptureFixture[str]) -> None:
    key = aws.lab.call("CreateKey", region=REGIONS[0], account=ACCOUNT)["KeyMetadata"]["Arn"]
    aws.before = lambda call: (400, _DENIED) if call.operation == "ListResourceTags" else None
    assert run("--clean-up") == 0
    assert "could not be read, because ListResourceTags was denied" in capsys.readouterr().err
    aws.lab.call("ScheduleKeyDeletion", region=REGIONS[0], account=ACCOUNT, KeyId=key)


@pytest.mark.parametrize("operation", ["CreateKey", "ReplicateKey", "CreateAlias"])
def test_a_request_whose_answer_was_lost_is_repeated_and_leaves_nothing(
    operation: str, aws: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")

    def lose(_document: dict[str, Any], _status: int) -> tuple[dict[str, Any], int]:
        del aws.changes[operation]
        return {"__type": "KMSInternalException", "message": "lost"}, 500

    aws.changes[operation] = lose
    with world(tmp_path, Reached()) as (it, folder):
        make(it, folder, lambda _: None)
        assert operation not in aws.changes
        assert take_away(it) == []
    assert aws.left() == EMPTY


@pytest.mark.parametrize("operation", ["ReplicateKey", "CreateAlias", "DescribeKey", "GenerateDataKeyWithoutPlaintext"])
def test_what_kms_does_not_find_yet_is_waited_for(operation: str, aws: Account, tmp_path: Path) -> None:
    aws.before = first(operation, (400, b'{"__type": "NotFoundException", "message": "not yet"}'))
    with world(tmp_path, Reached()) as (it, folder):
        make(it, folder, lambda _: None)
        assert take_away(it) == []
    assert aws.left() == EMPTY


def test_a_key_that_is_not_listed_yet_is_looked_for_again(aws: Account, tmp_path: Path) -> None:
    with pytest.raises(Killed), world(tmp_path, killed_after("CreateKey", 1)) as (it, folder):
        make(it, folder, lambda _: None)
    it.reach, it.run.keys = Reached().reach, {}
    aws.before = first("ListKeys", (200, b'{"Keys": [], "Truncated": false}'), times=2)
    assert take_away(it) == []
    assert aws.left() == EMPTY


def test_credentials_that_expire_leave_a_report_and_what_to_do(
    aws: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expired = False

    def expire(call: Call) -> tuple[int, bytes] | None:
        nonlocal expired
        expired = expired or call.operation == "CreateGrant"
        if not expired:
            return None
        if call.service == "kms":
            return 400, b'{"__type": "ExpiredTokenException", "message": "expired"}'
        return 403, b"<ErrorResponse><Error><Code>ExpiredToken</Code><Message>expired</Message></Error></ErrorResponse>"

    aws.before = expire
    assert run("--apply") == 8
    said = capsys.readouterr()
    assert "internal error" not in said.err
    assert said.err.count("sealwax: left: the KMS key arn:aws:kms:") == 4
    assert "run the same command with --clean-up" in said.err
    report = json.loads((tmp_path / "sealwax-rehearsal/report.json").read_text())
    assert report["steps"][-1]["name"] == "requests"
    assert not report["steps"][-1]["passed"]
    assert len(report["left"]) >= 7
    assert ACCOUNT not in json.dumps(report)
    aws.before = lambda _: None
    assert run("--clean-up") == 0
    assert aws.left() == EMPTY


def test_a_region_that_is_not_enabled_is_found_before_anything_is_made(
    aws: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = b"<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>no</Message></Error></ErrorResponse>"
    aws.before = lambda _: (403, refusal) if aws.actions()["sts:GetCallerIdentity"] == 2 else None
    assert run("--apply") == 7
    said = capsys.readouterr().err
    assert "in us-east-1" in said
    assert said.count("\n") == 1
    assert aws.actions().keys() == {"sts:GetCallerIdentity"}


@pytest.mark.parametrize(("operation", "number"), KILLS)
def test_a_run_that_was_killed_is_taken_away(operation: str, number: int, aws: Account, tmp_path: Path) -> None:
    with pytest.raises(Killed), world(tmp_path, killed_after(operation, number)) as (it, folder):
        make(it, folder, lambda _: None)
    assert aws.left() != EMPTY
    with Folder(tmp_path) as folder:
        assert clean_up(folder, REGIONS, Reached().reach, it.masks, QUIET) == (1, [])
        assert folder.unfinished() is None
    assert aws.left() == EMPTY


def test_objects_uploads_and_used_keys_are_taken_away(aws: Account, tmp_path: Path) -> None:
    with world(tmp_path, Reached()) as (it, folder):
        make(it, folder, lambda _: None)
        s3, kms = it.client("s3"), it.client("kms")
        s3.put_object(Bucket=it.bucket, Key="a b", Body=b"x")
        s3.create_multipart_upload(Bucket=it.bucket, Key="large")
        s3.put_bucket_versioning(Bucket=it.bucket, VersioningConfiguration={"Status": "Enabled"})
        s3.put_object(Bucket=it.bucket, Key="a b", Body=b"y")
        s3.put_object(Bucket=it.bucket, Key="b", Body=b"z")
        s3.delete_object(Bucket=it.bucket, Key="b")
        kms.create_alias(AliasName=it.run.names.alias("more"), TargetKeyId=it.key("next"))
        kms.disable_key(KeyId=it.key("main"))
        kms.schedule_key_deletion(KeyId=it.key("next"), PendingWindowInDays=7)
    late = b"<Error><Code>BucketNotEmpty</Code><Message>an object arrived</Message></Error>"
    aws.before = first("DeleteBucket", (409, late))
    with Folder(tmp_path) as folder:
        assert clean_up(folder, REGIONS, Reached().reach, it.masks, QUIET) == (1, [])
    assert aws.left() == EMPTY
    assert {key["KeyState"] for key in aws.lab.list_keys()} == {"PendingDeletion", "PendingReplicaDeletion"}


def test_the_folder_of_rehearsals_may_have_other_files(
    aws: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of a name that a run might want; only what the run has made is removed."""
    place, elsewhere = tmp_path / "sealwax-rehearsal", tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "mine").write_text("mine")
    state = {"run": "a" * 12, "account": ACCOUNT, "regions": REGIONS, "begun": [], "keys": {}}
    own = place / f"work-{state['run']}"
    for name in ("folder", "file", "link"):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700)
        work = place / "work"
        if name == "folder":
            shutil.copytree(elsewhere, work)
        elif name == "file":
            work.write_text("mine")
        else:
            work.symlink_to(elsewhere)
        own.mkdir()
        (own / "half").write_text("of the run that was killed")
        (place / "state.json").write_text(json.dumps(state))
        assert run("--clean-up") == 0, name
        assert (work if name == "file" else work / "mine").read_text() == "mine"
        assert {path.name for path in place.iterdir()} == {"lock", "work"}
    (place / "state.json").write_text(json.dumps(state))
    own.symlink_to(elsewhere)
    capsys.readouterr()
    assert run("--clean-up") == 1
    assert f"'{own}' is in the way: move it to another folder, or remove it" in capsys.readouterr().err
    own.unlink()
    assert run("--clean-up") == 0
    assert (elsewhere / "mine").exists()
    assert aws.left() == EMPTY


def test_clean_up_finds_what_a_lost_state_has_made(
    aws: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with world(tmp_path / ".", Reached()) as (it, folder):
        make(it, folder, lambda _: None)
        folder.forget()
    files = tmp_path / "sealwax-rehearsal" / f"work-{it.run.run}"
    files.mkdir(parents=True)
    kms = partial(aws.lab.call, region=REGIONS[0], account=ACCOUNT)
    own = kms("CreateKey")["KeyMetadata"]["Arn"]
    kms("CreateAlias", AliasName="alias/own", TargetKeyId=own)
    other = boto3.client("s3", region_name="us-east-1")
    other.create_bucket(Bucket="sealwax-rehearsal-of-mine")
    assert run("--clean-up") == 0
    said = capsys.readouterr()
    assert said.out == f"1 rehearsal had left something; nothing is left now; {LOOKED}\n"
    assert f"taking away the rehearsal {it.run.run}" in said.err
    assert not files.exists()
    assert aws.left() == {
        "keys": [own],
        "aliases": ["alias/own"],
        "buckets": ["sealwax-rehearsal-of-mine"],
        "roles": [],
    }
    assert run("--clean-up", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"runs": 0, "left": []}
    other.delete_bucket(Bucket="sealwax-rehearsal-of-mine")
    kms("DeleteAlias", AliasName="alias/own")
    kms("ScheduleKeyDeletion", KeyId=own)


def test_what_cannot_be_taken_away_is_said_and_tried_again(
    aws: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sealwax-rehearsal").mkdir()
    with world(tmp_path / "sealwax-rehearsal", Reached()) as (it, folder):
        make(it, folder, lambda _: None)
    refusal = b"<ErrorResponse><Error><Code>DeleteConflict</Code><Message>in use</Message></Error></ErrorResponse>"
    aws.before = lambda call: (409, refusal) if call.operation == "DeleteRole" else None
    assert run("--clean-up") == 8
    said = capsys.readouterr()
    assert said.err.count("sealwax: left: the role sealwax-rehearsal-") >= 2
    assert "could not be taken away" in said.err
    aws.before = lambda _: None
    assert len(aws.left()["roles"]) == 2
    assert run("--clean-up") == 0
    assert aws.left() == EMPTY


def test_the_folder_is_for_one_account_and_one_program(
    aws: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "sealwax-rehearsal"
    with Folder(place):
        assert run("--apply") == 1
    assert "another rehearsal uses the folder" in capsys.readouterr().err
    state = {"run": "a" * 12, "account": "999999999999", "regions": REGIONS, "begun": [], "keys": {}}
    (place / "state.json").write_text(json.dumps(state))
    assert run("--apply") == 7
    assert "in account 999999999999, was not taken away" in capsys.readouterr().err
    whole = f'{{"run": "{"a" * 12}", "account": "{ACCOUNT}", "regions": ["eu-west-1", "us-east-1"], '
    for damaged in (
        b"",
        b"[]",
        b"\xff\xfe{",
        b"[" * 100_000,
        b'{"run": 1}',
        b'{"run": "0", "account": "1", "regions": [], "begun": [], "keys": {}}',
        whole.replace("a" * 12, "0" * 12).encode() + b'"begun": [], "keys": {}}',
        whole.encode() + b'"begun": [1], "keys": {}}',
        whole.encode() + b'"begun": [], "keys": {"main": 2}}',
        whole.encode() + b'"begun": [], "keys": {"main": "x"}}',
    ):
        (place / "state.json").write_bytes(damaged)
        assert run("--clean-up") == 1
        assert "state.json', is damaged" in capsys.readouterr().err
    assert aws.actions().keys() <= {"sts:GetCallerIdentity"}
    assert ACCOUNT not in TAG
