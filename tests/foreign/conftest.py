"""The bucket and the lab of the tests of the S3 Encryption Client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.foreign import objects
from tests.foreign.objects import World


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with objects.opened(tmp_path_factory.mktemp("s3ec")) as world:
        yield world


@pytest.fixture
def world(whole: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """An empty bucket that keeps versions, and an empty folder; the command line finds both, and the lab."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name, value in whole.server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SEALWAX_LAB", str(whole.lab.path))
    whole.begin(versioned=True)
    return whole


@pytest.fixture
def err(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return what was said since the last call."""
    return lambda: " ".join(capfd.readouterr().err.split())
