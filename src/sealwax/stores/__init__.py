"""Where envelopes live: one small protocol over folders of files and over S3."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from sealwax._core.envelope import Inspection
from sealwax._core.rewrap import Rewrap
from sealwax.errors import SealwaxError, StoreError

if TYPE_CHECKING:
    from sealwax._aws.session import Session

__all__ = ["Change", "Entry", "Store", "open_store"]

S3_SCHEME: Final = "s3://"
# The code of an error about a name that is none, for which S3 is not asked.
NO_NAME: Final = "NoName"
# What S3 and botocore say of a bucket that is not there, or cannot be.
_NO_SUCH_PLACE: Final = frozenset(
    {
        NO_NAME,
        "NoSuchBucket",
        "InvalidBucketName",
        "NoSuchAccessPoint",
        "InvalidAccessPoint",
        "InvalidAccessPointAliasError",
        "ParamValidationError",
    }
)

Change = Callable[[BinaryIO, BinaryIO], Any]
"""Reads an object's bytes from the first file, once and front to back, and writes its new ones to the second."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a store, as a listing shows it.

    Attributes:
        name: as the store and a person name it: a path, or ``s3://bucket/key``.
        size: its bytes.
        version: changes whenever its bytes do; opaque.
        modified: Unix seconds.
    """

    name: str
    size: int
    version: str
    modified: float


class Store(Protocol):
    """A place where envelopes live. Safe to use from many threads; every failure is a SealwaxError.

    A name that is not below ``location`` is refused with a FileError: a list of names is no permission to go elsewhere.
    """

    @property
    def location(self) -> str:
        """The place itself: a folder or a file, or ``s3://bucket/prefix``."""

    def list(self) -> Iterator[Entry | SealwaxError]:
        """Yield every object, in the order of their names, and in between what could not be looked at.

        An S3 Inventory gives them in its own order.

        Raises:
            FileError: the listing cannot go on.
        """

    def inspect(self, name: str) -> Inspection:
        """Read an object's header, and nothing else of it.

        Raises:
            HeaderError: it is no envelope, or its header is damaged.
            FileError: it cannot be read.
        """

    def open(self, name: str) -> BinaryIO:
        """Open an object's bytes for reading from any place, fixed to the version that stands there now.

        Raises:
            FileError: it cannot be read; also later, where S3 no longer has that version.
        """

    def rewrap(self, name: str, rewrap: Rewrap, *, size: int | None = None) -> None:
        """Give an envelope the wrapped keys that ``rewrap`` returns for its header, if nobody has changed it meanwhile.

        Args:
            size: its bytes as a listing showed them, which spares S3 a request where they are few; None: not known.

        Raises:
            RewrapConflictError: somebody has; the object was left alone.
            HeaderError, FileError: as for :meth:`inspect`, or another program has the object locked
                (:func:`is_locked`); the object opens with its old or its new wrapped keys.
        """

    def replace(self, name: str, change: Change) -> None:
        """Write an object anew, whole or not at all, if nobody has changed it meanwhile.

        What ``change`` raises is let through, and the object is left alone.

        Raises:
            RewrapConflictError: somebody has; the object was left alone.
            FileError: it cannot be read or written, or another program has it locked.
        """


def held(store: Store) -> AbstractContextManager[Store]:
    """Return the same store for a few objects and one thread, with less work for each where the store knows how.

    For a few only: while a folder is held open, it is not noticed that another one has come into its place.
    """
    hold = getattr(store, "held", None)
    return contextlib.nullcontext(store) if hold is None else hold()


def is_gone(error: SealwaxError) -> bool:
    """Whether a store's method failed because there is no such object (any more)."""
    return isinstance(error.__cause__, FileNotFoundError) or (
        isinstance(error, StoreError) and error.code in ("NoSuchKey", "404")
    )


def is_nowhere(error: SealwaxError) -> bool:
    """Whether a place could not be listed because there is no such place: its name is wrong."""
    return isinstance(error, StoreError) and error.code in _NO_SUCH_PLACE


def is_locked(error: SealwaxError) -> bool:
    """Whether a store's method failed because another program has an object locked."""
    return isinstance(error.__cause__, BlockingIOError)


def open_store(where: str, session: Session | None = None) -> Store:
    """Return the store at a place: a folder, one file, ``s3://bucket/prefix``, or an S3 Inventory's ``manifest.json``.

    Args:
        session: where the S3 client comes from; an ordinary boto3 Session by default.

    Raises:
        FileError: there is no such folder or file, or that is no name of S3's.
    """
    if where.startswith(S3_SCHEME):
        from sealwax.stores import s3

        return s3.open_store(where, session)
    from sealwax.stores._files import FileStore

    return FileStore(where)
