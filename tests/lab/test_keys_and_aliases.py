"""Keys and aliases: how they are made, named, listed and refused."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from sealwax.lab import Lab
from tests.lab.conftest import client
from tests.lab.refusal import refused

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient


def test_a_new_key_is_described_in_full(kms: KMSClient) -> None:
    made = kms.create_key(Description="payments")["KeyMetadata"]
    assert kms.describe_key(KeyId=made["KeyId"])["KeyMetadata"] == made
    assert made["Arn"] == f"arn:aws:kms:us-east-1:111122223333:key/{made['KeyId']}"
    assert made["Enabled"] is True
    assert made["KeyState"] == "Enabled"
    assert made["Description"] == "payments"
    assert made["KeyUsage"] == "ENCRYPT_DECRYPT"
    assert made["KeySpec"] == made["CustomerMasterKeySpec"] == "SYMMETRIC_DEFAULT"
    assert made["Origin"] == "AWS_KMS"
    assert made["KeyManager"] == "CUSTOMER"
    assert made["MultiRegion"] is False
    assert len(made["CurrentKeyMaterialId"]) == 64


@pytest.mark.parametrize("region", ["eu-central-1", "cn-north-1", "us-gov-west-1"])
def test_a_key_lives_in_the_region_of_the_request(lab: Lab, kms: KMSClient, region: str) -> None:
    there = client(lab.session(region))
    made = there.create_key()["KeyMetadata"]
    partition = {"cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov"}.get(region, "aws")
    assert made["Arn"] == f"arn:{partition}:kms:{region}:111122223333:key/{made['KeyId']}"
    there.encrypt(KeyId=made["Arn"], Plaintext=b"x")
    with refused("NotFoundException") as refusal:
        kms.describe_key(KeyId=made["KeyId"])
    assert "does not exist" in refusal.message
    with refused("NotFoundException") as refusal:
        kms.encrypt(KeyId=made["Arn"], Plaintext=b"x")
    assert refusal.message == f"Invalid arn {region}"


def test_every_form_of_a_name_works(kms: KMSClient) -> None:
    made = kms.create_key()["KeyMetadata"]
    kms.create_alias(AliasName="alias/demo", TargetKeyId=made["Arn"])
    for name in (
        made["KeyId"],
        made["Arn"],
        "alias/demo",
        "arn:aws:kms:us-east-1:111122223333:alias/demo",
    ):
        assert kms.encrypt(KeyId=name, Plaintext=b"x")["KeyId"] == made["Arn"]
        blob = kms.encrypt(KeyId=name, Plaintext=b"x")["CiphertextBlob"]
        assert kms.decrypt(KeyId=name, CiphertextBlob=blob)["KeyId"] == made["Arn"]
        assert kms.describe_key(KeyId=name)["KeyMetadata"]["KeyId"] == made["KeyId"]


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("nonsense", "NotFoundException", "Invalid keyId 'nonsense'"),
        ("alias/missing", "NotFoundException", "Alias arn:aws:kms:us-east-1:111122223333:alias/missing is not found."),
        ("arn:aws:kms:us-east-1:111122223333:alias/missing", "NotFoundException", "Alias arn"),
        (str(uuid.UUID(int=7)), "NotFoundException", "Key 'arn:aws:kms:us-east-1:111122223333:key/00000000"),
        (f"arn:aws:kms:us-east-1:111122223333:key/{uuid.UUID(int=7)}", "NotFoundException", "Key 'arn"),
        ("arn:aws:kms:eu-west-1:111122223333:alias/x", "NotFoundException", "Invalid arn eu-west-1"),
        ("arn:aws:kms:nonsense", "NotFoundException", "Invalid arn"),
        (
            f"arn:aws-cn:kms:us-east-1:111122223333:key/{uuid.UUID(int=7)}",
            "NotFoundException",
            "Invalid arn arn:aws-cn",
        ),
        (f"arn:aws:kms:us-east-1:444455556666:key/{uuid.UUID(int=7)}", "AccessDeniedException", "User: arn:aws:iam"),
    ],
)
def test_names_of_no_key(kms: KMSClient, name: str, code: str, message: str) -> None:
    with refused(code) as refusal:
        kms.encrypt(KeyId=name, Plaintext=b"x")
    assert refusal.message.startswith(message)


def test_operations_on_the_key_itself_take_no_alias_and_know_bad_arns(kms: KMSClient) -> None:
    kms.create_alias(AliasName="alias/demo", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    with refused("InvalidArnException") as refusal:
        kms.disable_key(KeyId="alias/demo")
    assert refusal.message == "Key Aliases are not supported for this operation"
    with refused("InvalidArnException"):
        kms.describe_key(KeyId="arn:aws:kms:nonsense")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"KeyId": "k" * 2049}, "at 'keyId' failed to satisfy constraint: Member must have length less than or equal"),
        (
            {"KeyId": "k", "KeySpec": "AES_512"},
            "Value 'AES_512' at 'keySpec' failed to satisfy constraint: Member must",
        ),
        ({"KeyId": "k", "NumberOfBytes": 1025}, "Value '1025' at 'numberOfBytes' failed to satisfy constraint"),
    ],
)
def test_parameters_out_of_bounds_are_told_in_the_words_of_aws(
    kms: KMSClient, arguments: dict[str, object], message: str
) -> None:
    with refused("ValidationException") as refusal:
        kms.generate_data_key(**arguments)  # type: ignore[arg-type]
    assert refusal.message.startswith("1 validation error detected: ")
    assert message in refusal.message


def test_several_problems_are_counted(kms: KMSClient) -> None:
    with refused("ValidationException") as refusal:
        kms.create_alias(AliasName="alias/what is this", TargetKeyId="k" * 2049)
    assert refusal.message.startswith("2 validation errors detected: Value 'alias/what is this' at 'aliasName'")


def test_an_alias_can_be_moved_and_deleted(kms: KMSClient) -> None:
    first, second = (kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(2))
    kms.create_alias(AliasName="alias/demo", TargetKeyId=first)
    with refused("AlreadyExistsException"):
        kms.create_alias(AliasName="alias/demo", TargetKeyId=second)
    kms.update_alias(AliasName="alias/demo", TargetKeyId=second)
    assert kms.describe_key(KeyId="alias/demo")["KeyMetadata"]["KeyId"] == second
    kms.delete_alias(AliasName="alias/demo")
    with refused("NotFoundException"):
        kms.describe_key(KeyId="alias/demo")
    with refused("NotFoundException"):
        kms.delete_alias(AliasName="alias/demo")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("demo", "ValidationException"),
        ("alias/", "InvalidAliasNameException"),
        ("alias/aws/demo", "NotAuthorizedException"),
        ("alias/a:b", "ValidationException"),
        ("alias/a b", "ValidationException"),
    ],
)
def test_names_that_no_alias_can_have(kms: KMSClient, name: str, code: str) -> None:
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    with refused(code):
        kms.create_alias(AliasName=name, TargetKeyId=key)


def test_an_alias_cannot_point_at_an_alias(kms: KMSClient) -> None:
    kms.create_alias(AliasName="alias/demo", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    with refused("ValidationException"):
        kms.create_alias(AliasName="alias/other", TargetKeyId="alias/demo")


def test_a_key_has_at_most_fifty_aliases(kms: KMSClient) -> None:
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    for number in range(50):
        kms.create_alias(AliasName=f"alias/{number}", TargetKeyId=key)
    with refused("LimitExceededException"):
        kms.create_alias(AliasName="alias/one-more", TargetKeyId=key)


def test_listings_come_in_pages(lab: Lab, kms: KMSClient) -> None:
    keys = sorted(kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(5))
    for number in range(5):
        kms.create_alias(AliasName=f"alias/{number}", TargetKeyId=keys[number % 2])
    page = kms.list_keys(Limit=2)
    assert page["Truncated"] is True
    paged = kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2})
    assert [key["KeyId"] for answer in paged for key in answer["Keys"]] == keys
    aliases = kms.get_paginator("list_aliases").paginate(PaginationConfig={"PageSize": 2})
    assert [alias["AliasName"] for answer in aliases for alias in answer["Aliases"]] == [f"alias/{n}" for n in range(5)]
    assert [alias["AliasName"] for alias in kms.list_aliases(KeyId=keys[1])["Aliases"]] == ["alias/1", "alias/3"]
    assert client(lab.session("eu-west-1")).list_keys()["Keys"] == []
    with refused("InvalidMarkerException"):
        kms.list_keys(Marker="nonsense")


def test_creating_a_key_with_an_alias_is_both_or_neither(lab: Lab, kms: KMSClient) -> None:
    lab.create_key(alias="demo")
    with pytest.raises(Exception, match="AlreadyExistsException"):
        lab.create_key(alias="alias/demo")
    assert len(kms.list_keys()["Keys"]) == 1
