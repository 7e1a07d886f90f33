"""How many bits an index should have: the rule, the tables of the page, and chance itself."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from sealwax.records import MemoryKeys, Records
from sealwax.records._index_bits import alone, first_repeated, others, suggested
from tests.fakes import FakeKeyring

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "blind-indexes.md"
ROWS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
BITS = (4, 8, 12, 16, 20, 24, 32, 64, 128)


def share(number: float) -> str:
    return "all" if number > 0.9995 else "none" if number < 0.0005 else f"{number:.1%}"


def rough(number: float) -> str:
    return "0" if number < 0.01 else f"{number:.2g}" if number < 10 else f"{number:,.0f}"


def table(cell: object) -> str:
    assert callable(cell)
    return "".join(f"| {bits} | {' | '.join(cell(rows, bits) for rows in ROWS)} |\n" for bits in BITS)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("table", lambda rows, bits: share(alone(rows, bits))),
        ("others", lambda rows, bits: rough(others(rows, bits))),
    ],
)
def test_the_tables_of_the_page_are_computed(name: str, cell: object) -> None:
    match = re.search(
        rf"<!-- {name}: begin -->\n.*\n\|---.*\n((?:\|.*\n)+)<!-- {name}: end -->", PAGE.read_text("utf-8")
    )
    assert match
    assert match[1] == table(cell)


def test_the_rule_is_followed_for_every_number_of_rows() -> None:
    for rows in (*range(3000), 50_000, 10**6, 2**40 - 1, 2**40, 2**40 + 1, 10**15):
        assert list(suggested(rows)) == [bits for bits in range(60) if 2 << bits <= rows < 4**bits]
    assert (suggested(50_000)[0], suggested(50_000)[-1]) == (8, 14)


def test_chance_agrees() -> None:
    """Of indexes that are drawn at random, as many are alone and repeated as is computed."""
    draw = random.Random(7)
    rows, bits = 2000, 11
    counts = [Counter(draw.randrange(1 << bits) for _ in range(rows)) for _ in range(30)]
    seen = sum(count == 1 for each in counts for count in each.values()) / (30 * rows)
    assert seen == pytest.approx(alone(rows, bits), rel=0.05)
    found = sum(count * (count - 1) for each in counts for count in each.values()) / (30 * rows)
    assert found == pytest.approx(others(rows, bits), rel=0.05)
    first = sorted(repeats(draw, 16) for _ in range(400))[200]
    assert first == pytest.approx(first_repeated(16), rel=0.15)
    assert round(first_repeated(32), -3) == 77_000


@pytest.mark.parametrize(("rows", "bits"), [(1_000, 8), (1_000, 12), (10_000, 12), (10_000, 16), (20_000, 8)])
def test_real_indexes_tell_as_much_as_the_tables_say(rows: int, bits: int) -> None:
    """Of real indexes of different values, with three keys, and not of numbers that are drawn."""
    told, found = 0, 0
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as records:
        for tenant in ("acme", "evil", "other"):
            index = records.index("users.email", bits=bits, tenant=tenant)
            counts = Counter(index.of_many(f"name.{number}@example.com" for number in range(rows)))
            assert counts.total() == rows
            assert len(counts) <= 1 << bits
            told += sum(count == 1 for count in counts.values())
            found += sum(count * (count - 1) for count in counts.values())
    # Six standard deviations, as of independent rows and of independent pairs.
    share, pairs = alone(rows, bits), 3 * rows * others(rows, bits) / 2
    assert told / (3 * rows) == pytest.approx(share, abs=6 * (share * (1 - share) / (3 * rows)) ** 0.5)
    assert found / 2 == pytest.approx(pairs, abs=6 * pairs**0.5)


def repeats(draw: random.Random, bits: int) -> int:
    seen: set[int] = set()
    while len(seen) < (number := len(seen) + 1):
        seen.add(draw.randrange(1 << bits))
        if len(seen) < number:
            break
    return len(seen)
