"""The folder: private, durable, shared, and closed to who lacks the passphrase."""

from __future__ import annotations

import base64
import multiprocessing
import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sealwax._text import printable
from sealwax.errors import LabError
from sealwax.lab import Lab
from tests.lab.killing import kill_and_check
from tests.planting import STRANGER, give_away

# From Python 3.12 on, os.fork() warns of other threads, and pytest-xdist has some.
_FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def test_everything_is_there_again(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        key = lab.create_key(alias="demo")["KeyId"]
        blob = lab.call("Encrypt", KeyId=key, Plaintext="aGVsbG8=")["CiphertextBlob"]
    with Lab(tmp_path / "lab") as lab:
        opened = lab.call("Decrypt", CiphertextBlob=base64.b64encode(blob).decode())
        assert bytes(opened["Plaintext"]) == b"hello"
        assert lab.list_keys()[0]["Aliases"] == ["alias/demo"]


def test_opening_a_lab_twice_in_a_process_leaves_its_locks(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab, Lab(tmp_path / "lab") as again:
        lab.create_key()
        for name in ("state.db", "trail.db"):
            # Who closes a file last tidies its log away, and must see that another process still has it open.
            program = (
                "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA user_version'); c.close()"
            )
            subprocess.run([sys.executable, "-c", program, tmp_path / "lab" / name], check=True)
            assert (tmp_path / "lab" / f"{name}-wal").exists(), name
        assert len(again.list_keys()) == 1


@pytest.mark.parametrize("place", ["x", "x/y/lab", "self/x"])
def test_a_place_that_takes_no_folders_is_told_of(place: str) -> None:
    """It says that there is no such folder, also of one in a folder that is there."""
    for _ in range(2):
        with pytest.raises(LabError, match=f"/proc/{place} cannot be used: No such file or directory"):
            Lab(Path("/proc") / place)


def test_the_folder_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with Lab(folder) as lab:
        lab.create_key()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_a_link_of_somebody_else_is_no_lab(tmp_path: Path) -> None:
    """It would lead to whatever folder of the caller its owner likes, and close that to everybody else."""
    shared, mine, planted = tmp_path / "shared", tmp_path / "mine", tmp_path / "planted"
    shared.mkdir()
    shared.chmod(0o755)
    mine.symlink_to("shared")
    Lab(mine).close()
    assert stat.S_IMODE(shared.stat().st_mode) == 0o700
    shared.chmod(0o755)
    planted.symlink_to("shared")
    if os.geteuid() == 0:
        os.chown(planted, STRANGER, STRANGER, follow_symlinks=False)
    else:
        give_away(shared)
    before = stat.S_IMODE(shared.stat().st_mode)
    with pytest.raises(LabError, match=r"planted' is refused: .+; name "):
        Lab(planted)
    assert stat.S_IMODE(shared.stat().st_mode) == before


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab, lab._state.reading() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


@pytest.mark.slow
@_FORKS
def test_killed_at_random_moments_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    assert kill_and_check(tmp_path / "lab", rounds=50, seed=1) > 50


def test_a_change_of_another_process_is_seen_at_once(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as one, Lab(tmp_path / "lab") as other:
        key = one.create_key(alias="demo")["KeyId"]
        assert other.call("DescribeKey", KeyId="alias/demo")["KeyMetadata"]["KeyState"] == "Enabled"
        one.call("DisableKey", KeyId=key)
        assert other.call("DescribeKey", KeyId="alias/demo")["KeyMetadata"]["KeyState"] == "Disabled"


def _make_keys(folder: Path, count: int) -> None:
    with Lab(folder) as lab:
        for _ in range(count):
            lab.create_key()


def test_processes_write_at_once(tmp_path: Path) -> None:
    start = multiprocessing.get_context("spawn")
    processes = [start.Process(target=_make_keys, args=(tmp_path / "lab", 20)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with Lab(tmp_path / "lab") as lab:
        assert len(lab.list_keys()) == 60


_MAKING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("it writes", flush=True)
sys.stdin.read()
connection.execute("COMMIT")
"""


def test_a_file_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab"):
        pass
    (tmp_path / "lab" / "trail.db").unlink()
    (tmp_path / "lab" / "trail.db").touch(0o600)
    other = subprocess.Popen(
        [sys.executable, "-S", "-c", _MAKING, tmp_path / "lab" / "trail.db"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"it writes\n"
        threading.Timer(0.3, other.stdin.close).start()
        with Lab(tmp_path / "lab") as lab:
            assert lab.create_key()
    assert other.returncode == 0


def test_threads_write_at_once(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        threads = [threading.Thread(target=lambda: [lab.create_key() for _ in range(20)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(lab.list_keys()) == 80


@_FORKS
def test_a_fork_goes_on_with_the_lab(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="before")
        child = os.fork()
        if child == 0:
            try:
                lab.create_key(alias="child")
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        lab.create_key(alias="after")
        assert sorted(key["Aliases"][0] for key in lab.list_keys()) == ["alias/after", "alias/before", "alias/child"]


@pytest.mark.parametrize("means", ["passphrase", "key file"])
def test_material_at_rest_is_encrypted(tmp_path: Path, means: str) -> None:
    (tmp_path / "key").write_bytes(os.urandom(32))
    (tmp_path / "other").write_bytes(os.urandom(32))
    right: dict[str, str] = {"key_file": str(tmp_path / "key")}
    wrong: dict[str, str] = {"key_file": str(tmp_path / "other")}
    if means == "passphrase":
        right, wrong = {"passphrase": "correct horse"}, {"passphrase": "wrong horse"}
    with Lab(tmp_path / "lab", passphrase=right.get("passphrase"), key_file=right.get("key_file")) as lab:
        key = lab.create_key()["KeyId"]
        material = lab._records.key("111122223333", "us-east-1", key)
        assert material is not None
        secret = material.materials[0].secret
        assert secret is not None
        root = lab._records._root._key
        files = b"".join(file.read_bytes() for file in (tmp_path / "lab").iterdir())
        assert secret not in files
        assert root not in files
        assert root.hex().encode() not in files
    with pytest.raises(LabError, match="is not the one that this lab was made with"):
        Lab(tmp_path / "lab", passphrase=wrong.get("passphrase"), key_file=wrong.get("key_file"))
    with pytest.raises(LabError, match=f"made with a {means}"):
        Lab(tmp_path / "lab")
    with Lab(tmp_path / "lab", passphrase=right.get("passphrase"), key_file=right.get("key_file")) as lab:
        assert lab.call("Encrypt", KeyId=key, Plaintext="aGVsbG8=")


def test_a_lab_without_a_passphrase_does_not_take_one_later(tmp_path: Path) -> None:
    Lab(tmp_path / "lab").close()
    with pytest.raises(LabError, match="made without a passphrase or key file"):
        Lab(tmp_path / "lab", passphrase="x")
    (tmp_path / "short").write_bytes(b"x" * 31)
    with pytest.raises(LabError, match="shorter than 32 bytes"):
        Lab(tmp_path / "new", key_file=tmp_path / "short")


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LabError, match="cannot be used"):
        Lab(tmp_path / "file")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "loop", "dangling", "pipe"):
        with pytest.raises(LabError, match="it is not a folder"):
            Lab(tmp_path / name)
    with pytest.raises(LabError, match="Not a directory"):
        Lab(tmp_path / "file" / "lab")
    assert sorted(os.listdir(tmp_path)) == ["dangling", "file", "loop", "pipe"]
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "state.db").write_text("not a database, and long enough to be sure of that" * 30)
    with pytest.raises(LabError, match="cannot be used"):
        Lab(tmp_path / "lab")


def test_a_folder_for_other_things_is_left_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter").write_text("Dear")
    home.chmod(0o755)
    with pytest.raises(LabError, match="holds other files"):
        Lab(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o755
    assert os.listdir(home) == ["letter"]
    # A lab may hold them.
    with Lab(tmp_path / "lab") as lab:
        key = lab.create_key()["KeyId"]
    (tmp_path / "lab" / "notes").write_text("mine")
    with Lab(tmp_path / "lab") as lab:
        assert lab.list_keys()[0]["KeyId"] == key


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", " ", "-", "--", "ü/ü"])
def test_a_name_is_a_name(tmp_path: Path, name: str) -> None:
    with Lab(tmp_path / name) as lab:
        assert lab.create_key()
    (tmp_path / "link").symlink_to(name)
    with Lab(tmp_path / "link") as lab:
        assert len(lab.list_keys()) == 1
    (tmp_path / name / "state.db").unlink()
    with pytest.raises(LabError, match=re.escape(printable(str(tmp_path / name)))):
        Lab(tmp_path / name)


def test_a_folder_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    Lab(tmp_path / "lab").close()
    connection = sqlite3.connect(tmp_path / "lab" / "state.db")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(LabError, match="a newer version of sealwax"):
        Lab(tmp_path / "lab")
