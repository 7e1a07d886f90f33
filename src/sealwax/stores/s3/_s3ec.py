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
from sealwax._core.foreign.s3ec.fields import INSTRUCTION_SUFFIX, ObjectFields, merged, object_fields
from sealwax._core.rewrap import RewrapsObjects
from sealwax._text import printable
from sealwax.errors import RewrapConflictError, StoreError
from sealwax.stores._store import NOT_KEPT
from sealwax.stores.s3 import _replace
from sealwax.stores.s3._reader import ObjectReader, read_instructions
from sealwax.stores.s3._service import CHANGED, MAX_PART_BYTES, ObjectName, Response, Service
from sealwax.stores.s3._writer import ObjectWriter, despite_conflicts, refuse_unclear

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
MAX_METADATA_BYTES: Final = 2048
# Of an object's versions; a copy that was sent again leaves more than one.
_MOST_LOOKED_AT: Final = 10
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
        new = merged(reader.metadata, changed)
        _refuse_too_long(name, new)
        try:
            _copy(service, reader, {**settings, "Metadata": new})
        except StoreError as error:
            if not _is_lost(name, error, lambda: _has(service, name, new)):
                raise
        try:
            _check(service, name, answer, new)
        except StoreError as error:
            raise _unchecked(name, error) from None


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
        check_metadata(reader.object, reader.metadata, expected)
    return fields


def check_metadata(name: ObjectName, metadata: Mapping[str, str], changed: Mapping[str, str]) -> None:
    """Refuse an object with metadata that a copy cannot have.

    Raises:
        StoreError: the refusal.
    """
    if not all(map(_is_plain, (*metadata, *metadata.values()))):
        raise _unkept(name, "it has metadata that is not ASCII, which a copy may change")
    _refuse_too_long(name, merged(metadata, changed))


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
        new = json.dumps(merged(json.loads(content), changed)).encode()
        try:
            with ObjectWriter(name, service=service, replaces=file.etag, settings=settings) as writer:
                writer.write(new)
        except StoreError as error:
            if not _is_lost(name, error, lambda: read_instructions(service, reader.object, reader.metadata) == new):
                raise


def _has(service: Service, name: ObjectName, metadata: Mapping[str, str], version_id: str | None = None) -> bool:
    """Whether an object, or a version of it, has this metadata: each re-wrap makes a wrapped key of its own."""
    old = {} if version_id is None else {"VersionId": version_id}
    answer = service.call("head_object", "reading", name, **old)
    return _folded(answer.get("Metadata", {})) == _folded(metadata)


def _folded(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in metadata.items()}


def _is_lost(name: ObjectName, error: StoreError, is_there: Callable[[], bool]) -> bool:
    """Whether a write was done although it failed: its response was lost, and a repetition met its own effect.

    Raises:
        StoreError: nobody can say, and ``error`` would mean that the object was left alone.
    """
    if not (error.retryable or error.code in CHANGED | {"NoSuchUpload"}):
        return False
    try:
        return is_there()
    except StoreError as unseen:
        refuse_unclear(name, error, unseen)
        return False


def _refuse_unkept(name: ObjectName, answer: Response) -> None:
    """Refuse an object that a copy would change, or that S3 cannot copy, before KMS is asked."""
    why = ""
    if answer.get("SSECustomerAlgorithm"):
        why = "S3 encrypts it at rest with a key that the caller has to send (SSE-C)"
    elif answer.get("StorageClass") in _ARCHIVED and 'ongoing-request="false"' not in answer.get("Restore", ""):
        why = f"it is archived ({answer['StorageClass']}); restore it first"
    elif answer.get("ArchiveStatus"):
        why = f"it is archived ({answer['ArchiveStatus']}); restore it first"
    if why:
        raise _unkept(name, why)


def _is_plain(text: str) -> bool:
    # S3 returns what is not ASCII encoded, as in a header of an e-mail.
    return text.isascii() and not text.startswith("=?")


def _refuse_too_long(name: ObjectName, metadata: Mapping[str, str]) -> None:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        raise _unkept(name, f"its metadata would have {size} bytes, and S3 accepts {MAX_METADATA_BYTES}")


def _unkept(name: ObjectName, why: str) -> StoreError:
    return StoreError(
        f"'{printable(str(name))}' cannot be re-wrapped in place: {why}; it was left alone", code=NOT_KEPT
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
    is_same = _folded(now.get("Metadata", {})) == _folded(reader.metadata)
    if not is_same or now["LastModified"] != reader._seen["LastModified"]:
        raise _changed(name)
    return now


def _check(service: Service, name: ObjectName, before: Response, metadata: Mapping[str, str]) -> None:
    """Look at the result: two writers within a second may both believe that they were alone."""
    try:
        now = service.call("head_object", "reading", name)
    except StoreError as error:
        if error.code in CHANGED:
            raise _replaced(name) from None
        raise
    if _folded(now.get("Metadata", {})) != _folded(metadata):
        raise _replaced(name)
    # A version from before the bucket kept them has no id of its own; one that replaces the last has none either.
    ours, old = now.get("VersionId"), before.get("VersionId", "null")
    if ours in (None, "null"):
        return
    newest = service.newest_versions(name, _MOST_LOOKED_AT)
    earlier = newest[newest.index(ours) + 1 :] if ours in newest else []
    while earlier and earlier[0] != old and _has(service, name, metadata, earlier[0]):
        earlier = earlier[1:]  # the same copy, which was sent again after a response was lost
    if earlier[:1] != [old]:
        raise _buried(name)


def _unchecked(name: ObjectName, error: StoreError) -> StoreError:
    # Without the code, which could mean that the object was left alone.
    return StoreError(
        f"'{printable(str(name))}' was re-wrapped, but it is unknown whether another program wrote it at the same "
        f"time: {error}",
        request_id=error.request_id,
        retryable=error.retryable,
    )


def _changed(name: ObjectName) -> RewrapConflictError:
    return RewrapConflictError(
        f"'{printable(str(name))}' was replaced or removed by another program meanwhile; it was left alone"
    )


def _buried(name: ObjectName) -> RewrapConflictError:
    error = RewrapConflictError(
        f"another program wrote '{printable(str(name))}' at the same time, and the re-wrapped object has replaced "
        "what it wrote: look at the bucket's versions of the object, and restore the one that you want"
    )
    error.buried = True
    return error


def _replaced(name: ObjectName) -> RewrapConflictError:
    return RewrapConflictError(
        f"'{printable(str(name))}' was re-wrapped, and replaced or removed by another program at once; run the command "
        "again if it is still there"
    )
