"""What the first build wrote to its users' disks: every later one opens it, or refuses it by a sentence of its own."""

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
from tests.cli.shell import Done
from tests.kept.make import CONTEXT, LARGE, MADE, PASSPHRASE

KEYS = json.loads((MADE / "made.json").read_text())
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


@pytest.fixture
def sealwax_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Commands:
    """Run the command line in a copy of what was made, which belongs to the caller alone as it did then."""
    folder = tmp_path / "made"
    shutil.copytree(MADE, folder)
    header = (folder / "unfinished.header").read_bytes()
    (folder / "unfinished.swx").write_bytes(header + (folder / "large.swx").read_bytes()[len(header) :])
    for private in (*folder.glob("lab/*"), *folder.glob("locked/*"), *folder.glob("*.plan")):
        private.chmod(0o600)
    for readable in folder.glob("*.json"):
        readable.chmod(0o644)
    for lab in ("lab", "locked"):
        (folder / lab).chmod(0o700)
    folder.chmod(0o755)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SEALWAX_LAB", "lab")

    def command(*arguments: str) -> Done:
        capfd.readouterr()
        status = run(arguments)
        out, err = capfd.readouterr()
        return Done(status, out.encode(), err)

    return command


def move_plan(name: str) -> None:
    """Let a plan name the copy of its fleet, as a plan of a fleet that stays where it is does anyway."""
    with sqlite3.connect(name) as plan:
        plan.create_function("moved", 1, lambda text: str(text).replace("/srv/kept", str(Path.cwd())))
        plan.execute("UPDATE facts SET value = moved(value)")
        plan.execute("UPDATE items SET name = CAST(moved(CAST(name AS TEXT)) AS BLOB)")
    plan.close()


@pytest.mark.parametrize("name", ENVELOPES)
def test_envelopes_of_every_kind_open(name: str, sealwax_: Commands) -> None:
    options, plaintext = ENVELOPES[name]
    done = sealwax_("decrypt", "-k", KEYS["old"], "-k", KEYS["new"], *options, "-o", "out", name).succeeded()
    assert done.out == b""
    assert Path("out").read_bytes() == plaintext


def test_every_envelope_that_was_kept_is_opened() -> None:
    files = {str(path.relative_to(MADE)) for path in MADE.rglob("*") if path.suffix in (".swx", ".payload")}
    assert files - ENVELOPES.keys() == {"locked.swx", "fleet/1.swx", "fleet/2.swx"}
    assert len(ENVELOPES) == 10


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
    sealwax_("rewrap", "-k", KEYS["new"], "--to", KEYS["old"], *CONTEXT, path.name).succeeded()
    found = inspect_envelope(path)
    assert found.header.finished
    assert [key.key_arn for key in found.wrapped_keys] == [KEYS["old"]]


@pytest.mark.parametrize("name", ["rewrap.plan", "reencrypt.plan"])
def test_a_plan_is_shown_carried_out_and_proven(name: str, sealwax_: Commands) -> None:
    move_plan(name)
    shown = json.loads(sealwax_("fleet", "status", "--json", name).succeeded().out)
    assert (shown["objects"], shown["stale"]) == (3, 3)
    sealwax_("fleet", "run", "--apply", name).succeeded()
    sealwax_("fleet", "verify", "--decrypt", "3", name).succeeded()
    for number in range(3):
        assert [key.key_arn for key in inspect_envelope(Path(f"fleet/{number}.swx")).wrapped_keys] == [KEYS["new"]]


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
