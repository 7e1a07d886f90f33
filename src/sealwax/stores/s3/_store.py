"""A prefix of a bucket as a store, listed by S3 or by an S3 Inventory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from sealwax._core import envelope
from sealwax._core.envelope import Inspection
from sealwax._core.objects import is_object
from sealwax._core.rewrap import Rewrap, RewrapsObjects
from sealwax._text import printable
from sealwax.errors import NotAnEnvelopeError, SealwaxError, StoreError
from sealwax.stores._store import Change, Entry, Store
from sealwax.stores.s3 import _inventory, _replace, _s3ec
from sealwax.stores.s3._reader import ObjectReader, read_instructions
from sealwax.stores.s3._service import ObjectName, Service, parse
from sealwax.stores.s3._writer import ObjectWriter

_VERSION: Final = "?versionId="

if TYPE_CHECKING:
    from sealwax._aws.session import Session


def open_location(location: str, session: Session | None = None) -> Store:
    """Return the store at ``s3://bucket/prefix``, or of the objects that an S3 Inventory's manifest lists.

    Raises:
        StoreError: it is not a valid name, or the manifest cannot be read.
    """
    if location.endswith(f"/{_inventory.MANIFEST}"):
        return InventoryStore(location, session)
    return S3Store(location, session)


class S3Store(Store):
    """The objects of a bucket whose keys begin with a prefix; end it with ``/`` to mean a folder.

    Listing needs s3:ListBucket and reading s3:GetObject. ``rewrap`` and ``replace`` also need s3:PutObject,
    s3:AbortMultipartUpload, s3:GetObjectTagging and, for objects with tags, s3:PutObjectTagging. ``rewrap`` transfers
    at most 5 MiB of an object; S3 copies the rest itself. For objects of the S3 Encryption Client in a bucket with
    versions, it also needs s3:GetObjectVersion, s3:GetObjectVersionTagging and s3:ListBucketVersions.

    They keep an object's metadata, content type and other headers, tags, storage class, encryption settings, object
    lock and checksum algorithm (CRC32, SHA-1 or SHA-256). Not kept: an ACL of the object, which gets the bucket's
    default, and the encryption context of SSE-KMS, which S3 does not return. If the bucket keeps versions, only current
    ones are changed.

    Args:
        location: ``s3://bucket/prefix``.
        session: a boto3 Session for S3; an ordinary one by default.
        service: the ``Service`` to send requests with, instead of ``session``.

    Raises:
        StoreError: the location is not a valid S3 name, or, in a method, S3 refused a request.
        CredentialsError: in a method, there are no credentials for S3.
    """

    def __init__(self, location: str, session: Session | None = None, *, service: Service | None = None) -> None:
        self._prefix = parse(location, prefix=True)
        self._service = Service(session) if service is None else service

    def __repr__(self) -> str:
        return f"S3Store({self.location!r})"

    @property
    def location(self) -> str:
        """The location, ``s3://bucket/prefix``."""
        return str(self._prefix)

    def list(self) -> Iterator[Entry | SealwaxError]:
        for record in self._service.list(self._prefix):
            name = str(ObjectName(self._prefix.bucket, record["Key"]))
            yield Entry(name, record["Size"], record["ETag"], record["LastModified"].timestamp())

    def inspect(self, name: str) -> Inspection:
        """Read an object's header, in one request, or two for a header larger than 16 KiB.

        An object that is not an envelope and has more than 16 KiB takes one more request if it begins like text, two if
        that text has more than 128 KiB, and a few for an AWS Encryption SDK message with so large a header.

        Args:
            name: the object, ``s3://bucket/key``.

        Returns:
            What ``sealwax.inspect`` returns, with ``at_rest`` set.

        Raises:
            HeaderError: it is not an envelope, or its header is damaged.
            StoreError, CredentialsError: it cannot be read.
        """
        with self._reader(name) as reader:
            try:
                return replace(envelope.inspect(cast("BinaryIO", reader)), at_rest=reader.at_rest)
            except NotAnEnvelopeError as error:
                error.at_rest = reader.at_rest
                error.metadata = reader.metadata
                raise

    @property
    def has_own_instructions(self) -> bool:
        """Whether it knows which instruction file of the S3 Encryption Client belongs to an object."""
        return True

    def instructions(self, name: str, metadata: Mapping[str, str]) -> bytes | None:
        """Return the instruction file of an object of the S3 Encryption Client.

        It takes one request (s3:GetObject), unless ``list`` has just shown that there is no such file.

        Args:
            name: the object, ``s3://bucket/key``.
            metadata: its metadata.

        Returns:
            The file's bytes; None if there is none.

        Raises:
            StoreError, CredentialsError: it cannot be read.
        """
        return read_instructions(self._service, self._object(name), metadata)

    def check_metadata(self, name: str, metadata: Mapping[str, str], changed: Mapping[str, str]) -> None:
        """Refuse an object of the S3 Encryption Client with metadata that a copy cannot have, without any request.

        Args:
            name: the object, ``s3://bucket/key``.
            metadata: its metadata.
            changed: what a re-wrap changes of it, or as much text.

        Raises:
            StoreError: the refusal.
        """
        _s3ec.check_metadata(self._object(name), metadata, changed)

    def old_versions(self) -> Store:
        """Return the versions of these objects that are no longer current.

        Returns:
            A store that can only be read.
        """
        return OldVersions(str(self._prefix), service=self._service)

    def open(self, name: str) -> BinaryIO:
        return cast("BinaryIO", self._reader(name))

    def rewrap(self, name: str, rewrap: Rewrap, *, size: int | None = None) -> None:
        def others(reader: ObjectReader, error: NotAnEnvelopeError) -> bool:
            if not isinstance(rewrap, RewrapsObjects) or not is_object(error, reader):
                return False
            _s3ec.rewrap_object(self._service, reader, rewrap)
            return True

        _replace.rewrap(self._service, self._object(name), rewrap, size, others)

    def replace(self, name: str, change: Change) -> None:
        _replace.replace(self._service, self._object(name), change)

    def create(self, name: str, *, size: int, mode: int | None = None) -> BinaryIO:  # noqa: ARG002  see FileStore
        """Return a writer for a new object, which appears completely or not at all, at the end of its ``with`` block.

        Args:
            name: the object, ``s3://bucket/key``.
            size: about how many bytes will be written.
            mode: it has no effect: objects have no permission bits.

        Returns:
            A binary file.

        Raises:
            FileError: an object has that name.
            StoreError, CredentialsError: S3 refuses, or cannot be asked.
        """
        return ObjectWriter(self._object(name), service=self._service, overwrite=False, size=size)

    def _reader(self, name: str) -> ObjectReader:
        return ObjectReader(self._object(name), service=self._service)

    def _object(self, name: str) -> ObjectName:
        parsed = parse(name)
        if parsed.bucket != self._prefix.bucket or not parsed.key.startswith(self._prefix.key):
            raise StoreError(f"'{printable(name)}' is not in '{printable(self.location)}'; it was left alone")
        return parsed


class OldVersions(S3Store):
    """The versions of the objects of an ``S3Store`` that are no longer current. They can be read only.

    Listing needs s3:ListBucketVersions, and reading s3:GetObjectVersion. Their names end with ``?versionId=ID``.
    """

    def list(self) -> Iterator[Entry | SealwaxError]:
        for record in self._service.old_versions(self._prefix):
            name = f"{ObjectName(self._prefix.bucket, record['Key'])}{_VERSION}{record['VersionId']}"
            yield Entry(name, record["Size"], record["ETag"], record["LastModified"].timestamp())

    def _reader(self, name: str) -> ObjectReader:
        current, _, version_id = name.rpartition(_VERSION)
        return ObjectReader(self._object(current), service=self._service, version_id=version_id)

    @property
    def has_own_instructions(self) -> bool:
        return False

    def instructions(self, name: str, metadata: Mapping[str, str]) -> bytes | None:  # noqa: ARG002
        # Nothing says which version of the instruction file belongs to a version of its object.
        return None

    def _object(self, name: str) -> ObjectName:
        if _VERSION in name:
            raise StoreError(f"'{printable(name)}' is an old version, which nobody can change")
        return super()._object(name)


class InventoryStore(S3Store):
    """The objects that an S3 Inventory lists of a bucket; otherwise an ``S3Store``.

    Args:
        location: ``s3://bucket/.../manifest.json``.
        session: as for ``S3Store``.
    """

    def __init__(self, location: str, session: Session | None = None) -> None:
        service = Service(session)
        self._manifest = _inventory.read_manifest(service, location)
        super().__init__(str(ObjectName(self._manifest.source_bucket, "")), service=service)

    # It may list current objects only, so it does not have this.
    old_versions = None  # type: ignore[assignment]

    @property
    def location(self) -> str:
        return str(self._manifest.name)

    def list(self) -> Iterator[Entry | SealwaxError]:
        return _inventory.entries(self._service, self._manifest)
