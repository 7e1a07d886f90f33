"""``keys retire`` asks KMS about objects that name no key, and looks at old versions."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sealwax.cli import run
from tests.foreign import s3ec
from tests.foreign.objects import CONTEXT, C, World
from tests.stores import test_inventory as inventories

pytestmark = pytest.mark.slow

DATA = os.urandom(1000)
OBJECTS = 5
RETIRE = ("keys", "retire", "alias/old", "--scan", "s3://bucket/")


def report(capfd: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    capfd.readouterr()
    status = run([*RETIRE, "--json", *options])
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return status, found


def sent_by(world: World, *command: str) -> Counter[str]:
    """Return what a command sends to S3 about the bucket and its objects, and how often it calls ReEncrypt."""
    world.server.forget()
    calls = len(world.calls())
    assert run([*command]) in (0, 3)
    asked = Counter(request.operation for request in world.server.requests if request.path.startswith("/bucket"))
    return asked + Counter(call for call in world.calls()[calls:] if call == "ReEncrypt")


@pytest.mark.parametrize(
    "how", [{"version": 2}, {"version": 3}, {"version": 2, "instructions": True}, {"version": 3, "instructions": True}]
)
def test_kms_tells(world: World, capfd: pytest.CaptureFixture[str], how: dict[str, Any]) -> None:
    world.put("x", DATA, **how)
    before, calls = world.state(), len(world.calls())
    status, found = report(capfd)
    assert (status, found["under"]) == (3, 0)
    assert found["unknown"] > 0
    assert "ReEncrypt" not in world.calls()[calls:]
    status, found = report(capfd, "--ask-kms")
    assert (status, found["unknown"]) == (3, 0)
    assert found["under"] >= 1
    assert world.state() == before

    assert run(["rewrap", "-k", "alias/old", "--to", "alias/new", *C, "s3://bucket/x"]) == 0
    status, found = report(capfd, "--ask-kms")
    assert (status, found["under"], found["unknown"]) == (0, 0, 0)
    status, found = report(capfd, "--ask-kms", "--versions")
    assert (status, found["unknown"]) == (3, 0), "the old version is still under it"
    assert found["under"] >= 1


def test_kms_is_asked_once_about_copies_and_versions(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    made = world.make(DATA)
    for name in ("x", "x", "copy", "another/copy"):
        made.put(world.s3, name)
    world.put("y", DATA)
    calls = len(world.calls())
    status, found = report(capfd, "--ask-kms", "--versions")
    assert (status, found["under"], found["unknown"]) == (3, 5, 0)
    assert world.calls()[calls:].count("ReEncrypt") == 2


def test_what_kms_does_not_tell_refuses(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """A context that was changed, a blob that was, and a disabled key: nobody can say."""
    made = world.make(DATA)
    made.metadata["x-amz-t"] = made.metadata["x-amz-t"].replace("acme", "other")
    made.put(world.s3, "x")
    status, found = report(capfd, "--ask-kms")
    assert (status, found["under"], found["unknown"]) == (3, 0, 1)
    assert "KMS did not tell" in found["reasons"][0]
    world.begin(versioned=True)
    third = world.lab.create_key(alias="third")["Arn"]
    s3ec.make(world.kms, third, DATA, CONTEXT).put(world.s3, "x")
    world.kms.disable_key(KeyId=third)
    capfd.readouterr()
    assert run(["keys", "retire", third, "--scan", "s3://bucket/", "--ask-kms", "--json"]) == 3
    assert json.loads(capfd.readouterr().out)["unknown"] == 1


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_file_of_two_versions_clears_no_key(world: World, capfd: pytest.CaptureFixture[str], version: int) -> None:
    """Which of its wrapped keys is used depends on the reader: one under another key does not clear this one."""
    old = world.make(DATA, version=2, instructions=True).instructions or {}
    beside = {1: {"x-amz-key": old["x-amz-key-v2"]}, 2: old, 3: {"x-amz-m": old["x-amz-matdesc"]}}[version]
    made = s3ec.make(world.kms, world.new, DATA, CONTEXT, version=3, instructions=True)
    assert made.instructions is not None
    made.instructions |= beside
    made.put(world.s3, "x")
    world.s3.delete_object(Bucket="bucket", Key="x")
    calls = len(world.calls())
    status, found = report(capfd, "--ask-kms")
    assert (status, found["under"], found["unknown"]) == (3, 0, 1)
    assert "ReEncrypt" not in world.calls()[calls:]


def test_old_versions_that_were_not_looked_at_are_told(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.s3.put_object(Bucket="bucket", Key="plain", Body=b"text")
    assert run([*RETIRE]) == 0
    assert "old versions of S3 objects were not looked at" in capfd.readouterr().out
    assert run([*RETIRE, "--versions"]) == 0
    assert "not looked at" not in capfd.readouterr().out


def test_old_versions_of_a_bucket_and_of_an_inventory(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """What is an inventory is told by what was opened, not by how it was typed."""
    world.put("a/x", DATA)
    assert run(["rewrap", "-k", "alias/old", "--to", "alias/new", *C, "s3://bucket/a/x"]) == 0
    capfd.readouterr()
    retire = ("keys", "retire", "alias/old", "--ask-kms", "--versions", "--json", "--scan")
    for place in ("s3://bucket", "s3://bucket/", "s3://bucket/a"):
        assert run([*retire, place]) == 3
        found = json.loads(capfd.readouterr().out)
        assert (found["objects"], found["under"], found["unknown"]) == (2, 1, 0), place
    inventories.publish(world.server, "CSV", inventories.as_csv([{**inventories.rows()[0], "Key": "a/x"}]))
    assert run([*retire, inventories.WHERE]) == 3
    found = json.loads(capfd.readouterr().out)
    assert (found["objects"], found["under"], found["unknown"]) == (1, 0, 1)
    assert "an S3 Inventory does not show old versions" in found["reasons"][0]


@pytest.mark.usefixtures("world")
def test_old_versions_of_envelopes(capfd: pytest.CaptureFixture[str], err: Callable[[], str]) -> None:
    Path("a").write_bytes(DATA)
    assert run(["encrypt", "-k", "alias/old", *C, "a", "-o", "s3://bucket/a.swx"]) == 0
    assert run(["rewrap", "-k", "alias/old", "--to", "alias/new", *C, "s3://bucket/a.swx"]) == 0
    assert report(capfd)[0] == 0
    status, found = report(capfd, "--versions")
    assert (status, found["under"], found["objects"]) == (3, 1, 2)
    assert "?versionId=" in found["examples"][0]["name"]
    assert run(["keys", "retire", "alias/old", "--scan", ".", "--versions"]) == 2
    assert "--versions is for S3" in err()


@pytest.mark.parametrize("inventory", [False, True])
def test_what_a_plan_and_its_verification_send(world: World, inventory: bool) -> None:
    """The page about these objects has the costs."""
    for at in range(OBJECTS):
        world.put(f"o/{at}", DATA)
    where = "s3://bucket/"
    each = {"ListObjectsV2": 1, "GetObject": OBJECTS}
    if inventory:
        listed = [{**inventories.rows()[0], "Key": f"o/{at}"} for at in range(OBJECTS)]
        inventories.publish(world.server, "CSV", inventories.as_csv(listed))
        where = inventories.WHERE
        each = {"GetObject": 2 * OBJECTS}
    plan = ("plan", "--also", "s3ec", "--from", "alias/old", "--to", "alias/new", *C, "-o", "plan", where)
    assert sent_by(world, "fleet", *plan) == {**each, "GetBucketOwnershipControls": 1}
    assert sent_by(world, "fleet", "run", "--apply", "plan") == {
        "GetObject": 2 * OBJECTS,
        "PutObjectCopy": OBJECTS,
        "HeadObject": OBJECTS,
        "ListObjectVersions": OBJECTS,
        "ReEncrypt": OBJECTS,
    }
    assert sent_by(world, "fleet", "verify", "plan") == each


def test_what_questions_to_kms_send(world: World) -> None:
    for at in range(OBJECTS):
        world.put(f"o/{at}", DATA)
    once = {"ListObjectsV2": 1, "GetObject": OBJECTS, "ReEncrypt": OBJECTS}
    assert sent_by(world, *RETIRE, "--ask-kms") == once
    for at in range(OBJECTS):
        assert run(["rewrap", "-k", "alias/old", "--to", "alias/new", *C, f"s3://bucket/o/{at}"]) == 0
    both = {"ListObjectsV2": 1, "ListObjectVersions": 1, "GetObject": 2 * OBJECTS, "ReEncrypt": 2 * OBJECTS}
    assert sent_by(world, *RETIRE, "--ask-kms", "--versions") == both
