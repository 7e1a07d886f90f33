"""Preamble and slots, from and to bytes: strict, bounded, in one pass.

For any bytes, parsing ends in a header or a ``HeaderError``. Every length is checked before anything is read for it.
"""

from __future__ import annotations

import functools
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sealwax._core import context
from sealwax._core.keyring import PROVIDER_AWS_KMS, SUITE_COBBLESTONE_256, WrappedKey
from sealwax.errors import ContextError, DamagedHeaderError, NotAnEnvelopeError, UnsupportedEnvelopeError

# "SWX" in the frame of PNG's signature, which shows a cleared high bit, converted line ends and a stop at Ctrl-Z.
MAGIC: Final = b"\x8aSWX\r\n\x1a\n"
VERSION: Final = 1
ATTACHED: Final = 1
DETACHED: Final = 2
ENVELOPE_ID_BYTES: Final = 16
_ID_OFFSET: Final = 16
_BYTES: Final = [bytes((value,)) for value in range(256)]
_LOCAL_PAIRS_OFFSET: Final = _ID_OFFSET + ENVELOPE_ID_BYTES

MIN_SLOT_BYTES: Final = 64
MAX_SLOT_BYTES: Final = 65535
MAX_WRAPPED_KEYS: Final = 16
MAX_CIPHERTEXT_BYTES: Final = 6144
MATERIAL_ID_BYTES: Final = 32
MAX_TIME: Final = 253402300799  # 9999-12-31T23:59:59Z, the last second that every date library can show
MAX_SEQUENCE: Final = 2**32 - 1

# Two slots are aligned so that neither shares a disk sector or a page with anything else.
SECTOR_BYTES: Final = 4096
# Below this plaintext size, rewriting the whole file costs less than the space of two slots.
TWO_SLOTS_FROM: Final = 1 << 20

# An outline is as long as its header, which an attacker may have written.
OUTLINED_BYTES: Final = 2048

FIXED_BYTES: Final = 36
_FIXED: Final = struct.Struct(">8sBBBBHH16sBBH")
# The fields of these that may differ between headers with one outline.
_SLOTS_ID_SIZE: Final = struct.Struct(">11xBHH16sBxH")
_CRC: Final = struct.Struct(">I")
_SEQUENCE: Final = struct.Struct(">IB")
_PROVIDER_ARN: Final = struct.Struct(">BH")
_U16: Final = struct.Struct(">H")
_TIME: Final = struct.Struct(">Q")
# Printable ASCII without the space, 1 to 2048 bytes.
_ARN: Final = re.compile(rb"[!-~]{1,2048}")


@dataclass(frozen=True, slots=True)
class Preamble:
    """The part of an envelope that never changes.

    Attributes:
        kind: 1 for an envelope, 2 for a detached header.
        slot_count: 1 or 2.
        slot_offset: where the slots begin, in bytes from the start of the envelope.
        slot_size: the size of each slot in bytes.
        envelope_id: 16 random bytes.
        local_pairs: how many local context pairs bind the payload.
        kms_context: the stored context in canonical form.
        suite: 1 for Cobblestone-256.
    """

    kind: int
    slot_count: int
    slot_offset: int
    slot_size: int
    envelope_id: bytes
    local_pairs: int
    kms_context: bytes
    suite: int = SUITE_COBBLESTONE_256

    @property
    def payload_offset(self) -> int:
        """Where the payload begins, in bytes from the start of the envelope."""
        return self.slot_offset + self.slot_count * self.slot_size

    @property
    def aligned(self) -> bool:
        """Whether the slots share no disk sector, so that one can be rewritten without risk to the other."""
        return self.slot_count == 2 and self.slot_offset % SECTOR_BYTES == 0 and self.slot_size % SECTOR_BYTES == 0

    def to_bytes(self) -> bytes:
        """Encode the preamble.

        Returns:
            Its bytes, with the padding before the slots.
        """
        body = (
            _FIXED.pack(
                MAGIC,
                VERSION,
                self.kind,
                self.suite,
                self.slot_count,
                self.slot_offset,
                self.slot_size,
                self.envelope_id,
                self.local_pairs,
                0,
                len(self.kms_context),
            )
            + self.kms_context
        )
        return (body + _CRC.pack(zlib.crc32(body))).ljust(self.slot_offset, b"\0")

    @property
    def crc(self) -> bytes:
        """The checksum, from which each slot's own checksum starts."""
        end = FIXED_BYTES + len(self.kms_context)
        return self.to_bytes()[end : end + 4]


@dataclass(frozen=True, slots=True)
class Slot:
    """One copy of the wrapped keys. The valid slot with the highest sequence number is the current one.

    Attributes:
        sequence: 1 when the envelope is new, and one more after each re-wrap in place.
        wrapped_keys: the data key, wrapped by each KMS key.
    """

    sequence: int
    wrapped_keys: tuple[WrappedKey, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an envelope. None of it is authenticated until the payload is decrypted.

    Attributes:
        preamble: the part that never changes.
        slots: one or two; None for a damaged slot. At least one is valid.
    """

    preamble: Preamble
    slots: tuple[Slot | None, ...]

    @property
    def current(self) -> int:
        """The index of the current slot: the valid one with the highest sequence number, or the first of two equals."""
        best = 0
        for index, slot in enumerate(self.slots):
            if slot is not None:
                leader = self.slots[best]
                if leader is None or slot.sequence > leader.sequence:
                    best = index
        return best

    @property
    def slot(self) -> Slot:
        """The current slot."""
        slot = self.slots[self.current]
        assert slot is not None  # parse_slots lets no header through without a valid slot
        return slot

    @property
    def finished(self) -> bool:
        """Whether all slots are equal, so that no earlier wrapped key is left."""
        return self.slots.count(self.slots[0]) == len(self.slots)

    @property
    def contradictory(self) -> bool:
        """Whether two valid slots have the same sequence number and different wrapped keys."""
        first, last = self.slots[0], self.slots[-1]
        return first is not None and last is not None and first.sequence == last.sequence and first != last

    @property
    def all_wrapped_keys(self) -> tuple[WrappedKey, ...]:
        """The wrapped keys of every valid slot. After an interrupted re-wrap, only the earlier ones may work."""
        return tuple(key for slot in dict.fromkeys(self.slots) if slot is not None for key in slot.wrapped_keys)

    @property
    def readings(self) -> tuple[Header, ...]:
        """This header or, if two valid slots differ, one header for each slot, the newer first."""
        if self.finished or None in self.slots:
            return (self,)
        newer = self.current
        return tuple(
            Header(self.preamble, tuple(slot if index == at else None for index, slot in enumerate(self.slots)))
            for at in (newer, 1 - newer)
        )

    def to_bytes(self) -> bytes:
        """Encode the header.

        Returns:
            Its bytes, up to the payload.

        Raises:
            DamagedHeaderError: the wrapped keys do not fit into the slots.
        """
        preamble = self.preamble.to_bytes()
        end = FIXED_BYTES + len(self.preamble.kms_context)
        crc, size = preamble[end : end + 4], self.preamble.slot_size
        return b"".join((preamble, *[slot_to_bytes(slot, size, crc) for slot in self.slots if slot is not None]))


def lay_out(
    *,
    envelope_id: bytes,
    kms_context: bytes,
    local_pairs: int,
    wrapped_keys: Sequence[WrappedKey],
    slot_count: int,
    kind: int = ATTACHED,
    sequence: int = 1,
) -> Header:
    """Return a new header: tight for one slot, aligned to sectors for two.

    Raises:
        DamagedHeaderError: the wrapped keys cannot be stored: too many, too large, or two under one KMS key.
    """
    slot = Slot(sequence, tuple(wrapped_keys))
    slot_offset = FIXED_BYTES + len(kms_context) + 4
    slot_size = max(MIN_SLOT_BYTES, len(_slot_body(slot)) + 4)
    if slot_count == 2:
        slot_offset = _round_up(slot_offset)
        slot_size = _round_up(slot_size)
    if slot_size > MAX_SLOT_BYTES:
        raise DamagedHeaderError(f"the wrapped keys take {slot_size} bytes; an envelope holds at most {MAX_SLOT_BYTES}")
    preamble = Preamble(kind, slot_count, slot_offset, slot_size, envelope_id, local_pairs, kms_context)
    return Header(preamble, (slot,) * slot_count)


def new_header(
    envelope_id: bytes,
    kms_context: bytes,
    local_pairs: int,
    wrapped_keys: tuple[WrappedKey, ...],
    slots: int,
    kind: int,
) -> bytes:
    """Return the header of a new envelope as ``lay_out`` does, but fast if only the id differs from earlier ones.

    Raises:
        DamagedHeaderError: as for ``lay_out``.
    """
    return b"".join(_template(kms_context, wrapped_keys, slots, kind).parts(envelope_id, local_pairs))


class HeaderTemplate:
    """What many new envelopes share in their headers: everything but id, number of local pairs and checksums.

    Raises:
        DamagedHeaderError: as for ``lay_out``.
    """

    __slots__ = ("_after", "_before", "_body", "_padding", "_slots")

    def __init__(self, kms_context: bytes, wrapped_keys: tuple[WrappedKey, ...], slots: int, kind: int) -> None:
        laid_out = lay_out(
            envelope_id=bytes(ENVELOPE_ID_BYTES),
            kms_context=kms_context,
            local_pairs=0,
            wrapped_keys=wrapped_keys,
            slot_count=slots,
            kind=kind,
        )
        whole, first, end = laid_out.to_bytes(), laid_out.preamble.slot_offset, FIXED_BYTES + len(kms_context)
        self._before = whole[:_ID_OFFSET]
        self._after = whole[_LOCAL_PAIRS_OFFSET + 1 : end]
        self._padding = whole[end + 4 : first]
        self._body = whole[first : first + laid_out.preamble.slot_size - 4]
        self._slots = slots

    def parts(self, envelope_id: bytes, local_pairs: int) -> tuple[bytes, ...]:
        """Return a whole header in parts, for the caller to join with the payload."""
        preamble = b"".join((self._before, envelope_id, _BYTES[local_pairs], self._after))
        crc = _CRC.pack(zlib.crc32(preamble))
        slot = self._body, _CRC.pack(zlib.crc32(self._body, zlib.crc32(crc)))
        return preamble, crc, self._padding, *slot * self._slots


_template: Final = functools.lru_cache(maxsize=64)(HeaderTemplate)


def _round_up(size: int) -> int:
    return -(-size // SECTOR_BYTES) * SECTOR_BYTES


# A data key that serves many envelopes has the same wrapped keys each time.
@functools.lru_cache(maxsize=256)
def _slot_body(slot: Slot) -> bytes:
    """Return a slot's bytes before padding and checksum; refuse what could not be read back."""
    keys = slot.wrapped_keys
    if not 1 <= len(keys) <= MAX_WRAPPED_KEYS:
        raise DamagedHeaderError(f"an envelope holds 1 to {MAX_WRAPPED_KEYS} wrapped keys, not {len(keys)}")
    parts = [_SEQUENCE.pack(slot.sequence, len(keys))]
    for key in keys:
        arn = key.key_arn.encode("latin-1")
        _check_wrapped_key(key.provider, arn, key.ciphertext, key.key_material_id, key.wrapped_at)
        parts += (
            _PROVIDER_ARN.pack(key.provider, len(arn)),
            arn,
            _U16.pack(len(key.ciphertext)),
            key.ciphertext,
            bytes((len(key.key_material_id),)),
            key.key_material_id,
            _TIME.pack(key.wrapped_at),
        )
    _check_distinct(keys)
    return b"".join(parts)


def slot_fits(slot: Slot, slot_size: int) -> bool:
    """Whether the wrapped keys of a slot fit into ``slot_size`` bytes."""
    return len(_slot_body(slot)) <= slot_size - 4


def slot_to_bytes(slot: Slot, slot_size: int, preamble_crc: bytes) -> bytes:
    """Return a whole slot of ``slot_size`` bytes.

    Raises:
        DamagedHeaderError: the wrapped keys do not fit.
    """
    body = _slot_body(slot)
    if len(body) > slot_size - 4:
        raise DamagedHeaderError(f"the wrapped keys take {len(body) + 4} bytes; the slot has {slot_size}")
    body = body.ljust(slot_size - 4, b"\0")
    return body + _CRC.pack(zlib.crc32(body, zlib.crc32(preamble_crc)))


def read_header(read: Callable[[int], bytes]) -> Header:
    """Read a header, and not one byte more, from ``read(size)``, which returns fewer bytes only at the end.

    Raises:
        HeaderError: it is not an envelope, or is damaged.
    """
    preamble, crc = read_preamble(read)
    return parse_slots(preamble, crc, read(preamble.slot_count * preamble.slot_size))


def read_preamble(read: Callable[[int], bytes]) -> tuple[Preamble, bytes]:
    """Read a preamble with its padding; return it and its checksum field.

    Raises:
        HeaderError: it is not a preamble, or is damaged.
    """
    fixed = read(FIXED_BYTES)
    if fixed[: len(MAGIC)] != MAGIC[: len(fixed)] or not fixed:
        if fixed[:5] == b"swx1:":
            raise NotAnEnvelopeError("this is an envelope in its text form: convert it to binary first")
        raise NotAnEnvelopeError(
            "this is not a sealwax envelope: it is another kind of file, or the payload of a detached header"
        )
    if len(fixed) > len(MAGIC) and fixed[8] != VERSION:
        raise UnsupportedEnvelopeError(f"this envelope has version {fixed[8]}; this release reads version {VERSION}")
    if len(fixed) < FIXED_BYTES:
        raise DamagedHeaderError("the envelope is cut off inside its preamble")
    _, _, kind, suite, slot_count, offset, slot_size, envelope_id, local_pairs, zero, size = _FIXED.unpack(fixed)
    if suite != SUITE_COBBLESTONE_256:
        raise UnsupportedEnvelopeError(f"this envelope has suite {suite}; this release reads suite 1, Cobblestone-256")
    if (
        kind not in (ATTACHED, DETACHED)
        or slot_count not in (1, 2)
        or not slot_size >= MIN_SLOT_BYTES
        or zero
        or local_pairs > context.MAX_PAIRS
        or not 2 <= size <= context.MAX_BYTES
        or FIXED_BYTES + size + 4 > offset
    ):
        raise DamagedHeaderError("the envelope's preamble is damaged: a field is out of bounds")
    rest = read(offset - FIXED_BYTES)
    if len(rest) < offset - FIXED_BYTES:
        raise DamagedHeaderError("the envelope is cut off inside its preamble")
    kms_context, crc, padding = rest[:size], rest[size : size + 4], rest[size + 4 :]
    if crc != _CRC.pack(zlib.crc32(kms_context, zlib.crc32(fixed))):
        raise DamagedHeaderError("the envelope's preamble is damaged: its checksum does not match")
    if padding.count(0) != len(padding):
        raise DamagedHeaderError("the envelope's preamble is damaged: its padding is not zero")
    try:
        context.decode(kms_context)
    except ContextError as error:
        raise DamagedHeaderError(f"the envelope's preamble is damaged: {error}") from None
    return Preamble(kind, slot_count, offset, slot_size, envelope_id, local_pairs, kms_context, suite), crc


def outline(data: bytes) -> tuple[bytes, bytes, int, int] | None:
    """Return the outline of the header of a value, its id, its number of local pairs, and its size, in few steps.

    Headers with one outline differ only in ids, numbers of local pairs and checksums. Both checksums are checked here,
    so what one header says is known from another one.

    Returns:
        None if a full parse is needed: it is not a header, is damaged, has two slots, or is longer than
        ``OUTLINED_BYTES``.
    """
    if len(data) < FIXED_BYTES:
        return None
    slots, offset, slot_size, envelope_id, local_pairs, size = _SLOTS_ID_SIZE.unpack_from(data)
    at, end = FIXED_BYTES + size, offset + slot_size
    if slots != 1 or at + 4 > offset or slot_size < MIN_SLOT_BYTES or end > OUTLINED_BYTES:
        return None
    crc, body = data[at : at + 4], data[offset : end - 4]
    if crc != _CRC.pack(zlib.crc32(data[:at])) or data[end - 4 : end] != _CRC.pack(zlib.crc32(body, zlib.crc32(crc))):
        return None
    shared = b"".join((data[:_ID_OFFSET], data[_LOCAL_PAIRS_OFFSET + 1 : at], data[at + 4 : offset], body))
    return shared, envelope_id, local_pairs, end


def parse_slots(preamble: Preamble, preamble_crc: bytes, data: bytes) -> Header:
    """Return the header whose slots are ``data``.

    Raises:
        DamagedHeaderError: no slot is valid.
    """
    size = preamble.slot_size
    slots = tuple(
        parse_slot(data[at : at + size], size, preamble_crc) for at in range(0, preamble.slot_count * size, size)
    )
    if not any(slots):
        which = "both slots are" if preamble.slot_count == 2 else "the slot is"
        raise DamagedHeaderError(
            f"the envelope's wrapped keys cannot be read: {which} damaged or cut off; use a backup"
        )
    return Header(preamble, slots)


def parse_slot(data: bytes, slot_size: int, preamble_crc: bytes) -> Slot | None:
    """Return the slot, or None if its checksum is wrong or it breaks any rule."""
    if len(data) != slot_size or data[-4:] != _CRC.pack(zlib.crc32(data[:-4], zlib.crc32(preamble_crc))):
        return None
    return _parse_slot_body(data[:-4])


# Many envelopes under one data key have the same slot, except for its checksum.
@functools.lru_cache(maxsize=64)
def _parse_slot_body(data: bytes) -> Slot | None:
    sequence, count = _SEQUENCE.unpack_from(data)
    if sequence == 0 or not 1 <= count <= MAX_WRAPPED_KEYS:
        return None
    try:
        keys, end = _parse_wrapped_keys(data, count, len(data))
    except DamagedHeaderError:
        return None
    padding = data[end:]
    if padding.count(0) != len(padding):
        return None
    return Slot(sequence, keys)


def _parse_wrapped_keys(data: bytes, count: int, end: int) -> tuple[tuple[WrappedKey, ...], int]:
    at = _SEQUENCE.size

    def take(size: int) -> bytes:
        nonlocal at
        if at + size > end:
            raise DamagedHeaderError("a wrapped key runs over the end of its slot")
        at += size
        return data[at - size : at]

    keys = []
    for _ in range(count):
        provider, arn_size = _PROVIDER_ARN.unpack(take(_PROVIDER_ARN.size))
        arn = take(arn_size)
        ciphertext = take(*_U16.unpack(take(2)))
        material_id = take(take(1)[0])
        (wrapped_at,) = _TIME.unpack(take(8))
        _check_wrapped_key(provider, arn, ciphertext, material_id, wrapped_at)
        keys.append(WrappedKey(arn.decode("latin-1"), ciphertext, material_id, wrapped_at, provider))
    _check_distinct(keys)
    return tuple(keys), at


def check_wrapped_key(key: WrappedKey) -> None:
    """Refuse a wrapped key that no envelope may hold.

    Raises:
        DamagedHeaderError: its key ARN, ciphertext, material id or time is invalid.
    """
    arn = key.key_arn.encode("utf-8", "surrogatepass")
    _check_wrapped_key(key.provider, arn, key.ciphertext, key.key_material_id, key.wrapped_at)


def _check_wrapped_key(provider: int, arn: bytes, ciphertext: bytes, material_id: bytes, wrapped_at: int) -> None:
    """Check a wrapped key against the rules of its provider; those of an unknown provider are not checked."""
    if provider == 0:
        raise DamagedHeaderError("a wrapped key has no provider")
    if provider != PROVIDER_AWS_KMS:
        return
    if not _ARN.fullmatch(arn):
        raise DamagedHeaderError("a wrapped key has an invalid key ARN")
    if not 1 <= len(ciphertext) <= MAX_CIPHERTEXT_BYTES:
        raise DamagedHeaderError(f"a wrapped key must have 1 to {MAX_CIPHERTEXT_BYTES} bytes, not {len(ciphertext)}")
    if len(material_id) not in (0, MATERIAL_ID_BYTES) or not 0 <= wrapped_at <= MAX_TIME:
        raise DamagedHeaderError("a wrapped key has an invalid key material id or time")


def _check_distinct(keys: Sequence[WrappedKey]) -> None:
    if len({(key.provider, key.key_arn) for key in keys}) != len(keys):
        raise DamagedHeaderError("two wrapped keys are under the same KMS key")
