"""Objects of the real S3 Encryption Client are read and re-wrapped, and it opens them under the new key alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwax.cli import run
from tests.foreign import objects
from tests.foreign.objects import C, Peer, World

pytestmark = pytest.mark.slow

SIZES = (0, 1, 100_000, (5 << 20) + 1)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Peer]]:
    with objects.opened(tmp_path_factory.mktemp("peer")) as world, objects.peer(world) as peer:
        world.begin()
        yield world, peer


@pytest.fixture(autouse=True)
def _environment(both: tuple[World, Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in both[0].server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SEALWAX_LAB", str(both[0].lab.path))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_read_and_rewrapped(both: tuple[World, Peer], version: int, size: int) -> None:
    world, peer = both
    key, data = f"{version}-{size}", os.urandom(size)
    place = f"s3://bucket/{key}"
    peer.put(key, data, version, world.old)
    before = world.s3.head_object(Bucket="bucket", Key=key)
    body = world.body(key)
    assert run(["decrypt", "-k", "alias/old", *C, "--allow-legacy", "s3ec-v2", place, "-o", "plain"]) == 0
    assert Path("plain").read_bytes() == data

    assert run(["rewrap", "-k", "alias/old", "--to", "alias/new", *C, place]) == 0
    assert world.body(key) == body
    after = world.s3.head_object(Bucket="bucket", Key=key)
    blob = "x-amz-3" if version == 3 else "x-amz-key-v2"
    assert {name for name in after["Metadata"] if after["Metadata"][name] != before["Metadata"].get(name)} == {blob}
    assert before["Metadata"].keys() == after["Metadata"].keys()
    assert peer.get(key, world.new) == data
    assert "IncorrectKey" in str(peer.get(key, world.old))
    assert run(["verify", "-k", "alias/new", *C, "--allow-legacy", "s3ec-v2", place]) == 0


@pytest.mark.parametrize("version", [2, 3])
def test_instruction_files(both: tuple[World, Peer], version: int) -> None:
    world, peer = both
    key, data = f"instructions-{version}", os.urandom(1000)
    place = f"s3://bucket/{key}"
    world.put(key, data, version=version, instructions=True)
    assert peer.get(key, world.old) == data, "the real client reads what the tests make"
    before = world.s3.head_object(Bucket="bucket", Key=key)
    assert run(["rewrap", "-k", "alias/old", "--to", "alias/new", *C, place]) == 0
    after = world.s3.head_object(Bucket="bucket", Key=key)
    same = ("ETag", "LastModified", "Metadata")
    assert [before[name] for name in same] == [after[name] for name in same], "the object itself is not touched"
    assert peer.get(key, world.new) == data
    assert "IncorrectKey" in str(peer.get(key, world.old))


def test_the_wrapping_of_old_objects(both: tuple[World, Peer]) -> None:
    """The name of the new key is what the new wrapped key is bound to."""
    world, _ = both
    data = os.urandom(1000)
    world.put("kms", data, version=2, wrapping="kms")
    place = "s3://bucket/kms"
    assert run(["rewrap", "-k", "alias/old", "--to", world.new, *C, place]) == 0
    assert world.new in world.s3.head_object(Bucket="bucket", Key="kms")["Metadata"]["x-amz-matdesc"]
    assert run(["decrypt", "-k", "alias/new", *C, "--allow-legacy", "s3ec-kms", place, "-o", "plain"]) == 0
    assert Path("plain").read_bytes() == data
