"""A fleet of objects of mixed keys in a versioned bucket, one of 6 MiB in two slots, beside a folder of files."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax import fleet
from sealwax.stores import open_store
from sealwax.stores.s3 import ObjectReader, ObjectWriter
from tests.fleet.fleets import ACME, CONTEXTS, Keys, mixed
from tests.s3 import Request, StrictS3, error


@pytest.fixture(scope="module")
def server() -> Iterator[StrictS3]:
    with StrictS3() as server:
        yield server


def fill(keys: Keys, s3: StrictS3, client: Any, count: int) -> int:
    """Seal objects, mixed, and a large one; return how many distinct wrapped keys they have."""
    distinct = set()
    for at, sealed in enumerate(mixed(keys, count - 1)):
        distinct.add(sealwax.inspect(sealed).wrapped_keys[0].ciphertext)
        client.put_object(Bucket="bucket", Key=f"p/{at:04} ü.swx", Body=sealed, Metadata={"own": str(at)})
    single = keys.sealer(keys.one)
    with (
        ObjectWriter("s3://bucket/p/large.swx", s3.session()) as target,
        single.open(target, "wb", context=ACME) as file,
    ):
        file.write(os.urandom(6 << 20))
    client.put_object(Bucket="bucket", Key="q/outside.swx", Body=single.encrypt(b"outside", context=ACME))
    return len(distinct) + 1


def payloads(client: Any) -> dict[str, str]:
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="bucket"):
        for entry in page["Contents"]:
            data = client.get_object(Bucket="bucket", Key=entry["Key"])["Body"].read()
            offset = int.from_bytes(data[12:14], "big") + data[11] * int.from_bytes(data[14:16], "big")
            found[entry["Key"]] = hashlib.sha256(data[offset:]).hexdigest()
    return found


def writes(s3: StrictS3) -> Counter[str]:
    return Counter(request.operation for request in s3.requests if request.method != "GET" and request.method != "HEAD")


def test_a_fleet_in_s3_under_new_data_keys(keys: Keys, server: StrictS3, path: Path) -> None:
    """Small objects and one of several parts, streamed, replaced under conditions, with what S3 keeps beside them."""
    client = server.bucket(versioned=True)
    fill(keys, server, client, 12)
    with (
        ObjectWriter("s3://bucket/p/larger.swx", server.session()) as target,
        keys.sealer(keys.one).open(target, "wb", context=ACME) as file,
    ):
        file.write(os.urandom(10 << 20))
    before = {entry["Key"]: entry["ETag"] for entry in client.list_objects_v2(Bucket="bucket")["Contents"]}
    large = client.get_object(Bucket="bucket", Key="p/larger.swx")["Body"].read()
    client.put_object_tagging(Bucket="bucket", Key="p/larger.swx", Tagging={"TagSet": [{"Key": "team", "Value": "a"}]})
    options: dict[str, Any] = {"open_location": lambda where: open_store(where, server.session())}
    session = keys.lab.session()
    planned = fleet.plan(
        path,
        ["s3://bucket/p/"],
        sources=keys.old,
        to=[keys.new],
        contexts=CONTEXTS,
        reencrypt=True,
        session=session,
        **options,
    )
    assert (planned.stale, planned.kms_calls) == (13, 26)
    assert planned.to_move > len(large)
    raced: list[str] = []

    def conflict(request: Request) -> Any:
        """Somebody else is faster, once with a small object and once with the large one."""
        if request.operation in ("PutObject", "CompleteMultipartUpload") and request.operation not in raced:
            raced.append(request.operation)
            return error(412, "PreconditionFailed")
        return None

    server.forget()
    with server.fault(conflict):
        done = fleet.run(path, session=session, **options)
    assert sorted(raced) == ["CompleteMultipartUpload", "PutObject"]
    assert (done.reencrypted, done.stale, done.failed, done.kms_calls) == (13, 0, 0, 2 * 15)
    replaced = [one for one in server.requests if one.operation in ("PutObject", "CompleteMultipartUpload")]
    assert len(replaced) == 15
    assert all("if-match" in request.headers for request in replaced)
    after = {entry["Key"]: entry["ETag"] for entry in client.list_objects_v2(Bucket="bucket")["Contents"]}
    assert {key for key in after if after[key] == before[key]} == {"q/outside.swx"}
    assert client.head_object(Bucket="bucket", Key="p/0007 ü.swx")["Metadata"] == {"own": "7"}
    tags = client.get_object_tagging(Bucket="bucket", Key="p/larger.swx")["TagSet"]
    assert tags == [{"Key": "team", "Value": "a"}]
    opened = keys.sealer(keys.new).decrypt(
        client.get_object(Bucket="bucket", Key="p/larger.swx")["Body"].read(), context=ACME
    )
    assert opened == keys.sealer(keys.one).decrypt(large, context=ACME)
    assert client.list_multipart_uploads(Bucket="bucket").get("Uploads", []) == []
    proven = fleet.verify(path, session=session, **options)
    assert (proven.done, proven.checked and proven.checked.digests) == (True, 13)


@pytest.mark.parametrize("count", [60, pytest.param(400, marks=pytest.mark.soak)])
def test_a_fleet_in_s3(keys: Keys, server: StrictS3, folder: Path, path: Path, count: int) -> None:
    rotate(keys, server, folder, path, count)


def rotate(keys: Keys, server: StrictS3, folder: Path, path: Path, count: int) -> None:
    """Hold what must hold of the rotation of ``count`` objects."""
    client = server.bucket(versioned=True)
    distinct = fill(keys, server, client, count)
    (folder / "a.swx").write_bytes(keys.sealer(keys.one).encrypt(b"file", context=ACME))
    before = payloads(client)
    options: dict[str, Any] = {"open_location": lambda where: open_store(where, server.session())}
    session = keys.lab.session()
    server.forget()
    planned = fleet.plan(
        path,
        ["s3://bucket/p/", str(folder)],
        sources=keys.old,
        to=[keys.new],
        contexts=CONTEXTS,
        digests=None,
        session=session,
        **options,
    )
    assert (planned.objects, planned.stale, planned.kms_calls) == (count + 1, count + 1, distinct + 1)
    assert writes(server) == {}

    # One object changes between the reading of its header and the write that depends on it.
    raced: list[str] = []

    def conflict(request: Request) -> Any:
        if request.operation == "PutObject" and not raced:
            raced.append(request.path)
            return error(412, "PreconditionFailed")
        return None

    made = keys.calls()
    with server.fault(conflict):
        done = fleet.run(path, session=session, **options)
    assert len(raced) == 1
    assert keys.calls() - made == {"ReEncrypt": distinct + 1}
    assert (done.rewrapped, done.stale, done.failed) == (count + 1, 0, 0)
    assert payloads(client) == before
    assert client.head_object(Bucket="bucket", Key="p/0007 ü.swx")["Metadata"] == {"own": "7"}
    with ObjectReader("s3://bucket/q/outside.swx", server.session()) as outside:
        assert [key.key_arn for key in sealwax.inspect(outside).wrapped_keys] == [keys.one]

    server.forget()
    made = keys.calls()
    assert fleet.run(path, session=session, **options).kms_calls == 0
    proven = fleet.verify(path, session=session, decrypt=10, **options)
    assert writes(server) == {}
    assert keys.calls() - made == {"Decrypt": 10}
    assert proven.checked is not None
    assert (proven.done, proven.checked.digests, proven.checked.decrypted) == (True, count + 1, 10)


def test_objects_that_s3_cannot_replace_without_a_loss_do_not_end_a_run(
    keys: Keys, server: StrictS3, path: Path
) -> None:
    """The next run could not replace them either."""
    client = server.bucket()
    sealed = keys.sealer(keys.one).encrypt(b"x", context=ACME)
    for at in range(21):
        client.put_object(Bucket="bucket", Key=f"p/{at:02}", Body=sealed)
    options: dict[str, Any] = {
        "open_location": lambda where: open_store(where, server.session()),
        "session": keys.lab.session(),
    }
    fleet.plan(path, ["s3://bucket/p/"], sources=keys.old, to=[keys.new], contexts=CONTEXTS, **options)

    def hold(request: Request) -> Any:
        return error(403, "InvalidObjectState") if request.path == "/bucket/p/00" else None

    def never(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [*headers, ("Expires", "never")]

    server.rewritten.append(never)
    with server.fault(hold):
        done = fleet.run(path, workers=1, **options)
    server.rewritten.clear()
    assert (done.count("refused"), done.ended) == (21, "")
    assert "archived" in done.problems[0][2]
    assert "Expires" in done.problems[1][2]
    done = fleet.run(path, **options)
    assert (done.rewrapped, done.done) == (21, True)
