"""The real AWS Encryption SDK works against the lab's server: one key, multi-Region keys, and discovery.

Both of its generations: master key providers, and the keyrings of the Material Providers Library.
"""

from __future__ import annotations

from typing import Any

import aws_encryption_sdk
import boto3
import botocore.session
import pytest
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import (
    CreateAwsKmsDiscoveryKeyringInput,
    CreateAwsKmsKeyringInput,
    CreateAwsKmsMrkDiscoveryKeyringInput,
    CreateAwsKmsMrkKeyringInput,
    DiscoveryFilter,
)
from aws_encryption_sdk.identifiers import CommitmentPolicy
from aws_encryption_sdk.key_providers.kms import (
    DiscoveryAwsKmsMasterKeyProvider,
    MRKAwareDiscoveryAwsKmsMasterKeyProvider,
    MRKAwareStrictAwsKmsMasterKeyProvider,
    StrictAwsKmsMasterKeyProvider,
)

from sealwax.lab import Lab, Server
from tests.lab.conftest import client

# From Python 3.13 on, the errors of a file that nobody closed are told: the SDK leaves such files behind.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*streaming_client:pytest.PytestUnraisableExceptionWarning"
)
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
    anywhere = MRKAwareDiscoveryAwsKmsMasterKeyProvider(botocore_session=session, discovery_region="eu-west-1")
    assert sealed_and_opened(sealing, anywhere) == b"data"


class Remote:
    """Clients of the lab's server, and the keyrings of the Material Providers Library over them."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._library = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())

    def kms(self, region: str = "us-east-1") -> Any:
        return self._session.create_client("kms", region_name=region)

    def one(self, key: str) -> Any:
        return self._library.create_aws_kms_keyring(CreateAwsKmsKeyringInput(kms_key_id=key, kms_client=self.kms()))

    def found(self, account: str = "111122223333") -> Any:
        return self._library.create_aws_kms_discovery_keyring(
            CreateAwsKmsDiscoveryKeyringInput(
                kms_client=self.kms(), discovery_filter=DiscoveryFilter(account_ids=[account], partition="aws")
            )
        )

    def multi_region(self, key: str, region: str) -> Any:
        return self._library.create_aws_kms_mrk_keyring(
            CreateAwsKmsMrkKeyringInput(kms_key_id=key, kms_client=self.kms(region))
        )

    def multi_region_found(self, region: str) -> Any:
        return self._library.create_aws_kms_mrk_discovery_keyring(
            CreateAwsKmsMrkDiscoveryKeyringInput(kms_client=self.kms(region), region=region)
        )


def through_keyrings(sealing: Any, opening: Any) -> bytes:
    sdk = aws_encryption_sdk.EncryptionSDKClient()
    sealed, _ = sdk.encrypt(source=b"data", keyring=sealing, encryption_context=CONTEXT)
    opened, header = sdk.decrypt(source=sealed, keyring=opening, encryption_context=CONTEXT)
    assert CONTEXT.items() <= header.encryption_context.items()
    assert isinstance(opened, bytes)
    return opened


def test_keyrings(lab: Lab, session: Any) -> None:
    remote = Remote(session)
    key = lab.create_key()["Arn"]
    assert through_keyrings(remote.one(key), remote.one(key)) == b"data"
    assert through_keyrings(remote.one(key), remote.found()) == b"data"
    asked = [event.record["eventName"] for event in lab.trail.events()]
    assert asked.count("GenerateDataKey") == asked.count("Decrypt") == 2
    with pytest.raises(Exception, match=r"[Uu]nable to decrypt"):
        through_keyrings(remote.one(key), remote.one(lab.create_key()["Arn"]))
    with pytest.raises(Exception, match=r"[Uu]nable to decrypt"):
        through_keyrings(remote.one(key), remote.found("999999999999"))


def test_multi_region_keyrings(lab: Lab, session: Any) -> None:
    remote = Remote(session)
    key = remote.kms().create_key(MultiRegion=True)["KeyMetadata"]
    replica = remote.kms().replicate_key(KeyId=key["KeyId"], ReplicaRegion="eu-west-1")["ReplicaKeyMetadata"]["Arn"]
    sealing = remote.multi_region(key["Arn"], "us-east-1")
    opening = remote.multi_region(replica, "eu-west-1")
    assert through_keyrings(sealing, opening) == b"data"
    remote.kms().rotate_key_on_demand(KeyId=key["KeyId"])
    assert through_keyrings(sealing, opening) == b"data"
    assert through_keyrings(opening, sealing) == b"data"
    assert through_keyrings(sealing, remote.multi_region_found("eu-west-1")) == b"data"
    regions = {(event.record["eventName"], event.record["awsRegion"]) for event in lab.trail.events()}
    assert {("Decrypt", "eu-west-1"), ("Decrypt", "us-east-1"), ("GenerateDataKey", "eu-west-1")} <= regions
