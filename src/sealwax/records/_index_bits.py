"""How many bits a blind index should have: what it finds, and what it tells, for a number of rows.

The rule is that of CipherSweet (https://ciphersweet.paragonie.com/security, "Blind Index Information Leaks"): of R
rows, C = R / 2^bits have the index of a value by chance, and 2 <= C < sqrt(R). With fewer, equal indexes prove equal
values; with more, the index hardly helps.
"""

from __future__ import annotations

import math
from typing import Final

RULE: Final = "2 <= rows / 2^bits < sqrt(rows)"
SOURCE: Final = "https://ciphersweet.paragonie.com/security"


def suggested(rows: int) -> range:
    """Return the numbers of bits that the rule allows; none for fewer than 8 rows."""
    # In whole numbers, so that no large number is rounded: 4^bits > rows, and 2^(bits + 1) <= rows.
    least = (rows.bit_length() + 1) // 2 if rows else 0
    return range(least, rows.bit_length() - 1) if rows else range(0)


def others(rows: int, bits: int) -> float:
    """Return how many rows with other values have the index of a value, on average."""
    return math.ldexp(rows, -bits)


def alone(rows: int, bits: int) -> float:
    """Return the share of rows whose index no other value has, if no two rows have one value."""
    return math.exp(max(rows - 1, 0) * math.log1p(-math.ldexp(1, -bits)))


def first_repeated(bits: int) -> float:
    """Return at how many rows two different values have one index, with a probability of one half."""
    return math.sqrt(2 * math.log(2)) * 2 ** (bits / 2)
