"""200,000 envelopes rotated by Spark in 16 partitions, two of which fail half-way: ``python -m tests.soak_spark``."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from sealwax.lab import Lab
from tests.fleet.fleets import make_keys
from tests.spark.local import start
from tests.spark.test_spark import rotate_with_failures


def main(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="sealwax-soak-") as name:
        scratch = Path(name)
        (scratch / "data").mkdir()
        spark = start(scratch, cores=os.cpu_count() or 2)
        try:
            with Lab(scratch / "lab") as lab:
                began = time.monotonic()
                rotate_with_failures(spark, make_keys(lab), scratch / "data", scratch, count)
        finally:
            spark.stop()
    seconds = time.monotonic() - began
    print(f"{count:,} envelopes sealed, rotated by Spark with two failures, and proven in {seconds:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
