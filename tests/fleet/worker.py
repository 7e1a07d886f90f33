"""A process that runs a plan, for tests that kill it: ``python -m tests.fleet.worker PLAN LAB``. It tells progress."""

from __future__ import annotations

import sys

from sealwax import fleet
from sealwax.lab import Lab

WORKERS = 2


def main(path: str, lab: str) -> None:
    with Lab(lab) as opened:
        report = fleet.run(
            path,
            session=opened.session(),
            workers=WORKERS,
            on_progress=lambda done, total: print(done, total, flush=True),
        )
    print("done", report.stale, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
