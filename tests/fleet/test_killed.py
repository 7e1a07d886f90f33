"""A run that is killed ends the same when it is run again; `make soak` kills ten times as often."""

from __future__ import annotations

from pathlib import Path

from tests.fleet.fleets import Keys
from tests.fleet.killing import kill_and_resume


def test_killed_twenty_times_and_resumed(keys: Keys, folder: Path, path: Path) -> None:
    kill_and_resume(keys, folder, path, files=400, kills=20)


def test_re_encryption_killed_ten_times_and_resumed(keys: Keys, folder: Path, path: Path) -> None:
    kill_and_resume(keys, folder, path, files=250, kills=10, reencrypt=True)
