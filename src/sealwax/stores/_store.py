"""The protocol of stores, and what their errors mean."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol, runtime_checkable

from sealwax._core.envelope import Inspection
from sealwax._core.files import WholeFile
from sealwax._core.rewrap import Rewrap
from sealwax.errors import SealwaxError, StoreError

S3_SCHEME: Final = "s3://"
# Before the URL of a database: the key store of records in it.
KEY_STORE_PREFIX: Final = "sql+"
# The format of a row of it that has no wrapped key any more.
SHREDDED: Final = "shredded"
NO_REENCRYPTION: Final = "re-encrypting a row of it would destroy the data key of records"
_DATABASE: Final = re.compile(r"(postgres(ql)?|mysql|mariadb|sqlite)(\+[a-z0-9_]+)?://")
# What is meant for S3 or another service, and is a path here.
_MISTYPED: Final = re.compile(r"(s3:|[a-z][a-z0-9+.-]*://|arn:aws)", re.IGNORECASE)
# An access point's ARN, which takes the place of a bucket's name. A Multi-Region Access Point has no Region.
_ACCESS_POINT: Final = re.compile(r"arn:aws[a-z-]*:s3:[a-z0-9-]*:[0-9]{12}:accesspoint[/:][A-Za-z0-9.-]{1,63}(?=/|$)")
# The error code for an invalid name, about which S3 is not asked.
INVALID_NAME: Final = "NoName"
# ... and for an object that cannot be changed as it is.
NOT_KEPT: Final = "NotKept"
_ARCHIVED: Final = "InvalidObjectState"
# What S3 and botocore answer about a bucket that does not exist, or cannot exist.
_NO_SUCH_LOCATION: Final = frozenset(
    {
        INVALID_NAME,
        "NoSuchBucket",
        "InvalidBucketName",
        "NoSuchAccessPoint",
        "InvalidAccessPoint",
        "InvalidAccessPointAliasError",
        "ParamValidationError",
    }
)


def split_s3(name: str) -> tuple[str, str]:
    """Return the bucket, or the access point's ARN, and the key of ``s3://bucket/key``."""
    rest = name.removeprefix(S3_SCHEME)
    access_point = _ACCESS_POINT.match(rest)
    if access_point is not None:
        return access_point[0], rest[access_point.end() + 1 :]
    bucket, _, key = rest.partition("/")
    return bucket, key


def relative(name: str, location: str) -> str:
    """Return an object's path below its location, with "/" between its parts."""
    if name.startswith(location):
        # A single "/": in S3, "a/b" and "a//b" are two objects.
        below = name.removeprefix(location) if location.endswith("/") else name.removeprefix(location).removeprefix("/")
    else:
        # An inventory may be in another bucket than the objects that it lists.
        below = split_s3(name)[1] if name.startswith(S3_SCHEME) else ""
    return below or name.rpartition("/")[2]


def check_path(name: str) -> None:
    """Refuse a path that looks like the name of something that is not a file, such as ``S3://bucket/key``.

    A folder of that name would be made, and the data would seem to be in S3.

    Raises:
        ValueError: it begins like a URL, like an ARN or with ``s3:``.
    """
    found = None if name.startswith(S3_SCHEME) else _MISTYPED.match(name)
    if found is not None:  # not the whole name, which may have a password
        raise ValueError(
            f"a name that begins with '{found[0]}' would be a path; write {S3_SCHEME}bucket/key, in lower case, for an "
            f"object in S3, and ./{found[0]}... for such a path"
        )


def real_name(name: str) -> str:
    """Return the canonical name of a file or object."""
    return name if name.startswith(S3_SCHEME) else os.path.realpath(name)


def is_key_store(location: str) -> bool:
    """Whether a location is ``sql+URL``, a key store.

    Raises:
        ValueError: the prefix is missing before the URL of a database.
    """
    if _DATABASE.match(location):
        raise ValueError(
            "a key store is named with sql+ before the URL of its database, such as "
            "sql+postgresql+psycopg://db.example.com/shop"
        )
    return location.startswith(KEY_STORE_PREFIX) and "://" in location


def is_other_arn(bucket: str) -> bool:
    """Whether a bucket's name is an ARN, but not an access point's."""
    return bucket.startswith("arn:") and _ACCESS_POINT.fullmatch(bucket) is None


Change = Callable[[BinaryIO, BinaryIO], object]
"""Reads an object's bytes from the first file, once and front to back, and writes the new bytes to the second."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a store, as listed.

    Attributes:
        name: its full name: a path, or ``s3://bucket/key``.
        size: its size in bytes.
        version: an opaque string that changes whenever the bytes do.
        modified: when it was last modified, in Unix seconds.
    """

    name: str
    size: int
    version: str
    modified: float


class Store(Protocol):
    """A location that holds envelopes. Safe to use from many threads; every failure is a ``SealwaxError``.

    A name outside ``location`` is refused with a ``FileError``: a list of names gives no access to other locations.
    """

    @property
    def location(self) -> str:
        """The location: a folder or file, or ``s3://bucket/prefix``."""

    def list(self) -> Iterator[Entry | SealwaxError]:
        """List every object, sorted by name; an S3 Inventory keeps its own order.

        Returns:
            An iterator over the objects. What could not be read yields its error instead, and the listing goes on.

        Raises:
            FileError: the listing cannot continue.
        """

    def inspect(self, name: str) -> Inspection:
        """Read an object's header and nothing else.

        Args:
            name: the object, as listed.

        Returns:
            What ``sealwax.inspect`` returns.

        Raises:
            HeaderError: it is not an envelope, or its header is damaged.
            FileError: it cannot be read.
        """

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading and seeking. The file stays at the version it was opened at.

        Args:
            name: the object, as listed.

        Returns:
            A binary file; close it.

        Raises:
            FileError: it cannot be read; a later read raises it too, if S3 no longer has that version.
        """

    def rewrap(self, name: str, rewrap: Rewrap, *, size: int | None = None) -> None:
        """Replace the wrapped keys of an envelope, unless another program has changed it meanwhile.

        Args:
            name: the object, as listed.
            rewrap: returns the new wrapped keys for a header: ``Sealer.rewrapper(...)``.
            size: the object's size as listed, if known. It saves a request for small S3 objects.

        Raises:
            RewrapConflictError: another program changed the object; it was left alone.
            HeaderError: it is not an envelope, or its header is damaged.
            FileError: it cannot be read or written, or another program has it locked. The object opens with its old or
                with its new wrapped keys.
        """

    def replace(self, name: str, change: Change) -> None:
        """Rewrite an object, completely or not at all, unless another program has changed it meanwhile.

        Args:
            name: the object, as listed.
            change: copies the object with its changes. If it raises, the object is left alone.

        Raises:
            RewrapConflictError: another program changed the object; it was left alone.
            FileError: it cannot be read or written, or another program has it locked.
        """


@runtime_checkable
class KeepsFolderOpen(Protocol):
    """A store that does less work per object while it keeps a folder open."""

    def keeping_folder_open(self) -> AbstractContextManager[Store]:
        """Return this store for a few objects and one thread."""


@runtime_checkable
class MakesObjects(Protocol):
    """A store in which new objects can be made."""

    def create(self, name: str, *, size: int, mode: int | None = None) -> BinaryIO | WholeFile:
        """Return a file that appears as an object, completely or not at all, at the end of its ``with`` block.

        Args:
            name: the object's name. Missing folders are made.
            size: about how many bytes will be written.
            mode: the permission bits of a file, before the umask.

        Raises:
            FileError: an object has that name, or it cannot be written.
        """


@runtime_checkable
class ChangesMetadata(Protocol):
    """A store in which the metadata of objects may be all that a re-wrap changes."""

    def check_metadata(self, name: str, metadata: Mapping[str, str], changed: Mapping[str, str]) -> None:
        """Refuse an object with metadata that cannot be written again.

        Args:
            name: the object, as listed.
            metadata: its metadata.
            changed: what a re-wrap changes of it, or as much text.

        Raises:
            StoreError: the refusal.
        """


def keeping_folder_open(store: Store) -> AbstractContextManager[Store]:
    """Return the same store for a few objects and one thread, with less work per object if the store supports it.

    For a few only: a folder that is kept open is read even after another one has taken its name.
    """
    return store.keeping_folder_open() if isinstance(store, KeepsFolderOpen) else contextlib.nullcontext(store)


def is_gone(error: SealwaxError) -> bool:
    """Whether a store's method failed because the object does not exist (any more)."""
    return isinstance(error.__cause__, FileNotFoundError) or (
        isinstance(error, StoreError) and error.code in ("NoSuchKey", "404")
    )


def is_missing_location(error: SealwaxError) -> bool:
    """Whether a location could not be listed because it does not exist: its name is wrong."""
    return isinstance(error, StoreError) and error.code in _NO_SUCH_LOCATION


def is_refused(error: SealwaxError) -> bool:
    """Whether a store's method failed because of what the object is, so that it will fail again."""
    return isinstance(error, StoreError) and error.code in (NOT_KEPT, _ARCHIVED)


def is_locked(error: SealwaxError) -> bool:
    """Whether a store's method failed because another program has the object locked."""
    return isinstance(error.__cause__, BlockingIOError)
