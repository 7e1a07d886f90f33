"""Altered, cut, extended, rearranged and forged envelopes: each is refused with its own error, and KMS is not asked in
vain."""

from __future__ import annotations

import contextlib
import io
import random
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax._core import context as ctx
from sealwax._core.envelope import header_of_value
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.keyring import WrappedKey
from sealwax.errors import SealwaxError
from tests.fakes import ALPHA, BETA, FOREIGN, FakeKeyring, wrap

CONTEXT = {"purpose": "backup", "table": "users"}
CHUNK = payload.SEALED_CHUNK_BYTES
NOISE = random.Random(7).randbytes(1 << 17)

Way = Callable[[sealwax.Sealer, bytes, Any], bytes]


class Pipe(io.RawIOBase):
    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._data.readinto(buffer)


def by_value(sealer: sealwax.Sealer, data: bytes, context: Any) -> bytes:
    return sealer.decrypt(data, context=context)


def by_file(sealer: sealwax.Sealer, data: bytes, context: Any) -> bytes:
    with sealer.open(io.BytesIO(data), context=context) as file:
        return file.read()


def by_pipe(sealer: sealwax.Sealer, data: bytes, context: Any) -> bytes:
    with sealer.open(Pipe(data), context=context) as file:  # type: ignore[call-overload]
        whole: bytes = file.read()
        return whole


WAYS = (by_value, by_file, by_pipe)


def _refused(way: Way, sealer: sealwax.Sealer, data: bytes, context: Any = None) -> type[SealwaxError]:
    with pytest.raises(SealwaxError) as caught:
        way(sealer, data, CONTEXT if context is None else context)
    return type(caught.value)


# --- the context


WRONG_CONTEXTS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "another value": ({"purpose": "restore", "table": "users"}, ()),
    "a missing pair": ({"purpose": "backup"}, ()),
    "an extra pair": (CONTEXT | {"id": "7"}, ()),
    "an extra local pair": (CONTEXT | {"id": "7"}, ("id",)),
    "another case": ({"Purpose": "backup", "table": "users"}, ()),
    "another normal form": (CONTEXT | {"table": "use\u0301rs"}, ()),
    "a stored pair that is local here": (CONTEXT, ("table",)),
    "values exchanged": ({"purpose": "users", "table": "backup"}, ()),
}


@pytest.mark.parametrize("way", [*WAYS, "rewrap"])
@pytest.mark.parametrize(("given", "local"), WRONG_CONTEXTS.values(), ids=WRONG_CONTEXTS.keys())
def test_a_wrong_context_is_refused_before_kms_is_asked(
    given: dict[str, str], local: tuple[str, ...], way: Way | str
) -> None:
    keyring = FakeKeyring()
    sealed = sealwax.Sealer(keyring).encrypt(b"secret", context=CONTEXT)
    keyring.calls.clear()
    sealer = sealwax.Sealer(keyring, local_context=local)
    if callable(way):
        assert _refused(way, sealer, sealed, given) is sealwax.ContextError
    elif given == CONTEXT | {"id": "7"} and local:
        # Local pairs are the payload's to judge, and re-wrapping does not open it.
        sealer.rewrap(sealed, to=BETA, context=given)
        assert keyring.calls == ["ReEncrypt"]
        return
    else:
        with pytest.raises(sealwax.ContextError):
            sealer.rewrap(sealed, to=BETA, context=given)
    assert keyring.calls == []


def test_no_context_is_not_a_wildcard() -> None:
    keyring = FakeKeyring()
    sealed = sealwax.Sealer(keyring).encrypt(b"secret", context=CONTEXT)
    keyring.calls.clear()
    empty: dict[str, str] = {}
    for nothing in (sealwax.NO_CONTEXT, empty):
        assert _refused(by_value, sealwax.Sealer(keyring), sealed, nothing) is sealwax.ContextError
    assert keyring.calls == []


def test_the_stored_context_is_trusted_by_name_only() -> None:
    keyring = FakeKeyring()
    sealer = sealwax.Sealer(keyring)
    sealed = sealer.encrypt(b"secret", context=CONTEXT)
    accept = sealwax.AcceptStoredContext
    assert sealer.decrypt(sealed, context=accept()) == b"secret"
    assert sealer.decrypt(sealed, context=accept({"table": "users"})) == b"secret"
    assert sealer.decrypt(sealed, context=accept(where=lambda stored: stored["table"] == "users")) == b"secret"
    keyring.calls.clear()
    for refused in (
        accept({"table": "orders"}),
        accept({"id": "7"}),
        accept(where=lambda stored: stored["table"] == "orders"),
    ):
        assert _refused(by_value, sealer, sealed, refused) is sealwax.ContextError
    assert keyring.calls == []


# --- the payload


def _body(sealed: bytes | bytearray) -> int:
    return header_of_value(sealed).preamble.payload_offset


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 40])
def test_every_flipped_byte(size: int, way: Way) -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    sealed = sealer.encrypt(NOISE[:size], context=CONTEXT)
    start = _body(sealed)
    outcomes: Counter[type[SealwaxError]] = Counter()
    for at in range(start, len(sealed)):
        for bit in (1, 0x80):
            changed = bytearray(sealed)
            changed[at] ^= bit
            outcomes[_refused(way, sealer, bytes(changed))] += 1
    assert outcomes == {sealwax.CommitmentError: 2 * 56, sealwax.TamperedError: 2 * (size + 16)}


@pytest.mark.parametrize("way", WAYS)
def test_sampled_bytes_of_a_large_payload(way: Way) -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    sealed = bytearray(sealer.encrypt(NOISE, context=CONTEXT))
    start = _body(sealed) + payload.HEAD_BYTES
    places = random.Random(3).sample(range(start, len(sealed)), 60)
    places += [start + n * CHUNK + shift for n in range(8) for shift in (0, CHUNK - 17, CHUNK - 16, CHUNK - 1)]
    for at in places:
        sealed[at] ^= 4
        assert _refused(way, sealer, bytes(sealed)) is sealwax.TamperedError
        sealed[at] ^= 4
    assert way(sealer, bytes(sealed), CONTEXT) == NOISE


@pytest.mark.parametrize("way", WAYS)
def test_truncated_at_and_between_chunk_borders(way: Way) -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    sealed = sealer.encrypt(NOISE[: 3 * 16384], context=CONTEXT)
    start = _body(sealed)
    first = start + payload.HEAD_BYTES
    borders = [start, first, *(first + n * CHUNK for n in range(4))]
    sizes = {border + shift for border in borders for shift in (-17, -16, -1, 0, 1, 15, 16, 17)}
    sizes = {size for size in sizes if start <= size < len(sealed)}
    assert len(sizes) == 35
    for size in sizes:
        assert _refused(way, sealer, sealed[:size]) is sealwax.TamperedError


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 5, 16383, 16384, 16385])
def test_trailing_bytes(size: int, way: Way) -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    sealed = sealer.encrypt(NOISE[:size], context=CONTEXT)
    for extra in (b"\0", b"x" * 15, b"x" * 16, b"x" * CHUNK, sealed, sealed[_body(sealed) :], sealed[-16:]):
        assert _refused(way, sealer, sealed + extra) is sealwax.TamperedError


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "order",
    [
        (1, 0, 2, 3, 4),
        (0, 2, 1, 3, 4),
        (0, 1, 2, 4, 3),
        (0, 0, 2, 3, 4),
        (0, 1, 1, 2, 3, 4),
        (1, 2, 3, 4),
        (0, 2, 3, 4),
        (0, 1, 2, 4),
        (0, 1, 2, 3, 4, 4),
        (4,),
        (4, 3, 2, 1, 0),
    ],
)
def test_chunks_moved_doubled_and_dropped(order: tuple[int, ...], way: Way) -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    sealed = sealer.encrypt(NOISE[: 4 * 16384 + 100], context=CONTEXT)
    first = _body(sealed) + payload.HEAD_BYTES
    chunks = [sealed[at : at + CHUNK] for at in range(first, len(sealed), CHUNK)]
    assert len(chunks) == 5
    assert b"".join((sealed[:first], *chunks)) == sealed
    changed = b"".join((sealed[:first], *(chunks[n] for n in order)))
    assert _refused(way, sealer, changed) is sealwax.TamperedError


def test_a_chunk_of_another_envelope_under_the_same_data_key() -> None:
    same = FakeKeyring(new_key=lambda size: b"k" * size)
    sealer = sealwax.Sealer(same)
    one, two = (sealer.encrypt(NOISE[:20], context=CONTEXT) for _ in range(2))
    changed = one[:-36] + two[-36:]
    for way in WAYS:
        assert _refused(way, sealer, changed) is sealwax.TamperedError


def test_reading_goes_on_to_fail_after_a_failure() -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    sealed = bytearray(sealer.encrypt(NOISE, context=CONTEXT))
    sealed[_body(sealed) + payload.HEAD_BYTES + CHUNK + 5] ^= 1
    with sealer.open(io.BytesIO(sealed), context=CONTEXT) as file:
        for _ in range(3):
            with pytest.raises(sealwax.TamperedError):
                file.read()
        file.seek(0)
        with pytest.raises(sealwax.TamperedError):
            file.read(10)
    with sealer.open_stream(io.BytesIO(sealed), context=CONTEXT) as once:
        for _ in range(3):
            with pytest.raises(sealwax.TamperedError):
                once.read(10)


# --- the header


def _rebuild(sealed: bytes, keys: Sequence[WrappedKey] | None = None, **preamble: Any) -> bytes:
    """Return the same payload behind another header, with every checksum right."""
    header = header_of_value(sealed)
    old = header.preamble
    fields: dict[str, Any] = {
        "envelope_id": old.envelope_id,
        "kms_context": old.kms_context,
        "local_pairs": old.local_pairs,
        "wrapped_keys": header.slot.wrapped_keys if keys is None else keys,
        "slot_count": old.slot_count,
    }
    return hdr.lay_out(**fields | preamble).to_bytes() + sealed[old.payload_offset :]


@pytest.mark.parametrize("way", WAYS)
def test_a_wrapped_key_of_another_envelope(way: Way) -> None:
    keyring = FakeKeyring()
    sealer = sealwax.Sealer(keyring)
    one, two = (sealer.encrypt(b"secret", context=CONTEXT) for _ in range(2))
    forged = _rebuild(one, header_of_value(two).slot.wrapped_keys)
    assert _refused(way, sealer, forged) is sealwax.CommitmentError


@pytest.mark.parametrize("way", WAYS)
def test_a_data_key_that_is_not_32_bytes(way: Way) -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    sealed = sealer.encrypt(b"secret", context=CONTEXT)
    for size in (0, 16, 31, 33, 64):
        forged = _rebuild(sealed, [wrap(ALPHA, b"k" * size, CONTEXT)])
        assert _refused(way, sealer, forged) is sealwax.DataKeyError


@pytest.mark.parametrize("way", WAYS)
def test_a_key_that_is_not_allowed(way: Way) -> None:
    sealed = sealwax.Sealer(FakeKeyring(FOREIGN)).encrypt(b"secret", context=CONTEXT)
    keyring = FakeKeyring(ALPHA)
    assert _refused(way, sealwax.Sealer(keyring), sealed) is sealwax.KeyNotAllowedError
    with pytest.raises(sealwax.KeyNotAllowedError):
        sealwax.Sealer(keyring).rewrap(sealed, to=ALPHA, context=CONTEXT)
    assert keyring.calls == []


@pytest.mark.parametrize("way", WAYS)
def test_a_relabelled_wrapped_key(way: Way) -> None:
    sealed = sealwax.Sealer(FakeKeyring(FOREIGN)).encrypt(b"secret", context=CONTEXT)
    key = header_of_value(sealed).slot.wrapped_keys[0]
    forged = _rebuild(sealed, [replace(key, key_arn=ALPHA)])
    assert _refused(way, sealwax.Sealer(FakeKeyring(ALPHA)), forged) is sealwax.WrappedKeyRefusedError


@pytest.mark.parametrize("way", WAYS)
def test_a_pair_that_the_file_moved_to_the_local_side_or_back(way: Way) -> None:
    keyring = FakeKeyring()
    sealed = sealwax.Sealer(keyring).encrypt(b"secret", context=CONTEXT)
    split = sealwax.Sealer(keyring, local_context=("table",)).encrypt(b"secret", context=CONTEXT)
    stored, local = ctx.encode(CONTEXT), ctx.encode({"purpose": "backup"})
    moved_away = _rebuild(sealed, kms_context=local, local_pairs=1)
    moved_back = _rebuild(split, kms_context=stored, local_pairs=0)
    keyring.calls.clear()
    plain = sealwax.Sealer(keyring)
    keeps_local = sealwax.Sealer(keyring, local_context=("table",))
    # A reader whose own list says otherwise stops before KMS is asked.
    assert _refused(way, plain, moved_away) is sealwax.ContextError
    assert _refused(way, keeps_local, moved_back) is sealwax.ContextError
    assert _refused(way, plain, split) is sealwax.ContextError
    assert _refused(way, keeps_local, sealed) is sealwax.ContextError
    assert keyring.calls == []
    # One whose list agrees with the moved file stops at the wrapped key, or else at the commitment.
    assert _refused(way, keeps_local, moved_away) is sealwax.WrappedKeyRefusedError
    assert _refused(way, plain, moved_back) is sealwax.WrappedKeyRefusedError
    # Even a data key that is wrapped again for the moved context does not help: the payload binds the split.
    secret = keyring.unwrap(header_of_value(sealed).slot.wrapped_keys, CONTEXT, lambda key: bytes(key.buffer))
    forged = _rebuild(moved_away, [wrap(ALPHA, secret, {"purpose": "backup"})])
    assert _refused(way, keeps_local, forged) is sealwax.CommitmentError


@pytest.mark.parametrize("way", WAYS)
def test_another_local_value(way: Way) -> None:
    sealer = sealwax.Sealer(FakeKeyring(), local_context=("id",))
    sealed = sealer.encrypt(b"secret", context=CONTEXT | {"id": "7"})
    assert way(sealer, sealed, CONTEXT | {"id": "7"}) == b"secret"
    assert _refused(way, sealer, sealed, CONTEXT | {"id": "8"}) is sealwax.CommitmentError
    assert b"id" not in sealed[: _body(sealed)]


@pytest.mark.parametrize("way", WAYS)
def test_other_bound_fields(way: Way) -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    sealed = sealer.encrypt(b"secret", context=CONTEXT)
    assert _refused(way, sealer, _rebuild(sealed, envelope_id=bytes(16))) is sealwax.CommitmentError


def test_verify_on_rewrap_finds_what_rewrap_cannot_see() -> None:
    keyring = FakeKeyring(ALPHA)
    sealer = sealwax.Sealer(keyring)
    one, two = (sealer.encrypt(b"secret", context=CONTEXT) for _ in range(2))
    forged = _rebuild(one, header_of_value(two).slot.wrapped_keys)
    sealer.rewrap(forged, to=BETA, context=CONTEXT)
    keyring.calls.clear()
    with pytest.raises(sealwax.CommitmentError):
        sealer.rewrap(forged, to=BETA, context=CONTEXT, verify=True)
    assert keyring.calls == ["Decrypt"]


def test_errors_show_nothing_that_the_caller_did_not(tmp_path: Path) -> None:
    keyring = FakeKeyring(new_key=lambda size: b"K" * size)
    sealer = sealwax.Sealer(keyring)
    secret, hidden = b"TOP-SECRET-TEXT", "hidden-value"
    sealed = sealer.encrypt(secret, context={"owner": hidden})
    broken = sealed[:-1] + bytes((sealed[-1] ^ 1,))
    path = tmp_path / "file.swx"
    path.write_bytes(broken)
    messages = []
    for act in (
        lambda: sealer.decrypt(sealed, context={"owner": "x"}),
        lambda: sealer.decrypt(sealed, context={"other": "x"}),
        lambda: sealer.decrypt(broken, context={"owner": hidden}),
        lambda: sealer.verify(path, context={"owner": hidden}),
        lambda: sealer.decrypt(sealed[:-20], context={"owner": hidden}),
        lambda: sealwax.Sealer(FakeKeyring(BETA)).decrypt(sealed, context={"owner": hidden}),
    ):
        with pytest.raises(SealwaxError) as caught:
            act()
        messages.append(f"{caught.value} {caught.value!r}")
    assert len(messages) == 6
    for message in messages:
        assert hidden not in message
        assert "TOP-SECRET" not in message
        assert "KKKK" not in message


# --- the parser


def _mutants(count: int, seeds: list[bytes], part: int = 0) -> Iterator[bytes]:
    """Yield ``count`` headers with random damage; half of them get right checksums, to reach the rules behind."""
    rng = random.Random(20261123 + part)
    sizes = (0, 1, 2, 35, 36, 63, 64, 255, 256, 8192, 8193, 65535)
    for n in range(count):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 260))
            kind = rng.randrange(6)
            if kind == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[at] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF))
            elif kind == 2:
                data[at : at + 2] = rng.choice(sizes).to_bytes(2, "big")
            elif kind == 3:
                del data[at : at + rng.randrange(1, 40)]
            elif kind == 4:
                data[at:at] = rng.randbytes(rng.randrange(1, 40))
            else:
                data[12:16] = rng.choice(sizes).to_bytes(2, "big") + rng.choice(sizes).to_bytes(2, "big")
            if not data:
                break
        yield _with_right_checksums(data) if n % 2 else bytes(data)


def _with_right_checksums(data: bytearray) -> bytes:
    if len(data) > 40:
        end = 36 + int.from_bytes(data[34:36], "big")
        data[end : end + 4] = crc = zlib.crc32(data[:end]).to_bytes(4, "big")
        offset, size = int.from_bytes(data[12:14], "big"), int.from_bytes(data[14:16], "big")
        for at in range(offset, min(len(data), offset + 2 * size), max(size, 1)):
            if size >= 64 and at + size <= len(data):
                data[at + size - 4 : at + size] = zlib.crc32(crc + data[at : at + size - 4]).to_bytes(4, "big")
    return bytes(data)


PARTS, IN_EACH = 4, 50_000


@pytest.mark.parametrize("part", range(PARTS))
def test_200_000_mutated_headers(part: int) -> None:
    assert PARTS * IN_EACH == 200_000

    def lay_out(keys: int, slots: int, pairs: dict[str, str]) -> bytes:
        wrapped = [WrappedKey(f"{ALPHA}{n}", b"c" * 60, b"m" * 32, 1) for n in range(keys)]
        return hdr.lay_out(
            envelope_id=b"i" * 16, kms_context=ctx.encode(pairs), local_pairs=1, wrapped_keys=wrapped, slot_count=slots
        ).to_bytes()

    small = [lay_out(1, 1, {}), lay_out(1, 1, CONTEXT), lay_out(3, 1, {"a": "b", "c": "d"})]
    seeds = small * 5 + [lay_out(1, 2, CONTEXT)]
    outcomes: Counter[str] = Counter()
    for data in _mutants(IN_EACH, seeds, part):
        try:
            header = hdr.read_header(io.BytesIO(data).read)
        except sealwax.HeaderError as error:
            outcomes[type(error).__name__] += 1
        else:
            # What is read can be written, and is the same header then.
            assert hdr.read_header(io.BytesIO(_canonical(header)).read).slot == header.slot
            outcomes["read"] += 1
    assert sum(outcomes.values()) == IN_EACH
    assert set(outcomes) == {"read", "DamagedHeaderError", "NotAnEnvelopeError", "UnsupportedEnvelopeError"}
    # The damage goes deep: many survive the checksums, and every class is met often.
    assert min(outcomes.values()) > 250


def _canonical(header: hdr.Header) -> bytes:
    return hdr.Header(header.preamble, (header.slot,) * len(header.slots)).to_bytes()


def test_no_header_takes_more_than_a_mebibyte() -> None:
    largest = hdr.Preamble(hdr.ATTACHED, 2, 65535, 65535, b"i" * 16, 0, ctx.encode({"k": "v" * 8185}))
    keys = tuple(WrappedKey(f"{'a' * 1800}{n}", b"c" * 2100, b"m" * 32, 1) for n in range(16))
    slot = hdr.Slot(1, keys)
    whole = hdr.Header(largest, (slot, slot)).to_bytes()
    seeds = [whole, whole[:-1], hdr.Header(largest, (slot, slot)).to_bytes().replace(b"\0\1", b"\xff\xff")]
    worst = 0
    tracemalloc.start()
    try:
        for data in [*seeds, *_mutants(300, seeds)]:
            source = io.BytesIO(data)
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            with contextlib.suppress(sealwax.HeaderError):
                hdr.read_header(source.read)
            worst = max(worst, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert 65535 < worst <= 1 << 20
