"""sealwax prove, as it is typed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest

from sealwax.lab import Lab
from sealwax.prove import CHECKS, RECORDS_CHECKS
from tests.cli.conftest import Keys
from tests.cli.shell import SEALWAX, Shell
from tests.docs.blocks import ROOT, blocks_of

PROVE = ("prove", "-k", "alias/demo", "-c", "purpose=backup")


def test_a_line_for_each_check_and_what_it_cost(shell: Shell) -> None:
    done = shell.sealwax(*PROVE).succeeded()
    lines = done.out.decode().splitlines()
    assert len(lines) == 27
    assert all(line.startswith(("passed ", "not shown")) for line in lines[:23])
    assert re.fullmatch("alias/demo is arn:aws:kms:us-east-1:111122223333:key/[0-9a-f-]{36}", lines[23])
    assert lines[24:] == [
        "28 KMS requests were made (28 planned).",
        "alias/demo passed 19 of 23 checks, and failed none; 4 are not shown, and may still fail.",
        "next: for more checks, add: --denied-profile or --denied-role; --to; --allow-changes",
    ]
    assert "KMS requests are planned" in done.err
    assert "the key will not be changed" in done.err


def test_json_has_the_checks_and_their_evidence(shell: Shell) -> None:
    report = json.loads(shell.sealwax(*PROVE, "--json", "-q").succeeded().out)
    assert len(report["checks"]) == 23
    assert {check["outcome"] for check in report["checks"]} == {"passed", "not shown"}
    (decrypt,) = (check for check in report["checks"] if check["name"] == "decrypt")
    (asked,) = decrypt["evidence"]
    assert asked["operation"] == "Decrypt"
    assert asked["error"] is None
    assert asked["region"] == "us-east-1"
    assert len(asked["request_id"]) == 36
    assert asked["time"].endswith("+00:00")


def test_a_failed_check_is_a_finding(shell: Shell, keys: Keys) -> None:
    # The account's root may decrypt, and so is not denied.
    shell.write("credentials", _credentials(keys))
    done = shell.bash(f"AWS_SHARED_CREDENTIALS_FILE=credentials sealwax {' '.join(PROVE)} --denied-profile boss")
    assert done.status == 3, done
    (failed,) = (line for line in done.out.decode().splitlines() if line.startswith("failed"))
    assert failed.startswith("failed     denied-principal  ")
    assert done.out.decode().splitlines()[-2:] == [
        "alias/demo failed 1 of 23 checks: denied-principal.",
        "next: find what is misconfigured: sealwax audit --key alias/demo",
    ]
    done = shell.bash(f"AWS_SHARED_CREDENTIALS_FILE=credentials sealwax {' '.join(PROVE)} --denied-profile boss -q")
    assert (done.status, done.err) == (3, "sealwax: alias/demo failed 1 of 23 checks: denied-principal\n")
    report = f"AWS_SHARED_CREDENTIALS_FILE=credentials sealwax {' '.join(PROVE)} --denied-profile boss --report p.html"
    assert shell.bash(report).status == 3
    page = shell.read("p.html").decode()
    assert '<header class="bad">' in page
    assert page.index("<h2>Failed") < page.index("<h3>denied-principal") < page.index("<h2>Not shown")


def test_reports_have_the_verdict_and_where_they_come_from(shell: Shell) -> None:
    done = shell.sealwax(*PROVE, "-q", "--report", "p.html", "--report", "p.json").succeeded()
    assert (done.out, done.err) == (b"", "")
    report = json.loads(shell.read("p.json"))
    jsonschema.validate(report, json.loads((ROOT / "docs/reference/prove.schema.json").read_text()))
    assert (
        report["verdict"] == "alias/demo passed 19 of 23 checks, and failed none; 4 are not shown, and may still fail"
    )
    assert report["made"]["command"] == f"sealwax {' '.join(PROVE)} -q --report p.html --report p.json"
    assert report["made"]["caller"].startswith("arn:aws:iam::111122223333:")
    assert report["made"]["regions"] == ["us-east-1"]
    page = shell.read("p.html").decode()
    for shown in (
        report["verdict"],
        report["made"]["caller"],
        f'<b>alias/demo</b> <code class="arn">{report["key_arn"]}',
    ):
        assert shown in page
    for check in report["checks"]:
        assert f"<h3>{check['name']}</h3>" in page
        assert all(item["request_id"] in page for item in check["evidence"] if item["request_id"])
    with shell.unchanged():
        shell.sealwax(*PROVE, "--report", "p.html").failed(1, "'p.html' already exists; use --force")


@pytest.fixture
def own(shell: Shell, tmp_path: Path) -> Iterator[Lab]:
    """A lab of this test's own, to which the shell goes."""
    shell.environment["SEALWAX_LAB"] = str(tmp_path / "own")
    with Lab(tmp_path / "own") as lab:
        for alias in ("demo", "payments", "payments-2027"):
            lab.create_key(alias=alias)
        yield lab


def test_a_role_that_can_decrypt_is_a_finding_and_one_that_cannot_is_none(shell: Shell, own: Lab) -> None:
    allowed = {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}
    can = own.add_principal("can", role=True, policy={"Version": "2012-10-17", "Statement": [allowed]})["Arn"]
    cannot = own.add_principal("cannot", role=True)["Arn"]
    assert shell.sealwax(*PROVE, "--denied-role", can).status == 3
    assert b"passed     denied-principal" in shell.sealwax(*PROVE, "--denied-role", cannot).succeeded().out


def test_a_profile_that_cannot_decrypt(shell: Shell, own: Lab) -> None:
    key = own.add_principal("mallory")
    text = f"[mallory]\naws_access_key_id={key['AccessKeyId']}\naws_secret_access_key={key['SecretAccessKey']}\n"
    shell.environment["AWS_SHARED_CREDENTIALS_FILE"] = str(shell.write("credentials", text.encode()))
    assert b"passed     denied-principal" in shell.sealwax(*PROVE, "--denied-profile", "mallory").succeeded().out
    shell.sealwax(*PROVE, "--denied-profile", "nobody").failed(7, "nobody")


@pytest.mark.usefixtures("own")
def test_a_role_that_is_not_in_the_lab_leaves_its_check_not_shown(shell: Shell) -> None:
    done = shell.sealwax(*PROVE, "--denied-role", "arn:aws:iam::111122223333:role/nobody")
    assert done.status == 8
    (line,) = (line for line in done.out.decode().splitlines()[:23] if "denied-principal" in line)
    assert line.startswith("not shown")
    assert "role/nobody" in line
    assert len(done.out.decode().splitlines()) == 27
    assert done.out.decode().splitlines()[-2:] == [
        "alias/demo passed 19 of 23 checks, and failed none; denied-principal could not run, and 3 are not shown.",
        "next: fix the causes above, and run the same command again",
    ]


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("to", "why"), [("alias/nowhere", "no such key or alias"), ("alias/demo", "'alias/demo' is the same key")]
)
def test_an_unusable_key_to_move_to_leaves_its_check_not_shown(to: str, why: str, shell: Shell) -> None:
    done = shell.sealwax(*PROVE, "--to", to)
    assert done.status == 8, done
    (line,) = (line for line in done.out.decode().splitlines()[:23] if "reencrypt-other-key" in line)
    assert line.startswith("not shown")
    assert why in line


def test_a_check_that_needs_an_option_names_it(shell: Shell) -> None:
    lines = shell.sealwax(*PROVE).succeeded().out.decode().splitlines()
    report = json.loads(shell.sealwax(*PROVE, "--json").succeeded().out)
    details = {check["name"]: check["detail"] for check in report["checks"]}
    for name, option in (
        ("denied-principal", "--denied-profile or --denied-role"),
        ("reencrypt-other-key", "--to"),
        ("rotation", "--allow-changes"),
    ):
        (line,) = (line for line in lines if line.startswith(f"not shown  {name} "))
        assert line.endswith(f": add {option}")
        assert details[name].endswith(f": add {option}")


@pytest.mark.parametrize("by", ["role", "profile"])
def test_a_role_that_cannot_be_assumed_leaves_its_check_not_shown(
    by: str, bare_shell: Shell, served: Callable[[Shell], str]
) -> None:
    # A profile's role is assumed by botocore, on the way to the first request: that denial is not from KMS.
    shell = bare_shell
    shell.sealwax("lab", "create-key", "--lab", "./lab", "--alias", "demo").succeeded()
    url = served(shell)
    role = "arn:aws:iam::111122223333:role/nobody"
    shell.write("config", f"[profile chained]\nrole_arn = {role}\ncredential_source = Environment\n".encode())
    shell.environment |= {
        "AWS_CONFIG_FILE": "config",
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "AKIAOTHER",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    named = {"role": ("--denied-role", role), "profile": ("--denied-profile", "chained")}[by]
    done = shell.sealwax(*PROVE, *named)
    assert done.status == 8, done
    lines = done.out.decode().splitlines()
    assert len(lines) == 27
    (line,) = (line for line in lines[:23] if "denied-principal" in line)
    assert line.startswith("not shown")
    assert "STS denied access to the role" in line
    assert [line for line in lines if line.startswith("failed")] == []


def test_a_key_that_cannot_be_used(shell: Shell, own: Lab) -> None:
    shell.sealwax(*PROVE, "--region", "eu-west-1").failed(7, "no such key or alias")
    own.call("DisableKey", KeyId=own.call("DescribeKey", KeyId="alias/demo")["KeyMetadata"]["KeyId"])
    done = shell.sealwax(*PROVE).failed(7, "alias/demo", "the key is disabled", "enable-key")
    assert done.out == b""


def test_what_may_pass_leaves_the_run_partly_done(shell: Shell, own: Lab) -> None:
    own.faults.add("us-east-1", "error", 1.0, operation="DescribeKey", code="ExpiredTokenException", seed=0)
    done = shell.sealwax(*PROVE)
    assert done.status == 8
    assert "not shown  replicas               kms:DescribeKey" in done.out.decode()


def test_a_rotation_is_told_beforehand(shell: Shell, own: Lab) -> None:
    done = shell.sealwax(*PROVE, "--allow-changes").succeeded()
    assert "cannot be undone; KMS allows 25" in done.err
    assert b"passed     rotation" in done.out
    rotations = own.call("ListKeyRotations", KeyId=own.call("DescribeKey", KeyId="alias/demo")["KeyMetadata"]["KeyId"])
    assert len(rotations["Rotations"]) == 1


def test_every_pair_goes_to_kms_and_so_none_can_be_called_local(shell: Shell) -> None:
    shell.sealwax(*PROVE, "--local-context", "purpose").failed(2, "--local-context")


def normal(text: str) -> list[str]:
    """Return the lines without what differs from run to run, and without colours."""
    for pattern, stand_in in {
        r"\x1b\[[0-9;]*m": "",
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}": "ID",
        r"\d\d:\d\d:\d\d": "TIME",
        r" [0-9a-f]{8}$": " REQUEST",
        r"\b[0-9a-f]{2,7}…$": "REQUEST…",
        r"\d+ bytes of DEBUG": "N bytes of DEBUG",
    }.items():
        text = re.sub(pattern, stand_in, text, flags=re.MULTILINE)
    return text.splitlines()


@pytest.mark.usefixtures("own")
def test_on_a_terminal_it_says_what_the_page_shows(shell: Shell) -> None:
    page = ROOT / "docs/how-to/verification.md"
    (script,) = (block.text for block in blocks_of(page) if block.runs)
    (shown,) = re.findall(r"^```\n(passed.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    command = script.splitlines()[-1].split()
    assert command[:2] == ["sealwax", "prove"]
    done, text = shell.on_terminal(*command[1:], streams="stdout", COLUMNS="80")
    assert done.status == 0
    assert normal(text) == normal(shown)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line[10:].split()[0] for line in lines[: len(CHECKS)]] == [check.name for check in CHECKS]


@pytest.mark.usefixtures("own")
def test_no_color_on_a_terminal_that_wants_none(shell: Shell) -> None:
    done, text = shell.on_terminal(*PROVE, streams="stdout", NO_COLOR="1")
    assert done.status == 0
    assert "passed" in text
    assert "\x1b" not in text


@pytest.mark.usefixtures("own")
def test_a_served_lab_is_an_endpoint_like_any_other(shell: Shell) -> None:
    with subprocess.Popen(
        [SEALWAX, "lab", "serve", "--port", "0"], env=shell.environment, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            shell.environment |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "SEALWAX_LAB": ""}
            done = shell.sealwax(*PROVE, "--region", "us-east-1", "--endpoint-url", url).succeeded()
        finally:
            server.terminate()
    assert b"passed     memory" in done.out or sys.platform != "linux"
    assert b"passed     debug-logs" in done.out


def _credentials(keys: Keys) -> bytes:
    found = keys.lab.session().get_credentials()
    assert found is not None
    return f"[boss]\naws_access_key_id = {found.access_key}\naws_secret_access_key = {found.secret_key}\n".encode()


def test_refusals(shell: Shell) -> None:
    shell.sealwax("prove", "-c", "purpose=backup").failed(2, "-k")
    shell.sealwax("prove", "-k", "alias/demo").failed(6, "no context was given")
    shell.sealwax(*PROVE, "-k", "alias/demo2").failed(2, "one KMS key")
    for option in ("--to", "--denied-profile", "--denied-role"):
        shell.sealwax(*PROVE, option, "").failed(2, f"{option} is empty")
    shell.sealwax(*PROVE, "--denied-profile", "a", "--denied-role", "b").failed(2, "not both")
    shell.sealwax("prove", "-k", "alias/nowhere", "-c", "purpose=backup").failed(7, "alias/nowhere")


def test_the_searched_process_finds_the_lab_whatever_else_is_set(shell: Shell) -> None:
    shell.environment |= {
        "AWS_SESSION_TOKEN": "of somebody else",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "example.com",
    }
    report = json.loads(shell.sealwax(*PROVE, "--json", "-q").succeeded().out)
    (logs,) = (check for check in report["checks"] if check["name"] == "debug-logs")
    assert logs["outcome"] == "passed", logs


def test_the_searched_process_is_the_one_that_the_profile_names(
    bare_shell: Shell, served: Callable[[Shell], str]
) -> None:
    shell = bare_shell
    shell.sealwax("lab", "create-key", "--lab", "./lab", "--alias", "demo").succeeded()
    shell.write("credentials", b"[named]\naws_access_key_id = AKIANAMED\naws_secret_access_key = anything\n")
    shell.environment |= {
        "AWS_SHARED_CREDENTIALS_FILE": "credentials",
        "AWS_ACCESS_KEY_ID": "AKIAOTHER",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    shell.sealwax(*PROVE, "--profile", "named", "--endpoint-url", served(shell)).succeeded()
    with Lab(shell.folder / "lab") as lab:
        users = Counter(
            event.record["userIdentity"].get("accessKeyId")
            for event in lab.trail.events()
            if event.record["eventName"] != "CreateKey" and event.record["eventName"] != "CreateAlias"
        )
    assert users == {"AKIANAMED": 28}


def test_records_are_tried_in_a_scope_of_their_own(shell: Shell) -> None:
    done = shell.sealwax(*PROVE, "--records").succeeded()
    lines = done.out.decode().splitlines()
    records = [line.split()[:2] for line in lines if " records-" in line]
    assert records == [["passed", check.name] for check in RECORDS_CHECKS]
    assert "39 KMS requests were made (39 planned)." in lines
    assert "alias/demo passed 24 of 28 checks, and failed none; 4 are not shown, and may still fail." in lines


def test_a_role_that_may_not_use_records_is_no_success(shell: Shell, tmp_path: Path) -> None:
    """Its policy denies the data keys of records, so these checks, which were asked for, cannot run."""
    iam = "arn:aws:iam::111122223333"
    with Lab(tmp_path / "denied") as lab:
        arn = lab.create_key(alias="demo")["Arn"]
        user = lab.add_principal("app")
        written = ("policy", "key", "--admin", f"{iam}:user/a", "--encrypt", f"{iam}:user/app")
        text = shell.sealwax(*written, "--decrypt", f"{iam}:user/app", "-c", "purpose=backup").succeeded().out
        lab.session(account="111122223333").client("kms").put_key_policy(KeyId=arn, Policy=text.decode())
    shell.environment |= {
        "SEALWAX_LAB": str(tmp_path / "denied"),
        "AWS_ACCESS_KEY_ID": user["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": user["SecretAccessKey"],
    }
    done = shell.sealwax("prove", "-k", arn, *PROVE[3:], "--records")
    done.failed(8, "these checks could not run: records-round-trip")
    assert "failed" not in {line.split()[0] for line in done.out.decode().splitlines()[:28]}
