"""``sealwax keys list`` and the call below it, against the lab and against answers and refusals put before it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import boto3
import pytest

from sealwax import errors
from sealwax.cli import run
from sealwax.kms._listing import LastUse, Rotation, list_keys
from sealwax.lab import Lab

DENIED: Final = "AccessDeniedException"
_DAY: Final = datetime(2026, 3, 1, tzinfo=UTC)

ListCommand = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class _Http:
    """As much of an HTTP answer as botocore asks for."""

    status_code: int


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as lab:
        yield lab


def answer(session: boto3.Session, operation: str, give: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Have the session's KMS clients get this answer instead of asking the lab; ``give`` takes the request."""

    def before_call(params: dict[str, Any], **_: Any) -> Any:
        parsed = give(json.loads(params["body"]))
        return _Http(400 if "Error" in parsed else 200), {"ResponseMetadata": {"RequestId": "r-1"}, **parsed}

    session.events.register(f"before-call.kms.{operation}", before_call)


def refuse(session: boto3.Session, *operations: str, code: str = DENIED) -> None:
    for operation in operations:
        answer(session, operation, lambda _: {"Error": {"Code": code, "Message": "no"}})


def refuse_in(session: boto3.Session, region: str) -> None:
    def before_call(context: dict[str, Any], **_: Any) -> Any:
        if context["client_region"] == region:
            return _Http(400), {"Error": {"Code": DENIED, "Message": "no"}, "ResponseMetadata": {}}
        return None

    for operation in ("ListKeys", "ListAliases"):
        session.events.register(f"before-call.kms.{operation}", before_call)


def rotating(session: boto3.Session) -> boto3.Session:
    answer(
        session,
        "GetKeyRotationStatus",
        lambda _: {"KeyRotationEnabled": True, "RotationPeriodInDays": 90, "KeyId": "k"},
    )
    return session


def test_every_fact_of_a_key(lab: Lab) -> None:
    lab.create_key(alias="payments", region="eu-west-1")
    session = rotating(lab.session(region="eu-west-1"))
    kms = session.client("kms")
    kms.generate_data_key(KeyId="alias/payments", KeySpec="AES_256")
    found = list_keys(session)
    (key,) = found.keys
    assert (key.region, key.aliases, key.not_seen) == ("eu-west-1", ("alias/payments",), ())
    assert (key.manager, key.origin, key.state, key.multi_region) == ("CUSTOMER", "AWS_KMS", "Enabled", "no")
    assert key.rotation == Rotation(possible=True, enabled=True, period_days=90)
    assert key.last_use is not None
    assert key.last_use.operation == "GenerateDataKey"
    assert key.last_use.time is not None
    assert key.arn == kms.describe_key(KeyId=key.key_id)["KeyMetadata"]["Arn"]
    assert found.unseen == ()


def test_pages_are_followed_to_the_end(lab: Lab) -> None:
    for number in range(105):
        lab.create_key(alias=f"key-{number:03}")
    keys = list_keys(rotating(lab.session())).keys
    assert [key.aliases for key in keys] == [(f"alias/key-{number:03}",) for number in range(105)]


def test_regions_are_listed_in_the_order_named(lab: Lab) -> None:
    lab.create_key(alias="here", region="us-east-1")
    lab.create_key(alias="there", region="eu-west-1")
    keys = list_keys(rotating(lab.session()), ["eu-west-1", "us-east-1", "eu-west-1"]).keys
    assert [(key.region, key.aliases) for key in keys] == [
        ("eu-west-1", ("alias/there",)),
        ("us-east-1", ("alias/here",)),
    ]


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("DescribeKey", {"manager", "origin", "state", "multi_region"}),
        ("GetKeyRotationStatus", {"rotation"}),
        ("GetKeyLastUsage", {"last_use"}),
        ("ListAliases", {"aliases"}),
        ("ListKeys", set()),
    ],
)
def test_what_is_denied_is_not_seen_and_said_to_be(lab: Lab, operation: str, fields: set[str]) -> None:
    lab.create_key(alias="one")
    session = lab.session()
    if operation != "GetKeyRotationStatus":
        rotating(session)
    refuse(session, operation)
    found = list_keys(session)
    (key,) = found.keys
    assert set(key.not_seen) == fields
    assert {name for name in ("manager", "state", "rotation", "last_use") if getattr(key, name) is None} <= fields
    (unseen,) = found.unseen
    assert (unseen.region, unseen.action) == ("us-east-1", f"kms:{operation}")
    assert unseen.keys == (0 if operation.startswith("List") else 1)
    assert isinstance(unseen.error, errors.AccessDeniedError)


def test_without_list_keys_the_keys_with_an_alias_are_found(lab: Lab) -> None:
    lab.create_key(alias="named")
    lab.create_key()
    session = rotating(lab.session())
    refuse(session, "ListKeys")
    assert [key.aliases for key in list_keys(session).keys] == [("alias/named",)]


def test_alias_names_that_aws_reserves_are_no_keys(lab: Lab) -> None:
    session = rotating(lab.session())
    answer(session, "ListAliases", lambda _: {"Aliases": [{"AliasName": "alias/aws/s3"}], "Truncated": False})
    refuse(session, "ListKeys")
    assert list_keys(session).keys == ()


def test_one_region_that_is_closed_does_not_hide_another(lab: Lab) -> None:
    lab.create_key(alias="open", region="eu-west-1")
    session = rotating(lab.session())
    refuse_in(session, "us-west-2")
    found = list_keys(session, ["us-west-2", "eu-west-1"])
    assert [key.region for key in found.keys] == ["eu-west-1"]
    assert found.unlisted == ("us-west-2",)


def test_no_region_at_all_is_an_error(lab: Lab) -> None:
    session = lab.session()
    refuse(session, "ListKeys", "ListAliases")
    with pytest.raises(errors.AccessDeniedError, match="kms:ListKeys in us-east-1"):
        list_keys(session)


def test_expired_credentials_are_an_error_and_not_a_gap(lab: Lab) -> None:
    lab.create_key()
    session = lab.session()
    refuse(session, "GetKeyLastUsage", code="ExpiredTokenException")
    with pytest.raises(errors.CredentialsError):
        list_keys(session)


@pytest.mark.parametrize(
    ("spec", "origin", "rotation"),
    [
        ("SYMMETRIC_DEFAULT", "EXTERNAL", Rotation(possible=False, enabled=False)),
        ("SYMMETRIC_DEFAULT", "AWS_CLOUDHSM", Rotation(possible=False, enabled=False)),
        ("RSA_2048", "AWS_KMS", Rotation(possible=False, enabled=False)),
        ("SYMMETRIC_DEFAULT", "AWS_KMS", Rotation(possible=True, enabled=True, period_days=90)),
    ],
)
def test_rotation_is_asked_about_only_where_it_is_possible(
    lab: Lab, spec: str, origin: str, rotation: Rotation
) -> None:
    lab.create_key()
    session = rotating(lab.session())
    described(session, KeySpec=spec, Origin=origin)
    (key,) = list_keys(session).keys
    assert key.rotation == rotation
    assert key.origin == origin


def described(session: boto3.Session, **facts: Any) -> None:
    answer(
        session,
        "DescribeKey",
        lambda request: {
            "KeyMetadata": {
                "KeyId": request["KeyId"],
                "Arn": f"arn:aws:kms:us-east-1:111122223333:key/{request['KeyId']}",
                "KeyManager": "CUSTOMER",
                "KeyState": "Enabled",
                "KeySpec": "SYMMETRIC_DEFAULT",
                "Origin": "AWS_KMS",
                "MultiRegion": False,
                **facts,
            }
        },
    )


def test_without_describe_key_kms_says_that_rotation_is_not_possible(lab: Lab) -> None:
    lab.create_key()
    session = lab.session()
    refuse(session, "DescribeKey")
    refuse(session, "GetKeyRotationStatus", code="UnsupportedOperationException")
    (key,) = list_keys(session).keys
    assert key.rotation == Rotation(possible=False, enabled=False)


@pytest.mark.parametrize("more", [{}, {"MultiRegion": True}])
def test_a_key_that_waits_for_its_deletion_has_no_rotation_and_is_seen_whole(lab: Lab, more: dict[str, Any]) -> None:
    kms = lab.session().client("kms")
    kms.schedule_key_deletion(KeyId=kms.create_key(**more)["KeyMetadata"]["KeyId"], PendingWindowInDays=7)
    (key,) = list_keys(lab.session()).keys
    assert (key.state, key.not_seen) == ("PendingDeletion", ())
    assert key.rotation == Rotation(possible=False, enabled=False)


# --- the command


@pytest.fixture
def list_command(lab: Lab, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> ListCommand:
    """Run ``keys list`` over a session of the lab with answers put before it."""

    def go(*arguments: str, prepare: Callable[[boto3.Session], object] = rotating) -> tuple[int, str, str]:
        session = lab.session()
        prepare(session)
        monkeypatch.setattr("sealwax.cli.kms.Aws.session", lambda _: session)
        status = run(["keys", "list", *arguments])
        return status, *capfd.readouterr()

    return go


def test_table(lab: Lab, list_command: ListCommand) -> None:
    lab.create_key(alias="demo")
    status, out, err = list_command()
    head, row = out.splitlines()
    assert head.split() == ["ID", "ALIASES", "MANAGER", "ORIGIN", "STATE", "MULTI-REGION", "ROTATION", "LAST", "USE"]
    assert row[head.index("ALIASES") :].split("  ")[0] == "alias/demo"
    for text in ("customer managed", "  KMS  ", "  Enabled  ", "  no  ", "  on, every 90 days  ", "  never"):
        assert text in row
    assert (status, err) == (0, "")


def test_table_names_the_region_where_there_are_several(lab: Lab, list_command: ListCommand) -> None:
    lab.create_key(region="us-east-1")
    lab.create_key(region="eu-west-1")
    _, out, _ = list_command("--region", "us-east-1", "--region", "eu-west-1")
    assert [line.split()[0] for line in out.splitlines()] == ["REGION", "us-east-1", "eu-west-1"]


def test_what_is_not_seen(lab: Lab, list_command: ListCommand) -> None:
    lab.create_key(alias="one")
    lab.create_key(alias="two")

    def prepare(session: boto3.Session) -> None:
        refuse(session, "DescribeKey", "GetKeyRotationStatus", "GetKeyLastUsage", "ListAliases")

    status, out, err = list_command(prepare=prepare)
    assert all(row.split()[1:] == ["?"] * 7 for row in out.splitlines()[1:])
    assert status == 0
    assert err.count("details") == 4
    assert "details of 2 keys are missing; the first error: kms:GetKeyRotationStatus in us-east-1" in err
    status, out, _ = list_command("--json", prepare=prepare)
    for line in out.splitlines():
        key = json.loads(line)
        assert key["not_seen"] == ["aliases", "manager", "origin", "state", "multi_region", "rotation", "last_use"]
        assert all(key[name] is None for name in key["not_seen"])


def test_json_has_one_object_a_line(lab: Lab, list_command: ListCommand) -> None:
    for alias in ("b", "a"):
        lab.create_key(alias=alias)
    _, out, _ = list_command("--json")
    keys = [json.loads(line) for line in out.splitlines()]
    assert [key["aliases"] for key in keys] == [["alias/a"], ["alias/b"]]
    assert keys[0]["rotation"] == {"possible": True, "enabled": True, "period_days": 90}
    assert keys[0]["not_seen"] == []


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"KeyManager": "AWS"}, "AWS managed"),
        ({"Origin": "EXTERNAL"}, "external"),
        ({"Origin": "AWS_CLOUDHSM"}, "CloudHSM"),
        ({"Origin": "EXTERNAL_KEY_STORE"}, "external key store"),
        ({"Origin": "EXTERNAL"}, "not possible"),
        ({"KeyState": "PendingDeletion"}, "PendingDeletion"),
        (
            {"MultiRegion": True, "MultiRegionConfiguration": {"MultiRegionKeyType": "PRIMARY", "ReplicaKeys": []}},
            "primary",
        ),
        (
            {
                "MultiRegion": True,
                "MultiRegionConfiguration": {"MultiRegionKeyType": "REPLICA", "PrimaryKey": {"Arn": "arn"}},
            },
            "replica",
        ),
    ],
)
def test_words_of_the_table(lab: Lab, list_command: ListCommand, facts: dict[str, Any], shown: str) -> None:
    lab.create_key()
    _, out, _ = list_command(prepare=lambda session: described(rotating(session), **facts))
    assert f"  {shown}  " in out.splitlines()[1]


@pytest.mark.parametrize(
    ("use", "shown"),
    [
        (LastUse("Decrypt", _DAY, _DAY, _DAY), "2026-03-01 Decrypt"),
        (LastUse(None, None, _DAY, _DAY), "never"),
        (LastUse(None, None, _DAY, datetime(2019, 1, 1, tzinfo=UTC)), "none since 2026-03-01"),
        (LastUse(None, None, None, None), "?"),
    ],
)
def test_last_use(lab: Lab, list_command: ListCommand, use: LastUse, shown: str) -> None:
    lab.create_key()

    def give(_: dict[str, Any]) -> dict[str, Any]:
        usage = {"KeyLastUsage": {"Operation": use.operation, "Timestamp": use.time}} if use.time else {}
        dates = {"TrackingStartDate": use.tracked_since, "KeyCreationDate": use.created}
        return usage | {name: date for name, date in dates.items() if date}

    _, out, _ = list_command(prepare=lambda session: answer(rotating(session), "GetKeyLastUsage", give))
    assert out.splitlines()[1].endswith(f"  {shown}")


def test_a_region_that_is_closed_makes_it_partly_done(list_command: ListCommand) -> None:
    status, _, err = list_command(
        "--region", "us-west-2", "--region", "us-east-1", prepare=lambda session: refuse_in(session, "us-west-2")
    )
    assert status == 8
    assert "kms:ListKeys in us-west-2" in err
    status, _, err = list_command(
        *("--region", "us-west-2", "--region", "us-east-1", "-q"),
        prepare=lambda session: refuse_in(session, "us-west-2"),
    )
    assert (status, err) == (8, "sealwax: the keys of us-west-2 could not be listed (exit status 8)\n")


def test_the_session_takes_the_first_region(lab: Lab, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lab.create_key(alias="there", region="eu-west-1")
    status = run(["keys", "list", "--lab", str(tmp_path / "lab"), "--region", "eu-west-1", "--json"])
    out, err = capfd.readouterr()
    assert status == 0
    assert json.loads(out)["aliases"] == ["alias/there"]
    assert "using the lab" in err
