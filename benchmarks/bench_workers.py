"""Many small files on the command line: with a KMS that answers late, and with one that answers at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.measure import Row, seconds
from sealwax.lab import Lab

_SEALWAX: Final = str(Path(sys.executable).parent / "sealwax")
_FILES: Final = 500
_WORKERS: Final = 8
_LATENCY_SECONDS: Final = 0.05
# Of the best that so many workers can do; the rest is the start, and the files until the workers begin.
_AT_MOST: Final = 1.3


def rows(folder: Path) -> Iterator[Row]:
    source, out, lab = folder / "many", folder / "many-out", folder / "many-lab"
    source.mkdir()
    for number in range(_FILES):
        (source / str(number)).write_bytes(os.urandom(2000))

    def encrypt(workers: int) -> None:
        shutil.rmtree(out, ignore_errors=True)
        options = ["--quiet", "--lab", str(lab), "-k", "alias/bench", "-c", "purpose=bench", "--workers", str(workers)]
        subprocess.run([_SEALWAX, "encrypt", *options, "-r", "-o", str(out), str(source)], check=True)

    with Lab(lab) as opened:
        opened.create_key(alias="bench")
        found = seconds({"many": lambda: encrypt(_WORKERS), "one": lambda: encrypt(1)})
        yield Row(f"encrypt, {_FILES} files, KMS at once", found["many"], "one worker", found["one"])
        opened.faults.add("us-east-1", "latency", 1000 * _LATENCY_SECONDS, operation=None, code=None, seed=0)
        ours, bound = seconds({"ours": lambda: encrypt(_WORKERS)})["ours"], _FILES * _LATENCY_SECONDS / _WORKERS
        yield Row(
            f"encrypt, {_FILES} files, KMS after {1000 * _LATENCY_SECONDS:.0f} ms",
            ours,
            f"the waits / {_WORKERS}",
            bound,
            None,
            f">= {1 / _AT_MOST:.2f}",
            ours <= _AT_MOST * bound,
        )
    for each in (source, out, lab):
        shutil.rmtree(each)
