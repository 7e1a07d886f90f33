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
    from sealwax.records import Records

__all__ = ["sealwax_kms", "sealwax_lab", "sealwax_records", "sealwax_session"]


@pytest.fixture
def sealwax_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A new lab, an embedded KMS: docs/how-to/lab.md. ``sealwax_lab.create_key(alias="payments")`` creates a key."""
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


@pytest.fixture
def sealwax_records(sealwax_lab: Lab, sealwax_session: boto3.Session) -> Iterator[Records]:
    """A ``Records`` whose data keys are wrapped by the test's lab and kept in memory. See docs/how-to/testing.md."""
    from sealwax.kms import KmsKeyring
    from sealwax.records import MemoryKeys, Records

    keyring = KmsKeyring(sealwax_lab.create_key(alias="sealwax-records")["Arn"], session=sealwax_session)
    with Records(keyring, MemoryKeys(), scope={"env": "test"}) as records:
        yield records
