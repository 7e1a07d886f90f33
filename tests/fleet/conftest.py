"""A lab of its own for each test, with keys to rotate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwax.lab import Lab
from tests.fleet.fleets import Keys, make_keys


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    with Lab(tmp_path / "lab") as lab:
        yield make_keys(lab)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    place.mkdir()
    return place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the plan goes."""
    return tmp_path / "rotation.plan"
