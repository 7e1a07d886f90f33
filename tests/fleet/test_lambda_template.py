"""deploy/rotation.yaml: linted, its function run as Lambda runs it, its role held against what that asks for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import cfnlint.api
import pytest
from cfnlint.decode import cfn_yaml
from moto.iam.access_control import IAMPolicy, PermissionResult

from sealwax.fleet import aws_lambda
from sealwax.lab import Server
from sealwax.policy import Request, evaluate, parse_identity_policy, parse_key_policy, permissions, principal
from tests.docs.blocks import ROOT
from tests.fleet.fleets import Keys
from tests.fleet.test_aws_lambda import OF_TODAY, ROTATED, SCHEDULED
from tests.foreign import s3ec
from tests.s3 import Request as S3Request
from tests.s3 import StrictS3, error

TEMPLATE: Final = ROOT / "deploy/rotation.yaml"
TEXT: Final = TEMPLATE.read_text(encoding="utf-8")
TREE: Final[dict[str, Any]] = cfn_yaml.load(str(TEMPLATE))
RESOURCES: Final[dict[str, Any]] = TREE["Resources"]
ACCOUNT: Final = "111122223333"
KEY: Final = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PARAMETERS: Final[dict[str, Any]] = {
    "DataBucket": "bucket",
    "DataPrefix": "p/",
    "FromKeys": [KEY],
    "ToKeys": [KEY],
    "Context": '{"tenant": "acme"}',
    "AcceptStoredContext": "0",
    "CodeBucket": "code",
    "CodeKey": "sealwax-0.1.0.zip",
    "AlarmTopic": f"arn:aws:sns:us-east-1:{ACCOUNT}:alarms",
}


def resolved(node: Any, given: dict[str, Any]) -> Any:
    """Return a part of the template as CloudFormation makes it of these parameters; a resource is its name."""
    if isinstance(node, list):
        return [resolved(one, given) for one in node]
    if not isinstance(node, dict):
        return node
    names = {"AWS::Partition": "aws"} | {name: each.get("Default") for name, each in TREE["Parameters"].items()} | given
    if len(node) == 1:
        ((name, value),) = node.items()
        if name == "Ref":
            return names.get(value, value)
        if name == "Fn::GetAtt":
            return f"arn:aws:any:us-east-1:{ACCOUNT}:{value if isinstance(value, str) else '.'.join(value)}"
        if name == "Fn::Join":
            return value[0].join(resolved(value[1], given))
        if name == "Fn::Sub":
            return re.sub(r"\$\{([\w:]+)\}", lambda found: str(names[found[1]]), value)
    assert not any(name.startswith("Fn::") for name in node)
    return {name: resolved(value, given) for name, value in node.items()}


def role_policy(given: dict[str, Any]) -> dict[str, Any]:
    (policy,) = RESOURCES["Role"]["Properties"]["Policies"]
    document: dict[str, Any] = resolved(policy["PolicyDocument"], given)
    added = [each for each in RESOURCES.values() if each["Type"] == "AWS::IAM::RolePolicy"]
    assert TREE["Conditions"] == {each["Condition"]: {"Fn::Equals": [{"Ref": "Also"}, "s3ec"]} for each in added}
    for each in added if given.get("Also") == "s3ec" else ():
        assert each["Properties"]["RoleName"] == {"Ref": "Role"}
        document["Statement"] += resolved(each["Properties"]["PolicyDocument"], given)["Statement"]
    return document


def environment(given: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = resolved(RESOURCES["Function"]["Properties"]["Environment"]["Variables"], given)
    return found


# --- the text


def problems(text: str) -> list[str]:
    regions = ["us-east-1", "eu-west-1", "ap-southeast-2"]
    return [match.rule.id for match in cfnlint.api.lint(text, regions=regions)]


def test_cfn_lint_finds_nothing() -> None:
    assert problems(TEXT) == []


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("Runtime: python3.13", "Runtime: python2.7", "E2533"),
        ("!GetAtt Log.Arn", "!GetAtt Logs.Arn", "E1010"),
        ("ReservedConcurrentExecutions", "ReservedConcurrency", "E3002"),
    ],
)
def test_cfn_lint_would_have_noticed(old: str, new: str, rule: str) -> None:
    assert old in TEXT
    assert rule in problems(TEXT.replace(old, new))


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        ("DataPrefix", ["p/", "a/b-1/"], ["", "/", "p", "p*/", "p?/", "${aws:username}/", "a b/", "/p/", "p/\n"]),
        ("FromKeys", [KEY], ["*", "alias/one", KEY + "*", KEY.replace(ACCOUNT, "*"), KEY + " x", ""]),
        ("ToKeys", [KEY], ["*", "arn:aws:kms:us-east-1:111122223333:alias/new", KEY[:-36] + "*"]),
        ("DataBucket", ["bucket"], ["*", "b*t", "", "bucket/p"]),
        ("Schedule", ["rate(1 day)", "cron(0 3 * * ? *)"], ["daily", ""]),
    ],
)
def test_parameters_that_would_widen_the_role_are_refused(parameter: str, good: list[str], bad: list[str]) -> None:
    pattern = re.compile(TREE["Parameters"][parameter]["AllowedPattern"])
    # CloudFormation has the pattern fit the whole value.
    assert all(pattern.fullmatch(value) for value in good)
    assert not any(pattern.fullmatch(value) for value in bad)


def test_the_function_is_told_what_the_handler_reads_and_nothing_else(keys: Keys, path: Path, folder: Path) -> None:
    read: set[str] = set()

    class Noting(dict[str, str]):
        def get(self, key: str, default: Any = None) -> Any:
            read.add(key)
            return super().get(key, default)

        def __getitem__(self, key: str) -> str:
            read.add(key)
            return super().__getitem__(key)

    given = PARAMETERS | {"FromKeys": list(keys.old), "ToKeys": [keys.new]}
    told = environment(given)
    variables = Noting(told | {"SEALWAX_LOCATIONS": str(folder)})
    aws_lambda.rotate(SCHEDULED, Always(), variables, folder=path, session=keys.lab.session())
    assert read == told.keys()
    assert told["SEALWAX_LOCATIONS"] == "s3://bucket/p/"
    assert told["SEALWAX_FROM"] == " ".join(keys.old)


class Always:
    function_name = "rotation"

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def test_the_rules_are_for_the_events_that_the_handler_takes() -> None:
    pattern = resolved(
        RESOURCES["OnRotation"]["Properties"]["EventPattern"], PARAMETERS | {"ToKeys": ROTATED["resources"]}
    )
    for event, fits in [(ROTATED, True), (OF_TODAY, True), (SCHEDULED, False), (ROTATED | {"resources": [KEY]}, False)]:
        there = {name: value if isinstance(value, list) else [value] for name, value in event.items()}
        assert all(set(wanted) & set(there[name]) for name, wanted in pattern.items()) is fits
    assert RESOURCES["OnSchedule"]["Properties"].keys() == {"Description", "ScheduleExpression", "Targets"}


def test_every_alarm_is_about_a_metric_that_there_is() -> None:
    answer = {"rewrapped": 1, "failed": 1, "unreadable": 1, "damaged": 1, "stale": 1, "overwritten": 0}
    line = aws_lambda._measured(answer, "rotation")
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    ours = {metric["Name"] for metric in directive["Metrics"]}
    alarms = [each["Properties"] for each in RESOURCES.values() if each["Type"] == "AWS::CloudWatch::Alarm"]
    assert len(alarms) == 6
    assert {alarm["MetricName"] for alarm in alarms if alarm["Namespace"] == directive["Namespace"]} == ours
    assert directive["Dimensions"] == [["FunctionName"]]
    for alarm in alarms:
        assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]
        (dimension,) = alarm["Dimensions"]
        assert (dimension["Name"] == "FunctionName") is (alarm["Namespace"] != "AWS/SQS")


def test_the_page_is_about_this_template() -> None:
    page = (ROOT / "docs/how-to/rotate-in-lambda.md").read_text(encoding="utf-8")
    alarms = [name for name, each in RESOURCES.items() if each["Type"] == "AWS::CloudWatch::Alarm"]
    assert re.findall(r"^\| `(\w+)` \| (?:a run|an event|for \w+ days)", page, re.MULTILINE) == alarms
    variables = re.findall(r"`(SEALWAX_\w+)`", page.partition("## Environment variables")[2].partition("## ")[0])
    assert set(variables) == environment(PARAMETERS).keys()
    given = set(re.findall(r"\b([A-Z]\w+)=", page.partition("aws cloudformation deploy")[2].partition("```")[0]))
    assert given == {name for name, each in TREE["Parameters"].items() if "Default" not in each}
    assert set(re.findall(r"`(RoleArn)`", page)) <= TREE["Outputs"].keys()
    minutes = RESOURCES["Function"]["Properties"]["Timeout"] // 60
    assert f"until 60 seconds before its timeout of {minutes} minutes" in page
    assert aws_lambda._MARGIN_SECONDS == 60


# --- the function


@dataclass
class Deployed:
    """The function, with the role of the template, the lab for KMS and moto for S3."""

    keys: Keys
    s3: StrictS3
    client: Any
    url: str
    folder: Path
    policy: dict[str, Any]
    role: str
    environment: dict[str, str]
    asked: list[S3Request] = field(default_factory=list)

    @property
    def cut(self) -> Path:
        return self.folder / "cut"

    def invoke(self, *events: object, **more: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Send events to one process; return what it answered, and the lines of its log."""
        credentials = self.keys.lab.session(principal=self.role).get_credentials()
        assert credentials is not None
        assert credentials.token
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.folder),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_SESSION_TOKEN": credentials.token,
            "AWS_ENDPOINT_URL_KMS": self.url,
            "AWS_ENDPOINT_URL_S3": self.s3.url,
        }
        answers = self.folder / "answers"
        answers.unlink(missing_ok=True)
        self.s3.forget()
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.fleet.lambda_runtime",
                RESOURCES["Function"]["Properties"]["Handler"],
                str(answers),
                str(self.cut),
            ],
            input="".join(json.dumps(event) + "\n" for event in events),
            env=variables | self.environment | more,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        self.asked += self.s3.requests
        return (
            [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()],
            [json.loads(line) for line in done.stdout.splitlines()],
        )

    def seal(self, name: str, data: bytes, *arns: str, **more: Any) -> None:
        sealed = self.keys.sealer(*arns).encrypt(data, context={"tenant": "acme"})
        self.client.put_object(Bucket="bucket", Key=name, Body=sealed, **more)

    def read(self, name: str) -> bytes:
        data = self.client.get_object(Bucket="bucket", Key=name)["Body"].read()
        return self.keys.sealer(self.keys.new).decrypt(data, context={"tenant": "acme"})


@pytest.fixture
def deployed(keys: Keys, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Deployed]:
    given = PARAMETERS | {"FromKeys": [*keys.old, keys.new], "ToKeys": [keys.new]}
    if getattr(request, "param", "") == "s3ec":
        given |= {"FromKeys": [*keys.old], "Also": "s3ec"}
    policy = role_policy(given)
    role = keys.lab.add_principal("rotation", role=True, policy=policy)["Arn"]
    server = Server(keys.lab)
    thread = threading.Thread(target=server.serve)
    thread.start()
    place = tmp_path / "tmp"
    place.mkdir()
    with StrictS3() as s3:
        client = s3.bucket(versioned=True)
        yield Deployed(keys, s3, client, server.url, place, policy, role, environment(given))
    server.close()
    thread.join()


def test_a_run_that_time_cut_is_resumed_and_what_is_no_event_of_ours_fails(deployed: Deployed) -> None:
    for at in range(12):
        deployed.seal(f"p/{at}.swx", b"%d" % at, deployed.keys.one)
    deployed.client.put_object(Bucket="bucket", Key="p/readme.txt", Body=b"no envelope")
    deployed.seal("elsewhere/x.swx", b"not ours", deployed.keys.one)

    def cut(request: S3Request) -> None:
        if request.operation == "PutObject":
            deployed.cut.touch()

    deployed.s3.after.append(cut)
    (first,), (line,) = deployed.invoke(OF_TODAY)
    found = first["answer"]
    assert 1 <= found["rewrapped"] <= 9
    assert (found["more"], found["ended"]) == (True, "the time is up")
    assert (line["Rewrapped"], line["Failing"], line["Unfinished"]) == (found["rewrapped"], 0, found["stale"])
    deployed.s3.after.clear()
    deployed.cut.unlink()
    again, lines = deployed.invoke(SCHEDULED, ROTATED)
    assert [each["answer"]["rewrapped"] for each in again] == [12 - found["rewrapped"], 0]
    assert [each["answer"]["more"] for each in again] == [False, False]
    assert [(each["Failing"], each["Unfinished"]) for each in lines] == [(0, 0), (0, 0)]
    assert deployed.keys.calls()["ReEncrypt"] == 12
    assert [deployed.read(f"p/{at}.swx") for at in range(12)] == [b"%d" % at for at in range(12)]
    assert os.listdir(deployed.folder) == ["answers"], "nothing is kept between invocations"

    strange: list[object] = [{"source": "aws.kms", "detail-type": "KMS CMK Deletion"}, {}, None, "x", [ROTATED], 7]
    answers, lines = deployed.invoke(*strange)
    assert [each["errorType"] for each in answers] == ["ConfigurationError"] * 6
    assert lines == []
    assert deployed.s3.requests == []


def test_lines_are_metrics_to_cloudwatch(deployed: Deployed) -> None:
    deployed.seal('p/"é\\ .swx', b"a", deployed.keys.foreign)
    _, (line,) = deployed.invoke(ROTATED)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    assert line["_aws"].keys() == {"Timestamp", "CloudWatchMetrics"}
    assert abs(line["_aws"]["Timestamp"] / 1000 - datetime.now(UTC).timestamp()) < 86400
    assert directive.keys() == {"Namespace", "Dimensions", "Metrics"}
    assert [line[name] for (name,) in directive["Dimensions"]] == ["rotation"]
    assert {metric["Name"]: line[metric["Name"]] for metric in directive["Metrics"]} == {
        "Rewrapped": 0,
        "Failing": 1,
        "Unfinished": 0,
        "Overwritten": 0,
    }
    (problem,) = line["problems"]
    assert problem["state"] == "refused"


def test_a_run_that_stopped_since_too_much_failed_fails_the_invocation(deployed: Deployed) -> None:
    for at in range(24):
        deployed.seal(f"p/{at}.swx", b"x", deployed.keys.one)

    def refuse(request: S3Request) -> Any:
        return error(403, "AccessDenied") if request.operation == "PutObject" else None

    with deployed.s3.fault(refuse):
        (answer,), (line,) = deployed.invoke(ROTATED)
    assert answer["errorType"] == "EngineError"
    assert re.search(r"the run stopped: \d+ of the last \d+ objects failed", answer["errorMessage"])
    assert line["Failing"] >= 20
    assert "AccessDenied" in line["problems"][0]["reason"]


def test_a_role_that_can_read_nothing_fails_the_invocation(deployed: Deployed) -> None:
    for at in range(3):
        deployed.seal(f"p/{at}.swx", b"x", deployed.keys.one)

    def refuse(request: S3Request, only: str = "") -> Any:
        return error(403, "AccessDenied") if request.operation == "GetObject" and only in request.path else None

    with deployed.s3.fault(refuse):
        (answer,), (line,) = deployed.invoke(ROTATED)
    assert answer["errorType"] == "EngineError"
    assert answer["errorMessage"].startswith("none of 3 objects could be read")
    assert (line["Failing"], line["Unfinished"]) == (3, 0)
    assert "AccessDenied" in line["problems"][0]["reason"]
    # Of one among others, the alarm about single objects tells.
    with deployed.s3.fault(lambda request: refuse(request, only="p/1.swx")):
        (answer,), (line,) = deployed.invoke(ROTATED)
    assert (answer["answer"]["rewrapped"], line["Failing"]) == (2, 1)


def test_a_context_that_fits_nothing_fails_the_invocation(deployed: Deployed) -> None:
    """Else a fleet whose envelopes are all passed over would look like one that is always fresh."""
    for at in range(2):
        deployed.seal(f"p/{at}.swx", b"x", deployed.keys.one)
    (answer,), lines = deployed.invoke(ROTATED, SEALWAX_CONTEXT='{"tenant": "acmee"}')
    assert answer["errorType"] == "ConfigurationError"
    assert "SEALWAX_CONTEXT matches none of 2 envelopes" in answer["errorMessage"]
    # What it would have written would be the sign of a run that came to its end.
    assert lines == []
    assert deployed.keys.calls()["ReEncrypt"] == 0


# --- the role

S3_ACTIONS: Final[dict[str, tuple[str, ...]]] = {
    "GetObject": ("s3:GetObject",),
    "HeadObject": ("s3:GetObject",),
    "GetObjectTagging": ("s3:GetObjectTagging",),
    "PutObject": ("s3:PutObject",),
    "CreateMultipartUpload": ("s3:PutObject",),
    "UploadPart": ("s3:PutObject",),
    "UploadPartCopy": ("s3:PutObject", "s3:GetObject"),
    "CompleteMultipartUpload": ("s3:PutObject",),
    "AbortMultipartUpload": ("s3:AbortMultipartUpload",),
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html: with TaggingDirective COPY
    "PutObjectCopy": ("s3:PutObject", "s3:GetObject", "s3:GetObjectTagging", "s3:PutObjectTagging"),
}


def needed_of_s3(request: S3Request) -> set[tuple[str, str]]:
    """Return the actions and resources that S3 asks IAM about for a request."""
    if request.operation == "ListObjectsV2":
        assert request.query["prefix"] == ["p/"]
        return {("s3:ListBucket", f"arn:aws:s3:::{request.path.strip('/')}")}
    if request.operation == "ListObjectVersions":
        assert request.query["prefix"][0].startswith("p/")
        return {("s3:ListBucketVersions", f"arn:aws:s3:::{request.path.strip('/')}")}
    actions = set(S3_ACTIONS[request.operation])
    if "x-amz-tagging" in request.headers:
        actions.add("s3:PutObjectTagging")
    source = request.headers.get("x-amz-copy-source", "")
    if "versionId" in request.query or "versionId" in source:
        actions = {re.sub("^s3:GetObject", "s3:GetObjectVersion", action) for action in actions}
    if source:
        assert source.lstrip("/").partition("?")[0] == request.path.lstrip("/")
    return {(action, f"arn:aws:s3:::{request.path.lstrip('/')}") for action in actions}


def allows_s3(policy: dict[str, Any], action: str, resource: str) -> bool:
    return IAMPolicy(json.dumps(policy)).is_action_permitted(action, resource) is PermissionResult.PERMITTED


def allows_kms(policy: dict[str, Any], role: str, action: str, key: str) -> bool:
    whole_account = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    statement = {"Effect": "Allow", "Principal": whole_account, "Action": "kms:*", "Resource": "*"}
    return evaluate(
        Request(action, principal(role), key, datetime(2027, 1, 1, tzinfo=UTC), encryption_context={"tenant": "acme"}),
        key_policy=parse_key_policy({"Version": "2012-10-17", "Statement": [statement]}),
        identity_policies=[parse_identity_policy(policy)],
    ).allowed


def granted(policy: dict[str, Any], service: str) -> set[str]:
    actions: set[str] = set()
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        listed = statement["Action"]
        actions |= {listed} if isinstance(listed, str) else set(listed)
    assert not any("*" in action for action in actions)
    return {action for action in actions if action.startswith(f"{service}:")}


def test_the_role_allows_what_the_function_asks_for_and_no_more(deployed: Deployed) -> None:
    keys = deployed.keys
    deployed.seal("p/small.swx", b"small", keys.one, Tagging="team=red")
    deployed.seal("p/two.swx", b"two", keys.two)
    deployed.seal("p/material.swx", b"material", keys.new)
    keys.lab.call("RotateKeyOnDemand", KeyId=keys.new)
    deployed.seal("p/large.swx", bytes(6 << 20), keys.one)
    seen = 0

    def replace(request: S3Request) -> None:
        # A writer, when the large object has been looked at to re-wrap it.
        nonlocal seen
        if request.path == "/bucket/p/large.swx" and request.operation == "HeadObject":
            seen += 1
            if seen == 1:
                deployed.seal("p/large.swx", bytes(6 << 20), keys.one)

    deployed.s3.after.append(replace)
    before = len(keys.lab.trail.events())
    (found,), _ = deployed.invoke(ROTATED)
    deployed.s3.after.clear()
    assert (found["answer"]["rewrapped"], found["answer"]["stale"]) == (4, 0)
    assert deployed.read("p/material.swx") == b"material"
    assert deployed.read("p/large.swx") == bytes(6 << 20)

    assert asked_of_kms(deployed, before) == granted(deployed.policy, "kms")

    needed = {each for request in deployed.asked for each in needed_of_s3(request)}
    assert len(needed) > 10
    for action, resource in needed:
        assert allows_s3(deployed.policy, action, resource), (action, resource)
    assert {action for action, _ in needed} == granted(deployed.policy, "s3")


def asked_of_kms(deployed: Deployed, before: int) -> set[str]:
    """Return the actions that KMS asked IAM about after so many events, all of which the role allows."""
    events = [event.record for event in deployed.keys.lab.trail.events()[before:]]
    events = [event for event in events if "assumed-role/rotation" in event["userIdentity"].get("arn", "")]
    used = set()
    for event in events:
        failed = event.get("errorCode")
        assert failed in (None, "IncorrectKeyException")
        arns = [each["ARN"] for each in event["resources"]]
        arns = arns if failed or len(arns) > 1 else arns * 2  # a failed call tells one of the two
        for permission, arn in zip(permissions(event["eventName"]), arns, strict=False):
            used.add(permission.action)
            assert allows_kms(deployed.policy, deployed.role, permission.action, arn), (permission.action, arn)
    return used


@pytest.mark.parametrize("deployed", ["s3ec"], indirect=True)
def test_the_role_allows_what_objects_of_the_s3_encryption_client_need_and_no_more(deployed: Deployed) -> None:
    keys, kms = deployed.keys, deployed.keys.lab.session().client("kms")
    s3ec.make(kms, keys.one, b"x", {"tenant": "acme"}).put(deployed.client, "p/v3", Tagging="team=red")
    s3ec.make(kms, keys.two, b"x", {"tenant": "acme"}, instructions=True).put(deployed.client, "p/file")
    before = len(keys.lab.trail.events())
    answers, _ = deployed.invoke(SCHEDULED, SCHEDULED)
    assert [each["answer"]["rewrapped"] for each in answers] == [2, 0]
    assert [each["answer"]["stale"] for each in answers] == [0, 0]
    assert asked_of_kms(deployed, before) == granted(deployed.policy, "kms")

    needed = {each for request in deployed.asked for each in needed_of_s3(request)}
    for action, resource in needed:
        assert allows_s3(deployed.policy, action, resource), (action, resource)
    others = role_policy(PARAMETERS | {"FromKeys": [*keys.old], "ToKeys": [keys.new]})
    assert {action for action, _ in needed} | granted(others, "s3") == granted(deployed.policy, "s3")
    assert granted(deployed.policy, "s3") - granted(others, "s3") == {
        "s3:ListBucketVersions",
        "s3:GetObjectVersionTagging",
    }
    (listing,) = [each for each in deployed.policy["Statement"] if each["Action"] == "s3:ListBucketVersions"]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "p/*"}}
    assert not allows_kms(others, deployed.role, "kms:ReEncryptFrom", keys.new)
    assert not allows_kms(deployed.policy, deployed.role, "kms:ReEncryptTo", keys.one)


def test_an_object_is_rewrapped_once_for_new_key_material(deployed: Deployed) -> None:
    """The key is on both sides, and an object does not say which of its material it is under."""
    keys = deployed.keys
    s3ec.make(keys.lab.session().client("kms"), keys.new, b"x", {"tenant": "acme"}).put(deployed.client, "p/v3")
    keys.lab.call("RotateKeyOnDemand", KeyId=keys.new)
    answers, _ = deployed.invoke(ROTATED, SCHEDULED, SEALWAX_ALSO="s3ec", SEALWAX_FROM=keys.new)
    assert [each["answer"]["rewrapped"] for each in answers] == [1, 0]
    assert deployed.s3.operations.count("PutObjectCopy") == 1


FORBIDDEN_KMS: Final = """
    Decrypt Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext CreateGrant PutKeyPolicy DisableKey
    ScheduleKeyDeletion RotateKeyOnDemand EnableKeyRotation UpdateAlias TagResource GetKeyPolicy
    """
FORBIDDEN_S3: Final = """
    DeleteObject DeleteObjectVersion DeleteBucket PutBucketPolicy PutObjectAcl PutObjectRetention PutObjectLegalHold
    BypassGovernanceRetention DeleteObjectTagging GetBucketPolicy
    """


def test_the_role_allows_nothing_else() -> None:
    old, new, other = (KEY[:-1] + digit for digit in "123")
    policy = role_policy(PARAMETERS | {"FromKeys": [old], "ToKeys": [new]})
    role = f"arn:aws:iam::{ACCOUNT}:role/rotation"

    def kms(action: str, key: str) -> bool:
        return allows_kms(policy, role, f"kms:{action}", key)

    assert kms("ReEncryptFrom", old)
    assert kms("ReEncryptTo", new)
    assert not any(kms(action, key) for action in FORBIDDEN_KMS.split() for key in (old, new, other))
    assert not any(kms(action, other) for action in ("ReEncryptFrom", "ReEncryptTo", "DescribeKey", "ListKeyRotations"))
    assert not kms("ReEncryptFrom", new), "nor back out of the wanted key"
    assert not kms("ReEncryptTo", old)
    assert not kms("DescribeKey", old)

    inside, outside = (
        "arn:aws:s3:::bucket/p/x",
        ["arn:aws:s3:::bucket/q/x", "arn:aws:s3:::bucket/p", "arn:aws:s3:::b/p/x"],
    )
    assert allows_s3(policy, "s3:PutObject", inside)
    assert not any(allows_s3(policy, f"s3:{action}", inside) for action in FORBIDDEN_S3.split())
    for resource in outside:
        assert not any(allows_s3(policy, action, resource) for action in granted(policy, "s3"))
    assert not allows_s3(policy, "s3:ListBucket", "arn:aws:s3:::b")
    (listing,) = [statement for statement in policy["Statement"] if statement["Action"] == "s3:ListBucket"]
    assert listing["Condition"] == {"StringEquals": {"s3:prefix": "p/"}}
    assert granted(policy, "logs") == {"logs:CreateLogStream", "logs:PutLogEvents"}
    assert granted(policy, "sqs") == {"sqs:SendMessage"}
    assert all(statement["Resource"] != "*" for statement in policy["Statement"])
