"""Key policies, grants and tags, enforced; and the trail that says why."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config

from sealwax.errors import LabError
from sealwax.lab import Lab, Server
from tests.lab.conftest import Clock, client
from tests.lab.refusal import refused

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

ROOT = "arn:aws:iam::111122223333:root"
ALICE = "arn:aws:iam::111122223333:user/alice"
CONTEXT = {"table": "users", "purpose": "backup"}


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(principal: str, *actions: str, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": list(actions), "Resource": "*"} | more


DELEGATED = allow(ROOT, "kms:*")


@pytest.fixture
def key(kms: KMSClient) -> str:
    return kms.create_key()["KeyMetadata"]["Arn"]


@pytest.fixture
def alice(lab: Lab) -> KMSClient:
    lab.add_principal("alice")
    return client(lab.session(principal="alice"))


def test_the_default_policy_is_the_account_s(kms: KMSClient, key: str) -> None:
    got = kms.get_key_policy(KeyId=key)
    assert got["PolicyName"] == "default"
    assert json.loads(got["Policy"])["Statement"][0]["Principal"] == {"AWS": ROOT}
    assert kms.list_key_policies(KeyId=key)["PolicyNames"] == ["default"]
    with refused("NotFoundException"):
        kms.get_key_policy(KeyId=key, PolicyName="other")


def test_a_key_policy_gives_and_takes(kms: KMSClient, alice: KMSClient, key: str) -> None:
    with refused("AccessDeniedException"):
        alice.encrypt(KeyId=key, Plaintext=b"x")
    kms.put_key_policy(KeyId=key, Policy=policy(DELEGATED, allow(ALICE, "kms:Encrypt")))
    assert alice.encrypt(KeyId=key, Plaintext=b"x")
    with refused("AccessDeniedException"):
        alice.generate_data_key(KeyId=key, KeySpec="AES_256")
    denied = allow(ALICE, "kms:*") | {"Effect": "Deny"}
    kms.put_key_policy(KeyId=key, Policy=policy(DELEGATED, allow(ALICE, "kms:Encrypt"), denied))
    with refused("AccessDeniedException") as refusal:
        alice.encrypt(KeyId=key, Plaintext=b"x")
    assert refusal.message.endswith("with an explicit deny in a resource-based policy")


def test_conditions_on_the_context_are_enforced(kms: KMSClient, alice: KMSClient, key: str) -> None:
    condition = {"StringEquals": {"kms:EncryptionContext:table": "users"}}
    kms.put_key_policy(
        KeyId=key, Policy=policy(DELEGATED, allow(ALICE, "kms:Encrypt", "kms:Decrypt", Condition=condition))
    )
    blob = alice.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=CONTEXT)["CiphertextBlob"]
    assert alice.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"] == b"x"
    for context in ({}, {"table": "orders"}):
        with refused("AccessDeniedException"):
            alice.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=context)
    # A denial and a wrong context are told apart, in this order.
    with refused("AccessDeniedException"):
        alice.decrypt(CiphertextBlob=blob, EncryptionContext={})
    with refused("InvalidCiphertextException"):
        alice.decrypt(CiphertextBlob=blob, EncryptionContext={"table": "users"})


def test_a_condition_spelt_with_json_escapes_is_one(kms: KMSClient, alice: KMSClient, key: str) -> None:
    users = {"StringEquals": {"kms:EncryptionContext:table": "users"}}
    text = policy(DELEGATED, allow(ALICE, "kms:Encrypt", Condition=users))
    kms.put_key_policy(KeyId=key, Policy=text.replace('"Condition"', '"\\u0043ondition"'))
    assert alice.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext={"table": "users"})
    with refused("AccessDeniedException"):
        alice.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext={"table": "orders"})


def test_a_variable_spelt_with_json_escapes_is_one(lab: Lab, key: str) -> None:
    own = {"Effect": "Allow", "Action": "kms:Encrypt", "Resource": "arn:aws:kms:*:*:key/${kms:EncryptionContext:key}"}
    lab.add_principal("bob", policy=policy(own).replace("$", "\\u0024"))
    bob = client(lab.session(principal="bob"))
    assert bob.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext={"key": key.rpartition("/")[2]})
    with refused("AccessDeniedException"):
        bob.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext={"key": "another"})


def test_conditions_on_alias_and_tags_are_enforced(kms: KMSClient, alice: KMSClient, key: str) -> None:
    kms.create_alias(AliasName="alias/app", TargetKeyId=key)
    by_alias = allow(ALICE, "kms:Encrypt", Condition={"StringEquals": {"kms:RequestAlias": "alias/app"}})
    by_tag = allow(ALICE, "kms:GenerateDataKey", Condition={"StringEquals": {"aws:ResourceTag/team": "blue"}})
    kms.put_key_policy(KeyId=key, Policy=policy(DELEGATED, by_alias, by_tag))
    assert alice.encrypt(KeyId="alias/app", Plaintext=b"x")
    with refused("AccessDeniedException"):
        alice.encrypt(KeyId=key, Plaintext=b"x")
    with refused("AccessDeniedException"):
        alice.generate_data_key(KeyId=key, KeySpec="AES_256")
    kms.tag_resource(KeyId=key, Tags=[{"TagKey": "team", "TagValue": "blue"}])
    assert alice.generate_data_key(KeyId=key, KeySpec="AES_256")


def test_re_encrypt_needs_both_permissions(kms: KMSClient, alice: KMSClient, key: str) -> None:
    other = kms.create_key()["KeyMetadata"]["Arn"]
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    with refused("AccessDeniedException") as refusal:
        alice.re_encrypt(CiphertextBlob=blob, DestinationKeyId=other)
    assert "kms:ReEncryptFrom" in refusal.message
    kms.put_key_policy(KeyId=key, Policy=policy(DELEGATED, allow(ALICE, "kms:ReEncryptFrom")))
    with refused("AccessDeniedException") as refusal:
        alice.re_encrypt(CiphertextBlob=blob, DestinationKeyId=other)
    assert "kms:ReEncryptTo" in refusal.message
    kms.put_key_policy(KeyId=other, Policy=policy(DELEGATED, allow(ALICE, "kms:ReEncryptTo")))
    assert alice.re_encrypt(CiphertextBlob=blob, DestinationKeyId=other)["KeyId"] == other


def test_another_account_needs_both_sides(lab: Lab, kms: KMSClient, key: str) -> None:
    everything = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}}
    lab.add_principal("carol", account="444455556666", policy=everything)
    lab.add_principal("dave", account="444455556666")
    carol, dave = (client(lab.session(principal=name)) for name in ("carol", "dave"))
    with refused("AccessDeniedException"):
        carol.encrypt(KeyId=key, Plaintext=b"x")
    kms.put_key_policy(KeyId=key, Policy=policy(DELEGATED, allow("arn:aws:iam::444455556666:root", "kms:*")))
    blob = carol.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    assert carol.decrypt(CiphertextBlob=blob)["KeyId"] == key
    with refused("AccessDeniedException"):
        dave.encrypt(KeyId=key, Plaintext=b"x")
    with refused("AccessDeniedException"):
        carol.disable_key(KeyId=key)


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "{}",
        policy(allow(ROOT, "kms:*", Condition={"StringEquals": {"kms:NoSuchKey": "x"}})),
        policy(allow(ALICE, "kms:Encrypt")),
    ],
)
def test_policies_that_are_not_taken(kms: KMSClient, key: str, text: str) -> None:
    with refused("MalformedPolicyDocumentException"):
        kms.put_key_policy(KeyId=key, Policy=text)
    with refused("MalformedPolicyDocumentException"):
        kms.create_key(Policy=text)


def test_the_lockout_check_can_be_waived(kms: KMSClient, key: str) -> None:
    locked = policy(allow(ALICE, "kms:Encrypt"))
    kms.put_key_policy(KeyId=key, Policy=locked, BypassPolicyLockoutSafetyCheck=True)
    with refused("AccessDeniedException"):
        kms.get_key_policy(KeyId=key)


def may_only(lab: Lab, name: str, *actions: str) -> KMSClient:
    """Add a user who may do these actions by an identity policy and nothing else."""
    lab.add_principal(name, policy=policy({"Effect": "Allow", "Action": list(actions), "Resource": "*"}))
    return client(lab.session(principal=name))


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"MultiRegion": True},
        {"Origin": "EXTERNAL"},
        {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"},
        {"Tags": [{"TagKey": "team", "TagValue": "blue"}]},
        {"BypassPolicyLockoutSafetyCheck": False},
    ],
)
def test_the_default_policy_is_not_checked_for_a_lockout(lab: Lab, kms: KMSClient, kind: dict[str, Any]) -> None:
    maker = may_only(lab, "maker", "kms:CreateKey", "kms:TagResource")
    made = maker.create_key(**kind)["KeyMetadata"]["Arn"]
    assert json.loads(kms.get_key_policy(KeyId=made)["Policy"])["Statement"][0]["Principal"] == {"AWS": ROOT}
    # Who made it may not use it, nor change its policy.
    with refused("AccessDeniedException"):
        maker.put_key_policy(KeyId=made, Policy=policy(DELEGATED))
    # One that the maker writes is.
    with refused("MalformedPolicyDocumentException"):
        maker.create_key(Policy=policy(DELEGATED), **kind)


def test_the_default_policy_of_a_replica_is_not_checked_either(lab: Lab, kms: KMSClient) -> None:
    primary = kms.create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
    replicator = may_only(lab, "replicator", "kms:CreateKey", "kms:ReplicateKey")
    with refused("MalformedPolicyDocumentException"):
        replicator.replicate_key(KeyId=primary, ReplicaRegion="eu-west-1", Policy=policy(DELEGATED))
    answer = replicator.replicate_key(KeyId=primary, ReplicaRegion="eu-west-1")
    assert json.loads(answer["ReplicaPolicy"])["Statement"][0]["Principal"] == {"AWS": ROOT}
    waived = replicator.replicate_key(
        KeyId=primary, ReplicaRegion="eu-west-3", Policy=policy(DELEGATED), BypassPolicyLockoutSafetyCheck=True
    )
    assert json.loads(waived["ReplicaPolicy"]) == json.loads(policy(DELEGATED))


def test_tags_are_kept_listed_and_limited(kms: KMSClient) -> None:
    key = kms.create_key(Tags=[{"TagKey": "a", "TagValue": "1"}])["KeyMetadata"]["KeyId"]
    kms.tag_resource(KeyId=key, Tags=[{"TagKey": "b", "TagValue": ""}, {"TagKey": "a", "TagValue": "2"}])
    assert kms.list_resource_tags(KeyId=key)["Tags"] == [
        {"TagKey": "a", "TagValue": "2"},
        {"TagKey": "b", "TagValue": ""},
    ]
    pages = kms.get_paginator("list_resource_tags").paginate(KeyId=key, PaginationConfig={"PageSize": 1})
    assert [tag["TagKey"] for page in pages for tag in page["Tags"]] == ["a", "b"]
    kms.untag_resource(KeyId=key, TagKeys=["a"])
    assert [tag["TagKey"] for tag in kms.list_resource_tags(KeyId=key)["Tags"]] == ["b"]
    with refused("TagException"):
        kms.tag_resource(KeyId=key, Tags=[{"TagKey": "aws:x", "TagValue": ""}])
    with refused("TagException"):
        kms.tag_resource(KeyId=key, Tags=[{"TagKey": "x", "TagValue": "1"}, {"TagKey": "x", "TagValue": "2"}])


# grants


def test_a_grant_gives_what_it_says_and_no_more(kms: KMSClient, alice: KMSClient, key: str) -> None:
    kms.create_grant(
        KeyId=key,
        GranteePrincipal=ALICE,
        Operations=["Encrypt", "Decrypt"],
        Constraints={"EncryptionContextSubset": {"Table": "users"}},
    )
    # Names of pairs are compared without case, values with it; more pairs are fine for a subset.
    blob = alice.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=CONTEXT)["CiphertextBlob"]
    assert alice.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"] == b"x"
    for context in ({}, {"table": "Users"}, {"purpose": "backup"}):
        with refused("AccessDeniedException"):
            alice.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=context)
    with refused("AccessDeniedException"):
        alice.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)
    with refused("DryRunOperationException"):
        alice.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=CONTEXT, DryRun=True)
    with refused("AccessDeniedException"):
        alice.encrypt(KeyId=key, Plaintext=b"x", DryRun=True)


def test_an_equals_constraint_takes_no_more_pairs(kms: KMSClient, alice: KMSClient, key: str) -> None:
    kms.create_grant(
        KeyId=key,
        GranteePrincipal=ALICE,
        Operations=["Encrypt"],
        Constraints={"EncryptionContextEquals": {"table": "users"}},
    )
    assert alice.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext={"table": "users"})
    with refused("AccessDeniedException"):
        alice.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=CONTEXT)


def test_a_source_arn_constraint_is_never_met_by_a_direct_call(kms: KMSClient, alice: KMSClient, key: str) -> None:
    kms.create_grant(
        KeyId=key,
        GranteePrincipal=ALICE,
        Operations=["Encrypt"],
        Constraints={"SourceArn": "arn:aws:s3:us-east-1:111122223333:bucket"},
    )
    with refused("AccessDeniedException"):
        alice.encrypt(KeyId=key, Plaintext=b"x")


@pytest.mark.parametrize("end", ["revoke", "retire by token", "retire by id"])
def test_a_grant_ends(kms: KMSClient, alice: KMSClient, key: str, end: str) -> None:
    made = kms.create_grant(KeyId=key, GranteePrincipal=ALICE, RetiringPrincipal=ALICE, Operations=["Encrypt"])
    assert alice.encrypt(KeyId=key, Plaintext=b"x")
    with refused("DryRunOperationException"):
        kms.revoke_grant(KeyId=key, GrantId=made["GrantId"], DryRun=True)
    assert alice.encrypt(KeyId=key, Plaintext=b"x")
    if end == "revoke":
        kms.revoke_grant(KeyId=key, GrantId=made["GrantId"])
    elif end == "retire by token":
        alice.retire_grant(GrantToken=made["GrantToken"])
    else:
        alice.retire_grant(KeyId=key, GrantId=made["GrantId"])
    with refused("AccessDeniedException"):
        alice.encrypt(KeyId=key, Plaintext=b"x")
    with refused("NotFoundException"):
        kms.revoke_grant(KeyId=key, GrantId=made["GrantId"])


def test_only_the_retiring_principal_retires(lab: Lab, kms: KMSClient, alice: KMSClient, key: str) -> None:
    made = kms.create_grant(KeyId=key, GranteePrincipal=ALICE, Operations=["Encrypt"])
    with refused("AccessDeniedException"):
        alice.retire_grant(GrantToken=made["GrantToken"])
    kms.retire_grant(GrantToken=made["GrantToken"])
    assert kms.list_grants(KeyId=key)["Grants"] == []
    assert lab.trail.events()[-1].record["eventName"] == "ListGrants"


def test_grants_are_listed(kms: KMSClient, key: str) -> None:
    made = [
        kms.create_grant(
            KeyId=key, GranteePrincipal=ALICE, RetiringPrincipal=ALICE, Operations=["Encrypt"], Name=f"grant-{number}"
        )["GrantId"]
        for number in range(3)
    ]
    entry = kms.list_grants(KeyId=key, GrantId=made[1])["Grants"][0]
    assert entry["Name"] == "grant-1"
    assert entry["IssuingAccount"] == ROOT
    assert entry["KeyId"] == key
    pages = kms.get_paginator("list_grants").paginate(KeyId=key, PaginationConfig={"PageSize": 2})
    assert sorted(grant["GrantId"] for page in pages for grant in page["Grants"]) == sorted(made)
    retirable = kms.get_paginator("list_retirable_grants").paginate(RetiringPrincipal=ALICE)
    assert sorted(grant["GrantId"] for page in retirable for grant in page["Grants"]) == sorted(made)
    assert kms.list_grants(KeyId=key, GranteePrincipal=ROOT)["Grants"] == []


def test_the_same_request_by_name_is_the_same_grant(kms: KMSClient, key: str) -> None:
    arguments: Any = {"KeyId": key, "GranteePrincipal": ALICE, "Operations": ["Encrypt"], "Name": "once"}
    assert kms.create_grant(**arguments)["GrantId"] == kms.create_grant(**arguments)["GrantId"]
    assert len(kms.list_grants(KeyId=key)["Grants"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"Operations": ["Sign"]},
        {"Operations": ["Encrypt"], "Constraints": {"EncryptionContextSubset": {f"k{n}": "v" for n in range(9)}}},
        {
            "Operations": ["Encrypt"],
            "Constraints": {"EncryptionContextSubset": {"a": "b"}, "EncryptionContextEquals": {"a": "b"}},
        },
        {"Operations": []},
    ],
)
def test_grants_that_cannot_be(kms: KMSClient, key: str, arguments: dict[str, Any]) -> None:
    with refused("ValidationException"):
        kms.create_grant(KeyId=key, GranteePrincipal=ALICE, **arguments)


def test_grant_tokens(lab: Lab, kms: KMSClient, alice: KMSClient, key: str, clock: Clock) -> None:
    with refused("InvalidGrantTokenException"):
        kms.encrypt(KeyId=key, Plaintext=b"x", GrantTokens=["bogus"])
    lab.faults.add("us-east-1", "consistency", 300, operation=None, code=None, seed=0)
    made = kms.create_grant(KeyId=key, GranteePrincipal=ALICE, Operations=["Encrypt"])
    with refused("AccessDeniedException"):
        alice.encrypt(KeyId=key, Plaintext=b"x")
    assert alice.encrypt(KeyId=key, Plaintext=b"x", GrantTokens=[made["GrantToken"]])
    clock.now += 301
    assert alice.encrypt(KeyId=key, Plaintext=b"x")


def test_key_policies_can_take_their_time(lab: Lab, kms: KMSClient, alice: KMSClient, key: str, clock: Clock) -> None:
    lab.faults.add("us-east-1", "consistency", 60, operation=None, code=None, seed=0)
    kms.put_key_policy(KeyId=key, Policy=policy(DELEGATED, allow(ALICE, "kms:Encrypt")))
    with refused("AccessDeniedException"):
        alice.encrypt(KeyId=key, Plaintext=b"x")
    clock.now += 61
    assert alice.encrypt(KeyId=key, Plaintext=b"x")


# the trail


def test_the_trail_says_who_what_and_why(lab: Lab, kms: KMSClient, alice: KMSClient, key: str) -> None:
    with refused("AccessDeniedException"):
        alice.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)
    event = lab.trail.events()[-1]
    assert event.record["userIdentity"]["arn"] == ALICE
    assert event.record["userIdentity"]["type"] == "IAMUser"
    assert event.record["eventName"] == "GenerateDataKey"
    assert event.record["errorCode"] == "AccessDenied"
    assert event.record["requestParameters"]["encryptionContext"] == CONTEXT
    assert event.record["resources"][0]["ARN"] == key
    assert event.reason is not None
    assert "no identity policy allows kms:GenerateDataKey" in event.reason
    kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    assert "allow" in (lab.trail.events()[-1].reason or "")


def test_no_key_material_is_in_the_trail(lab: Lab, kms: KMSClient, key: str) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"open sesame")["CiphertextBlob"]
    kms.decrypt(CiphertextBlob=blob)
    kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    for event in lab.trail.events():
        text = event.text.lower()
        assert "plaintext" not in text
        assert "ciphertextblob" not in text
        assert "b3blbibzZXNhbWU" not in event.text


def test_events_are_looked_up_as_in_cloudtrail(lab: Lab, kms: KMSClient, key: str) -> None:
    for _ in range(3):
        kms.encrypt(KeyId=key, Plaintext=b"x")
    cloudtrail = lab.session().client("cloudtrail")
    asked: Any = [{"AttributeKey": "EventName", "AttributeValue": "Encrypt"}]
    pages = cloudtrail.get_paginator("lookup_events").paginate(LookupAttributes=asked, PaginationConfig={"PageSize": 2})
    found = [event for page in pages for event in page["Events"]]
    assert len(found) == 3
    assert found[0]["Username"] == "root"
    assert json.loads(found[0]["CloudTrailEvent"])["eventSource"] == "kms.amazonaws.com"
    assert found[0]["Resources"] == [{"ResourceType": "AWS::KMS::Key", "ResourceName": key}]
    by_key: Any = [{"AttributeKey": "ResourceName", "AttributeValue": key}]
    assert len(cloudtrail.lookup_events(LookupAttributes=by_key)["Events"]) == 4
    assert lab.session("eu-west-1").client("cloudtrail").lookup_events()["Events"] == []
    with refused("UnsupportedOperationException"):
        cloudtrail.describe_trails()


def test_a_call_on_another_account_s_key_is_in_both_trails(lab: Lab, kms: KMSClient, key: str) -> None:
    kms.put_key_policy(KeyId=key, Policy=policy(DELEGATED, allow("arn:aws:iam::444455556666:root", "kms:*")))
    client(lab.session(account="444455556666")).encrypt(KeyId=key, Plaintext=b"x")
    records = [event.record for event in lab.trail.events() if event.record["eventName"] == "Encrypt"]
    assert [record["recipientAccountId"] for record in records] == ["444455556666", "111122223333"]
    assert len({record["sharedEventID"] for record in records}) == 1


def test_the_last_use_is_known(kms: KMSClient, key: str, clock: Clock) -> None:
    assert "KeyLastUsage" not in kms.get_key_last_usage(KeyId=key)
    kms.encrypt(KeyId=key, Plaintext=b"x")
    clock.now += 60
    blob = kms.generate_data_key(KeyId=key, KeySpec="AES_256")["CiphertextBlob"]
    with refused("InvalidCiphertextException"):
        kms.decrypt(CiphertextBlob=blob, EncryptionContext={"a": "b"})
    usage = kms.get_key_last_usage(KeyId=key)["KeyLastUsage"]
    assert usage["Operation"] == "GenerateDataKey"
    assert usage["Timestamp"].timestamp() == clock.now


def test_other_cloudtrail_calls_go_upstream(lab: Lab, tmp_path: Path) -> None:
    with Lab(tmp_path / "upstream") as other:
        other.create_key()
        server = Server(other)
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            Server(lab, upstream=server.url).close()
            # The upstream is a lab too: that it has no such call either is its own answer, forwarded as it was.
            with refused("UnsupportedOperationException") as refusal:
                lab.session().client("cloudtrail").describe_trails()
            assert "has no upstream" in refusal.message
        finally:
            server.close()
            thread.join()
    with refused("ServiceUnavailableException"):
        client_once = Config(retries={"total_max_attempts": 1})
        lab.session().client("cloudtrail", config=client_once).describe_trails()
    with pytest.raises(LabError, match="is not an http or https URL"):
        Server(lab, upstream="ftp://example.com")
