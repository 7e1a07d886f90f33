"""``sealwax migrate``: what other programs encrypted becomes envelopes; the rest is left alone, with a reason."""

from __future__ import annotations

import base64
import fcntl
import io
import json
import os
import resource
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax._core import moving
from sealwax._core.foreign.rules import ForeignRules
from sealwax._core.moved import Moved
from sealwax.cli import run
from sealwax.cli.move_journal import MoveJournal
from tests.foreign import mixed, scripts
from tests.foreign.mixed import ALLOWED, Sample
from tests.foreign.objects import CONTEXT, C, World
from tests.s3 import Request, error

pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*streaming_client:pytest.PytestUnraisableExceptionWarning"
)
MOVE = ("migrate", "-k", "alias/old", "--to", "alias/new", *C)
ENVKMS = ("--allow-legacy", "envkms01")
JOURNAL = Path("sealwax-migrate.journal")

FOUND_BY_KMS = ("TamperedError", "CommitmentError", "WrongKeyError")

Err = Callable[[], str]
Messages = dict[str, Sample]


@pytest.fixture(scope="module")
def messages(whole: World) -> Messages:
    return mixed.messages(whole)


def told(capfd: pytest.CaptureFixture[str]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What --json said of each file, by name, and the summary."""
    *lines, summary = map(json.loads, capfd.readouterr().out.splitlines())
    return {line["path"]: line for line in lines}, summary["summary"]


def opened(world: World, place: str | Path, context: dict[str, str] = CONTEXT) -> bytes:
    name = str(place)
    if name.startswith("s3://bucket/"):
        return world.under_new.decrypt(world.body(name.removeprefix("s3://bucket/")), context=context)
    return world.under_new.decrypt(Path(place).read_bytes(), context=context)


def check_told(
    samples: dict[str, Sample], said: dict[str, dict[str, Any]], root: str, done: str, *, planned: bool = False
) -> Counter[str]:
    """Hold what was said of each file against what it is; return how many came to what.

    A plan sees no plaintext: what does not authenticate is found by the run.
    """
    counts: Counter[str] = Counter()
    for name, sample in samples.items():
        line = said[f"{root}{name}"]
        if sample.plaintext is not None:
            assert (line["outcome"], line["format"]) == (done, sample.format), line
        elif line["outcome"] == "skipped":
            assert line["message"] == sample.refusal, line
        elif planned and line["outcome"] == done:
            assert sample.refusal in FOUND_BY_KMS, line
        else:
            assert sample.refusal in ("", line["error"]), line
            assert line["outcome"] == "failed"
            assert line["message"]
        counts[line["outcome"]] += 1
    return counts


def check_run(
    world: World, samples: dict[str, Sample], arguments: tuple[str, ...], root: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Plan, migrate, and migrate again: counts add up, plaintexts are equal, and nothing is done twice."""
    movable = {name: sample for name, sample in samples.items() if sample.plaintext is not None}
    capfd.readouterr()
    assert run([*arguments, "--json", "--dry-run"]) == 8
    before = world.calls()
    planned = check_told(samples, told(capfd)[0], root, "would be migrated", planned=True)
    assert not JOURNAL.exists()
    assert run([*arguments, "--json"]) == 8
    said, summary = told(capfd)
    counts = check_told(samples, said, root, "migrated")
    assert counts["migrated"] == len(movable) == summary["done"]["migrated"]
    assert planned["would be migrated"] >= counts["migrated"]
    assert (
        planned["skipped"]
        == counts["skipped"]
        == summary["skipped"].pop("already an envelope") + sum(summary["skipped"].values())
    )
    assert counts["failed"] == summary["failed"]
    assert sum(counts.values()) == len(samples)
    assert before != world.calls()
    envelopes = {}
    for name, sample in movable.items():
        context = {} if name == "guide" else CONTEXT
        envelopes[name] = (
            world.body(f"{root}{name}.swx".removeprefix("s3://bucket/"))
            if root.startswith("s3")
            else (Path(f"{root}{name}.swx").read_bytes())
        )
        assert opened(world, f"{root}{name}.swx", context or CONTEXT) == sample.plaintext, name
    assert run([*arguments, "--json"]) == 8
    said, summary = told(capfd)
    again = check_told({name: samples[name] for name in movable}, said, root, "already migrated")
    assert again == {"already migrated": len(movable)}
    assert summary["failed"] == counts["failed"]
    for name, data in envelopes.items():
        place = f"{root}{name}.swx"
        assert data == (
            world.body(place.removeprefix("s3://bucket/")) if root.startswith("s3") else Path(place).read_bytes()
        )


def test_a_mixed_folder(world: World, capfd: pytest.CaptureFixture[str], messages: Messages) -> None:
    samples = mixed.files(world, messages)
    Path("in").mkdir()
    for name, sample in samples.items():
        (Path("in") / name).write_bytes(sample.data)
    check_run(world, samples, (*MOVE, *ALLOWED, "-r", "in"), "in/", capfd)
    for name, sample in samples.items():
        assert (Path("in") / name).read_bytes() == sample.data, "an original changed"
    assert sorted(path.name for path in Path().iterdir()) == ["in", str(JOURNAL)]
    # What was migrated is removed, and nothing else.
    assert run([*MOVE, *ALLOWED, "-r", "--remove", "--json", "in"]) == 8
    assert told(capfd)[1]["done"] == {"removed": 24}
    left = {name for name, sample in samples.items() if sample.plaintext is None}
    assert {path.name for path in Path("in").iterdir() if path.suffix != ".swx"} == left
    for name, sample in samples.items():
        if sample.plaintext is not None:
            assert opened(world, f"in/{name}.swx") == sample.plaintext


def test_a_mixed_bucket(world: World, capfd: pytest.CaptureFixture[str], messages: Messages) -> None:
    samples = mixed.objects(world, messages, "in/")
    before = world.state()
    check_run(world, samples, (*MOVE, *ALLOWED, "-r", "s3://bucket/in/"), "s3://bucket/in/", capfd)
    after = world.state()
    assert {name: after[name] for name in before} == before, "an original changed"
    assert len(after) == len(before) + 29
    assert run([*MOVE, *ALLOWED, "-r", "--remove", "--json", "s3://bucket/in/"]) == 8
    assert told(capfd)[1]["done"] == {"removed": 29}
    left = {each["Key"] for each in world.s3.list_objects_v2(Bucket="bucket")["Contents"]}
    moved = [name for name, sample in samples.items() if sample.plaintext is not None]
    assert not {f"in/{name}" for name in (*moved, "v2 beside.instruction", "v3 beside.instruction")} & left
    assert {f"in/{name}.swx" for name in moved} <= left


def test_what_was_not_authentic_or_signed_is_told(world: World, err: Err, messages: Messages) -> None:
    Path("signed").write_bytes(messages["esdk-0578-True"].data)
    Path("old").write_bytes(messages["esdk-0378-False"].data)
    Path("guide").write_bytes(scripts.guide(world.lab, "alias/old", b"text"))
    before = world.calls()
    assert run([*MOVE, "signed"]) == 4
    assert "an envelope cannot prove who made it; to migrate it without its signature, use --drop-signature" in err()
    for more in ((), ("--drop-signature",)):
        assert run([*MOVE, *more, "old"]) == 4
    assert "use --allow-legacy esdk-0378" in err()
    assert run([*MOVE, "guide"]) == 4
    assert "to read it as one, use --format boto3-fernet" in err()
    assert world.calls() == before
    assert not list(Path().glob("*.swx"))
    assert run([*MOVE, "--drop-signature", "signed"]) == 0
    assert "its signature was verified, and the envelope has none" in err()
    assert run([*MOVE, "--drop-signature", "--allow-legacy", "esdk-0378", "old"]) == 0
    assert "did not commit to a data key" in err()
    assert run([*MOVE, "--format", "boto3-fernet", "guide"]) == 0
    assert "it was bound to no context" in err()
    assert opened(world, "guide.swx") == b"text"


@pytest.mark.parametrize(
    ("context", "why"),
    [
        ({f"n{number}": "v" for number in range(65)}, "65 pairs; at most 64"),
        ({f"n{number}": "v" * 900 for number in range(10)}, "larger than 8192 bytes"),
        ({"a": "1", "A": "2"}, "differ only in upper and lower case"),
        ({"sealwax-use": "x"}, "reserved"),
    ],
)
def test_contexts_that_no_envelope_has(world: World, err: Err, context: dict[str, str], why: str) -> None:
    text = json.dumps(context).encode()
    Path("x").write_bytes(b"ENVKMS01" + scripts.sized(b"w" * 100) + scripts.sized(text) + bytes(40))
    before = world.calls()
    assert run(["migrate", "-k", "alias/old", "--to", "alias/new", *ENVKMS, "--accept-stored-context", "x"]) == 6
    said = err()
    assert "it cannot become an envelope" in said
    assert why in said
    assert world.calls() == before
    assert not Path("x.swx").exists()


def test_no_plaintext_is_anywhere_before_the_end_is_authentic(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    marked = b"a secret that can be looked for " * 10_000
    for name, data in {
        "script": scripts.envkms(world.lab, "alias/old", marked, CONTEXT),
        "guide": scripts.guide(world.lab, "alias/old", marked),
    }.items():
        Path("x").write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if name == "script" else data[:-4] + b"AAAA")
        assert run([*MOVE, *ENVKMS, "--format", "boto3-fernet", "x"]) == 5
        assert sorted(path.name for path in Path().iterdir()) == [str(JOURNAL), "x"]
        assert not list((tmp_path / "tmp").iterdir())
        assert marked[:32] not in JOURNAL.read_bytes()


# --- the journal, and what is at the target's place


def script(world: World, data: bytes = b"data") -> bytes:
    return scripts.envkms(world.lab, "alias/old", data, CONTEXT)


def test_a_target_that_the_journal_does_not_know(world: World, err: Err) -> None:
    Path("x").write_bytes(script(world))
    Path("x.swx").write_bytes(b"somebody's")
    before = world.calls()
    assert run([*MOVE, *ENVKMS, "x"]) == 1
    assert "'x.swx' already exists, and the journal does not know it; move that file away, or write elsewhere" in err()
    assert world.calls() == before
    assert Path("x.swx").read_bytes() == b"somebody's"


@pytest.mark.parametrize("other", [b"somebody's", None])
def test_a_target_that_was_replaced(world: World, err: Err, other: bytes | None) -> None:
    Path("x").write_bytes(script(world))
    assert run([*MOVE, *ENVKMS, "x"]) == 0
    if other is None:
        sealer = sealwax.Sealer(sealwax.KmsKeyring(world.new, session=world.lab.session()))
        other = sealer.encrypt(b"data", context=CONTEXT)
    Path("x.swx").write_bytes(other)
    for more in ((), ("--remove",)):
        assert run([*MOVE, *ENVKMS, *more, "x"]) == 1
        assert "'x.swx' is not the envelope that was written for it" in err()
    assert Path("x.swx").read_bytes() == other
    assert Path("x").exists()


def test_a_target_that_was_rewrapped_is_still_the_same(world: World, err: Err) -> None:
    Path("x").write_bytes(script(world))
    assert run([*MOVE, *ENVKMS, "x"]) == 0
    assert run(["rewrap", "-k", "alias/new", "--to", "alias/old", *C, "x.swx"]) == 0
    assert run([*MOVE, *ENVKMS, "x"]) == 0
    assert "already migrated" in err()


@pytest.mark.parametrize("more", [(), ("--remove",)])
def test_an_original_that_has_changed(world: World, err: Err, more: tuple[str, ...]) -> None:
    Path("x").write_bytes(script(world))
    assert run([*MOVE, *ENVKMS, "x"]) == 0
    Path("x").write_bytes(script(world, b"news"))
    assert run([*MOVE, *ENVKMS, *more, "x"]) == 1
    advice = "it was not removed" if more else "move that envelope away to migrate it again"
    assert f"it has changed since 'x.swx' was written; {advice}" in err()
    assert Path("x").exists()
    assert opened(world, "x.swx") == b"data"


def test_a_corrected_context_is_no_envelope_of_the_first_one(world: World, err: Err) -> None:
    """A status of 0 would say that the envelope is bound to what was given now."""
    Path("g").write_bytes(scripts.guide(world.lab, "alias/old", b"data"))
    command = ("migrate", "-k", "alias/old", "--to", "alias/new", "--format", "boto3-fernet")
    assert run([*command, "-c", "purpose=wrong", "g"]) == 0
    before = world.calls()
    for more in ((), ("--dry-run",), ("--remove",)):
        assert run([*command, "-c", "purpose=backup", *more, "g"]) == 1
        assert "'g.swx' is bound to another context" in err()
    assert run([*command, "-c", "purpose=wrong", "--local-context", "purpose", "g"]) == 1
    assert world.calls() == before
    assert run([*command, "-c", "purpose=wrong", "g"]) == 0
    assert "already migrated" in err()


def test_an_object_that_has_changed(world: World, err: Err) -> None:
    world.put("x", b"data", instructions=True)
    assert run([*MOVE, "s3://bucket/x"]) == 0
    assert run([*MOVE, "s3://bucket/x"]) == 0
    assert "already migrated" in err()
    world.put("x", b"news", instructions=True)
    assert run([*MOVE, "--remove", "s3://bucket/x"]) == 1
    assert "it has changed since 's3://bucket/x.swx' was written" in err()
    assert opened(world, "s3://bucket/x.swx") == b"data"


def test_a_target_that_is_gone_is_written_again(world: World) -> None:
    Path("x").write_bytes(script(world))
    assert run([*MOVE, *ENVKMS, "x"]) == 0
    Path("x.swx").unlink()
    assert run([*MOVE, *ENVKMS, "--remove", "x"]) == 1
    assert run([*MOVE, *ENVKMS, "x"]) == 0
    assert opened(world, "x.swx") == b"data"
    assert run([*MOVE, *ENVKMS, "--remove", "x"]) == 0
    assert not Path("x").exists()


def test_the_name_of_a_new_journal_reaches_the_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power failure would leave envelopes that nobody knows."""
    Path("x").write_bytes(script(world))
    synced, sync = [], os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert run([*MOVE, *ENVKMS, "--into", "elsewhere", "x"]) == 0
    assert synced.index(str(Path.cwd())) < synced.index(str(Path.cwd() / "elsewhere"))


def test_elsewhere(world: World) -> None:
    for folder in ("in", "in/sub"):
        Path(folder).mkdir()
        (Path(folder) / "x").write_bytes(script(world, folder.encode()))
    for place in ("new/deep", "s3://bucket/new"):
        assert run([*MOVE, *ENVKMS, "-r", "--into", place, "in"]) == 0
        assert opened(world, f"{place}/x.swx") == b"in"
        assert opened(world, f"{place}/sub/x.swx") == b"in/sub"
    world.put("y", b"object")
    assert run([*MOVE, "--into", "new", "s3://bucket/y"]) == 0
    assert opened(world, "new/y.swx") == b"object"


def test_contexts_by_file_and_by_pattern(world: World) -> None:
    Path("in").mkdir()
    for name in ("a", "b"):
        (Path("in") / name).write_bytes(scripts.envkms(world.lab, "alias/old", name.encode(), {"path": name}))
        world.put(f"mail/{name}", name.encode(), {"id": f"message-{name}"})
    given = ("migrate", "-k", "alias/old", "--to", "alias/new", *ENVKMS, "-r")
    assert run([*given, "-c", "path={relpath}", "in"]) == 0
    assert opened(world, "in/b.swx", {"path": "b"}) == b"b"
    assert run([*given, "-c", "id=message-*", "s3://bucket/mail/"]) == 0
    assert opened(world, "s3://bucket/mail/b.swx", {"id": "message-b"}) == b"b"
    assert run([*given, "-c", "id=other-*", "--into", "n", "s3://bucket/mail/"]) == 6


@pytest.mark.parametrize(
    "arguments",
    [
        ("-",),
        (),
        ("--into", "", "x"),
        ("--into", "-", "x"),
        ("--into", "x", "x"),
        ("-o", "y", "x"),
        ("--force", "x"),
        ("--armor", "x"),
        ("--format", "other", "x"),
    ],
)
def test_usage(world: World, arguments: tuple[str, ...]) -> None:
    Path("x").write_bytes(b"x")
    before = world.calls()
    assert run([*MOVE, *arguments]) == 2
    assert world.calls() == before
    assert sorted(path.name for path in Path().iterdir()) == ["x"]


@pytest.mark.parametrize("data", [b"x\n", b'{"sealwax": "migrate", "version": 2}\n', b"{}\n{}\n", b"\xff\n", b"x"])
def test_a_file_that_is_no_journal(world: World, err: Err, data: bytes) -> None:
    Path("x").write_bytes(script(world))
    JOURNAL.write_bytes(data)
    for more in ((), ("--dry-run",)):
        assert run([*MOVE, *ENVKMS, *more, "x"]) == 1
        assert "is not a journal of sealwax migrate, or is damaged" in err()
    assert JOURNAL.read_bytes() == data
    assert not Path("x.swx").exists()


@pytest.mark.parametrize("line", ["{}", "[]", "x", '{"source": 1}', "[" * 5000])
def test_a_journal_with_a_damaged_line(world: World, err: Err, line: str) -> None:
    Path("x").write_bytes(script(world))
    assert run([*MOVE, *ENVKMS, "x"]) == 0
    with JOURNAL.open("a") as file:
        file.write(f"{line}\n")
    assert run([*MOVE, *ENVKMS, "x"]) == 1
    assert "is not a journal of sealwax migrate, or is damaged" in err()


def test_a_journal_that_others_may_write_or_that_is_in_use(world: World, err: Err) -> None:
    Path("x").write_bytes(script(world))
    assert run([*MOVE, *ENVKMS, "--journal", "j", "x"]) == 0
    Path("j").chmod(0o666)
    assert run([*MOVE, *ENVKMS, "--journal", "j", "x"]) == 1
    assert "everybody may write to it" in err()
    Path("j").chmod(0o600)
    with Path("j").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run([*MOVE, *ENVKMS, "--journal", "j", "x"]) == 1
        assert "is in use by another run" in err()


@pytest.mark.parametrize("cut", [1, 10, 50])
def test_a_line_that_a_killed_run_did_not_finish(world: World, cut: int) -> None:
    for name in ("x", "y"):
        Path(name).write_bytes(script(world))
        assert run([*MOVE, *ENVKMS, name]) == 0
    Path("y.swx").unlink()  # killed before it was in its place
    JOURNAL.write_bytes(JOURNAL.read_bytes()[:-cut])
    for _ in range(2):
        assert run([*MOVE, *ENVKMS, "x", "y"]) == 0
    assert opened(world, "y.swx") == b"data"
    assert JOURNAL.read_bytes().count(b"\n") == 3


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    first, second, third = (Moved(name, f"{name}.swx", "file 1 2 3", "0" * 96) for name in ("x", "y", "z"))
    path = tmp_path / "j"
    journal = MoveJournal(str(path), writes=True)
    journal.add(first)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, limits[1]))
    try:
        with pytest.raises(sealwax.FileError, match="writing the journal"):
            journal.add(second)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.add(third)
    journal.close()
    assert [json.loads(line)["source"] for line in path.read_bytes().splitlines()[1:]] == ["x", "z"]


def test_a_pattern_is_no_context_to_bind(world: World, err: Err) -> None:
    """The guide's file stores no context: the envelope would be bound to the pattern itself."""
    Path("x").write_bytes(scripts.guide(world.lab, "alias/old", b"data"))
    before = world.calls()
    for more in ((), ("--dry-run",)):
        given = ("--format", "boto3-fernet", "-c", "tenant=a*", *more)
        assert run(["migrate", "-k", "alias/old", "--to", "alias/new", *given, "x"]) == 6
        assert "stores no context, so there is nothing for a pattern to match" in err()
    assert world.calls() == before
    assert not Path("x.swx").exists()


def test_advice_names_the_options_that_there_are(world: World, err: Err) -> None:
    for name in ("x", "y", "in/z", "other/z"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(script(world))
    Path("x.swx").symlink_to("nowhere")
    Path("y.swx").mkdir()
    for arguments in (("x",), ("y",), ("--into", "new", "in/z", "other/z"), ("--dry-run", "--into", "x/new", "in/z")):
        assert run([*MOVE, *ENVKMS, *arguments]) in (1, 8)
        said = err()
        assert "with --into" in said
        assert "-o" not in said.split()
    assert run([*MOVE, *ENVKMS, "--into", "", "x"]) == 2
    assert "--into is empty" in err()


# --- removing


def test_originals_are_compared_before_they_are_removed(world: World, err: Err) -> None:
    """Somebody has put other data below the envelope's own header, with its key: only the data tell."""
    Path("x").write_bytes(script(world, b"right"))
    Path("y").write_bytes(script(world, b"wrong"))
    assert run([*MOVE, *ENVKMS, "x", "y"]) == 0
    head, first, second = JOURNAL.read_bytes().splitlines()
    # As if x's envelope had been written for y.
    shutil.copyfile("x.swx", "y.swx")
    changed = {**json.loads(second), "witness": json.loads(first)["witness"]}
    JOURNAL.write_bytes(b"\n".join([head, first, json.dumps(changed).encode(), b""]))
    assert run([*MOVE, *ENVKMS, "--remove", "x", "y"]) == 8
    assert "'y.swx' holds other data; nothing was removed" in err()
    assert not Path("x").exists()
    assert Path("y").exists()


def test_an_envelope_that_is_damaged_keeps_its_original(world: World) -> None:
    Path("x").write_bytes(script(world, os.urandom(100_000)))
    assert run([*MOVE, *ENVKMS, "x"]) == 0
    data = bytearray(Path("x.swx").read_bytes())
    data[-100] ^= 1
    Path("x.swx").write_bytes(data)
    assert run([*MOVE, *ENVKMS, "--remove", "x"]) == 5
    assert Path("x").exists()


def test_links_are_not_removed(world: World, err: Err) -> None:
    Path("real").write_bytes(script(world))
    Path("x").symlink_to("real")
    assert run([*MOVE, *ENVKMS, "x"]) == 0
    assert run([*MOVE, *ENVKMS, "--remove", "x"]) == 1
    assert "it is a link" in err()
    assert Path("x").is_symlink()


def test_a_dry_run_removes_nothing(world: World, err: Err) -> None:
    Path("x").write_bytes(script(world))
    assert run([*MOVE, *ENVKMS, "--remove", "x"]) == 1
    assert "it has no envelope yet; migrate it first, without --remove" in err()
    assert run([*MOVE, *ENVKMS, "x"]) == 0
    before = world.calls()
    assert run([*MOVE, *ENVKMS, "--remove", "--dry-run", "x"]) == 0
    assert "would be removed" in err()
    assert run([*MOVE, *ENVKMS, "-c", "more=x", "--remove", "--dry-run", "x"]) == 6
    assert world.calls() == before
    assert Path("x").exists()


def test_what_was_removed_is_known(world: World, err: Err) -> None:
    for name in ("x", "y"):
        Path(name).write_bytes(script(world))
    world.put("z", b"data")
    names = ("x", "y", "s3://bucket/z")
    assert run([*MOVE, *ENVKMS, *names]) == 0
    assert run([*MOVE, *ENVKMS, "--remove", names[0], names[2]]) == 0
    for more in ((), ("--remove",), ("--remove",)):
        assert run([*MOVE, *ENVKMS, *more, *names]) == 0
        assert "removed before" in err()
    # Neither the original nor its envelope, or another one: that is no success.
    Path("x.swx").unlink()
    Path("y.swx").write_bytes(b"somebody's")
    world.s3.delete_object(Bucket="bucket", Key="z.swx")
    for name in names:
        assert run([*MOVE, *ENVKMS, "--remove", name]) != 0
        assert "removed before" not in err()


def test_objects_are_removed_under_a_condition(world: World) -> None:
    made = world.put("x", b"data", instructions=True)
    assert run([*MOVE, "s3://bucket/x"]) == 0
    assert made.instructions is not None
    world.server.forget()

    def written_meanwhile(request: Request) -> Any:
        """Another program writes the object after it was compared: S3 then refuses."""
        is_delete = request.operation == "DeleteObject"
        return error(412, "PreconditionFailed") if is_delete and "if-match" in request.headers else None

    with world.server.fault(written_meanwhile):
        assert run([*MOVE, "--remove", "s3://bucket/x"]) == 1
    assert world.body("x") == made.body
    assert run([*MOVE, "--remove", "s3://bucket/x"]) == 0
    deletes = [request for request in world.server.requests if request.operation == "DeleteObject"]
    assert [(request.path, "if-match" in request.headers) for request in deletes] == [
        ("/bucket/x", True),
        ("/bucket/x", True),
        ("/bucket/x.instruction", True),
    ]


@pytest.mark.parametrize("again", [("-r", "s3://bucket/in/"), ("s3://bucket/in/a", "s3://bucket/in/b")])
def test_instruction_files_go_with_their_objects(world: World, err: Err, again: tuple[str, ...]) -> None:
    for name in ("a", "b"):
        world.put(f"in/{name}", b"data", instructions=True)
    given = (*MOVE, "--into", "s3://bucket/new")
    assert run([*given, "-r", "s3://bucket/in/"]) == 0

    def stopped(request: Request) -> Any:
        is_rest = request.operation == "DeleteObject" and request.path == "/bucket/in/b.instruction"
        return error(403, "AccessDenied") if is_rest else None

    with world.server.fault(stopped):
        assert run([*given, "--remove", "-r", "s3://bucket/in/"]) == 8
    assert "removing 's3://bucket/in/b.instruction' failed" in err()

    def left() -> list[str]:
        return [each["Key"] for each in world.s3.list_objects_v2(Bucket="bucket")["Contents"]]

    assert left() == ["in/b.instruction", "new/a.swx", "new/b.swx"]
    world.s3.put_object(Bucket="bucket", Key="in/a.instruction", Body=b"of another program")
    assert run([*given, *again]) == 0
    assert run([*given, "--remove", "--dry-run", *again]) == 0
    assert "in/b.instruction" in left()
    assert run([*given, "--remove", *again]) == 0
    assert left() == ["in/a.instruction", "new/a.swx", "new/b.swx"]


def test_an_instruction_file_that_changes_while_it_is_compared(world: World, err: Err) -> None:
    world.put("x", b"data", instructions=True)
    assert run([*MOVE, "s3://bucket/x"]) == 0

    def changed(request: Request) -> Any:
        if request.operation == "DeleteObject" and request.path == "/bucket/x":
            world.s3.put_object(Bucket="bucket", Key="x.instruction", Body=b"of another program")

    with world.server.fault(changed):
        assert run([*MOVE, "--remove", "s3://bucket/x"]) == 1
    told = err()
    assert "it was removed; its instruction file has changed while it was compared, and was left" in told
    assert "left alone" not in told
    assert world.body("x.instruction") == b"of another program"


# --- S3 fails at each request


def test_every_request_may_be_the_last(world: World) -> None:
    made = world.put("x", b"data", instructions=True)
    completed = at = 0
    while not completed:
        world.begin(versioned=True)
        JOURNAL.unlink(missing_ok=True)
        made.put(world.s3, "x")
        originals = world.state()
        left = at

        def broken(_: Request) -> Any:
            nonlocal left
            left -= 1
            return error(403, "AccessDenied") if left < 0 else None

        with world.server.fault(broken):
            completed = run([*MOVE, "s3://bucket/x"]) == 0
        assert {name: state for name, state in world.state().items() if name in originals} == originals
        assert run([*MOVE, "s3://bucket/x"]) == 0
        assert opened(world, "s3://bucket/x.swx") == b"data"
        assert len(world.s3.list_object_versions(Bucket="bucket", Prefix="x.swx")["Versions"]) == 1
        at += 1
    assert at > 4


LINES: dict[str, Callable[[bytes], bytes]] = {
    "one line": base64.b64encode,
    "a final newline": lambda data: base64.b64encode(data) + b"\n",
    "as mail breaks it": lambda data: base64.encodebytes(data).replace(b"\n", b"\r\n"),
    "blanks first": lambda data: b"\n  " + base64.b64encode(data),
    "for URLs": base64.urlsafe_b64encode,
    "without padding": lambda data: base64.urlsafe_b64encode(data).rstrip(b"="),
}


@pytest.mark.parametrize("place", ["", "s3://bucket/"])
def test_messages_in_base64(world: World, messages: Messages, place: str, capfd: pytest.CaptureFixture[str]) -> None:
    """They are moved as what they hold, and removed once both were read; what only begins like one is left alone."""
    sample = next(each for each in messages.values() if each.format == "esdk-0478" and each.plaintext)
    assert len(sample.data) % 3, "it needs padding"
    texts = {f"{number}": form(sample.data) for number, form in enumerate(LINES.values())}
    texts |= {"cut": base64.b64encode(sample.data)[:-24], "not base64": base64.b64encode(sample.data) + b" and more!"}
    for name, text in texts.items():
        if place:
            world.s3.put_object(Bucket="bucket", Key=f"b/{name}", Body=text)
        else:
            Path("b").mkdir(exist_ok=True)
            Path("b", name).write_bytes(text)
    calls = len(world.calls())
    assert run([*MOVE, "--dry-run", "--json", "-r", f"{place}b/"]) == 8
    said, _ = told(capfd)
    assert "Decrypt" not in world.calls()[calls:]
    assert [said[f"{place}b/{at}"]["outcome"] for at in range(len(LINES))] == ["would be migrated"] * len(LINES)
    assert run([*MOVE, "-r", f"{place}b/"]) == 8
    out, err = capfd.readouterr()
    assert not out
    assert "it was text in base64, and the envelope is binary" in err
    for at in range(len(LINES)):
        assert opened(world, f"{place}b/{at}.swx") == sample.plaintext
    assert f"{place}b/cut: " in err
    assert not Path("b", "cut.swx").exists()
    assert run([*MOVE, "--remove", "--json", "-r", f"{place}b/"]) == 8
    said, _ = told(capfd)
    assert [said[f"{place}b/{at}"]["outcome"] for at in range(len(LINES))] == ["removed"] * len(LINES)
    assert said[f"{place}b/not base64"]["outcome"] in ("failed", "skipped")


def test_a_text_that_is_an_object_of_the_client_is_not_a_message(world: World, messages: Messages, err: Err) -> None:
    """Its metadata, or a file of instructions beside it, say otherwise: no side is preferred."""
    sample = next(each for each in messages.values() if each.format == "esdk-0478" and each.plaintext)
    text = base64.b64encode(sample.data)
    fields, apart = world.make(text), world.make(text, version=2, instructions=True)
    fields.body = apart.body = text
    fields.put(world.s3, "fields")
    apart.metadata = {}
    apart.put(world.s3, "apart")
    before = set(world.state())
    for name in ("fields", "apart"):
        assert run([*MOVE, "--allow-legacy", "s3ec-v2", f"s3://bucket/{name}"]) in (4, 5)
        assert "sealwax: s3://bucket" in err()
    assert set(world.state()) == before


def test_a_file_that_gets_more_context_after_it_was_looked_at(whole: World) -> None:
    """Its envelope would be bound to less than what was read."""
    rules = ForeignRules(frozenset(["envkms01"]), frozenset())
    file = io.BytesIO(scripts.envkms(whole.lab, "alias/old", b"data", CONTEXT))
    original = moving.look(file, rules)
    assert original is not None
    file.seek(0)
    file.write(scripts.envkms(whole.lab, "alias/old", b"data", {**CONTEXT, "more": "x"}))
    file.seek(0)
    reader = sealwax.Sealer(sealwax.KmsKeyring(whole.old, session=whole.lab.session()), allow_legacy=["envkms01"])
    given = sealwax.AcceptStoredContext(CONTEXT)
    with pytest.raises(sealwax.ContextError):
        reader.open_stream(original.message, context=moving.to_read(original.movable, given))
