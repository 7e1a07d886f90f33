"""Whatever a run was doing when it was killed, everything is taken away later, even if its state is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from sealwax._rehearse.plan import TAG
from sealwax._rehearse.run import clean_up
from sealwax._rehearse.state import Folder
from sealwax._rehearse.world import make
from tests.rehearse.account import ACCOUNT, REGIONS, Account
from tests.rehearse.conftest import EMPTY, QUIET, Reached, run, world

# After the n-th answer to what: each thing that a run makes is there, and its own state does not say so yet.
KILLS = [
    ("CreateRole", 1),
    ("CreateRole", 2),
    ("CreateBucket", 1),
    ("CreateKey", 1),
    ("CreateKey", 3),
    ("ReplicateKey", 1),
    ("CreateAlias", 1),
    ("CreateAlias", 3),
    ("AssumeRole", 2),
]


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
        kms.create_alias(AliasName=it.run.names.alias("more"), TargetKeyId=it.key("next"))
        kms.disable_key(KeyId=it.key("main"))
        kms.schedule_key_deletion(KeyId=it.key("next"), PendingWindowInDays=7)
    with Folder(tmp_path) as folder:
        assert clean_up(folder, REGIONS, Reached().reach, it.masks, QUIET) == (1, [])
    assert aws.left() == EMPTY
    assert {key["KeyState"] for key in aws.lab.list_keys()} == {"PendingDeletion", "PendingReplicaDeletion"}


def test_clean_up_finds_what_a_lost_state_has_made(
    aws: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with world(tmp_path / ".", Reached()) as (it, folder):
        make(it, folder, lambda _: None)
        folder.forget()
    own = aws.lab.create_key(alias="own", region=REGIONS[0])["Arn"]
    other = boto3.client("s3", region_name="us-east-1")
    other.create_bucket(Bucket="sealwax-rehearsal-of-mine")
    assert run("--clean-up") == 0
    said = capsys.readouterr()
    assert said.out == "1 rehearsal had left something; nothing is left now\n"
    assert f"taking away the rehearsal {it.run.run}" in said.err
    assert aws.left() == {
        "keys": [own],
        "aliases": ["alias/own"],
        "buckets": ["sealwax-rehearsal-of-mine"],
        "roles": [],
    }
    assert run("--clean-up", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"runs": 0, "left": []}
    other.delete_bucket(Bucket="sealwax-rehearsal-of-mine")
    aws.lab.call("DeleteAlias", region=REGIONS[0], AliasName="alias/own")
    aws.lab.call("ScheduleKeyDeletion", region=REGIONS[0], KeyId=own)


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
    state = {"run": "0" * 12, "account": "999999999999", "regions": REGIONS, "begun": [], "keys": {}}
    (place / "state.json").write_text(json.dumps(state))
    assert run("--apply") == 7
    assert "in account 999999999999, was not taken away" in capsys.readouterr().err
    for damaged in ("", "[]", '{"run": 1}', '{"run": "0", "account": "1", "regions": [], "begun": [], "keys": {}}'):
        (place / "state.json").write_text(damaged)
        assert run("--clean-up") == 1
        assert "state.json', is damaged" in capsys.readouterr().err
    assert aws.actions().keys() <= {"sts:GetCallerIdentity"}
    assert ACCOUNT not in TAG
