"""After use, no data key and no key derived from one is in the process's memory: counted from outside.

Each program is run a second time with the hygiene taken out, and must then be caught.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.memory.conftest import Kms
from tests.memory.program import SCENARIOS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/PID/mem")


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_left(kms: Kms, scenario: str, count: int, tmp_path: Path) -> None:
    assert kms.hits(scenario, count, tmp_path) == {}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_scan_finds_what_plain_botocore_leaves(kms: Kms, scenario: str, tmp_path: Path) -> None:
    hits = kms.hits(scenario, 1, tmp_path, "all")
    assert hits["raw"] + hits["base64"] > 0


@pytest.mark.parametrize("part", ["wipe", "connections"])
def test_each_part_is_needed(kms: Kms, part: str, tmp_path: Path) -> None:
    hits = kms.hits("several", 5, tmp_path, part)
    assert hits["raw"] + hits["base64"] > 0


def test_openssl_keeps_what_it_decrypted_unless_told_not_to(kms: Kms, tmp_path: Path) -> None:
    hits = kms.hits("encrypt", 1, tmp_path, "cleansing")
    assert (hits["base64"] > 0) == kms.url.startswith("https")
