"""A context map has one byte form, and no other is read."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax._core import context as ctx
from sealwax.errors import ContextError
from tests.property.strategies import contexts, texts


def _encodable(pairs: dict[str, str]) -> bool:
    return sum(4 + len(k.encode()) + len(v.encode()) for k, v in pairs.items()) + 2 <= ctx.MAX_BYTES


@given(contexts.filter(_encodable))
def test_round_trip(pairs: dict[str, str]) -> None:
    data = ctx.encode(pairs)
    assert ctx.decode(data) == pairs
    assert ctx.encode(dict(reversed(pairs.items()))) == data


@given(st.binary(max_size=60))
def test_whatever_is_read_is_canonical(data: bytes) -> None:
    with contextlib.suppress(ContextError):
        assert ctx.encode(ctx.decode(data)) == data


@given(contexts.filter(_encodable), st.data())
def test_a_changed_form_is_another_map_or_refused(pairs: dict[str, str], data: st.DataObject) -> None:
    encoded = bytearray(ctx.encode(pairs))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    try:
        other = ctx.decode(bytes(encoded))
    except ContextError:
        return
    assert other != pairs
    assert ctx.encode(other) == encoded


def _raw(*pairs: tuple[bytes, bytes]) -> bytes:
    parts = [struct.pack(">H", len(pairs))]
    for key, value in pairs:
        parts += [struct.pack(">H", len(key)), key, struct.pack(">H", len(value)), value]
    return b"".join(parts)


@given(texts.filter(bool), texts.filter(bool))
def test_order_and_duplicates(one: str, two: str) -> None:
    first, last = sorted((one.encode(), two.encode()))
    if first == last:
        with pytest.raises(ContextError, match="order"):
            ctx.decode(_raw((first, b"1"), (last, b"2")))
    else:
        assert len(ctx.decode(_raw((first, b"1"), (last, b"2")))) == 2
        with pytest.raises(ContextError, match="order"):
            ctx.decode(_raw((last, b"2"), (first, b"1")))


REFUSED = {
    "no count": b"\0",
    "an empty key": _raw((b"", b"x")),
    "an empty key after another": _raw((b"a", b"x"), (b"", b"x")),
    "invalid UTF-8 in a key": _raw((b"\xff", b"x")),
    "invalid UTF-8 in a value": _raw((b"a", b"\xc0\x80")),
    "a surrogate": _raw((b"a", b"\xed\xa0\x80")),
    "a byte more": _raw((b"a", b"x")) + b"\0",
    "a byte less": _raw((b"a", b"x"))[:-1],
    "a pair less than counted": b"\0\2" + _raw((b"a", b"x"))[2:],
    "a count of 65": _raw(*((b"%03d" % n, b"") for n in range(65))),
    "8193 bytes": _raw((b"a", b"x" * 8186)),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_refused_forms(data: bytes) -> None:
    with pytest.raises(ContextError):
        ctx.decode(data)


def test_the_bounds_themselves_are_allowed() -> None:
    largest = {"a": "x" * (8192 - 7)}
    assert len(ctx.encode(largest)) == 8192
    assert ctx.decode(ctx.encode(largest)) == largest
    most = {f"{n:02}": "" for n in range(64)}
    assert ctx.decode(ctx.encode(most)) == most
    for too_much in ({"a": "x" * (8192 - 6)}, {f"{n:02}": "" for n in range(65)}, {"": "x"}, {"a": "\ud800"}):
        with pytest.raises(ContextError):
            ctx.encode(too_much)


def test_keys_are_sorted_by_bytes_and_not_normalised() -> None:
    # U+FF5E sorts below U+10000 as bytes and as code points, above it as UTF-16.
    assert list(ctx.decode(ctx.encode({"\U00010000": "", "\uff5e": ""}))) == ["\uff5e", "\U00010000"]
    assert ctx.encode({"é": ""}) != ctx.encode({"e\u0301": ""})
