"""Each way in which a setup can be broken: one line says so, with a fix, and the exit status is 3."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from sealwax import cli
from sealwax.cli.doctor.lines import failed
from sealwax.errors import KmsError
from sealwax.lab import Lab, Server
from tests.cli.conftest import Keys
from tests.cli.shell import Shell
from tests.credentials.endpoint import Answer, Asked, Endpoint, json_error, xml_error
from tests.sts import CONFIG as MFA_CONFIG

ACCOUNT = "111122223333"
NOBODY = f"arn:aws:kms:us-east-1:444455556666:key/{'1' * 8}-1111-1111-1111-{'1' * 12}"
SECRET, TOKEN = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY", "IQoJb3JpZ2luX2VjEXAMPLETOKEN"
USABLE = ["kms:GenerateDataKey", "kms:Decrypt"]

Checks = list[dict[str, str]]
Doctor = Callable[..., tuple[int, Checks]]


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's AWS setup."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "SEALWAX_")) or name.endswith("_PROXY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run it in this process; return the status and the checks."""

    def run(*arguments: str) -> tuple[int, Checks]:
        capsys.readouterr()
        status = cli.run(["doctor", "--json", *arguments])
        out, err = capsys.readouterr()
        assert SECRET not in out + err
        assert TOKEN not in out + err
        report = json.loads(out)
        checks: Checks = report["checks"]
        sick = [check for check in checks if check["state"] == "needs fixing"]
        assert report["needs_fixing"] == len(sick)
        assert status == (3 if sick else 0)
        assert [check for check in sick if not check["fix"]] == []
        return status, checks

    return run


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab in use, with alias/demo."""
    with Lab(tmp_path / "lab") as lab:
        monkeypatch.setenv("DEMO", lab.create_key(alias="demo")["Arn"])
        monkeypatch.setenv("SEALWAX_LAB", str(lab.path))
        yield lab


@pytest.fixture
def alice(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Be a user who may do some actions with alias/demo; return the user's ARN."""
    count = iter(range(100))

    def become(*actions: str, statements: Sequence[object] = (), account: str = ACCOUNT) -> str:
        allow = {"Effect": "Allow", "Action": list(actions), "Resource": os.environ["DEMO"]}
        listed = [*([allow] if actions else []), *statements]
        policy = {"Version": "2012-10-17", "Statement": listed} if listed else None
        added = lab.add_principal(f"alice{next(count)}", account=account, policy=policy)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", added["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", added["SecretAccessKey"])
        return added["Arn"]

    return become


def the(checks: Checks, name: str) -> dict[str, str]:
    (check,) = [check for check in checks if check["check"] == name]
    return check


def states(checks: Checks) -> dict[str, str]:
    return {check["check"]: check["state"] for check in checks}


def sick(checks: Checks) -> list[str]:
    return [check["check"] for check in checks if check["state"] == "needs fixing"]


# --- nothing is broken


def test_all_is_well_in_a_lab(lab: Lab, doctor: Doctor) -> None:
    status, checks = doctor("-k", "alias/demo")
    assert status == 0
    assert list(states(checks)) == [
        *("versions", "terminal", "settings", "lab", "Region", "credentials", "caller", "clock"),
        *("key", "encrypt", "decrypt", "extra keys", "rewrap"),
    ]
    assert set(states(checks).values()) == {"ok"}
    assert str(lab.path) in the(checks, "lab")["detail"]
    assert the(checks, "caller")["detail"] == f"arn:aws:iam::{ACCOUNT}:root"
    assert os.environ["DEMO"] in the(checks, "key")["detail"]
    operations = {event.record["eventName"] for event in lab.trail.events()}
    assert operations >= {"GetCallerIdentity", "DescribeKey", "GenerateDataKey", "Decrypt", "Encrypt", "ReEncrypt"}
    dry = [e.record for e in lab.trail.events() if e.record["eventName"] in ("GenerateDataKey", "ReEncrypt", "Encrypt")]
    assert len(dry) == 3
    assert {record.get("errorCode") for record in dry} == {"DryRunOperationException"}


def test_without_a_key_the_rest_is_checked(lab: Lab, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    status, checks = doctor()
    assert status == 0
    assert the(checks, "key")["state"] == "not checked"
    assert the(checks, "key")["fix"] == "name one with -k or in SEALWAX_KEY"
    monkeypatch.setenv("SEALWAX_KEY", "alias/demo")
    assert the(doctor()[1], "key")["state"] == "ok"
    assert [event.record["eventName"] for event in lab.trail.events()].count("GetCallerIdentity") == 2


def test_every_key_has_its_lines(lab: Lab, doctor: Doctor) -> None:
    lab.create_key(alias="other")
    _, checks = doctor("-k", "alias/demo", "-k", "alias/none", "-k", "alias/other")
    assert [(check["key"], check["state"]) for check in checks if check["check"] == "key"] == [
        ("alias/demo", "ok"),
        ("alias/none", "needs fixing"),
        ("alias/other", "ok"),
    ]
    assert [check["key"] for check in checks if check["check"] == "decrypt"] == ["alias/demo", "alias/other"]


@pytest.mark.usefixtures("lab")
def test_people_get_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", "-k", "alias/demo"]) == 0
    out, _ = capsys.readouterr()
    assert out.endswith("\nNothing needs fixing.\n")
    assert "ok            caller       arn:aws:iam::111122223333:root\n" in out
    assert cli.run(["doctor", "-q", "-k", "alias/demo"]) == 0
    assert capsys.readouterr().out == ""
    assert cli.run(["doctor", "-q", "-k", "alias/none"]) == 3
    out, _ = capsys.readouterr()
    assert out.startswith("needs fixing  key  ")
    assert out.endswith("\n1 line needs fixing.\n")
    assert out.count("\n") == 3


def test_the_settings_file_is_a_line(lab: Lab, doctor: Doctor) -> None:
    lab.create_key(alias="other")
    file = Path("sealwax.toml")
    file.write_text(
        'key = "alias/demo"\ncontext = { path = "{relpath}" }\n[[rule]]\npath = "b/**"\nkey = "alias/other"\n'
    )
    file.chmod(0o644)
    status, checks = doctor()
    assert (status, the(checks, "settings")["state"]) == (0, "ok")
    assert str(file.absolute()) in the(checks, "settings")["detail"]
    assert [check["key"] for check in checks if check["check"] == "decrypt"] == ["alias/demo", "alias/other"]
    file.chmod(0o666)
    status, checks = doctor()
    assert (status, sick(checks)) == (3, ["settings"])
    assert the(checks, "key")["detail"] == "see settings"
    assert "chmod go-w" in the(checks, "settings")["detail"] + the(checks, "settings")["fix"]
    status, checks = doctor("--no-settings")
    assert (status, the(checks, "settings")["state"]) == (0, "ok")


# --- credentials, Region, network


def test_no_credentials(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    _, checks = doctor("-k", "alias/demo")
    assert sick(checks) == ["credentials"]
    assert "there are no AWS credentials" in the(checks, "credentials")["detail"]
    assert "aws sso login" in the(checks, "credentials")["fix"]
    assert [states(checks)[name] for name in ("caller", "clock", "key")] == ["not checked"] * 3


def test_a_profile_that_is_not_there(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (("--profile", "nope"), ()):
        monkeypatch.setenv("AWS_PROFILE", "nope")
        _, checks = doctor(*arguments)
        assert sick(checks) == ["credentials"]
        assert "no such AWS profile" in the(checks, "credentials")["detail"]
        assert "list-profiles" in the(checks, "credentials")["fix"]


def test_a_code_that_nobody_can_type(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(MFA_CONFIG)
    if os.isatty(0):
        pytest.skip("a terminal would be asked")
    _, checks = doctor("--profile", "mfa", "-k", "alias/demo")
    assert sick(checks) == ["credentials"]
    assert "MFA code" in the(checks, "credentials")["detail"]


@pytest.mark.usefixtures("signed_in")
def test_no_region(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with Endpoint(identified) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        _, checks = doctor("-k", "alias/demo")
        assert sick(checks) == ["Region"]
        assert "boto3 does not read it" in the(checks, "Region")["detail"]
        assert "AWS_DEFAULT_REGION" in the(checks, "Region")["fix"]
        assert the(checks, "key")["state"] == "not checked"
        _, checks = doctor("-k", NOBODY)
        assert the(checks, "Region")["state"] == "ok"
        _, checks = doctor("-k", "arn:aws:kms:no where:1:key")
        assert sick(checks) == ["Region", "key"]


@pytest.mark.usefixtures("signed_in")
def test_a_region_with_a_typing_mistake(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")
    for name, fix in {"eu-wset-1": "did you mean eu-west-1?", "frankfurt": "a Region looks like eu-west-1"}.items():
        _, checks = doctor("--region", name)
        assert the(checks, "Region") == {
            "check": "Region",
            "state": "needs fixing",
            "detail": f"boto3 does not know the Region '{name}' (from --region)",
            "fix": fix,
            "key": "",
        }
    _, checks = doctor("--region", "eu-wset-1", "-k", "alias/demo", "-k", NOBODY)
    assert sick(checks) == ["Region", "key"], "one cause is one finding; the ARN names a Region that exists"
    assert the(checks, "caller")["detail"] == "see Region"
    assert [check["detail"] for check in checks if check["key"] == "alias/demo"] == ["alias/demo: see Region"]
    assert the(doctor("--region", "cn-north-1")[1], "Region")["state"] == "ok"
    assert sick(doctor("--region", "no good", "-k", "alias/demo")[1]) == ["Region"]


@pytest.mark.usefixtures("signed_in")
def test_a_region_that_answers_is_one(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    with Endpoint(identified) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        status, checks = doctor("--region", "eu-atlantis-1")
    assert status == 0
    assert the(checks, "Region")["detail"] == "eu-atlantis-1, from --region"


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.usefixtures("signed_in")
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:{closed}"}, "could not be reached"),
        ({"HTTPS_PROXY": "http://127.0.0.1:{closed}"}, "could not be reached"),
        ({"AWS_ENDPOINT_URL": "https://127.0.0.1:{open}"}, "certificate"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:{open}", "AWS_CA_BUNDLE": "gone.pem"}, ""),
    ],
    ids=["refused", "proxy", "TLS", "bundle"],
)
def test_no_way_to_aws(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str) -> None:
    with Endpoint(lambda _: Answer(500)) as endpoint:
        for name, value in variables.items():
            port = endpoint.place.rpartition(":")[2]
            monkeypatch.setenv(name, value.format(closed=closed_port(), open=port))
        _, checks = doctor("-k", "alias/demo", "-k", "alias/demo2")
        assert set(sick(checks)) == {"caller", "key"}
        assert words in the(checks, "caller")["detail"]
        assert the(checks, "caller")["fix"].startswith(("check ", "try again", "the endpoint is not AWS"))
        keys = [check for check in checks if check["check"] == "key"]
        assert [check["state"] for check in keys] == ["needs fixing", "not checked"]
        assert keys[1]["detail"] == "alias/demo2: KMS in us-east-1 did not answer"


def identified(asked: Asked, **headers: str) -> Answer:
    """STS as it should be; everything else is an outage."""
    if asked.operation != "sts:GetCallerIdentity":
        return Answer(503)
    body = (
        "<GetCallerIdentityResponse><GetCallerIdentityResult><UserId>A</UserId>"
        f"<Account>{ACCOUNT}</Account><Arn>arn:aws:iam::{ACCOUNT}:user/alice</Arn></GetCallerIdentityResult>"
        "</GetCallerIdentityResponse>"
    )
    return Answer(200, body.encode(), (("Content-Type", "text/xml"), *headers.items()))


@pytest.mark.usefixtures("signed_in")
@pytest.mark.parametrize(
    ("code", "words", "fix"),
    [
        ("ExpiredToken", "have expired", "sign in again"),
        ("InvalidClientTokenId", "does not accept the credentials", "check the access key"),
        ("SignatureDoesNotMatch", "does not accept the credentials", "check the access key"),
    ],
)
def test_credentials_that_aws_refuses(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, code: str, words: str, fix: str
) -> None:
    with Endpoint(lambda _: xml_error(code, "The security token is no good.")) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        _, checks = doctor("-k", "alias/demo")
        assert sick(checks) == ["caller"]
        assert words in the(checks, "caller")["detail"]
        assert the(checks, "caller")["fix"].startswith(fix)
        assert "AWS_ACCESS_KEY_ID" in the(checks, "credentials")["detail"]
        assert states(checks)["key"] == "not checked"
        assert endpoint.operations() == ["sts:GetCallerIdentity"]


@pytest.mark.usefixtures("signed_in")
def test_how_long_credentials_last(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    with Endpoint(identified) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        assert the(doctor()[1], "credentials")["detail"].endswith("; temporary, with an unknown expiry time")
        until = datetime.now(UTC) + timedelta(minutes=90, seconds=20)
        monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", until.isoformat())
        detail = the(doctor()[1], "credentials")["detail"]
        assert f"valid for 90 minutes, until {until:%Y-%m-%d %H:%M:%S} UTC" in detail
        monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2001-01-01T00:00:00Z")
        assert sick(doctor()[1]) == ["credentials"]
        monkeypatch.delenv("AWS_CREDENTIAL_EXPIRATION")
        monkeypatch.delenv("AWS_SESSION_TOKEN")
        assert the(doctor()[1], "credentials")["detail"].endswith("; they do not expire")


def test_a_profile_is_named(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(f"[work]\naws_access_key_id = AKID\naws_secret_access_key = {SECRET}\n")
    (tmp_path / ".aws/config").write_text("[profile work]\nregion = eu-west-1\n")
    with Endpoint(identified) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        _, checks = doctor("--profile", "work")
        assert the(checks, "credentials")["detail"].startswith("from the shared credentials file (AWS profile 'work');")
        assert the(checks, "Region")["detail"] == "eu-west-1, from the AWS profile"


# --- the clock


@pytest.mark.usefixtures("signed_in")
@pytest.mark.parametrize(("minutes", "words"), [(-61, "61 minutes ahead of AWS's"), (61, "61 minutes behind AWS's")])
def test_a_clock_that_is_an_hour_off(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, minutes: int, words: str) -> None:
    """AWS's clock is that many minutes ahead of ours; its refusal tells."""

    def answer(_: Asked) -> Answer:
        refusal = xml_error("SignatureDoesNotMatch", "Signature expired: 20261130T1 is now earlier than 20261130T2")
        date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
        return Answer(refusal.status, refusal.body, (*refusal.headers, ("Date", date)))

    with Endpoint(answer) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        _, checks = doctor("-k", "alias/demo")
    assert sick(checks) == ["clock"]
    assert the(checks, "clock")["detail"].startswith(words)
    assert "timedatectl" in the(checks, "clock")["fix"]
    assert the(checks, "caller")["detail"] == "AWS refuses requests while the clock is wrong"
    assert the(checks, "key")["state"] == "not checked"


@pytest.mark.usefixtures("signed_in")
@pytest.mark.parametrize(
    ("date", "state", "words"),
    [
        (timedelta(), "ok", "agrees with AWS's clock"),
        (timedelta(minutes=4), "ok", "4 minutes behind AWS's"),
        ("yesterday", "not checked", "no response had a date"),
    ],
)
def test_a_clock_that_is_good_enough(
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
    date: timedelta | str,
    state: str,
    words: str,
) -> None:
    def answer(asked: Asked) -> Answer:
        now = datetime.now(UTC)
        return identified(asked, Date=date if isinstance(date, str) else format_datetime(now + date, usegmt=True))

    with Endpoint(answer) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        status, checks = doctor()
    assert status == 0
    assert the(checks, "clock")["state"] == state
    assert words in the(checks, "clock")["detail"]


# --- the key


def pending_import(lab: Lab) -> str:
    return str(lab.call("CreateKey", Origin="EXTERNAL")["KeyMetadata"]["Arn"])


def disabled(lab: Lab) -> str:
    lab.call("DisableKey", KeyId=os.environ["DEMO"])
    return "alias/demo"


def deleted(lab: Lab) -> str:
    lab.call("ScheduleKeyDeletion", KeyId=os.environ["DEMO"], PendingWindowInDays=7)
    return "alias/demo"


def asymmetric(lab: Lab) -> str:
    return str(lab.call("CreateKey", KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"])


@pytest.mark.parametrize(
    ("make", "words", "fix"),
    [
        (lambda _: "alias/none", "there is no such key or alias", f"in us-east-1 of account {ACCOUNT}"),
        (lambda _: os.environ["DEMO"].replace("us-east-1", "eu-west-1"), "no such key", "in eu-west-1 of account"),
        (lambda _: "demo", "'demo' is not a KMS key ID", "did you mean 'alias/demo'?"),
        (lambda _: "", "'' is not a KMS key ID", "alias/NAME"),
        (disabled, "is in the state Disabled", "aws kms enable-key --key-id arn:"),
        (deleted, "is in the state PendingDeletion, and will be deleted at 20", "cancel-key-deletion"),
        (pending_import, "is in the state PendingImport", "import-key-material"),
        (asymmetric, "has the KeySpec RSA_2048", "SYMMETRIC_DEFAULT"),
    ],
    ids=["missing", "other Region", "no name", "empty", "disabled", "deleted", "import", "asymmetric"],
)
def test_keys_that_cannot_be_used(lab: Lab, doctor: Doctor, make: Callable[[Lab], str], words: str, fix: str) -> None:
    _, checks = doctor("-k", make(lab))
    assert sick(checks) == ["key"]
    assert words in the(checks, "key")["detail"]
    assert fix in the(checks, "key")["fix"]
    assert "encrypt" not in states(checks)


def test_a_key_of_another_account(doctor: Doctor, alice: Callable[..., str]) -> None:
    alice(*USABLE, "kms:DescribeKey", account="444455556666")
    _, checks = doctor("-k", os.environ["DEMO"])
    assert sick(checks) == ["key", "encrypt", "decrypt"]
    assert "kms:DescribeKey is denied, and so is everything else" in the(checks, "key")["detail"]
    both = (
        f"the key is in account {ACCOUNT}, and you are in account 444455556666: both the key policy and your IAM "
        "policy must allow it"
    )
    assert the(checks, "key")["fix"] == both
    assert the(checks, "decrypt")["fix"].endswith(both)


# --- permissions


def test_what_the_readmes_policy_allows_is_enough(doctor: Doctor, alice: Callable[..., str]) -> None:
    alice(*USABLE)
    status, checks = doctor("-k", "alias/demo")
    assert status == 0
    assert {name: states(checks)[name] for name in ("key", "encrypt", "decrypt", "extra keys", "rewrap")} == {
        "key": "ok",
        "encrypt": "ok",
        "decrypt": "ok",
        "extra keys": "optional",
        "rewrap": "optional",
    }
    assert "kms:DescribeKey is denied, but not needed" in the(checks, "key")["detail"]
    assert "it is only needed to rewrap and rotate" in the(checks, "rewrap")["detail"]


def statement_of(check: dict[str, str]) -> dict[str, Any]:
    start = check["fix"].index("{")
    statement: dict[str, Any] = json.JSONDecoder().raw_decode(check["fix"][start:])[0]
    return statement


@pytest.mark.parametrize("context", [(), ("-c", "purpose=backup")], ids=["plain", "context"])
def test_the_printed_statements_are_what_is_missing(
    doctor: Doctor, alice: Callable[..., str], context: tuple[str, ...]
) -> None:
    alice("kms:DescribeKey")
    _, checks = doctor("-k", "alias/demo", *context)
    assert sick(checks) == ["encrypt", "decrypt"]
    assert "kms:GenerateDataKey is denied" in the(checks, "encrypt")["detail"]
    assert the(checks, "decrypt")["fix"].startswith("add to your IAM policy: {")
    missing = [statement_of(the(checks, name)) for name in ("encrypt", "decrypt", "extra keys", "rewrap")]
    assert ["Condition" in statement for statement in missing] == [bool(context)] * 4
    alice("kms:DescribeKey", statements=missing)
    status, checks = doctor("-k", "alias/demo", *context)
    assert status == 0
    assert set(states(checks).values()) == {"ok"}


def test_a_policy_may_demand_a_context(doctor: Doctor, alice: Callable[..., str]) -> None:
    demand = {"StringEquals": {"kms:EncryptionContext:purpose": "backup"}}
    alice(statements=[{"Effect": "Allow", "Action": USABLE, "Resource": "*", "Condition": demand}])
    _, checks = doctor("-k", os.environ["DEMO"])
    assert sick(checks) == ["key", "encrypt", "decrypt"]
    assert "if the policy requires an encryption context, give it with -c" in the(checks, "decrypt")["fix"]
    assert sick(doctor("-k", os.environ["DEMO"], "-c", "purpose=backup")[1]) == []


def test_a_deny_is_not_cured_by_an_allow(doctor: Doctor, alice: Callable[..., str]) -> None:
    deny = {"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"}
    arn = alice("kms:*", statements=[deny])
    _, checks = doctor("-k", "alias/demo")
    assert sick(checks) == ["decrypt"]
    fix = the(checks, "decrypt")["fix"]
    assert fix.startswith("a Deny statement in your IAM policy forbids it")
    assert fix.endswith(f"sealwax policy explain {arn} kms:Decrypt {os.environ['DEMO']}")
    assert "{" not in fix


def test_a_key_policy_that_does_not_delegate(lab: Lab, doctor: Doctor) -> None:
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
                "Action": ["kms:PutKeyPolicy", "kms:DescribeKey", "kms:GenerateDataKey"],
                "Resource": "*",
            }
        ],
    }
    call = {"KeyId": os.environ["DEMO"], "PolicyName": "default", "Policy": json.dumps(policy)}
    lab.call("PutKeyPolicy", **call, BypassPolicyLockoutSafetyCheck=True)
    _, checks = doctor("-k", "alias/demo")
    assert sick(checks) == ["decrypt"]
    assert the(checks, "decrypt")["fix"].startswith("add to the key policy: {")
    missing = statement_of(the(checks, "decrypt"))
    assert missing["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    policy["Statement"].append(missing)  # type: ignore[attr-defined]
    lab.call("PutKeyPolicy", **call | {"Policy": json.dumps(policy)}, BypassPolicyLockoutSafetyCheck=True)
    assert sick(doctor("-k", "alias/demo")[1]) == []


def test_a_disabled_key_that_may_not_be_described(lab: Lab, doctor: Doctor, alice: Callable[..., str]) -> None:
    alice(*USABLE)
    lab.call("DisableKey", KeyId=os.environ["DEMO"])
    _, checks = doctor("-k", "alias/demo")
    assert sick(checks) == ["key"]
    assert "the key is disabled" in the(checks, "key")["detail"]
    assert "enable-key" in the(checks, "key")["fix"]


# --- other endpoints


@pytest.fixture
def served(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The lab, as a server only."""
    monkeypatch.delenv("SEALWAX_LAB")
    server = Server(lab)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield server.url
    server.close()
    thread.join()


@pytest.mark.usefixtures("signed_in")
def test_another_endpoint_is_asked_for_everything(served: str, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    def well(*arguments: str) -> None:
        status, checks = doctor("-k", "alias/demo", *arguments)
        assert status == 0
        assert the(checks, "endpoint")["detail"] == f"KMS is at {served}, not at AWS"
        assert the(checks, "caller")["detail"] == f"arn:aws:iam::{ACCOUNT}:root"
        assert the(checks, "rewrap")["state"] == "ok"

    well("--endpoint-url", served)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", served)
    well()


@pytest.mark.usefixtures("signed_in")
def test_sts_is_not_needed(served: str, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", served)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{closed_port()}")
    status, checks = doctor("-k", "alias/demo")
    assert status == 0
    assert the(checks, "caller")["state"] == "optional"
    assert "STS could not be reached" in the(checks, "caller")["detail"]
    status, checks = doctor()
    assert sick(checks) == ["caller"]


@pytest.mark.usefixtures("signed_in")
def test_an_endpoint_that_is_no_url(doctor: Doctor) -> None:
    _, checks = doctor("--endpoint-url", "nonsense")
    assert sick(checks) == ["endpoint"]
    assert "'nonsense' is not an endpoint URL" in the(checks, "endpoint")["detail"]


@pytest.mark.usefixtures("signed_in")
def test_an_endpoint_that_ignores_dry_runs(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    key = {"Arn": NOBODY, "KeyManager": "CUSTOMER", "Origin": "AWS_KMS", "KeyState": "Enabled", "KeyId": "1"}

    def answer(asked: Asked) -> Answer:
        if asked.operation == "kms:DescribeKey":
            return Answer(200, json.dumps({"KeyMetadata": key | {"KeySpec": "SYMMETRIC_DEFAULT"}}).encode())
        if asked.operation.startswith("kms:"):
            return Answer(200, b'{"Plaintext": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U="}')
        return identified(asked)

    with Endpoint(answer) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        _, checks = doctor("-k", NOBODY)
    assert sick(checks) == ["encrypt", "decrypt", "extra keys", "rewrap"]
    assert "was executed despite DryRun" in the(checks, "decrypt")["detail"]
    assert "c2VjcmV0" not in str(checks)


def test_kms_throttles(lab: Lab, doctor: Doctor) -> None:
    lab.faults.add("us-east-1", "throttle", 1.0, operation="Decrypt")
    _, checks = doctor("-k", "alias/demo")
    assert sick(checks) == ["decrypt"]
    assert "throttling" in the(checks, "decrypt")["detail"]
    assert "slow down" in the(checks, "decrypt")["fix"]


@pytest.mark.usefixtures("signed_in")
def test_kms_answers_what_cannot_be_read(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    for body in (b"<html>", b'{"KeyMetadata": 7}', json_error("Whatever", "no").body):

        def answer(asked: Asked, body: bytes = body) -> Answer:
            return Answer(200, body) if "kms" in asked.operation else identified(asked)

        with Endpoint(answer) as endpoint:
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
            _, checks = doctor("-k", "alias/demo")
            assert sick(checks) == ["key"]


def test_a_lab_needs_no_profile(lab: Lab, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nope")
    status, checks = doctor("-k", "alias/demo")
    assert status == 0
    assert str(lab.path) in the(checks, "lab")["detail"]


def test_a_lab_that_is_not_there(doctor: Doctor) -> None:
    _, checks = doctor("--lab", "./typo", "-k", "alias/demo")
    assert sick(checks) == ["lab"]
    assert "no lab in" in the(checks, "lab")["detail"]
    assert "sealwax lab create-key" in the(checks, "lab")["fix"]
    assert states(checks)["key"] == "not checked"


def test_a_lab_that_does_not_open(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Lab(tmp_path / "locked", passphrase="correct horse").close()
    for passphrase in ("battery staple", None):
        if passphrase is None:
            monkeypatch.delenv("SEALWAX_LAB_PASSPHRASE")
        else:
            monkeypatch.setenv("SEALWAX_LAB_PASSPHRASE", passphrase)
        _, checks = doctor("--lab", "locked")
        assert sick(checks) == ["lab"]
        assert "SEALWAX_LAB_PASSPHRASE" in the(checks, "lab")["fix"]
        assert "battery" not in str(checks)


# --- the machine


def test_versions_that_are_too_old(shell: Shell) -> None:
    shell.write("old/boto3-1.42.9.dist-info/METADATA", b"Metadata-Version: 2.1\nName: boto3\nVersion: 1.42.9\n")
    shell.environment["PYTHONPATH"] = str(shell.folder / "old")
    done = shell.sealwax("doctor", "--json")
    line = the(json.loads(done.failed(3).out)["checks"], "versions")
    assert "boto3 1.42.9" in line["detail"]
    assert "sealwax needs boto3>=1.4" in line["detail"]
    assert line["fix"].startswith("pip install --upgrade 'boto3>=1.4")


def test_terminals(shell: Shell, keys: Keys) -> None:
    done, shown = shell.on_terminal("doctor", "-k", keys.demo, streams="stdout", COLUMNS="60", NO_COLOR="1")
    done.succeeded()
    assert "UTF-8, 60 columns, TERM=xterm-256color" in " ".join(shown.split())
    assert max(len(line) for line in shown.splitlines() if len(line.split()[-1]) < 33) <= 60
    assert "\x1b" not in shown
    done, shown = shell.on_terminal("doctor", streams="stdout", TERM="dumb", COLUMNS="200")
    assert "optional" in shown
    assert "TERM is 'dumb'" in shown
    done.succeeded()
    shell.environment["PYTHONIOENCODING"] = "latin-1"
    done = shell.sealwax("doctor", "--json")
    line = the(json.loads(done.failed(3).out)["checks"], "terminal")
    assert "iso8859-1" in line["detail"] or "latin-1" in line["detail"]
    assert line["fix"].startswith("export LC_ALL=C.UTF-8")


@pytest.mark.parametrize(
    ("text", "detail", "fix"),
    [
        ("It failed: no (Code: a. B c). Do this. Or that.", "It failed: no (Code: a. B c)", "do this. Or that"),
        ("It failed", "It failed", ""),
        ("a) b. Do this.", "a) b", "do this"),
    ],
)
def test_errors_are_cut_where_the_fix_begins(text: str, detail: str, fix: str) -> None:
    line = failed("key", KmsError(text))
    assert (line.detail, line.fix) == (detail, fix)
