"""StreamReader.write_to and drain: plaintext is handed on where it lies, authenticated first, and is nobody else's."""

from __future__ import annotations

import hashlib
import io
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sealwax
from sealwax._core.format import payload, readahead
from tests.fakes import FakeKeyring

GROUP = payload.GROUP_BYTES
CONTEXT = {"purpose": "test"}
NOISE = random.Random(45).randbytes(7 * GROUP + 5)
SEALER = sealwax.Sealer(FakeKeyring())
SEALED = SEALER.encrypt(NOISE, context=CONTEXT)
SIZES = [
    0,
    1,
    payload.CHUNK_BYTES,
    GROUP - 1,
    GROUP,
    GROUP + 1,
    readahead.AFTER_GROUPS * GROUP,
    5 * GROUP + 7,
    len(NOISE),
]


class Disk(io.BytesIO):
    """A file on a disk, as far as a stream can tell."""

    on_disk = True


class Keeping(io.RawIOBase):
    """Keeps every view that it is given, or another view of the same memory."""

    def __init__(self, how: str) -> None:
        self.kept: list[Any] = []
        self._how = how

    def write(self, data: Any, /) -> int:
        self.kept.append({"as it is": data, "a slice": data[:], "a view": memoryview(data).cast("B")}[self._how])
        return len(data)


class Slow(io.RawIOBase):
    """Takes at most so many bytes at a time."""

    def __init__(self, most: int) -> None:
        self.taken = bytearray()
        self._most = most

    def write(self, data: Any, /) -> int:
        part = data[: self._most]
        self.taken += part
        return len(part)


class Failing(io.RawIOBase):
    """Finds no room after some writes."""

    def __init__(self, writes: int) -> None:
        self.buffers: list[bytearray] = []
        self._left = writes

    def write(self, data: Any, /) -> int:
        self.buffers.append(data.obj)
        if not self._left:
            raise OSError(28, os.strerror(28))
        self._left -= 1
        return len(data)


def is_wiped(buffer: bytearray) -> bool:
    return buffer.count(0) == len(buffer)


@pytest.fixture(params=[1, 2], ids=["one core", "two cores"], autouse=True)
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many cores the machine says it has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(request.param)), raising=False)
    return int(request.param)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("read_before", [0, 5, GROUP + 3])
def test_everything_from_here_on_is_written(size: int, read_before: int) -> None:
    sealed = SEALER.encrypt(NOISE[:size], context=CONTEXT)
    for source in (Disk(sealed), io.BytesIO(sealed)):
        sink = io.BytesIO()
        with SEALER.open_stream(source, context=CONTEXT) as reader:
            before = bytearray()
            while len(before) < min(read_before, size):
                before += reader.read(read_before - len(before))
            assert reader.write_to(sink) == size - len(before)
            assert reader.tell() == size
            assert reader.write_to(sink) == 0
            assert reader.read(1) == b""
        assert bytes(before) + sink.getvalue() == NOISE[:size]


def test_every_taker_is_given_every_part() -> None:
    digest, sizes = hashlib.sha256(), list[int]()
    with SEALER.open_stream(io.BytesIO(SEALED), context=CONTEXT) as reader:
        assert reader.drain(digest.update, lambda data: sizes.append(len(data))) == len(NOISE)
    assert digest.digest() == hashlib.sha256(NOISE).digest()
    assert sizes == [GROUP] * 7 + [5]


@pytest.mark.parametrize("how", ["as it is", "a slice", "a view"])
def test_what_a_sink_keeps_stays_as_it_is(how: str) -> None:
    sink = Keeping(how)
    with SEALER.open_stream(Disk(SEALED), context=CONTEXT) as reader:
        reader.write_to(sink)
    assert len(sink.kept) == 8
    assert b"".join(sink.kept) == NOISE


@settings(max_examples=20)
@given(keep=st.lists(st.booleans(), min_size=8, max_size=8))
def test_what_is_kept_now_and_then_stays_as_it_is(keep: list[bool]) -> None:
    kept: dict[int, memoryview] = {}
    numbers = iter(range(8))

    def take(data: memoryview) -> None:
        number = next(numbers)
        if keep[number]:
            kept[number] = data

    with SEALER.open_stream(Disk(SEALED), context=CONTEXT) as reader:
        reader.drain(take)
    assert len(kept) == sum(keep)
    for number, data in kept.items():
        assert data == NOISE[number * GROUP : (number + 1) * GROUP]


def test_what_is_not_kept_is_wiped_and_takes_two_buffers(cores: int) -> None:
    buffers: dict[int, bytearray] = {}
    with SEALER.open_stream(Disk(SEALED), context=CONTEXT) as reader:
        reader.drain(lambda data: buffers.setdefault(id(data.obj), data.obj))  # type: ignore[arg-type]
        assert not all(map(is_wiped, buffers.values()))
    assert len(buffers) == cores
    assert all(map(is_wiped, buffers.values()))


def test_a_sink_cannot_change_what_it_is_given() -> None:
    with SEALER.open_stream(io.BytesIO(SEALER.encrypt(b"data", context=CONTEXT)), context=CONTEXT) as reader:
        read_only: list[bool] = []
        reader.drain(lambda data: read_only.append(data.readonly))
    assert read_only == [True]


@pytest.mark.parametrize("most", [1000, GROUP - 1])
def test_a_sink_may_take_less_at_a_time(most: int) -> None:
    sink = Slow(most)
    with SEALER.open_stream(io.BytesIO(SEALER.encrypt(NOISE[: 2 * GROUP], context=CONTEXT)), context=CONTEXT) as reader:
        reader.write_to(sink)
    assert sink.taken == NOISE[: 2 * GROUP]


@pytest.mark.parametrize("group", range(8))
def test_nothing_that_was_tampered_with_is_handed_on(group: int) -> None:
    sealed = bytearray(SEALED)
    start = len(sealed) - payload.payload_size(len(NOISE)) + payload.HEAD_BYTES
    sealed[start + group * payload.SEALED_GROUP_BYTES + 3] ^= 1
    sink = io.BytesIO()
    with SEALER.open_stream(Disk(bytes(sealed)), context=CONTEXT) as reader:
        with pytest.raises(sealwax.TamperedError, match=f"after byte {group * GROUP} of the plaintext"):
            reader.write_to(sink)
        with pytest.raises(sealwax.TamperedError):
            reader.write_to(sink)
    assert sink.getvalue() == NOISE[: group * GROUP]


def test_an_envelope_that_is_cut_off_is_an_error() -> None:
    for missing in (1, 21, GROUP + 500):
        with (
            SEALER.open_stream(Disk(SEALED[:-missing]), context=CONTEXT) as reader,
            pytest.raises(sealwax.TamperedError),
        ):
            reader.write_to(io.BytesIO())


@pytest.mark.parametrize("writes", [0, 1, 5, 7])
def test_a_sink_that_fails_leaves_nothing_behind(writes: int) -> None:
    sink = Failing(writes)
    with (
        pytest.raises(OSError, match="No space"),
        SEALER.open_stream(Disk(SEALED), context=CONTEXT) as reader,
    ):
        reader.write_to(sink)
    assert len(sink.buffers) == writes + 1
    assert all(map(is_wiped, sink.buffers))


def test_a_closed_reader_hands_nothing_on() -> None:
    reader = SEALER.open_stream(io.BytesIO(SEALER.encrypt(b"data", context=CONTEXT)), context=CONTEXT)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.write_to(io.BytesIO())


@pytest.mark.parametrize("how", ["some bytes", "a group", "the rest"])
def test_a_taker_may_read_on_and_its_part_stays_as_it_is(how: str) -> None:
    found, buffers = bytearray(), list[bytearray]()
    with SEALER.open_stream(Disk(SEALED), context=CONTEXT) as reader:

        def take(data: memoryview) -> None:
            buffers.append(data.obj)  # type: ignore[arg-type]
            more = io.BytesIO()
            if how == "the rest":
                reader.write_to(more)
            else:
                more.write(reader.read(GROUP if how == "a group" else 1000))
            found.extend(data)
            found.extend(more.getvalue())

        reader.drain(take)
        assert reader.tell() == len(NOISE)
    assert found == NOISE
    assert len(buffers) == {"some bytes": 7, "a group": 4, "the rest": 1}[how]
    assert all(map(is_wiped, buffers))


def test_a_taker_may_close_the_reader_and_its_part_stays_as_it_is() -> None:
    found, buffers = list[bytes](), list[bytearray]()
    reader = SEALER.open_stream(Disk(SEALED), context=CONTEXT)

    def take(data: memoryview) -> None:
        buffers.append(data.obj)  # type: ignore[arg-type]
        if len(buffers) == 6:
            reader.close()
        found.append(bytes(data))

    with pytest.raises(ValueError, match="closed"):
        reader.drain(take)
    assert b"".join(found) == NOISE[: 6 * GROUP]
    assert all(map(is_wiped, buffers))


def test_what_is_kept_of_a_drain_that_fails_is_wiped_and_used_for_nothing_else() -> None:
    kept = list[memoryview]()

    def fail(_: object) -> None:
        raise OSError(28, os.strerror(28))

    with SEALER.open_stream(Disk(SEALED), context=CONTEXT) as reader:
        with pytest.raises(OSError, match="No space"):
            reader.drain(kept.append, fail)
        assert kept[0] == bytes(GROUP)
        rest = io.BytesIO()
        reader.write_to(rest)
    assert rest.getvalue() == NOISE[GROUP:]
    assert kept[0] == bytes(GROUP)


@pytest.mark.parametrize("how", ["unbuffered", "buffered", "itself"])
def test_real_files_and_other_envelopes_are_sinks(how: str, tmp_path: Path) -> None:
    sealed, out = tmp_path / "sealed.swx", tmp_path / "out"
    sealed.write_bytes(SEALED)
    with SEALER.open_stream(sealed, context=CONTEXT) as reader:
        if how == "itself":
            with SEALER.open(out, "wb", context=CONTEXT) as again:
                reader.write_to(again)
        else:
            with out.open("wb", buffering=0 if how == "unbuffered" else -1) as file:
                reader.write_to(file)
    found = out.read_bytes()
    assert (SEALER.decrypt(found, context=CONTEXT) if how == "itself" else found) == NOISE
