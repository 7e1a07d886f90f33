"""A data key shows itself to nobody, and goes when its owner is done."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax._core.keyring import DataKey

WAYS_OUT: dict[str, Callable[[DataKey], object]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "equal": lambda key: key == key,
    "not equal": lambda key: key != DataKey(bytearray(32)),
    "hash": hash,
    "bytes": lambda key: bytes(key),  # type: ignore[call-overload]
    "bytearray": lambda key: bytearray(key),  # type: ignore[call-overload]
    "memoryview": lambda key: memoryview(key),  # type: ignore[arg-type]
    "len": lambda key: len(key),  # type: ignore[arg-type]
    "index": lambda key: key[0],  # type: ignore[index]
    "iterate": lambda key: list(key),  # type: ignore[call-overload]
    "json": json.dumps,
    "less": lambda key: key < key,  # type: ignore[operator]
    **{f"pickle {n}": lambda key, n=n: pickle.dumps(key, n) for n in range(pickle.HIGHEST_PROTOCOL + 1)},  # type: ignore[misc]
}


@pytest.mark.parametrize("way", WAYS_OUT.values(), ids=WAYS_OUT.keys())
def test_no_way_out(way: Callable[[DataKey], object]) -> None:
    with DataKey(bytearray(b"S" * 32)) as key, pytest.raises(TypeError):
        way(key)


def test_it_has_no_attributes_but_the_loan() -> None:
    key = DataKey(bytearray(b"S" * 32))
    assert not hasattr(key, "__dict__")
    assert {name for name in dir(key) if not name.startswith("_")} <= {"buffer", "close", "duplicate"}


@given(st.binary(min_size=32, max_size=32))
def test_it_is_not_printed(secret: bytes) -> None:
    key = DataKey(bytearray(secret))
    for text in (repr(key), str(key), f"{key}", f"{key!r:>20}", f"{[key]}"):
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text


@given(st.binary(min_size=32, max_size=32))
def test_it_is_wiped_in_place(secret: bytes) -> None:
    closed, left, dropped = bytearray(secret), bytearray(secret), bytearray(secret)
    key = DataKey(closed)
    assert key.buffer is closed
    key.close()
    key.close()
    with DataKey(left):
        assert left == secret
    DataKey(dropped)
    assert closed == left == dropped == bytes(32)
    with pytest.raises(ValueError, match="wiped"):
        _ = key.buffer


@given(st.binary(max_size=70).filter(lambda data: len(data) != 32))
def test_another_length_is_refused_and_wiped(secret: bytes) -> None:
    buffer = bytearray(secret)
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey(buffer)
    assert not any(buffer)
