"""``sealwax migrate`` is killed at points from its first to its last; the same command then completes the work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.shell import ROOT

pytestmark = pytest.mark.slow


def left_by(folder: Path, *options: str) -> tuple[int, dict[str, int]]:
    program = [sys.executable, "-m", "tests.foreign.migrate_crashes", str(folder), *options]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return said["points"], said["left"]


def check(folder: Path, *options: str) -> None:
    points, left = left_by(folder, *options)
    assert points > 30
    assert sum(left.values()) == points if "--all" in options else sum(left.values()) >= 12
    # A run that migrates leaves the original in any case; one that removes leaves the envelope.
    assert set(left) <= ({"both", "envelope"} if "--remove" in options else {"original", "both"})
    assert len(left) == 2


@pytest.mark.parametrize("options", [(), ("--remove",)])
def test_killed(tmp_path: Path, options: tuple[str, ...]) -> None:
    check(tmp_path, *options)


@pytest.mark.soak
@pytest.mark.parametrize("options", [(), ("--remove",)])
def test_killed_at_every_point(tmp_path: Path, options: tuple[str, ...]) -> None:
    check(tmp_path, *options, "--all")
