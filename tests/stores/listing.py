"""A program that lists S3 Inventories, and says what each cost: ``listing.py MANIFEST...``; one JSON object a line.

It may take 3 GiB of addresses, so that what takes more fails here, and does not take the machine along.
"""

from __future__ import annotations

import json
import resource
import sys

from sealwax.errors import StoreError
from sealwax.stores import open_store


def peak() -> int:
    """The most memory that this process has had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    first, *rest = sys.argv[1:]
    assert len(list(open_store(first).list())) > 0  # what everything before the lists takes
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
    for where in rest:
        before, said = peak(), ""
        entries = 0
        try:
            for _ in open_store(where).list():
                entries += 1
        except (StoreError, MemoryError) as error:
            said = f"{type(error).__name__}: {error}"
        print(json.dumps({"said": said, "entries": entries, "grown": peak() - before}), flush=True)


if __name__ == "__main__":
    main()
