"""What others do while a fleet is re-wrapped, and after its plan was made."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import sealwax
from sealwax import fleet
from sealwax._core.envelope import Inspection
from sealwax._core.rewrap import Rewrap
from sealwax.fleet._journal import Journal
from tests.fleet.fleets import ACME, CONTEXTS, Keys, Wrapping, marks, page_of, plan, run, seal, seal_many


def test_two_runs_of_one_plan_are_refused(keys: Keys, folder: Path, path: Path) -> None:
    seal(keys, folder / "a.swx")
    plan(keys, folder, path)
    with Journal(path) as journal, journal.alone():
        for attempt in (fleet.run, fleet.verify, fleet.refresh):
            with pytest.raises(sealwax.PlanError, match="another run is using the plan"):
                attempt(path, session=keys.lab.session())
    link = path.with_name("link")
    link.symlink_to(path)
    with Journal(link) as journal, journal.alone(), pytest.raises(sealwax.PlanError, match="another run is using"):
        run(keys, path)
    assert run(keys, path).rewrapped == 1
    assert not path.with_name("rotation.plan.lock").exists()


def test_a_plan_is_not_run_while_another_replaces_it(keys: Keys, folder: Path, path: Path) -> None:
    """The new plan would not know what the run has noted."""
    seal(keys, folder / "a.swx")
    plan(keys, folder, path)
    tried: list[str] = []

    class Running(Wrapping):
        def inspect(self, name: str) -> Inspection:
            with pytest.raises(sealwax.PlanError, match="another run is using the plan"):
                run(keys, path)
            tried.append(name)
            return self.inner.inspect(name)

    assert plan(keys, folder, path, overwrite=True, open_location=Running.around).stale == 1
    assert len(tried) == 1
    assert run(keys, path).rewrapped == 1


def test_two_plans_of_one_fleet_run_at_once(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 80)
    paths = [path, path.with_name("other.plan")]
    for one in paths:
        plan(keys, folder, one)
    reports: dict[Path, fleet.FleetReport] = {}
    threads = [threading.Thread(target=lambda one=one: reports.update({one: run(keys, one)})) for one in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Each envelope was re-wrapped by one of them: the other found it fresh.
    assert sum(report.rewrapped for report in reports.values()) == 80
    assert [report.stale for report in reports.values()] == [0, 0]
    assert keys.calls()["ReEncrypt"] == 80


def test_what_a_writer_replaces_meanwhile_is_left_for_the_next_pass(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 10)

    raced: set[str] = set()

    class Racing(Wrapping):
        """Where a writer puts a new envelope in an object's place once, after its header was read."""

        def rewrap(self, name: str, rewrap: Rewrap, *, size: int | None = None) -> None:
            def late(header: Any, head: Any) -> Any:
                made = rewrap(header, head)
                if name not in raced:
                    raced.add(name)
                    seal(keys, path.with_name(f"new-{Path(name).name}"), f"newer {Path(name).name}".encode()).rename(
                        name
                    )
                return made

            self.inner.rewrap(name, late, size=size)

    plan(keys, folder, path, digests=None)
    done = run(keys, path, open_location=Racing.around)
    assert len(raced) == 10
    assert (done.rewrapped, done.stale) == (10, 0)
    for at in range(10):
        value = keys.sealer(keys.new).decrypt((folder / f"{at:03}.swx").read_bytes(), context=ACME)
        assert value == f"newer {at:03}.swx".encode()
    proven = fleet.verify(path)
    assert proven.checked is not None
    assert (proven.done, proven.checked.replaced, proven.checked.digests) == (True, 10, 0)


def test_what_changed_since_the_plan_is_judged_as_it_is_now(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 4)
    plan(keys, folder, path)
    seal(keys, folder / "000.swx", b"fresh", keys.new)
    seal(keys, folder / "001.swx", b"theirs", keys.foreign)
    seal(keys, folder / "002.swx", context={"tenant": "evil", "set": "0"})
    (folder / "003.swx").write_bytes(b"no envelope")
    done = run(keys, path)
    assert {state: count for state, (count, _) in done.states.items()} == {
        "fresh": 1,
        "refused": 1,
        "skipped": 1,
        "foreign": 1,
    }
    assert keys.calls()["ReEncrypt"] == 0


def test_objects_that_have_gone_do_not_stop_a_run(keys: Keys, folder: Path, path: Path) -> None:
    """A plan that is a week old names many that have been removed since."""
    seal_many(keys, folder, 60)
    plan(keys, folder, path)
    for at in range(30):
        (folder / f"{at:03}.swx").unlink()
    done = run(keys, path)
    assert (done.rewrapped, done.count("left"), done.failed, done.ended) == (30, 30, 0, "")
    assert fleet.verify(path).done


def test_what_has_gone_is_left_and_a_new_scan_forgets_it(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 2)
    plan(keys, folder, path)
    (folder / "000.swx").unlink()
    done = run(keys, path)
    assert (done.rewrapped, done.count("left")) == (1, 1)
    proven = fleet.verify(path)
    assert (proven.objects, proven.checked and proven.checked.gone, proven.done) == (1, 1, True)


def test_what_killed_processes_left_is_told_and_left_alone(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 2)
    left = folder / ".sealwax-0123456789abcdef.part"
    left.write_bytes((folder / "000.swx").read_bytes())
    plan(keys, folder, path)
    assert run(keys, path).rewrapped == 2
    before = left.read_bytes()
    proven = fleet.verify(path)
    assert proven.checked is not None
    assert proven.checked.leftovers == (), "it may be growing"
    os.utime(left, (0, 0))
    proven = fleet.verify(path)
    assert proven.checked is not None
    assert (proven.objects, proven.done, proven.checked.leftovers) == (2, True, (str(left),))
    assert proven.as_dict()["leftovers"] == [str(left)]
    assert str(left) in str(proven)
    assert str(left) in page_of(proven)
    assert left.read_bytes() == before


def test_the_page_names_what_the_text_names(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 2)
    plan(keys, folder, path)
    names = [f"object {at}" for at in range(4)]
    checked = fleet.Checked(
        changed=(names[0],), unread=((names[1], "why 1"),), undecrypted=((names[2], "why 2"),), leftovers=(names[3],)
    )
    found = replace(
        fleet.verify(path), checked=checked, ended="its time is up", notes=("a note",), empty=("/an/empty/place",)
    )
    text, page = str(found), page_of(found)
    for each in (*names, "why 1", "why 2", "a note"):
        assert each in text
        assert each in page
    assert "its time is up" in page
    assert "/an/empty/place" in page


def test_a_place_that_is_empty_all_at_once_is_not_proven(keys: Keys, folder: Path, path: Path) -> None:
    # A volume that is not mounted looks so.
    seal_many(keys, folder, 2)
    plan(keys, folder, path)
    run(keys, path)
    for file in folder.iterdir():
        file.unlink()
    proven = fleet.verify(path)
    assert (proven.objects, proven.checked and proven.checked.gone, proven.done) == (0, 2, False)


def test_a_scheduler_keeps_one_plan(keys: Keys, folder: Path, path: Path) -> None:
    """New objects, and new material of the wanted key, are found by a new scan; nothing to do costs nothing."""
    seal(keys, folder / "a.swx", b"value", keys.new)
    plan(keys, folder, path, sources=[keys.new])
    assert run(keys, path).rewrapped == 0
    keys.lab.call("RotateKeyOnDemand", KeyId=keys.new)
    seal(keys, folder / "b.swx", b"value", keys.new)
    session = keys.lab.session()
    fleet.refresh(path, session=session)
    done = run(keys, path)
    assert (done.rewrapped, done.count("fresh"), done.kms_calls) == (1, 1, 1)
    assert dict(done.reasons) == {"material": 1}
    fleet.refresh(path, session=session)
    made, written = keys.calls(), marks(folder)
    assert run(keys, path).kms_calls == 0
    assert keys.calls() == made
    assert marks(folder) == written


def test_answers_of_before_a_rotation_are_not_used_after_it(keys: Keys, folder: Path, path: Path) -> None:
    sealed = keys.sealer(keys.one).encrypt(b"shared", context=ACME)
    for at in range(20):
        (folder / f"{at:02}.swx").write_bytes(sealed)
    plan(keys, folder, path, sources=[keys.one, keys.new])
    asked = iter(range(1000))
    first = run(keys, path, stop=lambda: next(asked) >= 8, workers=1)
    assert 0 < first.rewrapped < 20
    # Run again, KMS is not asked again for what the envelopes share.
    asked = iter(range(1000))
    second = run(keys, path, stop=lambda: next(asked) >= 4, workers=1)
    assert (second.rewrapped > 0, second.kms_calls) == (True, 0)
    keys.lab.call("RotateKeyOnDemand", KeyId=keys.new)
    fleet.refresh(path, session=keys.lab.session())
    assert run(keys, path).stale == 0
    ((arn, material, objects),) = fleet.verify(path).after
    current = keys.lab.call("DescribeKey", KeyId=keys.new)["KeyMetadata"]["CurrentKeyMaterialId"]
    assert (arn, material, objects) == (keys.new, current, 20)


def test_what_is_decrypted_is_what_was_looked_at(keys: Keys, folder: Path, path: Path) -> None:
    """Another tenant's envelope is put in the place after its header was read, and before it is opened."""
    seal(keys, folder / "a.swx", b"value", keys.new)
    evil = seal(keys, path.with_name("evil"), b"value", keys.new, context={"tenant": "evil", "set": "0"})

    class Racing(Wrapping):
        def open(self, name: str) -> BinaryIO:
            evil.rename(name)
            return self.inner.open(name)

    plan(keys, folder, path)
    proven = fleet.verify(path, session=keys.lab.session(), open_location=Racing.around, decrypt=1)
    assert proven.checked is not None
    assert proven.checked.undecrypted == (
        (str(folder / "a.swx"), "its stored context has a different value of 'tenant'"),
    )
    assert (proven.checked.decrypted, proven.done) == (0, False)


def test_what_cannot_be_read_is_not_said_to_have_changed(keys: Keys, folder: Path, path: Path) -> None:
    """A disk or S3 that gives no payload while a verification compares them, and headers a moment before."""
    for name in ("a.swx", "b.swx"):
        seal(keys, folder / name)
    plan(keys, folder, path, digests=None)
    run(keys, path)

    class Failing(Wrapping):
        def open(self, name: str) -> BinaryIO:
            if name.endswith("a.swx"):
                raise sealwax.StoreError("reading failed: S3 is busy", retryable=True)
            return self.inner.open(name)

    proven = fleet.verify(path, open_location=Failing.around)
    assert proven.checked is not None
    assert (proven.checked.digests, proven.checked.changed, proven.checked.undecrypted) == (1, (), ())
    assert proven.checked.unread == ((str(folder / "a.swx"), "reading failed: S3 is busy"),)
    assert (proven.done, proven.hidden) == (False, 1)
    assert "a.swx: reading failed: S3 is busy" in str(proven)
    assert [one["reason"] for one in proven.as_dict()["not_read"]] == ["reading failed: S3 is busy"]
    assert fleet.verify(path).done


@pytest.mark.parametrize("places", [("", ""), ("", "below"), ("below", ""), ("", "a.swx", "below/b.swx")])
def test_an_object_of_two_places_counts_once(keys: Keys, folder: Path, path: Path, places: tuple[str, ...]) -> None:
    (folder / "below").mkdir()
    for name in ("a.swx", "below/b.swx"):
        seal(keys, folder / name)
    where = [str(folder / place) for place in places]
    options: dict[str, Any] = {"sources": keys.old, "to": [keys.new], "contexts": CONTEXTS, "digests": None}
    planned = fleet.plan(path, where, session=keys.lab.session(), **options)
    assert (planned.objects, planned.stale, planned.kms_calls, planned.digests) == (2, 2, 2, 2)
    assert [count for _, count in planned.frequent] == [2]
    assert planned.empty == ()
    done = run(keys, path)
    assert (done.rewrapped, done.count("fresh"), done.empty) == (2, 0, ())
    fleet.refresh(path, session=keys.lab.session())
    proven = fleet.verify(path)
    assert proven.checked is not None
    assert (proven.objects, proven.rewrapped, proven.checked.digests, proven.checked.gone) == (2, 2, 2, 0)
