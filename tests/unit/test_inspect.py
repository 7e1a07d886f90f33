"""What :func:`sealwax.inspect` says of an envelope that is not whole."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

import sealwax
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format import header as hdr
from tests.fakes import FakeKeyring

CONTEXT = {"purpose": "backup"}


class Pipe(io.BytesIO):
    """Bytes that come once, front to back."""

    def seekable(self) -> bool:
        return False


@pytest.fixture
def sealed(tmp_path: Path) -> bytes:
    """An envelope with two slots."""
    path = tmp_path / "sealed.swx"
    with sealwax.Sealer(FakeKeyring()).open(path, "wb", context=CONTEXT) as file:
        file.write(bytes(hdr.TWO_SLOTS_FROM))
    return path.read_bytes()


def _end_of_first_slot(sealed: bytes) -> int:
    preamble = inspect_envelope(sealed).header.preamble
    return preamble.slot_offset + preamble.slot_size


@pytest.mark.parametrize("into_second", [0, 1, 4095])
def test_cut_off_inside_the_second_slot(sealed: bytes, into_second: int, tmp_path: Path) -> None:
    cut = sealed[: _end_of_first_slot(sealed) + into_second]
    path = tmp_path / "cut.swx"
    path.write_bytes(cut)
    sealer = sealwax.Sealer(FakeKeyring())
    refused = pytest.raises(sealwax.DamagedHeaderError, match="cut off inside its second slot")
    for source in (cut, path, io.BytesIO(cut), Pipe(cut)):
        with refused:
            sealwax.inspect(source)
    with refused:
        sealer.decrypt(cut, context=CONTEXT)
    with refused:
        sealer.rewrap(cut, to="alias/new", context=CONTEXT)
    with refused:
        sealer.rewrap(path, to="alias/new", context=CONTEXT)
    assert path.read_bytes() == cut


def test_a_payload_that_is_cut_off_has_no_plaintext_size(sealed: bytes) -> None:
    offset = inspect_envelope(sealed).header.preamble.payload_offset
    found = sealwax.inspect(sealed[: offset + 5])
    assert (found.payload_bytes, found.plaintext_bytes) == (5, None)


def test_a_detached_header_is_neither_short_nor_long() -> None:
    header, _ = sealwax.Sealer(FakeKeyring()).encrypt_detached(b"data", context=CONTEXT)
    assert sealwax.inspect(header).payload_bytes is None
    with pytest.raises(sealwax.DamagedHeaderError, match="17 bytes follow"):
        sealwax.inspect(header + bytes(17))
    with pytest.raises(sealwax.DamagedHeaderError, match="cut off"):
        sealwax.inspect(header[:-17])


def test_a_pipe_that_ends_within_the_head_says_how_much_was_there(sealed: bytes) -> None:
    offset = inspect_envelope(sealed).header.preamble.payload_offset
    with pytest.raises(sealwax.TamperedError, match="no payload has 5 bytes"):
        sealwax.Sealer(FakeKeyring()).open_stream(Pipe(sealed[: offset + 5]), context=CONTEXT)
