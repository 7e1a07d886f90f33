"""Where envelopes live: one small protocol over folders of files and over S3."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from sealwax.envelope import Inspection
from sealwax.errors import SealwaxError
from sealwax.rewrapping import Rewrap


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
    """A place where envelopes live. Safe to use from many threads; every failure is a SealwaxError."""

    @property
    def location(self) -> str:
        """The place itself: a folder, or ``s3://bucket/prefix``."""

    def list(self) -> Iterator[Entry | SealwaxError]:
        """Yield every object, in the order of their names, and in between what could not be looked at."""

    def inspect(self, name: str) -> Inspection:
        """Read an object's header, and nothing else of it.

        Raises:
            HeaderError: it is no envelope, or its header is damaged.
            FileError: it cannot be read.
        """

    def open(self, name: str) -> BinaryIO:
        """Open an object's bytes for reading from any place, fixed to the version that stands there now."""

    def rewrap(self, name: str, rewrap: Rewrap) -> None:
        """Give an envelope the wrapped keys that ``rewrap`` returns for its header, if nobody has changed it meanwhile.

        Raises:
            RewrapConflictError: somebody has; the object was left alone.
            HeaderError, FileError: as for :meth:`inspect`; the object opens with its old or its new wrapped keys.
        """
