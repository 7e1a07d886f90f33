"""How sessions that sealwax opens come by credentials, with botocore itself and a real STS protocol."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import sealwax
from sealwax._aws.session import open_session
from sealwax.cli.state import Sessions
from sealwax.lab import Lab
from tests.sts import CONFIG, ROLE, MfaSts

KEY = "arn:aws:kms:us-east-1:111122223333:key/0a0a0a0a-0000-4000-8000-00000000000a"
GIVES = '{"Version": 1, "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "secret"}'


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of AWS settings, with a profile that takes an MFA code."""
    config = tmp_path / "config"
    config.write_text(CONFIG)
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return config


def program(config: Path, profile: str, script: str) -> None:
    """Let a shell's script be the credential_process of a profile."""
    path = config.with_name(f"{profile}.sh")
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    with config.open("a") as file:
        file.write(f"[profile {profile}]\nregion = us-east-1\ncredential_process = {path}\n")


def test_a_library_s_own_session_takes_nothing_from_standard_input(settings: Path) -> None:
    """Neither for the profile itself nor for the source of a role, of the library or of its lab."""
    seen = settings.with_name("seen")
    program(settings, "eater", f"cat >> {seen}; echo read >> {seen}; echo '{GIVES}'")
    with settings.open("a") as file:
        file.write(f"[profile role]\nregion = us-east-1\nrole_arn = {ROLE}\nsource_profile = eater\n")
    code = """
import sys
from sealwax import lab
from sealwax._aws import session as aws
assert aws.open_session("eater").client("kms")
try:
    aws.open_session("role").client("sts", endpoint_url="http://127.0.0.1:1").get_caller_identity()
except Exception as error:
    print(type(error).__name__)
import os
os.environ["AWS_PROFILE"] = "eater"
lab.Lab(sys.argv[1]).session()
print(sys.stdin.read())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(settings.with_name("lab"))],
        input="all of the data",
        env={"PATH": "/usr/bin:/bin", "AWS_CONFIG_FILE": str(settings), "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "EndpointConnectionError\nall of the data\n", done.stderr
    assert seen.read_text() == "read\n" * 3


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", "did not print a JSON object"),
        ("read line || exit 3; echo $line", "could not get AWS credentials"),
        ("echo '[1]'", "did not print a JSON object"),
        ("echo please sign in >&2; exit 1", "please sign in"),
        (None, "cannot be run (No such file or directory)"),
    ],
)
def test_a_program_that_gives_no_credentials(settings: Path, script: str | None, said: str) -> None:
    program(settings, "bad", script or "")
    if script is None:
        settings.with_name("bad.sh").unlink()
    sealer = sealwax.Sealer(sealwax.KmsKeyring(KEY, session=open_session("bad")))
    with pytest.raises(sealwax.CredentialsError, match="could not get AWS credentials") as caught:
        sealer.encrypt(b"data", context={"a": "b"})
    assert said in str(caught.value)


def test_sessions_of_one_run_share_their_credentials(settings: Path) -> None:
    """A program is asked once, whatever Regions and services the run is about; another profile's is another."""
    runs = settings.with_name("runs")
    program(settings, "one", f"echo run >> {runs}; echo '{GIVES}'")
    program(settings, "two", f"echo run >> {runs}; echo '{GIVES}'")
    sessions = Sessions()
    first, second = sessions.open("one", "us-east-1"), sessions.open("one", "eu-west-1")
    assert (first.region_name, second.region_name) == ("us-east-1", "eu-west-1")
    assert first.get_credentials() is second.get_credentials()
    assert sessions.open("one", "us-east-1") is first
    assert runs.read_text() == "run\n"
    assert sessions.open("two", "us-east-1").get_credentials() is not first.get_credentials()
    assert runs.read_text() == "run\n" * 2


def test_a_lab_asks_nobody_for_a_code(settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    with MfaSts() as sts, Lab(tmp_path / "lab") as lab:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        monkeypatch.setenv("AWS_PROFILE", "mfa")
        assert lab.session().client("kms").create_key()["KeyMetadata"]["AWSAccountId"] == "111122223333"
        assert not sts.asked
