"""Where headers are looked at: in threads, if they are waited for."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from sealwax._core.envelope import Inspection
from tests.fleet.fleets import Keys, Wrapping, plan, seal


def test_headers_that_are_waited_for_are_looked_at_by_threads_and_the_others_where_one_is(
    keys: Keys, folder: Path, path: Path
) -> None:
    sealed = seal(keys, folder / "0.swx").read_bytes()
    for at in range(1, 200):
        (folder / f"{at}.swx").write_bytes(sealed)

    def threads_of(wait: float) -> set[str]:
        seen = set()

        class Watched(Wrapping):
            def inspect(self, name: str) -> Inspection:
                seen.add(threading.current_thread().name)
                if wait:
                    time.sleep(wait)
                return super().inspect(name)

        assert plan(keys, folder, path, open_location=Watched.around, overwrite=True).stale == 200
        return seen

    here = {threading.current_thread().name}
    # A busy machine lets one wait for it as well.
    assert any(threads_of(0) == here for _ in range(50))
    assert len(threads_of(0.002) - here) > 1
