"""Fixtures for the tests that need no KMS."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

import sealwax
from tests.fakes import ALPHA, FakeKeyring

# A slow machine is no failure, so nothing here is measured in time.
settings.register_profile("sealwax", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sealwax")


@pytest.fixture
def keyring() -> FakeKeyring:
    return FakeKeyring(ALPHA)


@pytest.fixture
def sealer(keyring: FakeKeyring) -> sealwax.Sealer:
    return sealwax.Sealer(keyring)


@pytest.fixture
def context() -> dict[str, str]:
    return {"purpose": "backup"}
