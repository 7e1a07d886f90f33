"""Fleets that move: what other programs encrypted becomes envelopes, and the counts say what became of everything."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax import fleet
from sealwax._core.moved import Moved
from sealwax.cli import run
from sealwax.fleet._journal import Journal
from sealwax.fleet._moves import keep_memory
from sealwax.fleet._settings import Settings
from sealwax.fleet.spark import Spark
from tests.cli.shell import ROOT
from tests.foreign import mixed, scripts
from tests.foreign.mixed import Sample
from tests.foreign.objects import CONTEXT, C, World
from tests.s3 import Request, error
from tests.stores import test_inventory as inventories

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Exception ignored in.*streaming_client:pytest.PytestUnraisableExceptionWarning"),
]
KEYS = ("--from", "alias/old", "--to", "alias/new", *C)
PLAN = ("fleet", "plan", "--json", *KEYS, "-o", "plan")
MOVE = ("--move", "--also", "esdk,s3ec,envkms01")
ENVKMS = ("--allow-legacy", "envkms01")
# Nothing marks the file of the boto3 guide, so a fleet takes it for what it is not.
ALLOWED = tuple(word for word in mixed.ALLOWED if word not in ("--format", "boto3-fernet"))
COUNTED = ("stale", "skipped", "damaged", "foreign", "fresh", "moved")
DATA_KEYS = {"Decrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncrypt", "Encrypt"}

Err = Callable[[], str]


def told(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(capfd.readouterr().out)
    return answer


def asked(world: World) -> Counter[str]:
    """How often KMS was asked about data keys."""
    return Counter(call for call in world.calls() if call in DATA_KEYS)


def opened(world: World, place: str | Path) -> bytes:
    sealer = sealwax.Sealer(sealwax.KmsKeyring(world.new, session=world.lab.session()))
    name = str(place)
    s3 = name.startswith("s3://bucket/")
    data = world.body(name.removeprefix("s3://bucket/")) if s3 else Path(place).read_bytes()
    return sealer.decrypt(data, context=CONTEXT)


def script(world: World, data: bytes = b"data", context: dict[str, str] = CONTEXT) -> bytes:
    return scripts.envkms(world.lab, "alias/old", data, context)


# --- everything that a folder or a bucket can hold


@pytest.fixture(scope="module")
def messages(whole: World) -> dict[str, Sample]:
    return mixed.messages(whole)


def check_mixed(
    world: World,
    samples: dict[str, Sample],
    where: str,
    read: Callable[[str], bytes],
    capfd: pytest.CaptureFixture[str],
) -> dict[str, Any]:
    """Plan, run, run again and verify. Counts add up, plaintexts are equal, and nothing is done twice."""
    movable = {name: sample for name, sample in samples.items() if sample.plaintext is not None and name != "guide"}
    broken = {name for name, sample in samples.items() if sample.refusal in ("CommitmentError", "WrongKeyError")}
    broken |= {name for name, sample in samples.items() if sample.refusal == "TamperedError"} - {"changed token"}
    capfd.readouterr()
    before = asked(world)
    run([*PLAN, *MOVE, *ALLOWED, where])
    planned = told(capfd)
    assert asked(world) == before, "a plan asks KMS nothing about objects"
    assert sum(planned[name] for name in COUNTED) == planned["objects"] == len(samples)
    assert (planned["unreadable"], planned["moved"]) == (0, 0)
    # An envelope under the old key is among them.
    assert planned["stale"] == planned["objects_to_move"] + planned["failed"] + 1
    assert len(movable) <= planned["objects_to_move"] <= len(movable | dict.fromkeys(broken))
    assert sum(planned["stale_because"].values()) == planned["stale"]
    formats = Counter(sample.format for sample in movable.values())
    assert all(planned["stale_because"][name] >= count for name, count in formats.items())
    assert all(each["reason"] for each in planned["problems"])

    assert run(["fleet", "run", "--apply", "--json", "--max-error-rate", "1", "plan"]) == 8
    done = told(capfd)
    assert (done["moved"], done["rewrapped"], done["left"]) == (len(movable), 1, 0)
    assert sum(done[name] for name in COUNTED) == done["objects"] == len(samples)
    assert done["stale"] == done["failed"] == planned["failed"] + planned["objects_to_move"] - len(movable)
    envelopes = {name: read(f"{name}.swx") for name in movable}
    for name, sample in movable.items():
        assert opened(world, f"{where}{name}.swx") == sample.plaintext, name
        assert name.startswith("v") or read(name) == sample.data
    assert {name for name in samples if name not in movable and _is_there(read, f"{name}.swx")} == set()

    if not where.startswith("s3"):  # it would take many requests to learn the same
        run(["fleet", "run", "--apply", "--json", "--max-error-rate", "1", "plan"])
        again = told(capfd)
        assert (again["moved"], again["rewrapped"], again["failed"]) == (0, 0, done["failed"])
    assert run(["fleet", "verify", "--json", "plan"]) == 8
    verified = told(capfd)
    assert (verified["moved_unchanged"], verified["digests_changed"], verified["not_decrypted"]) == (
        len(movable),
        [],
        [],
    )
    assert verified["objects"] == len(samples) + len(movable)
    assert verified["fresh"] == len(movable) + 1
    assert {name: read(f"{name}.swx") for name in movable} == envelopes
    return planned


def _is_there(read: Callable[[str], bytes], name: str) -> bool:
    try:
        read(name)
    except Exception as missing:
        return "NoSuchKey" not in str(missing) and not isinstance(missing, FileNotFoundError)
    return True


def test_a_mixed_folder(world: World, capfd: pytest.CaptureFixture[str], messages: dict[str, Sample]) -> None:
    samples = mixed.files(world, messages)
    Path("in").mkdir()
    for name, sample in samples.items():
        (Path("in") / name).write_bytes(sample.data)
    planned = check_mixed(world, samples, "in/", lambda name: (Path("in") / name).read_bytes(), capfd)
    assert planned["skipped"] == 1, "other context"
    assert planned["formats"].keys() >= {"sops", "unknown"}
    # The plan is the journal of the removal.
    remove = ("migrate", "-k", "alias/old", "--to", "alias/new", *C, *ALLOWED, "--remove", "--journal", "plan")
    assert run([*remove, "--json", "-r", "in"]) == 8
    summary = json.loads(capfd.readouterr().out.splitlines()[-1])["summary"]
    assert summary["done"] == {"removed": 23}
    left = {path.name for path in Path("in").iterdir() if path.suffix != ".swx"}
    assert left == {name for name, sample in samples.items() if sample.plaintext is None or name == "guide"}
    run(["fleet", "verify", "--json", "plan"])
    verified = told(capfd)
    assert (verified["gone"], verified["moved"], verified["fresh"]) == (23, 0, 24)


def test_a_mixed_bucket(world: World, capfd: pytest.CaptureFixture[str], messages: dict[str, Sample]) -> None:
    samples = mixed.objects(world, messages, "in/")
    before = world.state()
    planned = check_mixed(world, samples, "s3://bucket/in/", lambda name: world.body(f"in/{name}"), capfd)
    assert planned["formats"]["s3ec-instruction-file"] == 2
    assert "encrypted with AES-CBC" in next(
        each["reason"] for each in planned["problems"] if each["name"].endswith("/cbc")
    )
    after = world.state()
    changed = {name.split(" ")[0] for name in before if after[name] != before[name]}
    assert changed == set(), "an original changed"


# --- what a plan refuses


def test_without_move_they_are_only_counted(
    world: World, messages: dict[str, Sample], capfd: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    Path("in/message").write_bytes(messages["esdk-0478-True"].data)
    Path("in/script").write_bytes(script(world))
    before = asked(world)
    assert run([*PLAN, "--also", "esdk", "in"]) == 8
    planned = told(capfd)
    assert (planned["failed"], planned["foreign"], planned["objects_to_move"]) == (1, 1, 0)
    assert "it cannot be re-wrapped, only moved into an envelope" in planned["problems"][0]["reason"]
    assert run(["fleet", "plan", "--force", *PLAN[3:], "--also", "esdk", "--also", "envkms01", "in"]) == 8
    said = " ".join(capfd.readouterr().out.split())
    assert "the plan does not move; plan again with --move" in said
    assert "next: to make envelopes of what cannot be re-wrapped, plan again with --move" in said
    run(["fleet", "run", "--apply", "--json", "plan"])
    assert told(capfd)["failed"] == 2
    assert asked(world) == before
    assert sorted(path.name for path in Path("in").iterdir()) == ["message", "script"]


def test_each_format_to_move_is_told(
    world: World, messages: dict[str, Sample], capfd: pytest.CaptureFixture[str]
) -> None:
    """With what is lost of it, and without what is refused."""
    Path("in").mkdir()
    for name in ("esdk-0578-True", "esdk-0578-False", "esdk-0378-True", "esdk-0478-True", "esdk-0178-True"):
        (Path("in") / name).write_bytes(messages[name].data)
    Path("in/script").write_bytes(script(world))
    allow = ("--drop-signature", *ENVKMS, "--allow-legacy", "esdk-0378")
    assert run([*PLAN, *MOVE, *allow, "in"]) == 8
    planned = told(capfd)
    assert planned["stale_because"]["esdk-0178"] == 1
    sizes = {name: len(messages[f"{name}-True"].data) for name in ("esdk-0478", "esdk-0378", "esdk-0578")}
    sizes["esdk-0578"] += len(messages["esdk-0578-False"].data)
    assert planned["to_move"] == {
        name: {"objects": 1 + (name == "esdk-0578"), "bytes": size}
        for name, size in {**sizes, "envkms01": Path("in/script").stat().st_size}.items()
    }
    assert planned["objects_to_move"] == 5
    assert planned["bytes_to_move"] == sum(each["bytes"] for each in planned["to_move"].values())
    assert run(["fleet", "run", "plan"]) == 8
    said = " ".join(capfd.readouterr().out.split())
    lost, old = "; signed: the signature is verified, and the envelope has none", "; does not commit to its data key"
    for count, name, notes in ((2, "esdk-0578", lost), (1, "esdk-0378", lost + old), (1, "esdk-0478", "")):
        assert f"{count} {name}, {sizes[name]:,} bytes{notes} " in said
    assert f"1 envkms01, {Path('in/script').stat().st_size:,} bytes{old} " in said


def test_what_has_to_be_allowed(world: World, messages: dict[str, Sample], capfd: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    Path("in/signed").write_bytes(messages["esdk-0578-True"].data)
    Path("in/old").write_bytes(messages["esdk-0178-True"].data)
    Path("in/both").write_bytes(messages["esdk-0378-True"].data)
    Path("in/script").write_bytes(script(world))
    large = {f"n{number}": "v" * 900 for number in range(10)} | CONTEXT
    Path("in/large").write_bytes(
        b"ENVKMS01" + scripts.sized(b"w" * 99) + scripts.sized(json.dumps(large).encode()) + bytes(40)
    )
    before = asked(world)
    assert run([*PLAN, *MOVE, "in"]) == 8
    planned = told(capfd)
    assert (planned["failed"], planned["objects_to_move"], planned["kms_calls"]) == (5, 0, 0)
    reasons = {Path(each["name"]).name: each["reason"] for each in planned["problems"]}
    assert "cannot prove who made it; the plan drops no signatures" in reasons["signed"]
    assert "esdk-0178, does not commit" in reasons["old"]
    assert "drops no signatures; and its format, esdk-0378, does not commit" in reasons["both"]
    assert "the plan does not allow that format by name" in reasons["script"]
    assert "it cannot become an envelope: the context is larger than 8192 bytes" in reasons["large"]
    run(["fleet", "run", "--apply", "--json", "plan"])
    assert told(capfd)["failed"] == 5
    assert asked(world) == before
    assert len(list(Path("in").iterdir())) == 5
    assert run(["fleet", "status", "--list", "plan"]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "plan again with --drop-signature" in said
    assert "plan again with --allow-legacy and that name" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("--move",),
        ("--into", "x"),
        ENVKMS,
        ("--drop-signature",),
        (*MOVE, "--into", ""),
        (*MOVE, "--into", "-"),
        (*MOVE, "--into", "file"),
        (*MOVE, "--suffix", ""),
        (*MOVE, "--reencrypt"),
        ("--also", "other"),
        ("--also", "esdk,"),
        (*MOVE, "--allow-legacy", "boto3-fernet"),
    ],
)
def test_usage(world: World, arguments: tuple[str, ...]) -> None:
    Path("file").write_bytes(b"x")
    before = world.calls()
    assert run([*PLAN, *arguments, "file"]) == 2
    assert world.calls() == before
    assert not Path("plan").exists()


@pytest.mark.parametrize("place", ["s3://", "s3:///x"])
def test_no_place_in_s3(world: World, place: str, err: Err) -> None:
    Path("in").mkdir()
    before = asked(world)
    assert run([*PLAN, *MOVE, "--into", place, "in"]) == 1
    assert asked(world) == before
    assert f"'{place}'" in err()
    assert not Path("plan").exists()


def test_arguments(world: World) -> None:
    given: dict[str, Any] = {
        "sources": [world.old],
        "to": [world.new],
        "contexts": fleet.Contexts(CONTEXT),
        "session": world.lab.session(),
    }
    Path("in").mkdir()
    for wrong, why in (
        ({"move": fleet.Move()}, "move needs also"),
        ({"move": fleet.Move(), "also": ["esdk"], "contexts": fleet.Contexts(CONTEXT, suffix="")}, "needs a suffix"),
        ({"move": fleet.Move(), "also": ["esdk"], "reencrypt": True}, "reencrypt cannot be combined"),
    ):
        with pytest.raises(ValueError, match=why):
            fleet.plan("plan", ["in"], **{**given, **wrong})
    with pytest.raises(sealwax.EngineError, match="Spark does not re-wrap objects of the S3 Encryption Client or move"):
        fleet.plan("plan", ["in"], engine=Spark.__new__(Spark), **given, also=["esdk"], move=fleet.Move())
    for wrong_move, kind in (
        ({"allow_legacy": ["esdk-0478"]}, ValueError),
        ({"allow_legacy": "envkms01"}, TypeError),
        ({"into": ""}, ValueError),
        ({"into": 1}, TypeError),
        ({"drop_signature": 1}, TypeError),
    ):
        with pytest.raises(kind):
            fleet.Move(**wrong_move)
    report = fleet.plan("plan", ["in"], **given, also=["esdk"], move=fleet.Move("new", ["envkms01"], True))
    assert report.settings.move == fleet.Move(str(Path("new").absolute()), ["envkms01"], True)
    assert Settings.from_dict(report.settings.as_dict()) == report.settings == fleet.status("plan").settings


# --- targets, and what the plan remembers


def moved(world: World, capfd: pytest.CaptureFixture[str], *names: str, more: tuple[str, ...] = ()) -> None:
    """Move scripts by a plan of the folder "in"."""
    Path("in").mkdir()
    for name in names:
        (Path("in") / name).write_bytes(script(world, name.encode()))
    assert run([*PLAN, *MOVE, *ENVKMS, *more, "in"]) == 0
    assert run(["fleet", "run", "--apply", "--json", "plan"]) == 0
    capfd.readouterr()


def apply(capfd: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    run(["fleet", "run", "--apply", "--json", *more, "plan"])
    return told(capfd)


def test_another_target_is_left_and_told(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for name in ("x", "y"):
        (Path("in") / name).write_bytes(script(world))
    Path("in/x.swx").write_bytes(b"somebody's")
    run([*PLAN, *MOVE, *ENVKMS, "in"])
    capfd.readouterr()
    before = asked(world)
    assert run(["fleet", "run", "--apply", "--json", "plan"]) == 8
    done = told(capfd)
    assert (done["moved"], done["left"], done["stale"]) == (1, 1, 1)
    assert done["next"].startswith("see why each was left, and run again: ")
    assert "x.swx' already exists, and the plan does not know it; move what is there" in done["problems"][0]["reason"]
    assert asked(world) - before == {"Decrypt": 1, "GenerateDataKey": 1}
    assert Path("in/x.swx").read_bytes() == b"somebody's"
    Path("in/x.swx").unlink()
    assert apply(capfd)["moved"] == 1
    assert opened(world, "in/x.swx") == b"data"


def test_a_target_that_appears_meanwhile(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.s3.put_object(Bucket="bucket", Key="x", Body=script(world))
    run([*PLAN, *MOVE, *ENVKMS, "s3://bucket/"])
    capfd.readouterr()

    noted = []

    def taken(request: Request) -> Any:
        if request.operation != "PutObject":
            return None
        with contextlib.closing(sqlite3.connect("plan")) as plan:
            noted.append(plan.execute("SELECT count(*) FROM moves").fetchone()[0])
        return error(412, "PreconditionFailed")

    with world.server.fault(taken):
        assert run(["fleet", "run", "--apply", "--json", "plan"]) == 8
    done = told(capfd)
    assert (done["moved"], done["left"]) == (0, 1)
    assert set(noted) == {1}, "it is in the plan before it is in its place"
    assert apply(capfd)["moved"] == 1
    assert opened(world, "s3://bucket/x.swx") == b"data"


def test_an_original_that_has_changed(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    moved(world, capfd, "x")
    Path("in/x").write_bytes(script(world, b"news"))
    done = apply(capfd, "--stale")
    assert (done["moved"], done["left"]) == (0, 1)
    assert "it has changed since" in done["problems"][0]["reason"]
    assert opened(world, "in/x.swx") == b"x"
    assert run(["fleet", "verify", "--json", "plan"]) == 8


def test_a_target_that_is_gone_or_replaced(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    moved(world, capfd, "x", "y", "z")
    Path("in/x.swx").unlink()
    shutil.copyfile("in/z.swx", "in/y.swx")
    assert run(["fleet", "verify", "--json", "plan"]) == 8
    assert (told(capfd)["stale"]) == 2
    done = apply(capfd, "--stale")
    assert (done["moved"], done["left"]) == (1, 1)
    assert "is not the envelope that was written for it" in done["problems"][0]["reason"]
    assert opened(world, "in/x.swx") == b"x"


def test_a_target_that_was_rewrapped_is_still_its_own(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    moved(world, capfd, "x")
    assert run(["rewrap", "-q", "-k", "alias/new", "--to", "alias/new", *C, "in/x.swx"]) == 0
    assert apply(capfd, "--stale")["stale"] == 0
    assert run(["fleet", "verify", "--json", "plan"]) == 0
    assert told(capfd)["moved_unchanged"] == 1


def test_another_plan_finds_targets_that_it_does_not_know(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    moved(world, capfd, "x")
    data = Path("in/x.swx").read_bytes()
    Path("plan").rename("former")
    run([*PLAN, *MOVE, *ENVKMS, "in"])
    capfd.readouterr()
    done = apply(capfd)
    assert (done["moved"], done["left"], done["fresh"]) == (0, 1, 1)
    assert Path("in/x.swx").read_bytes() == data


def test_a_plan_in_place_of_another_remembers_its_moves(
    world: World, messages: dict[str, Sample], capfd: pytest.CaptureFixture[str]
) -> None:
    """As after the advice to plan again with one more option; even if --move was forgotten once."""
    Path("in").mkdir()
    Path("in/script").write_bytes(script(world))
    Path("in/signed").write_bytes(messages["esdk-0578-True"].data)
    run([*PLAN, *MOVE, *ENVKMS, "in"])
    capfd.readouterr()
    assert apply(capfd)["moved"] == 1
    before = asked(world)
    assert run([*PLAN, "--force", "in"]) == 0
    assert run([*PLAN, "--force", *MOVE, *ENVKMS, "--drop-signature", "in"]) == 0
    planned = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (planned["moved"], planned["objects_to_move"], planned["fresh"]) == (1, 1, 1)
    assert asked(world) == before
    assert apply(capfd)["moved"] == 1
    assert run(["fleet", "verify", "--json", "plan"]) == 0
    assert told(capfd)["moved_unchanged"] == 2


def test_all_of_many_moves_are_remembered(tmp_path: Path) -> None:
    former, new = tmp_path / "former", tmp_path / "new"
    noted = [
        Moved(f"/{number % 400}\udcff", f"/{number}.swx", "file 1 2 3", f"{number:096x}", bool(number % 2))
        for number in range(1000)
    ]
    with Journal.create(former, former) as journal, journal.writing():
        for each in noted:
            journal.note_move(each)
    with Journal.create(new, new) as journal:
        keep_memory(former, journal)
        assert [journal.find_move(each.source, each.target) for each in noted] == noted


@pytest.mark.parametrize("former", [b"no plan", b"SQLite format 3\0" + bytes(52) + b"SWXF"])
def test_a_file_that_is_no_plan_is_not_replaced(world: World, former: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    Path("in/script").write_bytes(script(world))
    Path("plan").write_bytes(former)
    assert run([*PLAN, "--force", *MOVE, *ENVKMS, "in"]) == 1
    assert "only a plan is replaced; choose another name" in capfd.readouterr().err
    assert Path("plan").read_bytes() == former


def test_what_no_option_of_a_fleet_reads(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing marks the file, so only commands for single files are told to read it."""
    Path("in").mkdir()
    Path("in/guide").write_bytes(scripts.guide(world.lab, "alias/old", b"data"))
    said = "decrypt, verify and migrate read it with --format boto3-fernet"
    run(["fleet", "plan", *PLAN[3:], *MOVE, "--report", "plan.html", "in"])
    assert said in capfd.readouterr().out
    assert said in Path("plan.html").read_text()
    run(["fleet", "status", "--list", "plan"])
    assert said in capfd.readouterr().out


def test_verify_compares_plaintexts(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """An envelope with an authentic payload of other data: only both plaintexts tell."""
    moved(world, capfd, "x", "y")
    shutil.copyfile("in/x.swx", "in/y.swx")
    with sqlite3.connect("plan") as plan:
        name = os.fsencode(os.path.realpath("in/x"))
        plan.execute("UPDATE moves SET witness = (SELECT witness FROM moves WHERE source = ?)", (name,))
    plan.close()
    assert run(["fleet", "verify", "--json", "plan"]) == 5
    verified = told(capfd)
    assert verified["moved_unchanged"] == 1
    assert [Path(name).name for name in verified["digests_changed"]] == ["y.swx"]
    remove = ("migrate", "-q", "-k", "alias/old", "--to", "alias/new", *C, *ENVKMS, "--remove", "--journal", "plan")
    assert run([*remove, "-r", "in"]) == 8
    assert (Path("in/x").exists(), Path("in/y").exists()) == (False, True)


def test_a_damaged_envelope_does_not_verify(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    moved(world, capfd, "x", "y")
    data = bytearray(Path("in/x.swx").read_bytes())
    data[-1] ^= 1
    Path("in/x.swx").write_bytes(data)
    assert run(["fleet", "verify", "--json", "plan"]) == 5
    verified = told(capfd)
    assert [Path(each["name"]).name for each in verified["not_decrypted"]] == ["x"]
    assert (verified["moved_unchanged"], verified["moved_compared"]) == (1, 2)
    Path("in/y.swx").write_bytes(Path("in/y.swx").read_bytes()[:-1] + b"?")
    assert run(["fleet", "verify", "plan"]) == 5
    said = capfd.readouterr()
    assert "none of 2 compared hold the same as their envelopes" in said.out
    assert "2 objects failed to decrypt" in said.err
    before = asked(world)
    assert run(["fleet", "verify", "--json", "--digest", "0", "plan"]) == 0
    assert asked(world) == before


def test_elsewhere(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """In the place that is named, by the paths below each place; a single file and a prefix are places too."""
    Path("in/sub").mkdir(parents=True)
    for name in ("in/x", "in/sub/x", "one"):
        Path(name).write_bytes(script(world, name.encode()))
    world.put("mail/a", b"mail/a")
    for number, place in enumerate(("new/deep", "s3://bucket/new")):
        plan = ("-o", f"plan{number}")
        assert run([*PLAN, *plan, *MOVE, *ENVKMS, "--into", place, "in", "one", "s3://bucket/mai"]) == 0
        assert run(["fleet", "run", "--apply", "--json", f"plan{number}"]) == 0
        for name, source in {"x": "in/x", "sub/x": "in/sub/x", "one": "one", "mail/a": "mail/a"}.items():
            assert opened(world, f"{place}/{name}.swx") == source.encode()
        capfd.readouterr()
        assert run(["fleet", "verify", "--json", f"plan{number}"]) == 0
        assert told(capfd)["moved_unchanged"] == 4
    remove = ("migrate", "-q", "-k", "alias/old", "--to", "alias/new", *C, *ENVKMS, "--remove")
    assert run([*remove, "--journal", "plan1", "--into", place, "-r", "in", "one", "s3://bucket/mai"]) == 0
    assert not any(Path(name).exists() for name in ("in/x", "in/sub/x", "one"))
    Path("alone").write_bytes(script(world))
    assert run([*PLAN, *MOVE, *ENVKMS, "alone"]) == 0
    assert run(["fleet", "run", "--apply", "plan"]) == 0
    assert opened(world, "alone.swx") == b"data"


def test_base64(world: World, messages: dict[str, Sample], capfd: pytest.CaptureFixture[str]) -> None:
    """A message in base64 is moved as the message is, in a folder and in a bucket."""
    message, old, signed = (messages[name] for name in ("esdk-0478-True", "esdk-0178-False", "esdk-0578-True"))
    texts = {
        "lines": base64.encodebytes(message.data),
        "url": base64.urlsafe_b64encode(message.data),
        "blanks": b"\r\n \t" + base64.b64encode(old.data) + b"\n",
        "cut": base64.b64encode(message.data[:-40]),
        "signed": base64.b64encode(signed.data),
    }
    Path("in").mkdir()
    for name, text in texts.items():
        (Path("in") / name).write_bytes(text)
        world.s3.put_object(Bucket="bucket", Key=f"in/{name}", Body=text)
    before = asked(world)
    assert run([*PLAN, *MOVE, "--allow-legacy", "esdk-0178", "in", "s3://bucket/in/"]) == 8
    planned = told(capfd)
    assert (planned["objects_to_move"], planned["failed"]) == (8, 2)
    assert {Path(each["name"]).name for each in planned["problems"]} == {"signed"}
    assert planned["stale_because"] == {"esdk-0478": 6, "esdk-0178": 2, "esdk-0578": 2}
    assert asked(world) == before
    assert run(["fleet", "run", "--apply", "--json", "--max-error-rate", "1", "plan"]) == 8
    done = told(capfd)
    assert (done["moved"], done["failed"], done["stale"]) == (6, 4, 4)
    for place in ("in", "s3://bucket/in"):
        for name, sample in (("lines", message), ("url", message), ("blanks", old)):
            assert opened(world, f"{place}/{name}.swx") == sample.plaintext, name
    run(["fleet", "verify", "--json", "plan"])
    verified = told(capfd)
    assert (verified["moved_unchanged"], verified["not_read"], verified["not_decrypted"]) == (6, [], [])
    assert apply(capfd, "--stale", "--max-error-rate", "1")["moved"] == 0
    remove = ("migrate", "-q", "-k", "alias/old", "--to", "alias/new", *C, "--allow-legacy", "esdk-0178", "--remove")
    run([*remove, "--journal", "plan", "-r", "in", "s3://bucket/in/"])
    assert {path.name for path in Path("in").iterdir() if path.suffix != ".swx"} == {"cut", "signed"}


def test_contexts_by_pattern(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Each envelope is bound to the context of its own original."""
    Path("in").mkdir()
    for name in ("a", "b"):
        (Path("in") / name).write_bytes(script(world, name.encode(), {"path": name}))
    keys = ("fleet", "plan", "--json", "--from", "alias/old", "--to", "alias/new", "-o", "plan")
    assert run([*keys, *MOVE, *ENVKMS, "-c", "path={relpath}", "in"]) == 0
    assert run(["fleet", "run", "--apply", "plan"]) == 0
    capfd.readouterr()
    assert run(["fleet", "verify", "plan"]) == 0
    said = capfd.readouterr().out
    sealer = sealwax.Sealer(sealwax.KmsKeyring(world.new, session=world.lab.session()))
    assert sealer.decrypt(Path("in/b.swx").read_bytes(), context={"path": "b"}) == b"b"
    # The command that is printed removes the originals.
    command = said[said.index("sealwax migrate") :].split()
    assert run(command[1:]) == 0
    assert sorted(path.name for path in Path("in").iterdir()) == ["a.swx", "b.swx"]


def test_an_inventory(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """The originals are in the bucket that it lists, and are removed there; another object stays as it is."""
    keys = ("in/x", "y")
    for key in keys:
        world.s3.put_object(Bucket="bucket", Key=key, Body=script(world, key.encode()))
    world.s3.put_object(Bucket="bucket", Key="other", Body=b"plain")
    row = inventories.rows()[0]
    inventories.publish(world.server, "CSV", inventories.as_csv([{**row, "Key": key} for key in keys]))
    assert run([*PLAN, *MOVE, *ENVKMS, "--into", "new", inventories.WHERE]) == 0
    assert run(["fleet", "run", "--apply", "plan"]) == 0
    capfd.readouterr()
    assert run(["fleet", "verify", "plan"]) == 0
    said = capfd.readouterr().out
    assert opened(world, "new/in/x.swx") == b"in/x"
    command = shlex.split(said[said.index("sealwax migrate") :])
    assert run(command[1:]) == 0
    assert [each["Key"] for each in world.s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["other"]


def test_a_plan_is_held_while_originals_are_removed(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    moved(world, capfd, "x")
    remove = ("migrate", "-q", "-k", "alias/old", "--to", "alias/new", *C, *ENVKMS, "--remove", "--journal", "plan")
    with Journal("plan") as journal, journal.alone():
        assert run([*remove, "in/x"]) == 1
    assert "another run is using the plan" in capfd.readouterr().err
    assert run([*remove, "in/x"]) == 0
    assert not Path("in/x").exists()


def test_a_plan_remembers_each_target(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """A plan is the journal of ``migrate`` too, which may write to another place."""
    moved(world, capfd, "x")
    Path("in/z").write_bytes(script(world, b"z"))
    migrate = ("migrate", "-q", "-k", "alias/old", "--to", "alias/new", *C, *ENVKMS, "--journal", "plan")
    assert run([*migrate, "-r", "in"]) == 0
    assert run([*migrate, "--into", "new", "-r", "in"]) == 0
    assert sorted(path.name for path in Path("new").iterdir()) == ["x.swx", "z.swx"]
    assert run(["fleet", "verify", "--json", "plan"]) == 0
    assert told(capfd)["moved_unchanged"] == 2
    assert run([*migrate, "--remove", "-r", "in"]) == 0
    assert sorted(path.name for path in Path("in").iterdir()) == ["x.swx", "z.swx"]


def test_the_page_and_the_text(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    Path("in/x").write_bytes(script(world, b"x" * 1000))
    run(["fleet", "plan", *PLAN[3:], *MOVE, *ENVKMS, "--report", "plan.html", "in"])
    said = " ".join(capfd.readouterr().out.split())
    assert "stale 1 (1 envkms01)" in said
    size = Path("in/x").stat().st_size
    assert f"to move 1 object, {size:,} bytes to read and to write" in said
    assert "The only object has to be re-wrapped or moved under alias/new" in said
    assert f"1 object, {size:,} bytes" in Path("plan.html").read_text()
    run(["fleet", "run", "--apply", "--report", "run.html", "plan"])
    assert "moved 1: each is still there, and has an envelope" in " ".join(capfd.readouterr().out.split())
    assert "moved" in Path("run.html").read_text()
    run(["fleet", "verify", "plan"])
    assert " moved 1 hold the same as their envelopes" in " ".join(capfd.readouterr().out.split())


# --- killed


@pytest.mark.parametrize("options", [(), pytest.param(("--all",), marks=pytest.mark.soak)])
def test_killed(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The run is killed at points from its first to its last; the same command then completes the work."""
    program = [sys.executable, "-m", "tests.foreign.migrate_crashes", str(tmp_path), "--fleet", *options]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["points"] > 15
    assert set(said["left"]) == {"original", "both"}
