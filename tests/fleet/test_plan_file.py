"""The plan file: what is none, what is damaged, and what a run leaves beside it."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax import fleet
from sealwax._core.envelope import Inspection
from sealwax.fleet._journal import Journal
from sealwax.fleet._shard import RunResult
from sealwax.fleet._state import State
from tests.fleet.fleets import ACME, CONTEXTS, Keys, Wrapping, full_disk, page_of, plan, run, seal, seal_many
from tests.foreign import samples


def test_a_plan_takes_nothing_of_a_killed_run_of_the_one_before(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 3)
    plan(keys, folder, path)
    beside = {}
    with Journal(path) as journal:
        # What SIGKILL would leave beside the plan now.
        journal.set_fact("where", ["/elsewhere"])
        journal.set_fact("older_than", "x" * 9000)
        for suffix in ("-wal", "-shm"):
            beside[suffix] = Path(f"{path}{suffix}").read_bytes()
    for suffix, content in beside.items():
        Path(f"{path}{suffix}").write_bytes(content)
    plan(keys, folder, path, overwrite=True)
    assert fleet.status(path).locations == (str(folder),)
    assert run(keys, path).rewrapped == 3


def test_a_plan_that_a_run_works_on_is_not_replaced(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 1)
    plan(keys, folder, path)
    before = path.read_bytes()
    with Journal(path) as journal, journal.alone(), pytest.raises(sealwax.PlanError, match="another run"):
        plan(keys, folder, path, overwrite=True)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir() if "plan" in one.name or "part" in one.name] == [path.name]


def test_no_room_for_the_plan(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 5)
    target = path.parent / "no" / "such" / "folder.plan"
    with pytest.raises(sealwax.FileError, match=r"writing the plan '.*folder.plan' failed: No such file"):
        plan(keys, folder, target)
    with full_disk(20_000), pytest.raises(sealwax.FileError, match="using the plan"):
        Journal.create(path, path)


@pytest.mark.parametrize("content", [b"", b"no plan", b"no plan" * 1000, b"SQLite format 3\0" + bytes(100)])
def test_what_is_no_plan(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    for attempt in (fleet.status, fleet.run, fleet.verify, fleet.refresh, fleet.problems):
        with pytest.raises(sealwax.PlanError, match="is not a plan"):
            attempt(path)


def test_a_database_of_another_program_and_a_damaged_plan(keys: Keys, folder: Path, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE facts (a)")
    connection.close()
    with pytest.raises(sealwax.PlanError, match="another program"):
        fleet.status(path)
    path.unlink()
    seal_many(keys, folder, 20)
    plan(keys, folder, path)
    whole = path.read_bytes()
    refused = 0
    drawn = random.Random(1)
    for _ in range(200):
        at = drawn.randrange(16, len(whole))
        path.write_bytes(whole[:at] + drawn.randbytes(40) + whole[at + 40 :])
        try:
            fleet.status(path)
            fleet.problems(path)
        except (sealwax.PlanError, sealwax.FileError):
            refused += 1
    assert refused >= 10
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(sealwax.PlanError):
        fleet.status(path)


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("where", 5),
        ("where", [5]),
        ("where", ["a\0b"]),
        ("where", ["\ud800"]),
        ("rate", "x"),
        ("rate", -1),
        ("older_than", []),
        ("digests", "x"),
        ("kms_calls", None),
    ],
)
def test_a_plan_from_elsewhere_says_anything(keys: Keys, folder: Path, path: Path, fact: str, value: Any) -> None:
    plan(keys, folder, path)
    with Journal(path) as journal:
        journal.set_fact(fact, value)
    said = f"its {fact} is missing or not valid"
    if fact in ("rate", "kms_calls"):
        with pytest.raises(sealwax.PlanError, match=said):
            run(keys, path)
    else:
        with pytest.raises(sealwax.PlanError, match=said):
            fleet.refresh(path, session=keys.lab.session())


def test_a_second_look_at_a_plan_keeps_the_locks_of_the_first(keys: Keys, folder: Path, path: Path) -> None:
    """Else another process takes itself for the last one, and removes the log that this one goes on writing to."""
    plan(keys, folder, path)
    other = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(c.execute(sys.argv[2]).fetchall()); c.close()"

    def elsewhere(query: str) -> str:
        command = [sys.executable, "-c", other, str(path), query]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    with Journal(path) as journal:
        journal.set_fact("kms_calls", 1)
        fleet.status(path)
        elsewhere("SELECT 1 FROM facts")
        journal.set_fact("kms_calls", 2)
        assert elsewhere("SELECT value FROM facts WHERE name = 'kms_calls'") == "[('2',)]\n"


def test_a_plan_of_a_newer_release(keys: Keys, folder: Path, path: Path) -> None:
    plan(keys, folder, path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=9")
    connection.close()
    with pytest.raises(sealwax.PlanError, match="version 9"):
        fleet.status(path)


def test_results_and_settings_can_be_sent_to_other_processes(keys: Keys, folder: Path, path: Path) -> None:
    import pickle

    seal(keys, folder / "a.swx")
    settings = plan(keys, folder, path).settings
    assert pickle.loads(pickle.dumps(settings)) == settings
    result = RunResult(1, "a", State.REWRAPPED, keys=((keys.new, ""),))
    assert pickle.loads(pickle.dumps(result)) == result


COLUMNS = [
    ("facts", "value"),
    *(("items", column) for column in ("number", "place", "name", "size", "state", "reason", "reasons")),
    *(("items", column) for column in ("envelope", "digest", "keyset", "scan")),
    ("keysets", "keys"),
    ("unlisted", "message"),
    *(("units", column) for column in ("unit", "calls", "objects")),
    ("wrapped", "hash"),
    *(("contexts", column) for column in ("context", "objects")),
    *(("regions", column) for column in ("region", "objects")),
    ("old", "mark"),
    *(("answers", column) for column in ("unit", "arn", "ciphertext", "material", "wrapped_at")),
]
NUMBERS = [-1, 0, 2**63 - 1, 1.5, float("inf")]
TEXTS = ["", "x", "a\0b", "[]", "[[1]]", '[["a"]]', '{"a": 1}', b"", b"\0", b"\xff\xfe", b"[]"]


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_a_plan_from_elsewhere_has_anything_in_its_columns(
    keys: Keys, folder: Path, path: Path, table: str, column: str
) -> None:
    """Whatever stands there, every verb ends with a report, or with an error of its own kind."""
    sealed = keys.sealer(keys.one).encrypt(b"shared", context=ACME)
    for at in range(2):
        (folder / f"{at}.swx").write_bytes(sealed)
    seal(keys, folder / "fresh.swx", b"fresh", keys.new)
    plan(keys, folder, path, digests=None)
    with Journal(path) as journal:
        journal.record_unlisted("a folder")
        journal.set_old([b"mark"])
        with journal.writing() as connection:
            (unit,) = connection.execute("SELECT unit FROM units").fetchone()
            connection.execute("INSERT INTO regions VALUES ('eu-west-1', 1)")
        journal.put(unit, sealwax.WrappedKey(keys.new, b"answer", bytes(32), 1))
    whole = path.read_bytes()
    session = keys.lab.session()

    def look() -> None:
        found = fleet.status(path)
        assert str(found)
        assert page_of(found)
        json.dumps([found.as_dict(), fleet.problems(path)])

    verbs: list[Callable[[], object]] = [
        look,
        lambda: fleet.run(path, session=session),
        lambda: fleet.verify(path, session=session, decrypt=2),
        lambda: fleet.refresh(path, session=session),
    ]
    tried = 0
    for value in (*NUMBERS, *TEXTS):
        for verb in verbs:
            path.write_bytes(whole)
            connection = sqlite3.connect(path)
            with contextlib.suppress(sqlite3.IntegrityError):  # a number of a row is one
                connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ?", (value,))
            connection.commit()
            connection.close()
            with contextlib.suppress(sealwax.SealwaxError):
                verb()
            tried += 1
    assert tried == 64


def test_a_plan_among_its_objects_is_none_of_them(keys: Keys, folder: Path) -> None:
    """To open it besides SQLite would drop SQLite's locks on it: a second process then removes its log under way."""
    seal(keys, folder / "a.swx")
    link = folder.with_name("link")
    link.symlink_to(folder)
    path = folder / "rotation.plan"
    opened: set[str] = set()

    class Telling(Wrapping):
        def inspect(self, name: str) -> Inspection:
            opened.add(Path(name).name)
            return self.inner.inspect(name)

    for overwrite in (False, True):
        planned = plan(keys, link, path, overwrite=overwrite, open_location=Telling.around)
        assert (planned.objects, planned.stale) == (1, 1)
    run(keys, path)
    fleet.refresh(path, session=keys.lab.session(), open_location=Telling.around)
    proven = fleet.verify(path, open_location=Telling.around)
    assert proven.checked is not None
    assert (proven.objects, proven.checked.gone, proven.done) == (1, 0, True)
    assert opened == {"a.swx"}


def test_a_place_without_a_name_is_not_the_folder_one_is_in(
    keys: Keys, folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in ``sealwax fleet plan ... "$DATA"`` where nobody has set it."""
    seal(keys, folder / "a.swx")
    monkeypatch.chdir(folder)
    options: dict[str, Any] = {"sources": keys.old, "to": [keys.new], "contexts": CONTEXTS}
    with pytest.raises(sealwax.FileError, match="opening '' failed"):
        fleet.plan(path, [""], session=keys.lab.session(), **options)
    assert not path.exists()
    assert fleet.plan(path, ["."], session=keys.lab.session(), **options).stale == 1


def test_a_plan_that_is_replaced_before_it_is_held_is_not_run(keys: Keys, folder: Path, path: Path) -> None:
    seal(keys, folder / "a.swx")
    plan(keys, folder, path)
    with Journal(path) as journal:
        plan(keys, folder, path, overwrite=True)
        with pytest.raises(sealwax.PlanError, match="was replaced just now; run this again"), journal.alone():
            raise AssertionError
    assert not path.with_name("rotation.plan.lock").exists()
    assert run(keys, path).rewrapped == 1


def test_a_plan_of_a_release_that_knew_no_formats_is_read(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 1)
    (folder / "x").write_bytes(samples.esdk(("aws-kms", keys.one)))
    assert plan(keys, folder, path).formats == {"esdk-v2": 1}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE items SET reasons = '' WHERE state = 'foreign'")
        connection.commit()
    found = fleet.status(path)
    assert (found.formats, found.as_dict()["formats"], found.count("foreign")) == ({"": 1}, {"unknown": 1}, 1)
    assert run(keys, path).rewrapped == 1
    assert fleet.verify(path).formats == {"esdk-v2": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP TABLE old", "it lacks old.mark"),
        ("ALTER TABLE items DROP COLUMN digest", "it lacks items.digest"),
        ("ALTER TABLE answers RENAME COLUMN material TO materials", "it lacks answers.material"),
        ("ALTER TABLE items ADD COLUMN etag TEXT", "it has items.etag"),
        ("CREATE TABLE newer (a)", "it has newer.a"),
        ("DELETE FROM facts WHERE name = 'where'", "it lacks its where"),
        ("UPDATE facts SET value = json_remove(value, '$.reencrypt') WHERE name = 'settings'", "lack reencrypt"),
        ("UPDATE facts SET value = json_remove(value, '$.wanted[0].arn') WHERE name = 'settings'", "lack arn"),
    ],
)
def test_a_plan_of_another_build_of_this_version(keys: Keys, folder: Path, path: Path, change: str, said: str) -> None:
    plan(keys, folder, path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(change)
        connection.commit()
    session = keys.lab.session()
    for attempt in (
        lambda: fleet.status(path),
        lambda: fleet.run(path, session=session),
        lambda: fleet.verify(path, session=session),
        lambda: fleet.refresh(path, session=session),
    ):
        with pytest.raises(sealwax.PlanError) as caught:
            attempt()
        assert f"the plan '{path}' is from another build of sealwax" in str(caught.value)
        assert said in str(caught.value)
        assert "plan again with this build" in str(caught.value)
        assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("change", ["DROP TABLE old", "PRAGMA user_version=1", "others may write", "damaged"])
def test_a_plan_that_cannot_be_read_is_not_replaced(keys: Keys, folder: Path, path: Path, change: str) -> None:
    """Nobody else has what its runs have noted."""
    plan(keys, folder, path)
    if change == "others may write":
        path.chmod(0o666)
    elif change == "damaged":
        path.write_bytes(path.read_bytes()[:100] + bytes(5000))
    else:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(change)
            connection.commit()
    before = path.read_bytes()
    with pytest.raises(sealwax.PlanError, match="move it away, or choose another name for the new plan"):
        plan(keys, folder, path, overwrite=True)
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".sealwax-*"))


def test_a_plan_with_a_state_that_does_not_exist_is_damaged(keys: Keys, folder: Path, path: Path) -> None:
    seal(keys, folder / "a.swx")
    plan(keys, folder, path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE items SET state = 'unheard-of'")
        connection.commit()
    with pytest.raises(sealwax.PlanError, match=r"is damaged \(unknown state 'unheard-of'\); plan again"):
        fleet.status(path)


def test_the_suffix_does_not_select_objects(keys: Keys, folder: Path, path: Path) -> None:
    """It is what {relpath} and {name} leave off: an envelope of any other name would stay stale unnoticed."""
    seal(keys, folder / "a.swx", context={"name": "a"})
    seal(keys, folder / "b", context={"name": "b"})
    contexts = fleet.Contexts({"name": "{name}"}, suffix=".swx")
    assert plan(keys, folder, path, contexts=contexts).stale == 2
    contexts = fleet.Contexts({"name": "{name}"}, suffix=".sealed")
    planned = plan(keys, folder, path, contexts=contexts, overwrite=True)
    assert (planned.stale, planned.count("skipped")) == (1, 1)


def test_a_plan_that_exists_is_not_replaced_by_itself(keys: Keys, folder: Path, path: Path) -> None:
    seal(keys, folder / "a.swx")
    plan(keys, folder, path)
    before = path.read_bytes()
    with pytest.raises(sealwax.FileError, match="already exists; pass overwrite=True") as caught:
        plan(keys, folder, path)
    assert isinstance(caught.value.__cause__, FileExistsError)
    assert path.read_bytes() == before


def test_an_envelope_is_not_replaced_by_a_plan(keys: Keys, folder: Path) -> None:
    seal(keys, folder / "a.swx")
    before = (folder / "a.swx").read_bytes()
    with pytest.raises(sealwax.FileError, match="only a plan is replaced"):
        plan(keys, folder, folder / "a.swx", overwrite=True)
    assert (folder / "a.swx").read_bytes() == before
    assert [each.name for each in folder.iterdir()] == ["a.swx"]
