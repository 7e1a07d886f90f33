"""Re-wrapping: new wrapped keys for the same data key. No payload byte changes, and the data key is never seen.

The caller finds the new wrapped keys (``Rewrap``); this module puts them in place of the old ones.

A file with two slots is changed in place so that at every instant one slot is whole and valid: lock, write the slot not
in use, sync, read back, then the other slot. Every other file is written beside the old one and renamed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast, runtime_checkable

from sealwax._core import envelope, files
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.format.header import Header, Slot
from sealwax._core.format.io import write_all
from sealwax._core.keyring import WrappedKey
from sealwax._core.sources import BytesLike
from sealwax._text import printable
from sealwax.errors import RewrapConflictError

if TYPE_CHECKING:
    from sealwax._core.foreign.s3ec.fields import ObjectFields

Rewrap = Callable[[Header, Callable[[], bytes]], tuple[WrappedKey, ...]]
"""Returns the new wrapped keys for a header. The second argument reads the first 56 bytes of its payload."""

_HEAD: Final = payload.HEAD_BYTES


@runtime_checkable
class RewrapsObjects(Protocol):
    """A ``Rewrap`` that also re-wraps the data keys of objects of the S3 Encryption Client."""

    def fields_before_kms(self, fields: ObjectFields) -> dict[str, str]:
        """Return the fields that change as far as that is known before KMS is asked, with a blob of the same length."""
        ...

    def rewrap_object(self, fields: ObjectFields, file: Callable[[], BinaryIO]) -> dict[str, str]:
        """Return the fields of an object that change.

        Args:
            fields: how it was encrypted.
            file: opens the object, to verify it first.
        """
        ...


def agreed(header: Header, rewrap: Rewrap, head: Callable[[], bytes]) -> tuple[Header, tuple[WrappedKey, ...]]:
    """Return the header with the one slot that was re-wrapped, and the new wrapped keys.

    In an unfinished envelope that is the newer slot, or the older one if the newer fails: its key may have never been
    allowed, or be disabled, while the older one still works.

    Raises:
        Exception: what ``rewrap`` raised for the newer slot, or for the older one if that is retryable.
    """
    newer, *older = header.readings
    try:
        return newer, rewrap(newer, head)
    except Exception as error:
        if not older or getattr(error, "retryable", False):
            raise
        try:
            return older[0], rewrap(older[0], head)
        except Exception as second:
            if getattr(second, "retryable", False):
                raise
        raise


def rewrap_value(value: BytesLike, rewrap: Rewrap) -> bytes:
    """Return a copy of an envelope with new wrapped keys, in one slot."""
    header = envelope.header_of_value(value)
    refuse_contradictory(header)
    with memoryview(value).cast("B") as view:
        rest = view[header.preamble.payload_offset :]
        if header.preamble.kind == hdr.DETACHED:
            envelope.refuse_trailing(len(rest))
        _, wrapped_keys = agreed(header, rewrap, lambda: bytes(rest[:_HEAD]))
        return b"".join((with_wrapped_keys(header, wrapped_keys, slot_count=1), rest))


def rewrap_stream(source: BinaryIO, sink: BinaryIO | files.WholeFile, rewrap: Rewrap) -> None:
    """Copy an envelope from ``source`` to ``sink`` with new wrapped keys."""
    header = envelope.header_of_stream(source)
    envelope.refuse_claims(source)
    refuse_contradictory(header)
    head = envelope.read_full(source, _HEAD)
    if header.preamble.kind == hdr.DETACHED:
        envelope.refuse_trailing(len(head))
    _, wrapped_keys = agreed(header, rewrap, lambda: head)
    write_all(sink, with_wrapped_keys(header, wrapped_keys, header.preamble.slot_count) + head)
    while data := source.read(files.COPY_BYTES):
        write_all(sink, data)


def rewrap_file(
    path: files.AnyPath, rewrap: Rewrap, folder: int | None = None, *, patience: float = files.LOCK_SECONDS
) -> None:
    """Give the envelope at ``path`` new wrapped keys.

    No byte is written before ``rewrap`` has returned: if it raises, the file is unchanged.

    Args:
        folder, patience: as for ``LockedFile``.

    Raises:
        FileError: a step failed; the file opens with the old or the new key.
        RewrapConflictError: another program replaced the file during the re-wrap, or its slots contradict each other.
        HeaderError: it is not an envelope, or its header is damaged.
    """
    with files.reported("re-wrapping", path), files.LockedFile(path, folder, patience=patience) as file:
        header = envelope.header_of_file(file.file, 0)
        preamble = header.preamble
        if preamble.kind == hdr.DETACHED:
            envelope.refuse_trailing(file.status.st_size - preamble.payload_offset)
        refuse_contradictory(header)
        source, wrapped_keys = agreed(
            header, rewrap, lambda: os.pread(file.file.fileno(), _HEAD, preamble.payload_offset)
        )
        in_place = file.locked and preamble.aligned and header.slot.sequence < hdr.MAX_SEQUENCE
        slot = Slot(header.slot.sequence + 1, wrapped_keys)
        if in_place and hdr.slot_fits(slot, preamble.slot_size):
            _refuse_replaced(file)
            # The slot that KMS has just unwrapped is overwritten last.
            _write_slot(file, preamble, slot, 1 - source.current)
            _write_slot(file, preamble, slot, source.current)
        else:
            _replace(file, header, wrapped_keys)


def replace_file(
    path: files.AnyPath,
    change: Callable[[BinaryIO, BinaryIO], object],
    folder: int | None = None,
    *,
    patience: float = files.LOCK_SECONDS,
) -> None:
    """Replace a file, whole or not at all, with what ``change(source, sink)`` writes; re-wraps of it wait.

    Args:
        folder, patience: as for ``LockedFile``.

    Raises:
        FileError: a step failed; the file is unchanged.
        RewrapConflictError: another program changed or replaced the file meanwhile; it was left alone.
    """
    with files.reported("replacing", path), files.LockedFile(path, folder, patience=patience) as file:
        status = file.status
        with _beside(file, status) as whole:
            change(cast("BinaryIO", file.file), cast("BinaryIO", whole))
            now = file.status
            if (now.st_mtime_ns, now.st_size) != (status.st_mtime_ns, status.st_size):
                raise _changed(file)
            _refuse_replaced(file)


def _beside(file: files.LockedFile, status: os.stat_result) -> files.WholeFile:
    return files.WholeFile(file.path, overwrite=True, like=status, folder=file.folder)


def _write_slot(file: files.LockedFile, preamble: hdr.Preamble, slot: Slot, index: int) -> None:
    data = hdr.slot_to_bytes(slot, preamble.slot_size, preamble.crc)
    file.overwrite(data, preamble.slot_offset + index * preamble.slot_size)


def _replace(file: files.LockedFile, header: Header, wrapped_keys: tuple[WrappedKey, ...]) -> None:
    status = file.status
    preamble = header.preamble
    large = status.st_size - preamble.payload_offset >= payload.payload_size(hdr.TWO_SLOTS_FROM)
    slot_count = 2 if large and preamble.kind == hdr.ATTACHED else 1
    with _beside(file, status) as whole:
        write_all(whole, with_wrapped_keys(header, wrapped_keys, slot_count))
        files.copy_rest(file.file, whole.file, preamble.payload_offset)
        _refuse_replaced(file)


def refuse_contradictory(header: Header) -> None:
    """Refuse an envelope whose newer slot cannot be told from the older one: a wrong guess would lose the data."""
    if header.contradictory:
        raise RewrapConflictError(
            f"the envelope has two slots with sequence number {header.slot.sequence} and different wrapped keys; "
            "decrypt it, and encrypt it again"
        )


def _refuse_replaced(file: files.LockedFile) -> None:
    if file.replaced():
        raise _changed(file)


def _changed(file: files.LockedFile) -> RewrapConflictError:
    return RewrapConflictError(
        f"another program replaced or changed '{printable(os.fspath(file.path))}' meanwhile; it was left alone"
    )


def with_wrapped_keys(header: Header, wrapped_keys: tuple[WrappedKey, ...], slot_count: int) -> bytes:
    """Return a header's bytes with other wrapped keys and the first sequence number."""
    preamble = header.preamble
    return hdr.lay_out(
        envelope_id=preamble.envelope_id,
        kms_context=preamble.kms_context,
        local_pairs=preamble.local_pairs,
        wrapped_keys=wrapped_keys,
        slot_count=slot_count,
        kind=preamble.kind,
    ).to_bytes()
