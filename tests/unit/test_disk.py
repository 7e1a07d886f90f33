"""Every reason that a disk has for taking no more is named, with the file and what helps."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import sealwax
from sealwax._core import disk
from sealwax.audit._collect.checkpoint import Checkpoint
from sealwax.errors import FileError
from sealwax.fleet._journal import Journal
from sealwax.kms import RateLimit
from sealwax.lab import Lab
from tests import room
from tests.cli.shell import unprivileged
from tests.fakes import FakeKeyring

HINTS = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "quota",
    errno.EROFS: "read-write",
    errno.EMFILE: "ulimit -n",
    errno.ENFILE: "the system has",
    errno.EFBIG: "ulimit -f",
    errno.EIO: "system log",
}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[room.Disk]:
    with room.disk(tmp_path / "small") as found:
        yield found


def test_each_reason_has_its_hint() -> None:
    for number, hint in HINTS.items():
        said = disk.reason(OSError(number, os.strerror(number)))
        assert said.startswith(f"{os.strerror(number)}; ")
        assert hint in said
    assert len(HINTS) == 7
    assert disk.reason(OSError(errno.EACCES, "Permission denied")) == "Permission denied"
    assert disk.reason(OSError("something")) == "something"


def _failed(code: int, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


def test_what_sqlite_keeps_to_itself_is_found(small: room.Disk) -> None:
    path = small.folder / "a.db"
    path.write_bytes(bytes(4096))
    write = _failed(sqlite3.SQLITE_IOERR_WRITE, "SQLITE_IOERR_WRITE")
    with small.full():
        assert small.reason in disk.reason_of_sqlite(write, path)
    with room.no_file_larger_than(8192):
        assert os.strerror(errno.EFBIG) in disk.reason_of_sqlite(write, path)
    with room.no_descriptors():
        assert "ulimit -n" in disk.reason_of_sqlite(_failed(sqlite3.SQLITE_CANTOPEN, "SQLITE_CANTOPEN"), path)
    if small.mounted:
        with small.read_only():
            assert os.strerror(errno.EROFS) in disk.reason_of_sqlite(_failed(sqlite3.SQLITE_READONLY, ""), path)
    # Nothing is wrong there by now: what SQLite says, and the disk may be the cause.
    assert "SQLITE_IOERR_WRITE); the disk may be failing" in disk.reason_of_sqlite(write, path)
    assert sorted(os.listdir(small.folder)) == ["a.db"]
    assert disk.reason_of_sqlite(_failed(sqlite3.SQLITE_FULL, ""), path).startswith(os.strerror(errno.ENOSPC))
    assert disk.reason_of_sqlite(sqlite3.OperationalError("no such table: a"), path) == "no such table: a"


def _create_keys(lab: Lab) -> None:
    for _ in range(100):  # of which the first may fit into what is left
        lab.create_key(description="x" * 8000)


def test_a_lab_on_a_full_disk_is_named_and_keeps_what_it_had(small: room.Disk) -> None:
    with Lab(small.folder / "lab") as lab:
        lab.create_key()
        before = lab.list_keys()
        with small.full(), pytest.raises(sealwax.LabError, match=small.reason) as caught:
            _create_keys(lab)
        assert re.search(rf"'{small.folder}/lab/(state|trail)\.db'", str(caught.value))
        after = [key["KeyId"] for key in lab.list_keys()]
        assert before[0]["KeyId"] in after
        lab.create_key()
        assert len(lab.list_keys()) == len(after) + 1
    with small.full(), pytest.raises(sealwax.LabError, match=small.reason):
        Lab(small.folder / "lab")
    with small.full(), pytest.raises(sealwax.LabError, match=small.reason):
        Lab(small.folder / "new")
    for name in ("lab", "new"):
        Lab(small.folder / name).close()


def _seal(sealer: sealwax.Sealer, target: Path) -> None:
    with sealer.open(target, "wb", context={"purpose": "backup"}) as file:
        file.write(bytes(100_000))


def test_a_sealed_file_on_a_full_disk(small: room.Disk, sealer: sealwax.Sealer) -> None:
    target = small.folder / "a.swx"
    with small.full(), pytest.raises(FileError, match=rf"'{target}' failed: {small.reason}; "):
        _seal(sealer, target)
    assert not os.listdir(small.folder)


def test_a_shared_limit_and_kept_answers_on_a_full_disk(small: room.Disk) -> None:
    with small.full():
        with pytest.raises(FileError, match=rf"shared rate limit '.*limit' failed: {small.reason}; "):
            RateLimit(1, shared=small.folder / "limit").current_rate  # noqa: B018
        said = rf"writing '.*facts.part' failed: {small.reason}; "
        with (
            Checkpoint(str(small.folder / "facts"), "AWS", timedelta(days=1)) as kept,
            pytest.raises(FileError, match=said),
        ):
            kept.begin("1" * 12)
    with room.no_descriptors():
        with pytest.raises(FileError, match=rf"{os.strerror(errno.EMFILE)}; .*ulimit -n"):
            RateLimit(1, shared=small.folder / "limit").current_rate  # noqa: B018
        with pytest.raises(FileError, match=rf"{os.strerror(errno.EMFILE)}; .*ulimit -n"):
            sealwax.Sealer(FakeKeyring()).open(small.folder / "a.swx", "wb", context={"a": "b"})
        with pytest.raises(FileError, match=rf"{os.strerror(errno.EMFILE)}; .*ulimit -n"):
            Journal.create(small.folder / "plan", small.folder / "plan")


@pytest.mark.parametrize("name", ["state.db", "trail.db", "state.db-wal"])
def test_a_file_of_a_lab_that_this_user_may_not_read(name: str, tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        lab.create_key()
    closed = tmp_path / "lab" / name
    closed.touch()
    closed.chmod(0)
    with unprivileged(), pytest.raises(sealwax.LabError, match=rf"\.db' cannot be used: {os.strerror(errno.EACCES)}$"):
        Lab(tmp_path / "lab")


# Opens a lab with every low limit on open files, once all that it needs is imported.
FEW_FILES = """
import resource, sys
from sealwax.lab import Lab
from sealwax.errors import LabError
Lab(sys.argv[1]).close()
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
for limit in range(3, 16):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        Lab(sys.argv[1]).close()
    except LabError as error:
        print(str(error).partition("cannot be used: ")[2])
    else:
        print("opened")
"""


def test_a_lab_with_too_few_open_files_says_so(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        lab.create_key()
    command = [sys.executable, "-c", FEW_FILES, str(tmp_path / "lab")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(said) == 13
    assert set(said) == {disk.reason(OSError(errno.EMFILE, os.strerror(errno.EMFILE))), "opened"}
