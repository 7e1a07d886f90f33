"""ACLs that a change in place does not keep are told, by one request where a bucket has none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sealwax.cli import run
from tests.foreign.objects import C, World
from tests.s3 import Request, error

pytestmark = pytest.mark.slow

DATA = os.urandom(1000)
X = "s3://bucket/x.swx"
TOLD = "its ACL allowed READ to everyone"
MOVE = ("-k", "alias/old", "--to", "alias/new", *C)


def put(world: World, kind: str, acl: str, name: str = "x.swx") -> None:
    """An envelope, or an object of the S3 Encryption Client, with an ACL."""
    if kind == "envelope":
        Path("x").write_bytes(DATA)
        assert run(["encrypt", "-k", "alias/old", *C, "--force", "x", "-o", f"s3://bucket/{name}"]) == 0
    else:
        world.put(name, DATA)
    world.s3.put_object_acl(Bucket="bucket", Key=name, ACL=acl)
    world.server.forget()


def enforce(world: World) -> None:
    rules = [{"ObjectOwnership": "BucketOwnerEnforced"}]
    world.s3.put_bucket_ownership_controls(Bucket="bucket", OwnershipControls={"Rules": rules})


def acls_asked(world: World) -> list[str]:
    names = {"GetBucketOwnershipControls": "bucket", "GetObjectAcl": "acl"}
    return [names[operation] for operation in world.server.operations if operation in names]


@pytest.mark.parametrize("kind", ["envelope", "s3ec"])
def test_whom_it_let_in_is_told(world: World, kind: str, err: Callable[[], str]) -> None:
    put(world, kind, "public-read")
    err()
    assert run(["rewrap", "--dry-run", *MOVE, X]) == 0
    assert "its ACL allows READ to everyone, and the changed object's would not" in err()
    assert run(["rewrap", *MOVE, X]) == 0
    assert f"{X}: {TOLD}, and the changed object's does not; to set it again, use `aws s3api put-object-acl`" in err()
    grants = world.s3.get_object_acl(Bucket="bucket", Key="x.swx")["Grants"]
    assert [grant["Permission"] for grant in grants] == ["FULL_CONTROL"]
    assert run(["rewrap", *MOVE, "-q", X]) in (0, 7)
    assert "ACL" not in err()


def test_its_owner_alone_is_not(world: World, err: Callable[[], str]) -> None:
    put(world, "s3ec", "private")
    err()
    assert run(["rewrap", *MOVE, X]) == 0
    assert "ACL" not in err()
    assert acls_asked(world) == ["bucket", "acl"]


def test_a_reencryption_tells_too(world: World, err: Callable[[], str]) -> None:
    put(world, "envelope", "authenticated-read")
    err()
    assert run(["reencrypt", "--dry-run", *MOVE, X]) == 0
    assert "READ to every AWS account" in err()
    assert run(["reencrypt", *MOVE, X]) == 0
    assert "READ to every AWS account" in err()


def test_an_edit_tells_too(world: World, err: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    put(world, "envelope", "public-read")
    Path("editor").write_text('#!/bin/sh\necho more >> "$1"\n')
    Path("editor").chmod(0o755)
    monkeypatch.setenv("EDITOR", str(Path("editor").resolve()))
    err()
    assert run(["edit", "-k", "alias/old", *C, X]) == 0
    assert TOLD in err()


def test_a_bucket_without_acls_is_asked_once(world: World, err: Callable[[], str]) -> None:
    for at in range(3):
        put(world, "s3ec", "private", f"{at}.swx")
    enforce(world)
    world.server.forget()
    assert run(["rewrap", "-r", *MOVE, "s3://bucket/"]) == 0
    assert acls_asked(world) == ["bucket"]
    assert "ACL" not in err()


def test_what_was_not_changed_is_not_told(world: World, err: Callable[[], str]) -> None:
    put(world, "s3ec", "public-read")
    assert run(["rewrap", *MOVE, X]) == 0
    world.s3.put_object_acl(Bucket="bucket", Key="x.swx", ACL="public-read")
    err()
    assert run(["rewrap", *MOVE, X]) == 0
    said = err()
    assert "already under" in said
    assert "ACL" not in said


@pytest.mark.parametrize("denied", ["both", "bucket"])
def test_without_permission(world: World, denied: str, err: Callable[[], str]) -> None:
    """Without the one, each object is asked about; without both it is said once, and the work is done."""
    for at in range(3):
        put(world, "s3ec", "public-read", f"{at}.swx")
    err()

    def fault(request: Request) -> Any:
        if "ownershipControls" in request.query or ("acl" in request.query and denied == "both"):
            return error(403, "AccessDenied")
        return None

    with world.server.fault(fault):
        assert run(["rewrap", "-r", *MOVE, "s3://bucket/"]) == 0
    said = err()
    assert said.count("have ACLs is not known") == (denied == "both")
    assert (TOLD in said) == (denied == "bucket")
    if denied == "bucket":
        assert all(f"s3://bucket/{at}.swx" in said for at in range(3))


def test_a_plan_says_where_that_is_not_known(world: World, err: Callable[[], str]) -> None:
    put(world, "s3ec", "public-read")
    err()

    def fault(request: Request) -> Any:
        return error(403, "AccessDenied") if "ownershipControls" in request.query else None

    plan = ["--from", "alias/old", "--to", "alias/new", *C, "-o", "plan", "s3://bucket/"]
    with world.server.fault(fault):
        run(["fleet", "plan", "--also", "s3ec", *plan])
    assert "it is not known whether objects of s3://bucket/ have ACLs of their own" in err()


@pytest.mark.parametrize("enforced", [False, True])
def test_a_plan_says_where_objects_may_have_some(world: World, enforced: bool, err: Callable[[], str]) -> None:
    put(world, "s3ec", "private")
    if enforced:
        enforce(world)
    world.server.forget()
    err()
    plan = ["--from", "alias/old", "--to", "alias/new", *C, "-o", "plan", "s3://bucket/"]
    run(["fleet", "plan", "--also", "s3ec", *plan])
    assert ("may have ACLs of their own" in err()) == (not enforced)
    assert acls_asked(world) == ["bucket"]
