"""The real AWS Encryption SDK works against the lab: one key, multi-Region keys, and discovery."""

from __future__ import annotations

from typing import Any

import aws_encryption_sdk
import boto3
import botocore.session
import pytest
from aws_encryption_sdk.identifiers import CommitmentPolicy
from aws_encryption_sdk.key_providers.kms import (
    DiscoveryAwsKmsMasterKeyProvider,
    MRKAwareStrictAwsKmsMasterKeyProvider,
    StrictAwsKmsMasterKeyProvider,
)

from sealwax.lab import Lab
from sealwax.lab.server import Server
from tests.lab.conftest import client

CONTEXT = {"purpose": "backup"}


@pytest.fixture
def session(server: Server, monkeypatch: pytest.MonkeyPatch) -> botocore.session.Session:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "thing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return boto3.Session()._session


def sealed_and_opened(sealing: Any, opening: Any) -> bytes:
    sdk = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
    sealed, _ = sdk.encrypt(source=b"data", key_provider=sealing, encryption_context=CONTEXT)
    opened, header = sdk.decrypt(source=sealed, key_provider=opening)
    assert CONTEXT.items() <= header.encryption_context.items()
    assert isinstance(opened, bytes)
    return opened


def test_one_key_and_discovery(lab: Lab, session: Any) -> None:
    key = lab.create_key()["Arn"]
    strict = StrictAwsKmsMasterKeyProvider(key_ids=[key], botocore_session=session)
    assert sealed_and_opened(strict, strict) == b"data"
    assert sealed_and_opened(strict, DiscoveryAwsKmsMasterKeyProvider(botocore_session=session)) == b"data"


def test_a_replica_opens_what_the_primary_sealed(lab: Lab, session: Any) -> None:
    kms = client(lab.session())
    key = kms.create_key(MultiRegion=True)["KeyMetadata"]
    replica = kms.replicate_key(KeyId=key["KeyId"], ReplicaRegion="eu-west-1")["ReplicaKeyMetadata"]
    kms.rotate_key_on_demand(KeyId=key["KeyId"])
    sealing = MRKAwareStrictAwsKmsMasterKeyProvider(key_ids=[key["Arn"]], botocore_session=session)
    opening = MRKAwareStrictAwsKmsMasterKeyProvider(key_ids=[replica["Arn"]], botocore_session=session)
    assert sealed_and_opened(sealing, opening) == b"data"
