"""A process that runs a plan, for tests that kill it: ``python -m tests.fleet.worker PLAN LAB``. It tells progress."""

from __future__ import annotations

import sys
import time

from sealwax import fleet
from sealwax._core.rewrap import Rewrap
from sealwax.lab import Lab
from sealwax.stores import Change
from sealwax.stores._files import FileStore

WORKERS = 2
# So slow that a kill meets a run with work left, also where the machine has other work and the kill comes late.
_PAUSE_SECONDS = 0.05


class SlowStore(FileStore):
    """A folder on a slow disk."""

    def rewrap(self, name: str, rewrap: Rewrap, *, size: int | None = None) -> None:
        time.sleep(_PAUSE_SECONDS)
        super().rewrap(name, rewrap, size=size)

    def replace(self, name: str, change: Change) -> None:
        time.sleep(_PAUSE_SECONDS)
        super().replace(name, change)


def main(path: str, lab: str) -> None:
    with Lab(lab) as opened:
        report = fleet.run(
            path,
            open_location=SlowStore,
            session=opened.session(),
            workers=WORKERS,
            on_progress=lambda done, total: print(done, total, flush=True),
        )
    print("done", report.stale, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
