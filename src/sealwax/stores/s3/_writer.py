"""S3 objects as binary files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, Literal, Self

from sealwax._core.envelope import MAX_HEADER_BYTES
from sealwax._core.format import header as hdr
from sealwax._core.format.payload import refuse_forked
from sealwax._core.pool import Pool
from sealwax._text import printable
from sealwax.errors import FileError, StoreError
from sealwax.stores.s3 import _settings
from sealwax.stores.s3._reader import BinaryFile, ObjectReader
from sealwax.stores.s3._service import (
    ATTEMPTS,
    CHANGED,
    CONFLICT,
    MAX_PARTS,
    UNMET,
    ObjectName,
    Service,
    parse,
    pause,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from sealwax._aws.session import Session

_PART_BYTES: Final = 8 << 20
# Of a stream of unknown length, each part is this fraction of what came before: 10,000 parts reach 5 TiB.
_GROWTH: Final = 1300
_UPLOADS_AT_ONCE: Final = 4
# Enough to distinguish an envelope from any other, and from a re-wrap of it: any header fits, of which the first
# kilobytes may be nothing but a context.
_IDENTIFYING_BYTES: Final = MAX_HEADER_BYTES


class ObjectWriter(BinaryFile):
    """An S3 object that appears completely or not at all, however large. Nothing is stored on disk.

    A ``with`` block that ends normally puts the object in place; one that ends with an exception leaves what was there
    before. If the process is killed, invisible parts stay in the bucket until a lifecycle rule
    (AbortIncompleteMultipartUpload) removes them.

    Holds at most 5 parts in memory. A part is 8 MiB, or more if ``size`` or the bytes written so far require it: a
    stream of unknown length uses 8 MiB up to 10 GiB, then 1/1300 of what was written.

    Args:
        name: ``s3://bucket/key``.
        session: a boto3 Session for S3; an ordinary one by default.
        service: the ``Service`` to send requests with, instead of ``session``.
        overwrite: whether an existing object may be replaced.
        size: about how many bytes will be written, if known.
        replaces: replace only the object that has this ETag.
        sse: how S3 itself encrypts the object at rest: ``"aws:kms"`` or ``"AES256"``; as the bucket says by default.
            With ``"aws:kms"``, the caller needs kms:GenerateDataKey on that key, and kms:Decrypt if the object has more
            than 8 MiB.
        sse_kms_key_id: the KMS key that S3 uses (key ID, key ARN, alias or alias ARN); means ``sse="aws:kms"``.
        storage_class: S3's name of one, such as ``"STANDARD_IA"``; ``"STANDARD"`` by default.
        tags: the object's tags, at most 10, by name. The caller needs s3:PutObjectTagging.
        settings: more of S3's parameters for the new object: ``{"ContentType": "text/plain"}``.

    Attributes:
        object: the object's bucket and key.

    Raises:
        StoreError: S3 refuses the request.
        FileError: the object exists and ``overwrite`` is false.
        ValueError: ``sse``, the key or the tags are not valid.

    Example:
        >>> sink = ObjectWriter("s3://vault/a.swx", sse="aws:kms", tags={"team": "db"})
        >>> with sink, sealer.open(sink, "wb", context=context) as file:
        ...     file.write(b"...")
    """

    # S3 replaces whole objects, so a second slot would never be used.
    one_slot: Final = True

    def __init__(
        self,
        name: str | ObjectName,
        session: Session | None = None,
        *,
        service: Service | None = None,
        overwrite: bool = True,
        size: int | None = None,
        replaces: str | None = None,
        sse: Literal["aws:kms", "AES256"] | None = None,
        sse_kms_key_id: str | None = None,
        storage_class: str | None = None,
        tags: Mapping[str, str] | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.object = parse(name) if isinstance(name, str) else name
        self._service = Service(session) if service is None else service
        named = _settings.parameters(sse, sse_kms_key_id, storage_class, tags)
        self._settings: dict[str, object] = {"ChecksumAlgorithm": "CRC32", **named, **(settings or {})}
        self._condition: dict[str, str] = {}
        if replaces is not None:
            self._condition = {"IfMatch": replaces}
        elif not overwrite:
            self._condition = {"IfNoneMatch": "*"}
            self._refuse_existing()
        self._least = _PART_BYTES if size is None else max(_PART_BYTES, -(-size * 101 // 100 // (MAX_PARTS - 1)))
        self._pending = bytearray()
        self._first = b""
        self._written = 0
        self._process = os.getpid()
        self._pool: Pool | None = None
        self._parts: list[Future[dict[str, object]]] = []
        self._upload_id: str | None = None
        self._settled = False

    @property
    def name(self) -> str:
        """The object's name, ``s3://bucket/key``."""
        return str(self.object)

    def _refuse_existing(self) -> None:
        try:
            self._service.call("head_object", "writing", self.object)
        except StoreError as error:
            if error.code not in ("404", "NoSuchKey"):
                raise
        else:
            raise self._exists() from FileExistsError()

    def _exists(self) -> FileError:
        return FileError(f"writing '{printable(self.name)}' failed: it already exists")

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: ReadableBuffer, /) -> int:
        """Write bytes, waiting at times for a part to reach S3.

        Args:
            data: all of it is accepted.

        Returns:
            Its size in bytes.

        Raises:
            StoreError: S3 refuses a part, or cannot be reached.
        """
        if self.closed or self._settled:
            raise ValueError("write to a closed or failed file")
        refuse_forked(self._process)
        with memoryview(data).cast("B") as view:
            size = len(view)
            self._first += bytes(view[: _IDENTIFYING_BYTES - len(self._first)])
            at = 0
            while at < size:
                part = max(self._least, self._written // _GROWTH)
                take = min(size - at, part - len(self._pending))
                self._pending += view[at : at + take]
                at += take
                self._written += take
                if len(self._pending) >= part:
                    self._send()
        return size

    def _send(self) -> None:
        if self._upload_id is None:
            self._begin()
        for earlier in self._parts[: -_UPLOADS_AT_ONCE + 1]:
            earlier.result()
        body, self._pending = self._pending, bytearray()
        number = len(self._parts) + 1
        if number > MAX_PARTS:
            raise StoreError(f"writing '{printable(self.name)}' failed: it is larger than S3 accepts (10,000 parts)")
        assert self._pool is not None
        self._parts.append(self._pool.submit(self._upload, number, body))

    def _begin(self) -> None:
        answer = self._service.call("create_multipart_upload", "writing", self.object, **self._settings)
        self._upload_id = answer["UploadId"]
        self._pool = Pool(_UPLOADS_AT_ONCE, "sealwax-upload")

    def _upload(self, number: int, body: bytearray) -> dict[str, object]:
        answer = self._service.call(
            "upload_part",
            "writing",
            self.object,
            UploadId=self._upload_id,
            PartNumber=number,
            Body=body,
            ChecksumAlgorithm=self._settings["ChecksumAlgorithm"],
        )
        return part_of(number, answer)

    def prepare(self) -> None:
        """Upload all parts, but do not put the object in place yet.

        Raises:
            ValueError: this process is a forked child of the one that opened the writer.
            StoreError: S3 refuses a part.
        """
        refuse_forked(self._process)
        if self._upload_id is not None:
            if self._pending:
                self._send()
            for part in self._parts:
                part.result()

    def appear(self) -> None:
        """Put the object in place.

        Raises:
            StoreError: S3 refuses, or another program has written the object meanwhile.
            FileError: the object exists and ``overwrite`` is false.
        """
        self.prepare()
        try:
            despite_conflicts(self._put if self._upload_id is None else self._complete)
        except StoreError as error:
            if not is_there(self._service, self.object, self._first, self._written, error):
                if "IfNoneMatch" in self._condition and error.code in UNMET:
                    raise self._exists() from FileExistsError()
                raise
        self.discard()  # the object may be in place although its upload is left over

    def _put(self) -> None:
        self._service.call(
            "put_object", "writing", self.object, Body=self._pending, **self._settings, **self._condition
        )

    def _complete(self) -> None:
        assert self._upload_id is not None
        parts = [part.result() for part in self._parts]
        complete(self._service, self.object, self._upload_id, parts, self._condition)
        self._upload_id = None

    def discard(self) -> None:
        """Drop what was written; an object that was there before stays. Further failures are not reported.

        A forked child leaves its parent's upload alone.
        """
        self._settled = True
        self._end()
        if self._upload_id is not None and self._process == os.getpid():
            upload_id, self._upload_id = self._upload_id, None
            with contextlib.suppress(StoreError):
                abort(self._service, self.object, upload_id)

    def _end(self) -> None:
        self._pending = bytearray()
        if self._pool is not None:
            # Before the upload is aborted: a part that arrives afterwards would stay.
            self._pool.shutdown(cancel=True)
            self._pool = None

    def commit(self) -> None:
        """Put the object in place; if that fails, drop it.

        Raises:
            StoreError, FileError: as for ``appear``.
        """
        try:
            self.appear()
        except BaseException:
            self.discard()
            raise

    def close(self) -> None:
        """Drop the object unless it is in place, which only ``commit`` and a normal end of ``with`` achieve."""
        if not self.closed:
            super().close()
            if "_settled" in self.__dict__ and not self._settled:
                self.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()


def part_of(number: int, answer: Mapping[str, object]) -> dict[str, object]:
    """Return what CompleteMultipartUpload needs to know about a part: its ETag and checksums."""
    checksums = {name: value for name, value in answer.items() if name.startswith("Checksum") and value}
    checksums.pop("ChecksumType", None)
    return {"PartNumber": number, "ETag": answer["ETag"], **checksums}


def complete(
    service: Service, name: ObjectName, upload_id: str, parts: list[dict[str, object]], condition: Mapping[str, str]
) -> None:
    """Make an object from its parts, if ``condition`` holds."""
    service.call(
        "complete_multipart_upload",
        "writing",
        name,
        UploadId=upload_id,
        MultipartUpload={"Parts": parts},
        **condition,
    )


def despite_conflicts(write: Callable[[], None]) -> None:
    """Call ``write``, and again while S3 answers that another write of the same object is in progress.

    S3 asks for the retry: it cannot tell yet whether the condition holds.

    Raises:
        StoreError: what ``write`` raised last, or the conflict if S3 dropped the upload because of it.
    """
    conflict: StoreError | None = None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return write()
        except StoreError as error:
            if conflict is not None and error.code == "NoSuchUpload":
                raise conflict from None
            if error.code not in CONFLICT or attempt == ATTEMPTS:
                raise
            conflict = error
        pause(attempt)
    raise AssertionError("unreachable")


def is_there(service: Service, name: ObjectName, first: bytes, size: int, error: StoreError) -> bool:
    """Whether an envelope is in place although the request that wrote it failed with ``error``.

    A response may be lost, and the repeated request then meets its own effect. Each envelope is recognizable: it begins
    with a unique id.

    Raises:
        StoreError: nobody can say, and ``error`` would mean that another program changed the object.
    """
    if not first.startswith(hdr.MAGIC) or not (error.retryable or error.code in CHANGED | {"NoSuchUpload"}):
        return False
    try:
        with ObjectReader(name, service=service, first=len(first)) as reader:
            return reader.size == size and reader.read(len(first)) == first
    except StoreError as unseen:
        refuse_unclear(name, error, unseen)
        return False


def refuse_unclear(name: ObjectName, error: StoreError, unseen: StoreError) -> None:
    """Refuse to take an unmet condition for a change by another program while the object cannot be looked at.

    Args:
        error: why the write failed, which an earlier attempt may have done.
        unseen: why the object could not be read then.

    Raises:
        StoreError: it has no code, which would mean that the object was left alone.
    """
    if error.code in CHANGED | CONFLICT and unseen.code not in CHANGED:
        raise StoreError(
            f"'{printable(str(name))}' may or may not have been written: {error} And then {unseen}",
            request_id=error.request_id,
            retryable=True,
        ) from None


def abort(service: Service, name: ObjectName, upload_id: str) -> None:
    """Abort a multipart upload; S3 drops its parts."""
    service.call("abort_multipart_upload", "aborting the upload of", name, UploadId=upload_id)
