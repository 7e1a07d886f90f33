"""A small file that unpacks into much memory is refused, or read piece by piece: none takes the machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

import sealwax
from sealwax.stores import Entry, open_store
from tests.s3 import StrictS3
from tests.stores.test_inventory import SCHEMA, as_csv, as_parquet, rows

ROOT = Path(__file__).parents[2]
MOST_GROWN = 100 << 20


def long(text: bytes) -> bytes:
    """128 MiB or so of a text, as members of one gzip file."""
    return gzip.compress(text * ((1 << 20) // len(text)), 1) * 128


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
    table = {"bucket": ["bucket"], "key": ["x" * (64 << 20)], "size": [1]}
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
    "one value": ("Parquet", lambda: one_value("snappy"), "a column of 1 rows has 67,108,8"),
    "packed tightly": ("Parquet", lambda: one_value("zstd"), "packed as no S3 Inventory is"),
    "prefixes": ("Parquet", prefixes, "packed as no S3 Inventory is"),
    "nested": ("Parquet", nested, "is of another type"),
}


def publish(s3: StrictS3, name: str, kind: str, data: bytes, **changes: Any) -> str:
    """Put an inventory of one file into place; return where its manifest is."""
    client = s3.client()
    client.put_object(Bucket="bucket", Key=f"{name}/data", Body=data)
    schema = "Bucket, Key, Size" if kind == "CSV" else "message s3.inventory {}"
    manifest = {"sourceBucket": "bucket", "fileFormat": kind, "fileSchema": schema, "files": [{"key": f"{name}/data"}]}
    body = json.dumps(manifest | changes).encode()
    client.put_object(Bucket="bucket", Key=f"{name}/manifest.json", Body=body)
    return f"s3://bucket/{name}/manifest.json"


def test_nothing_small_takes_much_memory(s3: StrictS3) -> None:
    whole = gzip.compress(b"".join(b"bucket,%d,1\n" % number for number in range(20_000)), 1)
    places = [publish(s3, "small", "Parquet", as_parquet(rows()))]
    for name, (kind, make, _) in CASES.items():
        data = make()
        assert len(data) < 16 << 20, name
        places.append(publish(s3, name.replace(" ", "-"), kind, data))
    places.append(publish(s3, "whole", "CSV", whole))
    done = subprocess.run(
        [sys.executable, "-m", "tests.stores.listing", s3.url, *places],
        cwd=ROOT,
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
    assert (told[-1]["said"], told[-1]["entries"]) == ("", 20_000)


@pytest.mark.parametrize("count", [500, 2000])
def test_lists_of_every_size(s3: StrictS3, count: int) -> None:
    """Within what is read at first, a little larger, and much larger."""
    keys = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(count)]
    listed = packed({"bucket": ["bucket"] * count, "key": keys, "size": list(range(count))}, row_group_size=3000)
    where = publish(s3, "sized", "Parquet", listed)
    found = [entry for entry in open_store(where, s3.session()).list() if isinstance(entry, Entry)]
    assert [(entry.name, entry.size) for entry in found] == [(f"s3://bucket/{key}", at) for at, key in enumerate(keys)]


def test_a_manifest_larger_than_any(s3: StrictS3) -> None:
    listed = [{"key": "x" * 100}] * 50_000
    where = publish(s3, "large", "CSV", b"", files=listed)
    with pytest.raises(sealwax.StoreError, match=r"more than 4,194,304 bytes, so it is no manifest"):
        open_store(where, s3.session())


@pytest.mark.parametrize(("kind", "encode"), [("CSV", as_csv), ("Parquet", as_parquet)])
def test_a_key_longer_than_any(s3: StrictS3, kind: str, encode: Callable[[Any], bytes]) -> None:
    schema = {"fileSchema": SCHEMA} if kind == "CSV" else {}
    longest = {**rows()[0], "Key": "ü" * 512}
    where = publish(s3, "longest", kind, encode([longest]), **schema)
    assert len(list(open_store(where, s3.session()).list())) == 1
    where = publish(s3, "longer", kind, encode([longest, {**longest, "Key": "ü" * 513}]), **schema)
    with pytest.raises(sealwax.StoreError, match="a key that is no text of at most 1024 bytes"):
        list(open_store(where, s3.session()).list())
