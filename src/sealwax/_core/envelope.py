"""Finding an envelope's header in a value, a file or a stream, and describing it. No KMS call is made here."""

from __future__ import annotations

import base64
import io
import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from sealwax._core import context, files, validate
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.format.header import Header, Preamble
from sealwax._core.keyring import PROVIDER_AWS_KMS, WrappedKey
from sealwax._core.sources import AnySource, BytesLike
from sealwax._text import printable
from sealwax.errors import DamagedHeaderError, HeaderError, NotAnEnvelopeError, TamperedError

if TYPE_CHECKING:
    from sealwax._foreign import ForeignFormat, Read

# The largest possible header: a preamble of 65535 bytes and two slots of 65535.
MAX_HEADER_BYTES: Final = 3 * 65535
# A preamble and two slots of a sector each, and with one slot far less.
MOST_HEADERS_BYTES: Final = 3 * hdr.SECTOR_BYTES
# A re-wrap may be under way. It never leaves both slots torn, but one read may hit each of them at the wrong moment.
_READS: Final = 3
_PAUSE_SECONDS: Final = 0.02


def read_full(file: BinaryIO | io.RawIOBase, size: int) -> bytes:
    """Read ``size`` bytes, or fewer at the end."""
    parts = []
    while size > 0:
        part = file.read(size)
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def header_of_value(value: BytesLike) -> Header:
    """Return the header at the start of a value.

    Raises:
        HeaderError: it does not begin with a header.
    """
    with memoryview(value).cast("B") as view:
        try:
            return header_of_view(view)
        except NotAnEnvelopeError as error:
            raise _named(error, lambda at, size: bytes(view[at : at + size]), len(view)) from None


def header_of_view(view: memoryview | bytes) -> Header:
    """Return the header at the start of a value; foreign formats are not recognized.

    Raises:
        HeaderError: it does not begin with a header.
    """
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        at += size
        return bytes(view[at - size : at])

    return _read_header(read)


def header_of_stream(file: BinaryIO | io.RawIOBase, begun: bytes = b"") -> Header:
    """Read a header from the current position of ``file``, and not a byte more.

    Args:
        begun: the header's first bytes, if they have been read already.

    Raises:
        HeaderError: there is no header.
    """
    first = b""

    def read(size: int) -> bytes:
        nonlocal first
        data = read_full(file, size) if first else begun + read_full(file, size - len(begun))
        first = first or data
        return data

    try:
        return _read_header(read)
    except NotAnEnvelopeError as error:
        if is_seekable(file):
            raise _named_file(error, file, file.tell() - len(first)) from None
        # Reading more might have to wait for another program.
        raise _named(error, lambda at, size: first[at : at + size], None) from None


def _named_file(error: NotAnEnvelopeError, file: BinaryIO | io.RawIOBase, start: int) -> NotAnEnvelopeError:
    """Like ``_named``, for a seekable file; its position is restored."""
    position = file.tell()

    def read(at: int, size: int) -> bytes:
        file.seek(start + at)
        return read_full(file, size)

    try:
        return _named(error, read, file.seek(0, os.SEEK_END) - start, metadata_of(file), getattr(file, "name", ""))
    finally:
        file.seek(position)


def refuse_claims(file: object) -> None:
    """Refuse an envelope in an object whose metadata claims another format: no side of a contradiction is believed.

    Raises:
        DamagedHeaderError: they do.
    """
    metadata = metadata_of(file)
    if not metadata:
        return
    from sealwax._core.recognize import s3ec

    if (claimed := s3ec.by_metadata(metadata)) is not None:
        raise DamagedHeaderError(
            f"the object is {claimed.title} by its metadata and a sealwax envelope by its bytes: a contradiction, and "
            "no side of it is believed; remove that metadata if the envelope is yours"
        )


def metadata_of(file: object) -> Mapping[str, str]:
    """Return the metadata of a store's object that is open as a file; other files have none."""
    metadata = getattr(file, "metadata", None)
    return metadata if isinstance(metadata, Mapping) else {}


def _named(
    error: NotAnEnvelopeError,
    read: Read,
    size: int | None,
    metadata: Mapping[str, str] | None = None,
    name: object = "",
) -> NotAnEnvelopeError:
    """Return the error with the name of the format that the bytes are in, if it is recognized."""
    from sealwax._core import recognize

    foreign = recognize.recognize(read, size, metadata=metadata, name=name if isinstance(name, str) else "")
    if foreign is None:
        return NotAnEnvelopeError("this is not a sealwax envelope: it is empty") if size == 0 else error
    which = "a binary sealwax envelope" if foreign.format.startswith(recognize.ENVELOPE) else "a sealwax envelope"
    named = NotAnEnvelopeError(f"this is not {which}: {foreign}; {foreign.advice}")
    named.foreign = foreign
    return named


def _read_header(read: Callable[[int], bytes]) -> Header:
    preamble, crc = hdr.read_preamble(read)
    return _read_slots(read, preamble, crc)


def _read_slots(read: Callable[[int], bytes], preamble: Preamble, crc: bytes) -> Header:
    size = preamble.slot_count * preamble.slot_size
    slots = read(size)
    header = hdr.parse_slots(preamble, crc, slots)
    if len(slots) < size:
        # The first slot alone would unwrap the data key, but the payload is lost.
        raise DamagedHeaderError("the envelope is cut off inside its second slot: the rest of the file is missing")
    return header


def header_of_file(file: BinaryIO | io.RawIOBase, start: int) -> Header:
    """Read the header at ``start`` of a seekable file, again if a re-wrap seems to be under way.

    Raises:
        HeaderError: there is no header, or its slots are damaged at each attempt.
    """

    def read(size: int) -> bytes:
        return read_full(file, size)

    for attempt in range(_READS):
        file.seek(start)
        try:
            preamble, crc = hdr.read_preamble(read)
        except NotAnEnvelopeError as error:
            raise _named_file(error, file, start) from None
        try:
            return _read_slots(read, preamble, crc)
        except DamagedHeaderError:
            if attempt == _READS - 1:
                raise
            time.sleep(_PAUSE_SECONDS)
    raise AssertionError("unreachable")


def is_seekable(file: BinaryIO | io.RawIOBase) -> bool:
    seekable = getattr(file, "seekable", None)
    return seekable is not None and bool(seekable())


@dataclass(frozen=True, slots=True, repr=False)
class Inspection:
    """What an envelope says about itself, read without KMS. None of it is authenticated.

    Attributes:
        header: the preamble and slots.
        payload_bytes: the payload's size in bytes; None for a detached header.
        foreign: another format, which the metadata of an S3 object claims although its bytes differ; usually None.
        at_rest: the KMS key that S3 encrypts the object with at rest (SSE-KMS); "" if there is none.
    """

    header: Header
    payload_bytes: int | None
    foreign: ForeignFormat | None = None
    at_rest: str = ""

    @property
    def context(self) -> dict[str, str]:
        """The stored map: the KMS context."""
        return context.decode(self.header.preamble.kms_context)

    @property
    def wrapped_keys(self) -> tuple[WrappedKey, ...]:
        """The wrapped data keys of the current slot."""
        return self.header.slot.wrapped_keys

    @property
    def plaintext_bytes(self) -> int | None:
        """The plaintext's size in bytes; None if the payload is elsewhere or its size is impossible."""
        if self.payload_bytes is None:
            return None
        try:
            return payload.plaintext_size(self.payload_bytes)
        except TamperedError:
            return None

    def __repr__(self) -> str:
        # Without the bytes of the header, which are long and say nothing to a reader.
        parts = [
            "attached" if self.header.preamble.kind == hdr.ATTACHED else "detached",
            f"context={self.context!r}",
            f"keys={[key.key_arn for key in self.wrapped_keys]!r}",
        ]
        if self.payload_bytes is not None:
            parts.append(f"plaintext_bytes={self.plaintext_bytes}, payload_bytes={self.payload_bytes}")
        return f"<Inspection: {', '.join(parts)}>"

    def as_dict(self) -> dict[str, Any]:
        """Describe the envelope as plain data.

        Returns:
            A dict that ``json.dumps`` takes.
        """
        preamble = self.header.preamble
        return {
            "format": "sealwax",
            "version": hdr.VERSION,
            "kind": "attached" if preamble.kind == hdr.ATTACHED else "detached",
            "suite": "Cobblestone-256",
            "envelope_id": preamble.envelope_id.hex(),
            "context": self.context,
            "local_pairs": preamble.local_pairs,
            "payload_offset": preamble.payload_offset,
            "payload_bytes": self.payload_bytes,
            "plaintext_bytes": self.plaintext_bytes,
            "slots": preamble.slot_count,
            "sequence": self.header.slot.sequence,
            "finished": self.header.finished,
            "wrapped_keys": [_wrapped_key_as_dict(key) for key in self.wrapped_keys],
        }


def _wrapped_key_as_dict(key: WrappedKey) -> dict[str, object]:
    known_time = 0 < key.wrapped_at <= hdr.MAX_TIME
    return {
        "provider": "aws-kms" if key.provider == PROVIDER_AWS_KMS else key.provider,
        "key_arn": key.key_arn,
        "key_material_id": key.key_material_id.hex() or None,
        "wrapped_at": datetime.fromtimestamp(key.wrapped_at, UTC).isoformat() if known_time else None,
        "ciphertext_blob": base64.b64encode(key.ciphertext).decode("ascii"),
    }


def inspect(source: AnySource) -> Inspection:
    """Describe an envelope without any KMS call. Nothing it says is authenticated.

    Args:
        source: as for ``sealwax.inspect``.

    Raises:
        HeaderError: it is not an envelope, or its header is damaged.
        FileError: the file cannot be read.
    """
    if isinstance(source, BytesLike):
        header = header_of_value(validate.value("header", source))
        return _inspection(header, memoryview(source).nbytes - header.preamble.payload_offset)
    if isinstance(source, str | os.PathLike):
        with files.InputFile(source) as file:
            return inspect_file(file)
    validate.file(source, "read")
    return _inspect_file(source) if is_seekable(source) else inspect_stream(source)


def inspect_file(file: files.InputFile) -> Inspection:
    """Describe the envelope in a file that has just been opened."""
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode):
        return _inspect_regular(file, status.st_size)
    return _inspect_file(file) if file.seekable() else inspect_stream(file)


def inspect_beginning(beginning: bytes, size: int) -> Inspection | None:
    """Describe the envelope in a regular file with a single read, since a fleet has many.

    Args:
        beginning: the file's first ``MOST_HEADERS_BYTES`` bytes, or all of them.
        size: the file's size in bytes.

    Returns:
        None if that is not enough and ``inspect_file`` has to be called: it is not an envelope, its header is damaged
        or larger than most, or a re-wrap is under way.
    """
    try:
        header = header_of_view(beginning)
    except (NotAnEnvelopeError, DamagedHeaderError):
        return None
    return _inspection(header, size - header.preamble.payload_offset)


def _inspect_regular(file: files.InputFile, size: int) -> Inspection:
    inspection = inspect_beginning(file.read(MOST_HEADERS_BYTES), size)
    if inspection is not None:
        return inspection
    header = header_of_file(file, 0)
    return _inspection(header, size - header.preamble.payload_offset)


def _inspect_file(file: BinaryIO | io.RawIOBase) -> Inspection:
    start = file.tell()
    header = header_of_file(file, start)
    inspection = _inspection(header, file.seek(0, os.SEEK_END) - start - header.preamble.payload_offset)
    metadata = metadata_of(file)
    if metadata:
        from sealwax._core.recognize import s3ec

        return replace(inspection, foreign=s3ec.by_metadata(metadata))
    return inspection


def inspect_stream(file: BinaryIO | io.RawIOBase, begun: bytes = b"") -> Inspection:
    """Describe the envelope in a stream, which is read to its end.

    Args:
        begun: its first bytes, if they have been read already.
    """
    header = header_of_stream(file, begun)
    size = 0
    while part := file.read(files.COPY_BYTES):
        size += len(part)
    return _inspection(header, size)


def _inspection(header: Header, rest: int) -> Inspection:
    if header.preamble.kind == hdr.ATTACHED:
        return Inspection(header, rest)
    refuse_trailing(rest)
    return Inspection(header, None)


def refuse_trailing(rest: int) -> None:
    """Refuse bytes after a detached header.

    Raises:
        DamagedHeaderError: there are such bytes.
    """
    if rest:
        raise DamagedHeaderError(f"{rest} bytes follow the detached header, where the file should end")


def find_header(detached: AnySource | None, attached: Callable[[], Header]) -> tuple[Header, int]:
    """Return the header, and the offset of the payload from where ``attached`` looked for the header."""
    if detached is None:
        header = attached()
        refuse_kind(header, hdr.ATTACHED)
        return header, header.preamble.payload_offset
    return inspect_detached(detached).header, 0


def inspect_detached(source: AnySource) -> Inspection:
    """Describe the detached header that is all of ``source``.

    Raises:
        HeaderError: it is not a detached header; unlike other errors, this one names it.
    """
    try:
        inspection = inspect(source)
        refuse_kind(inspection.header, hdr.DETACHED)
    except HeaderError as error:
        name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
        quoted = f" '{printable(os.fsdecode(name))}'" if isinstance(name, str | bytes | os.PathLike) else ""
        error.args = (f"the header{quoted}: {error}",)
        raise
    return inspection


def refuse_kind(header: Header, wanted: int) -> None:
    """Refuse a header of the other kind.

    Raises:
        DamagedHeaderError: the header is of the other kind.
    """
    if header.preamble.kind == wanted:
        return
    if wanted == hdr.ATTACHED:
        raise DamagedHeaderError("this is a detached header: open the payload, and give this file as its header")
    raise DamagedHeaderError("this is a whole envelope, not a detached header")


def head_of(body: AnySource | None) -> bytes:
    """Return the first 56 bytes of a payload that is stored separately."""
    if body is None:
        raise TypeError("a detached header cannot be verified without its payload: pass body=")
    if isinstance(body, BytesLike):
        return bytes(memoryview(validate.value("body", body)).cast("B")[: payload.HEAD_BYTES])
    if isinstance(body, str | os.PathLike):
        with files.InputFile(body) as file:
            return read_full(file, payload.HEAD_BYTES)
    return read_full(validate.file(body, "read"), payload.HEAD_BYTES)
