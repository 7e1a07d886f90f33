"""How much is said: errors only with -q, each request with -v; colors and width as the environment wants them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import boto3
import click
import pytest

from sealwax import cli
from sealwax.cli import console
from sealwax.cli.state import RunState
from sealwax.lab import Lab
from sealwax.records import SqlKeys
from tests.cli.conftest import PURPOSE, K, Keys, Run
from tests.cli.shell import SEALWAX, Shell
from tests.foreign import scripts
from tests.s3 import StrictS3

APP = "arn:aws:iam::111122223333:user/app"
STORE = ("--store", "sqlite:///keys.db")
TABLES = ("--fields", "fields.toml", "--data", "sqlite:///app.db")
SCOPE = ("-c", "app=shop")
PLAN = ("fleet", "plan", "--from", "alias/demo", "--to", "alias/demo2", *PURPOSE, "--force", "-o", "plan", "in")
# Commands of every verb that succeed, in an order in which each finds what it needs.
SUCCEED: dict[str, tuple[str, ...]] = {
    "encrypt": ("encrypt", *K, *PURPOSE, "-r", "--force", "-o", "in", "plain"),
    "verify": ("verify", *K, *PURPOSE, "in/a.swx"),
    "decrypt": ("decrypt", *K, *PURPOSE, "--force", "-o", "out", "--range", "0:99999", "in/a.swx"),
    "inspect": ("inspect", "--to", "alias/demo", "in/a.swx"),
    "fleet plan": PLAN,
    "fleet status": ("fleet", "status", "plan"),
    "fleet run": ("fleet", "run", "plan", "--apply"),
    "fleet verify": ("fleet", "verify", "plan"),
    "rewrap": ("rewrap", "-k", "alias/demo2", "--to", "alias/demo", *PURPOSE, "in/a.swx"),
    "reencrypt": ("reencrypt", *K, "--to", "alias/demo2", *PURPOSE, "in/a.swx"),
    "migrate": (
        *("migrate", *K, "--to", "alias/demo2", *PURPOSE, "--allow-legacy", "envkms01"),
        *("--into", "moved", "old.env"),
    ),
    "records create-table": ("records", "create-table", *STORE),
    "records ensure": ("records", "ensure", *STORE, *K, *SCOPE),
    "records roll": ("records", "roll", *STORE, *K, *SCOPE),
    "records retire": ("records", "retire", *STORE, *SCOPE, "1"),
    "records list": ("records", "list", *STORE),
    "records index-bits": ("records", "index-bits", "--rows", "1000000"),
    "records explain": ("records", "explain", *STORE, "@record"),
    "records stale": ("records", "stale", *STORE, *TABLES),
    "records reseal": ("records", "reseal", *STORE, *K, *SCOPE, *TABLES, "--settle", "1s"),
    "records verify": ("records", "verify", *STORE, *K, *SCOPE, *TABLES),
    "records repair": ("records", "repair", *STORE, "--from", "sqlite:///keys.db"),
    "records remove": ("records", "remove", *STORE, *K, "00" * 16),
    "records shred": ("records", "shred", *STORE, *SCOPE, "--confirm", "app=shop"),
    "records reopen": ("records", "reopen", *STORE, *K, *SCOPE),
    "prove": ("prove", *K, *PURPOSE),
    "rehearse": ("rehearse", "--region", "eu-west-1", "--region", "us-east-1"),
    "audit": ("audit", "-k", "alias/demo", "--fail-on", "never", "--allow-incomplete"),
    "keys list": ("keys", "list"),
    "keys rotate": ("keys", "rotate", "alias/demo", "--now"),
    "keys rotations": ("keys", "rotations", "alias/demo"),
    "keys retire": ("keys", "retire", "alias/foreign", "--scan", "in"),
    "policy key": ("policy", "key", "--admin", f"{APP}2", "--decrypt", APP, *PURPOSE),
    "policy iam": ("policy", "iam", "decrypt", *K, *PURPOSE),
    "policy grant": ("policy", "grant", *K, "--grantee", APP, "--operation", "Decrypt", *PURPOSE),
    "policy explain": ("policy", "explain", APP, "Decrypt", "alias/demo", "--identity-policy", "iam.json"),
    "settings show": ("settings", "show"),
    "doctor": ("doctor", *K),
    "edit": ("edit", "-k", "alias/demo2", *PURPOSE, "in/a.swx"),
    "help": ("help", "7"),
    "completion": ("completion", "bash"),
    "lab create-key": ("lab", "create-key", "--lab", "new"),
    "lab keys": ("lab", "keys"),
    "lab principal add": ("lab", "principal", "add", "--lab", "new", "alice"),
    "lab fault": ("lab", "fault", "--lab", "new", "--region", "us-east-1", "--clear"),
    "lab trail": ("lab", "trail", "--lab", "new"),
}
# What these print is all that they are for.
ANSWERS = {
    "records list", "records explain", "records stale", "records index-bits",
    "inspect", "fleet status", "audit", "keys list", "keys rotations", "keys retire", "policy key", "policy iam",
    "policy grant", "policy explain", "settings show", "help", "completion", "lab create-key", "lab keys",
    "lab principal add", "lab trail", "rehearse",
}  # fmt: skip


def leaves(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for each in command.list_commands(context):
        below = command.get_command(context, each)
        assert below is not None
        yield from leaves(below, f"{name} {each}".strip())


def test_every_command_has_the_options() -> None:
    found = dict(leaves(cli.root))
    assert set(found) == {*SUCCEED, "lab serve"}
    for name, command in found.items():
        assert {"quiet", "verbose", "debug"} <= {param.name for param in command.params}, name


def prepare_records() -> None:
    """Make a record under the key that is there, and a row that does not unwrap."""
    store = SqlKeys("sqlite:///keys.db")
    row = next(store.list())
    store.put_back(dataclasses.replace(row, key_id=bytes(16), blob=b"damaged"))
    Path("record").write_bytes(b"\xc1" + row.key_id + bytes(50))
    with contextlib.closing(sqlite3.connect("app.db")) as database:
        database.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, card BLOB)")
    Path("fields.toml").write_text('[[fields]]\ntable = "users"\ncolumn = "card"\nrow = "unbound"\n')


def test_quiet_prints_errors_only(
    run: Run, keys: Keys, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("plain").mkdir()
    Path("plain/a").write_bytes(b"data")
    Path("old.env").write_bytes(scripts.envkms(keys.lab, keys.demo, b"data", {"purpose": "backup"}))
    Path("iam.json").write_text('{"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}}')
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.setenv("AWS_PROFILE", "nobody")  # a note of each command that opens the lab
    for name, command in SUCCEED.items():
        if name == "records retire":
            prepare_records()
        capfd.readouterr()
        assert run(*command, "-q") == 0, (name, capfd.readouterr())
        out, err = capfd.readouterr()
        assert err == "", (name, err)
        assert bool(out) == (name in ANSWERS), (name, out)


def test_quiet_keeps_what_an_option_asks_for(run: Run, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Path("a").write_bytes(b"data")
    assert run("encrypt", "-q", "--json", *K, *PURPOSE, "a") == 0
    assert capfdbinary.readouterr()[0].count(b"\n") == 1
    assert run("decrypt", "-q", *K, *PURPOSE, "-o", "-", "a.swx") == 0
    assert capfdbinary.readouterr() == (b"data", b"")
    assert run("keys", "rotate", "-q", "--json", "alias/demo", "--now") == 0
    out, err = capfdbinary.readouterr()
    assert (out.count(b"\n"), err) == (1, b"")


def test_quiet_keeps_errors(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    for status, *command in ((7, "encrypt", "-k", "alias/none", *PURPOSE, __file__), (1, "inspect", "none")):
        assert run(*map(str, command), "-q") == status
        assert capfd.readouterr().err.startswith("sealwax: ")


@pytest.mark.parametrize("options", [("-q", "-v"), ("-v", "-q"), ("--debug", "-q")])
def test_quiet_and_verbose_exclude_each_other(
    run: Run, capfd: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    assert run("completion", "bash", *options) == 2
    out, err = capfd.readouterr()
    assert "Error: use -q or -v, not both; --debug includes -v\n" in err
    assert out == ""


def test_a_quiet_server_says_only_where_it_is(shell: Shell) -> None:
    command = [SEALWAX, "lab", "serve", "--lab", "new", "--host", "0.0.0.0", "--port", "0", "-q"]
    with subprocess.Popen(
        command, cwd=shell.folder, env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"sealwax lab is ready at http://")
        process.send_signal(signal.SIGINT)
        assert process.communicate() == (b"", b"")
    assert process.returncode == 0


# --- -v


CALL = re.compile(
    r"sealwax: (?P<service>\S+) (?P<operation>\w+) (?P<names>\S.*): (?P<outcome>\w+) in \d+ ms"
    r"(, attempt (?P<attempt>\d))?, (?P<region>[a-z0-9-]+), request (?P<request>\S+?)(, context names (?P<context>.*))?"
)


def calls(err: str) -> list[re.Match[str]]:
    return [match for line in err.splitlines() if (match := CALL.fullmatch(line))]


def told(err: str, *parts: str) -> list[tuple[str, ...]]:
    return [tuple(match[part] or "" for part in parts) for match in calls(err)]


def test_verbose_tells_each_call_of_kms(run: Run, keys: Keys, capfd: pytest.CaptureFixture[str]) -> None:
    Path("a").write_bytes(b"data")
    before = len(list(keys.lab.trail.events()))
    two = ("-k", "alias/demo", "-k", "alias/demo2")
    assert run("encrypt", "-v", *two, "-c", "purpose=hidden-value", "-c", "id=other", "a") == 0
    assert run("rewrap", "-v", *K, "--to", keys.foreign, "-c", "purpose=hidden-value", "-c", "id=other", "a.swx") == 0
    err = capfd.readouterr().err
    assert told(err, "service", "operation", "names", "outcome", "region", "context") == [
        ("KMS", "GenerateDataKey", "alias/demo", "ok", "us-east-1", "purpose, id"),
        ("KMS", "Encrypt", "alias/demo2", "ok", "us-east-1", "purpose, id"),
        ("KMS", "ReEncrypt", f"alias/demo, {keys.foreign}", "ok", "us-east-1", "id, purpose"),
    ]
    events = list(keys.lab.trail.events())[before:]
    assert [match["request"] for match in calls(err)] == [event.record["requestID"] for event in events]
    assert "hidden-value" not in err
    assert "other" not in err
    assert run("verify", *K, *PURPOSE, "a.swx") == 6
    assert not calls(capfd.readouterr().err), "the next run has no -v"


def test_verbose_tells_failures_and_retries(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "a").write_bytes(b"data")
    with Lab(tmp_path / "own") as lab:
        lab.create_key(alias="demo")
        lab.faults.add("us-east-1", "throttle", 1.0, operation="GenerateDataKey")
        monkeypatch.setenv("SEALWAX_LAB", str(lab.path))
        assert cli.run(["encrypt", "-v", *K, *PURPOSE, "a"]) == 7
        assert told(capfd.readouterr().err, "outcome", "attempt") == [
            ("ThrottlingException", attempt) for attempt in ("", "2", "3", "4")
        ]
        lab.faults.clear("us-east-1")
        lab.faults.add("us-east-1", "down", 1.0)
        assert cli.run(["inspect", "-v", "--to", "alias/demo", "a"]) == 7
        err = capfd.readouterr().err
        assert re.search(r"KMS DescribeKey alias/demo: EndpointConnectionError in \d+ ms, us-east-1\n", err), err


def test_verbose_tells_the_calls_of_threads_in_the_order_of_the_files(
    run: Run, keys: Keys, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    for number in range(12):
        Path(f"in/{number:02}").write_bytes(b"data")
    keys.lab.faults.add("us-east-1", "latency", 20.0)
    try:
        assert run("encrypt", "-v", *K, *PURPOSE, "-r", "-o", "out", "in") == 0
    finally:
        keys.lab.faults.clear("us-east-1")
    lines = [line for line in capfd.readouterr().err.splitlines() if "using the lab" not in line]
    files = [line.split()[1] for line in lines if ": encrypted -> " in line]
    if files:
        assert files == [f"in/{number:02}:" for number in range(12)]
    assert sum(bool(CALL.fullmatch(line)) for line in lines) == 12


def test_verbose_tells_what_is_asked_of_s3(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("a").write_bytes(b"data")
    with StrictS3() as server:
        server.bucket()
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        assert run("encrypt", "-v", *K, *PURPOSE, "-o", "s3://bucket/a.swx", "a") == 0
        assert run("inspect", "-v", "s3://bucket/none") == 1
    found = told(capfd.readouterr().err, "service", "operation", "names", "outcome")
    assert ("S3", "PutObject", "s3://bucket/a.swx", "ok") in found
    assert found[-1][:3] == ("S3", "GetObject", "s3://bucket/none")
    assert found[-1][3] in ("NoSuchKey", "404")


def test_debug_ends_with_its_run(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", "--debug", "--to", "alias/demo", "none") == 1
    err = capfd.readouterr().err
    assert (
        "sealwax: botocore.endpoint: Making request for OperationModel(name=DescribeKey) with params: [withheld]" in err
    )
    assert calls(err)
    assert run("--debug", "inspect", "-v", "--debug", "--to", "alias/demo", "none") == 1
    assert capfd.readouterr().err.count("OperationModel(name=DescribeKey)") == 1, "once, however often it is given"
    assert run("inspect", "--to", "alias/demo", "none") == 1
    assert "botocore" not in capfd.readouterr().err


# --- the lab's note


def test_the_lab_is_named_once_by_its_absolute_path(
    run: Run, keys: Keys, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    relative = os.path.relpath(keys.lab.path)
    for number in range(3):
        Path(f"{number}").write_bytes(b"data")
    monkeypatch.delenv("SEALWAX_LAB")
    commands: Sequence[tuple[str, ...]] = (
        ("encrypt", *K, *PURPOSE, "0", "1", "2"),
        ("policy", "iam", "rotate", *K, "--to", "alias/demo2", *PURPOSE),
        ("keys", "rotate", "alias/demo", "--now"),
    )
    for command in commands:
        assert run(*command, "--lab", relative) == 0
        err = capfd.readouterr().err
        assert err.count("using the lab") == 1
        assert f"sealwax: using the lab in {keys.lab.path.resolve()}, not AWS\n" in err


# --- keys list --wide


def test_wide_lists_arns_and_breaks_none(shell: Shell, keys: Keys) -> None:
    head, *rows = shell.sealwax("keys", "list", "--wide").succeeded().out.decode().splitlines()
    assert head.split()[:2] == ["ARN", "ALIASES"]
    assert {keys.demo, keys.demo2, keys.foreign} <= {row.split()[0] for row in rows}
    _, shown = shell.on_terminal("keys", "list", "--wide", streams="stdout", COLUMNS="80")
    assert f"\n{keys.demo}  alias/demo " in shown


# --- colors and width


class _Stream:
    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("environment", "on_terminal", "piped"),
    [
        ({"TERM": "xterm"}, True, False),
        ({}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, False),
        ({"TERM": "xterm", "FORCE_COLOR": "1"}, True, True),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
        ({"TERM": "xterm", "FORCE_COLOR": ""}, True, False),
        ({"TERM": "xterm", "FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_colors(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], on_terminal: bool, piped: bool) -> None:
    for name in ("TERM", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert console.colored(_Stream(True)) is on_terminal  # type: ignore[arg-type]
    assert console.colored(_Stream(False)) is piped  # type: ignore[arg-type]
    assert console.colored(None) is (environment.get("FORCE_COLOR") == "1" and "NO_COLOR" not in environment)


def test_colors_of_a_command(run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    command = ("audit", "-k", "alias/demo", "--fail-on", "never", "--allow-incomplete")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    assert run(*command) == 0
    assert "\x1b[" not in capfd.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(*command) == 0
    assert "\x1b[" in capfd.readouterr().out


@pytest.mark.parametrize(("term", "no_color"), [("dumb", ""), ("xterm", "1")])
def test_a_table_without_escapes_is_as_wide_as_the_terminal(shell: Shell, term: str, no_color: str) -> None:
    for columns in (60, 200):
        _, shown = shell.on_terminal(
            "keys", "list", streams="stdout", COLUMNS=str(columns), TERM=term, NO_COLOR=no_color
        )
        assert "\x1b" not in shown
        longest = max(map(len, map(str.rstrip, shown.splitlines())))
        assert longest <= columns
        assert longest > 80 or columns == 60


def test_a_dumb_terminal_has_no_bar(shell: Shell, keys: Keys) -> None:
    shell.write("in/a.swx", keys.sealer(keys.demo).encrypt(b"", context={"purpose": "backup"}))
    _, shown = shell.on_terminal(*PLAN, streams="stderr", TERM="dumb")
    assert shown.splitlines() == [f"sealwax: using the lab in {keys.lab.path.resolve()}, not AWS"]


def test_facts_are_folded_on_a_terminal_only(shell: Shell, keys: Keys) -> None:
    (shell.folder / "in").mkdir()
    retire = ("keys", "retire", "alias/foreign", "--scan", "in")
    _, shown = shell.on_terminal(*retire, streams="stdout", COLUMNS="60")
    assert f"key       {keys.foreign}\n          (alias/foreign)\n" in shown, "an ARN stays whole"
    assert f"key       {keys.foreign} (alias/foreign)\n" in shell.sealwax(*retire).out.decode()


def test_the_state_outside_of_a_run_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    console.info_once("nobody asked")
    assert capfd.readouterr().err == ""
    assert RunState().sessions.watched(session := boto3.Session()) is session


def test_a_narrow_terminal_cuts_nothing(shell: Shell, keys: Keys) -> None:
    """The usual goes first, then columns become lines, so that IDs can still be copied."""
    shown = {
        columns: shell.on_terminal("keys", "list", "-q", streams="stdout", COLUMNS=columns, TERM="dumb")[1]
        for columns in ("60", "125", "200")
    }
    for text in shown.values():
        for arn in (keys.demo, keys.demo2, keys.foreign):
            assert arn.rpartition("/")[2] in text
        assert "…" not in text
    wide, narrow = (shown[columns].split("\n")[0].split() for columns in ("200", "125"))
    assert wide == ["ID", "ALIASES", "MANAGER", "ORIGIN", "STATE", "MULTI-REGION", "ROTATION", "LAST", "USE"]
    assert {"ID", "ALIASES", "STATE"} <= set(narrow) < set(wide), "columns that hold only the usual go first"
    assert f"id        {keys.demo.rpartition('/')[2]}\naliases   alias/demo\nstate     Enabled\n" in shown["60"]


def test_the_options_may_stand_before_the_verb(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    Path("a").write_bytes(b"data")
    assert run("-q", "encrypt", *K, *PURPOSE, "a") == 0
    assert capfd.readouterr().err == ""
    assert run("-v", "verify", *K, *PURPOSE, "a.swx") == 0
    assert told(capfd.readouterr().err, "operation") == [("Decrypt",)]
    assert run("-v", "verify", "-q", *K, *PURPOSE, "a.swx") == 2
