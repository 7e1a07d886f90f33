"""S3 objects as binary files that can be read from any position."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, BinaryIO, Final

import botocore.exceptions as foreign
import urllib3.exceptions

from sealwax._core.foreign.s3ec import fields as s3ec
from sealwax._core.format.io import refuse_copies
from sealwax.errors import StoreError
from sealwax.stores.s3 import _responses
from sealwax.stores.s3._service import (
    ATTEMPTS,
    CHANGED,
    MAX_KEY_BYTES,
    MIN_PART_BYTES,
    ObjectName,
    Response,
    Service,
    parse,
    pause,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from sealwax._aws.session import Session

    class _RawBinary(io.RawIOBase, BinaryIO):  # as typeshed has it for FileIO
        pass
else:
    _RawBinary = io.RawIOBase

# Holds the header of nearly every envelope, even one with two slots.
FIRST_BYTES: Final = 1 << 14
# Sequential reads fetch more each time, up to this.
_MAX_READ_AHEAD_BYTES: Final = 8 << 20
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)")


class BinaryFile(_RawBinary):
    """A binary file that cannot be copied or pickled: a copy would end the original's upload."""

    __copy__ = __reduce_ex__ = refuse_copies


class ObjectReader(BinaryFile):
    """An S3 object, open for reading and seeking. It stays at the version it was opened at.

    Args:
        name: ``s3://bucket/key``.
        session: a boto3 Session for S3; an ordinary one by default.
        service: the ``Service`` to send requests with, instead of ``session``.
        first: how many bytes to read on opening. None reads an object of up to 5 MiB completely, in one request.
        version_id: an older version of the object, to read instead of the current one.

    Attributes:
        object: the object's bucket and key.
        size: the object's size in bytes.
        etag: S3's identifier of these bytes.
        version_id: S3's name of the version, if the bucket keeps versions; else None.
        modified_ns: when the object was written, in nanoseconds since 1970; S3 gives whole seconds.
        metadata: the object's user metadata, by names without ``x-amz-meta-``.
        at_rest: the KMS key that S3 itself encrypts the object with (SSE-KMS); "" if it does not.
        response: S3's whole response, checksums included, if opened with ``first=None``; else None.

    Raises:
        StoreError: the object cannot be read. A later read raises it too, if the object was replaced and the bucket
            keeps no versions.

    Example:
        >>> with ObjectReader("s3://vault/a.swx") as source, sealer.open(source, context=context) as file:
        ...     file.seek(10**9)
    """

    def __init__(
        self,
        name: str | ObjectName,
        session: Session | None = None,
        *,
        service: Service | None = None,
        first: int | None = FIRST_BYTES,
        version_id: str | None = None,
    ) -> None:
        super().__init__()
        self.object = parse(name) if isinstance(name, str) else name
        self._service = Service(session) if service is None else service
        self._position = 0
        self._old = {} if version_id is None else {"VersionId": version_id}
        self._pinned: dict[str, str] = {}
        self._version_id: str | None = None
        self._window, self._window_start = b"", 0
        self._read_end, self._ahead = 0, FIRST_BYTES
        self._instructions: bytes | None = None
        self._asked = False
        self.size = 0
        try:
            self._window, answer = self._get(0, first)
        except StoreError as error:
            if error.code not in ("InvalidRange", "416"):
                raise
            # An empty object has no ranges.
            answer = self._service.call("head_object", "reading", self.object, **self._old)
            if answer["ContentLength"]:
                raise _responses.not_the_part(self.name, "the store refuses to send a part of it (416)") from None
        self.etag: str = answer["ETag"]
        if self.etag.startswith("W/"):  # proxies mark what they have rewritten so; S3 never does
            raise _responses.not_the_part(
                self.name, "something between S3 and here has changed its bytes (it has a weak ETag)"
            )
        self.response: Response | None = answer if first is None else None
        # Checksums are missing from it, unless all of the object was read.
        self._seen = answer
        self.modified_ns = int(answer["LastModified"].timestamp()) * 10**9
        self.metadata: dict[str, str] = answer.get("Metadata", {})
        # S3 always names the key; "?" stands for any key if a server does not.
        by_kms = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
        self.at_rest = str(answer.get("SSEKMSKeyId") or "?") if by_kms else ""
        self._version_id = answer.get("VersionId")
        self._pinned = {"IfMatch": self.etag, **self._old}

    @property
    def name(self) -> str:
        """The object's name, ``s3://bucket/key``."""
        return str(self.object)

    @property
    def version_id(self) -> str | None:
        """The version that is read; None in a bucket that keeps no versions."""
        return self._version_id

    def _get(self, start: int, size: int | None) -> tuple[bytes, Response]:
        """Return ``size`` bytes, or fewer at the end, and the response they came with.

        Args:
            size: None, on opening: all bytes, or the first ones of a large object.
        """
        data = bytearray()
        for attempt in range(1, ATTEMPTS + 1):
            answer = self._answer(start + len(data), None if size is None else size - len(data))
            try:
                with contextlib.closing(answer.pop("Body")) as body:
                    sent = answer["ContentLength"]
                    most = size if size is not None else sent if sent <= MIN_PART_BYTES else FIRST_BYTES
                    self._check(answer, start + len(data), (sent if size is None else size) - len(data))
                    # In pieces: what arrived before the connection broke is not requested again.
                    while piece := body.read(min(1 << 20, most - len(data))) if len(data) < most else b"":
                        data += piece
                    if size is None and most == sent:
                        body.read(1)  # at the end, botocore compares the checksum
                return bytes(data), answer
            # botocore does not wrap all of urllib3's errors: not one about an invalid TLS record, for instance.
            except (foreign.BotoCoreError, urllib3.exceptions.HTTPError) as error:
                failure = _responses.translate(error, "reading", self.name)
            if attempt == ATTEMPTS:
                raise failure
            if not self._pinned:
                data.clear()  # the next response may be of another version
            pause(attempt)
        raise AssertionError("unreachable")

    def _answer(self, start: int, size: int | None) -> Response:
        if size is None:
            return self._service.call("get_object", "reading", self.object, ChecksumMode="ENABLED", **self._old)
        range_ = f"bytes={start}-{start + size - 1}"
        try:
            return self._service.call("get_object", "reading", self.object, Range=range_, **self._old | self._pinned)
        except StoreError as error:
            if error.code not in CHANGED or not self._pinned:
                raise
            if self._version_id in (None, "null") or "VersionId" in self._pinned:
                raise _responses.changed(self.name, error.code) from None
            # The bucket keeps versions: continue in the one that was opened. This takes s3:GetObjectVersion.
            self._pinned["VersionId"] = self._version_id
            return self._service.call("get_object", "reading", self.object, Range=range_, **self._pinned)

    def _check(self, answer: Response, start: int, size: int) -> None:
        """Check that a response holds the requested part of the object, and keep the object's size.

        A store or proxy may ignore ranges and conditions, and its bytes would look like tampering.

        Raises:
            StoreError: it holds something else.
        """
        if self._pinned and answer["ETag"] != self.etag:
            raise _responses.changed(self.name)
        sent, metadata = answer["ContentLength"], answer.get("ResponseMetadata", {})
        if metadata.get("HTTPStatusCode") == 200:
            if not metadata.get("RequestId"):
                raise _responses.not_s3("reading", self.name)
            if start:
                raise _responses.not_the_part(self.name, "the store sent the whole object instead of a part")
            total = sent
        else:
            part = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
            first, last, total = map(int, part.groups()) if part else (0, 0, 0)
            if (first, last, sent) != (start, min(start + size, total) - 1, last - first + 1):
                raise _responses.not_the_part(self.name, "the store sent another part of the object than requested")
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
        """Move to another place; nothing is requested yet.

        Args:
            offset: bytes.
            whence: what ``offset`` counts from: the start, the current place or the end.

        Returns:
            The new place, in bytes from the start.

        Raises:
            ValueError: it is before the start.
        """
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("seek to before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into a buffer.

        Args:
            buffer: is filled from its beginning.

        Returns:
            How many bytes were read; 0 at the end.

        Raises:
            StoreError: S3 cannot be read, or no longer has this version.
        """
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
        sequential = self._position == self._read_end
        self._ahead = min(2 * self._ahead, _MAX_READ_AHEAD_BYTES) if sequential else 0
        size = min(max(wanted, self._ahead), self.size - self._position)
        self._ahead = max(self._ahead, FIRST_BYTES)
        self._window, _ = self._get(self._position, size)
        self._window_start = self._position

    def instructions(self) -> bytes | None:
        """Return the instruction file that the S3 Encryption Client keeps beside some objects; None if there is none.

        Where S3 may not say whether there is one, only an object whose metadata leaves its wrapped key to it has one.

        Raises:
            StoreError: it cannot be read.
        """
        if not self._asked:
            self._instructions = read_instructions(self._service, self.object, self.metadata)
            self._asked = True
        return self._instructions

    def close(self) -> None:
        self._window = b""
        super().close()


def read_instructions(service: Service, name: ObjectName, metadata: Mapping[str, str]) -> bytes | None:
    """Return the instruction file of an object; see ``ObjectReader.instructions``.

    A listing that has just shown that there is none is believed, unless the metadata says that there is one.
    """
    awaited = s3ec.promises_instructions(metadata)
    if not awaited and service._beside.has_none(name.bucket, name.key):
        return None
    beside = ObjectName(name.bucket, name.key + s3ec.INSTRUCTION_SUFFIX)
    if len(beside.key.encode()) > MAX_KEY_BYTES:
        return None
    try:
        with ObjectReader(beside, service=service, first=s3ec.MAX_INSTRUCTION_BYTES + 1) as reader:
            return reader._window
    except StoreError as error:
        hidden = error.code in ("AccessDenied", "403") and not s3ec.promises_instructions(metadata)
        if hidden or error.code in ("NoSuchKey", "404"):
            return None
        raise
