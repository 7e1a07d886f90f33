"""The fixtures that ship with the package work in somebody else's suite."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

SUITE = """
def test_in_process(sealwax_lab, sealwax_kms, sealwax_session):
    sealwax_lab.create_key(alias="payments")
    made = sealwax_kms.generate_data_key(KeyId="alias/payments", KeySpec="AES_256")
    assert sealwax_session.client("kms").decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"]

def test_records(sealwax_records):
    card = sealwax_records.field("users.card", row=int, tenant="acme")
    assert card.open(card.seal("4111", row=7), row=7) == "4111"
"""


def pytest_says(folder: Path, *arguments: str) -> str:
    # By name where the installation is older than the entry point; twice would be once too often.
    named = [] if entry_points(group="pytest11", name="sealwax") else ["-p", "sealwax.lab.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", *named, "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


@pytest.mark.slow
def test_the_fixtures_work(tmp_path: Path) -> None:
    """In a suite that is spread over processes and kept off the network, too."""
    (tmp_path / "test_theirs.py").write_text(SUITE)
    assert "2 passed" in pytest_says(tmp_path, "-n", "1", "--disable-socket")


def test_pytest_shows_them(tmp_path: Path) -> None:
    said = pytest_says(tmp_path, "--fixtures")
    for name in ("sealwax_lab", "sealwax_session", "sealwax_kms", "sealwax_records"):
        assert name in said


def test_pytest_finds_them_by_itself() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"sealwax": "sealwax.lab.pytest_plugin"}
