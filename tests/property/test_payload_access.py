"""Whatever the sizes and in whatever pieces: what comes out is what went in, at every place."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sealwax
from sealwax._core.envelope import header_of_value
from sealwax._core.format import payload
from tests.fakes import FakeKeyring

CHUNK = payload.CHUNK_BYTES
MIB = 1 << 20
CONTEXT = {"purpose": "test"}

# The borders of chunks and groups, and anything between them.
sizes = st.one_of(
    st.sampled_from(
        [
            border + shift
            for border in (0, CHUNK, 2 * CHUNK, MIB, 2 * MIB)
            for shift in (-1, 0, 1)
            if border + shift >= 0
        ]
    ),
    st.integers(0, 3 * CHUNK),
)
# One block of noise, cut to size: drawing each byte would only slow the search down.
NOISE = random.Random(1).randbytes(2 * MIB + 1)


def _write_in_pieces(sealer: sealwax.Sealer, plaintext: bytes, piece: int) -> bytes:
    out = io.BytesIO()
    with sealer.open(out, "wb", context=CONTEXT) as file:
        for at in range(0, len(plaintext), piece):
            assert file.write(plaintext[at : at + piece]) == len(plaintext[at : at + piece])
            assert file.tell() == min(at + piece, len(plaintext))
    return out.getvalue()


class Pipe(io.RawIOBase):
    """A stream without places, which gives as much at a time as it likes."""

    def __init__(self, data: bytes, most: int) -> None:
        self._data = io.BytesIO(data)
        self._most = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray, /) -> int:  # type: ignore[override]
        return self._data.readinto(memoryview(buffer)[: self._most])


@given(size=sizes, piece=st.sampled_from([1000, CHUNK - 1, CHUNK, CHUNK + 1, MIB - 1, MIB, MIB + 1, 3 * MIB]))
@settings(max_examples=60)
def test_written_in_any_pieces_read_by_every_reader(size: int, piece: int) -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    plaintext = NOISE[:size]
    sealed = _write_in_pieces(sealer, plaintext, piece)

    header = header_of_value(sealed)
    assert header.preamble.slot_count == (2 if size >= MIB else 1)
    assert len(sealed) == header.preamble.payload_offset + payload.payload_size(size)
    assert payload.plaintext_size(payload.payload_size(size)) == size

    assert sealer.decrypt(sealed, context=CONTEXT) == plaintext
    assert sealer.verify(sealed, context=CONTEXT) == size
    with sealer.open(io.BytesIO(sealed), context=CONTEXT) as whole:
        assert whole.read() == plaintext
    for source in (io.BytesIO(sealed), Pipe(sealed, piece)):
        with sealer.open_stream(source, context=CONTEXT) as once:  # type: ignore[arg-type]
            assert once.readall() == plaintext
            assert once.tell() == size


@given(size=sizes)
@settings(max_examples=30)
def test_a_value(size: int) -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    for plaintext in (NOISE[:size], bytearray(NOISE[:size]), memoryview(NOISE)[:size]):
        sealed = sealer.encrypt(plaintext, context=CONTEXT)
        for form in (sealed, bytearray(sealed), memoryview(sealed)):
            assert sealer.decrypt(form, context=CONTEXT) == NOISE[:size]


BIG = 2 * MIB + CHUNK + 5
BIG_TEXT = NOISE[: BIG % len(NOISE)] + NOISE[: BIG - BIG % len(NOISE)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END]), st.integers(-BIG, BIG), st.integers(-1, 70_000)
        ),
        max_size=12,
    )
)
@settings(max_examples=40)
def test_random_access_is_slicing(moves: list[tuple[int, int, int]]) -> None:
    plain = io.BytesIO(BIG_TEXT)
    with _SEALER.open(io.BytesIO(_BIG_SEALED), context=CONTEXT) as file:
        for whence, offset, size in moves:
            if {io.SEEK_SET: 0, io.SEEK_CUR: plain.tell(), io.SEEK_END: BIG}[whence] + offset >= 0:
                assert file.seek(offset, whence) == plain.seek(offset, whence)
            else:
                with pytest.raises(ValueError, match=r"before the start|negative"):
                    file.seek(offset, whence)
            assert file.read(size) == plain.read(size)
            assert file.tell() == plain.tell()


_SEALER = sealwax.Sealer(FakeKeyring())
_BIG_SEALED = _SEALER.encrypt(BIG_TEXT, context=CONTEXT)


def test_a_far_place_is_read_without_the_rest() -> None:
    """Random access reads the head, the last chunk and the chunks asked for; it does not go through the file."""
    source = Counting(_BIG_SEALED)
    with _SEALER.open(source, context=CONTEXT) as file:
        opened = source.read_bytes
        file.seek(MIB)
        assert file.read(100) == BIG_TEXT[MIB : MIB + 100]
    assert opened < 3 * CHUNK
    assert source.read_bytes - opened <= 6 * payload.SEALED_CHUNK_BYTES


class Counting(io.BytesIO):
    read_bytes = 0

    def readinto(self, buffer: bytearray, /) -> int:  # type: ignore[override]
        size = super().readinto(buffer)
        self.read_bytes += size
        return size

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def test_a_payload_that_is_cut_off_has_no_known_place_of_damage() -> None:
    """Opening at any position reads its end first: nothing before that is authentic yet."""
    sealer = sealwax.Sealer(FakeKeyring())
    sealed = sealer.encrypt(bytes(200_000), context={"id": "7"})
    with pytest.raises(sealwax.TamperedError) as caught:
        sealer.open(io.BytesIO(sealed[:-100]), context={"id": "7"})
    assert "after byte" not in str(caught.value)
