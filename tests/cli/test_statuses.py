"""docs/reference/statuses.md, line by line: what commands end with, as they are, with -q and with --json."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import boto3
import pytest

import sealwax
from sealwax.cli import run
from sealwax.records import SqlKeys
from tests.cli.conftest import PURPOSE, K, Keys
from tests.cli.shell import ROOT, Done, Shell, unprivileged
from tests.foreign import samples, scripts
from tests.rehearse.account import account
from tests.s3 import Answer, Request, StrictS3, error

CONTEXT: Final = {"purpose": "backup"}
OPENING: Final = {
    "decrypt": ("decrypt", *K, *PURPOSE, "--force", "-o", "back"),
    "verify": ("verify", *K, *PURPOSE),
    "inspect": ("inspect",),
    "rewrap": ("rewrap", *K, "--to", "alias/demo", *PURPOSE),
    "reencrypt": ("reencrypt", *K, "--to", "alias/demo", *PURPOSE),
}
ENCRYPT: Final = ("encrypt", *K, *PURPOSE, "--force", "-o", "out")
FEW: Final[tuple[tuple[str, ...], ...]] = (OPENING["inspect"], OPENING["rewrap"])  # where what they share decides
SETTINGS: Final = ("--from", "alias/demo", "--to", "alias/demo2", *PURPOSE, "-o", "p", "--force")
PLAN: Final[tuple[str, ...]] = ("fleet", "plan", *SETTINGS)
RUN: Final = ("fleet", "run", "p", "--apply")
AGAIN: Final[tuple[str, ...]] = (*RUN, "--stale")
VERIFY: Final = ("fleet", "verify", "p")
SCOPE: Final = ("-c", "app=shop", "-c", "tenant=acme")
ENSURE: Final = ("records", "ensure", *K, *SCOPE)
RESEAL: Final = ("records", "reseal", *K, *SCOPE, "--settle", "1s")
STALE: Final = ("records", "stale")
VERIFY_RECORDS: Final = ("records", "verify", *K, *SCOPE)
MIGRATE: Final = ("migrate", *K, "--to", "alias/demo2", *PURPOSE, "--allow-legacy", "envkms01")
MOVE: Final = ("--move", "--also", "esdk,envkms01")
PLAN_ROWS: Final = (*PLAN[:6], *SCOPE, "-c", "sealwax-use=records-*", "-o", "p", "--force")


@functools.cache
def _sealer(keys: Keys, arn: str) -> sealwax.Sealer:
    return keys.sealer(arn)  # with a client of its own, which takes a while


class World:
    """Runs the program in an empty folder, in this process, and counts what was tried."""

    def __init__(
        self,
        keys: Keys,
        shell: Shell,
        serve: Callable[[], StrictS3],
        client: Callable[[], Any],
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        self.keys, self.shell = keys, shell
        self.capfd = capfd
        self.tried = 0
        self._serve = serve
        self.client = client

    @functools.cached_property
    def s3(self) -> StrictS3:
        return self._serve()

    def once(self, *command: str) -> Done:
        if any("s3://" in part for part in command):
            self.s3.forget()  # it is started where it is needed first
        self.capfd.readouterr()
        status = run(command)
        out, err = self.capfd.readouterr()
        return Done(status, out.encode(), err)

    def ends(self, status: int, *command: str, says: str = "", ways: int = 1) -> None:
        """Run it with -q, and in so many ways: less may be said, and the status is the same."""
        for more in (("-q",), ("--json", "-q"), ())[:ways]:
            done = self.once(*command, *more)
            assert done.status == status, (command, more, done)
            if status:
                assert says in done.err, (command, more, done)
                assert done.err.strip(), "a failure is heard, also with -q"
        self.tried += 1

    def seal(self, *names: str, arn: str | None = None) -> None:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(self.sealed(arn))

    def sealed(self, arn: str | None = None) -> bytes:
        return _sealer(self.keys, arn or self.keys.demo).encrypt(b"value", context=CONTEXT)

    def put(self, *names: str) -> None:
        for name in names:
            self.put_bytes(name, self.sealed())

    def put_bytes(self, name: str, data: bytes) -> None:
        assert self.s3.url, "it is started"
        self.client().put_object(Bucket="bucket", Key=name, Body=data)

    def plan(self, status: int, *places: str) -> None:
        """Plan, run, run again and verify: each ends with this status."""
        self.ends(status, *PLAN, *places)
        self.ends(status, *RUN, ways=3)
        self.ends(status, *AGAIN)
        self.ends(status, *VERIFY)


@pytest.fixture(scope="module")
def server() -> Iterator[StrictS3]:
    with StrictS3() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: StrictS3) -> Any:
    return server.client()


@pytest.fixture
def world(
    keys: Keys,
    shell: Shell,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> World:
    def serve() -> StrictS3:
        server: StrictS3 = request.getfixturevalue("server")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.reset()
        request.getfixturevalue("client").create_bucket(Bucket="bucket")
        return server

    monkeypatch.chdir(shell.folder)
    monkeypatch.delenv("SEALWAX_KEY", raising=False)
    monkeypatch.setenv("SEALWAX_STORE", "")  # a case may set it
    monkeypatch.setenv("SEALWAX_LAB", str(keys.lab.path))
    return World(keys, shell, serve, lambda: request.getfixturevalue("client"), capfd)


Case = Callable[[World], None]
LINES: dict[tuple[str, str, str], tuple[Case, int]] = {}


def line(what: str, where: str, status: int | str, tried: int) -> Callable[[Case], Case]:
    """Add a line of the table, which so many commands show."""

    def add(case: Case) -> Case:
        assert (what, where, str(status)) not in LINES
        LINES[what, where, str(status)] = case, tried
        return case

    return add


def key_store(world: World, name: str = "keys.db") -> None:
    """Make a key store in a file, with one data key of SCOPE, for all commands."""
    os.environ["SEALWAX_STORE"] = f"sqlite:///{name}"
    world.once("records", "create-table").succeeded()
    world.once(*ENSURE).succeeded()


def sealed_table(world: World) -> tuple[str, ...]:
    """Make a key store, and a table in the same file with two records under its key; return the options for both."""
    key_store(world)
    keyring = sealwax.KmsKeyring(world.keys.demo, session=world.keys.lab.session())
    store = SqlKeys("sqlite:///keys.db")
    with sealwax.Records(keyring, store, scope={"app": "shop", "tenant": "acme"}) as records:
        card = records.field("users.card", row=int)
        rows = [(number, card.seal("4111", row=number)) for number in (1, 2)]
    change("CREATE TABLE users (id INTEGER PRIMARY KEY, card BLOB)")
    for row in rows:
        change("INSERT INTO users VALUES (?, ?)", *row)
    Path("fields.toml").write_text(
        '[[fields]]\ntable = "users"\ncolumn = "card"\nrow = { column = "id", type = "int" }\n'
    )
    return "--fields", "fields.toml"


def moving_table(world: World) -> tuple[str, ...]:
    """The same table with a column that holds one value of plaintext; the map of fields has that column alone."""
    options = sealed_table(world)
    change("ALTER TABLE users ADD COLUMN note TEXT")
    change("UPDATE users SET note = 'plain' WHERE id = 1")
    Path("fields.toml").write_text(
        Path("fields.toml").read_text().replace('"card"', '"note"') + 'moves_from = "plaintext"\n'
    )
    return options


def change(statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect("keys.db")) as database, database:
        database.execute(statement, values)


# --- 0


@line("everything that was asked for is done", "every verb", 0, 7)
def _(world: World) -> None:
    Path("in").mkdir()
    Path("in/a").write_bytes(b"a")
    world.ends(0, *ENCRYPT, "-r", "in")
    for verb in ("decrypt", "verify", "inspect"):
        world.ends(0, *OPENING[verb], "-r", "out")
    world.ends(0, *PLAN, "out")
    world.ends(0, *RUN)
    world.ends(0, *VERIFY, "--decrypt", "1")


@line("an earlier run has done everything", "`encrypt`, `decrypt`, `rewrap`, `reencrypt` with `-r`; `fleet run`", 0, 6)
def _(world: World) -> None:
    Path("in").mkdir()
    Path("in/a").write_bytes(b"a")
    again = ("encrypt", *K, *PURPOSE, "-r", "-o", "out", "in")
    world.ends(0, *again)
    world.ends(0, "decrypt", *K, *PURPOSE, "-r", "-o", "back", "out")
    for verb in ("rewrap", "reencrypt"):
        world.seal(f"{verb}/a.swx")
        world.ends(0, verb, *K, "--to", world.keys.demo2, *PURPOSE, "-r", verb)
    world.seal("fleet/a.swx", arn=world.keys.demo2)
    world.once(*PLAN, "fleet").succeeded()
    world.ends(0, *RUN)
    world.ends(0, *AGAIN)


@line("a folder has no file to encrypt", "`encrypt -r`", 0, 2)
def _(world: World) -> None:
    Path("empty/nothing").mkdir(parents=True)
    world.ends(0, *ENCRYPT, "-r", "empty")
    world.seal("sealed/a.swx")
    world.ends(0, *ENCRYPT, "-r", "sealed")


@line("a list is empty, or shows `?` for what the caller may not read", "`keys list`, `records list`, `audit`", 0, 3)
def _(world: World) -> None:
    key_store(world)
    world.ends(0, "records", "list", "-c", "tenant=none")
    for command in (("keys", "list", "--region", "eu-north-1"), ("audit", "--all", "--region", "eu-north-1")):
        world.ends(0, *command)


@line(
    "a plan is shown, whatever its state",
    "`fleet status`",
    0,
    2,
)
def _(world: World) -> None:
    world.seal("in/a.swx")
    Path("empty").mkdir()
    world.once(*PLAN, "in", "empty").failed(8)
    world.ends(0, "fleet", "status", "p")
    world.ends(0, "fleet", "status", "p", "--list")


# --- 1


@line("a named file, folder, bucket or plan does not exist", "every verb", 1, 14)
def _(world: World) -> None:
    for command in (ENCRYPT, *OPENING.values()):
        world.ends(1, *command, "nowhere", says="nowhere")
    world.ends(1, *OPENING["inspect"], "-r", "nowhere", says="nowhere")
    world.ends(1, *OPENING["verify"], "-r", "s3://nowhere/", says="no such bucket")
    world.ends(1, *PLAN, "nowhere", says="nowhere")
    for no_name in ("s3://", "s3:///prefix/"):
        world.ends(1, *OPENING["inspect"], "-r", no_name, says="is not an S3 object name")
    world.ends(1, *PLAN, "s3://nowhere/", says="no such bucket")
    assert not Path("p").exists()
    for each in (RUN, VERIFY):
        world.ends(1, *each, says="opening the plan")


@line(
    "a named place has no envelope: it is empty, mistyped or not mounted, or holds other files or suffixes",
    "`decrypt`, `verify`, `inspect`, `rewrap`, `reencrypt` with `-r`; `fleet plan`, `run`, `verify`",
    1,
    5 + 2 * 3 + 2 + 4 + 2 * 2,
)
def _(world: World) -> None:
    Path("empty/nothing").mkdir(parents=True)
    Path("other").mkdir()
    Path("other/file").write_bytes(b"no envelope")
    world.seal("in/a.swx")
    world.put("p/a.swx")
    for command in OPENING.values():
        world.ends(1, *command, "-r", "empty", says="no envelopes found", ways=3)
    for command in FEW:
        world.ends(1, *command, "-r", "other", says="no envelopes found")
        world.ends(1, *command, "-r", "--suffix", ".seal", "in", says="ends with '.seal'")
        world.ends(1, *command, "-r", "empty", "other", says="2 of 2 failed")
    for verb, prefix in (("rewrap", "q/"), ("verify", "p/")):
        world.ends(1, *OPENING[verb], "--suffix", ".seal", "-r", f"s3://bucket/{prefix}", says="s3://bucket/")
    world.plan(1, "empty")
    for place in ("other", "s3://bucket/q/"):
        world.ends(1, *PLAN, place)
        world.ends(1, *AGAIN, says="no envelopes found")


@line("there are no objects below an S3 prefix", "`encrypt -r`", 1, 1)
def _(world: World) -> None:
    world.ends(1, *ENCRYPT, "-r", "s3://bucket/q/", says="there are no objects below this prefix")


@line("a place has only links that lead out of it", "every verb with `-r`; `fleet plan`, `run`, `verify`", 1, 7)
def _(world: World) -> None:
    world.seal("elsewhere/a.swx")
    Path("links").mkdir()
    os.symlink("../elsewhere", "links/folder.swx")
    os.symlink("../elsewhere/a.swx", "links/file.swx")
    for command in ((*ENCRYPT, "--suffix", ".seal"), *FEW):
        world.ends(1, *command, "-r", "links", says="2 of 2 not done: 2 links")
    world.plan(1, "links")
    assert "did not follow 2 links" in world.once(*VERIFY).err


@line("a named file cannot be read, or its output cannot be written", "every verb", 1, 4)
def _(world: World) -> None:
    world.seal("a.swx")
    Path("a.swx").chmod(0)
    with unprivileged():
        for command in (ENCRYPT, *FEW):
            world.ends(1, *command, "a.swx", says="Permission denied")
        Path("a.swx").chmod(0o600)
        world.ends(1, *ENCRYPT[:-1], "/proc/nothing", "a.swx", says="/proc/nothing")


@line("another run is working on the plan", "`fleet run`, `fleet verify`", 1, 2)
def _(world: World) -> None:
    from sealwax.fleet._journal import Journal

    world.seal("in/a.swx")
    world.once(*PLAN, "in").succeeded()
    with Journal("p") as journal, journal.alone():
        for command in (RUN, VERIFY):
            world.ends(1, *command, says="another run is using the plan")


@line(
    "a key store cannot be reached, has no tables, scope or key of that name, or does not allow the step",
    "`records`",
    1,
    9,
)
def _(world: World) -> None:
    key_store(world)
    sqlite3.connect("empty.db").execute("CREATE TABLE other (a)")
    for url, says in {
        "postgresql+psycopg://localhost:1/shop": "connection",
        "mysql+pymysql://localhost:1/shop": "connect",
        "sqlite:///none.db": "'none.db' does not exist",
        "sqlite:///empty.db": "no such table",
        "sqlite:///empty.db/keys.db": "does not exist",
    }.items():
        world.ends(1, "records", "list", "--store", url, says=says)
    world.ends(1, "records", "roll", *K, "-c", "app=shop", says="no data key of the scope app=shop; 1 scope has these")
    world.ends(1, "records", "retire", "7", *SCOPE, says="has no generation 7")
    world.ends(1, "records", "retire", "1", *SCOPE, says="it is the newest one")
    world.ends(1, "records", "reopen", *K, *SCOPE, says="is not shredded")


@line(
    "the database of a key store cannot be read, or has no table of keys",
    "`fleet plan`, `verify`; `keys retire --scan`",
    1,
    5,
)
def _(world: World) -> None:
    key_store(world)
    Path("empty.db").write_bytes(b"")
    for place in ("sql+sqlite:///none.db", "sql+sqlite:///empty.db"):
        world.ends(1, *PLAN_ROWS, place)
        world.ends(1, "keys", "retire", "alias/demo", "--scan", place)
    world.once(*PLAN_ROWS, "sql+sqlite:///keys.db").succeeded()
    change("DROP TABLE sealwax_keys")
    world.ends(1, *VERIFY, says="no such table")


@line("SQLAlchemy or the driver of a database is not installed", "`records`; `fleet plan`", 1, 2)
def _(world: World) -> None:
    world.ends(1, "records", "list", "--store", "postgresql+none://db/x", says="that --store names is not installed")
    world.ends(1, *PLAN_ROWS, "sql+postgresql+none://db/x", says="is not installed")


@line(
    "a table cannot be reached, or has no such column or no primary key",
    "`records reseal`, `stale`, `verify`",
    1,
    9,
)
def _(world: World) -> None:
    tables = sealed_table(world)
    for statement, says in {
        "ALTER TABLE users RENAME COLUMN card TO number": "has no column 'card'",
        "DROP TABLE users": "there is no table 'users'",
        "CREATE TABLE users (id INTEGER, card BLOB)": "has no primary key",
    }.items():
        change(statement)
        for command in (RESEAL, STALE, VERIFY_RECORDS):
            world.ends(1, *command, *tables, says=says)


@line("a column is too short for records, or of a type that they cannot move from or to", "`records reseal`", 1, 1)
def _(world: World) -> None:
    tables = moving_table(world)
    change("ALTER TABLE users ADD COLUMN born INTEGER NOT NULL DEFAULT 7")
    Path("fields.toml").write_text(Path("fields.toml").read_text() + 'moved_from = "born"\n')
    world.ends(1, *RESEAL, *tables, says="the column users.born is NOT NULL", ways=3)


@line("the editor fails or deletes its file, or another program changed the envelope meanwhile", "`edit`", 1, 3)
def _(world: World) -> None:
    world.seal("a.swx")
    for editor, says in (
        ("false", "exited with status 1"),
        ("rm", "the editor deleted the file"),
        ("sh -c 'printf x | tee -a a.swx >> \"$0\"'", "changed by another program"),
    ):
        os.environ["EDITOR"] = editor
        done = world.once("edit", *K, *PURPOSE, "-q", "a.swx")
        assert done.status == 1
        assert says in done.err
        world.tried += 1
    del os.environ["EDITOR"]


@line("a plaintext is not text, and its output is a terminal", "`decrypt`", 1, 1)
def _(world: World) -> None:
    Path("a.swx").write_bytes(_sealer(world.keys, world.keys.demo).encrypt(b"\0", context=CONTEXT))
    controller, terminal = os.openpty()
    world.ends(1, "decrypt", *K, *PURPOSE, "-o", os.ttyname(terminal), "a.swx", says="is a terminal")
    os.close(terminal)
    os.close(controller)


@line("standard output is closed or full, or the program that reads it has exited", "every verb", 1, 2)
def _(world: World) -> None:
    world.seal("a.swx")
    for output in ("> /dev/full", ">&-"):
        assert world.shell.bash(f"sealwax inspect a.swx {output}").status == 1
        world.tried += 1


# --- 2 to 7


@line("a target already exists, an original has changed, or a journal is refused", "`migrate`", 1, 3)
def _(world: World) -> None:
    Path("x").write_bytes(scripts.envkms(world.keys.lab, world.keys.demo, b"data", CONTEXT))
    Path("j").write_bytes(b"something else\n")
    world.ends(1, *MIGRATE, "--journal", "j", "x", says="is not a journal")
    Path("x.swx").write_bytes(b"somebody's")
    world.ends(1, *MIGRATE, "x", says="the journal does not know it")
    os.unlink("x.swx")
    world.once(*MIGRATE, "x").succeeded()
    Path("x").write_bytes(scripts.envkms(world.keys.lab, world.keys.demo, b"news", CONTEXT))
    world.ends(1, *MIGRATE, "x", says="it has changed since")


@line("wrong usage", "every verb", 2, 7)
def _(world: World) -> None:
    for command in (ENCRYPT, *OPENING.values(), PLAN):
        world.ends(2, *command, "--nonsense", says="no such option")


@line("the settings file is refused, or has no key for any file", "every verb that reads it", 2, 12)
def _(world: World) -> None:
    Path("sealwax.toml").write_text('lab = "x"')
    for command in (ENCRYPT, *OPENING.values(), PLAN, RUN, VERIFY):
        world.ends(2, *command, says="the settings file")
    Path("sealwax.toml").write_text('[[rule]]\npath = "b"\nkey = "alias/demo"\n')
    world.seal("a.swx")
    for verb in ("encrypt", "decrypt", "verify"):
        world.ends(2, verb, *PURPOSE, "a.swx", says="no rule with a key for it")


@line("the URL of a database has a password", "`records`; `fleet plan`; `keys retire --scan`", 2, 4)
def _(world: World) -> None:
    tables = sealed_table(world)
    url = "postgresql+psycopg://app:hunter2@localhost/shop"
    for command in (
        ("records", "list", "--store", url),
        (*STALE, *tables, "--data", url),
        (*PLAN_ROWS, f"sql+{url}"),
        ("keys", "retire", "alias/demo", "--scan", f"sql+{url}"),
    ):
        world.ends(2, *command, says="has a password")
        assert "hunter2" not in world.once(*command).err


@line("the map of fields is refused", "`records reseal`, `stale`, `verify`", 2, 9)
def _(world: World) -> None:
    tables = sealed_table(world)
    for text, says in {
        "fields": "is not valid TOML",
        "[[field]]": "unknown key 'field'",
        f"[[fields]]\na = {'9' * 5000}": "is refused: it has a number of too many digits\n",
    }.items():
        Path("fields.toml").write_text(text)
        for command in (RESEAL, STALE, VERIFY_RECORDS):
            world.ends(2, *command, *tables, says=says)


@line(
    "a finding: a failed check, one of the severity of `--fail-on` or higher, a key to retire that may be needed, or a "
    "line that needs fixing",
    "`prove`, `rehearse`, `audit`, `keys retire`, `doctor`",
    3,
    5,
)
def _(world: World) -> None:
    world.seal("in/a.swx")
    Path("empty").mkdir()
    world.put("p/a.swx")
    retire = ("keys", "retire", "alias/demo", "--apply", "--scan")

    def ends(*command: str) -> None:
        done = world.once(*command)
        done.failed(3)
        world.tried += 1

    for place in ("in", "empty"):
        ends(*retire, place)
    with world.s3.fault(lambda request: denied(request, "ListObjectsV2")):
        ends(*retire, "s3://bucket/p/")
    ends("audit", "--all", "--fail-on", "info")
    ends("doctor", "-k", "alias/none")


@line("a scope is shredded in the other database, but not in the key store", "`records repair`", 3, 1)
def _(world: World) -> None:
    key_store(world)
    shutil.copy("keys.db", "old.db")
    world.once("records", "shred", *SCOPE, "--confirm", "app=shop,tenant=acme").succeeded()
    repair = ("records", "repair", "--store", "sqlite:///old.db", "--from", "sqlite:///keys.db")
    world.ends(3, *repair, says="app=shop,tenant=acme: shredded in the database of --from")


@line("records are under another than the newest data key of their scope", "`records stale`", 3, 1)
def _(world: World) -> None:
    tables = sealed_table(world)
    world.once("records", "roll", *K, *SCOPE).succeeded()
    world.ends(3, *STALE, *tables, says="2 records are not under the newest key", ways=3)


@line("a column of records has values that are not sealed", "`records stale`, `verify`", 3, 2)
def _(world: World) -> None:
    tables = sealed_table(world)
    change("UPDATE users SET card = x'00' WHERE id = 1")
    world.ends(3, *STALE, *tables, says="1 value is not sealed", ways=3)
    world.ends(3, *VERIFY_RECORDS, *tables, says="1 value is not sealed", ways=3)


@line("values are still of the form that their column moves from", "`records stale`, `verify`", 3, 2)
def _(world: World) -> None:
    tables = moving_table(world)
    world.ends(3, *STALE, *tables, says="1 value is still of the form that the column moves from", ways=3)
    world.ends(3, *VERIFY_RECORDS, *tables, says="1 value is not sealed", ways=3)


@line(
    "a file is not an envelope, or its header is damaged",
    "`decrypt`, `verify`, `inspect`, `rewrap`, `reencrypt`",
    4,
    6,
)
def _(world: World) -> None:
    Path("other.swx").write_bytes(b"no envelope")
    world.seal("bad.swx")
    broken = bytearray(Path("bad.swx").read_bytes())
    broken[20] ^= 1
    Path("bad.swx").write_bytes(broken)
    for command in OPENING.values():
        world.ends(4, *command, "other.swx", says="not a sealwax envelope")
    world.ends(4, *OPENING["inspect"], "bad.swx")


@line("a file is of no format that is migrated, or an option has to allow it", "`migrate`", 4, 3)
def _(world: World) -> None:
    Path("x").write_bytes(scripts.envkms(world.keys.lab, world.keys.demo, b"data", CONTEXT))
    Path("guide").write_bytes(scripts.guide(world.keys.lab, world.keys.demo, b"data"))
    Path("plain").write_bytes(b"plain")
    world.ends(4, *MIGRATE[:-2], "x", says="use --allow-legacy envkms01")
    world.ends(4, *MIGRATE, "guide", says="use --format boto3-fernet")
    world.ends(4, *MIGRATE, "plain", says="it is of no format that is migrated")


def _message(suite: int) -> None:
    # One that no KMS key of this account has wrapped: it is not reached before it is refused.
    Path("m.esdk").write_bytes(samples.esdk(("aws-kms", samples.ARN), version=2 if suite > 0x0400 else 1, suite=suite))


@line(
    "a message of the AWS Encryption SDK does not commit to its data key, and `--allow-legacy` does not name its suite",
    "`decrypt`, `verify`",
    4,
    3,
)
def _(world: World) -> None:
    _message(0x0178)
    for verb in ("decrypt", "verify"):
        world.ends(4, *OPENING[verb], "m.esdk", says="use --allow-legacy esdk-0178")
    world.ends(4, *OPENING["verify"], "--allow-legacy", "esdk-0146", "m.esdk", says="use --allow-legacy esdk-0178")


@line(
    "a message of the AWS Encryption SDK is to be moved to another key in place",
    "`rewrap`, `reencrypt`; `inspect --to`",
    4,
    3,
)
def _(world: World) -> None:
    _message(0x0478)
    for verb in ("rewrap", "reencrypt"):
        world.ends(4, *OPENING[verb], "m.esdk", says="a message is never re-wrapped")
    world.ends(4, "inspect", "--to", samples.ARN, "m.esdk", says="cannot be re-wrapped")


@line("a value is not a record", "`records explain`", 4, 3)
def _(world: World) -> None:
    key_store(world)
    world.seal("a.swx")
    for value, says in {"plain": "not a record", "c1c1": "ends too early", "@a.swx": "but an envelope"}.items():
        world.ends(4, "records", "explain", value, says=says)


@line("an object that was moved and its envelope hold different data, or one does not decrypt", "`fleet verify`", 5, 1)
def _(world: World) -> None:
    _moved(world)
    data = bytearray(Path("in/x.swx").read_bytes())
    data[-1] ^= 1
    Path("in/x.swx").write_bytes(data)
    world.ends(5, *VERIFY, says="failed to decrypt")


@line(
    "a payload does not authenticate, has changed since the plan, or does not decrypt",
    "`decrypt`, `verify`, `reencrypt`; `fleet verify`",
    5,
    4,
)
def _(world: World) -> None:
    world.seal("in/a.swx", arn=world.keys.demo2)
    world.seal("bad.swx")
    Path("bad.swx").write_bytes(Path("bad.swx").read_bytes()[:-1])
    for verb in ("decrypt", "verify", "reencrypt"):
        world.ends(5, *OPENING[verb], "bad.swx")
    world.once(*PLAN, "in").succeeded()
    Path("in/a.swx").write_bytes(Path("in/a.swx").read_bytes()[:-1])
    world.ends(5, *VERIFY, "--decrypt", "1", says="1 envelope failed to decrypt")


@line("a row of a key store was altered or damaged", "`records ensure`", 5, 2)
def _(world: World) -> None:
    for change in ("generation = 2, claim = 2", "blob = x'00'"):
        Path("keys.db").unlink(missing_ok=True)
        key_store(world)
        with contextlib.closing(sqlite3.connect("keys.db")) as database, database:
            database.execute(f"UPDATE sealwax_keys SET {change}")
        world.ends(5, *ENSURE, says="of the key store has")


@line("a record does not open", "`records verify`", 5, 1)
def _(world: World) -> None:
    tables = sealed_table(world)
    change("UPDATE users SET id = id + 1000")
    says = "users.card, rows 1001, 1002: the record of 'users.card' does not authenticate"
    world.ends(5, *VERIFY_RECORDS, *tables, says=says)


@line("the context is missing or different, or matches no envelope of a fleet", "every verb", 6, 8)
def _(world: World) -> None:
    world.seal("in/a.swx")
    for verb in ("decrypt", "verify", "rewrap", "reencrypt"):
        command = tuple("purpose=other" if part == "purpose=backup" else part for part in OPENING[verb])
        world.ends(6, *command, "in/a.swx")
    places = ("fleet", "plan", *SETTINGS[:4], "-c", "purpose=other", *SETTINGS[6:], "in")
    for each in (places, RUN, AGAIN, ("fleet", "run", "p")):
        world.ends(6, *each, says="skipped 1 envelope, because none has")


@line("the data key of a record is not in the key store", "`records explain`", 6, 1)
def _(world: World) -> None:
    key_store(world)
    world.ends(6, "records", "explain", "c1" + "00" * 60, says="of another key store, or its key was lost")


@line("KMS refuses the data keys of all records of `reseal`, or of all that do not open in `verify`", "`records`", 7, 2)
def _(world: World) -> None:
    tables = sealed_table(world)
    for command in (RESEAL, VERIFY_RECORDS):
        other = tuple("alias/demo2" if part == "alias/demo" else part for part in command)
        world.ends(7, *other, *tables, says="users.card, rows 1, 2: ", ways=3)


@line("the KMS key cannot be used, or its state does not allow the step", "every verb", 7, 7)
def _(world: World) -> None:
    world.seal("a.swx")
    for command in (ENCRYPT, OPENING["decrypt"], OPENING["verify"], OPENING["rewrap"], OPENING["reencrypt"]):
        there = tuple("alias/none" if part == "alias/demo" else part for part in command)
        world.ends(7, *there, "a.swx")
    world.ends(7, "fleet", "plan", "--from", "alias/none", *SETTINGS[2:], "a.swx")
    waiting = world.keys.lab.call("CreateKey", Origin="EXTERNAL")["KeyMetadata"]["Arn"]
    Path("none").mkdir()
    Path("none/file").write_bytes(b"no envelope")
    retire = ("keys", "retire", waiting, "--scan", "none")
    assert world.once(*retire).status == 0
    world.ends(7, *retire, "--apply", says="was not changed")


# --- 8


@line("the scope was shredded", "`records ensure`, `records roll`", 7, 2)
def _(world: World) -> None:
    key_store(world)
    world.once("records", "shred", *SCOPE, "--confirm", "app=shop,tenant=acme").succeeded()
    for verb in ("ensure", "roll"):
        world.ends(7, "records", verb, *K, *SCOPE, says="were shredded")


@line("some files are done, and others are not", "every verb with several files, or with `-r`", 8, 7)
def _(world: World) -> None:
    world.seal("in/a.swx", "in/b.swx")
    Path("in/b.swx").write_bytes(b"no envelope")
    for verb, command in OPENING.items():
        world.ends(8, *command, "-r", "in", says="1 of 2 failed")
        if verb in ("rewrap", "reencrypt"):
            world.seal("in/a.swx")
    for command in (OPENING["inspect"], (*ENCRYPT, "--suffix", ".seal")):
        world.ends(8, *command, "in/a.swx", "nowhere", says="1 of 2 failed")


def denied(request: Request, operation: str, only: str = "") -> Answer | str | None:
    return error(403, "AccessDenied") if request.operation == operation and only in request.path else None


@line(
    "something in a place could not be read or listed, or its output not written, even if nothing was done",
    "every verb with `-r`; `fleet plan`, `run`, `verify`",
    8,
    1 + 2 + 2 + 1 + 2 + 2 + 4 + 1 + 1,
)
def _(world: World) -> None:
    world.put("p/a.swx", "p/b.swx", "q/b.swx")
    world.seal("in/a.swx", "in/closed/b.swx", "shut/a.swx")
    with world.s3.fault(lambda request: denied(request, "ListObjectsV2")):
        world.ends(8, *OPENING["verify"], "-r", "s3://bucket/p/", says="AccessDenied")
        # It ends nothing else.
        done = world.once(*OPENING["inspect"], "-r", "s3://bucket/p/", "in/a.swx")
        done.failed(8, "1 of 2 failed")
        world.ends(8, *PLAN, "s3://bucket/p/", "in/a.swx", says="AccessDenied")
        world.ends(8, *RUN, says="AccessDenied")
    with world.s3.fault(lambda request: denied(request, "GetObject", "b.swx")):
        world.ends(8, *OPENING["inspect"], "-r", "s3://bucket/p/", says="1 of 2 failed")
        world.ends(8, *OPENING["reencrypt"], "-r", "s3://bucket/q/", says="AccessDenied")
        world.ends(8, *PLAN, "s3://bucket/p/", says="1 object could not be read or listed")
    world.ends(8, *OPENING["decrypt"][:-1], "/proc/none", "-r", "in", says="2 of 2 failed")
    Path("in/closed").chmod(0)
    Path("shut").chmod(0)
    with unprivileged():
        for command in ((*ENCRYPT, "--suffix", ".seal"), OPENING["verify"]):
            world.ends(8, *command, "-r", "in", says="in/closed' failed: Permission denied")
        for command in FEW:
            world.ends(8, *command, "-r", "shut", says="Permission denied", ways=3)
        world.plan(8, "in")
        world.ends(8, *PLAN, "shut", says="Permission denied")


@line(
    "links lead out of a place, or nowhere, so their targets were not checked",
    "every verb with `-r`; `fleet plan`, `run`, `verify`",
    8,
    3 + 4 + 1,
)
def _(world: World) -> None:
    world.seal("elsewhere/a.swx", "in/a.swx")
    os.symlink("a.swx", "in/inside.swx")
    os.symlink("../elsewhere", "in/link.swx")
    for command in ((*ENCRYPT, "--suffix", ".seal"), *FEW):
        world.ends(8, *command, "-r", "in", says="in/link.swx")
    world.plan(8, "in")
    assert "did not follow 1 link" in world.once(*VERIFY).err
    assert "/in/link.swx: it leads to '" in world.once("fleet", "status", "p", "--list").out.decode()
    # Named as a place, or removed, it is no link out of the places any more.
    world.once(*PLAN, "in", "elsewhere").succeeded()
    os.unlink("in/link.swx")
    os.symlink("nothing", "in/link.swx")
    world.ends(8, *AGAIN, says="which does not exist; remove the link")
    os.unlink("in/link.swx")
    world.once(*AGAIN).succeeded()
    world.once(*VERIFY).succeeded()


@line(
    "one of several places has no envelope",
    "`decrypt`, `verify`, `inspect`, `rewrap`, `reencrypt` with `-r`; `fleet plan`, `run`, `verify`",
    8,
    2 + 4 + 1,
)
def _(world: World) -> None:
    world.seal("in/a.swx")
    Path("empty").mkdir()
    for command in FEW:
        world.ends(8, *command, "-r", "in", "empty", says="empty: no envelopes found")
    world.plan(8, "in", "empty")
    assert f"no envelopes found in '{Path('empty').absolute()}'" in world.once(*RUN).err
    world.ends(8, *PLAN, "in", "s3://bucket/q/", says="no envelopes found in 's3://bucket/q/'")


@line("an envelope of a fleet has a damaged header", "`fleet plan`, `run`, `verify`", 8, 4)
def _(world: World) -> None:
    world.seal("in/a.swx", "in/b.swx")
    broken = bytearray(Path("in/b.swx").read_bytes())
    broken[20] ^= 1
    Path("in/b.swx").write_bytes(broken)
    world.plan(8, "in")
    assert "1 object could not be read or listed, and may be stale; the first: " in world.once(*RUN).err


@line("an envelope of a fleet is under a key that is not in `--from`", "`fleet plan`", 8, 1)
def _(world: World) -> None:
    world.seal("in/a.swx", "in/b.swx", arn=world.keys.foreign)
    world.ends(8, *PLAN, "in", says="2 envelopes cannot be re-wrapped; the first: ")


def _moved(world: World) -> None:
    """Move a script, and leave it where it is."""
    Path("in").mkdir()
    Path("in/x").write_bytes(scripts.envkms(world.keys.lab, world.keys.demo, b"data", CONTEXT))
    world.once(*PLAN, *MOVE, "--allow-legacy", "envkms01", "in").succeeded()
    world.once(*RUN).succeeded()


@line(
    "an object of another format cannot be moved, or the plan does not allow it", "`fleet plan`, `run`, `verify`", 8, 4
)
def _(world: World) -> None:
    Path("in").mkdir()
    Path("in/x").write_bytes(scripts.envkms(world.keys.lab, world.keys.demo, b"data", CONTEXT))
    world.ends(8, *PLAN, *MOVE[1:], "in", says="1 object cannot be re-wrapped; the first: ")
    world.ends(8, *PLAN, *MOVE, "in", says="plan again with --allow-legacy and that name")
    world.ends(8, *RUN)
    world.ends(8, *VERIFY)


@line("the name of an envelope is taken, or an original has changed since it was moved", "`fleet run --apply`", 8, 2)
def _(world: World) -> None:
    _moved(world)
    Path("in/x").write_bytes(scripts.envkms(world.keys.lab, world.keys.demo, b"news", CONTEXT))
    world.ends(8, *AGAIN, says="still stale: 1 object")
    os.unlink("in/x.swx")
    world.once(*AGAIN).succeeded()
    Path("in/x.swx").write_bytes(b"somebody's")
    world.ends(8, *AGAIN, says="still stale: 1 object")


@line("a row of a key store was altered", "`fleet plan`, `run`, `verify`", 8, 4)
def _(world: World) -> None:
    key_store(world)
    change("UPDATE sealwax_keys SET kind = 2")
    world.ends(8, *PLAN_ROWS, "sql+sqlite:///keys.db", says="made for something else than its scope and kind")
    world.ends(8, *RUN, ways=3)
    world.ends(8, *AGAIN)
    world.ends(8, *VERIFY)


@line("records do not open, or are still under an older data key", "`records reseal`", 8, 1)
def _(world: World) -> None:
    tables = sealed_table(world)
    world.once("records", "roll", *K, *SCOPE).succeeded()
    change("UPDATE users SET id = 1000 WHERE id = 1")
    world.ends(8, *RESEAL, *tables, says="users.card, row 1000: ", ways=3)


@line("a column of records has values that are not sealed, and of no form that it moves from", "`records reseal`", 8, 1)
def _(world: World) -> None:
    tables = sealed_table(world)
    change("UPDATE users SET card = x'00' WHERE id = 1")
    world.ends(8, *RESEAL, *tables, says="users.card: 1 value is not sealed", ways=3)


@line(
    "values cannot be moved to records or out of them, or a program still writes the old form", "`records reseal`", 8, 2
)
def _(world: World) -> None:
    tables = moving_table(world)
    change("UPDATE users SET note = x'ff' WHERE id = 1")
    world.ends(8, *RESEAL, *tables, says="users.note, row 1: ", ways=3)
    change("UPDATE users SET note = 'plain' WHERE id = 1")
    world.once(*RESEAL, *tables).succeeded()
    change("UPDATE users SET id = 7 WHERE id = 1")
    world.ends(8, *RESEAL, *tables, "--to", "plaintext", "--apply", says="users.note, row 7: ", ways=3)


@line(
    "envelopes are still stale, because of an error, a lock or `--max-duration`",
    "`fleet run --apply`, `fleet verify`",
    8,
    4,
)
def _(world: World) -> None:
    world.seal("in/a.swx")
    world.seal("in/b.swx", arn=world.keys.foreign)
    world.once(*PLAN, "in")
    world.ends(8, *RUN, says="still stale: 1 envelope")
    world.ends(8, *AGAIN, says="still stale: 1 envelope")
    world.ends(8, *VERIFY, says="stale: 1 envelope;")
    world.ends(8, *RUN, "--max-duration", "1s", says="still stale")


@line("a payload could not be read for its digest", "`fleet plan --digest`, `fleet run`", 8, 2)
def _(world: World) -> None:
    world.put_bytes("p/a.swx", _sealer(world.keys, world.keys.demo).encrypt(bytes(50_000), context=CONTEXT))

    def behind_the_header(request: Request) -> Answer | None:
        first = request.headers.get("range", "bytes=0-").startswith("bytes=0-")
        return error(403, "AccessDenied") if request.operation == "GetObject" and not first else None

    with world.s3.fault(behind_the_header):
        world.ends(8, *PLAN, "--digest", "all", "s3://bucket/p/", says="the digest of a payload is missing")
    world.ends(8, *RUN, says="the digest of a payload is missing")


@line(
    "all envelopes of the sample have local pairs or a detached payload",
    "`fleet verify --decrypt`",
    8,
    1,
)
def _(world: World) -> None:
    keyring = sealwax.KmsKeyring(world.keys.demo2, session=world.keys.lab.session())
    sealer = sealwax.Sealer(keyring, local_context=("id",))
    Path("in").mkdir()
    Path("in/a.swx").write_bytes(sealer.encrypt(b"x", context=CONTEXT | {"id": "7"}))
    world.once(*PLAN, "in").succeeded()
    world.once(*VERIFY).succeeded()
    world.ends(8, *VERIFY, "--decrypt", "1", says="decrypted none of 1")


@line(
    "KMS does not show the material of a wanted key, so old material cannot be detected",
    "`fleet plan`, `fleet run --stale`; `inspect --ask-kms`",
    8,
    3,
)
def _(world: World) -> None:
    world.seal("in/a.swx", arn=world.keys.demo2)
    settings = ("fleet", "plan", "--from", world.keys.demo, "--to", world.keys.demo2, *SETTINGS[4:], "in")
    world.once(*settings).succeeded()
    faults = world.keys.lab.faults
    faults.add("us-east-1", "error", 1.0, operation="DescribeKey", code="AccessDeniedException", seed=0)
    try:
        world.ends(8, *AGAIN, says="old key material cannot be detected")
        world.ends(8, *settings, says="old key material cannot be detected")
        world.ends(
            8, "inspect", "--ask-kms", "--to", world.keys.demo2, "in/a.swx", says="old key material cannot be detected"
        )
    finally:
        faults.clear("us-east-1", None)


@line(
    "a lookup failed or a check could not run, and there is no finding",
    "`audit`, `prove`, `keys list` of a Region",
    8,
    2,
)
def _(world: World) -> None:
    faults = world.keys.lab.faults
    faults.add("us-east-1", "error", 1.0, operation="ListGrants", code="AccessDeniedException", seed=0)
    for operation in ("ListKeys", "ListAliases"):
        faults.add("us-east-1", "error", 1.0, operation=operation, code="AccessDeniedException", seed=0)
    try:
        world.ends(8, "audit", "-k", world.keys.demo, "--fail-on", "never")
        done = world.once("keys", "list", "--region", "us-east-1", "--region", "eu-north-1")
        assert done.status == 8, done
        world.tried += 1
    finally:
        faults.clear("us-east-1", None)


@line("a rehearsal ran or cleaned up, and something that it made could not be taken away", "`rehearse`", 8, 1)
def _(world: World) -> None:
    name = "sealwax-rehearsal-0123456789ab-reader"
    with account(Path("aws")) as it, pytest.MonkeyPatch.context() as patch:
        for variable, value in it.environment.items():
            patch.setenv(variable, value)
        iam = boto3.Session().client("iam", region_name="us-east-1")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        it.before = lambda call: (409, b"<a/>") if call.operation == "DeleteRole" else None
        world.ends(8, "rehearse", "--region", "eu-west-1", "--region", "us-east-1", "--clean-up", says=name)


# --- from outside


def _interrupted(world: World, number: signal.Signals, status: int) -> None:
    with world.shell.start("encrypt", *K, *PURPOSE, "-o", "a.swx", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(bytes(3 << 20))
        process.stdin.flush()
        while not any(path.stat().st_size > 1 << 20 for path in world.shell.folder.glob(".sealwax-*.part")):
            time.sleep(0.01)
        process.send_signal(number)
        process.communicate()
    assert process.returncode == status
    world.tried += 1


@line("Ctrl-C", "every verb; `lab serve` ends with 0", 130, 2)
def _(world: World) -> None:
    _interrupted(world, signal.SIGINT, 130)
    with world.shell.start("lab", "serve", "--port", "0", stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert b"is ready at" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 0
    world.tried += 1


@line("SIGHUP, as when a terminal closes", "every verb", 129, 1)
def _(world: World) -> None:
    _interrupted(world, signal.SIGHUP, 129)


@line("SIGTERM", "every verb", 143, 1)
def _(world: World) -> None:
    _interrupted(world, signal.SIGTERM, 143)


@pytest.mark.parametrize("key", LINES, ids=lambda key: f"{key[2]}-{re.sub('[^a-z]+', '-', key[0].lower())[:40]}")
def test_each_line(world: World, key: tuple[str, str, str]) -> None:
    case, tried = LINES[key]
    case(world)
    assert world.tried == tried


def test_the_table_of_the_page_is_this_one() -> None:
    page = (ROOT / "docs/reference/statuses.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if row.startswith("| ") and row.count(" | ") == 2][1:]
    table = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]
    assert table == list(LINES)
    assert len(table) == 64
    assert {int(status) for _, _, status in table} == {*range(9), 129, 130, 143}
