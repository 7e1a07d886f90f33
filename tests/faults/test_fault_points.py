"""Killed or failing before and after each step, and torn at each sector: the file opens with the old or the new key.

The work is done by driver.py in a process of its own, which also re-wraps every file once more, and sees that this
finishes it and leaves no earlier wrapped key. Here is what came of it, so that no point can drop out unnoticed.

A killed process, or one on a file system where nothing works any more, may leave one temporary file beside the target;
a single failure never does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
COPYING = {"copy_file_range", "write", "pread"}


def _drive(scenario: str, folder: Path, *how: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.driver", scenario, folder, *how],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


SLOT = ["pwrite", "fsync", "pread"]


@pytest.mark.parametrize(
    ("scenario", "names", "outcomes"),
    [
        (
            "in place",
            ["open", "flock", *SLOT, *SLOT, "close"],
            {"old": 5, "new, unfinished": 6, "new": 7},
        ),
        (
            "unfinished",
            ["open", "flock", *SLOT, *SLOT, "close"],
            {"old, unfinished": 5, "new, unfinished": 6, "new": 7},
        ),
        # The newer slot is under a key that is not allowed: it is the first to go, as KMS opens the older one only.
        (
            "only the older slot opens",
            ["open", "flock", *SLOT, *SLOT, "close"],
            {"not allowed, unfinished": 5, "new, unfinished": 6, "new": 7},
        ),
    ],
)
def test_rewrap_in_place(scenario: str, names: list[str], outcomes: dict[str, int], tmp_path: Path) -> None:
    found = _drive(scenario, tmp_path, "faults")["faults"]
    assert found.pop("names") == names
    assert found == {
        "points": 2 * len(names),
        "kill": outcomes,
        "fail once": outcomes,
        "fail from then on": outcomes,
    }
    assert sum(outcomes.values()) == 2 * len(names)


@pytest.mark.parametrize("scenario", ["in place", "unfinished", "only the older slot opens"])
def test_torn_at_each_sector(scenario: str, tmp_path: Path) -> None:
    writes = 2
    found = _drive(scenario, tmp_path, "torn", "misread", "little")
    torn = found["torn"]["torn"]
    assert found["torn"]["writes"] == writes
    # Each write of 8 sectors is torn at 9 places, from the front and from the back.
    assert sum(torn.values()) == writes * 9 * 2
    assert (
        torn
        == {
            "in place": {"old": 2, "old, unfinished": 14, "new, unfinished": 18, "new": 2},
            "unfinished": {"old, unfinished": 16, "new, unfinished": 18, "new": 2},
            "only the older slot opens": {
                "not allowed, unfinished": 2,
                "old, unfinished": 14,
                "new, unfinished": 18,
                "new": 2,
            },
        }[scenario]
    )
    assert found["misread"]["reads"] == sum(found["misread"]["misread"].values()) == writes
    assert found["little"] == {"little": "new"}


@pytest.mark.parametrize("scenario", ["last sequence", "small"])
def test_rewrap_by_replacement(scenario: str, tmp_path: Path) -> None:
    found = _drive(scenario, tmp_path, "faults", "little")
    names, faults = found["faults"].pop("names"), found["faults"]
    assert [name for name in names if name not in COPYING] == [
        *("open", "flock", "open", "open", "fchown", "fchmod", "fsync", "close", "replace"),
        *("open", "fsync", "close"),
    ]
    points = faults["points"]
    assert points == 2 * len(names)
    # After the rename come seven points: its own second one, the folder's, and the closing of the old file.
    assert faults["fail once"] == {"old": points - 7, "new": 7}
    assert faults["kill"] == {"old": 7, "old, temporary file left": points - 14, "new": 7}
    assert faults["fail from then on"] == {"old": 8, "old, temporary file left": points - 15, "new": 7}
    assert found["little"] == {"little": "new"}


def test_writing_over_an_envelope(tmp_path: Path) -> None:
    faults = _drive("overwrite", tmp_path, "faults")["faults"]
    names, points = faults["names"], faults["points"]
    assert [name for name in names if name not in COPYING] == [
        *("open", "open", "fsync", "close", "replace", "open", "fsync"),
    ]
    assert points == 2 * len(names)
    assert faults["fail once"] == {"old": points - 5, "new": 5}
    assert faults["kill"] == {"old": 3, "old, temporary file left": points - 8, "new": 5}
    assert faults["fail from then on"] == {"old": 4, "old, temporary file left": points - 9, "new": 5}


def test_writing_where_no_file_is(tmp_path: Path) -> None:
    faults = _drive("create", tmp_path, "faults")["faults"]
    names, points = faults["names"], faults["points"]
    assert [name for name in names if name not in COPYING] == [
        *("open", "open", "fsync", "close", "link", "unlink", "open", "fsync"),
    ]
    assert points == 2 * len(names)
    # Where linking fails at once, renaming is tried.
    assert faults["fail once"] == {"absent": points - 8, "done another way": 1, "new": 7}
    # Killed between link and unlink, the file has two names, one of them the temporary one.
    assert faults["kill"] == {
        "absent": 3,
        "absent, temporary file left": points - 10,
        "new": 5,
        "new, temporary file left": 2,
    }
    assert faults["fail from then on"] == {
        "absent": 4,
        "absent, temporary file left": points - 11,
        "new": 5,
        "new, temporary file left": 2,
    }


BETWEEN = "between, temporary files left"


def test_replacing_a_detached_pair(tmp_path: Path) -> None:
    """Both are new or both old; killed between the two renames, both pairs are still there, under other names."""
    faults = _drive("detached", tmp_path, "faults")["faults"]
    names, points = faults["names"], faults["points"]
    assert [name for name in names if name not in COPYING] == [
        *("open", "open", "open", "open", "fsync", "close", "fsync", "close", "link", "link"),
        *("replace", "open", "fsync", "replace", "open", "fsync", "unlink", "unlink"),
    ]
    assert points == 2 * len(names)
    # From after the first rename to before the second.
    assert faults["kill"] == {
        "old": 3,
        "old, temporary files left": points - 18,
        BETWEEN: 6,
        "new, temporary files left": 8,
        "new": 1,
    }
    # Where linking fails, the old file is moved aside; a temporary file that cannot be removed is no failure.
    assert faults["fail once"] == {
        "old": points - 8,
        "done another way": 6,
        "done another way, temporary files left": 2,
    }
    assert faults["fail from then on"] == {
        "old": 4,
        "old, temporary files left": points - 19,
        BETWEEN: 6,
        "new, temporary files left": 5,
        "done another way, temporary files left": 3,
        "done another way": 1,
    }


def test_a_detached_pair_where_no_file_is(tmp_path: Path) -> None:
    faults = _drive("detached, new", tmp_path, "faults")["faults"]
    points = faults["points"]
    # The two links find nothing to link, and so have no second point.
    assert points == 2 * len(faults["names"]) - 2
    assert faults["fail once"] == {"absent": points}
    for mode in ("kill", "fail from then on"):
        assert faults[mode][BETWEEN] == 6
        assert faults[mode]["new"] == 5
