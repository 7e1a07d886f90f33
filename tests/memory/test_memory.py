"""After use, no data key and no key derived from one is in the process's memory: counted from outside.

Programs are also run with the hygiene taken out, and must then be caught: a few here, each of them in `make soak`.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from tests.memory.conftest import Kms
from tests.memory.program import SCENARIOS

# Those whose copies are of an answer, of a file's key and of a key that a cache has kept.
CAUGHT = ("encrypt", "reencrypt", "cache_expired")
assert set(CAUGHT) < set(SCENARIOS)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/PID/mem")


@pytest.mark.parametrize("count", [1, pytest.param(5, marks=pytest.mark.soak)])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_left(kms: Kms, scenario: str, count: int, tmp_path: Path) -> None:
    assert kms.hits(scenario, count, tmp_path) == {}


def found_at_all(kms: Kms, scenario: str, count: int, folder: Path, part: str, forms: tuple[str, ...]) -> bool:
    """Whether copies are found in one of some runs: what takes the place of a freed buffer is chance."""
    for run in range(8):
        (folder / str(run)).mkdir()
        hits = kms.hits(scenario, count, folder / str(run), part)
        if any(hits[form] for form in forms):
            return True
    return False


@pytest.mark.parametrize(
    "scenario", [pytest.param(name, marks=[] if name in CAUGHT else pytest.mark.soak) for name in SCENARIOS]
)
def test_the_scan_finds_what_plain_botocore_leaves(kms: Kms, scenario: str, tmp_path: Path) -> None:
    assert found_at_all(kms, scenario, 1, tmp_path, "all", ("data key raw", "data key base64"))


@pytest.mark.parametrize(
    ("scenario", "count"), [("several", 5), *((name, 1) for name in SCENARIOS if name.startswith("cache_"))]
)
def test_wiping_is_needed(kms: Kms, scenario: str, count: int, tmp_path: Path) -> None:
    assert found_at_all(kms, scenario, count, tmp_path, "wipe", ("data key raw", "data key base64"))


def test_registers_are_overwritten_because_openssl_leaves_round_keys_in_them(kms: Kms, tmp_path: Path) -> None:
    hits = kms.hits("empty", 1, tmp_path, "registers")
    flags = set(Path("/proc/cpuinfo").read_text().split())
    # Other processors are served by code that has fewer registers, which what follows overwrites soon.
    # So do the string functions of newer releases of glibc.
    old_glibc = tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 41)
    if old_glibc and {"avx512f", "avx512dq", "avx512bw", "avx512vl", "vaes", "vpclmulqdq"} <= flags:
        assert hits["payload key raw in a register"]
