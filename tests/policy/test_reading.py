"""What `policy explain` reads: a key of the lab's KMS, and principals of moto's IAM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sealwax.audit._collect.explanation import read_key, read_principal
from sealwax.errors import ConfigurationError, KeyNotFoundError
from sealwax.lab import Lab
from sealwax.policy import RequiredContext, allow_rotate, write_identity_policy
from sealwax.policy._explain import explain, key_conditions

ACCOUNT: Final = "123456789012"  # moto's
TRUST: Final = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}],
    }
)


@dataclass
class Session:
    """A session whose KMS is the lab and whose IAM is moto."""

    lab: Lab
    url: str

    region_name = "us-east-1"

    def client(self, service_name: Any, **options: Any) -> Any:
        if service_name == "kms":
            return self.lab.session(account=ACCOUNT).client("kms", **options)
        return boto3.client(
            service_name,
            region_name=options.get("region_name") or "us-east-1",
            endpoint_url=self.url,
            aws_access_key_id="x",
            aws_secret_access_key="x",
            config=options.get("config"),
        )


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with Lab(tmp_path_factory.mktemp("lab") / "lab") as lab:
        yield Session(lab, f"http://{host}:{port}")
    server.stop()


@pytest.fixture(scope="module")
def key(session: Session) -> str:
    kms = session.client("kms")
    arn: str = kms.create_key(Tags=[{"TagKey": "team", "TagValue": "blue"}])["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/read", TargetKeyId=arn)
    kms.create_grant(
        KeyId=arn,
        GranteePrincipal=f"arn:aws:iam::{ACCOUNT}:role/app",
        Operations=["Decrypt"],
        Constraints={"EncryptionContextSubset": {"purpose": "backup"}},
    )
    return arn


def _document(*actions: str) -> str:
    return json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}
    )


def test_a_key_is_read_by_any_of_its_names(session: Session, key: str) -> None:
    for name in (key, key.rpartition("/")[2], "alias/read", key.replace(key.split(":", 5)[5], "alias/read")):
        seen = read_key(session, name)
        assert (seen.arn, seen.aliases, seen.tags) == (key, ["alias/read"], {"team": "blue"})
        assert key_conditions(seen.metadata, seen.aliases, seen.tags)["kms:KeySpec"] == "SYMMETRIC_DEFAULT"
        (grant,) = seen.grants
        assert grant.subset == {"purpose": "backup"}
    with pytest.raises(KeyNotFoundError):
        read_key(session, "alias/none")


def test_a_user_has_its_own_policies_and_those_of_its_groups(session: Session, key: str) -> None:
    iam = session.client("iam")
    iam.create_user(UserName="alice", Path="/team/", Tags=[{"Key": "team", "Value": "blue"}])
    iam.create_group(GroupName="readers")
    iam.add_user_to_group(GroupName="readers", UserName="alice")
    iam.put_user_policy(UserName="alice", PolicyName="one", PolicyDocument=_document("kms:Encrypt"))
    iam.put_group_policy(GroupName="readers", PolicyName="two", PolicyDocument=_document("kms:Decrypt"))
    managed = iam.create_policy(PolicyName="three", PolicyDocument=_document("kms:DescribeKey"))["Policy"]["Arn"]
    iam.attach_group_policy(GroupName="readers", PolicyArn=managed)
    arn = f"arn:aws:iam::{ACCOUNT}:user/team/alice"
    known = read_principal(session, arn)
    assert {policy.name for policy in known.policies} == {
        f"identity policy '{name}'" for name in ("one", "two", "three")
    }
    assert known.who.tags == {"team": "blue"}
    seen = read_key(session, key)
    for action, allowed in {"Encrypt": True, "Decrypt": True, "DescribeKey": True, "DisableKey": False}.items():
        decision = explain(
            known.who,
            action,
            seen,
            identity_policies=known.policies,
            time=datetime.now(UTC),
            encryption_context={},
        )
        assert decision.allowed == allowed, action


def test_a_session_has_the_policies_of_its_role_whose_path_it_does_not_show(session: Session, key: str) -> None:
    iam = session.client("iam")
    boundary = iam.create_policy(PolicyName="boundary", PolicyDocument=_document("kms:*"))["Policy"]["Arn"]
    iam.create_role(RoleName="mover", Path="/ops/", AssumeRolePolicyDocument=TRUST, PermissionsBoundary=boundary)
    statements = allow_rotate([key], [key], RequiredContext({"purpose": "backup"}))
    iam.put_role_policy(RoleName="mover", PolicyName="p", PolicyDocument=json.dumps(write_identity_policy(statements)))
    known = read_principal(session, f"arn:aws:sts::{ACCOUNT}:assumed-role/mover/session")
    assert known.who.role == f"arn:aws:iam::{ACCOUNT}:role/ops/mover"
    assert known.boundary == boundary
    (policy,) = known.policies
    assert [statement.sid for statement in policy.statements] == ["RotateFrom", "RotateTo"]


def test_a_principal_of_the_same_name_in_another_account_is_not_taken_for_it(session: Session) -> None:
    session.client("iam").create_role(RoleName="twin", AssumeRolePolicyDocument=TRUST)
    for arn in ("arn:aws:iam::444455556666:role/twin", "arn:aws:sts::444455556666:assumed-role/twin/s"):
        with pytest.raises(ConfigurationError, match="give its identity policies"):
            read_principal(session, arn)
    with pytest.raises(ConfigurationError, match="has no such principal"):
        read_principal(session, f"arn:aws:iam::{ACCOUNT}:role/nobody")
    assert read_principal(session, f"arn:aws:iam::{ACCOUNT}:root").policies == ()
