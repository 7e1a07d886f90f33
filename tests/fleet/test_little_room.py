"""A plan on a disk that is full says so, is left whole, and goes on once there is room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import sealwax
from sealwax import fleet
from sealwax.cli import run as command
from sealwax.fleet._journal import Journal
from tests import room
from tests.fleet.fleets import Keys, full_disk, plan, run, seal_many


@pytest.fixture
def small(tmp_path: Path) -> Iterator[room.Disk]:
    with room.disk(tmp_path / "small") as found:
        yield found


def test_a_plan_on_a_full_disk(keys: Keys, folder: Path, small: room.Disk) -> None:
    path = small.folder / "rotation.plan"
    seal_many(keys, folder, 4)
    said = rf"the plan '{path}' failed: {small.reason}; "
    # A limit on the size of files would hold for the lab's, too.
    make = (lambda: plan(keys, folder, path)) if small.mounted else (lambda: Journal.create(path, path))
    # Not even the log's index, of 32 KiB, can be made; or what is put into the log cannot.
    for beyond in (0, 40_000):
        with small.full(beyond), pytest.raises(sealwax.FileError, match=said):
            make()
        for left in small.folder.glob("*plan*"):
            assert not small.mounted
            left.unlink()
        assert not list(small.folder.glob(".sealwax*"))
    plan(keys, folder, path)
    for attempt in (
        fleet.status,
        fleet.problems,
        fleet.verify,
        *([lambda _: run(keys, path)] if small.mounted else ()),
    ):
        with small.full(), pytest.raises(sealwax.FileError, match=said):
            attempt(path)
    assert run(keys, path).rewrapped == 4
    assert fleet.verify(path).done


def _write_on(journal: Journal) -> None:
    for _ in range(100):
        with journal.writing():
            journal.set_fact("rate", 8)
            journal.set_fact("other", "x" * 100_000)
            journal.set_fact("rate", 7)


def test_a_plan_on_a_disk_that_fills_up(keys: Keys, folder: Path, small: room.Disk) -> None:
    """The plan is open by then: only its log is to grow."""
    path = small.folder / "rotation.plan"
    seal_many(keys, folder, 4)
    plan(keys, folder, path)
    with Journal(path) as journal:
        journal.set_fact("rate", 7)
        with small.full(), pytest.raises(sealwax.FileError, match=rf"the plan '{path}' failed: {small.reason}; "):
            _write_on(journal)
        assert journal.fact("rate") == 7
        journal.set_fact("rate", 9)
    assert run(keys, path).rewrapped == 4
    assert fleet.verify(path).done


def test_a_page_is_whole_or_not_there(keys: Keys, folder: Path, path: Path, tmp_path: Path) -> None:
    deep = folder.joinpath(*["'" * 240] * 9)  # each quote is six characters in HTML
    deep.mkdir(parents=True)
    for at in range(3):
        (deep / f"{at}.swx").write_bytes(b"no envelope")
    plan(keys, folder, path)
    page = tmp_path / "page.html"
    assert command(["fleet", "status", str(path), "--report", str(page)]) == 0
    size = page.stat().st_size
    assert size > 33_000  # more than the index of the plan's log has
    page.unlink()
    with full_disk(size - 1):
        assert command(["fleet", "status", str(path), "--report", str(page)]) == 1
    assert not page.exists()
