"""Every partition and Region that botocore knows is in its own partition: for a scope, for events and in the lab."""

from __future__ import annotations

from pathlib import Path

import botocore.session
import pytest
from botocore.loaders import create_loader

import sealwax
from sealwax._aws.partitions import partition_of
from sealwax.audit._collect.cloudtrail import event_of
from sealwax.lab import Lab

ACCOUNT = "111122223333"


def _regions() -> list[tuple[str, str]]:
    found = create_loader().load_data("endpoints")["partitions"]
    return [(partition["partition"], region) for partition in found for region in partition["regions"]]


def test_each_partition_is_known() -> None:
    regions = _regions()
    assert len(regions) >= 40
    assert {partition for partition, _ in regions} == set(botocore.session.get_session().get_available_partitions())
    for partition, region in regions:
        assert partition_of(region) == partition
        assert sealwax.KeyScope(ACCOUNT, region).partition == partition
    assert partition_of("eusc-fr-west-7") == "aws-eusc"  # opened after this release


@pytest.mark.parametrize(
    "region", ["eu-isoe-west-1", "us-isof-south-1", "eusc-de-east-1", "us-iso-east-1", "cn-north-1"]
)
def test_the_lab_and_events_go_by_it(region: str, tmp_path: Path) -> None:
    partition = partition_of(region)
    with Lab(tmp_path / "lab") as lab:
        key = lab.create_key(alias="demo", region=region)
        assert key["Arn"].startswith(f"arn:{partition}:kms:{region}:{ACCOUNT}:key/")
        assert lab.call("DescribeKey", region=region, KeyId=key["Arn"])["KeyMetadata"]["KeyId"] == key["KeyId"]
        policy = lab.call("GetKeyPolicy", region=region, KeyId=key["KeyId"])["Policy"]
        assert f"arn:{partition}:iam::{ACCOUNT}:root" in policy
        session = lab.session(region)
        keyring = sealwax.KmsKeyring(key["Arn"], decrypt_with=[sealwax.KeyScope(ACCOUNT, region)], session=session)
        sealer = sealwax.Sealer(keyring)
        assert sealer.decrypt(sealer.encrypt(b"value", context={"a": "b"}), context={"a": "b"}) == b"value"
    event = event_of(
        {
            "eventSource": "kms.amazonaws.com",
            "eventID": "1",
            "eventName": "Decrypt",
            "eventTime": "2026-01-01T00:00:00Z",
            "awsRegion": region,
            "userIdentity": {"accountId": ACCOUNT},
            "recipientAccountId": "444455556666",
        }
    )
    assert event is not None
    assert event.principal == f"arn:{partition}:iam::{ACCOUNT}:root"
