"""``python -m tests.soak_lab [ROUNDS]``: kill a lab under load at random moments, 1,000 times, and lose nothing."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.lab.killing import kill_and_check

_ROUNDS_A_FOLDER = 50


def main(rounds: int) -> None:
    """Run the rounds in folders of their own, so that checking does not grow with what was made before."""
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    checked = 0
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, rounds, _ROUNDS_A_FOLDER):
            count = min(_ROUNDS_A_FOLDER, rounds - start)
            checked += kill_and_check(Path(folder) / str(start), rounds=count, seed=seed + start)
            print(f"{start + count} kills, {checked} acknowledged changes found again")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
