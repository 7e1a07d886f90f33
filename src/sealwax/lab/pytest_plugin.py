"""pytest fixtures for programs that use KMS: a lab in process, without a server and an AWS account.

``pytest --fixtures`` lists them once sealwax is installed. Nothing heavy is imported until a test uses one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_kms import KMSClient

    from sealwax.lab import Lab

__all__ = ["sealwax_kms", "sealwax_lab", "sealwax_session"]


@pytest.fixture
def sealwax_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A new lab, an embedded KMS. ``sealwax_lab.create_key(alias="payments")`` creates a key. See docs/lab.md."""
    from sealwax.lab import Lab

    with Lab(Path(tmp_path_factory.mktemp("sealwax-lab"))) as lab:
        yield lab


@pytest.fixture
def sealwax_session(sealwax_lab: Lab) -> boto3.Session:
    """A boto3 session whose KMS, STS and CloudTrail clients use the test's lab, as the account's root."""
    return sealwax_lab.session(account="111122223333")


@pytest.fixture
def sealwax_kms(sealwax_session: boto3.Session) -> KMSClient:
    """A boto3 KMS client that uses the test's lab, as the account's root."""
    return sealwax_session.client("kms")
