"""Fixtures for the test suites of programs that use KMS: a lab in process, with no server and no AWS account.

They are found by ``pytest --fixtures`` once sealwax is installed. boto3 is imported when a test asks for a session.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import boto3

    from sealwax.lab import Lab

__all__ = ["sealwax_kms", "sealwax_lab", "sealwax_session"]


@pytest.fixture
def sealwax_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An embedded KMS of the test's own; see docs/lab.md. ``sealwax_lab.create_key(alias="payments")`` makes a key."""
    from sealwax.lab import Lab

    with Lab(Path(tmp_path_factory.mktemp("sealwax-lab"))) as lab:
        yield lab


@pytest.fixture
def sealwax_session(sealwax_lab: Lab) -> boto3.Session:
    """A boto3 session whose KMS, STS and CloudTrail clients are answered by the test's lab, as its account's root."""
    return sealwax_lab.session(account="111122223333")


@pytest.fixture
def sealwax_kms(sealwax_session: boto3.Session) -> Any:
    """A boto3 KMS client of the test's lab, as its account's root."""
    return sealwax_session.client("kms")
