"""A rehearsal that is really killed, after every few requests, and taken away by the next command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.shell import SEALWAX, USUAL
from tests.rehearse.account import REGIONS, Call, account, reset
from tests.rehearse.conftest import EMPTY

COMMAND = (SEALWAX, "rehearse", "--region", REGIONS[0], "--region", REGIONS[1])
# A run sends about 440 requests.
KILLS = (*range(2, 40, 2), *range(40, 430, 15))


@pytest.mark.soak
def test_a_kill_anywhere_leaves_nothing(tmp_path: Path) -> None:
    with account(tmp_path) as aws:
        reset(aws.url)
        environment = {**USUAL, "HOME": str(tmp_path), **aws.environment}
        for at, number in enumerate(KILLS):
            aws.calls.clear()
            process = subprocess.Popen([*COMMAND, "--apply", "-q"], cwd=tmp_path, env=environment)

            def kill(_: Call, process: subprocess.Popen[bytes] = process, number: int = number) -> None:
                if len(aws.calls) == number:
                    process.kill()

            aws.before = kill
            assert process.wait() == -9, f"the run ended before request {number}"
            aws.before = lambda _: None
            if at % 2:
                os.remove(tmp_path / "sealwax-rehearsal" / "state.json")
            subprocess.run([*COMMAND, "--clean-up", "-q"], cwd=tmp_path, env=environment, check=True)
            assert aws.left() == EMPTY, f"killed at request {number}"
