"""sealwax policy, as its users run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sealwax import cli
from sealwax.audit import _factsfile
from sealwax.audit._facts import PrincipalFacts
from sealwax.lab import Lab
from sealwax.policy._expiry import due_of
from tests.audit import accounts
from tests.cli.shell import SEALWAX, Shell

IAM: Final = "arn:aws:iam::111122223333"
APP: Final = f"{IAM}:user/app"
KEY: Final = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
LEND: Final = (
    *("policy", "grant", "-k", KEY, "--grantee", APP),
    *("--operation", "Decrypt", "-c", "a=b", "--for"),
)
WRITE_KEY: Final = ("policy", "key", "--admin", f"{IAM}:role/admin", "--decrypt", APP)


@pytest.fixture
def lab(bare_shell: Shell) -> Iterator[Lab]:
    with Lab(bare_shell.folder / "lab") as lab:
        yield lab


def test_a_key_policy_is_written_and_explained(bare_shell: Shell) -> None:
    text = bare_shell.sealwax(*WRITE_KEY, "-c", "purpose=backup").succeeded().out
    bare_shell.write("key.json", text)
    explain = ("policy", "explain", APP, "Decrypt", KEY, "--key-policy", "key.json")
    allowed = bare_shell.sealwax(*explain, "-c", "purpose=backup").succeeded()
    assert allowed.out == b"allowed: statement 'Decrypt' of the key policy allows kms:Decrypt\n"
    denied = bare_shell.sealwax(*explain, "-c", "purpose=other", "--json").succeeded()
    found = json.loads(denied.out)
    assert not found["allowed"]
    assert found["key"] == KEY
    assert "would allow it, but kms:EncryptionContext:purpose does not satisfy StringEquals 'backup'" in found["reason"]


def test_explain_reads_grants_and_identity_policies_from_files(bare_shell: Shell) -> None:
    bare_shell.write("key.json", bare_shell.sealwax(*WRITE_KEY, "-c", "purpose=backup").succeeded().out)
    entry = {"GrantId": "g1", "GranteePrincipal": f"{IAM}:user/bob", "Operations": ["Decrypt"]}
    bare_shell.write("grants.json", json.dumps({"Grants": [entry]}).encode())
    explain = ("policy", "explain", f"{IAM}:user/bob", "kms:decrypt", KEY, "--key-policy", "key.json")
    by_grant = bare_shell.sealwax(*explain, "--grants", "grants.json").succeeded()
    assert by_grant.out == b"allowed: grant g1 allows kms:Decrypt\n"
    deny = {"Version": "2012-10-17", "Statement": [{"Sid": "No", "Effect": "Deny", "Action": "kms:*", "Resource": "*"}]}
    bare_shell.write("deny.json", json.dumps(deny).encode())
    denied = bare_shell.sealwax(*explain, "--grants", "grants.json", "--identity-policy", "deny.json").succeeded()
    assert denied.out == b"not allowed: statement 'No' of the identity policy 'deny.json' denies kms:Decrypt\n"


def test_explain_reads_the_lab(bare_shell: Shell, lab: Lab) -> None:
    key = lab.create_key(alias="demo")["Arn"]
    written = bare_shell.sealwax("policy", "iam", "decrypt", "-k", key, "-c", "purpose=backup").succeeded().out
    lab.add_principal("app", policy=written.decode())
    explain = ("policy", "explain", "--lab", "./lab", APP, "kms:Decrypt", "alias/demo")
    allowed = bare_shell.sealwax(*explain, "-c", "purpose=backup").succeeded()
    assert b"statement 'Decrypt' of the identity policy 'policy' allow kms:Decrypt" in allowed.out
    assert bare_shell.sealwax(*explain, "-c", "purpose=other").succeeded().out.startswith(b"not allowed: ")
    bare_shell.sealwax("policy", "explain", "--lab", "./lab", f"{IAM}:user/nobody", "Decrypt", "alias/demo").failed(
        1, "the lab has no principal"
    )


def test_explain_asks_saved_facts_and_no_network(bare_shell: Shell) -> None:
    bare_shell.write("facts.json", _factsfile.dump(accounts.clean()))
    program = (
        "import sys; from sealwax import cli; status = cli.run(sys.argv[1:]); "
        'sys.exit(f\'{sys.modules.keys() & {"boto3", "botocore", "socket"}}\' if status == 0 else status)'
    )
    run = [sys.executable, "-c", program, "policy", "explain", accounts.APP, "Decrypt", "alias/backup"]
    for context, answer in (("backup", b"allowed: "), ("other", b"not allowed: ")):
        done = subprocess.run(
            [*run, "--facts", "facts.json", "-c", f"purpose={context}"],
            cwd=bare_shell.folder,
            env=bare_shell.environment,
            capture_output=True,
            check=False,
        )
        assert done.stdout.startswith(answer), done
        assert done.stderr == b"sealwax: using the facts of 2026-11-24 21:00 UTC\nset()\n"


def test_explain_says_what_saved_facts_do_not_hold(bare_shell: Shell, lab: Lab) -> None:
    key = lab.create_key(alias="demo")["Arn"]
    bare_shell.sealwax(
        "audit", "--lab", "./lab", "--all", "--save-facts", "facts.json", "--fail-on", "never"
    ).succeeded()
    bare_shell.write("may.json", bare_shell.sealwax("policy", "iam", "decrypt", "-k", key, "-c", "a=b").succeeded().out)
    explain = ("policy", "explain", APP, "Decrypt", "alias/demo", "-c", "a=b", "--facts", "facts.json")
    bare_shell.sealwax(*explain).failed(1, "users and roles; give its identity policies: the lab does not have")
    done = bare_shell.sealwax(*explain, "--identity-policy", "may.json", "--json").succeeded()
    assert json.loads(done.out)["allowed"] is True
    assert json.loads(done.out)["key"] == key
    bare_shell.sealwax(*explain, "--identity-policy", "may.json", "--region", "eu-west-1").failed(1, "in eu-west-1")
    boundary = PrincipalFacts(accounts.APP, boundary="arn:aws:iam::aws:policy/Edge")
    bare_shell.write("facts.json", _factsfile.dump(accounts.clean(principals=(boundary,))))
    done = bare_shell.sealwax(*explain[:2], accounts.APP, "Decrypt", "alias/backup", "--facts", "facts.json")
    assert "boundary 'arn:aws:iam::aws:policy/Edge' was not evaluated" in done.succeeded().err


def _grant(shell: Shell, key: str, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(SEALWAX, "policy", "grant", "--lab", "./lab", "-k", key, "--grantee", APP),
            *("--operation", "Decrypt", "-c", "purpose=backup", *more),
        ],
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _grants(lab: Lab, key: str) -> list[Any]:
    found: list[Any] = lab.call("ListGrants", KeyId=key)["Grants"]
    return found


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_grant_for_a_while_is_retired_when_stopped(bare_shell: Shell, lab: Lab, number: int, status: int) -> None:
    key = lab.create_key()["Arn"]
    with _grant(bare_shell, key, "--for", "1h30m") as process:
        assert process.stdout is not None
        shown = json.loads(process.stdout.readline())
        (grant,) = _grants(lab, key)
        due = due_of(grant["Name"])
        assert due is not None
        assert f"{due:%Y-%m-%dT%H:%M:%SZ}" == shown["Due"]
        assert grant["GrantId"] == shown["GrantId"]
        assert grant["Constraints"] == {"EncryptionContextSubset": {"purpose": "backup"}}
        assert grant["RetiringPrincipal"] == f"{IAM}:root"
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert _grants(lab, key) == []
    assert b"the grant was retired" in said


def test_a_grant_for_a_while_ends_by_itself(bare_shell: Shell, lab: Lab) -> None:
    key = lab.create_key()["Arn"]
    with _grant(bare_shell, key, "--for", "1s") as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["GrantToken"]
    assert _grants(lab, key) == []
    names = [event.record["eventName"] for event in lab.trail.events()]
    assert names.count("CreateGrant") == names.count("RetireGrant") == 1


def test_a_grant_that_cannot_be_retired_is_not_passed_over(bare_shell: Shell, lab: Lab) -> None:
    key = lab.create_key()["Arn"]
    lab.faults.add("us-east-1", "error", 1.0, operation="RetireGrant", code="AccessDeniedException", seed=0)
    lab.faults.add("us-east-1", "error", 1.0, operation="RevokeGrant", code="AccessDeniedException", seed=0)
    with _grant(bare_shell, key, "--for", "1s") as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 7
    (grant,) = _grants(lab, key)
    assert f"the grant {grant['GrantId']} still exists" in said.decode()
    assert f"aws kms revoke-grant --region us-east-1 --key-id {key} --grant-id {grant['GrantId']}" in said.decode()
    assert "is retired" not in said.decode()


def test_a_retiring_principal_that_lacks_the_right_is_helped_by_revoking(bare_shell: Shell, lab: Lab) -> None:
    key = lab.create_key()["Arn"]
    lab.faults.add("us-east-1", "error", 1.0, operation="RetireGrant", code="AccessDeniedException", seed=0)
    with _grant(bare_shell, key, "--for", "1s") as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert _grants(lab, key) == []


def test_a_grant_whose_note_nobody_reads_is_retired(bare_shell: Shell, lab: Lab) -> None:
    key = lab.create_key()["Arn"]
    command = f"sealwax policy grant --lab ./lab -k {key} --grantee {APP} --operation Decrypt -c a=b --for 1h >&-"
    bare_shell.bash(command).failed(1, "standard output")
    assert _grants(lab, key) == []


def test_a_grant_that_may_exist_is_named(bare_shell: Shell, lab: Lab) -> None:
    key = lab.create_key()["Arn"]
    lab.faults.add("us-east-1", "error", 1.0, operation="CreateGrant", code="KMSInternalException", seed=0)
    with _grant(bare_shell, key, "--for", "1h") as process:
        out, said = process.communicate(timeout=60)
    assert process.returncode == 7
    assert b"KMS may have created the grant anyway, with the name sealwax:due/" in said
    assert out == b""


def test_without_for_a_grant_is_only_shown(bare_shell: Shell, lab: Lab) -> None:
    key = lab.create_key()["Arn"]
    with _grant(bare_shell, key) as process:
        out, _ = process.communicate(timeout=60)
    assert json.loads(out) == {
        "KeyId": key,
        "GranteePrincipal": APP,
        "Operations": ["Decrypt"],
        "Constraints": {"EncryptionContextSubset": {"purpose": "backup"}},
    }
    assert _grants(lab, key) == []


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (WRITE_KEY, "no context was given"),
        ((*WRITE_KEY, "-c", "path={relpath}"), "require only the name, with --context-name path"),
        (
            (*WRITE_KEY, "--no-context", "--context-name", "id"),
            "--no-context cannot be combined with other context options",
        ),
        (("policy", "key", "--admin", APP, "--encrypt", APP, "-c", "a=b"), "would both administer the key and use it"),
        (("policy", "iam", "encrypt", "-c", "a=b"), "name a KMS key with -k"),
        (("policy", "iam", "encrypt", "-k", KEY), "no context was given"),
        (
            ("policy", "iam", "encrypt", "-k", "x", "-c", "a=b"),
            "is not a KMS key ID, key ARN, alias or alias ARN (did you",
        ),
        (("policy", "grant", "-k", "x", *LEND[4:-1]), "(did you mean 'alias/x'?)"),
        (("policy", "iam", "encrypt", "encrypt", "-k", KEY, "-c", "a=b"), "a task was given twice"),
        (("policy", "iam", "rotate", "-k", KEY, "-c", "a=b"), "rotate requires --to"),
        (("policy", "iam", "decrypt", "-k", KEY, "-c", "a=b", "--to", KEY), "--to requires the task rotate"),
        (("policy", "iam", "audit", "-c", "a=b"), "takes no key and no context"),
        (
            (*LEND, "soon"),
            "is not a time such as",
        ),
        (
            (*LEND, "8d"),
            "at most 7d",
        ),
        (
            (
                "policy",
                "grant",
                "-k",
                KEY,
                "--grantee",
                APP,
                "--operation",
                "Decrypt",
                "-c",
                "a=b",
                "--for",
                "9999999h",
            ),
            "at most 7d",
        ),
        (
            (*LEND, "0s"),
            "at most 7d",
        ),
        (
            (
                "policy",
                "grant",
                "-k",
                KEY,
                "--grantee",
                APP,
                "--operation",
                "Decrypt",
                "-c",
                "a=b",
                "--for",
                "1d9999999999999999999s",
            ),
            "at most 7d",
        ),
        (
            (*LEND, "1w"),
            "is not a time such as 90s",
        ),
        (
            (
                *("policy", "grant", "-k", KEY, "--grantee", APP, "--operation", "Decrypt", "-c", "a=b"),
                "--format",
                "cloudformation",
            ),
            "CloudFormation has no resource for KMS grants",
        ),
        (("policy", "explain", "alice", "Decrypt", KEY), "'alice' is not a principal's ARN"),
        (("policy", "explain", APP, "Decrypt", KEY, "--grants", "@empty"), "--grants requires --key-policy"),
        (
            ("policy", "explain", APP, "Decrypt", KEY, "--facts", "@good", "--key-policy", "@good"),
            "remove --key-policy",
        ),
        (("policy", "explain", APP, "Decrypt", KEY, "--facts", "@good", "--grants", "@good"), "requires --key-policy"),
        (("policy", "explain", f"{IAM}:role/nobody", "Dekrypt", "alias/none"), "is not a KMS action on a key"),
        (("policy", "explain", APP, "Decrypt", "alias/x", "--given", "no:such=1"), "is not a condition key"),
        (("policy", "explain", APP, "ReEncrypt", KEY, "--key-policy", "@good"), "ask about each of them"),
        (
            ("policy", "explain", APP, "Dekrypt", KEY, "--key-policy", "@good"),
            "'Dekrypt' is not a KMS action on a key; use",
        ),
        (("policy", "explain", APP, "Decrypt", "x", "--key-policy", "@good"), "(did you mean 'alias/x'?)"),
        (("policy", "explain", APP, "Decrypt", KEY, "--key-policy", "@empty"), "the key policy is not JSON"),
        (("policy", "explain", APP, "Decrypt", KEY, "--key-policy", "@binary"), "binary' is not UTF-8"),
        (
            ("policy", "explain", APP, "Decrypt", KEY, "--key-policy", "@good", "--grants", "@good"),
            "is not in the format of `aws kms",
        ),
        (
            ("policy", "explain", APP, "Decrypt", KEY, "--key-policy", "@good", "--given", "x"),
            "--given takes NAME=VALUE",
        ),
        (
            ("policy", "explain", APP, "Decrypt", KEY, "--key-policy", "@good", "--given", "x=1"),
            "is not a condition key",
        ),
    ],
)
def test_wrong_use_is_told_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], sentence: str
) -> None:
    files = {
        "@empty": b"",
        "@binary": b"\xff\xfe",
        "@good": b'{"Statement": {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}}',
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert cli.run([str(tmp_path / one) if one in files else one for one in command]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.out == ""


def test_without_credentials_explain_says_so(bare_shell: Shell) -> None:
    bare_shell.sealwax("policy", "explain", APP, "Decrypt", KEY).failed(7, "there are no AWS credentials")


def test_audit_needs_neither_key_nor_context(bare_shell: Shell, tmp_path: Path) -> None:
    done = bare_shell.sealwax("policy", "iam", "audit", "--format", "terraform").succeeded()
    assert b'resource "aws_iam_policy" "this"' in done.out
    assert list(tmp_path.glob("work/*")) == []


def test_the_choices_of_a_missing_argument_are_listed(bare_shell: Shell) -> None:
    done = bare_shell.sealwax("policy", "iam").failed(2)
    assert "Choose from:\n    encrypt,\n    decrypt,\n" in done.err


def test_a_key_may_be_an_alias_wherever_a_policy_wants_its_arn(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each command prints the same as with the ARNs, says which key an alias is, and asks KMS for nothing else."""
    one, two = (lab.create_key(alias=alias)["Arn"] for alias in ("one", "two"))
    monkeypatch.setenv("SEALWAX_LAB", str(lab.path))
    policy = tmp_path / "policy"
    cli.run([*WRITE_KEY, "-c", "a=b"])
    policy.write_text(capsys.readouterr().out)
    commands: list[tuple[str, ...]] = [
        ("policy", "iam", "encrypt", "decrypt", "-k", "{one}", "-k", "{two}", "-c", "a=b"),
        ("policy", "iam", "rotate", "-k", "{one}", "--to", "{two}", "-c", "a=b", "--format", "terraform"),
        ("policy", "grant", "-k", "{one}", "--grantee", APP, "--operation", "Decrypt", "-c", "a=b"),
        ("policy", "explain", APP, "Decrypt", "{one}", "--key-policy", str(policy), "-c", "a=b", "--json"),
    ]
    for command in commands:
        before = len(list(lab.trail.events()))
        assert cli.run([word.format(one=one, two=two) for word in command]) == 0
        by_arn = capsys.readouterr()
        assert by_arn.err == ""
        assert len(list(lab.trail.events())) == before, "an ARN needs no KMS"
        assert cli.run([word.format(one="alias/one", two=two.rpartition("/")[2]) for word in command]) == 0
        by_name = capsys.readouterr()
        assert by_name.out == by_arn.out
        assert f"sealwax: alias/one is {one}\n" in by_name.err
        assert {event.record["eventName"] for event in list(lab.trail.events())[before:]} == {"DescribeKey"}


def test_a_policy_for_an_alias_that_is_not_there(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEALWAX_LAB", str(lab.path))
    assert cli.run(["policy", "iam", "encrypt", "-k", "alias/none", "-c", "a=b"]) == 7
    said = capsys.readouterr()
    assert said.out == ""
    assert "there is no such key or alias" in said.err


SCOPE: Final = ("-c", "app=shop")
NEW: Final = "arn:aws:kms:us-east-1:111122223333:key/5678abcd-12ab-34cd-56ef-1234567890ab"


def sids(text: bytes) -> list[str]:
    return [statement["Sid"] for statement in json.loads(text)["Statement"]]


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (("decrypt",), ["Decrypt", "KeepRecords"]),
        (("records",), ["MakeRecordsKeys", "OpenRecordsKeys", "PlantNoRecordsKeys"]),
        (("search-records",), ["OpenIndexKeys", "OpenNoRecordsKeys"]),
        (("rotate", "--to", NEW), ["RotateFrom", "RotateTo", "KeepRecords"]),
        (("rotate-records", "--to", NEW), ["RotateRecordsFrom", "RotateRecordsTo", "RotateNothingElse"]),
        (("rotate-indexes", "--to", NEW), ["RotateIndexesFrom", "RotateIndexesTo", "RotateNothingElse"]),
        (("decrypt", "-c", "sealwax-use=records-index"), ["Decrypt"]),
    ],
)
def test_iam_policies_for_records(bare_shell: Shell, tasks: tuple[str, ...], expected: list[str]) -> None:
    done = bare_shell.sealwax("policy", "iam", *tasks, "-k", KEY, *SCOPE).succeeded()
    assert sids(done.out) == expected
    assert done.err == ""


def test_one_role_for_records_and_for_envelopes(bare_shell: Shell) -> None:
    """Each statement is held to its own kind of data keys, and no Deny of one stops the other."""
    text = bare_shell.sealwax("policy", "iam", "decrypt", "records", "-k", KEY, *SCOPE).succeeded().out
    decrypt, _, opens, denied = json.loads(text)["Statement"]
    assert decrypt["Condition"]["Null"] == {"kms:EncryptionContext:sealwax-use": "true"}
    assert opens["Condition"]["Null"] == {"kms:EncryptionContext:sealwax-use": "false"}
    assert denied["Action"] == "kms:Encrypt"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("rotate-records",), "rotate-records requires --to"),
        (("rotate-indexes",), "rotate-indexes requires --to"),
        (("records", "--to", NEW), "--to requires the task rotate, rotate-records or rotate-indexes"),
        (("rotate", "rotate-records", "--to", NEW), "rotate and rotate-records are for different roles"),
        (("rotate-indexes", "rotate", "--to", NEW), "rotate and rotate-indexes are for different roles"),
        (
            ("rotate-records", "rotate-indexes", "--to", NEW),
            "rotate-records and rotate-indexes are for different roles",
        ),
        (("records", "search-records"), "records and search-records are for different roles"),
        (("records", "-c", "sealwax-use=records-data"), "remove it from the context"),
        (("decrypt", "-c", "sealwax-use=data"), "'data' is not a value of sealwax-use"),
        (("rotate", "--to", NEW, "--context-name", "sealwax-use"), "require one value of sealwax-use"),
    ],
)
def test_iam_policies_that_make_no_sense(bare_shell: Shell, arguments: tuple[str, ...], sentence: str) -> None:
    bare_shell.sealwax("policy", "iam", *arguments, "-k", KEY, *SCOPE).failed(2, sentence)


def test_a_key_policy_for_records_is_written_and_explained(bare_shell: Shell) -> None:
    roles = ("--records", f"{IAM}:user/shop", "--search-records", f"{IAM}:user/search")
    moving = ("--rotate-records", f"{IAM}:user/rotation", "--rotate-indexes", f"{IAM}:user/moving")
    text = bare_shell.sealwax(*WRITE_KEY, *roles, *moving, *SCOPE).succeeded().out
    bare_shell.write("key.json", text)
    cases = {
        ("shop", "Decrypt", "records-data"): True,
        ("shop", "Encrypt", "records-data"): False,
        ("search", "Decrypt", "records-index"): True,
        ("search", "Decrypt", "records-data"): False,
        ("rotation", "ReEncryptTo", "records-data"): True,
        ("rotation", "ReEncryptTo", "records-index"): False,
        ("moving", "ReEncryptTo", "records-index"): True,
        ("moving", "ReEncryptFrom", "records-data"): False,
        ("app", "Decrypt", "records-data"): False,
    }
    for (who, action, use), expected in cases.items():
        explain = ("policy", "explain", f"{IAM}:user/{who}", action, KEY, "--key-policy", "key.json", "--json")
        done = bare_shell.sealwax(*explain, *SCOPE, "-c", f"sealwax-use={use}").succeeded()
        assert json.loads(done.out)["allowed"] is expected, (who, action, use)
    both = ("--rotate-from", f"{IAM}:user/rotation")
    bare_shell.sealwax(*WRITE_KEY, *moving, *both, *SCOPE).failed(2, "name two different principals")
    both = ("--rotate-records", f"{IAM}:user/moving")
    bare_shell.sealwax(*WRITE_KEY, *moving, *both, *SCOPE).failed(2, "name two different principals")


def test_a_grant_may_name_the_use(bare_shell: Shell) -> None:
    grant = ("policy", "grant", "-k", KEY, "--grantee", APP, "--operation", "Decrypt", *SCOPE)
    done = bare_shell.sealwax(*grant, "-c", "sealwax-use=records-index").succeeded()
    assert json.loads(done.out)["Constraints"]["EncryptionContextSubset"]["sealwax-use"] == "records-index"
