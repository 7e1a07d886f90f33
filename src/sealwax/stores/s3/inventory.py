"""S3 Inventory: the list of a bucket's objects that S3 writes itself, daily or weekly, as CSV or Parquet files.

Its manifest is ``.../manifest.json``. The list may be a day old or more: what it says of an object is no more than
where to look. Only current versions count, and delete markers do not.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final, cast
from urllib.parse import unquote_plus

from sealwax.context import printable
from sealwax.envelope import read_full
from sealwax.errors import StoreError
from sealwax.stores import Entry
from sealwax.stores.s3.objects import ObjectReader
from sealwax.stores.s3.service import ObjectName, Service, parse

MANIFEST: Final = "manifest.json"
_MAX_MANIFEST_BYTES: Final = 64 << 20
_DAMAGES: Final = (ArithmeticError, ValueError, KeyError, TypeError, EOFError, OSError, csv.Error, zlib.error)
_MAX_OBJECT_BYTES: Final = 1 << 50  # far more than S3 takes, and far less than a plan can sum up
# In CSV, in Parquet.
_COLUMNS: Final = {
    "Bucket": "bucket",
    "Key": "key",
    "IsLatest": "is_latest",
    "IsDeleteMarker": "is_delete_marker",
    "Size": "size",
    "LastModifiedDate": "last_modified_date",
    "ETag": "e_tag",
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an S3 Inventory's manifest says: the bucket it is about, and its data files, which lie beside it."""

    name: ObjectName
    source_bucket: str
    file_format: str
    columns: tuple[str, ...]
    files: tuple[str, ...]


def read_manifest(service: Service, where: str) -> Manifest:
    """Read a manifest.

    Raises:
        StoreError: it cannot be read, or is none, or lists its objects in a way that is not known here.
    """
    name = parse(where)
    with ObjectReader(name, service=service) as reader:
        data = read_full(cast("BinaryIO", reader), _MAX_MANIFEST_BYTES + 1)
    try:
        if len(data) > _MAX_MANIFEST_BYTES:
            raise ValueError("too large")
        found: dict[str, Any] = json.loads(data)
        columns = tuple(column.strip() for column in found.get("fileSchema", "").split(","))
        manifest = Manifest(
            name,
            str(found["sourceBucket"]),
            found["fileFormat"],
            columns,
            tuple(str(each["key"]) for each in found["files"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StoreError(f"'{printable(where)}' is no manifest of an S3 Inventory") from None
    if manifest.file_format not in ("CSV", "Parquet"):
        raise StoreError(
            f"'{printable(where)}' is an S3 Inventory in the format '{printable(str(manifest.file_format))[:20]}'; "
            "sealwax reads CSV and Parquet"
        )
    if manifest.file_format == "CSV" and not {"Bucket", "Key", "Size"} <= set(columns):
        raise StoreError(f"the S3 Inventory '{printable(where)}' lacks the field Size; add it to its configuration")
    return manifest


def entries(service: Service, manifest: Manifest) -> Iterator[Entry]:
    """Yield the objects of an inventory, in the inventory's order.

    Raises:
        StoreError: a data file cannot be read, or is damaged.
    """
    for key in manifest.files:
        name = ObjectName(manifest.name.bucket, key)
        with ObjectReader(name, service=service) as reader:
            rows = _from_csv(reader, manifest) if manifest.file_format == "CSV" else _from_parquet(reader)
            try:
                for row in rows:
                    entry = _entry(row, manifest.source_bucket)
                    if entry is not None:
                        yield entry
            except _DAMAGES as error:
                raise StoreError(
                    f"reading the S3 Inventory's file '{printable(str(name))}' failed: "
                    f"{printable(str(error))[:200] or type(error).__name__}"
                ) from None


def _from_csv(reader: ObjectReader, manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    with gzip.open(cast("BinaryIO", reader)) as plain, io.TextIOWrapper(plain, "utf-8", newline="") as lines:
        for row in csv.reader(lines, strict=True):
            fields = dict(zip(manifest.columns, row, strict=True))
            fields["Key"] = unquote_plus(fields["Key"], errors="strict")
            yield fields


def _from_parquet(reader: ObjectReader) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise StoreError(
            "reading an S3 Inventory in Parquet needs pyarrow: install it with 'pip install sealwax[inventory]'"
        ) from None
    try:
        file = parquet.ParquetFile(pyarrow.PythonFile(reader, mode="r"))
        names = {own: name for name, own in _COLUMNS.items() if own in file.schema_arrow.names}
        for batch in file.iter_batches(batch_size=10_000, columns=list(names)):
            for row in batch.to_pylist():
                yield {names[own]: value for own, value in row.items()}
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from None


def _entry(row: Mapping[str, Any], bucket: str) -> Entry | None:
    """Return an object that is there now; a row leads into the manifest's source bucket only."""
    if row["Bucket"] != bucket:
        raise ValueError(f"it lists an object of the bucket '{row['Bucket']}', and the manifest is about '{bucket}'")
    if _is(row.get("IsDeleteMarker"), default=False) or not _is(row.get("IsLatest"), default=True):
        return None
    size = int(row["Size"] or 0)
    if not 0 <= size <= _MAX_OBJECT_BYTES:
        raise ValueError(f"an object of {size} bytes")
    modified = row.get("LastModifiedDate")
    if isinstance(modified, str) and modified:
        modified = datetime.fromisoformat(modified)
    if modified and modified.tzinfo is None:
        modified = modified.replace(tzinfo=UTC)  # S3's times are; in a local one, not every date is a number of seconds
    etag = row.get("ETag")
    return Entry(
        str(ObjectName(bucket, row["Key"])),
        size,
        f'"{etag}"' if etag else "",
        modified.timestamp() if modified else 0.0,
    )


def _is(value: Any, *, default: bool) -> bool:
    if value in (None, ""):
        return default
    return value if isinstance(value, bool) else str(value).lower() == "true"
