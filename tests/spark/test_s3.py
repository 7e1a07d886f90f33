"""Spark over S3: a prefix and an S3 Inventory, from the plan to the proof; and an Inventory that Spark reads itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sealwax import fleet
from sealwax._core.staleness import Wanted, WantedKey
from sealwax.fleet import spark as engine
from sealwax.lab import Lab
from sealwax.stores import Store, open_store
from tests.fleet.fleets import CONTEXTS, Keys, make_keys
from tests.s3 import S3Session, StrictS3
from tests.spark.local import LabSession
from tests.stores.test_inventory import WHEN, WHERE, as_parquet, publish

BELOW = [f"p/{at} ü%.swx" for at in range(12)]
LISTED = [f"q/{at} ü%.swx" for at in range(8)]


@dataclass(frozen=True)
class Place:
    """Opens a place at a server."""

    url: str

    def __call__(self, where: str) -> Store:
        return open_store(where, S3Session(self.url))


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    with Lab(tmp_path / "lab") as lab:
        yield make_keys(lab)


@pytest.fixture
def server() -> Iterator[StrictS3]:
    with StrictS3() as server:
        yield server


def fill(keys: Keys, client: Any) -> bytes:
    """Seal objects; return an S3 Inventory in Parquet of a part of them, and of one that is gone."""
    sealer = keys.sealer(keys.one)
    for at, key in enumerate([*BELOW, *LISTED]):
        sealed = sealer.encrypt(b"value", context={"tenant": "acme", "set": str(at % 3)})
        client.put_object(Bucket="bucket", Key=key, Body=sealed, Metadata={"own": str(at)})
    row = {"Bucket": "bucket", "VersionId": "v", "IsLatest": True, "IsDeleteMarker": False, "Size": 500,
           "LastModifiedDate": WHEN, "ETag": "e", "StorageClass": "STANDARD"}  # fmt: skip
    return as_parquet([{**row, "Key": key} for key in [*LISTED, "q/gone.swx"]])


def under(server: StrictS3) -> set[tuple[str, ...]]:
    store = open_store("s3://bucket/", server.session())
    return {tuple(key.key_arn for key in store.inspect(f"s3://bucket/{one}").wrapped_keys) for one in [*BELOW, *LISTED]}


def test_a_prefix_and_an_inventory(spark: SparkSession, keys: Keys, server: StrictS3, tmp_path: Path) -> None:
    client = server.bucket()
    publish(server, "Parquet", fill(keys, client))
    where, place = ["s3://bucket/p/", WHERE], Place(server.url)
    of_spark = engine.Spark(
        spark,
        where,
        rate=1e5,
        open_location=place,
        kms_session=LabSession(str(keys.lab.path)),
        partitions=3,
        results=str(tmp_path / "results"),
    )
    here: dict[str, Any] = {"open_location": place, "session": keys.lab.session()}
    server.forget()
    chosen: dict[str, Any] = {"sources": [keys.one], "to": [keys.new], "contexts": CONTEXTS}
    by_threads = fleet.plan(tmp_path / "threads.plan", where, **chosen, **here)
    planned = fleet.plan(tmp_path / "plan", where, **chosen, **here, engine=of_spark)
    # But for the request's id in what is said of the one that is gone.
    assert replace(planned, problems=(), kinds=()) == replace(by_threads, problems=(), kinds=())
    assert [problem[:2] for problem in planned.problems] == [("s3://bucket/q/gone.swx", "unreadable")]
    assert (planned.stale, planned.count("unreadable")) == (20, 1)
    assert {request.method for request in server.requests} == {"GET"}

    server.forget()
    made = keys.calls()
    done = fleet.run(tmp_path / "plan", **here, engine=of_spark)
    assert (done.rewrapped, done.stale, done.kms_calls) == (20, 0, 20)
    assert keys.calls() - made == {"ReEncrypt": 20}
    assert Counter(server.operations)["PutObject"] == 20
    assert under(server) == {(keys.new,)}
    assert client.head_object(Bucket="bucket", Key=BELOW[7])["Metadata"] == {"own": "7"}
    rows = spark.read.parquet(*(str(job) for job in (tmp_path / "results").iterdir())).collect()
    assert {row.name for row in rows if row.state == "rewrapped"} == {f"s3://bucket/{one}" for one in BELOW + LISTED}

    server.forget()
    made = keys.calls()
    assert fleet.run(tmp_path / "plan", **here, engine=of_spark).kms_calls == 0
    proven = fleet.verify(tmp_path / "plan", **here, decrypt=3)
    assert (proven.stale, keys.calls() - made) == (0, {"Decrypt": 3})
    assert {request.method for request in server.requests} == {"GET"}


def test_an_inventory_that_spark_reads(spark: SparkSession, keys: Keys, server: StrictS3, tmp_path: Path) -> None:
    (tmp_path / "inventory").write_bytes(fill(keys, server.bucket()))
    server.forget()
    settings = fleet.Settings((keys.one,), Wanted((WantedKey(keys.new),)), CONTEXTS)
    job = engine.Job("s3://bucket/", settings, 1e5, Place(server.url), LabSession(str(keys.lab.path)))
    names = spark.read.parquet(str(tmp_path / "inventory")).selectExpr("concat('s3://', bucket, '/', key) AS name")
    found = engine.scan(names, job)
    rows = engine.rewrap(found.where("state = 'stale'"), job).collect()
    assert {row.name for row in rows} == {f"s3://bucket/{one}" for one in LISTED}
    assert {row.state for row in rows} == {"rewrapped"}
    assert Counter(server.operations)["PutObject"] == len(LISTED)
    assert under(server) == {(keys.one,), (keys.new,)}
    assert Counter(row.state for row in found.collect()) == {"fresh": len(LISTED), "unreadable": 1}
