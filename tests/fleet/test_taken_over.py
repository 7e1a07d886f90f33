"""Nobody else decides what a plan says: not by the plan, nor by what lies beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import sealwax
from sealwax import fleet
from sealwax.cli import run as command
from sealwax.fleet._journal import Journal
from sealwax.fleet._planfile import alone
from sealwax.fleet._usage import locations_of
from tests.fleet.fleets import Keys, marks, plan, run, seal_many
from tests.planting import PLANTED, give_away


def _verbs(keys: Keys, path: Path) -> list[Callable[[], object]]:
    session = keys.lab.session()
    return [
        lambda: fleet.status(path),
        lambda: fleet.run(path, session=session),
        lambda: fleet.verify(path, session=session),
        lambda: fleet.refresh(path, session=session),
        lambda: fleet.problems(path),
        lambda: locations_of([str(path)]),
    ]


def _changed_elsewhere(keys: Keys, path: Path) -> dict[str, bytes]:
    """Return what lies beside a copy of the plan in which the wanted key has become the attacker's."""
    copy = path.with_name("copy")
    copy.mkdir()
    shutil.copy(path, copy)
    beside = {}
    with Journal(copy / path.name) as journal:
        settings = journal.fact("settings")
        text = str(settings).replace(keys.new, keys.foreign)
        assert text != str(settings)
        journal.set_fact("settings", _replaced(settings, keys.new, keys.foreign))
        for suffix in ("-wal", "-shm"):
            beside[suffix] = Path(f"{copy / path.name}{suffix}").read_bytes()
    return beside


def _replaced(value: object, old: str, new: str) -> object:
    if isinstance(value, dict):
        return {name: _replaced(one, old, new) for name, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, old, new) for one in value]
    return new if value == old else value


@pytest.mark.parametrize(
    ("suffixes", "mode"),
    [(("-wal",), 0o1777), (("-wal", "-shm"), 0o777), (("-wal",), 0o700), (("-wal", "-shm"), 0o700)],
)
def test_a_log_that_somebody_put_beside_a_plan_is_not_recovered(
    keys: Keys, folder: Path, path: Path, suffixes: tuple[str, ...], mode: int
) -> None:
    seal_many(keys, folder, 3)
    plan(keys, folder, path)
    for suffix, content in _changed_elsewhere(keys, path).items():
        if suffix in suffixes:
            Path(f"{path}{suffix}").write_bytes(content)
            give_away(Path(f"{path}{suffix}"))
    path.parent.chmod(mode)
    before, whole = marks(folder), path.read_bytes()
    refused = 0
    for verb in _verbs(keys, path):
        with pytest.raises(sealwax.PlanError, match=r"the plan '.+' is refused: .+; ."):
            verb()
        refused += 1
    assert refused == 6
    assert (marks(folder), path.read_bytes()) == (before, whole)
    # Without it, the plan is what it was.
    path.parent.chmod(0o700)
    for suffix in suffixes:
        Path(f"{path}{suffix}").unlink()
    assert run(keys, path).rewrapped == 3
    assert {sealwax.inspect(one).wrapped_keys[0].key_arn for one in folder.iterdir()} == {keys.new}


@pytest.mark.parametrize("how", PLANTED)
def test_a_plan_that_others_can_have_written_is_not_carried_out(
    keys: Keys, folder: Path, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "plans" / "rotation.plan"
    path.parent.mkdir()
    seal_many(keys, folder, 1)
    plan(keys, folder, path)
    PLANTED[how](path)
    before = marks(folder)
    refused = 0
    for verb in _verbs(keys, path)[:5]:
        with pytest.raises(sealwax.PlanError, match=r"is refused|is not a plan"):
            verb()
        refused += 1
    assert refused == 5
    assert marks(folder) == before


@pytest.mark.parametrize("how", ["open to all", "of another", "a pipe", "a folder", "a link of another"])
def test_a_lock_of_somebody_else_is_no_lock(keys: Keys, folder: Path, path: Path, how: str) -> None:
    seal_many(keys, folder, 1)
    plan(keys, folder, path)
    lock = path.with_name(f"{path.name}.lock")
    lock.write_bytes(b"")
    PLANTED[how](lock)
    with pytest.raises(sealwax.SealwaxError, match=r"the lock of a plan '.+' is refused|locking the plan '.+' failed"):
        run(keys, path)
    assert os.path.lexists(lock)
    lock.rmdir() if lock.is_dir() else lock.unlink()
    with alone(path, "x"):
        pass
    assert run(keys, path).rewrapped == 1


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_no_plan_is_made_where_others_create_files(keys: Keys, folder: Path, tmp_path: Path, mode: int) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    seal_many(keys, folder, 1)
    said = rf"the plan '{shared / 'rotation.plan'}' is refused: .+; move it to a folder that only you can write to"
    with pytest.raises(sealwax.PlanError, match=said):
        plan(keys, folder, shared / "rotation.plan")
    assert list(shared.iterdir()) == []


def test_it_is_said_on_the_command_line(
    keys: Keys, folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seal_many(keys, folder, 1)
    plan(keys, folder, path)
    monkeypatch.setenv("SEALWAX_LAB", str(keys.lab.path))
    path.chmod(0o666)
    before = marks(folder)
    assert command(["fleet", "run", str(path), "--apply"]) == 1
    said = capsys.readouterr().err
    assert f"the plan '{path}' is refused: everybody may write to it (mode 0666), so somebody else could" in said
    assert said.endswith(f"could have written it; if nobody has changed it, run: chmod go-w '{path}'\n")
    assert marks(folder) == before
    path.chmod(0o600)
    Path(f"{path}-wal").write_bytes(b"")
    Path(f"{path}-wal").chmod(0o666)
    assert command(["audit", "--all", "--fleet-plan", str(path)]) == 1
    assert f"SQLite would read '{path}-wal' with it" in capsys.readouterr().err
