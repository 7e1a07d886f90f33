"""Objects as binary files: read at any place, written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

import botocore.exceptions as foreign
import urllib3.exceptions

from sealwax._core.context import printable
from sealwax._core.envelope import MAX_HEADER_BYTES
from sealwax._core.format import header as hdr
from sealwax._core.format.io import refuse_copies
from sealwax._core.format.payload import refuse_forked
from sealwax._core.pool import Pool
from sealwax.errors import FileError, StoreError
from sealwax.stores.s3 import _responses
from sealwax.stores.s3._service import CHANGED, CONFLICT, UNMET, ObjectName, Service, parse

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from sealwax._aws.session import Session

    class _Raw(io.RawIOBase, BinaryIO):  # as typeshed has it for FileIO
        pass
else:
    _Raw = io.RawIOBase

# Holds the header of nearly every envelope, also one with two slots.
FIRST_BYTES: Final = 1 << 14
# Who reads on where the last read ended is given more at a time, up to this.
_MOST_AHEAD_BYTES: Final = 8 << 20
_ATTEMPTS: Final = 4
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)")

# S3's rules: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MIN_PART_BYTES: Final = 5 << 20
MAX_PART_BYTES: Final = 5 << 30
MAX_PARTS: Final = 10_000
_PART_BYTES: Final = 8 << 20
# A stream of unknown length: each part is this fraction of what went before, so that 10,000 of them reach 5 TiB.
_GROWTH: Final = 1300
_UPLOADS_AT_ONCE: Final = 4
# So much of an object's beginning tells one envelope from another, and a re-wrap of it from another one: all of any
# header. Its first kilobytes may be nothing but a context.
_TELLING_BYTES: Final = MAX_HEADER_BYTES


class _BinaryFile(_Raw):
    # A copy would end the original's upload.
    __copy__ = __reduce_ex__ = refuse_copies


class ObjectReader(_BinaryFile):
    """An object, open for reading at any place, fixed to the version that stood there when it was opened.

    Args:
        name: ``s3://bucket/key``.
        session: where the S3 client comes from; an ordinary boto3 Session by default.
        first: how many bytes to read at once on opening; None: all, and not by a range, if there are at most 5 MiB.

    Attributes:
        size: the object's bytes.
        etag: S3's name for these bytes.
        modified_ns: when the object was put there, in nanoseconds since 1970; S3 tells whole seconds.
        metadata: what was put beside the bytes, by names without ``x-amz-meta-``.
        at_rest: the KMS key under which S3 keeps the object, where it does (SSE-KMS); else "".
        beside: all that S3 told with the bytes, checksums too, where no range was asked for; else None.

    Raises:
        StoreError: the object cannot be read; also later, where it was replaced and S3 keeps no versions.
    """

    def __init__(
        self,
        name: str | ObjectName,
        session: Session | None = None,
        *,
        service: Service | None = None,
        first: int | None = FIRST_BYTES,
    ) -> None:
        super().__init__()
        self.object = parse(name) if isinstance(name, str) else name
        self._service = Service(session) if service is None else service
        self._position = 0
        self._pinned: dict[str, Any] = {}
        self._version_id: str | None = None
        self._window, self._window_start = b"", 0
        self._read_end, self._ahead = 0, FIRST_BYTES
        self.size = 0
        try:
            self._window, answer = self._get(0, first)
        except StoreError as error:
            if error.code not in ("InvalidRange", "416"):
                raise
            answer = self._service.call("head_object", "reading", self.object)  # no range of nothing
            if answer["ContentLength"]:
                raise _responses.not_the_part(self.name, "the store refuses to send a part of it (416)") from None
        self.etag: str = answer["ETag"]
        if self.etag.startswith("W/"):  # so marks a proxy what it has compressed or rewritten, and S3 nothing
            raise _responses.not_the_part(
                self.name, "something on the way has changed its bytes (its ETag is a weak one)"
            )
        self.beside = answer if first is None else None
        self.modified_ns = int(answer["LastModified"].timestamp()) * 10**9
        self.metadata: dict[str, str] = answer.get("Metadata", {})
        # S3 always names the key, for which "?" could be any.
        by_kms = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
        self.at_rest = str(answer.get("SSEKMSKeyId") or "?") if by_kms else ""
        self._version_id = answer.get("VersionId")
        self._pinned = {"IfMatch": self.etag}

    @property
    def name(self) -> str:
        return str(self.object)

    def _get(self, start: int, size: int | None) -> tuple[bytes, dict[str, Any]]:
        """Return ``size`` bytes, or what there is, and the answer that they came with.

        Args:
            size: None, on opening: all, or the first of them where there are too many.
        """
        data = bytearray()
        for attempt in range(1, _ATTEMPTS + 1):
            answer = self._answer(start + len(data), None if size is None else size - len(data))
            try:
                with contextlib.closing(answer.pop("Body")) as body:
                    sent = answer["ContentLength"]
                    most = size if size is not None else sent if sent <= MIN_PART_BYTES else FIRST_BYTES
                    self._check(answer, start + len(data), (sent if size is None else size) - len(data))
                    # In pieces, so that what came before the connection broke is not asked for again.
                    while piece := body.read(min(1 << 20, most - len(data))) if len(data) < most else b"":
                        data += piece
                    if size is None and most == sent:
                        body.read(1)  # at the end, botocore holds the bytes against their checksum
                return bytes(data), answer
            # urllib3's own are those that botocore forgets, such as of a TLS record that cannot be right.
            except (foreign.BotoCoreError, urllib3.exceptions.HTTPError) as error:
                failure = _responses.translate(error, "reading", self.name)
            if attempt == _ATTEMPTS:
                raise failure
            if not self._pinned:
                data.clear()  # what comes next may be another version
            _pause(attempt)
        raise AssertionError("unreachable")

    def _answer(self, start: int, size: int | None) -> dict[str, Any]:
        if size is None:
            return self._service.call("get_object", "reading", self.object, ChecksumMode="ENABLED")
        range_ = f"bytes={start}-{start + size - 1}"
        try:
            return self._service.call("get_object", "reading", self.object, Range=range_, **self._pinned)
        except StoreError as error:
            if error.code not in CHANGED or not self._pinned:
                raise
            if self._version_id in (None, "null") or "VersionId" in self._pinned:
                raise _responses.changed(self.name, error.code) from None
            # The bucket keeps versions: read on in the one that was opened. It takes s3:GetObjectVersion.
            self._pinned["VersionId"] = self._version_id
            return self._service.call("get_object", "reading", self.object, Range=range_, **self._pinned)

    def _check(self, answer: Mapping[str, Any], start: int, size: int) -> None:
        """Make sure that what is coming is the part of the object that was asked for, and note the object's size.

        A store or a proxy may know nothing of ranges and conditions, and what it sends would look like tampering.

        Raises:
            StoreError: it is not.
        """
        if self._pinned and answer["ETag"] != self.etag:
            raise _responses.changed(self.name)
        sent, metadata = answer["ContentLength"], answer.get("ResponseMetadata", {})
        if metadata.get("HTTPStatusCode") == 200:
            if not metadata.get("RequestId"):
                raise _responses.not_s3("reading", self.name)
            if start:
                raise _responses.not_the_part(self.name, "the store sent the whole object where a part was asked for")
            total = sent
        else:
            part = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
            first, last, total = map(int, part.groups()) if part else (0, 0, 0)
            if (first, last, sent) != (start, min(start + size, total) - 1, last - first + 1):
                raise _responses.not_the_part(self.name, "the store sent another part of the object than was asked for")
        if self._pinned and total != self.size:
            raise _responses.changed(self.name)
        self.size = total

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("seek to before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if self.closed:
            raise ValueError("read from a closed file")
        with memoryview(buffer).cast("B") as view:
            wanted = min(len(view), self.size - self._position)
            if wanted <= 0:
                return 0
            at = self._position - self._window_start
            if not 0 <= at < len(self._window):
                self._fill(wanted)
                at = 0
            size = min(wanted, len(self._window) - at)
            view[:size] = self._window[at : at + size]
        self._position += size
        self._read_end = self._position
        return size

    def _fill(self, wanted: int) -> None:
        goes_on = self._position == self._read_end
        self._ahead = min(2 * self._ahead, _MOST_AHEAD_BYTES) if goes_on else 0
        size = min(max(wanted, self._ahead), self.size - self._position)
        self._ahead = max(self._ahead, FIRST_BYTES)
        self._window, _ = self._get(self._position, size)
        self._window_start = self._position

    def close(self) -> None:
        self._window = b""
        super().close()


class ObjectWriter(_BinaryFile):
    """An object that appears whole or not at all, however large; nothing is kept on a disk.

    Leave the ``with`` block normally to put it in its place; leave it by an exception, and what stood there still
    does. Where the process is killed, parts stay invisible in the bucket until a lifecycle rule
    (AbortIncompleteMultipartUpload) removes them.

    At most 5 parts are held in memory. A part has 8 MiB, more where ``size`` or what was written already asks for it: a
    stream of unknown length takes 8 MiB up to 10 GiB, and from there 1/1300 of what was written.

    Args:
        name: ``s3://bucket/key``.
        session: where the S3 client comes from; an ordinary boto3 Session by default.
        overwrite: whether an object that is there may be replaced.
        size: about how many bytes there will be; None where that is not known.
        replaces: the ETag of the object that is to be replaced, and no other.
        settings: more of S3's parameters for the new object: ``{"StorageClass": "STANDARD_IA"}``.

    Raises:
        StoreError: the object is there and may not be replaced, or S3 refuses.
    """

    # An object is replaced whole, so a second slot would never serve.
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
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.object = parse(name) if isinstance(name, str) else name
        self._service = Service(session) if service is None else service
        self._settings = {"ChecksumAlgorithm": "CRC32", **(settings or {})}
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
        self._parts: list[Future[dict[str, Any]]] = []
        self._upload_id: str | None = None
        self._settled = False

    @property
    def name(self) -> str:
        return str(self.object)

    def _refuse_existing(self) -> None:
        try:
            self._service.call("head_object", "writing", self.object)
        except StoreError as error:
            if error.code not in ("404", "NoSuchKey"):
                raise
        else:
            raise self._exists()

    def _exists(self) -> FileError:
        return FileError(
            f"writing '{printable(self.name)}' failed: it exists already, and is not replaced unasked (--force)"
        )

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: ReadableBuffer, /) -> int:
        """Take all of ``data``; now and then, wait until a part of it has reached S3."""
        if self.closed or self._settled:
            raise ValueError("write to a closed or failed file")
        refuse_forked(self._process)
        with memoryview(data).cast("B") as view:
            size = len(view)
            self._first += bytes(view[: _TELLING_BYTES - len(self._first)])
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
            raise StoreError(f"writing '{printable(self.name)}' failed: it is larger than S3 takes in 10,000 parts")
        assert self._pool is not None
        self._parts.append(self._pool.submit(self._upload, number, body))

    def _begin(self) -> None:
        answer = self._service.call("create_multipart_upload", "writing", self.object, **self._settings)
        self._upload_id = answer["UploadId"]
        self._pool = Pool(_UPLOADS_AT_ONCE, "sealwax-upload")

    def _upload(self, number: int, body: bytearray) -> dict[str, Any]:
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
        """Bring everything to S3 that need not wait for the last word.

        Raises:
            ValueError: this is a forked child of the process that began.
        """
        refuse_forked(self._process)
        if self._upload_id is not None:
            if self._pending:
                self._send()
            for part in self._parts:
                part.result()

    def appear(self) -> None:
        """Put the object in its place.

        Raises:
            StoreError: it could not be, or somebody else has put another there; see :data:`CHANGED` for its code.
        """
        self.prepare()
        try:
            despite_conflicts(self._put if self._upload_id is None else self._complete)
        except StoreError as error:
            if not is_there(self._service, self.object, self._first, self._written, error):
                if "IfNoneMatch" in self._condition and error.code in UNMET:
                    raise self._exists() from None
                raise
        self.discard()  # what is left of the upload, where the object came there without it

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
        """Forget the object; what stood in its place still does. What failed before is what the caller hears of.

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
            # Before the upload is aborted: a part that arrives later would stay.
            self._pool.shutdown(cancel=True)
            self._pool = None

    def commit(self) -> None:
        """Put the object in its place; if that fails, nothing of it stays."""
        try:
            self.appear()
        except BaseException:
            self.discard()
            raise

    def close(self) -> None:
        """Forget what was not put in its place: only :meth:`commit` and a clean end of ``with`` do that."""
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


def part_of(number: int, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what CompleteMultipartUpload wants to hear of a part: its ETag and checksums."""
    checksums = {name: value for name, value in answer.items() if name.startswith("Checksum") and value}
    checksums.pop("ChecksumType", None)
    return {"PartNumber": number, "ETag": answer["ETag"], **checksums}


def complete(
    service: Service, name: ObjectName, upload_id: str, parts: list[dict[str, Any]], condition: Mapping[str, str]
) -> None:
    """Make an object of its parts, if ``condition`` holds."""
    service.call(
        "complete_multipart_upload",
        "writing",
        name,
        UploadId=upload_id,
        MultipartUpload={"Parts": parts},
        **condition,
    )


def despite_conflicts(write: Callable[[], None]) -> None:
    """Call ``write``, and call it again where S3 says that another write of the same object is under way.

    It asks for that itself: it cannot tell yet whether the condition holds. The next try finds out.

    Raises:
        StoreError: what ``write`` raised last; or the conflict, where S3 forgot the upload over it.
    """
    conflict: StoreError | None = None
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return write()
        except StoreError as error:
            if conflict is not None and error.code == "NoSuchUpload":
                raise conflict from None
            if error.code not in CONFLICT or attempt == _ATTEMPTS:
                raise
            conflict = error
        _pause(attempt)
    raise AssertionError("unreachable")


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311


def is_there(service: Service, name: ObjectName, first: bytes, size: int, error: StoreError) -> bool:
    """Whether an envelope has been put in its place although the request that did it failed with ``error``.

    The answer to a request may get lost, and the request when it is repeated meet its own effect. An envelope tells
    itself from every other: it begins with an id of its own.
    """
    if not first.startswith(hdr.MAGIC) or not (error.retryable or error.code in CHANGED | {"NoSuchUpload"}):
        return False
    try:
        with ObjectReader(name, service=service, first=len(first)) as there:
            return there.size == size and there.read(len(first)) == first
    except StoreError:
        return False


def abort(service: Service, name: ObjectName, upload_id: str) -> None:
    service.call("abort_multipart_upload", "aborting the upload of", name, UploadId=upload_id)
