"""Small promises: a lost file is told, a folder that cannot be listed takes files, waits take real time."""

from __future__ import annotations

import fcntl
import io
import subprocess
import sys
import warnings
from pathlib import Path

import freezegun
import pytest

import sealwax
from sealwax._core.files import LockedFile
from tests.cli.shell import without_privileges

CONTEXT = {"purpose": "backup"}


def test_a_file_that_is_never_closed_is_told(tmp_path: Path, sealer: sealwax.Sealer) -> None:
    target = tmp_path / "a.swx"
    for header in (None, tmp_path / "a.header"):
        file = sealer.open(target, "wb", context=CONTEXT, header=header)
        file.write(b"data")
        with pytest.warns(ResourceWarning, match=f"never closed and is lost: {target}"):
            del file
    with pytest.warns(ResourceWarning, match="never closed and is lost: a file object"):
        sealer.open(io.BytesIO(), "wb", context=CONTEXT)
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_closed_or_given_up_is_not_told(tmp_path: Path, sealer: sealwax.Sealer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = sealer.open(tmp_path / "a.swx", "wb", context=CONTEXT)
        file.close()
        del file
        with pytest.raises(ZeroDivisionError), sealer.open(tmp_path / "b.swx", "wb", context=CONTEXT):
            raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["a.swx"]


_DROP = """
import sys
from tests.fakes import ALPHA, FakeKeyring
import sealwax
with sealwax.Sealer(FakeKeyring(ALPHA)).open(sys.argv[1], "xb", context={"purpose": "backup"}) as file:
    file.write(b"data")
"""


def test_a_folder_that_cannot_be_listed_takes_files(tmp_path: Path, sealer: sealwax.Sealer) -> None:
    box = tmp_path / "box"
    box.mkdir()
    box.chmod(0o1333)
    done = subprocess.run(
        [sys.executable, "-c", _DROP, box / "a.swx"],
        preexec_fn=without_privileges,
        capture_output=True,
        text=True,
        check=False,
    )
    box.chmod(0o700)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in box.iterdir()] == ["a.swx"]
    assert sealer.decrypt((box / "a.swx").read_bytes(), context=CONTEXT) == b"data"


def test_a_lock_is_given_up_though_the_clock_stands_still(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    with path.open("rb") as held, freezegun.freeze_time("2030-01-01"):
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(sealwax.FileError, match="another program has held it"):
            LockedFile(path, patience=0.05)
