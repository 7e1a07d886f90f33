"""``python -m tests.soak_fleet [FILES OBJECTS KILLS]``: the fleets of the tests, whole.

100,000 files and 20,000 S3 objects of mixed keys and materials: the plan is exact, a run leaves nothing stale, verify
finds every payload unchanged, a second run makes no call and no write. Then 2,000 files whose runs are killed 200 times
while a reader loops over them; and as many that are re-encrypted so.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sealwax.lab import Lab
from tests.fleet import test_s3, test_whole
from tests.fleet.fleets import Keys, make_keys
from tests.fleet.killing import kill_and_resume
from tests.s3 import StrictS3


def _in_a_folder(work: Callable[[Keys, Path, Path], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="sealwax-soak-") as name:
        folder = Path(name) / "data"
        folder.mkdir()
        with Lab(Path(name) / "lab") as lab:
            work(make_keys(lab), folder, Path(name) / "plan")


def main(files: int, objects: int, kills: int) -> None:
    def whole(keys: Keys, folder: Path, path: Path) -> None:
        test_whole.rotate(keys, folder, path, files)

    def in_s3(keys: Keys, folder: Path, path: Path) -> None:
        with StrictS3() as server:
            test_s3.rotate(keys, server, folder, path, objects)

    def killed(keys: Keys, folder: Path, path: Path) -> None:
        kill_and_resume(keys, folder, path, files=max(10 * kills, 20), kills=kills)

    def killed_anew(keys: Keys, folder: Path, path: Path) -> None:
        kill_and_resume(keys, folder, path, files=max(10 * kills, 20), kills=kills, reencrypt=True)

    for what, work in (
        (f"{files} files", whole),
        (f"{objects} S3 objects", in_s3),
        (f"killed {kills} times", killed),
        (f"killed {kills} times while re-encrypting", killed_anew),
    ):
        start = time.monotonic()
        _in_a_folder(work)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"soak: {what}: {time.monotonic() - start:.0f} s, peak {peak} MiB", flush=True)


if __name__ == "__main__":
    main(*([int(number) for number in sys.argv[1:]] or (100_000, 20_000, 200)))
