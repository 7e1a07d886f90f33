"""A small file that unpacks into much memory is refused, or read piece by piece: none takes the machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from botocore.config import Config
from pyarrow import parquet

import sealwax
from sealwax.stores import Entry, open_store
from tests.s3 import S3Session, StrictS3
from tests.stores.test_inventory import SCHEMA, as_csv, as_parquet, rows

ROOT = Path(__file__).parents[2]
MOST_GROWN = 64 << 20


def long(text: bytes) -> bytes:
    """64 MiB or so of a text, as members of one gzip file."""
    return gzip.compress(text * ((1 << 20) // len(text)), 1) * 64


def one_line() -> bytes:
    return gzip.compress(b'"bucket","') + long(b"x")


def one_row_of_many_lines() -> bytes:
    """Each line begins with the end of a quoted field, and ends with the beginning of one."""
    return gzip.compress(b'"bucket","a\n') + long(b'","a\n')


def one_row_of_many_fields() -> bytes:
    return long(b",")


def packed(table: dict[str, Any], **settings: Any) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pyarrow.table(table), out, **settings)
    return out.getvalue()


def in_every_row(kind: pyarrow.DataType) -> bytes:
    """One long text, which a dictionary holds once."""
    text = pyarrow.array(["x" * (1 << 20)], kind)
    keys = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 100_000, pyarrow.int32()), text)
    return packed({"bucket": ["bucket"] * 100_000, "key": keys, "size": [1] * 100_000}, store_schema=False)


def one_value(packing: str) -> bytes:
    table = {"bucket": ["bucket"], "key": ["x" * (32 << 20)], "size": [1]}
    return packed(table, compression=packing, use_dictionary=False, write_statistics=False)


def prefixes() -> bytes:
    """Each text is the one before and a letter, of which only the letter is stored."""
    keys = ["x" * 50_000 + str(number) for number in range(2000)]
    return packed(
        {"bucket": ["bucket"] * 2000, "key": keys, "size": [1] * 2000},
        use_dictionary=False,
        column_encoding={"key": "DELTA_BYTE_ARRAY"},
    )


def nested() -> bytes:
    return packed({"bucket": ["bucket"], "key": [["x"]], "size": [1]})


CASES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "one line": ("CSV", one_line, "a row has more than"),
    "many lines": ("CSV", one_row_of_many_lines, "a row has more than"),
    "many fields": ("CSV", one_row_of_many_fields, "a row has more than"),
    "in every row": ("Parquet", lambda: in_every_row(pyarrow.string()), "a value has 1,048,576 bytes"),
    "in every large row": ("Parquet", lambda: in_every_row(pyarrow.large_string()), "a value has 1,048,576 bytes"),
    "one value": ("Parquet", lambda: one_value("snappy"), "a column of 1 rows has 33,554,4"),
    "packed tightly": ("Parquet", lambda: one_value("zstd"), "compressed in a way that S3 Inventory does not use"),
    "prefixes": ("Parquet", prefixes, "compressed in a way that S3 Inventory does not use"),
    "nested": ("Parquet", nested, "is of another type"),
}


def publish(client: Any, name: str, kind: str, data: bytes, **changes: Any) -> str:
    """Put an inventory of one file into place; return where its manifest is."""
    client.put_object(Bucket="bucket", Key=f"{name}/data", Body=data)
    schema = "Bucket, Key, Size" if kind == "CSV" else "message s3.inventory {}"
    manifest = {"sourceBucket": "bucket", "fileFormat": kind, "fileSchema": schema, "files": [{"key": f"{name}/data"}]}
    body = json.dumps(manifest | changes).encode()
    client.put_object(Bucket="bucket", Key=f"{name}/manifest.json", Body=body)
    return f"s3://bucket/{name}/manifest.json"


class OneClient(S3Session):
    """A session that makes one client, which takes longer than all the rest."""

    def __init__(self, s3: StrictS3) -> None:
        super().__init__(s3.url)
        self._client: Any = None

    def client(self, service_name: Any, *, region_name: str | None = None, config: Config | None = None) -> Any:
        if self._client is None:
            self._client = super().client(service_name, region_name=region_name, config=config)
        return self._client


def test_nothing_small_takes_much_memory(s3: StrictS3) -> None:
    client = s3.client()
    whole = gzip.compress(b"".join(b"bucket,%d,1\n" % number for number in range(5000)), 1)
    places = [publish(client, "small", "Parquet", as_parquet(rows()))]
    for name, (kind, make, _) in CASES.items():
        data = make()
        assert len(data) < 16 << 20, name
        places.append(publish(client, name.replace(" ", "-"), kind, data))
    places.append(publish(client, "whole", "CSV", whole))
    done = subprocess.run(
        [sys.executable, "-m", "tests.stores.listing", *places],
        cwd=ROOT,
        env=os.environ | s3.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(CASES) + 1, done.stderr
    for (name, (_, _, said)), found in zip(CASES.items(), told, strict=False):
        assert said in found["said"], (name, found)
        assert found["said"].startswith("StoreError: reading the S3 Inventory's file"), (name, found)
        assert found["grown"] < MOST_GROWN, (name, found)
    assert (told[-1]["said"], told[-1]["entries"]) == ("", 5000)


def test_lists_of_every_size(s3: StrictS3) -> None:
    """Within what is read at first, a little larger, and much larger."""
    client, session = s3.client(), OneClient(s3)
    for count in (100, 500, 3000):
        keys = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(count)]
        listed = packed({"bucket": ["bucket"] * count, "key": keys, "size": list(range(count))}, row_group_size=1000)
        where = publish(client, "sized", "Parquet", listed)
        found = [entry for entry in open_store(where, session).list() if isinstance(entry, Entry)]
        assert [(entry.name, entry.size) for entry in found] == [
            (f"s3://bucket/{key}", at) for at, key in enumerate(keys)
        ]


def test_a_manifest_larger_than_any(s3: StrictS3) -> None:
    listed = [{"key": "x" * 100}] * 50_000
    where = publish(s3.client(), "large", "CSV", b"", files=listed)
    with pytest.raises(sealwax.StoreError, match=r"is not an S3 Inventory manifest: it has more than 4,194,304 bytes"):
        open_store(where, s3.session())


def test_a_key_longer_than_any(s3: StrictS3) -> None:
    client, session = s3.client(), OneClient(s3)
    longest = {**rows()[0], "Key": "ü" * 512}
    for kind, encode, schema in (("CSV", as_csv, SCHEMA), ("Parquet", as_parquet, "")):
        where = publish(client, "longest", kind, encode([longest]), fileSchema=schema)
        assert len(list(open_store(where, session).list())) == 1
        longer = encode([longest, {**longest, "Key": "ü" * 513}])
        where = publish(client, "longer", kind, longer, fileSchema=schema)
        with pytest.raises(sealwax.StoreError, match="a key is not text of at most 1024 bytes"):
            list(open_store(where, session).list())
