"""The rows of a key store of records as envelopes: ``fleet`` moves them to other KMS keys, and no record changes."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final
from urllib.parse import quote, unquote

from sealwax._core.envelope import Inspection
from sealwax._core.format.header import Header
from sealwax._core.rewrap import Rewrap, rewrap_value
from sealwax._foreign import ForeignFormat
from sealwax._text import printable
from sealwax.errors import FileError, KeyRowError, KeyStoreError, NotAnEnvelopeError, RewrapConflictError, SealwaxError
from sealwax.records._blob import MAX_BLOB_BYTES, header_of
from sealwax.records._store import KeyRow, KeyState, KeyStore
from sealwax.records._url import absolute_url, open_keys
from sealwax.stores._store import NO_REENCRYPTION, SHREDDED, Change, Entry, Store

__all__ = ["KeyRows"]

_SHREDDED: Final = ForeignFormat(
    SHREDDED, "a shredded data key", complete=True, advice="nothing opens what was sealed under it"
)
SOURCE: Final = "the URL of the key store"
# A row is inspected right after it was listed. The readers of a scan are far less behind than this many.
_MOST_KEPT: Final = 10_000


class KeyRows(Store):
    """The rows of a key store, each of which holds one envelope of the empty value. It is re-wrapped like any other.

    ``open_store`` makes one of ``sql+URL``. For another key store, ``fleet`` takes one through ``open_location``.

    Args:
        keys: the key store.
        location: the name that plans and reports use for it. It must not contain a password.

    Attributes:
        keys: the key store.

    Example:
        >>> fleet.plan("rotation.plan", ["my-keys://shop"], sources=["alias/old"], to=["alias/new"],
        ...            contexts=fleet.Contexts({"app": "shop"}, accept_stored=True),
        ...            open_location=lambda location: KeyRows(MyKeys(), location))
    """

    def __init__(self, keys: KeyStore, location: str) -> None:
        self.keys = keys
        self._location = location
        self._listed: dict[str, KeyRow] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"KeyRows({self._location!r})"

    @property
    def location(self) -> str:
        """The name that plans and reports use for it."""
        return self._location

    def list(self) -> Iterator[Entry | SealwaxError]:
        """Yield every row, and an error if the rest could not be read.

        Raises:
            KeyStoreError: nothing could be read.
        """
        listed = False
        try:
            for row in self.keys.list():
                listed = True
                name = self._name(row)
                with self._lock:
                    if len(self._listed) < _MOST_KEPT:
                        self._listed[name] = row
                version = hashlib.sha256(row.state.encode() + row.blob).hexdigest()
                yield Entry(name, len(row.blob), version, float(row.created))
        except KeyStoreError as error:
            if not listed:
                raise
            yield error

    def inspect(self, name: str) -> Inspection:
        with self._lock:
            row = self._listed.pop(name, None)
        row = row or self._row(name)
        header, offset = _header_of(row)
        return Inspection(header, len(row.blob) - offset)

    def open(self, name: str) -> BinaryIO:
        row = self._row(name)
        _header_of(row)
        return io.BytesIO(row.blob)

    def rewrap(self, name: str, rewrap: Rewrap, *, size: int | None = None) -> None:  # noqa: ARG002  see S3Store
        row = self._row(name)
        _header_of(row)
        blob = rewrap_value(row.blob, rewrap)
        if len(blob) > MAX_BLOB_BYTES:
            raise KeyRowError(
                f"it would have {len(blob):,} bytes, and a row of a key store holds {MAX_BLOB_BYTES:,}; use fewer KMS "
                "keys or a smaller scope"
            )
        if self.keys.replace(row, blob):
            return
        # It was removed, shredded, retired or re-wrapped meanwhile, or replaced although the answer got lost.
        row = self._row(name)
        _header_of(row)
        if row.blob != blob:
            raise RewrapConflictError(f"another program changed '{printable(name)}' meanwhile; it was left alone")

    def replace(self, name: str, change: Change) -> None:  # noqa: ARG002  never
        raise KeyRowError(NO_REENCRYPTION)

    def _row(self, name: str) -> KeyRow:
        """Return a row as it is now.

        Raises:
            FileError: it is not there, or not of this store.
        """
        scope, kind, key_id = self._parts(name)
        for row in self.keys.get_many(scope, [key_id]):
            if row.kind.name == kind.upper():
                return row
        raise FileError(f"'{printable(name)}' is not in the key store any more") from FileNotFoundError()

    def _name(self, row: KeyRow) -> str:
        scope = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(row.scope.items()))
        return f"{self._location}#{scope}/{row.kind.name.lower()}/{row.generation}/{row.key_id.hex()}"

    def _parts(self, name: str) -> tuple[Mapping[str, str], str, bytes]:
        scope, *rest = name.removeprefix(f"{self._location}#").split("/")
        try:
            kind, _, key_id = rest
            pairs = [pair.split("=") for pair in scope.split("&") if pair]
            return {unquote(name): unquote(value) for name, value in pairs}, kind, bytes.fromhex(key_id)
        except ValueError:
            raise FileError(f"'{printable(name)}' is not in '{printable(self._location)}'; it was left alone") from None


def _header_of(row: KeyRow) -> tuple[Header, int]:
    if row.state is KeyState.SHREDDED:
        error = NotAnEnvelopeError("it was shredded: there is no wrapped key any more")
        error.foreign = _SHREDDED
        raise error
    return header_of(row)


def absolute(location: str) -> str:
    """Return ``sql+URL`` as it is valid in any working directory.

    Raises:
        ValueError, KeyStoreError: as for ``open_location``.
    """
    return absolute_url(location, SOURCE)


def open_location(location: str) -> KeyRows:
    """Open ``sql+URL``.

    Raises:
        ValueError: it is not the URL of a database, or it has a password.
        KeyStoreError: the database cannot be used here.
    """
    return KeyRows(open_keys(location, SOURCE), location)
