"""Help: groups of options, examples that run, suggestions for what was mistyped, and what errors and statuses mean."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

import sealwax
from sealwax import cli, errors, policy
from sealwax._aws.meanings import CODES
from sealwax.cli import troubles, verbs
from sealwax.cli.examples import EXAMPLES
from sealwax.lab import Lab
from sealwax.records import SqlKeys
from tests.cli.shell import ROOT, Shell
from tests.foreign import esdk, scripts
from tests.s3 import StrictS3

# What an example may end with, if not with 0: the account of a lab has findings.
_MAY_FIND: Final = {"audit": {0, 3}}


def contexts(context: click.Context | None = None) -> Iterator[click.Context]:
    """Yield a context for the program and every verb."""
    context = context or click.Context(cli.root, info_name="sealwax", **cli.root.context_settings)
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from contexts(click.Context(command, info_name=name, parent=context))


ALL: Final = {context.command_path.partition(" ")[2]: context for context in contexts()}
LEAVES: Final = [path for path, context in ALL.items() if not isinstance(context.command, click.Group)]


def options(context: click.Context) -> list[click.Option]:
    return [each for each in context.command.get_params(context) if isinstance(each, click.Option)]


def test_every_verb_has_this_help() -> None:
    assert len(ALL) > 30
    assert {type(context.command) for context in ALL.values()} >= {verbs.Verb, verbs.VerbGroup}
    for path, context in ALL.items():
        assert isinstance(context.command, verbs.Verb | verbs.VerbGroup), path


@pytest.mark.parametrize("path", ALL)
def test_every_option_is_in_a_group(path: str) -> None:
    """A new one is shown under "What" until it has a line in the table."""
    lost = [option.opts for option in options(ALL[path]) if verbs.group_of(ALL[path].command_path, option) is None]
    assert lost == [], "add them to _GROUPS in cli/verbs.py"


def test_the_groups_and_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    def titles(*command: str) -> list[str]:
        assert cli.run([*command, "-h"]) == 0
        return re.findall(r"^(\w[\w ]*):$", capsys.readouterr().out, re.MULTILINE)

    usual = ["What", "Keys and context", "Where it goes", "Speed and limits", "AWS", "Output", "Examples"]
    assert titles("encrypt") == usual
    assert titles("fleet", "plan") == usual
    assert titles("lab", "keys") == ["The lab", "Output", "Examples"]
    assert titles("completion") == ["Options", "Examples"], "one group needs no other title"
    assert titles() == ["Verbs", "Options"]


@pytest.mark.parametrize("path", LEAVES)
def test_every_verb_has_two_or_three_examples(path: str) -> None:
    lines = EXAMPLES[path].strip().splitlines()
    assert lines[0].startswith("# ")
    assert 2 <= sum(line.startswith("#") for line in lines) <= 3
    starts = [line for line in lines if not line.startswith(("#", " "))]
    assert all(f"sealwax {path}" in line for line in starts)


def test_no_example_is_of_another_verb() -> None:
    assert set(EXAMPLES) <= set(ALL)


@pytest.mark.parametrize(("columns", "most"), [(80, 80), (90, 90), (200, 100)])
def test_help_is_as_wide_as_the_terminal(
    columns: int, most: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    longest = 0
    for path in ALL:
        assert cli.run([*path.split(), "-h"]) == 0
        for line in capsys.readouterr().out.splitlines():
            assert len(line) <= most, (path, line)
            longest = max(longest, len(line))
    assert longest >= most - 4, "the room is used"


# --- suggestions


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("encypt", "no such verb 'encypt'; did you mean encrypt?"),
        ("Decrypt", "no such verb 'Decrypt'; did you mean decrypt?"),
        ("verif", "no such verb 'verif'; did you mean verify?"),
        ("rotations", "no such verb 'rotations'; did you mean keys rotations?"),
        ("xyzzy", "no such verb 'xyzzy'; `sealwax help` lists the verbs"),
        ("x\x1b[31m", "no such verb 'x\\x1b[31m'; `sealwax help` lists the verbs"),
        ("fleet pln", "no such verb 'pln' in 'sealwax fleet'; did you mean plan?"),
        ("lab principal ad", "no such verb 'ad' in 'sealwax lab principal'; did you mean add?"),
        ("keys xyzzy", "no such verb 'xyzzy' in 'sealwax keys'; `sealwax help keys` lists the verbs"),
        ("encrypt --contxt a=b", "no such option '--contxt'; did you mean --context?"),
        ("decrypt --wrong a", "no such option '--wrong'"),
        ("encrypt --quite", "no such option '--quite'; did you mean --quiet?"),
        ("fleet --verbos", "no such option '--verbos'"),
        ("encrypt -z", "no such option '-z'"),
        ("audit --fail-on hgh", "'never'; did you mean high?"),
        ("completion bsh", "'fish'; did you mean bash?"),
        ("policy iam decript", "'audit'; did you mean decrypt?"),
        ("completion xyzzy", "'xyzzy' is not one of 'bash', 'zsh', 'fish'."),
        ("help encypt", "no help on 'encypt'; did you mean encrypt?"),
        ("help fleet pln", "no such verb 'pln' in 'sealwax fleet'; did you mean plan?"),
        ("help inspect it", "'sealwax inspect' has no verbs below it; try `sealwax help inspect`"),
        ("help AcessDenied", "no help on 'AcessDenied'; did you mean AccessDeniedError?"),
        ("verify --workers x", "'--workers': 'x' is not a whole number."),
        ("lab serve --port 1.5", "'--port': '1.5' is not a whole number."),
        ("lab fault --seed x", "'--seed': 'x' is not a whole number."),
        ("lab fault --latency 1s", "'--latency': '1s' is not a number."),
        ("lab fault --error Code x", "'--error': 'x' is not a number."),
        ("help 9", "no help on '9'; `sealwax help statuses` lists the exit statuses"),
        ("help xyzzy", "no help on 'xyzzy'; `sealwax help` lists the verbs"),
    ],
)
def test_what_was_mistyped_is_suggested(command: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(command.split(" ")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(f"{said}\n"), err


# --- sealwax help


@pytest.mark.parametrize("path", ["", "encrypt", "fleet", "fleet plan", "lab principal add", "help"])
def test_help_of_a_verb_is_that_of_its_option(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*path.split(), "--help"]) == 0
    wanted = capsys.readouterr().out
    assert cli.run(["help", *path.split()]) == 0
    assert capsys.readouterr().out == wanted


def said_of(topic: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.run(["help", topic]) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("kind", troubles.ERRORS)
def test_help_of_an_error(kind: type[errors.SealwaxError], capsys: pytest.CaptureFixture[str]) -> None:
    said = said_of(kind.__name__, capsys)
    trouble = troubles.ERRORS[kind]
    error = kind("", ()) if kind is errors.AllKeysFailedError else kind("")
    assert said.startswith(f"{kind.__name__} (exit status {cli.status_of(error)}): {trouble.what}.")
    assert all(cause in said and fix in said for cause, fix in trouble.causes)
    assert all(message in said for message in trouble.messages)
    assert said_of(kind.__name__.lower().removesuffix("error"), capsys) == said, "in any case, and without Error"


@pytest.mark.parametrize("name", troubles.OF_EXTRAS)
def test_help_of_an_error_of_an_extra(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = said_of(name, capsys)
    assert said.startswith(f"{name} (exit status 1): {troubles.OF_EXTRAS[name].what}.")
    assert all(f"{cause} {fix}" in said for cause, fix in troubles.OF_EXTRAS[name].causes)
    assert said_of(name.lower().removesuffix("error"), capsys) == said
    assert f" {name} " in said_of("errors", capsys)


@pytest.mark.parametrize("status", troubles.STATUSES)
def test_help_of_a_status(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    said = said_of(str(status), capsys)
    assert said.startswith(f"Exit status {status}: {troubles.STATUSES[status].what}.")
    assert ("AccessDeniedError" in said) == (status == 7)
    assert ("PlanError" in said) == (status == 1)


def test_help_of_a_code_of_aws(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(CODES) > 50
    for code, meaning in CODES.items():
        said = said_of(code, capsys)
        if f"{code}Error" in errors.__all__:
            assert said.startswith(f"{code}Error "), "it is the name of an error without its end"
        else:
            assert said.startswith(f"{code} is a code of AWS. The error is {meaning.error.__name__}."), code


def test_lists_of_topics(capsys: pytest.CaptureFixture[str]) -> None:
    said = said_of("errors", capsys)
    assert all(f" {kind.__name__} " in said for kind in troubles.ERRORS)
    said = said_of("statuses", capsys)
    assert all(f" {status} " in said for status in troubles.STATUSES)


def test_every_error_and_status_is_explained() -> None:
    assert {kind.__name__ for kind in troubles.ERRORS} == set(errors.__all__)
    assert len(troubles.ERRORS) == len(errors.__all__)
    for topic, trouble in (*troubles.ERRORS.items(), *troubles.OF_EXTRAS.items(), *troubles.STATUSES.items()):
        assert not trouble.what.endswith(".")
        assert len(trouble.causes) in ((0,) if topic == 0 else (3, 4) if topic == 3 else (3,)), topic
        for cause, fix in trouble.causes:
            assert cause.endswith("."), cause
            assert fix.endswith((".", "/ping")), fix
        assert len({cause for cause, _ in trouble.causes}) == len(trouble.causes)


def test_the_fixes_name_what_exists() -> None:
    known = {name for context in ALL.values() for option in options(context) for name in option.opts}
    of_others = {"--key-id", "--format", "--upgrade", "--profile"}  # aws and pip
    text = " ".join(fix for each in (*troubles.ERRORS.values(), *troubles.STATUSES.values()) for _, fix in each.causes)
    named = set(re.findall(r"(?<!\w)--?[a-z][a-z-]*", text)) - {"-l", "-w"}
    assert len(named) > 15
    assert named <= known | of_others, "the text names an option that does not exist"
    topics = {*cli.VERBS, "errors", "statuses", "VERB", *(kind.__name__ for kind in troubles.ERRORS)}
    of_groups = "|".join(path for path in ALL if path and path not in LEAVES)
    below = re.findall(rf"sealwax ((?:{of_groups}|help) [A-Za-z-]+)", text)
    assert len(below) > 15
    assert set(re.findall(r"sealwax ([a-z]+)", text)) <= set(cli.VERBS)
    for path in below:
        assert path in ALL or path.removeprefix("help ") in topics, path


def test_help_and_page_have_the_same_statuses() -> None:
    page = (ROOT / "docs/reference/statuses.md").read_text(encoding="utf-8")
    for status, trouble in troubles.STATUSES.items():
        if status < 100:
            assert f"\n| {status} | {trouble.what} |\n" in page
        else:
            assert trouble.what in page
    rows = re.findall(r"^\| .* \| ([0-9]+) \|$", page, re.MULTILINE)
    assert {int(row) for row in rows} == set(troubles.STATUSES)


# --- the examples, as typed

PLAN: Final = ("--from", "alias/demo", "--to", "alias/demo2")
# What is there before the examples of a verb run, besides the usual files.
_BEFORE: Final = {
    "encrypt": "rm a.txt.swx",
    "lab": "rm a.txt.swx",
    "fleet": "rm rotation.plan",
    "fleet plan": "rm rotation.plan",
    "fleet verify": "sealwax fleet run -q rotation.plan --apply",
    "completion": "mkdir -p ~/.local/share/bash-completion/completions ~/.zfunc ~/.config/fish/completions",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the examples are about."""
    folder = tmp_path_factory.mktemp("world")
    role = "arn:aws:iam::111122223333:role/"
    bound = ("-c", "purpose=backup")
    with Lab(folder / "lab") as lab, pytest.MonkeyPatch.context() as patch:
        arn, *_ = (lab.create_key(alias=alias)["Arn"] for alias in ("demo", "demo2", "unused"))
        patch.chdir(folder)
        patch.setenv("SEALWAX_LAB", "lab")
        for name in ("a.txt", "reports/q1.txt", "reports/q2.txt", "backups/b.txt"):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text("a few words\n")
        for command in (
            ("encrypt", "-q", "-k", "alias/demo", *bound, "a.txt", "backups/b.txt"),
            ("fleet", "plan", "-q", *PLAN, *bound, "--digest", "all", "-o", "rotation.plan", "backups"),
        ):
            assert cli.run(command) == 0
        key_stores(lab)
        Path("old.bin").write_bytes(scripts.envkms(lab, "alias/demo", b"text", {"purpose": "backup"}))
        (folder / "messages").mkdir()
        made = (
            lab.session()
            .client("kms")
            .generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext={"purpose": "backup"})
        )
        (folder / "messages" / "a").write_bytes(
            esdk.written(b"text", {"purpose": "backup"}, dek=made["Plaintext"], wrapped=(arn, made["CiphertextBlob"]))
        )
    os.unlink(folder / "backups/b.txt")
    (folder / "arn").write_text(arn)
    reader = policy.KeyUsers(decrypt=[f"{role}reader"])
    key = policy.write_key_policy([f"{role}admin"], reader, policy.RequiredContext({"purpose": "backup"}))
    (folder / "key.json").write_text(json.dumps(key))
    statement = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}
    (folder / "alice.json").write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    return folder


def key_stores(lab: Lab) -> None:
    """Make keys.db and backup.db, a record in the file value, and one in app.db, of which fields.toml tells."""
    store = SqlKeys("sqlite:///keys.db")
    store.create_table()
    keyring = sealwax.KmsKeyring("alias/demo", session=lab.session())
    with sealwax.Records(keyring, store, scope={"app": "shop"}) as records:
        field = records.field("users.card", row=int, tenant="acme")
        Path("value").write_bytes(field.seal(b"4111", row=7))
        row = records.roll(tenant="acme")
        with contextlib.closing(sqlite3.connect("app.db")) as database, database:
            database.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, tenant TEXT, card BLOB)")
            database.execute("INSERT INTO users VALUES (7, 'acme', ?)", (field.seal(b"4111", row=7),))
        Path("fields.toml").write_text(
            '[[fields]]\ntable = "users"\ncolumn = "card"\nrow = { column = "id", type = "int" }\n'
            'scope = { tenant = "tenant" }\n'
        )
        for tenant in ("gone", "left"):
            records.ensure(tenant=tenant)
            records.shred(tenant=tenant)
        for number, key_id in enumerate((b"\x00\xff" * 8, b"\x11\xff" * 8), 3):
            torn = {"app": "shop", "tenant": "torn"}
            store.put_back(dataclasses.replace(row, scope=torn, key_id=key_id, generation=number, blob=b"damaged"))
    shutil.copy("keys.db", "backup.db")


@pytest.fixture
def place(world: Path, bare_shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell in a copy of it, and this process in the same."""
    shutil.copytree(world, bare_shell.folder, dirs_exist_ok=True)
    bare_shell.environment |= {"SEALWAX_LAB": "./lab", "KEY_ARN": bare_shell.read("arn").decode()}
    monkeypatch.chdir(bare_shell.folder)
    bare_shell.environment["VALUE"] = f"\\x{bare_shell.read('value').hex()}"
    for name in ("SEALWAX_LAB", "KEY_ARN", "VALUE", "HOME"):
        monkeypatch.setenv(name, bare_shell.environment[name])
    return bare_shell


@pytest.mark.parametrize("path", EXAMPLES)
def test_the_examples_run(
    path: str, place: Shell, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "true")
    if path in _BEFORE:
        place.bash(_BEFORE[path]).succeeded()
    if "s3://" in EXAMPLES[path]:
        s3: StrictS3 = request.getfixturevalue("vault")
        s3.client().put_object(Bucket="vault", Key="a.swx", Body=place.read("a.txt.swx"))
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
    examples = re.split(r"^#.*\n", EXAMPLES[path], flags=re.MULTILINE)[1:]
    assert examples
    for example in examples:
        if path == "lab serve":
            serve(place, example)
        elif re.search(r"[|>]|^export", example):
            assert place.bash(example).status == 0, example
        else:
            # Nothing in it is for a shell but words and one variable: it runs in this process.
            for command in os.path.expandvars(example.replace("\\\n", "")).splitlines():
                assert cli.run(shlex.split(command)[1:]) in _MAY_FIND.get(path, {0}), command


@pytest.fixture
def vault() -> Iterator[StrictS3]:
    with StrictS3() as s3:
        s3.client().create_bucket(Bucket="vault")
        yield s3


def serve(place: Shell, command: str) -> None:
    """Start a server as typed, but on a free port, and stop it with Ctrl-C."""
    words = command.replace("4599", "0").split()[1:]
    with place.start(*words, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        assert b"sealwax lab is ready at http://127.0.0.1:" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait() in (0, 130)
