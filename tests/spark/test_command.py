"""``--engine spark``, as a user types it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwax.cli import run
from sealwax.lab import Lab
from tests.fleet.fleets import Keys, fill, make_keys


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALWAX_LAB", "lab")
    with Lab("lab") as lab:
        yield make_keys(lab)


@pytest.mark.usefixtures("spark")
def test_plan_and_run(keys: Keys, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    distinct = fill(tmp_path / "data", keys, 60)
    wanted = ["--from", "alias/one", "--from", "alias/two", "--to", "alias/new"]
    context = ["-c", "tenant=acme", "-c", "set=*"]
    status = run(["fleet", "plan", "data", *wanted, *context, "--engine", "spark", "-o", "p", "--json"])
    assert status == 0
    assert json.loads(capfd.readouterr().out)["stale"] == 60
    status = run(["fleet", "run", "p", "--apply", "--engine", "spark", "--results", "out", "--json"])
    done = json.loads(capfd.readouterr().out)
    assert (status, done["rewrapped"], done["stale"]) == (0, 60, 0)
    assert done["kms_calls"] >= distinct
    (parquet,) = (tmp_path / "out").iterdir()
    assert (parquet / "_SUCCESS").exists()
    assert run(["fleet", "verify", "p", "--decrypt", "3"]) == 0


@pytest.mark.usefixtures("keys")
def test_results_go_with_spark(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["fleet", "run", "p", "--apply", "--results", "out"]) == 2
    assert "--results requires --engine spark" in capfd.readouterr().err
