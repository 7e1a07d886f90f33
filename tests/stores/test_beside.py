"""Which objects have no instruction file, by listings: nothing that a page does not show counts as missing."""

from __future__ import annotations

import random

import pytest

from sealwax.stores.s3._beside import Beside

ENDS = ("", "!", "-1", "-1.instruction", ".instruction", ".instruction.instruction", "/", "0", "\U0001f642")
# Every page may end between a key and its instruction file.
KEYS = sorted({begin + end for begin in ("a", "a-1", "b", "\uffff") for end in ENDS})


@pytest.mark.parametrize("size", range(1, 9))
def test_only_what_is_missing_is_told(size: int) -> None:
    chance = random.Random(size)
    told = 0
    for _ in range(200):
        there = sorted(key for key in KEYS if chance.random() < 0.6)
        beside = Beside()
        pages = [there[at : at + size] for at in range(0, len(there), size)]
        for number, page in enumerate(pages, 1):
            beside.note("bucket", page, more=number < len(pages))
        for key in there:
            if beside.has_none("bucket", key):
                told += 1
                assert key + ".instruction" not in there
        assert not any(beside.has_none("bucket", key) for key in KEYS if key not in there)
        assert not any(beside.has_none("another", key) for key in KEYS)
    assert told >= 200


def test_nearly_all_are_told() -> None:
    """Of a page, only what its last key begins with is left open."""
    beside = Beside()
    keys = [f"o/{number:03}" for number in range(1000)]
    beside.note("bucket", keys, more=True)
    assert [key for key in keys if not beside.has_none("bucket", key)] == keys[-1:]


def test_it_is_believed_for_minutes_only_and_bounded() -> None:
    now = [0.0]
    beside = Beside(lambda: now[0])
    beside.note("bucket", ["a"], more=False)
    now[0] = 299
    assert beside.has_none("bucket", "a")
    now[0] = 300
    assert not beside.has_none("bucket", "a")
    beside.note("bucket", [f"{number:05}" for number in range(20_000)], more=False)
    assert sum(beside.has_none("bucket", f"{number:05}") for number in range(20_000)) == 8192


def test_what_is_not_sorted_tells_nothing() -> None:
    beside = Beside()
    beside.note("bucket", ["b", "a"], more=False)
    beside.note("name--use1-az1--x-s3", ["a", "b"], more=False)
    assert not any(beside.has_none(bucket, "a") for bucket in ("bucket", "name--use1-az1--x-s3"))
