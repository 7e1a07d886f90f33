"""What each verb prints on a terminal is what people have read and approved: see ``tests.cli.transcripts``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sealwax import cli
from tests.cli.shell import ROOT
from tests.cli.transcripts import screen
from tests.cli.transcripts.__main__ import GOLDEN, commands, played, releases
from tests.cli.transcripts.scenes import SCENES

RENEW = "what is printed has changed; if it should, run: .venv/bin/python -m tests.cli.transcripts --write"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.platform != "linux":
        pytest.skip("the libraries of macOS take a fork without exec amiss")
    if (GOLDEN / "releases").read_text() != releases():
        pytest.skip("other releases of click or rich lay out text otherwise")
    folder = tmp_path_factory.mktemp("shown")
    subprocess.run([sys.executable, "-m", "tests.cli.transcripts", "--write", str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("verb", played())
def test_a_verb_prints_what_was_approved(verb: str, shown: Path) -> None:
    text = (shown / f"{verb}.txt").read_text("utf-8")
    assert text == (GOLDEN / f"{verb}.txt").read_text("utf-8"), RENEW
    assert "Traceback" not in text
    assert "bug in sealwax" not in text


# Verbs that can hardly fail.
FEWER = {"completion": 3, "help": 2, "settings": 2}


def test_every_verb_has_its_success_and_its_likeliest_failures() -> None:
    assert set(played()) >= {"sealwax", *cli.VERBS}, "add its scenes to tests/cli/transcripts/scenes.py"
    for verb in played():
        text = (GOLDEN / f"{verb}.txt").read_text("utf-8")
        found = re.findall(r"^\$ (.*)\n(?:(?!\$ ).*\n)*?\[([0-9]+)\]$", text, re.MULTILINE)
        wide = [(command, int(status)) for command, status in found if not command.endswith("columns")]
        assert [command for command, _ in wide] == commands(SCENES[verb]), RENEW
        assert verb == "sealwax" or 0 in [status for _, status in wide], verb
        assert sum(status != 0 for _, status in wide) >= FEWER.get(verb, 5), verb


@pytest.mark.parametrize(
    ("written", "settled"),
    [
        ("one\r\ntwo\n", "one\ntwo"),
        ("bar 1\rbar 22\r\x1b[2Kdone\n", "done"),
        ("\x1b[?25lbar\n\x1b[1A\x1b[2Kdone\x1b[?25h\n", "done"),
        ("long line\rshort", "shortline"),
        ("\x1b[31mred\x1b[0m\n", "red"),
        ("keep me\x1b[1;4Hodd", "keep meodd"),
    ],
)
def test_the_screen_settles(written: str, settled: str) -> None:
    assert screen.settled(written) == settled


def test_what_differs_from_run_to_run_is_replaced() -> None:
    names = {"4fe0a9b1-1234-4321-9999-0123456789ab": "D" * 36}
    text = "4fe0a9b1-1234-4321-9999-0123456789ab 4fe0a9b1-… at 2026-11-30T09:38:21 0.31 s, not 2012-10-17"
    assert screen.stable(text, names) == f"{'D' * 36} {'D' * 9}… at 2000-01-01T00:00:00 0.0 s, not 2012-10-17"
