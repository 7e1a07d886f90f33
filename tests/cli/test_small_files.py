"""Files that are read whole have a bound, also those that never end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sealwax.cli import run
from sealwax.errors import LabError
from sealwax.lab import Lab
from tests.cli.shell import Shell

ACCOUNT = "111122223333"
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/0a0a0a0a-0000-4000-8000-00000000000a"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}]}


@pytest.mark.parametrize(
    "command",
    [
        ["encrypt", "-k", "alias/demo", "--region", "us-east-1", "a", "--context-file"],
        ["lab", "principal", "add", "alice", "--lab", "lab", "--policy"],
        ["policy", "explain", f"arn:aws:iam::{ACCOUNT}:user/alice", "kms:Decrypt", KEY, "--key-policy"],
    ],
)
def test_a_small_file_that_is_large_is_refused(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Lab("lab").close()
    Path("a").write_bytes(b"data")
    large = Path("large.json")
    large.touch(0o600)
    os.truncate(large, 17 << 20)
    assert run([*command, str(large)]) == 2
    assert "too large" in capsys.readouterr().err
    assert run([*command, "/dev/zero"]) == 1
    assert "not a regular file" in capsys.readouterr().err


def test_a_key_file_that_is_large_or_never_ends_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "key"
    large.touch(0o600)
    os.truncate(large, (64 << 20) + 1)
    with pytest.raises(LabError, match="has more than 67,108,864 bytes"):
        Lab(tmp_path / "lab", key_file=large)
    with pytest.raises(LabError, match="not a regular file"):
        Lab(tmp_path / "lab", key_file="/dev/zero")


def test_a_policy_comes_from_standard_input_where_that_is_meant(bare_shell: Shell) -> None:
    add = ("lab", "principal", "add", "alice", "--lab", "lab", "--policy", "-")
    Lab(bare_shell.folder / "lab").close()
    bare_shell.sealwax(*add, stdin=json.dumps(POLICY).encode()).succeeded()
    with Lab(bare_shell.folder / "lab") as lab:
        _, (policy,) = lab.known(f"arn:aws:iam::{ACCOUNT}:user/alice")
    assert len(policy.statements) == 1
