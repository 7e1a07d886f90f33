"""A prefix of a bucket, or what an S3 Inventory lists of one, as a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace as changed
from typing import TYPE_CHECKING, BinaryIO, cast

from sealwax._core import envelope
from sealwax._core.context import printable
from sealwax._core.envelope import Inspection
from sealwax._core.rewrap import Rewrap
from sealwax.errors import NotAnEnvelopeError, SealwaxError, StoreError
from sealwax.stores import Change, Entry, Store
from sealwax.stores.s3 import _inventory, _replace
from sealwax.stores.s3._objects import ObjectReader
from sealwax.stores.s3._service import ObjectName, Service, parse

if TYPE_CHECKING:
    from sealwax._aws.session import Session


def open_store(where: str, session: Session | None = None) -> Store:
    """Return the store at ``s3://bucket/prefix``, or the one that an S3 Inventory's manifest is about.

    Raises:
        StoreError: that is no such name, or the manifest cannot be read.
    """
    service = Service(session)
    if where.endswith(f"/{_inventory.MANIFEST}"):
        return InventoryStore(where, service=service)
    return S3Store(where, service=service)


class S3Store:
    """The objects of a bucket whose keys begin with a prefix; end it with ``/`` to mean a folder.

    Listing needs s3:ListBucket, reading s3:GetObject; :meth:`rewrap` and :meth:`replace` need s3:PutObject,
    s3:AbortMultipartUpload, s3:GetObjectTagging and, where there are tags, s3:PutObjectTagging as well.

    Kept are metadata, content type and the other headers, tags, storage class, encryption settings, object lock and
    the checksum algorithms CRC32, SHA-1 and SHA-256. An object gets the bucket's default ACL, the encryption
    context of SSE-KMS is not given out by S3 and so not kept, and of a bucket that keeps versions only the current
    ones are changed.

    Args:
        where: ``s3://bucket/prefix``.
        session: where the S3 client comes from; an ordinary boto3 Session by default.
    """

    def __init__(self, where: str, session: Session | None = None, *, service: Service | None = None) -> None:
        self._prefix = parse(where, prefix=True)
        self._service = Service(session) if service is None else service

    def __repr__(self) -> str:
        return f"S3Store({self.location!r})"

    @property
    def location(self) -> str:
        return str(self._prefix)

    def list(self) -> Iterator[Entry | SealwaxError]:
        """Yield every object, in the order of their keys' bytes."""
        for each in self._service.list(self._prefix):
            name = str(ObjectName(self._prefix.bucket, each["Key"]))
            yield Entry(name, each["Size"], each["ETag"], each["LastModified"].timestamp())

    def inspect(self, name: str) -> Inspection:
        """Read an object's header: one request, and a second where it is larger than 16 KiB.

        What is no envelope and has more than 16 KiB costs one more where its beginning is that of text, two where that
        text has more than 128 KiB, and a few more for a message of the AWS Encryption SDK with so large a header.
        """
        with self._reader(name) as reader:
            try:
                return changed(envelope.inspect(cast("BinaryIO", reader)), at_rest=reader.at_rest)
            except NotAnEnvelopeError as error:
                error.at_rest = reader.at_rest
                raise

    def open(self, name: str) -> BinaryIO:
        return cast("BinaryIO", self._reader(name))

    def rewrap(self, name: str, rewrap: Rewrap, *, size: int | None = None) -> None:
        _replace.rewrap(self._service, self._object(name), rewrap, size)

    def replace(self, name: str, change: Change) -> None:
        _replace.replace(self._service, self._object(name), change)

    def _reader(self, name: str) -> ObjectReader:
        return ObjectReader(self._object(name), service=self._service)

    def _object(self, name: str) -> ObjectName:
        found = parse(name)
        if found.bucket != self._prefix.bucket or not found.key.startswith(self._prefix.key):
            raise StoreError(f"'{printable(name)}' is not in '{printable(self.location)}'; left alone")
        return found


class InventoryStore(S3Store):
    """The objects of a bucket as its S3 Inventory lists them; otherwise as :class:`S3Store`.

    Args:
        where: ``s3://bucket/.../manifest.json``.
    """

    def __init__(self, where: str, session: Session | None = None, *, service: Service | None = None) -> None:
        service = Service(session) if service is None else service
        self._manifest = _inventory.read_manifest(service, where)
        super().__init__(str(ObjectName(self._manifest.source_bucket, "")), service=service)

    @property
    def location(self) -> str:
        return str(self._manifest.name)

    def list(self) -> Iterator[Entry | SealwaxError]:
        return _inventory.entries(self._service, self._manifest)
