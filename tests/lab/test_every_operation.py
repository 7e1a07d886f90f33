"""Every operation that the lab implements succeeds once, over the wire, with an answer that fits botocore's model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from sealwax.lab import Lab
from sealwax.lab._call import OPERATIONS
from sealwax.lab._wire import HttpRequest, HttpResponse
from tests.lab import validator
from tests.lab.conftest import client
from tests.lab.test_lifecycle import wrapped

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

ROOT = "arn:aws:iam::111122223333:root"


@pytest.fixture
def answered(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The operations that were answered with success, and the bytes of their last answer."""
    seen: dict[str, int] = {}
    handle = lab._gateway.handle  # the one that holds each answer against the model

    def counted(request: HttpRequest) -> HttpResponse:
        response = handle(request)
        if response.status == 200:
            seen[request.headers["x-amz-target"].removeprefix("TrentService.")] = len(response.body)
        return response

    monkeypatch.setattr(lab._gateway, "handle", counted)
    return seen


def use_cryptography(kms: KMSClient, key: str) -> None:
    made = kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    kms.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_128")
    kms.generate_random(NumberOfBytes=8)
    kms.encrypt(KeyId=key, Plaintext=b"x")
    kms.decrypt(CiphertextBlob=made["CiphertextBlob"])
    kms.re_encrypt(CiphertextBlob=made["CiphertextBlob"], DestinationKeyId=key)


def use_keys_and_aliases(kms: KMSClient, key: str) -> None:
    kms.describe_key(KeyId=key)
    kms.get_key_last_usage(KeyId=key)
    kms.update_key_description(KeyId=key, Description="a key")
    kms.disable_key(KeyId=key)
    kms.enable_key(KeyId=key)
    kms.list_keys()
    kms.create_alias(AliasName="alias/one", TargetKeyId=key)
    kms.update_alias(AliasName="alias/one", TargetKeyId=key)
    assert kms.list_aliases()["Aliases"]
    kms.delete_alias(AliasName="alias/one")


def use_policies_tags_and_grants(kms: KMSClient, key: str) -> None:
    kms.put_key_policy(KeyId=key, Policy=kms.get_key_policy(KeyId=key)["Policy"])
    assert kms.list_key_policies(KeyId=key)["PolicyNames"] == ["default"]
    kms.tag_resource(KeyId=key, Tags=[{"TagKey": "a", "TagValue": "b"}])
    assert kms.list_resource_tags(KeyId=key)["Tags"]
    kms.untag_resource(KeyId=key, TagKeys=["a"])
    asked: Any = {
        "KeyId": key,
        "GranteePrincipal": ROOT,
        "RetiringPrincipal": ROOT,
        "Operations": ["Decrypt"],
        "Constraints": {"EncryptionContextSubset": {"a": "b"}},
        "Name": "one",
    }
    grant = kms.create_grant(**asked)["GrantId"]
    assert kms.list_grants(KeyId=key)["Grants"]
    assert kms.list_retirable_grants(RetiringPrincipal=ROOT)["Grants"]
    kms.revoke_grant(KeyId=key, GrantId=grant)
    kms.retire_grant(GrantToken=kms.create_grant(**asked)["GrantToken"])


def use_rotation(kms: KMSClient, key: str) -> None:
    kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=90)
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    kms.rotate_key_on_demand(KeyId=key)
    assert len(kms.list_key_rotations(KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]) == 2
    kms.disable_key_rotation(KeyId=key)


def use_regions(lab: Lab, kms: KMSClient) -> None:
    key = kms.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    assert kms.replicate_key(KeyId=key, ReplicaRegion="eu-west-1")["ReplicaKeyMetadata"]["Enabled"]
    kms.update_primary_region(KeyId=key, PrimaryRegion="eu-west-1")
    shown = client(lab.session("eu-west-1")).describe_key(KeyId=key)["KeyMetadata"]
    assert shown["MultiRegionConfiguration"]["MultiRegionKeyType"] == "PRIMARY"


def use_imports(kms: KMSClient) -> None:
    key = kms.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
    given = wrapped(kms, key, os.urandom(32))
    kms.import_key_material(**given, ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE")
    kms.delete_imported_key_material(KeyId=key)


def test_every_operation_succeeds_as_the_model_says(lab: Lab, kms: KMSClient, answered: dict[str, int]) -> None:
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    use_cryptography(kms, key)
    use_keys_and_aliases(kms, key)
    use_policies_tags_and_grants(kms, key)
    use_rotation(kms, key)
    use_regions(lab, kms)
    use_imports(kms)
    kms.schedule_key_deletion(KeyId=key)
    kms.cancel_key_deletion(KeyId=key)
    assert set(answered) == set(OPERATIONS)
    assert len(answered) == 40
    # Where the model has an output, something was in it.
    for name, size in answered.items():
        shape = validator.model("kms").operation_model(name).output_shape
        assert size > 2 or shape is None or not shape.members, name


def test_the_check_can_fail() -> None:
    shape = validator.model("kms").operation_model("Encrypt").output_shape
    wrong: list[Any] = [{"KeyID": "k"}, {"KeyId": 7}, {"CiphertextBlob": ""}, {"EncryptionAlgorithm": "ROT13"}, []]
    for answer in wrong:
        assert validator.problems(shape, answer), answer
