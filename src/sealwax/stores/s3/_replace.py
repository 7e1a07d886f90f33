"""Replacing objects, with all that S3 stores beside their bytes, unless another program has changed them meanwhile.

A re-wrap changes the first bytes of an object, but S3 replaces whole objects. So a small one is uploaded again, and a
large one is made from a new first part and from parts that S3 copies itself (UploadPartCopy): no byte beyond the first
5 MiB crosses the network, whatever the size. Both happen only if the object is still the one that was read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import BinaryIO, Final, cast
from urllib.parse import urlencode

from sealwax._core import envelope
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.pool import Pool
from sealwax._core.rewrap import Rewrap, agreed, refuse_contradictory, with_wrapped_keys
from sealwax._text import printable
from sealwax.errors import NotAnEnvelopeError, RewrapConflictError, StoreError
from sealwax.stores._store import NOT_KEPT, Change
from sealwax.stores.s3._reader import FIRST_BYTES, ObjectReader
from sealwax.stores.s3._service import (
    CHANGED,
    CONFLICT,
    MAX_PART_BYTES,
    MAX_PARTS,
    MIN_PART_BYTES,
    ObjectName,
    Response,
    Service,
)
from sealwax.stores.s3._writer import ObjectWriter, abort, complete, despite_conflicts, is_there, part_of

_COPY_BYTES: Final = 512 << 20
_COPIES_AT_ONCE: Final = 8
_KEPT: Final = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Expires",
    "Metadata",
    "WebsiteRedirectLocation",
    "StorageClass",
    "ServerSideEncryption",
    "SSEKMSKeyId",
    "BucketKeyEnabled",
    "ObjectLockMode",
    "ObjectLockRetainUntilDate",
    "ObjectLockLegalHoldStatus",
)
# What botocore computes without further packages; instead of the others it sends CRC32.
_CHECKSUMS: Final = ("CRC32", "SHA1", "SHA256")


def rewrap(
    service: Service,
    name: ObjectName,
    rewrap: Rewrap,
    size: int | None = None,
    others: Callable[[ObjectReader, NotAnEnvelopeError], bool] = lambda _reader, _error: False,
) -> None:
    """Replace the wrapped keys of an envelope, as ``Store.rewrap``.

    Args:
        others: re-wraps what is no envelope; returns False if it cannot.
    """
    # Read a small object completely at once: S3 then sends with it all that it stores beside the bytes.
    at_once = size is not None and size <= MIN_PART_BYTES
    with ObjectReader(name, service=service, first=None if at_once else FIRST_BYTES) as reader, conflicts(name):
        source = cast("BinaryIO", reader)
        try:
            header = envelope.header_of_stream(source)
        except NotAnEnvelopeError as error:
            if others(reader, error):
                return
            raise
        envelope.refuse_claims(source)
        refuse_contradictory(header)
        offset = header.preamble.payload_offset
        if header.preamble.kind == hdr.DETACHED:
            envelope.refuse_trailing(reader.size - offset)

        def head() -> bytes:
            reader.seek(offset)
            return envelope.read_full(source, payload.HEAD_BYTES)

        _, wrapped_keys = agreed(header, rewrap, head)
        new = with_wrapped_keys(header, wrapped_keys, header.preamble.slot_count)
        reader.seek(offset)
        _put(service, reader, new)


def _put(service: Service, reader: ObjectReader, new: bytes) -> None:
    """Replace an object with ``new`` and the bytes that follow the reader's position."""
    name, source, rest = reader.object, cast("BinaryIO", reader), reader.size - reader.tell()
    settings = _settings(service, reader)
    if reader.size <= MIN_PART_BYTES:  # S3 copies no range of such a source
        with ObjectWriter(name, service=service, replaces=reader.etag, settings=settings) as writer:
            writer.write(new)
            writer.write(envelope.read_full(source, rest))
        return
    first = new + envelope.read_full(source, MIN_PART_BYTES - len(new))
    start = reader.tell()
    try:
        # After a conflict, S3 requires the whole upload again.
        despite_conflicts(lambda: _assemble(service, reader, first, start, settings))
    except StoreError as error:
        if not is_there(service, name, new, len(new) + rest, error):
            raise


def replace(service: Service, name: ObjectName, change: Change) -> None:
    """Rewrite an object, as ``Store.replace``."""
    with ObjectReader(name, service=service) as reader, conflicts(name):
        settings = _settings(service, reader)
        with ObjectWriter(name, service=service, replaces=reader.etag, size=reader.size, settings=settings) as writer:
            change(cast("BinaryIO", reader), cast("BinaryIO", writer))


def _assemble(service: Service, reader: ObjectReader, first: bytes, start: int, settings: Response) -> None:
    """Replace an object with ``first`` and its own bytes from ``start`` on, which S3 copies."""
    name, source = reader.object, {"Bucket": reader.object.bucket, "Key": reader.object.key}
    _in_parts(service, name, source, reader.etag, range(start, reader.size), settings, first)


def copy_in_parts(
    service: Service,
    name: ObjectName,
    answer: Response,
    source: Response,
    settings: Response,
    check: Callable[[], None],
) -> None:
    """Copy a large object onto itself.

    Args:
        answer: what S3 said of the object.
        source: its bucket, its key and maybe its version.
        settings: what S3 stores beside the bytes.
        check: called before the copy appears; what it raises prevents that.
    """
    _in_parts(service, name, source, answer["ETag"], range(answer["ContentLength"]), settings, check=check)


def _in_parts(
    service: Service,
    name: ObjectName,
    source: Response,
    etag: str,
    kept: range,
    settings: Response,
    first: bytes | None = None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Replace an object with ``first``, if there is any, and a part of its own bytes, which S3 copies."""
    start, end, before = kept.start, kept.stop, 0 if first is None else 1
    step = max(_COPY_BYTES, -(-(end - start) // (MAX_PARTS - before)))
    if step > MAX_PART_BYTES:
        raise StoreError(
            f"'{printable(str(name))}' is too large to copy in 9,999 parts of 5 GiB; it was left alone", code=NOT_KEPT
        )
    upload_id = service.call("create_multipart_upload", "writing", name, **settings)["UploadId"]

    def copy(number: int, at: int) -> Response:
        answer = service.call(
            "upload_part_copy",
            "copying",
            name,
            UploadId=upload_id,
            PartNumber=number,
            CopySource=source,
            CopySourceIfMatch=etag,
            CopySourceRange=f"bytes={at}-{min(at + step, end) - 1}",
        )
        return part_of(number, answer["CopyPartResult"])

    try:
        with Pool(_COPIES_AT_ONCE, "sealwax-copy") as pool:
            copies = [pool.submit(copy, number, at) for number, at in enumerate(range(start, end, step), 1 + before)]
            try:
                parts = [] if first is None else [_upload(service, name, upload_id, first, settings)]
                parts += [copied.result() for copied in copies]
            except BaseException:
                pool.shutdown(cancel=True)
                raise
        check()
        complete(service, name, upload_id, parts, {"IfMatch": etag})
    except BaseException:
        with contextlib.suppress(StoreError):
            abort(service, name, upload_id)
        raise


def _upload(service: Service, name: ObjectName, upload_id: str, first: bytes, settings: Response) -> Response:
    answer = service.call(
        "upload_part",
        "writing",
        name,
        UploadId=upload_id,
        PartNumber=1,
        Body=first,
        ChecksumAlgorithm=settings["ChecksumAlgorithm"],
    )
    return part_of(1, answer)


def _settings(service: Service, reader: ObjectReader) -> Response:
    """Return what S3 stores beside an object's bytes, as parameters for its successor."""
    answer = reader.response
    if answer is None:
        answer = service.call("head_object", "reading", reader.object, IfMatch=reader.etag, ChecksumMode="ENABLED")
    return settings_of(service, reader.object, answer)


def settings_of(service: Service, name: ObjectName, answer: Response) -> Response:
    """Return what S3 stores beside an object's bytes, by what it said of the object, as parameters for its successor.

    Raises:
        StoreError: there is something that S3 does not return.
    """
    settings = kept(name, answer)
    settings["ChecksumAlgorithm"] = checksum_of(answer)
    # Requested each time: S3 tells a caller that may not read tags about none, and they would be removed.
    tags = service.call("get_object_tagging", "reading the tags of", name)["TagSet"]
    if tags:
        settings["Tagging"] = urlencode({tag["Key"]: tag["Value"] for tag in tags})
    return settings


def checksum_of(answer: Response) -> str:
    """Return the checksum algorithm for an object's successor, by what S3 said of the object in ChecksumMode."""
    return next((name for name in _CHECKSUMS if answer.get(f"Checksum{name}")), "CRC32")


def kept(name: ObjectName, answer: Response) -> Response:
    """Return what ``settings_of`` returns, but for the tags and the checksum, which a copy keeps by itself.

    Raises:
        StoreError: there is something that S3 does not return.
    """
    if answer.get("MissingMeta"):
        raise StoreError(
            f"'{printable(str(name))}' has metadata that S3 does not return, and it would be lost; it was left alone",
            code=NOT_KEPT,
        )
    if answer.get("ExpiresString") and not answer.get("Expires"):
        raise StoreError(
            f"'{printable(str(name))}' has an Expires header that is not a date and would be lost; it was left alone",
            code=NOT_KEPT,
        )
    settings = {field: answer[field] for field in _KEPT if answer.get(field)}
    until = settings.get("ObjectLockRetainUntilDate")
    if until is not None and until <= datetime.now(UTC):  # an expired retention cannot be set again
        del settings["ObjectLockMode"], settings["ObjectLockRetainUntilDate"]
    return settings


@contextlib.contextmanager
def conflicts(name: ObjectName) -> Iterator[None]:
    """Raise a ``RewrapConflictError`` for a condition on the object that does not hold."""
    try:
        yield
    except StoreError as error:
        if error.code in CHANGED:
            why = "was replaced or removed by another program meanwhile; it was left alone"
        elif error.code in CONFLICT:
            why = "is still being written by another program, S3 says; it was left alone; try again"
        else:
            raise
        raise RewrapConflictError(f"'{printable(str(name))}' {why}") from None
