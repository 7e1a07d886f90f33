"""Fixes pasted into an account: KMS is the lab, everything else is moto. Then the findings are gone, and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from sealwax.audit._account import Account
from sealwax.audit._collect.keys import gather
from sealwax.audit._facts import Facts
from sealwax.audit._findings import Finding
from sealwax.audit._rules import run_rules
from sealwax.lab import Lab
from sealwax.policy._expiry import due_name
from tests.audit.following import follow
from tests.audit.live import ACCOUNT, REGION, Session, account

OTHER_REGION: Final = "eu-west-1"
ROOT: Final = f"arn:aws:iam::{ACCOUNT}:root"
APP: Final = f"arn:aws:iam::{ACCOUNT}:role/app"
FOREIGN: Final = "999988887777"
CONTEXT: Final = {"StringEquals": {"kms:EncryptionContext:purpose": "backup"}}
OWNER: Final = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}
USE: Final = {
    "Effect": "Allow",
    "Principal": {"AWS": APP},
    "Action": "kms:Decrypt",
    "Resource": "*",
    "Condition": CONTEXT,
}


def text(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Lab, str]]:
    with account(tmp_path) as lent:
        yield lent


def seen(session: Session, regions: tuple[str, ...] = (REGION,), **more: Any) -> tuple[Facts, list[Finding]]:
    facts = replace(gather(session, regions, events=False), **more)
    return facts, list(run_rules(Account(facts)))


def pasted(session: Session, findings: list[Finding], folder: Path) -> int:
    """Follow the fixes of findings; return how many commands were run."""

    def client(service: str, region: str | None) -> Any:
        return session.client(service, region_name=region or REGION)

    return sum(follow(one.fix, client, folder) for one in findings)


def named(findings: list[Finding], *without: str) -> list[tuple[str, str]]:
    return sorted((one.rule, one.resource) for one in findings if not one.rule.startswith(without or ("-",)))


ACCOUNT_WIDE: Final = ("trail-", "key-end-", "iam-")


def test_the_fixes_of_keys(servers: tuple[Lab, str], tmp_path: Path) -> None:
    session = Session(*servers)
    kms, iam = session.client("kms"), session.client("iam")
    iam.create_role(RoleName="app", AssumeRolePolicyDocument=text())
    made: dict[str, str] = {}

    def key(name: str, *statements: Any, rotates: bool = True, **more: Any) -> str:
        arn: str = kms.create_key(Policy=text(OWNER, USE, *statements), **more)["KeyMetadata"]["Arn"]
        if rotates:
            kms.enable_key_rotation(KeyId=arn)
        made[name] = arn
        return arn

    everybody = USE | {"Principal": "*", "Action": "kms:Encrypt"}
    key("key-policy-public", everybody)
    key("key-policy-foreign-account", USE | {"Principal": {"AWS": [APP, f"arn:aws:iam::{FOREIGN}:root"]}})
    nobody = {name: value for name, value in everybody.items() if name != "Principal"}
    key("key-policy-not-principal", nobody | {"NotPrincipal": {"AWS": APP}})
    key("key-policy-service-any-account", USE | {"Principal": {"Service": "s3.amazonaws.com"}})
    key("key-policy-no-context", {name: value for name, value in USE.items() if name != "Condition"})
    key("rotation-off", rotates=False)
    kms.enable_key_rotation(KeyId=key("rotation-period-long", rotates=False), RotationPeriodInDays=400)
    kms.schedule_key_deletion(KeyId=key("key-pending-deletion"), PendingWindowInDays=7)
    kms.disable_key(KeyId=key("unusable-key-with-envelopes"))
    bound = {"EncryptionContextSubset": {"purpose": "backup"}}
    kms.create_grant(KeyId=key("grant-unconstrained"), GranteePrincipal=APP, Operations=["Decrypt"])
    kms.create_grant(
        KeyId=key("grant-creates-grants"),
        GranteePrincipal=APP,
        Operations=["Decrypt", "CreateGrant"],
        Constraints=bound,
        RetiringPrincipal=APP,
    )
    overdue = due_name(datetime.now(UTC) - timedelta(hours=1))
    kms.create_grant(
        KeyId=key("grant-overdue"), GranteePrincipal=APP, Operations=["Decrypt"], Constraints=bound, Name=overdue
    )
    elsewhere = f"arn:aws:iam::{FOREIGN}:role/x"
    kms.create_grant(
        KeyId=key("grant-foreign-account"), GranteePrincipal=elsewhere, Operations=["Decrypt"], Constraints=bound
    )
    gone = f"arn:aws:iam::{ACCOUNT}:role/gone"
    kms.create_grant(KeyId=key("grant-stale"), GranteePrincipal=gone, Operations=["Decrypt"], Constraints=bound)
    kms.create_alias(AliasName="alias/moved", TargetKeyId=key("alias-unexpected-key"))
    more: dict[str, Any] = {
        "envelopes_under": (made["unusable-key-with-envelopes"],),
        "expected_aliases": {"alias/moved": made["rotation-off"]},
    }
    _, before = seen(session, **more)
    expected = {(rule, arn) for rule, arn in made.items() if not rule.startswith("alias-")}
    expected.add(("alias-unexpected-key", f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/moved"))
    assert set(named(before, *ACCOUNT_WIDE)) == expected
    assert len(expected) == 15
    about_keys = [one for one in before if not one.rule.startswith(ACCOUNT_WIDE)]
    assert pasted(session, about_keys, tmp_path) == 17
    after_facts, after = seen(session, **more)
    assert named(after, *ACCOUNT_WIDE) == []
    # The grants that were made in place of others permit the rest, under the same constraint.
    grants = {one.arn: one.grants for one in after_facts.keys}
    (again,) = grants[made["grant-creates-grants"]] or ()
    assert (again.operations, again.subset, again.retiring) == (("Decrypt",), {"purpose": "backup"}, APP)
    (constrained,) = grants[made["grant-unconstrained"]] or ()
    assert (constrained.grantee, constrained.subset) == (APP, {"purpose": "backup"})


def test_the_fixes_of_replicas(servers: tuple[Lab, str], tmp_path: Path) -> None:
    session = Session(*servers)
    session.client("iam").create_role(RoleName="app", AssumeRolePolicyDocument=text())
    kms, there = session.client("kms"), session.client("kms", region_name=OTHER_REGION)
    for number in range(3):
        via = USE | {
            "Condition": {"StringEquals": CONTEXT["StringEquals"] | {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}}
        }
        key = kms.create_key(MultiRegion=True, Policy=text(OWNER, USE, via))["KeyMetadata"]
        kms.enable_key_rotation(KeyId=key["KeyId"])
        if number < 2:
            kms.replicate_key(KeyId=key["KeyId"], ReplicaRegion=OTHER_REGION)
        if number == 1:
            there.put_key_policy(KeyId=key["KeyId"], Policy=text(OWNER, USE, via).replace(REGION, OTHER_REGION))
            there.disable_key(KeyId=key["KeyId"])
    regions = (REGION, OTHER_REGION)
    _, before = seen(session, regions)
    about = [one for one in before if not one.rule.startswith(ACCOUNT_WIDE)]
    assert sorted(one.rule for one in about) == ["replica-missing", "replica-missing", "replica-policy-differs"]
    assert pasted(session, about, tmp_path) == 3
    facts, after = seen(session, regions)
    assert named(after, *ACCOUNT_WIDE) == []
    policies = {json.dumps(json.loads(one.policy or "")) for one in facts.keys if one.region == OTHER_REGION}
    assert policies == {text(OWNER, USE, via).replace(REGION, OTHER_REGION)}


def test_the_fixes_of_an_account(servers: tuple[Lab, str], tmp_path: Path) -> None:
    session = Session(*servers)
    iam = session.client("iam")
    key = session.client("kms").create_key()["KeyMetadata"]["Arn"]
    session.client("kms").enable_key_rotation(KeyId=key)
    everything = {"Effect": "Allow", "Action": ["*"], "Resource": "*"}
    iam.create_role(RoleName="app", AssumeRolePolicyDocument=text())
    iam.put_role_policy(RoleName="app", PolicyName="all", PolicyDocument=text(everything))
    iam.create_user(UserName="alice")
    mixed = everything | {"Action": ["s3:*", "kms:Decrypt"]}
    policy = iam.create_policy(PolicyName="mixed", PolicyDocument=text(mixed))["Policy"]["Arn"]
    iam.attach_user_policy(UserName="alice", PolicyArn=policy)
    iam.create_group(GroupName="readers")
    iam.put_group_policy(
        GroupName="readers", PolicyName="read", PolicyDocument=text(everything | {"Action": "kms:De*"})
    )
    iam.add_user_to_group(GroupName="readers", UserName="alice")
    _, before = seen(session)
    wide = [one for one in before if one.rule.startswith(ACCOUNT_WIDE)]
    assert sorted(one.rule for one in wide) == [*["iam-decrypt-all-keys"] * 3, "key-end-no-alarm", "trail-missing"]
    assert pasted(session, wide, tmp_path) == 3 + 4 + 4
    facts, after = seen(session)
    # What the role, the user and the group may beside stays: with it, IAM still reaches a key that leaves all to it.
    assert {one.rule for one in after} <= {"key-policy-root-delegation"}
    documents = {one.name: json.loads(one.document)["Statement"] for one in facts.policies or ()}
    opens = ["kms:Decrypt", "kms:ReEncryptFrom"]
    assert documents["all"][0] == {"Effect": "Allow", "NotAction": opens, "Resource": "*"}
    assert documents["all"][1] == {"Effect": "Allow", "Action": opens, "Resource": [key]}
    assert documents["mixed"][0] == {"Effect": "Allow", "Action": ["s3:*"], "Resource": "*"}
    assert "kms:DescribeKey" in documents["read"][0]["Action"]
    assert "kms:Decrypt" not in documents["read"][0]["Action"]


def test_the_fixes_of_a_trail_leave_what_it_records_beside(servers: tuple[Lab, str], tmp_path: Path) -> None:
    session = Session(*servers)
    session.client("kms").create_key(Policy=text(OWNER, USE))
    session.client("s3").create_bucket(Bucket="of-trails")
    trails = session.client("cloudtrail")
    data = {"Type": "AWS::S3::Object", "Values": ["arn:aws:s3:::a-bucket/"]}
    quiet = {
        "ReadWriteType": "WriteOnly",
        "IncludeManagementEvents": True,
        "DataResources": [data],
        "ExcludeManagementEventSources": ["kms.amazonaws.com", "rdsdata.amazonaws.com"],
    }
    trails.create_trail(Name="one", S3BucketName="of-trails")
    trails.put_event_selectors(TrailName="one", EventSelectors=[quiet])
    trails.start_logging(Name="one")
    _, before = seen(session)
    about = [one for one in before if one.rule.startswith("trail-")]
    assert [one.rule for one in about] == ["trail-excludes-kms", "trail-no-validation", "trail-single-region"]
    assert pasted(session, about, tmp_path) == 3
    _, after = seen(session)
    assert [one.rule for one in after if one.rule.startswith("trail-")] == []
    selectors = trails.get_event_selectors(TrailName="one")["EventSelectors"]
    assert [one["DataResources"] for one in selectors] == [[data], []]
    assert [one["ReadWriteType"] for one in selectors] == ["WriteOnly", "All"]
    assert selectors[1]["ExcludeManagementEventSources"] == ["rdsdata.amazonaws.com"]


def test_a_trail_with_advanced_selectors_keeps_the_others() -> None:
    from sealwax.audit._rules.trails import _advanced_selectors

    management = {"Field": "eventCategory", "Equals": ["Management"]}
    data = {"Name": "data", "FieldSelectors": [{"Field": "eventCategory", "Equals": ["Data"]}]}
    given = [
        data,
        {
            "Name": "writes",
            "FieldSelectors": [
                management,
                {"Field": "readOnly", "Equals": ["false"]},
                {"Field": "eventSource", "NotEquals": ["kms.amazonaws.com", "rdsdata.amazonaws.com"]},
            ],
        },
    ]
    fields = [management, {"Field": "eventSource", "NotEquals": ["rdsdata.amazonaws.com"]}]
    assert _advanced_selectors(given) == [data, {"Name": "Management events", "FieldSelectors": fields}]
