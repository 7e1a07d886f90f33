"""A run that is killed ends the same when it is run again; `make soak` kills more often."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet.fleets import Keys
from tests.fleet.killing import kill_and_resume


@pytest.mark.parametrize(("kills", "files"), [(6, 150), pytest.param(20, 400, marks=pytest.mark.soak)])
def test_killed_and_resumed(keys: Keys, folder: Path, path: Path, kills: int, files: int) -> None:
    kill_and_resume(keys, folder, path, files=files, kills=kills)


@pytest.mark.parametrize(("kills", "files"), [(4, 100), pytest.param(10, 250, marks=pytest.mark.soak)])
def test_re_encryption_killed_and_resumed(keys: Keys, folder: Path, path: Path, kills: int, files: int) -> None:
    kill_and_resume(keys, folder, path, files=files, kills=kills, reencrypt=True)
