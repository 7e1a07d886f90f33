"""What SHA-256, and HMAC with it, keep of a key: the state after the first block. It serves as the key does."""

from __future__ import annotations

import struct


def sha256_state(block: bytes) -> list[int]:
    """Return the state of SHA-256 after its first block: https://doi.org/10.6028/NIST.FIPS.180-4"""
    primes = [number for number in range(2, 312) if all(number % other for other in range(2, number))]
    constants = [fraction(prime, 3) for prime in primes]
    words = list(struct.unpack(">16I", block))
    for at in range(16, 64):
        low, high = words[at - 15], words[at - 2]
        low = turned(low, 7) ^ turned(low, 18) ^ low >> 3
        high = turned(high, 17) ^ turned(high, 19) ^ high >> 10
        words.append((words[at - 16] + low + words[at - 7] + high) & 0xFFFFFFFF)
    first = [fraction(prime, 2) for prime in primes[:8]]
    a, b, c, d, e, f, g, h = first
    for constant, word in zip(constants, words, strict=True):
        one = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + (e & f ^ ~e & g) + constant + word
        two = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (one + two) & 0xFFFFFFFF, a, b, c, (d + one) & 0xFFFFFFFF, e, f, g
    return [(old + new) & 0xFFFFFFFF for old, new in zip(first, (a, b, c, d, e, f, g, h), strict=True)]


def turned(word: int, by: int) -> int:
    return (word >> by | word << 32 - by) & 0xFFFFFFFF


def fraction(prime: int, root: int) -> int:
    """Return the first 32 bits behind the point of the square or cube root of a prime."""
    low, high = 0, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**root <= prime << 32 * root else (low, middle)
    return low & 0xFFFFFFFF
