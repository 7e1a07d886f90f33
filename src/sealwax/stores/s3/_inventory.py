"""S3 Inventory: the list of a bucket's objects that S3 writes itself, daily or weekly, as CSV or Parquet files.

Its manifest is ``.../manifest.json``. The list may be a day old or more, so it only says where to look. It yields
current versions, without delete markers.
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

from sealwax._core.envelope import read_full
from sealwax._text import printable
from sealwax.errors import StoreError
from sealwax.stores._store import Entry
from sealwax.stores.s3._reader import ObjectReader
from sealwax.stores.s3._service import MAX_KEY_BYTES, ObjectName, Service, parse

MANIFEST: Final = "manifest.json"
# Each file's entry takes some 150 bytes, and a file lists a million objects or so.
_MAX_MANIFEST_BYTES: Final = 4 << 20
# Of a decompressed CSV file: a key takes at most 3072 bytes of it, and the other fields less.
_MAX_ROW_BYTES: Final = 128 << 10
# Of a Parquet file. What S3 writes is far below. Other compressions, which reach higher ratios, are refused.
_MAX_VALUE_BYTES: Final = 4096
_MAX_COLUMN_BYTES: Final = 1 << 30
_TYPES: Final = frozenset({"BYTE_ARRAY", "BOOLEAN", "INT32", "INT64", "INT96"})
_COMPRESSIONS: Final = frozenset({"SNAPPY", "UNCOMPRESSED"})
_ENCODINGS: Final = frozenset({"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"})
_BATCH_ROWS: Final = 1000
_READ_BYTES: Final = 1 << 20
_DAMAGES: Final = (ArithmeticError, ValueError, KeyError, TypeError, EOFError, OSError, csv.Error, zlib.error)
_MAX_OBJECT_BYTES: Final = 1 << 50  # far more than S3 accepts, and far less than would overflow a plan's totals
# Names in CSV, and in Parquet.
_COLUMNS: Final = {
    "Bucket": "bucket",
    "Key": "key",
    "IsLatest": "is_latest",
    "IsDeleteMarker": "is_delete_marker",
    "Size": "size",
    "LastModifiedDate": "last_modified_date",
    "ETag": "e_tag",
}


_Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """An S3 Inventory's manifest: the bucket that it lists, and its data files, which are in the manifest's bucket."""

    name: ObjectName
    source_bucket: str
    file_format: str
    columns: tuple[str, ...]
    files: tuple[str, ...]


def read_manifest(service: Service, location: str) -> Manifest:
    """Read a manifest.

    Raises:
        StoreError: it cannot be read, is not a manifest, is larger than S3 writes them, or has an unsupported format.
    """
    name = parse(location)
    shown = printable(location)
    with ObjectReader(name, service=service) as reader:
        data = read_full(cast("BinaryIO", reader), _MAX_MANIFEST_BYTES + 1)
    if len(data) > _MAX_MANIFEST_BYTES:
        raise StoreError(f"'{shown}' is not an S3 Inventory manifest: it has more than {_MAX_MANIFEST_BYTES:,} bytes")
    try:
        fields = json.loads(data)
        columns = tuple(column.strip() for column in fields.get("fileSchema", "").split(","))
        files = tuple(str(file["key"]) for file in fields["files"])
        manifest = Manifest(name, str(fields["sourceBucket"]), fields["fileFormat"], columns, files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StoreError(f"'{shown}' is not an S3 Inventory manifest") from None
    if manifest.file_format not in ("CSV", "Parquet"):
        raise StoreError(
            f"'{shown}' is an S3 Inventory in the format '{printable(str(manifest.file_format))[:20]}'; "
            "sealwax reads CSV and Parquet"
        )
    if manifest.file_format == "CSV" and not {"Bucket", "Key", "Size"} <= set(columns):
        raise StoreError(f"the S3 Inventory '{shown}' lacks the field Size; add it to its configuration")
    return manifest


def entries(service: Service, manifest: Manifest) -> Iterator[Entry]:
    """Yield the objects of an inventory, in its own order.

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


def _from_csv(reader: ObjectReader, manifest: Manifest) -> Iterator[_Row]:
    with (
        gzip.open(cast("BinaryIO", reader)) as packed,
        io.BufferedReader(cast("Any", packed), 1 << 16) as plain,
    ):
        lines = _Lines(plain)
        for row in csv.reader(lines, strict=True):
            lines.begin_row()
            fields = dict(zip(manifest.columns, row, strict=True))
            fields["Key"] = unquote_plus(fields["Key"], errors="strict")
            yield fields


class _Lines:
    """The lines of a CSV file for ``csv``, which alone would join any number of lines of any length into one row."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self.begin_row()

    def begin_row(self) -> None:
        self._left = _MAX_ROW_BYTES

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(self._left + 1)
        if not line:
            raise StopIteration
        self._left -= len(line)
        if self._left < 0:
            raise ValueError(f"a row has more than {_MAX_ROW_BYTES:,} bytes")
        return line.decode()


def _from_parquet(reader: ObjectReader) -> Iterator[_Row]:
    try:
        import pyarrow
        from pyarrow import compute, parquet
    except ImportError:
        raise StoreError(
            "reading an S3 Inventory in Parquet needs pyarrow: install it with \"pip install 'sealwax[inventory]'\""
        ) from None
    try:
        # pyarrow takes a short read for the end of the file.
        source = pyarrow.PythonFile(io.BufferedReader(reader), mode="r")
        # With a buffer, a column is read in pieces, not whole.
        file = parquet.ParquetFile(source, buffer_size=_READ_BYTES, pre_buffer=False)
        names = {own: name for name, own in _COLUMNS.items() if own in file.schema_arrow.names}
        stored = [file.schema.column(number) for number in range(len(file.schema))]
        texts = [column.path for column in stored if column.path in names and column.physical_type == "BYTE_ARRAY"]
        words = parquet.ParquetFile(
            source, metadata=file.metadata, read_dictionary=texts, buffer_size=_READ_BYTES, pre_buffer=False
        )
        for group in range(file.num_row_groups):
            _check_group(file.metadata.row_group(group), names)
            # One text of a column's dictionary may be in every row.
            first = next(words.iter_batches(batch_size=1, row_groups=[group], columns=texts), None)
            for column in first.columns if first is not None else ():
                longest = compute.max(compute.binary_length(column.dictionary)).as_py()
                if longest is not None and longest > _MAX_VALUE_BYTES:
                    raise ValueError(f"a value has {longest:,} bytes")
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=list(names)):
                for row in batch.to_pylist():
                    yield {names[own]: value for own, value in row.items()}
    except (pyarrow.ArrowException, MemoryError) as error:
        raise ValueError(str(error)) from None


def _check_group(group: Any, names: Mapping[str, str]) -> None:
    """Refuse rows that decompress into far more memory than an inventory's.

    Raises:
        ValueError: these do.
    """
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema.partition(".")[0] not in names:
            continue
        if column.path_in_schema not in names or column.physical_type not in _TYPES:
            raise ValueError(f"its column '{column.path_in_schema}' is of another type")
        if column.compression not in _COMPRESSIONS or not _ENCODINGS.issuperset(column.encodings):
            raise ValueError("it is compressed in a way that S3 Inventory does not use")
        size = column.total_uncompressed_size
        if not 0 <= size <= min(_MAX_COLUMN_BYTES, _READ_BYTES + group.num_rows * _MAX_VALUE_BYTES):
            raise ValueError(f"a column of {group.num_rows:,} rows has {size:,} bytes")


def _entry(row: _Row, bucket: str) -> Entry | None:
    """Return the current object of a row, if any. A row may name objects of the manifest's source bucket only."""
    if row["Bucket"] != bucket:
        raise ValueError(f"it lists an object of the bucket '{row['Bucket']}', but the manifest lists '{bucket}'")
    if _is(row.get("IsDeleteMarker"), default=False) or not _is(row.get("IsLatest"), default=True):
        return None
    size = int(row["Size"] or 0)
    if not 0 <= size <= _MAX_OBJECT_BYTES:
        raise ValueError(f"an object has {size} bytes")
    modified = row.get("LastModifiedDate")
    if isinstance(modified, str) and modified:
        modified = datetime.fromisoformat(modified)
    if modified and modified.tzinfo is None:
        modified = modified.replace(tzinfo=UTC)  # as S3 writes them; not every local time is a number of seconds
    if not isinstance(row["Key"], str) or len(row["Key"].encode()) > MAX_KEY_BYTES:
        raise ValueError(f"a key is not text of at most {MAX_KEY_BYTES} bytes")
    etag = row.get("ETag")
    return Entry(
        str(ObjectName(bucket, row["Key"])),
        size,
        f'"{etag}"' if etag else "",
        modified.timestamp() if modified else 0.0,
    )


def _is(value: object, *, default: bool) -> bool:
    if value in (None, ""):
        return default
    return value if isinstance(value, bool) else str(value).lower() == "true"
