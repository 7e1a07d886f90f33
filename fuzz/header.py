"""Preamble and slots, read from a value and from a stream."""

from __future__ import annotations

import io
import json
import struct
import zlib

from sealwax._core import envelope
from sealwax._core.format import header as hdr
from sealwax.errors import DamagedHeaderError, HeaderError


def check(data: bytes) -> None:
    _read(data)
    # Nobody guesses a checksum; with true ones in their places, what lies behind them is reached.
    _read(with_checksums(data))


def _read(data: bytes) -> None:
    asked = 0
    source = io.BytesIO(data)

    def read(size: int) -> bytes:
        nonlocal asked
        asked += size
        return source.read(size)

    try:
        header = hdr.read_header(read)
    except HeaderError as error:
        _same_end(data, type(error))
        return
    finally:
        assert asked <= envelope.MAX_HEADER_BYTES, "more was asked for than the largest header has"
    preamble = header.preamble
    assert asked == preamble.payload_offset, "a header is read to its end and no further"
    assert preamble.to_bytes() == data[: preamble.slot_offset]
    for index, slot in enumerate(header.slots):
        at = preamble.slot_offset + index * preamble.slot_size
        if slot is not None:
            again = hdr.slot_to_bytes(slot, preamble.slot_size, preamble.crc)
            assert again == data[at : at + preamble.slot_size]
    assert header.slot.sequence == max(slot.sequence for slot in header.slots if slot is not None)
    rest = len(data) - preamble.payload_offset
    if rest < 0:
        # The first slot is whole, and the file ends inside the second.
        _same_end(data, DamagedHeaderError)
        return
    assert envelope.header_of_value(data) == header
    try:
        found = envelope.inspect(data)
    except HeaderError:
        assert preamble.kind == hdr.DETACHED
        assert rest > 0
        return
    assert found.payload_bytes == (rest if preamble.kind == hdr.ATTACHED else None)
    json.dumps(found.as_dict())


def _same_end(data: bytes, expected: type[HeaderError]) -> None:
    for read in (envelope.header_of_value, envelope.inspect):
        found: type[HeaderError] | None = None
        try:
            read(data)
        except HeaderError as error:
            found = type(error)
        assert found is expected, "two readers come to different ends"


def with_checksums(data: bytes) -> bytes:
    """Return ``data`` with the right CRC-32 wherever it has room for one."""
    fixed = bytearray(data)
    if len(fixed) < hdr.FIXED_BYTES:
        return data
    slot_count = fixed[11]
    slot_offset, slot_size = struct.unpack_from(">HH", fixed, 12)
    end = hdr.FIXED_BYTES + struct.unpack_from(">H", fixed, 34)[0]
    if end + 4 > len(fixed):
        return data
    struct.pack_into(">I", fixed, end, zlib.crc32(fixed[:end]))
    crc = bytes(fixed[end : end + 4])
    for at in range(slot_offset, slot_offset + min(slot_count, 2) * slot_size, max(slot_size, 1)):
        if slot_size >= 4 and slot_offset >= end + 4 and at + slot_size <= len(fixed):
            body = fixed[at : at + slot_size - 4]
            struct.pack_into(">I", fixed, at + slot_size - 4, zlib.crc32(body, zlib.crc32(crc)))
    return bytes(fixed)
