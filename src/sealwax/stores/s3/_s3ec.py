"""Re-wraps of objects of the S3 Encryption Client: their metadata, or their instruction files, change; no byte moves.

S3 cannot change metadata, so an object is copied onto itself. A copy of the metadata keeps the ETag, which therefore
does not tell two re-wraps apart: the source has to be unmodified since it was looked at, and the result is looked at
again. S3 has a resolution of one second there, so two writers at once are told afterwards rather than excluded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import BinaryIO, Final, cast

from sealwax._core.envelope import read_full
from sealwax._core.foreign.s3ec.fields import INSTRUCTION_SUFFIX, ObjectFields, object_fields
from sealwax._core.rewrap import RewrapsObjects
from sealwax._text import printable
from sealwax.errors import RewrapConflictError, StoreError
from sealwax.stores.s3 import _replace
from sealwax.stores.s3._reader import ObjectReader
from sealwax.stores.s3._service import CHANGED, MAX_PART_BYTES, ObjectName, Response, Service
from sealwax.stores.s3._writer import ObjectWriter, despite_conflicts

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
MAX_METADATA_BYTES: Final = 2048
_ARCHIVED: Final = frozenset(("GLACIER", "DEEP_ARCHIVE"))


def rewrap_object(service: Service, reader: ObjectReader, rewrap: RewrapsObjects) -> None:
    """Re-wrap the data key of an object of the S3 Encryption Client.

    Takes one request for the instruction file, one for the copy and one to look at the result, and in a bucket with
    versions another.

    Args:
        reader: the object, of which something was read.

    Raises:
        RewrapConflictError: another program changed the object meanwhile.
        HeaderError: it is no such object, or its fields contradict each other.
        StoreError: it cannot be read or written, or S3 would not keep all that is stored with it.
    """

    def opened() -> BinaryIO:
        return cast("BinaryIO", ObjectReader(name, service=service))

    name, answer = reader.object, reader._seen
    fields = check_object(reader, rewrap)
    with _replace.conflicts(name):
        if fields.in_instructions:
            _rewrite(service, reader, fields, rewrap, opened)
            return
        settings = _replace.kept(name, answer)
        if any(field.startswith("ObjectLock") for field in settings):
            # With a lock, a checksum has to be asked for by name; only a HEAD tells which one the object has.
            settings["ChecksumAlgorithm"] = _replace.checksum_of(_look(service, reader))
        changed = rewrap.rewrap_object(fields, opened)
        if not changed:
            return
        new = {**reader.metadata, **changed}
        _refuse_too_long(name, new)
        _copy(service, reader, {**settings, "Metadata": new})
        _check(service, name, answer, new)


def check_object(reader: ObjectReader, rewrap: RewrapsObjects) -> ObjectFields:
    """Return how an object was encrypted, unless a re-wrap would be refused before KMS is asked.

    Raises:
        ContextError, HeaderError, StoreError: the refusal.
    """
    fields = object_fields(reader.metadata, reader.instructions())
    expected = rewrap.fields_before_kms(fields)
    if not fields.in_instructions:
        _refuse_unkept(reader.object, reader._seen)
        _replace.kept(reader.object, reader._seen)
        _refuse_too_long(reader.object, {**reader.metadata, **expected})
    return fields


def _rewrite(
    service: Service,
    reader: ObjectReader,
    fields: ObjectFields,
    rewrap: RewrapsObjects,
    opened: Callable[[], BinaryIO],
) -> None:
    """Replace the instruction file; the object itself is not touched."""
    name = ObjectName(reader.object.bucket, reader.object.key + INSTRUCTION_SUFFIX)
    with ObjectReader(name, service=service, first=None) as file:
        content = read_full(cast("BinaryIO", file), file.size)
        if content != reader.instructions():
            raise _changed(name)
        assert file.response is not None
        settings = _replace.settings_of(service, name, file.response)
        changed = rewrap.rewrap_object(fields, opened)
        if not changed:
            return
        new = {**json.loads(content), **changed}
        with ObjectWriter(name, service=service, replaces=file.etag, settings=settings) as writer:
            writer.write(json.dumps(new).encode())


def _refuse_unkept(name: ObjectName, answer: Response) -> None:
    """Refuse an object that a copy would change, or that S3 cannot copy, before KMS is asked."""
    metadata = answer.get("Metadata", {})
    why = ""
    if answer.get("SSECustomerAlgorithm"):
        why = "S3 encrypts it at rest with a key that the caller has to send (SSE-C)"
    elif answer.get("StorageClass") in _ARCHIVED and 'ongoing-request="false"' not in answer.get("Restore", ""):
        why = f"it is archived ({answer['StorageClass']}); restore it first"
    elif answer.get("ArchiveStatus"):
        why = f"it is archived ({answer['ArchiveStatus']}); restore it first"
    elif not all(map(_is_plain, (*metadata, *metadata.values()))):
        why = "it has metadata that are not ASCII, which a copy may change"
    if why:
        raise StoreError(f"'{printable(str(name))}' cannot be re-wrapped in place: {why}; it was left alone")


def _is_plain(text: str) -> bool:
    # S3 returns what is not ASCII encoded, as in a header of an e-mail.
    return text.isascii() and not text.startswith("=?")


def _refuse_too_long(name: ObjectName, metadata: Mapping[str, str]) -> None:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        raise StoreError(
            f"'{printable(str(name))}' cannot be re-wrapped in place: its metadata would have {size} bytes, and S3 "
            f"accepts {MAX_METADATA_BYTES}; it was left alone"
        )


def _copy(service: Service, reader: ObjectReader, settings: Response) -> None:
    """Copy an object onto itself. S3 keeps its tags, and computes the checksum that it has again."""
    name, answer = reader.object, reader._seen
    source: dict[str, str] = {"Bucket": name.bucket, "Key": name.key}
    if answer.get("VersionId") not in (None, "null"):
        source["VersionId"] = answer["VersionId"]
    if reader.size > MAX_PART_BYTES:
        _copy_in_parts(service, reader, source, settings)
        return

    def copy() -> None:
        # No CopySourceIfMatch: with it, S3 would not look at CopySourceIfUnmodifiedSince.
        service.call(
            "copy_object",
            "writing",
            name,
            CopySource=source,
            CopySourceIfUnmodifiedSince=answer["LastModified"],
            IfMatch=answer["ETag"],
            MetadataDirective="REPLACE",
            TaggingDirective="COPY",
            **settings,
        )

    despite_conflicts(copy)


def _copy_in_parts(service: Service, reader: ObjectReader, source: dict[str, str], settings: Response) -> None:
    """Copy an object of more than 5 GiB, whose tags and checksum S3 does not keep by itself."""
    name = reader.object

    def check() -> None:
        # A re-wrap by another program has the same ETag, and the copies may have taken minutes.
        _look(service, reader)

    now = _look(service, reader)
    settings = {**_replace.settings_of(service, name, now), **settings}
    despite_conflicts(lambda: _replace.copy_in_parts(service, name, now, source, settings, check))


def _look(service: Service, reader: ObjectReader) -> Response:
    """Return what S3 says of an object, unless it has changed since it was opened."""
    name = reader.object
    now = service.call("head_object", "reading", name, IfMatch=reader.etag, ChecksumMode="ENABLED")
    if now.get("Metadata", {}) != reader.metadata or now["LastModified"] != reader._seen["LastModified"]:
        raise _changed(name)
    return now


def _check(service: Service, name: ObjectName, before: Response, metadata: Mapping[str, str]) -> None:
    """Look at the result: two writers within a second may both believe that they were alone."""
    try:
        now = service.call("head_object", "reading", name)
    except StoreError as error:
        if error.code in CHANGED:
            raise _changed(name) from None
        raise
    if now.get("Metadata", {}) != metadata:
        raise _changed(name)
    old = before.get("VersionId")
    if old in (None, "null"):
        return
    newest = service.newest_versions(name, 2)
    if newest[:1] == [now.get("VersionId")] and newest[1:] != [old]:
        raise RewrapConflictError(
            f"another program wrote '{printable(str(name))}' at the same time, and the re-wrapped object has replaced "
            "what it wrote: look at the bucket's versions of the object, and restore the one that you want"
        )


def _changed(name: ObjectName) -> RewrapConflictError:
    return RewrapConflictError(
        f"'{printable(str(name))}' was replaced or removed by another program meanwhile; it was left alone"
    )
