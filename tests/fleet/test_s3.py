"""A fleet of 400 objects in S3, with one of 6 MiB in two slots, in a versioned bucket, beside a folder of files."""

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
from sealwax.cache import CachingKeyring
from sealwax.stores import open_store
from sealwax.stores.s3 import ObjectReader, ObjectWriter
from tests.fleet.fleets import CONTEXTS, Keys
from tests.s3 import Request, StrictS3, error

COUNT = 400
ACME = {"tenant": "acme", "set": "0"}


@pytest.fixture(scope="module")
def server() -> Iterator[StrictS3]:
    with StrictS3() as server:
        yield server


def fill(keys: Keys, s3: StrictS3, client: Any, count: int) -> int:
    """Seal objects, a half under shared data keys; return how many distinct wrapped keys they have."""
    keyring = sealwax.KmsKeyring(keys.one, session=keys.lab.session())
    shared = sealwax.Sealer(CachingKeyring(keyring, max_age=3600, max_messages=20))
    single = sealwax.Sealer(keyring)
    distinct = set()
    for at in range(count - 1):
        sealed = (single if at % 2 else shared).encrypt(b"value %d" % at, context=ACME)
        distinct.add(sealwax.inspect(sealed).wrapped_keys[0].ciphertext)
        client.put_object(Bucket="bucket", Key=f"p/{at:04} ü.swx", Body=sealed, Metadata={"own": str(at)})
    with (
        ObjectWriter("s3://bucket/p/large.swx", s3.session()) as target,
        single.open(target, "wb", context=ACME) as file,
    ):
        file.write(os.urandom(6 << 20))
    client.put_object(Bucket="bucket", Key="q/outside.swx", Body=sealed)
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


def test_a_fleet_in_s3(keys: Keys, server: StrictS3, folder: Path, path: Path) -> None:
    rotate(keys, server, folder, path, COUNT)


def rotate(keys: Keys, server: StrictS3, folder: Path, path: Path, count: int) -> None:
    """Hold what must hold of the rotation of ``count`` objects."""
    client = server.bucket(versioned=True)
    distinct = fill(keys, server, client, count)
    (folder / "a.swx").write_bytes(keys.sealer(keys.one).encrypt(b"file", context=ACME))
    before = payloads(client)
    options: dict[str, Any] = {"open_place": lambda where: open_store(where, server.session())}
    session = keys.lab.session()
    server.forget()
    planned = fleet.plan(
        path,
        ["s3://bucket/p/", str(folder)],
        sources=[keys.one],
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
