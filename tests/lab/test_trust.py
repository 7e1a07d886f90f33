"""A lab's keys are those of its owner: nobody else has put them there."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from sealwax.cli import run
from sealwax.errors import LabError
from sealwax.lab import Lab, Server
from tests.planting import PLANTED, give_away


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="demo")
    return tmp_path / "lab"


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("state.db", "open to all"),
        ("state.db", "a pipe"),
        ("state.db", "a link of another"),
        ("trail.db", "of another"),
        ("trail.db", "a folder"),
    ],
)
def test_a_file_that_others_can_have_written_opens_no_lab(folder: Path, name: str, how: str) -> None:
    PLANTED[how](folder / name)
    with pytest.raises(LabError, match=r"the lab's file '.+' is refused: .+; ."):
        Lab(folder)


def test_a_log_that_somebody_put_into_a_lab_is_not_recovered(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with Lab(copy) as lab:
        lab.create_key(alias="planted")
        for suffix in ("-wal", "-shm"):
            shutil.copy(f"{copy / 'state.db'}{suffix}", folder)
            give_away(Path(f"{folder / 'state.db'}{suffix}"))
    whole = (folder / "state.db").read_bytes()
    with pytest.raises(LabError, match=r"SQLite would read '.+-wal' with it"):
        Lab(folder)
    assert (folder / "state.db").read_bytes() == whole
    for suffix in ("-wal", "-shm"):
        Path(f"{folder / 'state.db'}{suffix}").unlink()
    with Lab(folder) as lab:
        assert [key["Aliases"] for key in lab.list_keys()] == [["alias/demo"]]


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_a_lab_in_a_folder_that_was_open_to_all_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(LabError, match=f"the lab's folder '{folder}' is refused: everybody may write to it"):
        Lab(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == mode
    folder.chmod(0o755)
    Lab(folder).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_lab_of_somebody_else_is_refused_and_left_as_it_is(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for one in (folder, empty):
        (one / "state.db").touch()
        give_away(one)
        before = one.stat()
        with pytest.raises(LabError, match=f"the lab's folder '{one}' is refused"):
            Lab(one)
        assert (one.stat().st_mode, one.stat().st_uid) == (before.st_mode, before.st_uid)


def test_an_empty_folder_is_taken_whatever_its_mode(tmp_path: Path) -> None:
    tmp_path.joinpath("new").mkdir()
    tmp_path.joinpath("new").chmod(0o777)
    with Lab(tmp_path / "new") as lab:
        lab.create_key()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@pytest.mark.parametrize("how", PLANTED)
def test_a_key_file_of_others_makes_and_opens_no_lab(tmp_path: Path, how: str) -> None:
    key_file = tmp_path / "mine" / "key"
    key_file.parent.mkdir()
    key_file.write_bytes(os.urandom(32))
    Lab(tmp_path / "lab", key_file=key_file).close()
    PLANTED[how](key_file)
    for name in ("lab", "new"):
        with pytest.raises(LabError, match=r"the lab's key file '.+' is refused: .+; ."):
            Lab(tmp_path / name, key_file=key_file)


def test_a_policy_and_files_for_tls_of_others_are_refused(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    statement = {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    add = ["lab", "principal", "add", "--lab", str(folder), "--policy", str(file)]
    assert run([*add, "one"]) == 0
    file.chmod(0o666)
    assert run([*add, "two"]) == 1
    with Lab(folder) as lab:
        with pytest.raises(LabError, match=r"there is no|no such|two"):
            lab.known("arn:aws:iam::111122223333:user/two")
        with pytest.raises(LabError, match=r"the TLS file '.+' is refused"):
            Server(lab, tls=(file, file))
