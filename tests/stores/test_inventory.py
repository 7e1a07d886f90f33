"""An S3 Inventory as a store: CSV and Parquet lists of one bucket, read as S3 writes them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import pyarrow
import pytest
from pyarrow import parquet

import sealwax
from sealwax.stores import Entry, open_store
from tests.fakes import ALPHA, BETA, FakeKeyring
from tests.s3 import StrictS3
from tests.stores.test_s3_store import CONTEXT, to_beta

WHERE = "s3://lists/inv/bucket/all/2027-01-01T00-00Z/manifest.json"
SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
KEYS = ["a", "a b+c", "100%/ü", 'quo"te,comma', "line\nbreak"]
WHEN = datetime(2027, 1, 1, 12, 30, tzinfo=UTC)


def rows() -> list[dict[str, Any]]:
    def row(key: str, **changes: Any) -> dict[str, Any]:
        return {"Bucket": "bucket", "Key": key, "VersionId": "v1", "IsLatest": True, "IsDeleteMarker": False,
                "Size": 10, "LastModifiedDate": WHEN, "ETag": "abc", "StorageClass": "STANDARD", **changes}  # fmt: skip

    return [
        *(row(key) for key in KEYS),
        row("a", IsLatest=False, VersionId="v0"),
        row("gone", IsDeleteMarker=True, Size=None, ETag=None),
    ]


def as_csv(found: list[dict[str, Any]]) -> bytes:
    """Every field in quotes, keys encoded as in a URL, and no head."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for row in found:
        when = "2027-01-01T12:30:00.000Z" if row["LastModifiedDate"] is WHEN else row["LastModifiedDate"]
        fields = {**row, "Key": quote_plus(row["Key"]), "LastModifiedDate": when}
        writer.writerow([str(fields[name]).lower() if name.startswith("Is") else "" if fields[name] is None
                         else fields[name] for name in SCHEMA.split(", ")])  # fmt: skip
    return gzip.compress(text.getvalue().encode())


def as_parquet(found: list[dict[str, Any]]) -> bytes:
    names = {"Bucket": "bucket", "Key": "key", "VersionId": "version_id", "IsLatest": "is_latest",
             "IsDeleteMarker": "is_delete_marker", "Size": "size", "LastModifiedDate": "last_modified_date",
             "ETag": "e_tag", "StorageClass": "storage_class"}  # fmt: skip
    table = pyarrow.table({own: [row[name] for row in found] for name, own in names.items()})
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


def publish(s3: StrictS3, kind: str, *files: bytes, **changes: Any) -> None:
    client = s3.client()
    client.create_bucket(Bucket="lists")
    listed = []
    for number, data in enumerate(files):
        key = f"inv/bucket/all/data/{number}"
        client.put_object(Bucket="lists", Key=key, Body=data)
        listed.append({"key": key, "size": len(data), "MD5checksum": "0" * 32})
    manifest = {
        "sourceBucket": "bucket",
        "destinationBucket": "arn:aws:s3:::lists",
        "version": "2016-11-30",
        "creationTimestamp": "1798761600000",
        "fileFormat": kind,
        "fileSchema": SCHEMA if kind == "CSV" else "message s3.inventory { required binary bucket (UTF8); }",
        "files": listed,
        **changes,
    }
    client.put_object(Bucket="lists", Key=WHERE.removeprefix("s3://lists/"), Body=json.dumps(manifest).encode())


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
@pytest.mark.parametrize(("kind", "encode"), [("CSV", as_csv), ("Parquet", as_parquet)])
def test_a_date_that_no_clock_shows(s3: StrictS3, kind: str, encode: Any, text: str) -> None:
    """The list is no more than where to look: what it says of the time stops nobody."""
    when = text if kind == "CSV" else datetime.fromisoformat(text).replace(tzinfo=None)
    publish(s3, kind, encode([{**rows()[0], "LastModifiedDate": when}]))
    (entry,) = open_store(WHERE, s3.session()).list()
    assert isinstance(entry, Entry)
    assert entry.name == "s3://bucket/a"


@pytest.mark.parametrize(("kind", "encode"), [("CSV", as_csv), ("Parquet", as_parquet)])
def test_what_is_listed(s3: StrictS3, kind: str, encode: Any) -> None:
    publish(s3, kind, encode(rows()[:2]), encode(rows()[2:]))
    store = open_store(WHERE, s3.session())
    assert store.location == WHERE
    found = [entry for entry in store.list() if isinstance(entry, Entry)]
    assert [entry.name for entry in found] == [f"s3://bucket/{key}" for key in KEYS]
    assert {(entry.size, entry.version, entry.modified) for entry in found} == {(10, '"abc"', WHEN.timestamp())}


def test_what_is_listed_is_read_and_rewrapped_where_it_is(s3: StrictS3) -> None:
    sealer = sealwax.Sealer(FakeKeyring(ALPHA))
    body = sealer.encrypt(b"data", context=CONTEXT)
    etag = s3.client().put_object(Bucket="bucket", Key="a", Body=body)["ETag"]
    publish(s3, "CSV", as_csv([{**rows()[0], "Size": len(body), "ETag": etag.strip('"')}]))
    store = open_store(WHERE, s3.session())
    (entry,) = store.list()
    assert isinstance(entry, Entry)
    (live,) = open_store("s3://bucket/", s3.session()).list()
    assert isinstance(live, Entry)
    assert (entry.name, entry.size, entry.version) == (live.name, live.size, live.version)
    store.rewrap(entry.name, to_beta)
    assert [key.key_arn for key in store.inspect(entry.name).wrapped_keys] == [BETA]
    with pytest.raises(sealwax.StoreError, match="is not in"):
        store.inspect("s3://lists/inv")


@pytest.mark.parametrize("kind", ["CSV", "Parquet"])
@pytest.mark.parametrize("damage", ["cut", "noise", "another bucket", "missing"])
def test_a_damaged_list_is_an_error(s3: StrictS3, kind: str, damage: str) -> None:
    encode = as_csv if kind == "CSV" else as_parquet
    found = rows()
    if damage == "another bucket":
        found[1]["Bucket"] = "else"
    data = encode(found)
    publish(s3, kind, {"cut": data[:-9], "noise": b"noise"}.get(damage, data))
    if damage == "missing":
        s3.client().delete_object(Bucket="lists", Key="inv/bucket/all/data/0")
    with pytest.raises(sealwax.StoreError, match=r"no such object|the S3 Inventory's file") as caught:
        list(open_store(WHERE, s3.session()).list())
    assert "s3://lists/inv/bucket/all/data/0" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fileFormat": "ORC"}, "CSV and Parquet"),
        ({"fileSchema": "Bucket, Key"}, "lacks the field Size"),
        ({"files": None}, "not an S3 Inventory manifest"),
        ({"sourceBucket": ""}, "not an S3 object name"),
    ],
)
def test_a_manifest_that_does_not_serve(s3: StrictS3, changes: dict[str, Any], said: str) -> None:
    publish(s3, "CSV", as_csv(rows()), **changes)
    with pytest.raises(sealwax.StoreError, match=said):
        open_store(WHERE, s3.session())


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 100_000, b"{}"])
def test_what_is_no_manifest(s3: StrictS3, body: bytes) -> None:
    s3.client().put_object(Bucket="bucket", Key="x/manifest.json", Body=body)
    with pytest.raises(sealwax.StoreError, match="not an S3 Inventory manifest"):
        open_store("s3://bucket/x/manifest.json", s3.session())


@pytest.mark.parametrize("size", [10**30, -5])
def test_a_size_that_no_object_has(s3: StrictS3, size: int) -> None:
    publish(s3, "CSV", as_csv([rows()[0] | {"Size": size}]))
    with pytest.raises(sealwax.StoreError, match=f"an object has {size} bytes"):
        list(open_store(WHERE, s3.session()).list())
