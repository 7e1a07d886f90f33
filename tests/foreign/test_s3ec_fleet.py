"""Fleets with objects of the S3 Encryption Client: planned, run, stopped, resumed, verified, reported."""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax import fleet
from sealwax._core.staleness import WantedKey
from sealwax.cli import run
from sealwax.fleet import aws_lambda
from sealwax.fleet._client_objects import hash_of
from sealwax.fleet._journal import Journal
from sealwax.fleet.spark import Spark
from sealwax.stores import Store
from sealwax.stores.s3 import S3Store
from tests.foreign import s3ec, samples
from tests.foreign.objects import CONTEXT, C, World
from tests.s3 import Request, error

pytestmark = pytest.mark.slow

DATA = os.urandom(20_000)
PLAN = ("--from", "alias/old", "--to", "alias/new", *C, "-o", "plan", "s3://bucket/")
KINDS: dict[str, dict[str, Any]] = {
    "v2": {"version": 2},
    "kms": {"version": 2, "wrapping": "kms"},
    "cbc": {"version": 2, "cipher": s3ec.CBC},
    "v3": {"version": 3},
    "v2-file": {"version": 2, "instructions": True},
    "v3-file": {"version": 3, "instructions": True},
}


@pytest.fixture
def mixed(world: World) -> World:
    """One object of each kind, an envelope, a plain one, one of another context, and contradictory ones."""
    for name, how in KINDS.items():
        world.put(name, DATA, **how)
    session = world.lab.session()
    sealed = sealwax.Sealer(sealwax.KmsKeyring(world.old, session=session)).encrypt(DATA, context=CONTEXT)
    world.s3.put_object(Bucket="bucket", Key="envelope", Body=sealed)
    world.s3.put_object(Bucket="bucket", Key="plain", Body=b"plain text")
    world.put("other", DATA, {"tenant": "other"})
    world.s3.put_object(Bucket="bucket", Key="v1", Body=DATA, Metadata={"x-amz-key": "AAAA", "x-amz-iv": "AAAA"})
    both = world.make(DATA, version=3)
    both.instructions = dict(both.metadata)
    both.put(world.s3, "both")
    return world


def answer(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def bodies(world: World) -> dict[str, bytes]:
    return {name: world.body(name) for name in KINDS}


def test_planned_run_and_verified(mixed: World, capfd: pytest.CaptureFixture[str]) -> None:
    before, calls = bodies(mixed), len(mixed.calls())
    run(["fleet", "plan", "--also", "s3ec", "--json", *PLAN])
    planned = answer(capfd)
    assert (planned["stale"], planned["failed"]) == (8, 1), "version 1 is refused, and tried again by each run"
    kinds = {"s3ec-v2": 2, "s3ec-v3": 2, "s3ec-kms": 1, "s3ec-cbc": 1, "s3ec-v1": 1, "keys": 1}
    assert planned["stale_because"] == kinds
    assert planned["formats"] == {"s3ec-instruction-file": 3, "unknown": 1}
    assert (planned["skipped"], planned["damaged"], planned["kms_calls"]) == (1, 1, 7)
    counted = ("stale", "skipped", "damaged", "foreign", "fresh", "unreadable")
    assert sum(planned[name] for name in counted) == planned["objects"] == 14
    assert "ReEncrypt" not in mixed.calls()[calls:], "a plan asks KMS nothing about objects"

    assert run(["fleet", "run", "--apply", "--json", "plan"]) == 8
    done = answer(capfd)
    assert (done["rewrapped"], done["stale"], done["failed"], done["kms_calls"]) == (7, 1, 1, 7)
    assert bodies(mixed) == before
    versions = mixed.state()
    run(["fleet", "run", "--apply", "--json", "plan"])
    again = answer(capfd)
    assert (again["rewrapped"], again["kms_calls"]) == (0, 0)
    run(["fleet", "verify", "--json", "--decrypt", "100", "plan"])
    verified = answer(capfd)
    assert (verified["stale"], verified["decrypted"], verified["not_decrypted"]) == (1, 6, [])
    assert (verified["in_aes_cbc"], verified["not_decryptable_here"]) == (1, 0)
    # Nothing says under which material objects are; the envelope does.
    for report in (planned, done, verified):
        materials = [each["objects"] for each in report["keys_after"] if each["key_material_id"]]
        assert materials == [1]
        assert {"key_arn": mixed.new, "key_material_id": None, "objects": 6} in report["keys_after"]
    assert mixed.state() == versions
    for name, how in KINDS.items():
        if how.get("cipher") != s3ec.CBC:
            legacy = ("--allow-legacy", "s3ec-v2", "--allow-legacy", "s3ec-kms")
            assert run(["verify", "-k", "alias/new", *C, *legacy, f"s3://bucket/{name}"]) == 0


def test_contradictions_are_no_foreign_objects(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody knows what needs the old key, so nothing is said to be done."""
    world.put("v3", DATA)
    both = world.make(DATA)
    both.metadata["x-amz-key-v2"] = "AAAA"
    both.put(world.s3, "both")
    of_another = s3ec.Made(samples.esdk(("aws-kms", samples.ARN)), world.make(DATA).metadata)
    of_another.put(world.s3, "message")
    run(["fleet", "plan", "--also", "s3ec", "--json", *PLAN])
    planned = answer(capfd)
    assert (planned["stale"], planned["damaged"], planned["foreign"]) == (1, 2, 0)
    assert "contradiction" in json.dumps(planned["problems"])
    assert run(["fleet", "run", "--apply", "--json", "plan"]) == 8
    assert answer(capfd)["rewrapped"] == 1
    assert run(["fleet", "verify", "--json", "plan"]) == 8


def test_what_comes_next_asks_kms(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Without it, retiring the key would refuse for each of these objects."""
    world.put("v3", DATA)
    for verb in (("plan", "--also", "s3ec", *PLAN), ("run", "--apply", "plan"), ("verify", "plan")):
        assert run(["fleet", *verb]) == 0
    out = " ".join(capfd.readouterr().out.split())
    assert "sealwax keys retire alias/old --scan plan --ask-kms" in out
    assert run(["keys", "retire", "alias/old", "--scan", "plan", "--ask-kms"]) == 0


def test_without_the_option_nothing_of_them_is_touched(mixed: World, capfd: pytest.CaptureFixture[str]) -> None:
    before = mixed.state()
    run(["fleet", "plan", "--json", *PLAN])
    assert answer(capfd)["stale"] == 1
    run(["fleet", "run", "--apply", "--json", "plan"])
    assert answer(capfd)["rewrapped"] == 1
    after = mixed.state()
    assert {name for name in before if before[name] != after[name]} == set()
    assert {name.split()[0] for name in after.keys() - before.keys()} == {"envelope"}


def test_another_plan_asks_kms_and_writes_nothing(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """A new plan cannot know what is done. Its run asks, and no second version is written."""
    for name in ("v2", "v3"):
        world.put(name, DATA, **KINDS[name])
    for _ in range(2):
        Path("plan").unlink(missing_ok=True)
        run(["fleet", "plan", "--also", "s3ec", "--json", *PLAN])
        assert answer(capfd)["stale"] == 2
        run(["fleet", "run", "--apply", "--json", "plan"])
        last, before = answer(capfd), world.state()
    assert (last["rewrapped"], last["fresh"], last["stale"], last["kms_calls"]) == (0, 2, 0, 4)
    run(["fleet", "verify", "--json", "plan"])
    assert answer(capfd)["stale"] == 0, "what KMS told is kept"
    assert world.state() == before
    assert len(before) == 4


def test_the_old_wrapped_key_is_kept_before_anything_is_written(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    made = world.put("v3", DATA)
    old = base64.b64decode(made.metadata["x-amz-3"])
    run(["fleet", "plan", "--also", "s3ec", "--json", *PLAN])

    synced: list[int] = []

    def gone(request: Request) -> Any:
        if request.operation != "PutObjectCopy":
            return None
        for each in gc.get_objects():
            if type(each) is Journal:
                with contextlib.suppress(sealwax.PlanError):  # closed
                    synced.extend(level for (level,) in each._rows("i", "PRAGMA synchronous"))
        return error(403, "AccessDenied")

    with world.server.fault(gone):
        run(["fleet", "run", "--apply", "--json", "plan"])
    with sqlite3.connect("plan") as plan:
        assert [row[0] for row in plan.execute("SELECT old FROM blobs")] == [old]
    plan.close()
    assert synced == [2], "each commit of the run's plan survives losing power"
    capfd.readouterr()
    run(["fleet", "run", "--apply", "--json", "plan"])
    assert answer(capfd)["rewrapped"] == 1
    run(["fleet", "verify", "--json", "plan"])
    assert answer(capfd)["stale"] == 0


def test_a_plan_that_is_replaced_leaves_its_old_wrapped_keys(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """The new plan has them, and takes an object for done only if its own new key is the one that was noted."""
    made = [world.put(name, DATA) for name in ("a", "b")]
    old = {base64.b64decode(each.metadata["x-amz-3"]) for each in made}
    run(["fleet", "plan", "--also", "s3ec", *PLAN])
    run(["fleet", "run", "--apply", "plan"])
    capfd.readouterr()
    assert run(["fleet", "plan", "--also", "s3ec", "--json", "--force", *PLAN[:-1], "s3://bucket/a"]) == 0
    assert (answer(capfd)["stale"], len(world.state())) == (0, 4)
    back = ("--from", "alias/new", "--to", "alias/old", *PLAN[4:])
    assert run(["fleet", "plan", "--also", "s3ec", "--json", "--force", *back]) == 0
    assert answer(capfd)["stale"] == 2
    with sqlite3.connect("plan") as plan:
        assert {row[0] for row in plan.execute("SELECT old FROM blobs")} == old
    plan.close()


def test_new_material_of_the_key_is_asked_about(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """What KMS said, and what a run wrote, was about the material of that time."""
    made = world.put("x", DATA)
    both = ("--from", "alias/old", "--to", "alias/old", *PLAN[4:])
    assert run(["fleet", "plan", "--also", "s3ec", *both]) == 0
    found = []
    for rotates in (False, True, False, True, False):
        if rotates:
            world.kms.rotate_key_on_demand(KeyId=world.old)
        capfd.readouterr()
        assert run(["fleet", "run", "--apply", "--stale", "--json", "plan"]) == 0
        done = answer(capfd)
        found.append((done["kms_calls"], done["rewrapped"], done["fresh"], done["stale"]))
    assert found == [(1, 0, 1, 0), (1, 1, 1, 0), (0, 0, 1, 0), (1, 1, 1, 0), (0, 0, 1, 0)]
    with contextlib.closing(sqlite3.connect("plan")) as plan:
        assert (base64.b64decode(made.metadata["x-amz-3"]),) in plan.execute("SELECT old FROM blobs").fetchall()


def test_older_material_of_a_new_key_that_is_no_source(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """It is refused, as an envelope is, and not told to be as wanted; ``rewrap`` is about keys only."""
    world.put("x", DATA)
    plan = ("fleet", "plan", "--also", "s3ec", "--force")
    for options in ((*plan, *PLAN), ("fleet", "run", "--apply", "plan")):
        assert run([*options]) == 0
    world.kms.rotate_key_on_demand(KeyId=world.new)
    assert run([*plan, *PLAN]) == 0
    capfd.readouterr()
    assert run(["fleet", "run", "--apply", "--json", "plan"]) == 8
    done = answer(capfd)
    assert (done["rewrapped"], done["fresh"], done["failed"]) == (0, 0, 1)
    assert f"under older key material of '{world.new}'" in done["problems"][0]["reason"]
    assert run(["rewrap", "-k", "alias/old", "--to", "alias/new", *C, "s3://bucket/x"]) == 0
    assert "already under alias/new, according to KMS" in capfd.readouterr().err
    assert run([*plan, "--from", "alias/new", *PLAN]) == 0
    capfd.readouterr()
    assert run(["fleet", "run", "--apply", "--json", "plan"]) == 0
    assert answer(capfd)["rewrapped"] == 1


def test_what_counts_as_written(tmp_path: Path) -> None:
    """The same wrapped key may be under related keys; the key that it had before is kept whatever comes later."""
    one, other = WantedKey("one", b"m"), WantedKey("other", b"m")
    newer, name, new = WantedKey("one", b"n"), "x\udcff", b"new"
    hashes = [b"none", hash_of(new)]
    with Journal.create(tmp_path / "plan", tmp_path / "plan") as journal:
        for key in (one, other, newer):
            assert not journal.has_written(name, key, hashes)
            journal.note_blob(name, key, b"old" if key is one else new, new)
            assert journal.has_written(name, key, hashes)
        journal.note_blob(name, one, new, new)
        assert not journal.has_written("y", one, hashes)
        for number in range(600):
            journal.note_blob(f"{number % 200}", WantedKey(f"{number}"), b"old", new)
        with Journal.create(tmp_path / "next", tmp_path / "next") as following:
            following.keep_blobs(journal)
            assert following.has_written(name, one, hashes)
            blobs = [each._rows("bbtbb", "SELECT * FROM blobs") for each in (journal, following)]
            assert blobs[0] == blobs[1]
            assert (len(blobs[0]), [row[4] for row in blobs[0]].count(b"old")) == (603, 601)


def test_what_a_replaced_plan_could_not_finish_is_asked_about(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    old = {base64.b64decode(world.put(name, DATA).metadata["x-amz-3"]) for name in ("x", "y")}
    run(["fleet", "plan", "--also", "s3ec", *PLAN])

    def unseen(request: Request) -> Any:
        return error(403, "AccessDenied") if (request.operation, request.path) == ("HeadObject", "/bucket/x") else None

    with world.server.fault(unseen):
        assert run(["fleet", "run", "--apply", "plan"]) == 8
    before = world.state()
    for _ in range(2):
        capfd.readouterr()
        assert run(["fleet", "plan", "--also", "s3ec", "--json", "--force", *PLAN]) == 0
        planned = answer(capfd)
        assert (planned["stale"], planned["fresh"]) == (1, 1)
    with contextlib.closing(sqlite3.connect("plan")) as plan:
        assert {row[0] for row in plan.execute("SELECT old FROM blobs")} == old
    assert run(["fleet", "run", "--apply", "--json", "plan"]) == 0
    done = answer(capfd)
    assert (done["rewrapped"], done["stale"], done["kms_calls"]) == (0, 0, 2)
    assert world.state() == before
    assert run(["fleet", "verify", "plan"]) == 0


def test_what_a_rewrap_has_buried_is_told_until_somebody_has_looked(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    """KMS would say in the next pass that the object is done; what another program wrote is an old version."""
    world.begin()
    made = world.put("x", DATA)
    world.put("y", DATA)
    world.s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    run(["fleet", "plan", "--also", "s3ec", *PLAN])
    copies: list[Request] = []

    def within_the_second(request: Request) -> Any:
        if request.operation == "PutObjectCopy" and request.path == "/bucket/x":
            copies.append(request)
            made.put(world.s3, "x")
            del request.headers["x-amz-copy-source-if-unmodified-since"]
        if request.operation == "PutObjectCopy" and request.path == "/bucket/y" and not throttled:
            throttled.append(request)
            return error(412, "PreconditionFailed")
        return None

    throttled: list[Request] = []
    capfd.readouterr()
    with world.server.fault(within_the_second):
        assert run(["fleet", "run", "--apply", "--json", "plan"]) == 8
    done = answer(capfd)
    assert (done["rewrapped"], done["left"], done["fresh"], done["done"]) == (1, 1, 1, False), "y has a second pass"
    assert (len(copies), len(throttled)) == (1, 1)
    (problem,) = done["problems"]
    assert "look at the bucket's versions" in problem["reason"]
    assert run(["fleet", "verify", "--json", "plan"]) == 8
    assert answer(capfd)["problems"] == [problem]
    made.put(world.s3, "x")  # restored
    assert run(["fleet", "run", "--apply", "--json", "plan"]) == 0
    assert answer(capfd)["rewrapped"] == 1
    assert run(["fleet", "verify", "--json", "plan"]) == 0


def test_a_new_key_that_is_also_a_source(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """As for new material of one key: what is under it stays as it is."""
    for name in ("kms", "v3", "v3-file"):
        world.put(name, DATA, **KINDS[name])
    states = []
    for rewrapped in (3, 0):
        Path("plan").unlink(missing_ok=True)
        run(["fleet", "plan", "--also", "s3ec", "--from", "alias/new", *PLAN])
        capfd.readouterr()
        assert run(["fleet", "run", "--apply", "--json", "plan"]) == 0
        done = answer(capfd)
        assert (done["rewrapped"], done["fresh"]) == (rewrapped, 3)
        states.append(world.state())
    assert run(["rewrap", "-k", "alias/old", "-k", "alias/new", "--to", world.new, *C, "s3://bucket/v3"]) == 0
    assert f"already under {world.new}, according to KMS" in capfd.readouterr().err
    assert states == [world.state()] * 2


def test_version_2_without_a_mark_is_found_beside_messages(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """All of it may be in the instruction file."""
    made = world.make(DATA, version=2, instructions=True)
    made.metadata.clear()
    made.put(world.s3, "x")
    world.s3.put_object(Bucket="bucket", Key="plain", Body=b"plain text")
    assert run(["fleet", "plan", "--also", "s3ec,esdk", "--json", *PLAN]) == 0
    planned = answer(capfd)
    assert (planned["stale"], planned["stale_because"]) == (1, {"s3ec-v2": 1})
    assert planned["formats"] == {"s3ec-instruction-file": 1, "unknown": 1}
    assert run(["fleet", "run", "--apply", "--json", "plan"]) == 0
    assert answer(capfd)["rewrapped"] == 1


@pytest.mark.parametrize("also", ["s3ec,esdk", "esdk"])
def test_objects_without_a_mark_that_are_never_opened(
    world: World, capfd: pytest.CaptureFixture[str], also: str
) -> None:
    """A re-wrap needs no object that opens: neither AES-CBC nor a size that AES-GCM never has is in its way."""
    for name, how in (("cbc", KINDS["cbc"]), ("short", KINDS["v2"])):
        made = world.make(DATA, **how, instructions=True)
        made.body = made.body if name == "cbc" else b"short"
        made.metadata.clear()
        made.put(world.s3, name)
    sealer = sealwax.Sealer(sealwax.KmsKeyring(world.old, session=world.lab.session()))
    world.s3.put_object(Bucket="bucket", Key="envelope", Body=sealer.encrypt(DATA, context=CONTEXT))
    ours = 2 if also == "s3ec,esdk" else 0
    assert run(["fleet", "plan", "--also", also, "--json", *PLAN]) == 0
    planned = answer(capfd)
    assert (planned["stale"], planned["failed"], planned["damaged"]) == (1 + ours, 0, 0)
    for verb in (("run", "--apply"), ("verify",)):
        assert run(["fleet", *verb, "--json", "plan"]) == 0
        told = answer(capfd)
        assert (told["rewrapped"], told["foreign"]) == (1 + ours, 4 - ours)


def test_what_s3_would_not_keep_does_not_end_a_run(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """A copy cannot write such objects, in this run or in any other."""
    for at in range(20):
        made = world.make(b"x")
        made.metadata["note"] = "=?UTF-8?B?Y2Fmw6k=?=" if at % 2 else "x" * (2049 - len("note") - length(made.metadata))
        made.put(world.s3, f"a{at:02}")
    world.put("b", DATA)
    assert run(["fleet", "plan", "--also", "s3ec", "--json", *PLAN]) == 8
    planned = answer(capfd)
    assert (planned["stale"], planned["failed"], planned["kms_calls"]) == (21, 20, 1)
    calls = len(world.calls())
    assert run(["fleet", "run", "--apply", "--workers", "1", "--json", "plan"]) == 8
    done = answer(capfd)
    assert (done["rewrapped"], done["failed"], done["ended"]) == (1, 20, None)
    assert {each["state"] for each in done["problems"]} == {"refused"}
    assert "not ASCII" in done["problems"][1]["reason"]
    assert "S3 accepts 2048" in done["problems"][0]["reason"]
    assert world.calls()[calls:].count("ReEncrypt") == 1


def length(metadata: dict[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in metadata.items())


def test_stopped_after_the_copy(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """What was written, and not recorded, is found done."""
    world.put("v3", DATA)
    run(["fleet", "plan", "--also", "s3ec", "--json", *PLAN])

    def gone(request: Request) -> Any:
        return error(403, "AccessDenied") if request.operation == "HeadObject" else None

    with world.server.fault(gone):
        run(["fleet", "run", "--apply", "--json", "plan"])
    before = world.state()
    assert len(before) == 2
    capfd.readouterr()
    assert run(["fleet", "verify", "--json", "plan"]) == 8, "nobody has looked at the result"
    assert answer(capfd)["failed"] == 1
    run(["fleet", "run", "--apply", "--json", "plan"])
    done = answer(capfd)
    assert (done["fresh"], done["rewrapped"], done["stale"]) == (1, 0, 0)
    assert world.state() == before


def test_objects_in_cbc_are_not_read(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.put("cbc", DATA, **KINDS["cbc"])
    for verb in (("plan", "--also", "s3ec", *PLAN), ("run", "--apply", "plan")):
        assert run(["fleet", *verb]) == 0
    capfd.readouterr()
    assert run(["fleet", "verify", "--decrypt", "5", "--report", "page.html", "plan"]) == 8
    said = capfd.readouterr()
    out = " ".join(said.out.split())
    assert "1 not tried: in AES-CBC, which is re-wrapped and not read" in out
    assert "next: read objects in AES-CBC with the program that wrote them" in out
    assert "local context" not in out
    assert "decrypted none of 5: 1 object in AES-CBC" in said.err
    assert "in AES-CBC, which is re-wrapped and not read" in Path("page.html").read_text()


def test_digests_show_that_no_byte_changes(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("v3", "cbc", "v2-file"):
        world.put(name, DATA, **KINDS[name])
    run(["fleet", "plan", "--also", "s3ec", "--digest", "all", "--json", *PLAN])
    assert answer(capfd)["digests_recorded"] == 3
    run(["fleet", "run", "--apply", "--json", "plan"])
    capfd.readouterr()
    run(["fleet", "verify", "--digest", "all", "--json", "plan"])
    verified = answer(capfd)
    assert (verified["digests_unchanged"], verified["digests_changed"]) == (3, [])


def test_contexts_without_a_pair_are_warned_of(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.put("v3", DATA, {})
    run(
        [
            "fleet",
            "plan",
            "--also",
            "s3ec",
            "--from",
            "alias/old",
            "--to",
            "alias/new",
            "--no-context",
            "-o",
            "plan",
            "s3://bucket/",
        ]
    )
    warning = "1 object is of the S3 Encryption Client and bound to no context"
    assert warning in " ".join(capfd.readouterr().out.split())
    assert run(["fleet", "run", "--apply", "plan"]) == 0
    again = ("--from", "alias/old", "--to", "alias/new", "--no-context", "--force", "-o", "plan", "s3://bucket/")
    capfd.readouterr()
    assert run(["fleet", "plan", "--also", "s3ec", *again]) == 0
    assert "bound to no context" not in capfd.readouterr().out, "nothing is left to do with it"


@pytest.mark.usefixtures("mixed")
def test_the_report_says_what_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    run(["fleet", "plan", "--also", "s3ec", *PLAN])
    out = " ".join(capfd.readouterr().out.split())
    assert "2 of the S3 Encryption Client, V2" in out
    assert "1 of the S3 Encryption Client, in AES-CBC" in out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--to", "alias/new", "--to", "alias/old"), "the plan wants several"),
    ],
)
def test_refused(world: World, capfd: pytest.CaptureFixture[str], options: tuple[str, ...], reason: str) -> None:
    world.put("v3", DATA)
    run(
        ["fleet", "plan", "--also", "s3ec", "--json", "--from", "alias/old", *options, *C, "-o", "plan", "s3://bucket/"]
    )
    planned = answer(capfd)
    assert reason in json.dumps(planned["problems"])


def test_spark_says_that_it_does_not(world: World) -> None:
    arguments: dict[str, Any] = {
        "sources": [world.old],
        "to": [world.new],
        "contexts": fleet.Contexts(CONTEXT),
        "also": ["s3ec"],
    }
    with pytest.raises(sealwax.EngineError, match="Spark does not re-wrap objects"):
        fleet.plan("plan", ["s3://bucket/"], engine=Spark.__new__(Spark), session=world.lab.session(), **arguments)
    with pytest.raises(ValueError, match="also"):
        fleet.plan("plan", ["s3://bucket/"], session=world.lab.session(), reencrypt=True, **arguments)
    with pytest.raises(ValueError, match="also takes 's3ec', 'esdk', 'envkms01', not 'other'"):
        fleet.plan("plan", ["s3://bucket/"], session=world.lab.session(), **{**arguments, "also": ["other"]})


class Invoked:
    function_name = "rotation"

    def __init__(self, over: Callable[[], bool] = lambda: False) -> None:
        self._over = over

    def get_remaining_time_in_millis(self) -> int:
        return 0 if self._over() else 900_000


def invoked(world: World, folder: Path, environment: dict[str, str], *, session: Any = None) -> dict[str, Any]:
    """Return what the function returns."""
    event = {"source": "aws.events", "detail-type": "Scheduled Event"}
    keys = {"SEALWAX_LOCATIONS": "s3://bucket/", "SEALWAX_FROM": world.old, "SEALWAX_TO": world.new}

    def opened(location: str) -> Store:
        return S3Store(location, session=world.server.session())

    return aws_lambda.rotate(
        event,
        Invoked(),
        {**keys, **environment},
        folder=folder / "plan",
        session=session or world.lab.session(),
        open_location=opened,
    )


def test_in_lambda(world: World, tmp_path: Path) -> None:
    world.put("v3", DATA)
    world.put("v2", DATA, version=2)
    environment = {"SEALWAX_CONTEXT": json.dumps(CONTEXT), "SEALWAX_ALSO": "s3ec"}

    def invoke() -> dict[str, Any]:
        return invoked(world, tmp_path, environment)

    assert invoke()["rewrapped"] == 2
    before = world.state()
    again = invoke()
    assert (again["rewrapped"], again["fresh"]) == (0, 2)
    assert world.state() == before
    environment["SEALWAX_ALSO"] = "others"
    with pytest.raises(sealwax.ConfigurationError, match="SEALWAX_ALSO takes s3ec"):
        invoke()


def test_what_a_rewrap_in_lambda_has_buried_raises_an_alarm_and_is_named(world: World, tmp_path: Path) -> None:
    """The next invocation makes a new plan, in which the object is done, so the first one has to tell."""
    made = world.put("zz", DATA)
    for at in range(25):
        world.s3.put_object(Bucket="bucket", Key=f"damaged{at}", Body=DATA, Metadata={"x-amz-key-v2": "AAAA"})

    def within_the_second(request: Request) -> None:
        if request.operation == "PutObjectCopy":
            made.put(world.s3, "zz")
            del request.headers["x-amz-copy-source-if-unmodified-since"]

    environment = {"SEALWAX_CONTEXT": json.dumps(CONTEXT), "SEALWAX_ALSO": "s3ec"}
    with world.server.fault(within_the_second):
        first = invoked(world, tmp_path, environment)
    again = invoked(world, tmp_path, environment)
    assert [each["overwritten"] for each in (first, again)] == [1, 0]
    assert [aws_lambda._measured(each, "rotation")["Overwritten"] for each in (first, again)] == [1, 0]
    assert first["problems"][0]["name"] == "s3://bucket/zz"
    assert "look at the bucket's versions" in first["problems"][0]["reason"]
    names = [each["name"] for each in first["problems"]]
    assert (len(names), names.count("s3://bucket/zz")) == (20, 1)


def test_a_shared_context_is_not_taken_for_hidden_key_material(world: World, tmp_path: Path) -> None:
    """KMS tells no material of a key in a custom key store, and boto3 none that is too old; it denied nothing."""
    world.put("v3", DATA, {})
    session = world.lab.session()

    def forget(parsed: dict[str, Any], **_: object) -> None:
        del parsed["KeyMetadata"]["CurrentKeyMaterialId"]

    session.events.register("after-call.kms.DescribeKey", forget)
    environment = {"SEALWAX_ACCEPT_STORED_CONTEXT": "1", "SEALWAX_ALSO": "s3ec"}
    done = invoked(world, tmp_path, environment, session=session)
    assert (done["rewrapped"], done["done"]) == (1, True)
    (note,) = done["notes"]
    assert "bound to no context of their own" in note


def test_an_object_whose_instruction_file_is_gone_is_damaged(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """It is encrypted, by what is left of its metadata, and nobody knows under which key."""
    world.put("v3", DATA)
    world.s3.put_object(Bucket="bucket", Key="x", Body=DATA, Metadata={"x-amz-unencrypted-content-length": "5"})
    for verb in (("plan", "--also", "s3ec", *PLAN), ("run", "--apply", "plan"), ("verify", "plan")):
        assert run(["fleet", verb[0], "--json", *verb[1:]]) == 8
        told = answer(capfd)
        assert (told["objects"], told["damaged"], told["foreign"]) == (2, 1, 0)
    assert (told["fresh"], told["stale"]) == (1, 0)


def test_many_invocations_of_lambda_get_to_the_end(world: World, tmp_path: Path) -> None:
    """Looking again at what is done would take the time of each invocation."""
    count, at_once, until = 12, 6, 0
    for at in range(count):
        world.put(f"a/{at:02}", DATA, instructions=at % 4 == 1)
    world.put("b/x", DATA)
    time.sleep(1.1)  # S3's dates have seconds
    environment = {
        "SEALWAX_LOCATIONS": "s3://bucket/a/ s3://bucket/b/",
        "SEALWAX_FROM": world.old,
        "SEALWAX_TO": world.new,
        "SEALWAX_CONTEXT": json.dumps(CONTEXT),
        "SEALWAX_ALSO": "s3ec",
    }

    def over() -> bool:
        return len(world.calls()) >= until

    done: list[int] = []
    while sum(done) <= count:
        assert len(done) < 20, done
        until = len(world.calls()) + at_once
        report = aws_lambda.rotate(
            {"source": "aws.events", "detail-type": "Scheduled Event"},
            Invoked(over),
            environment,
            folder=tmp_path / "plan",
            session=world.lab.session(),
            open_location=lambda location: S3Store(location, session=world.server.session()),
        )
        assert report["ended"] == "the time is up"
        done.append(report["rewrapped"])
    assert sum(done) == count + 1
