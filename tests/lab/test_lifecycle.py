"""States, deletion, rotation, Regions, imported material and custom key stores."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sealwax.lab import Lab
from tests.lab.conftest import Clock, client
from tests.lab.refusal import refused

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

DAY = 86400


@pytest.fixture
def key(kms: KMSClient) -> str:
    return kms.create_key()["KeyMetadata"]["Arn"]


def state(kms: KMSClient, key: str) -> str:
    return kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]


def test_deletion_waits_can_be_cancelled_and_comes(kms: KMSClient, key: str, clock: Clock) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    kms.create_alias(AliasName="alias/going", TargetKeyId=key)
    said = kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert said["KeyState"] == "PendingDeletion"
    assert said["DeletionDate"].timestamp() == clock.now + 7 * DAY
    attempts: list[Callable[[], object]] = [
        lambda: kms.decrypt(CiphertextBlob=blob),
        lambda: kms.encrypt(KeyId=key, Plaintext=b"x"),
        lambda: kms.enable_key(KeyId=key),
        lambda: kms.disable_key(KeyId=key),
        lambda: kms.schedule_key_deletion(KeyId=key),
        lambda: kms.tag_resource(KeyId=key, Tags=[]),
        lambda: kms.create_alias(AliasName="alias/more", TargetKeyId=key),
        lambda: kms.create_grant(KeyId=key, GranteePrincipal="arn:aws:iam::111122223333:root", Operations=["Encrypt"]),
    ]
    for attempt in attempts:
        with refused("KMSInvalidStateException") as refusal:
            attempt()
        assert refusal.message == f"{key} is pending deletion."
    kms.cancel_key_deletion(KeyId=key)
    assert state(kms, key) == "Disabled"
    with refused("KMSInvalidStateException"):
        kms.cancel_key_deletion(KeyId=key)
    kms.enable_key(KeyId=key)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    clock.now += 7 * DAY
    with refused("NotFoundException"):
        kms.describe_key(KeyId=key)
    with refused("NotFoundException"):
        kms.describe_key(KeyId="alias/going")
    with refused("AccessDeniedException"):
        kms.decrypt(CiphertextBlob=blob)


@pytest.mark.parametrize("days", [6, 31])
def test_the_waiting_time_has_bounds(kms: KMSClient, key: str, days: int) -> None:
    with refused("ValidationException"):
        kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=days)


def test_a_rotation_on_demand_gives_new_material_and_keeps_the_old(kms: KMSClient, key: str) -> None:
    before = kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    kms.rotate_key_on_demand(KeyId=key)
    after = kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    assert before["KeyMaterialId"] != after["KeyMaterialId"]
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"] == after["KeyMaterialId"]
    opened = kms.decrypt(CiphertextBlob=before["CiphertextBlob"])
    assert (opened["Plaintext"], opened["KeyMaterialId"]) == (before["Plaintext"], before["KeyMaterialId"])
    moved = kms.re_encrypt(CiphertextBlob=before["CiphertextBlob"], DestinationKeyId=key)
    assert moved["SourceKeyMaterialId"] == before["KeyMaterialId"]
    assert moved["DestinationKeyMaterialId"] == after["KeyMaterialId"]
    rotations = kms.list_key_rotations(KeyId=key)["Rotations"]
    assert [(one["KeyMaterialId"], one["RotationType"]) for one in rotations] == [(after["KeyMaterialId"], "ON_DEMAND")]
    pages = kms.get_paginator("list_key_rotations").paginate(
        KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL", PaginationConfig={"PageSize": 1}
    )
    everything = [one for page in pages for one in page["Rotations"]]
    assert [(one["KeyMaterialId"], one["KeyMaterialState"]) for one in everything] == [
        (before["KeyMaterialId"], "NON_CURRENT"),
        (after["KeyMaterialId"], "CURRENT"),
    ]


def test_rotations_on_demand_are_limited(kms: KMSClient, key: str) -> None:
    for _ in range(25):
        kms.rotate_key_on_demand(KeyId=key)
    with refused("LimitExceededException"):
        kms.rotate_key_on_demand(KeyId=key)


def test_rotation_by_the_calendar(kms: KMSClient, key: str, clock: Clock) -> None:
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"] is False
    kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=90)
    said = kms.get_key_rotation_status(KeyId=key)
    assert (said["KeyRotationEnabled"], said["RotationPeriodInDays"]) == (True, 90)
    assert said["NextRotationDate"].timestamp() == clock.now + 90 * DAY
    first = kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"]
    clock.now += 200 * DAY
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"] != first
    assert [one["RotationType"] for one in kms.list_key_rotations(KeyId=key)["Rotations"]] == ["AUTOMATIC"] * 2
    kms.disable_key_rotation(KeyId=key)
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"] is False
    with refused("ValidationException"):
        kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=2561)
    kms.disable_key(KeyId=key)
    with refused("DisabledException"):
        kms.enable_key_rotation(KeyId=key)


def test_a_multi_region_key_opens_everywhere_before_and_after_a_rotation(lab: Lab, kms: KMSClient) -> None:
    primary = kms.create_key(MultiRegion=True)["KeyMetadata"]
    assert primary["KeyId"].startswith("mrk-")
    assert primary["MultiRegionConfiguration"]["MultiRegionKeyType"] == "PRIMARY"
    there = client(lab.session("eu-west-1"))
    early = kms.encrypt(KeyId=primary["KeyId"], Plaintext=b"early")["CiphertextBlob"]
    with refused("AccessDeniedException"):
        there.decrypt(CiphertextBlob=early)
    made = kms.replicate_key(KeyId=primary["KeyId"], ReplicaRegion="eu-west-1", Tags=[{"TagKey": "a", "TagValue": "b"}])
    replica = made["ReplicaKeyMetadata"]
    assert replica["Arn"] == primary["Arn"].replace("us-east-1", "eu-west-1")
    assert replica["CurrentKeyMaterialId"] == primary["CurrentKeyMaterialId"]
    assert made["ReplicaTags"] == there.list_resource_tags(KeyId=replica["KeyId"])["Tags"]
    assert there.decrypt(CiphertextBlob=early, KeyId=replica["Arn"])["Plaintext"] == b"early"
    kms.rotate_key_on_demand(KeyId=primary["KeyId"])
    late = kms.encrypt(KeyId=primary["KeyId"], Plaintext=b"late")["CiphertextBlob"]
    for blob, plaintext in ((early, b"early"), (late, b"late")):
        opened = there.decrypt(CiphertextBlob=blob)
        assert (opened["Plaintext"], opened["KeyId"]) == (plaintext, replica["Arn"])
    current = [one.describe_key(KeyId=primary["KeyId"])["KeyMetadata"] for one in (kms, there)]
    assert current[0]["CurrentKeyMaterialId"] == current[1]["CurrentKeyMaterialId"] != primary["CurrentKeyMaterialId"]
    family = current[0]["MultiRegionConfiguration"]
    assert family["ReplicaKeys"] == [{"Arn": replica["Arn"], "Region": "eu-west-1"}]
    there.disable_key(KeyId=replica["KeyId"])
    assert kms.decrypt(CiphertextBlob=late)["Plaintext"] == b"late"


def test_the_primary_moves_and_waits_for_its_replicas(lab: Lab, kms: KMSClient, clock: Clock) -> None:
    key = kms.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    kms.replicate_key(KeyId=key, ReplicaRegion="eu-west-1")
    there = client(lab.session("eu-west-1"))
    with refused("AlreadyExistsException"):
        kms.replicate_key(KeyId=key, ReplicaRegion="eu-west-1")
    with refused("UnsupportedOperationException"):
        there.replicate_key(KeyId=key, ReplicaRegion="eu-west-2")
    with refused("UnsupportedOperationException"):
        there.rotate_key_on_demand(KeyId=key)
    with refused("NotFoundException"):
        kms.update_primary_region(KeyId=key, PrimaryRegion="eu-west-2")
    kms.update_primary_region(KeyId=key, PrimaryRegion="eu-west-1")
    kinds = [
        one.describe_key(KeyId=key)["KeyMetadata"]["MultiRegionConfiguration"]["MultiRegionKeyType"]
        for one in (kms, there)
    ]
    assert kinds == ["REPLICA", "PRIMARY"]
    assert there.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)["KeyState"] == "PendingReplicaDeletion"
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    clock.now += 7 * DAY
    with refused("NotFoundException"):
        kms.describe_key(KeyId=key)
    assert state(there, key) == "PendingDeletion"
    clock.now += 7 * DAY
    with refused("NotFoundException"):
        there.describe_key(KeyId=key)


def test_a_single_region_key_is_not_replicated(kms: KMSClient, key: str) -> None:
    with refused("UnsupportedOperationException"):
        kms.replicate_key(KeyId=key, ReplicaRegion="eu-west-1")


# imported material


def wrapped(kms: KMSClient, key: str, material: bytes, algorithm: Any = "RSAES_OAEP_SHA_256") -> dict[str, Any]:
    given = kms.get_parameters_for_import(KeyId=key, WrappingAlgorithm=algorithm, WrappingKeySpec="RSA_2048")
    public = serialization.load_der_public_key(given["PublicKey"])
    assert isinstance(public, rsa.RSAPublicKey)
    digest: hashes.HashAlgorithm = hashes.SHA1() if algorithm.endswith("SHA_1") else hashes.SHA256()
    oaep = padding.OAEP(padding.MGF1(digest), digest, None)
    if algorithm.startswith("RSA_AES"):
        inner = os.urandom(32)
        content = public.encrypt(inner, oaep) + keywrap.aes_key_wrap_with_padding(inner, material)
    else:
        content = public.encrypt(material, oaep)
    return {"KeyId": key, "ImportToken": given["ImportToken"], "EncryptedKeyMaterial": content}


FOREVER: Any = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}


@pytest.fixture
def bare(kms: KMSClient) -> str:
    return kms.create_key(Origin="EXTERNAL")["KeyMetadata"]["Arn"]


@pytest.mark.parametrize(
    "algorithm",
    ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256"],
)
def test_material_is_imported(kms: KMSClient, bare: str, algorithm: str) -> None:
    assert state(kms, bare) == "PendingImport"
    with refused("KMSInvalidStateException") as refusal:
        kms.encrypt(KeyId=bare, Plaintext=b"x")
    assert refusal.message == f"{bare} is pending import."
    said = kms.import_key_material(**wrapped(kms, bare, os.urandom(32), algorithm), **FOREVER)
    described = kms.describe_key(KeyId=bare)["KeyMetadata"]
    assert described["KeyState"] == "Enabled"
    assert described["CurrentKeyMaterialId"] == said["KeyMaterialId"]
    assert described["ExpirationModel"] == "KEY_MATERIAL_DOES_NOT_EXPIRE"
    blob = kms.encrypt(KeyId=bare, Plaintext=b"x")["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=blob)["KeyMaterialId"] == said["KeyMaterialId"]


def test_material_is_deleted_and_only_the_same_comes_back(kms: KMSClient, bare: str) -> None:
    material = os.urandom(32)
    kms.import_key_material(**wrapped(kms, bare, material), **FOREVER)
    blob = kms.encrypt(KeyId=bare, Plaintext=b"x")["CiphertextBlob"]
    kms.delete_imported_key_material(KeyId=bare)
    assert state(kms, bare) == "PendingImport"
    with refused("KMSInvalidStateException"):
        kms.decrypt(CiphertextBlob=blob)
    with refused("IncorrectKeyMaterialException"):
        kms.import_key_material(**wrapped(kms, bare, os.urandom(32)), **FOREVER)
    kms.import_key_material(**wrapped(kms, bare, material), **FOREVER)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"


def test_material_expires(kms: KMSClient, bare: str, clock: Clock) -> None:
    with refused("ValidationException"):
        kms.import_key_material(**wrapped(kms, bare, os.urandom(32)))
    kms.import_key_material(**wrapped(kms, bare, os.urandom(32)), ValidTo=datetime.fromtimestamp(clock.now + 60, UTC))
    described = kms.describe_key(KeyId=bare)["KeyMetadata"]
    assert described["ValidTo"].timestamp() == clock.now + 60
    clock.now += 60
    assert state(kms, bare) == "PendingImport"


def test_imported_material_rotates_on_demand(kms: KMSClient, bare: str) -> None:
    first = kms.import_key_material(**wrapped(kms, bare, os.urandom(32)), **FOREVER)["KeyMaterialId"]
    blob = kms.encrypt(KeyId=bare, Plaintext=b"x")["CiphertextBlob"]
    with refused("KMSInvalidStateException"):
        kms.rotate_key_on_demand(KeyId=bare)
    second = kms.import_key_material(
        **wrapped(kms, bare, os.urandom(32)), ImportType="NEW_KEY_MATERIAL", KeyMaterialDescription="spring", **FOREVER
    )["KeyMaterialId"]
    listed = kms.list_key_rotations(KeyId=bare, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    assert [(one["KeyMaterialId"], one["KeyMaterialState"]) for one in listed] == [
        (first, "CURRENT"),
        (second, "PENDING_ROTATION"),
    ]
    assert listed[1]["KeyMaterialDescription"] == "spring"
    kms.rotate_key_on_demand(KeyId=bare)
    assert kms.encrypt(KeyId=bare, Plaintext=b"x")
    assert kms.describe_key(KeyId=bare)["KeyMetadata"]["CurrentKeyMaterialId"] == second
    assert kms.decrypt(CiphertextBlob=blob)["KeyMaterialId"] == first
    with refused("UnsupportedOperationException"):
        kms.enable_key_rotation(KeyId=bare)


def test_each_region_imports_for_itself(lab: Lab, kms: KMSClient) -> None:
    key = kms.create_key(Origin="EXTERNAL", MultiRegion=True)["KeyMetadata"]["KeyId"]
    material = os.urandom(32)
    kms.import_key_material(**wrapped(kms, key, material), **FOREVER)
    kms.replicate_key(KeyId=key, ReplicaRegion="eu-west-1")
    there = client(lab.session("eu-west-1"))
    assert state(there, key) == "PendingImport"
    there.import_key_material(**wrapped(there, key, material), **FOREVER)
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    assert there.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    second: Any = {"ImportType": "NEW_KEY_MATERIAL"} | FOREVER
    following = os.urandom(32)
    kms.import_key_material(**wrapped(kms, key, following), **second)
    with refused("KMSInvalidStateException"):
        kms.rotate_key_on_demand(KeyId=key)
    there.import_key_material(**wrapped(there, key, following), **FOREVER)
    kms.rotate_key_on_demand(KeyId=key)
    late = kms.encrypt(KeyId=key, Plaintext=b"late")["CiphertextBlob"]
    assert there.decrypt(CiphertextBlob=late)["Plaintext"] == b"late"


def test_imports_that_do_not_fit(kms: KMSClient, key: str, bare: str, clock: Clock) -> None:
    with refused("UnsupportedOperationException"):
        kms.get_parameters_for_import(KeyId=key, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048")
    request = wrapped(kms, bare, os.urandom(32))
    with refused("InvalidImportTokenException"):
        kms.import_key_material(**request | {"ImportToken": b"x" * 256}, **FOREVER)
    with refused("InvalidCiphertextException"):
        kms.import_key_material(**request | {"EncryptedKeyMaterial": os.urandom(256)}, **FOREVER)
    with refused("IncorrectKeyMaterialException"):
        kms.import_key_material(**wrapped(kms, bare, os.urandom(16)), **FOREVER)
    clock.now += DAY
    with refused("ExpiredImportTokenException"):
        kms.import_key_material(**request, **FOREVER)


# custom key stores


def test_keys_in_a_custom_key_store(kms: KMSClient) -> None:
    arguments: Any = {"Origin": "AWS_CLOUDHSM", "CustomKeyStoreId": "cks-1234567890abcdef0"}
    key = kms.create_key(**arguments)["KeyMetadata"]
    assert (key["Origin"], key["CustomKeyStoreId"]) == ("AWS_CLOUDHSM", "cks-1234567890abcdef0")
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    for rotate in (kms.enable_key_rotation, kms.rotate_key_on_demand):
        with refused("UnsupportedOperationException"):
            rotate(KeyId=key["KeyId"])
    with refused("UnsupportedOperationException"):
        kms.create_key(**arguments, MultiRegion=True)


def test_keys_in_an_external_key_store(kms: KMSClient) -> None:
    arguments: Any = {"Origin": "EXTERNAL_KEY_STORE", "CustomKeyStoreId": "cks-1234567890abcdef0", "XksKeyId": "theirs"}
    assert kms.create_key(**arguments)["KeyMetadata"]["XksKeyConfiguration"] == {"Id": "theirs"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"Origin": "AWS_CLOUDHSM"},
        {"Origin": "EXTERNAL_KEY_STORE", "CustomKeyStoreId": "cks-1"},
        {"Origin": "EXTERNAL_KEY_STORE", "XksKeyId": "theirs"},
        {"Origin": "AWS_CLOUDHSM", "CustomKeyStoreId": "cks-1", "XksKeyId": "theirs"},
        {"CustomKeyStoreId": "cks-1"},
        {"XksKeyId": "theirs"},
    ],
)
def test_what_a_key_says_of_its_store_has_to_fit(kms: KMSClient, arguments: Any) -> None:
    with refused("ValidationException"):
        kms.create_key(**arguments)


def test_the_stores_themselves_are_not_offered(kms: KMSClient) -> None:
    with refused("UnsupportedOperationException"):
        kms.describe_custom_key_stores()


def test_the_description_can_be_changed(kms: KMSClient, key: str) -> None:
    kms.update_key_description(KeyId=key, Description="new")
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["Description"] == "new"
