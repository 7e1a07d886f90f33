"""sealwax prove, as it is typed."""

from __future__ import annotations

import json

from tests.cli.conftest import Keys
from tests.cli.shell import Shell

PROVE = ("prove", "-k", "alias/demo", "-c", "purpose=backup")


def test_a_line_for_each_check_and_what_it_cost(shell: Shell) -> None:
    done = shell.sealwax(*PROVE).succeeded()
    lines = done.out.decode().splitlines()
    assert len(lines) == 24
    assert [line for line in lines if line.startswith("failed")] == []
    assert all(line.startswith(("passed ", "not shown")) for line in lines[:-1])
    assert "requests to KMS were made" in lines[-1]
    assert "requests to KMS are planned" in done.err
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


def _credentials(keys: Keys) -> bytes:
    found = keys.lab.session().get_credentials()
    assert found is not None
    return f"[boss]\naws_access_key_id = {found.access_key}\naws_secret_access_key = {found.secret_key}\n".encode()


def test_refusals(shell: Shell) -> None:
    shell.sealwax("prove", "-c", "purpose=backup").failed(2, "-k")
    shell.sealwax("prove", "-k", "alias/demo").failed(6, "no context was given")
    shell.sealwax(*PROVE, "-k", "alias/demo2").failed(2, "one KMS key")
    shell.sealwax(*PROVE, "--denied-profile", "a", "--denied-role", "b").failed(2, "exclude each other")
    shell.sealwax("prove", "-k", "alias/nowhere", "-c", "purpose=backup").failed(7, "alias/nowhere")
