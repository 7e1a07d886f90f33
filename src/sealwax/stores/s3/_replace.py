"""Objects replaced by others, if nobody has changed them meanwhile, with everything that S3 keeps beside their bytes.

A re-wrap changes the first bytes of an object, and S3 replaces objects whole. So a small one is put anew, and a large
one is made of a new first part and of what S3 copies from the old one itself (UploadPartCopy): no byte beyond the first
5 MiB crosses the network, whatever the size. Both happen only if the object is still the one that was read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final, cast
from urllib.parse import urlencode

from sealwax._core import envelope
from sealwax._core.context import printable
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.pool import Pool
from sealwax._core.rewrap import Rewrap, agreed, anew, refuse_contradictory
from sealwax.errors import RewrapConflictError, StoreError
from sealwax.stores import Change
from sealwax.stores.s3._objects import (
    FIRST_BYTES,
    MAX_PART_BYTES,
    MAX_PARTS,
    MIN_PART_BYTES,
    ObjectReader,
    ObjectWriter,
    abort,
    complete,
    despite_conflicts,
    is_there,
    part_of,
)
from sealwax.stores.s3._service import CHANGED, CONFLICT, ObjectName, Service

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
# What botocore computes without further packages; for the others S3 gets CRC32 from it.
_CHECKSUMS: Final = ("CRC32", "SHA1", "SHA256")


def rewrap(service: Service, name: ObjectName, rewrap: Rewrap, size: int | None = None) -> None:
    """Give an envelope new wrapped keys; see :meth:`sealwax.stores.Store.rewrap`."""
    # What will be read to its end anyway is read at once, and S3 tells of it all that it keeps beside.
    at_once = size is not None and size <= MIN_PART_BYTES
    with ObjectReader(name, service=service, first=None if at_once else FIRST_BYTES) as reader, _conflicts(name):
        source = cast("BinaryIO", reader)
        header = envelope.header_of_stream(source)
        refuse_contradictory(header)
        offset = header.preamble.payload_offset
        if header.preamble.kind == hdr.DETACHED:
            envelope.refuse_trailing(reader.size - offset)

        def head() -> bytes:
            reader.seek(offset)
            return envelope.read_full(source, payload.HEAD_BYTES)

        _, wrapped_keys = agreed(header, rewrap, head)
        new = anew(header, wrapped_keys, header.preamble.slot_count)
        size = len(new) + reader.size - offset
        settings = _settings(service, reader)
        reader.seek(offset)
        if reader.size <= MIN_PART_BYTES:  # S3 copies no range of such a source
            with ObjectWriter(name, service=service, replaces=reader.etag, settings=settings) as writer:
                writer.write(new)
                writer.write(envelope.read_full(source, reader.size))
        else:
            first = new + envelope.read_full(source, MIN_PART_BYTES - len(new))
            rest = reader.tell()
            try:
                # All of it again after a conflict, as S3 wants it of an upload in parts.
                despite_conflicts(lambda: _assemble(service, reader, first, rest, settings))
            except StoreError as error:
                if not is_there(service, name, new, size, error):
                    raise


def replace(service: Service, name: ObjectName, change: Change) -> None:
    """Write an object anew from its bytes; see :meth:`sealwax.stores.Store.replace`."""
    with ObjectReader(name, service=service) as reader, _conflicts(name):
        settings = _settings(service, reader)
        with ObjectWriter(name, service=service, replaces=reader.etag, size=reader.size, settings=settings) as writer:
            change(cast("BinaryIO", reader), cast("BinaryIO", writer))


def _assemble(service: Service, reader: ObjectReader, first: bytes, start: int, settings: dict[str, Any]) -> None:
    """Replace an object by ``first`` and its own bytes from ``start`` on, which S3 copies."""
    name, end = reader.object, reader.size
    step = max(_COPY_BYTES, -(-(end - start) // (MAX_PARTS - 1)))
    if step > MAX_PART_BYTES:
        raise StoreError(f"'{printable(str(name))}' is too large to be copied in 9,999 parts of 5 GiB; left alone")
    upload_id = service.call("create_multipart_upload", "writing", name, **settings)["UploadId"]

    def copy(number: int, at: int) -> dict[str, Any]:
        answer = service.call(
            "upload_part_copy",
            "copying",
            name,
            UploadId=upload_id,
            PartNumber=number,
            CopySource={"Bucket": name.bucket, "Key": name.key},
            CopySourceIfMatch=reader.etag,
            CopySourceRange=f"bytes={at}-{min(at + step, end) - 1}",
        )
        return part_of(number, answer["CopyPartResult"])

    try:
        with Pool(_COPIES_AT_ONCE, "sealwax-copy") as pool:
            copies = [pool.submit(copy, number, at) for number, at in enumerate(range(start, end, step), 2)]
            try:
                answer = service.call(
                    "upload_part",
                    "writing",
                    name,
                    UploadId=upload_id,
                    PartNumber=1,
                    Body=first,
                    ChecksumAlgorithm=settings["ChecksumAlgorithm"],
                )
                parts = [part_of(1, answer), *[each.result() for each in copies]]
            except BaseException:
                pool.shutdown(cancel=True)
                raise
        complete(service, name, upload_id, parts, {"IfMatch": reader.etag})
    except BaseException:
        with contextlib.suppress(StoreError):
            abort(service, name, upload_id)
        raise


def _settings(service: Service, reader: ObjectReader) -> dict[str, Any]:
    """Return what S3 keeps beside an object's bytes, as parameters for the next one."""
    answer = reader.beside
    if answer is None:
        answer = service.call("head_object", "reading", reader.object, IfMatch=reader.etag, ChecksumMode="ENABLED")
    if answer.get("MissingMeta"):
        raise StoreError(
            f"'{printable(reader.name)}' has metadata that S3 does not give out, and it would be lost; left alone"
        )
    settings = {field: answer[field] for field in _KEPT if answer.get(field)}
    until = settings.get("ObjectLockRetainUntilDate")
    if until is not None and until <= datetime.now(UTC):  # what has run out cannot be set anew
        del settings["ObjectLockMode"], settings["ObjectLockRetainUntilDate"]
    algorithms = [each for each in _CHECKSUMS if answer.get(f"Checksum{each}")]
    settings["ChecksumAlgorithm"] = algorithms[0] if algorithms else "CRC32"
    # Asked for each time: who may not read tags is told of none, and would remove them.
    tags = service.call("get_object_tagging", "reading the tags of", reader.object)["TagSet"]
    if tags:
        settings["Tagging"] = urlencode({tag["Key"]: tag["Value"] for tag in tags})
    return settings


@contextlib.contextmanager
def _conflicts(name: ObjectName) -> Iterator[None]:
    """Turn a condition on the object that does not hold into :class:`~sealwax.RewrapConflictError`."""
    try:
        yield
    except StoreError as error:
        if error.code in CHANGED:
            why = "was replaced or removed by another program meanwhile; it was left alone"
        elif error.code in CONFLICT:
            why = "is being written by another program, says S3 at each of several tries; it was left alone, try again"
        else:
            raise
        raise RewrapConflictError(f"'{printable(str(name))}' {why}") from None
