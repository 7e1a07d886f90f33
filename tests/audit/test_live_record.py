"""Rules about trails, alarms, aliases, replicas and IAM over an account that is really there.

KMS, STS and the record of calls are a lab that is served, whose upstream is moto's CloudTrail; IAM, EventBridge and
CloudWatch are moto. Each is reached by the ordinary variables of its service.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3
import pytest

from sealwax.audit._account import Account
from sealwax.audit._collect.keys import gather
from sealwax.audit._facts import Facts
from sealwax.audit._rules import run_rules
from sealwax.lab._server import Server
from tests.audit import accounts
from tests.audit.live import ACCOUNT, REGION, account, put_filter, put_rule
from tests.cli.shell import Shell

OTHER: Final = "eu-west-1"
SERVICES: Final = ("KMS", "STS", "CLOUDTRAIL", "IAM", "EVENTBRIDGE", "CLOUDWATCH_LOGS", "CLOUDWATCH", "S3")
ENDS: Final = {"source": ["aws.kms"], "detail": {"eventName": ["DisableKey", "ScheduleKeyDeletion"]}}
FILTER: Final = "{ ($.eventName = DisableKey) || ($.eventName = ScheduleKeyDeletion) }"
OWNER: Final = {"Principal": {"AWS": accounts.root()}, "Action": "kms:*"}


def ours(policy: str) -> str:
    return policy.replace(accounts.OWN, ACCOUNT)


@dataclass
class World:
    """An account in which nothing is wrong."""

    session: boto3.Session
    environment: dict[str, str]
    key: str = ""

    def client(self, service: str, region: str = REGION) -> Any:
        return self.session.client(service, region_name=region)  # type: ignore[call-overload]

    def facts(self, *regions: str) -> Facts:
        return gather(self.session, regions or (REGION,))

    def broken(self, *regions: str) -> set[str]:
        facts = self.facts(*regions)
        assert facts.gaps == ()
        assert facts.trails is not None
        assert facts.alarms is not None
        assert facts.events
        return {one.rule for one in run_rules(Account(facts))}

    def made(self, policy: str, **more: Any) -> str:
        kms = self.client("kms")
        made = kms.create_key(Policy=ours(policy), BypassPolicyLockoutSafetyCheck=True, **more)["KeyMetadata"]["Arn"]
        kms.enable_key_rotation(KeyId=made)
        return str(made)

    def watched(self, region: str) -> None:
        put_rule(self.client("events", region), ENDS)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with account(tmp_path) as (lab, moto):
        for name in ("Admin", "App"):
            lab.add_principal(name, role=True, account=ACCOUNT)
        server = Server(lab, upstream=moto)
        thread = threading.Thread(target=server.serve)
        thread.start()
        credentials = lab.session(REGION, account=ACCOUNT).get_credentials()
        assert credentials is not None
        frozen = credentials.get_frozen_credentials()
        here = {"AWS_ACCESS_KEY_ID": str(frozen.access_key), "AWS_SECRET_ACCESS_KEY": str(frozen.secret_key)}
        for service in SERVICES:
            here[f"AWS_ENDPOINT_URL_{service}"] = server.url if service in SERVICES[:3] else moto
        for name, value in here.items():
            monkeypatch.setenv(name, value)
        world = World(boto3.Session(region_name=REGION), here)
        world.key = world.made(accounts.plus(OWNER))
        world.client("kms").create_alias(AliasName="alias/backup", TargetKeyId=world.key)
        world.client("s3").create_bucket(Bucket="trail-bucket")
        trails = world.client("cloudtrail")
        trails.create_trail(
            Name="all", S3BucketName="trail-bucket", IsMultiRegionTrail=True, EnableLogFileValidation=True
        )
        trails.start_logging(Name="all")
        world.watched(REGION)
        try:
            yield world
        finally:
            server.close()
            thread.join()


def test_an_account_in_which_nothing_is_wrong_has_no_finding(world: World) -> None:
    assert world.broken() == set()


def _excluding(trails: Any) -> None:
    selector = {"ReadWriteType": "All", "IncludeManagementEvents": True}
    excluding = {**selector, "ExcludeManagementEventSources": ["kms.amazonaws.com"]}
    trails.put_event_selectors(TrailName="all", EventSelectors=[excluding])


def _writes_only(trails: Any) -> None:
    selector = {"ReadWriteType": "WriteOnly", "IncludeManagementEvents": True}
    trails.put_event_selectors(TrailName="all", EventSelectors=[selector])


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda trails: trails.delete_trail(Name="all"), "trail-missing"),
        (lambda trails: trails.stop_logging(Name="all"), "trail-missing"),
        (lambda trails: trails.update_trail(Name="all", IsMultiRegionTrail=False), "trail-single-region"),
        (lambda trails: trails.update_trail(Name="all", EnableLogFileValidation=False), "trail-no-validation"),
        (_excluding, "trail-excludes-kms"),
        (_writes_only, "trail-excludes-kms"),
    ],
)
def test_trails(world: World, change: Callable[[Any], object], rule: str) -> None:
    change(world.client("cloudtrail"))
    assert world.broken() == {rule}


def _unwatched(world: World) -> None:
    world.client("events").remove_targets(Rule="ends", Ids=["1"])


def _filtered(world: World, *, alarmed: bool) -> None:
    _unwatched(world)
    put_filter(world.client("logs"), FILTER)
    world.client("cloudwatch").put_metric_alarm(
        AlarmName="ends",
        MetricName="ends" if alarmed else "other",
        Namespace="keys",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        AlarmActions=[f"arn:aws:sns:{REGION}:{ACCOUNT}:people"],
    )


@pytest.mark.parametrize(
    ("change", "is_seen"),
    [
        (_unwatched, False),
        (lambda world: world.client("events").disable_rule(Name="ends"), False),
        (lambda world: _filtered(world, alarmed=False), False),
        (lambda world: _filtered(world, alarmed=True), True),
    ],
)
def test_alarms(world: World, change: Callable[[World], object], is_seen: bool) -> None:
    change(world)
    assert world.broken() == (set() if is_seen else {"key-end-no-alarm"})


@pytest.mark.parametrize("count", [3, 4])
def test_aliases_that_many_may_move(world: World, count: int) -> None:
    iam = world.client("iam")
    for number in range(count):
        iam.create_user(UserName=f"mover-{number}")
        alias = f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/backup"
        statement = {"Effect": "Allow", "Action": "kms:UpdateAlias", "Resource": [alias, world.key]}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=f"mover-{number}", PolicyName="move", PolicyDocument=document)
    assert world.broken() == ({"alias-movable"} if count == 4 else set())


def test_iam_policies_over_all_keys(world: World) -> None:
    iam = world.client("iam")
    document = json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}]}
    )
    iam.create_role(RoleName="wide", AssumeRolePolicyDocument=document)
    iam.put_role_policy(RoleName="wide", PolicyName="all", PolicyDocument=document)
    # The key leaves to IAM what its policy does not say.
    assert world.broken() == {"iam-decrypt-all-keys", "key-policy-root-delegation"}


def test_replicas(world: World) -> None:
    world.watched(OTHER)
    kms = world.client("kms")
    primary = world.made(accounts.plus(OWNER), MultiRegion=True)
    assert world.broken(REGION, OTHER) == {"replica-missing"}
    policy = ours(accounts.plus(OWNER))
    kms.replicate_key(KeyId=primary, ReplicaRegion=OTHER, Policy=policy, BypassPolicyLockoutSafetyCheck=True)
    assert world.broken(REGION, OTHER) == set()
    there = world.client("kms", OTHER)
    replica = primary.replace(REGION, OTHER)
    there.put_key_policy(
        KeyId=replica,
        PolicyName="default",
        Policy=ours(accounts.plus(OWNER, accounts.use(Principal={"AWS": accounts.APP}))),
        BypassPolicyLockoutSafetyCheck=True,
    )
    assert world.broken(REGION, OTHER) == {"replica-policy-differs"}
    there.put_key_policy(KeyId=replica, PolicyName="default", Policy=policy, BypassPolicyLockoutSafetyCheck=True)
    there.disable_key(KeyId=replica)
    assert world.broken(REGION, OTHER) == {"replica-missing"}


@pytest.mark.slow
def test_the_command_sees_the_same(world: World, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    shell = Shell(tmp_path, tmp_path / "home", world.environment)
    audit = ("audit", "--all", "--region", REGION, "--json")
    done = shell.sealwax(*audit).succeeded()
    found = json.loads(done.out)
    assert (found["findings"], found["gaps"]) == ([], [])
    assert found["account"] == ACCOUNT
    other = world.made(accounts.plus(OWNER))
    expected = ("--expect-alias", f"backup={world.key}")
    shell.sealwax(*audit, *expected).succeeded()
    world.client("kms").update_alias(AliasName="alias/backup", TargetKeyId=other)
    done = shell.sealwax(*audit, *expected)
    assert done.status == 3
    assert [one["rule"] for one in json.loads(done.out)["findings"]] == ["alias-unexpected-key"]
    # The alarm is out of reach: no status for fine.
    shell.environment["AWS_ENDPOINT_URL_EVENTBRIDGE"] = "http://127.0.0.1:9"
    shell.sealwax(*audit).failed(8, "1 lookup failed, so the audit is incomplete")


def test_a_lab_in_a_folder_has_what_variables_name_beside_it(world: World, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    beside = ("IAM", "EVENTBRIDGE", "CLOUDWATCH_LOGS", "CLOUDWATCH")
    variables = {f"AWS_ENDPOINT_URL_{one}": world.environment[f"AWS_ENDPOINT_URL_{one}"] for one in beside}
    keys = {name: value for name, value in world.environment.items() if "KEY" in name}
    shell = Shell(tmp_path, tmp_path / "home", keys)
    audit = ("audit", "--lab", "lab", "--all", "--region", REGION, "--json")
    found = json.loads(shell.sealwax(*audit).succeeded().out)
    unseen = {one["what"]: one["why"] for one in found["gaps"]}
    assert unseen.pop("cloudtrail:DescribeTrails").startswith("the lab has no trails; `sealwax lab serve --upstream`")
    missing = {
        "iam:GetAccountAuthorizationDetails": "IAM",
        "events:ListRules": "EVENTBRIDGE",
        "logs:DescribeMetricFilters": "CLOUDWATCH_LOGS",
    }
    assert unseen == {
        what: f"the lab does not have this service; AWS_ENDPOINT_URL_{name} can name an endpoint that does"
        for what, name in missing.items()
    }
    # What is said can be done.
    shell.environment |= variables
    found = json.loads(shell.sealwax(*audit).succeeded().out)
    assert [one["what"] for one in found["gaps"]] == ["cloudtrail:DescribeTrails"]
    assert found["findings"] == []
