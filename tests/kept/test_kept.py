"""What each release wrote to its users' disks: every later one opens it, or refuses it by a sentence of its own."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import sealwax
from sealwax import fleet
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax.cli import run
from sealwax.lab import Lab
from sealwax.records import SqlKeys
from tests.cli.shell import Done
from tests.kept.make import CONTEXT, HERE, LARGE, MADE, PASSPHRASE, SCOPE, SETTING

# One from before the first release, and those of each release, which have more in them.
EARLY = MADE.name
RELEASED = ("made-0.1.0rc1",)
ENVELOPES = {
    "small.swx": (CONTEXT, b"a few words"),
    "empty.swx": (CONTEXT, b""),
    "large.swx": (CONTEXT, LARGE),
    "both.swx": (CONTEXT, b"a few words"),
    "local.swx": ((*CONTEXT, "-c", "row=7", "--local-context", "row"), b"a few words"),
    "unbound.swx": (("--no-context",), b"a few words"),
    "text.swx": ((*CONTEXT, "--armor"), b"a few words"),
    "apart.payload": ((*CONTEXT, "--detached", "apart.header"), b"a few words"),
    "unfinished.swx": (CONTEXT, LARGE),
    "fleet/0.swx": (CONTEXT, b"of a fleet"),
}


Commands = Callable[..., Done]


@pytest.fixture(params=[EARLY, *RELEASED])
def sealwax_(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Commands:
    """Run the command line in a copy of what was made, which belongs to the caller alone as it did then."""
    folder = tmp_path / "made"
    shutil.copytree(HERE / request.param, folder)
    header = (folder / "unfinished.header").read_bytes()
    (folder / "unfinished.swx").write_bytes(header + (folder / "large.swx").read_bytes()[len(header) :])
    for private in (*folder.glob("lab/*"), *folder.glob("locked/*"), *folder.glob("*.plan"), *folder.glob("*.journal")):
        private.chmod(0o600)
    for readable in (*folder.glob("*.json"), *folder.glob("shop/*.toml")):
        readable.chmod(0o644)
    for lab in ("lab", "locked"):
        (folder / lab).chmod(0o700)
    folder.chmod(0o755)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SEALWAX_LAB", str(folder / "lab"))

    def command(*arguments: str) -> Done:
        capfd.readouterr()
        status = run(arguments)
        out, err = capfd.readouterr()
        return Done(status, out.encode(), err)

    return command


released = pytest.mark.parametrize("sealwax_", RELEASED, indirect=True)


def keys() -> dict[str, str]:
    made: dict[str, str] = json.loads(Path("made.json").read_text())
    return made


def move_plan(name: str) -> None:
    """Let a plan name the copy of its fleet, as a plan of a fleet that stays where it is does anyway."""
    with sqlite3.connect(name) as plan:
        plan.create_function("moved", 1, lambda text: str(text).replace("/srv/kept", str(Path.cwd())))
        plan.execute("UPDATE facts SET value = moved(value)")
        plan.execute("UPDATE items SET name = CAST(moved(CAST(name AS TEXT)) AS BLOB)")
        if plan.execute("SELECT 1 FROM sqlite_master WHERE name = 'moves'").fetchone():
            plan.create_function("mark", 1, lambda source: mark(source.decode()))
            plan.execute("UPDATE moves SET source = CAST(moved(CAST(source AS TEXT)) AS BLOB)")
            plan.execute("UPDATE moves SET target = CAST(moved(CAST(target AS TEXT)) AS BLOB), mark = mark(source)")
    plan.close()


def move_journal(name: str) -> None:
    """Let a journal of `migrate` name the copies of its files."""
    lines = Path(name).read_text().replace("/srv/kept", str(Path.cwd())).splitlines()
    entries = [json.loads(line) for line in lines]
    for entry in entries:
        if "mark" in entry:
            entry["mark"] = mark(entry["source"])
    Path(name).write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def mark(source: str) -> str:
    """Return what tells an original from another file of its name; a copy has its own."""
    status = Path(source).stat()
    return f"file {status.st_ino} {status.st_mtime_ns} {status.st_size}"


@pytest.mark.parametrize("name", ENVELOPES)
def test_envelopes_of_every_kind_open(name: str, sealwax_: Commands) -> None:
    options, plaintext = ENVELOPES[name]
    done = sealwax_("decrypt", "-k", keys()["old"], "-k", keys()["new"], *options, "-o", "out", name).succeeded()
    assert done.out == b""
    assert Path("out").read_bytes() == plaintext


@pytest.mark.parametrize("made", [EARLY, *RELEASED])
def test_every_envelope_that_was_kept_is_opened(made: str) -> None:
    folder = HERE / made
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".swx", ".payload")}
    moves = {file for file in files if file.partition("/")[0] in ("planned", "moved", "migrated", "shop")}
    assert len(moves) == (0 if made == EARLY else 8)
    assert files - moves - ENVELOPES.keys() == {"locked.swx", "fleet/1.swx", "fleet/2.swx"}
    assert len(ENVELOPES) == 10


def test_every_release_has_files_here() -> None:
    assert {path.name for path in HERE.glob("made*")} == {EARLY, *RELEASED}
    assert RELEASED[-1] == f"made-{sealwax.__version__}", "run: python -m tests.kept.make"


def test_a_lab_of_which_the_key_material_is_encrypted(sealwax_: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("decrypt", "-k", "alias/kept", *CONTEXT, "--lab", "locked", "-o", "-", "locked.swx")
    monkeypatch.setenv("SEALWAX_LAB_PASSPHRASE", PASSPHRASE)
    assert sealwax_(*command).succeeded().out == b"a few words"
    monkeypatch.setenv("SEALWAX_LAB_PASSPHRASE", "another")
    sealwax_(*command).failed(1)


@pytest.mark.usefixtures("sealwax_")
def test_the_lab_remembers_what_it_was_asked() -> None:
    with Lab(Path("lab")) as lab:
        names = {event.record["eventName"] for event in lab.trail.events()}
    assert {"CreateKey", "GenerateDataKey", "ReEncrypt"} <= names


def test_an_unfinished_rewrap_is_finished_by_the_next_one(sealwax_: Commands) -> None:
    path = Path("unfinished.swx")
    assert not inspect_envelope(path).header.finished
    # Its newer slot is under the new key.
    sealwax_("rewrap", "-k", keys()["new"], "--to", keys()["old"], *CONTEXT, path.name).succeeded()
    found = inspect_envelope(path)
    assert found.header.finished
    assert [key.key_arn for key in found.wrapped_keys] == [keys()["old"]]


@pytest.mark.parametrize("name", ["rewrap.plan", "reencrypt.plan"])
def test_a_plan_is_shown_carried_out_and_proven(name: str, sealwax_: Commands) -> None:
    move_plan(name)
    shown = json.loads(sealwax_("fleet", "status", "--json", name).succeeded().out)
    assert (shown["objects"], shown["stale"]) == (3, 3)
    sealwax_("fleet", "run", "--apply", name).succeeded()
    sealwax_("fleet", "verify", "--decrypt", "3", name).succeeded()
    for number in range(3):
        assert [key.key_arn for key in inspect_envelope(Path(f"fleet/{number}.swx")).wrapped_keys] == [keys()["new"]]


@pytest.mark.parametrize("version", [1, 3])
def test_a_plan_of_another_version_is_refused_by_its_own_sentence(version: int, sealwax_: Commands) -> None:
    path = Path("rewrap.plan")
    with sqlite3.connect(path) as plan:
        plan.execute(f"PRAGMA user_version={version}")
    plan.close()
    before = path.read_bytes()
    with pytest.raises(sealwax.PlanError, match=f"has version {version}; this release reads version 2"):
        fleet.status(path)
    sealwax_("fleet", "run", "--apply", path.name).failed(1, f"has version {version}")
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.plan-*"))


def test_facts_and_a_baseline(sealwax_: Commands) -> None:
    command = ("audit", "--facts", "facts.json", "--baseline", "baseline.json", "--fail-on", "never", "--json")
    report = json.loads(sealwax_(*command).succeeded().out)
    baseline = json.loads(Path("baseline.json").read_text())
    accepted = [(entry["rule"], entry["resource"]) for entry in baseline["accepted"]]
    assert [(entry["finding"]["rule"], entry["finding"]["resource"]) for entry in report["accepted"]] == accepted
    assert len(accepted) == 1
    assert report["findings"]


@released
def test_settings_open_what_was_made_by_them(sealwax_: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    key = keys()["old"]
    monkeypatch.chdir("shop")
    sealwax_("decrypt", "prod/db.env.swx").succeeded()
    assert Path("prod/db.env").read_bytes() == SETTING
    shown = sealwax_("settings", "show", "--json", "prod/db.env").succeeded().out.decode()
    assert key in shown


@released
@pytest.mark.usefixtures("sealwax_")
def test_a_key_store_opens_its_records_and_no_shredded_one() -> None:
    values = {name: bytes.fromhex(text) for name, text in json.loads(Path("records.json").read_text()).items()}
    store = SqlKeys("sqlite:///keys.db")
    with Lab(Path("lab")) as lab:
        keyring = sealwax.KmsKeyring(keys()["old"], session=lab.session())
        with sealwax.Records(keyring, store, scope=SCOPE) as records:
            field = records.field("users.card", row=int, tenant="acme")
            assert field.open(values["first"], row=1) == b"of the first key"
            assert field.open(values["second"], row=2) == b"of the second key"
            assert records.index("users.email", bits=32, tenant="acme").of("ada@example.com") == values["index"]
            with pytest.raises(sealwax.ShreddedError):
                records.field("users.card", row=int, tenant="gone").open(values["shredded"], row=3)


@released
def test_a_key_store_is_listed_and_moved_to_another_key(sealwax_: Commands) -> None:
    listed = sealwax_("records", "list", "--store", "sqlite:///keys.db", "--json").succeeded().out.decode()
    assert "shredded" in listed
    made = keys()
    meant = ("--from", made["old"], "--to", made["new"], "--accept-stored-context")
    sealwax_("fleet", "plan", *meant, "-o", "keys.plan", "sql+sqlite:///keys.db").succeeded()
    sealwax_("fleet", "run", "--apply", "keys.plan").succeeded()


@released
def test_a_plan_of_moves_is_carried_out_and_proven(sealwax_: Commands) -> None:
    move_plan("move.plan")
    shown = json.loads(sealwax_("fleet", "status", "--json", "move.plan").succeeded().out)
    assert (shown["objects"], shown["stale"], shown["objects_to_move"]) == (3, 3, 2)
    sealwax_("fleet", "run", "--apply", "move.plan").succeeded()
    sealwax_("fleet", "verify", "--decrypt", "3", "move.plan").succeeded()
    for name in ("one.esdk.swx", "two.esdk.swx", "three.swx"):
        sealwax_("decrypt", "-k", keys()["new"], *CONTEXT, "-o", f"{name}.out", f"planned/{name}").succeeded()
        assert Path(f"{name}.out").read_bytes() == b"a few words"


@released
def test_originals_that_a_plan_moved_are_removed_by_a_later_release(sealwax_: Commands) -> None:
    move_plan("moved.plan")
    assert json.loads(sealwax_("fleet", "status", "--json", "moved.plan").succeeded().out)["objects_to_move"] == 0
    removes_two_originals(sealwax_, "moved.plan", "moved")


@released
def test_originals_that_were_migrated_are_removed_by_a_later_release(sealwax_: Commands) -> None:
    move_journal("migrate.journal")
    removes_two_originals(sealwax_, "migrate.journal", "migrated")


def removes_two_originals(command: Commands, journal: str, folder: str) -> None:
    made = keys()
    assert len(list(Path(folder).glob("*.esdk"))) == 2
    command("migrate", "--remove", "-r", "-k", made["old"], "--to", made["new"], *CONTEXT, "--journal", journal,
            folder).succeeded()  # fmt: skip
    assert sorted(path.name for path in Path(folder).iterdir()) == ["one.esdk.swx", "three.swx", "two.esdk.swx"]
