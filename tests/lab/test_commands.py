"""``sealwax lab`` as typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from sealwax.cli import run
from sealwax.lab import Lab

PROGRAM = [sys.executable, "-c", "from sealwax.cli import main; main()", "lab"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALWAX_LAB", "lab")


def lab(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert run(["lab", *arguments]) == status
    printed = capsys.readouterr()
    return printed.out if status == 0 else printed.err


def test_keys_are_created_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    arn = lab(capsys, "create-key", "--alias", "demo").strip()
    made = json.loads(lab(capsys, "create-key", "--alias", "alias/two", "--region", "eu-west-1", "--json"))
    assert arn.startswith("arn:aws:kms:us-east-1:111122223333:key/")
    assert made["Arn"].startswith("arn:aws:kms:eu-west-1:")
    listed = [json.loads(line) for line in lab(capsys, "keys", "--json").splitlines()]
    assert {key["Arn"]: key["Aliases"] for key in listed} == {arn: ["alias/demo"], made["Arn"]: ["alias/two"]}
    table = lab(capsys, "keys").splitlines()
    assert table[0].split() == ["STATE", "ALIASES", "ARN"]
    assert f"Enabled  alias/demo  {arn}" in table


def test_problems_are_one_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lab(capsys, "create-key", "--alias", "demo")
    said = lab(capsys, "create-key", "--alias", "demo", status=1)
    assert "AlreadyExistsException" in said
    assert len(said.splitlines()) == 1
    monkeypatch.delenv("SEALWAX_LAB")
    said = lab(capsys, "keys", status=2)
    assert "name a lab with --lab" in said
    assert "SEALWAX_LAB" in said


def test_a_principal_is_added(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lab(capsys, "create-key")
    (tmp_path / "policy.json").write_text(
        '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}}'
    )
    added = json.loads(lab(capsys, "principal", "add", "alice", "--policy", "policy.json", "--json"))
    assert set(added) == {"Arn", "AccessKeyId", "SecretAccessKey"}
    role = lab(capsys, "principal", "add", "worker", "--role", "--account", "444455556666")
    assert role == "Arn  arn:aws:iam::444455556666:role/worker\n"
    (tmp_path / "policy.json").write_text("{}")
    lab(capsys, "principal", "add", "bob", "--policy", "policy.json", status=1)


def test_faults_and_trail(capsys: pytest.CaptureFixture[str]) -> None:
    lab(capsys, "create-key", "--alias", "demo")
    lab(capsys, "fault", "--region", "us-east-1", "--operation", "Encrypt", "--throttle", "1")
    lab(capsys, "fault", "--region", "us-east-1", "--error", "KMSInternalException", "0")
    with Lab("lab") as opened:
        kms = opened.session().client("kms")
        kms.generate_data_key(KeyId="alias/demo", KeySpec="AES_256", EncryptionContext={"a": "b"})
        assert [fault.kind for fault in opened.faults.all()] == ["throttle", "error"]
    lab(capsys, "fault", "--region", "us-east-1", "--clear")
    with Lab("lab") as opened:
        assert opened.faults.all() == []
    last = lab(capsys, "trail").splitlines()[-1]
    assert "root" in last
    assert "GenerateDataKey" in last
    assert "a=b" in last
    record = json.loads(lab(capsys, "trail", "--json").splitlines()[-1])
    assert record["record"]["eventName"] == "GenerateDataKey"
    assert "allow" in record["reason"]
    lab(capsys, "fault", "--region", "us-east-1", status=2)
    lab(capsys, "fault", "--region", "us-east-1", "--clear", "--down", status=2)


def test_clearing_no_faults_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    lab(capsys, "create-key")
    lab(capsys, "fault", "--region", "us-east-1", "--operation", "Encrypt", "--down")
    for arguments, where in (
        (("--region", "eu-west-1"), "in eu-west-1"),
        (("--region", "us-east-1", "--operation", "Decrypt"), "for Decrypt in us-east-1"),
    ):
        assert run(["lab", "fault", *arguments, "--clear"]) == 0
        assert capsys.readouterr().err == f"sealwax: no faults to clear {where}\n"
    assert "is not a Region" in lab(capsys, "fault", "--region", "nowhere", "--clear", status=1)
    lab(capsys, "fault", "--region", "us-east-1", "--operation", "Encrypt", "--clear")
    assert capsys.readouterr().err == ""


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], str]]:
    more: list[str] = getattr(request, "param", [])
    if not more:
        Lab("lab").close()
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--port", "0", *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process, process.stdout.readline().rpartition(" ")[2].strip()
    process.kill()
    process.communicate()


def test_the_server_serves_until_it_is_interrupted(
    capsys: pytest.CaptureFixture[str], served: tuple[subprocess.Popen[str], str]
) -> None:
    process, url = served
    lab(capsys, "create-key", "--alias", "demo")
    kms = boto3.client(
        "kms", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    assert len(kms.generate_data_key(KeyId="alias/demo", KeySpec="AES_256")["Plaintext"]) == 32
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=20)
    assert (process.returncode, said, complaints) == (0, "", "")


@pytest.mark.parametrize("served", [["--host", "0.0.0.0"]], indirect=True)
def test_other_machines_are_warned_of(served: tuple[subprocess.Popen[str], str]) -> None:
    process, _ = served
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert "other machines can reach" in said
    assert f"created a lab in '{os.path.abspath('lab')}'" in said


def _aws(url: str, *arguments: str) -> Any:
    program = Path(__file__).parents[2] / ".venv-awscli" / "bin" / "aws"
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "thing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    done = subprocess.run(
        [str(program), "--endpoint-url", url, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout else None


def test_the_aws_cli(capsys: pytest.CaptureFixture[str], served: tuple[subprocess.Popen[str], str]) -> None:
    _, url = served
    lab(capsys, "create-key", "--alias", "demo")
    made = _aws(url, "kms", "generate-data-key", "--key-id", "alias/demo", "--key-spec", "AES_256")
    Path("blob").write_bytes(__import__("base64").b64decode(made["CiphertextBlob"]))
    opened = _aws(url, "kms", "decrypt", "--ciphertext-blob", "fileb://blob")
    assert opened["Plaintext"] == made["Plaintext"]
    assert _aws(url, "sts", "get-caller-identity")["Account"] == "111122223333"
    events = _aws(url, "cloudtrail", "lookup-events")["Events"]
    assert [event["EventName"] for event in events[:3]] == ["GetCallerIdentity", "Decrypt", "GenerateDataKey"]


@pytest.mark.parametrize("region", ["x y", "", "us-east", "\x1b[31m"])
def test_a_region_that_cannot_be_is_a_sentence(capsys: pytest.CaptureFixture[str], region: str) -> None:
    assert run(["lab", "create-key", "--region", region]) == 1
    said = capsys.readouterr().err
    assert "is not a Region; use a name such as eu-west-1" in said
    assert "\x1b" not in said
    assert lab(capsys, "keys").count("\n") == 1


_ROOM = "make room on that disk, then run this again"
_NO_LAB = [
    ["lab", "keys"],
    ["lab", "trail"],
    ["lab", "principal", "add", "ann"],
    ["lab", "fault", "--region", "us-east-1", "--down"],
    ["encrypt", "-k", "alias/demo", "-c", "a=b", "file"],
    ["keys", "list"],
    ["audit", "--all"],
]


@pytest.mark.parametrize("how", ["typed", "environment"])
@pytest.mark.parametrize("arguments", _NO_LAB, ids=lambda arguments: " ".join(arguments[:2]))
def test_a_mistyped_lab_is_no_new_one(
    arguments: list[str], how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").write_bytes(b"data")
    lab(capsys, "create-key", "--alias", "demo")
    if how == "environment":
        monkeypatch.setenv("SEALWAX_LAB", "lap")
    assert run([*arguments, *(["--lab", "lap"] if how == "typed" else [])]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"no lab in '{os.path.abspath('lap')}': the folder does not exist" in said
    assert "SEALWAX_LAB" in said
    assert "sealwax lab create-key --lab lap" in said
    assert not Path("lap").exists()
    assert not Path("file.swx").exists()


def test_what_is_there_instead_of_a_lab_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    Path("link").symlink_to("nowhere")
    Path("file").touch()
    Path("other").mkdir()
    Path("other/letter").touch()
    expected = {
        "empty": "the folder is empty",
        "link": "it is a link that leads nowhere",
        "file": "is not a folder",
        "other": "holds other files",
        "new lab": "--lab 'new lab'",
    }
    for name, words in expected.items():
        assert words in lab(capsys, "keys", "--lab", name, status=1)
    assert not list(Path("empty").iterdir())
    assert len(expected) == 5


def test_a_lab_is_made_by_its_first_key_and_said_to_be_new(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "create-key"]) == 0
    assert capsys.readouterr().err == f"sealwax: created a lab in '{os.path.abspath('lab')}'\n"
    assert run(["lab", "create-key"]) == 0
    assert capsys.readouterr().err == ""
    lab(capsys, "create-key", "--lab", "again", "--region", "us-east", status=1)


def test_output_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    lab(capsys, "create-key")
    for arguments in (["keys"], ["principal", "add", "ann"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.endswith(f"writing standard output failed: No space left on device; {_ROOM}\n")


@pytest.mark.parametrize("alias", ["aws/foo", "alias/aws/foo", "aws"])
def test_an_alias_of_aws_is_refused_with_the_reason(alias: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = lab(capsys, "create-key", "--alias", alias, status=1)
    assert f"/{alias.removeprefix('alias/')}' cannot be created: names that begin with 'alias/aws/' are" in said
    assert lab(capsys, "keys", "--json") == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{\n", "the identity policy 'bad.json' is not JSON at line 2, column 1"),
        ("[]", "the identity policy 'bad.json' is not a JSON object"),
        ('{"Statement": [5]}', "statement 1 of the identity policy 'bad.json' is not an object"),
    ],
)
def test_a_policy_that_is_wrong_is_named(text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    lab(capsys, "create-key")
    Path("bad.json").write_text(text)
    assert words in lab(capsys, "principal", "add", "alice", "--policy", "bad.json", status=1)
