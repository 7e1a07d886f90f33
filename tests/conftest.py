"""Fixtures for the tests that need no KMS."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import sealwax
from tests import models
from tests.fakes import ALPHA, FakeKeyring

HERE = Path(__file__).parent

# Started in the background, or under nohup, the suite has these ignored, and so would the programs that it interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# What tests write by hand is read as a file that only its owner may write, and nobody else's umask decides that.
os.umask(0o022)

# The folders of tests are in memory where there is room: on a disk, much of the time goes into waiting for each fsync.
MEMORY = Path("/dev/shm")
ROOM_BYTES = 8 << 30
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# A slow machine is no failure, so nothing here is measured in time.
settings.register_profile("sealwax", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sealwax")


# What `make quick` leaves to `make test`, by folder or file: programs that are started, killed and scanned, servers of
# S3, and files in which each test gathers an account or proves a key.
TIERS = {
    "audit/test_followed_live.py": "slow",
    "audit/test_live_record.py": "slow",
    "audit/test_resuming.py": "slow",
    "cli/test_record_moves.py": "slow",
    "django": "slow",
    "docs": "slow",
    "examples": "slow",
    "faults": "slow",
    "fleet": "slow",
    "foreign/test_migrate.py": "slow",
    "foreign/test_mutations.py": "slow",
    "foreign/test_s3ec_refusals.py": "slow",
    "foreign/test_s3ec_rewrap.py": "slow",
    "foreign/test_vectors_by_every_reader.py": "slow",
    "forks": "slow",
    "memory": "slow",
    "orm": "slow",
    "prove/test_bad_days.py": "slow",
    "prove/test_never_passed.py": "slow",
    "records/test_databases.py": "slow",
    "records/test_moving_columns.py": "slow",
    "records/test_reseal.py": "slow",
    "records/test_rotation.py": "slow",
    "regions": "slow",
    "rehearse": "slow",
    "spark": "java",
    "stores": "slow",
}
assert all((HERE / name).exists() for name in TIERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path = item.path.relative_to(HERE)
        if tier := TIERS.get(path.parts[0], TIERS.get(path.as_posix())):
            item.add_marker(tier)


@pytest.fixture(scope="session", autouse=True)
def _models() -> Iterator[None]:
    with models.open_stream():
        yield


@pytest.fixture
def keyring() -> FakeKeyring:
    return FakeKeyring(ALPHA)


@pytest.fixture
def sealer(keyring: FakeKeyring) -> sealwax.Sealer:
    return sealwax.Sealer(keyring)


@pytest.fixture
def context() -> dict[str, str]:
    return {"purpose": "backup"}
