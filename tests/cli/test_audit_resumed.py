"""sealwax audit --save-facts, killed and stopped on its way, typed again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sealwax.audit import _factsfile
from sealwax.audit._facts import Facts
from tests.audit.live import ACCOUNT, REGION, account
from tests.audit.wire import Wire, wire
from tests.cli.shell import Shell

KEYS: Final = 12
#: STS, two lists, seven questions a key, and IAM, trails, rules and filters once.
REQUESTS: Final = 1 + 2 + 7 * KEYS + 4
AUDIT: Final = ("audit", "--all", "--region", REGION, "--save-facts", "facts.json", "--events", "none.json", "--json")
PART: Final = "facts.json.part"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Wire, dict[str, str]]]:
    with account(tmp_path_factory.mktemp("lab")) as (lab, moto), wire(lab, moto) as between:
        session = lab.session(REGION, account=ACCOUNT)
        for number in range(KEYS):
            arn = session.client("kms").create_key(Description=str(number))["KeyMetadata"]["Arn"]
        session.client("kms").create_alias(AliasName="alias/one", TargetKeyId=arn)
        credentials = session.get_credentials()
        assert credentials is not None
        frozen = credentials.get_frozen_credentials()
        yield (
            between,
            {
                "AWS_ACCESS_KEY_ID": str(frozen.access_key),
                "AWS_SECRET_ACCESS_KEY": str(frozen.secret_key),
                "AWS_ENDPOINT_URL": between.url,
            },
        )


@pytest.fixture
def between(live: tuple[Wire, dict[str, str]], bare_shell: Shell) -> Wire:
    between, environment = live
    between.asked.clear()
    between.at = lambda _: None
    bare_shell.environment |= environment
    bare_shell.write("none.json", b'{"Records": []}')
    return between


def stopped(shell: Shell, between: Wire, step: int, number: signal.Signals) -> subprocess.CompletedProcess[bytes]:
    """Run the audit and send it a signal when it makes its nth request."""
    with shell.start(*AUDIT) as process:
        between.at = lambda count: os.kill(process.pid, number) if count == step else None
        out, err = process.communicate(timeout=120)
        between.at = lambda _: None
        return subprocess.CompletedProcess((), process.returncode, out, err)


def facts_of(shell: Shell) -> Facts:
    return _factsfile.read_facts(str(shell.folder / "facts.json"))


@pytest.mark.parametrize("step", [2, 30, REQUESTS - 3])
def test_a_killed_audit_is_deleted_on_with_by_the_same_command(bare_shell: Shell, between: Wire, step: int) -> None:
    assert stopped(bare_shell, between, step, signal.SIGKILL).returncode == -signal.SIGKILL
    assert not (bare_shell.folder / "facts.json").exists()
    first = len(between.asked)
    done = bare_shell.sealwax(*AUDIT)
    second = len(between.asked) - first
    facts = facts_of(bare_shell)
    assert json.loads(done.out)["counts"]["keys"] == len(facts.keys) == KEYS
    assert facts.gaps == ()
    assert not (bare_shell.folder / PART).exists()
    # Lost is what was asked at that moment, by eight threads and the one for who is there.
    assert REQUESTS <= first + second <= REQUESTS + 9
    assert ("answers, the oldest from 0 min ago" in done.err) == (step > 2)
    assert (facts.since is not None) == (step > 2)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_audit_says_how_it_goes_on(
    bare_shell: Shell, between: Wire, number: signal.Signals, status: int
) -> None:
    done = stopped(bare_shell, between, 30, number)
    assert done.returncode == status
    assert b"the answers so far are in 'facts.json.part'; run the same command again to resume" in done.stderr
    assert b"Traceback" not in done.stderr
    # It waits for what is under way, and not for the rest of the keys.
    assert len(between.asked) < REQUESTS - 20
    first = len(between.asked)
    bare_shell.sealwax(*AUDIT)
    assert len(between.asked) - first < REQUESTS - 10
    assert len(facts_of(bare_shell).keys) == KEYS
    assert sorted(path.name for path in bare_shell.folder.iterdir()) == ["facts.json", "none.json"]


def test_facts_that_are_there_are_not_gathered_again(bare_shell: Shell, between: Wire) -> None:
    bare_shell.write("facts.json", b"mine")
    bare_shell.sealwax(*AUDIT).failed(1, "already exists")
    assert between.asked == []
    assert sorted(path.name for path in bare_shell.folder.iterdir()) == ["facts.json", "none.json"]
    assert stopped(bare_shell, between, 10, signal.SIGKILL).returncode == 1
    bare_shell.sealwax(*AUDIT, "--force")
    assert len(facts_of(bare_shell).keys) == KEYS


def test_what_was_gathered_of_another_place_is_refused(bare_shell: Shell, between: Wire) -> None:
    stopped(bare_shell, between, 30, signal.SIGKILL)
    command = [*AUDIT, "--lab", "./lab"]
    bare_shell.sealwax("lab", "create-key", "--lab", "./lab").succeeded()
    bare_shell.sealwax(*command).failed(1, f"has answers from {between.url}, not from the lab in")
    assert (bare_shell.folder / PART).exists()


def test_a_pipe_takes_facts_and_keeps_no_answers(bare_shell: Shell, between: Wire) -> None:
    assert not between.asked
    done = bare_shell.bash(
        f"sealwax audit --all --region {REGION} --events none.json --save-facts /dev/stdout --report report.csv | cat"
    )
    assert json.loads(done.out)["format"] == "sealwax-facts-1"
    assert "--report audit.html" in done.err
    assert "--save-facts" not in done.err
    assert sorted(path.name for path in bare_shell.folder.iterdir()) == ["none.json", "report.csv"]


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_asked(bare_shell: Shell, between: Wire) -> None:
    command = [one.replace("facts.json", "nowhere/facts.json") for one in AUDIT]
    bare_shell.sealwax(*command).failed(1, "opening 'nowhere/facts.json.part' failed")
    assert between.asked == []
    assert Path(bare_shell.folder / "none.json").exists()
