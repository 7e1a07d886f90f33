"""A process that rotates a key store slowly, for tests that kill it: ``python -m tests.records.rotating PLAN LAB``."""

from __future__ import annotations

import sys
import time

from sealwax import fleet
from sealwax._core.rewrap import Rewrap
from sealwax.lab import Lab
from sealwax.stores import Store, open_store
from sealwax.stores.key_rows import KeyRows

# So slow that a kill finds a run with work left.
_PAUSE_SECONDS = 0.02


def slowly(location: str) -> Store:
    """Open a key store whose database is slow."""
    store = open_store(location)
    assert isinstance(store, KeyRows)

    class Slow(KeyRows):
        def rewrap(self, name: str, rewrap: Rewrap, *, size: int | None = None) -> None:
            time.sleep(_PAUSE_SECONDS)
            super().rewrap(name, rewrap, size=size)

    return Slow(store.keys, location)


def main(path: str, lab: str) -> None:
    with Lab(lab) as opened:
        fleet.run(
            path,
            open_location=slowly,
            session=opened.session(),
            workers=2,
            on_progress=lambda done, total: print(done, total, flush=True),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
