"""A header survives being written and read, takes nothing more than its bytes, and notices every changed one."""

from __future__ import annotations

import io
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwax._core import context as ctx
from sealwax._core.format import header as hdr
from sealwax._core.keyring import WrappedKey
from sealwax.errors import DamagedHeaderError, HeaderError, UnsupportedEnvelopeError
from tests.property.strategies import wrapped_key_sets


@given(
    envelope_id=st.binary(min_size=16, max_size=16),
    pairs=st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=5),
    local_pairs=st.integers(0, 64),
    wrapped_keys=wrapped_key_sets,
    slot_count=st.integers(1, 2),
    kind=st.sampled_from((hdr.ATTACHED, hdr.DETACHED)),
    sequence=st.one_of(st.just(1), st.integers(1, hdr.MAX_SEQUENCE)),
    rest=st.binary(max_size=20),
)
def test_round_trip(
    envelope_id: bytes,
    pairs: dict[str, str],
    local_pairs: int,
    wrapped_keys: list[WrappedKey],
    slot_count: int,
    kind: int,
    sequence: int,
    rest: bytes,
) -> None:
    header = hdr.lay_out(
        envelope_id=envelope_id,
        kms_context=ctx.encode(pairs),
        local_pairs=local_pairs,
        wrapped_keys=wrapped_keys,
        slot_count=slot_count,
        kind=kind,
        sequence=sequence,
    )
    data = header.to_bytes()
    stream = io.BytesIO(data + rest)
    assert hdr.read_header(stream.read) == header
    assert stream.read() == rest
    preamble = header.preamble
    assert len(data) == preamble.payload_offset
    assert header.finished
    assert not header.contradictory
    if slot_count == 2:
        assert preamble.aligned
    else:
        assert preamble.slot_offset == 40 + len(preamble.kms_context)
    # The quick way gives the same bytes, the first time and from what it remembers.
    if sequence == 1:
        parts = (ctx.encode(pairs), local_pairs, tuple(wrapped_keys), slot_count, kind)
        hdr.new_header(bytes(16), *parts)
        assert hdr.new_header(envelope_id, *parts) == data


def _example(slot_count: int = 1) -> hdr.Header:
    return hdr.lay_out(
        envelope_id=bytes(range(16)),
        kms_context=ctx.encode({"purpose": "backup"}),
        local_pairs=0,
        wrapped_keys=[WrappedKey("arn:one", b"x" * 184, bytes(32), 1_800_000_000)],
        slot_count=slot_count,
    )


def test_every_changed_byte_of_a_header_is_noticed() -> None:
    data = _example().to_bytes()
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            with pytest.raises(HeaderError):
                hdr.read_header(io.BytesIO(damaged).read)


def test_every_shorter_header_is_noticed() -> None:
    data = _example(2).to_bytes()
    slots_at = _example(2).preamble.slot_offset
    for size in (*range(200), *range(slots_at - 5, slots_at + hdr.SECTOR_BYTES)):
        with pytest.raises(HeaderError):
            hdr.read_header(io.BytesIO(data[:size]).read)
    # From here on one whole slot is there, which is all that reading asks for; what follows it is the payload's.
    assert not hdr.read_header(io.BytesIO(data[: slots_at + hdr.SECTOR_BYTES]).read).finished


@given(first=st.integers(1, 2**32 - 1), second=st.integers(1, 2**32 - 1))
@settings(max_examples=50)
def test_the_higher_sequence_counts(first: int, second: int) -> None:
    example = _example(2)
    keys = [WrappedKey("arn:first", b"1"), WrappedKey("arn:second", b"2")]
    slots = (hdr.Slot(first, (keys[0],)), hdr.Slot(second, (keys[1],)))
    header = hdr.Header(example.preamble, slots)
    found = hdr.read_header(io.BytesIO(header.to_bytes()).read)
    assert found.slots == slots
    assert found.slot == (slots[1] if second > first else slots[0])
    assert not found.finished
    assert found.contradictory == (first == second)


@pytest.mark.parametrize("damaged", [0, 1])
def test_one_damaged_slot_of_two(damaged: int) -> None:
    example = _example(2)
    data = bytearray(example.to_bytes())
    data[example.preamble.slot_offset + damaged * example.preamble.slot_size + 7] ^= 1
    found = hdr.read_header(io.BytesIO(data).read)
    assert found.slots[damaged] is None
    assert found.slot == example.slot
    assert not found.finished
    assert not found.contradictory


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [WrappedKey(f"arn:{n}", b"x") for n in range(17)],
        [WrappedKey("arn:1", b"x"), WrappedKey("arn:1", b"y")],
        [WrappedKey("", b"x")],
        [WrappedKey("arn with a space", b"x")],
        [WrappedKey("a" * 2049, b"x")],
        [WrappedKey("arn:1", b"")],
        [WrappedKey("arn:1", b"x" * 6145)],
        [WrappedKey("arn:1", b"x", key_material_id=b"x" * 31)],
        [WrappedKey("arn:1", b"x", wrapped_at=hdr.MAX_TIME + 1)],
        [WrappedKey("arn:1", b"x", provider=0)],
        [WrappedKey(f"arn:{n}", b"x" * 6144) for n in range(11)],
    ],
)
def test_what_could_not_be_read_back_is_not_written(keys: list[WrappedKey]) -> None:
    with pytest.raises(DamagedHeaderError):
        hdr.lay_out(
            envelope_id=bytes(16), kms_context=ctx.EMPTY, local_pairs=0, wrapped_keys=keys, slot_count=1
        ).to_bytes()


def test_sixteen_wrapped_keys_fit() -> None:
    keys = [WrappedKey(f"arn:aws:kms:eu-west-1:111122223333:key/{n:036}", b"x" * 400, bytes(32), 1) for n in range(16)]
    header = hdr.lay_out(envelope_id=bytes(16), kms_context=ctx.EMPTY, local_pairs=0, wrapped_keys=keys, slot_count=2)
    assert header.preamble.slot_size == 3 * hdr.SECTOR_BYTES
    assert hdr.read_header(io.BytesIO(header.to_bytes()).read) == header


def _preamble(**changes: int | bytes) -> hdr.Preamble:
    kms_context = changes.pop("kms_context", ctx.encode({"a": "b"}))
    assert isinstance(kms_context, bytes)
    fields: dict[str, int | bytes] = {
        "kind": hdr.ATTACHED,
        "slot_count": 1,
        "slot_offset": hdr.FIXED_BYTES + len(kms_context) + 4,
        "slot_size": hdr.MIN_SLOT_BYTES,
        "envelope_id": bytes(16),
        "local_pairs": 0,
    }
    return hdr.Preamble(**fields | changes, kms_context=kms_context)  # type: ignore[arg-type]


TIGHT = _preamble().slot_offset


@pytest.mark.parametrize(
    "changes",
    [
        {"slot_size": 0},
        {"slot_size": 15},
        {"slot_size": hdr.MIN_SLOT_BYTES - 1},
        {"slot_offset": TIGHT - 1},
        {"slot_offset": TIGHT - 4},
        {"slot_offset": hdr.FIXED_BYTES},
        {"kms_context": b"\0" * (ctx.MAX_BYTES + 1)},
        {"kms_context": b"\0"},
        {"local_pairs": ctx.MAX_PAIRS + 1},
        {"slot_count": 3},
        {"kind": 3},
    ],
)
def test_a_field_out_of_bounds_is_told_before_anything_is_read_for_it(changes: dict[str, int | bytes]) -> None:
    """All else about the preamble is right, its checksum too."""
    taken: list[int] = []
    file = io.BytesIO(_preamble(**changes).to_bytes() + bytes(1000))

    def read(size: int) -> bytes:
        taken.append(size)
        return file.read(size)

    with pytest.raises(DamagedHeaderError, match="a field is out of bounds"):
        hdr.read_preamble(read)
    assert taken == [hdr.FIXED_BYTES]


def test_at_the_bounds_a_preamble_is_read() -> None:
    preamble, crc = hdr.read_preamble(io.BytesIO(_preamble(local_pairs=ctx.MAX_PAIRS).to_bytes()).read)
    assert (preamble.local_pairs, preamble.slot_size, crc) == (ctx.MAX_PAIRS, hdr.MIN_SLOT_BYTES, preamble.crc)


@pytest.mark.parametrize("slot_size", [199, 201, 4096])
def test_a_slot_of_another_size_is_none(slot_size: int) -> None:
    """Though its checksum is right: where it ends is the preamble's to say."""
    crc = _preamble().crc
    data = hdr.slot_to_bytes(hdr.Slot(1, (WrappedKey("arn:aws:kms:x", b"x"),)), 200, crc)
    assert hdr.parse_slot(data, 200, crc) is not None
    assert hdr.parse_slot(data, slot_size, crc) is None


def test_a_slot_is_filled_to_its_last_byte_and_not_beyond() -> None:
    slot, crc = hdr.Slot(1, (WrappedKey("arn:aws:kms:x", b"x" * 60),)), _preamble().crc
    size = next(size for size in range(64, 200) if hdr.slot_fits(slot, size))
    assert len(hdr.slot_to_bytes(slot, size, crc)) == size
    assert hdr.parse_slot(hdr.slot_to_bytes(slot, size, crc), size, crc) == slot
    for smaller in range(size - 5, size):
        assert not hdr.slot_fits(slot, smaller)
        with pytest.raises(DamagedHeaderError, match=f"the slot has {smaller}"):
            hdr.slot_to_bytes(slot, smaller, crc)


@pytest.mark.parametrize(
    ("last", "slot_count", "fits"), [(2, 1, True), (2, 2, False), (1, 2, True), (4096, 1, True), (4097, 1, False)]
)
def test_wrapped_keys_up_to_what_a_slot_can_hold(last: int, slot_count: int, fits: bool) -> None:
    """Two slots are of whole sectors, and 16 of these are one byte more than a slot can have."""
    keys = [WrappedKey(f"{'a' * 18}{number:02}", bytes(6100)) for number in range(10)]
    room = 15 * hdr.SECTOR_BYTES - 4 - 5 - sum(3 + 20 + 2 + 6100 + 1 + 8 for _ in keys) - (3 + 20 + 2 + 1 + 8)
    keys.append(WrappedKey("a" * 18 + "zz", bytes(room + last - 1)))

    def lay_out() -> hdr.Header:
        return hdr.lay_out(
            envelope_id=bytes(16),
            kms_context=ctx.encode({}),
            local_pairs=0,
            wrapped_keys=keys,
            slot_count=slot_count,
        )

    if fits:
        assert lay_out().preamble.slot_size <= hdr.MAX_SLOT_BYTES
    else:
        with pytest.raises(DamagedHeaderError, match="an envelope holds at most 65535"):
            lay_out()


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_refused_as_one(version: int) -> None:
    data = bytearray(_preamble().to_bytes())
    data[len(hdr.MAGIC)] = version
    end = _preamble().slot_offset - 4
    data[end:] = zlib.crc32(data[:end]).to_bytes(4, "big")
    with pytest.raises(UnsupportedEnvelopeError, match=f"this envelope has version {version}"):
        hdr.read_preamble(io.BytesIO(data).read)
