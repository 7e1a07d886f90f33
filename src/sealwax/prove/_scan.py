"""Searches another process's memory, and text, for secrets: raw, hexadecimal and base64."""

from __future__ import annotations

import base64
import mmap
from collections import Counter
from collections.abc import Iterator, Sequence
from io import RawIOBase
from pathlib import Path

# A secret can only be where the process can write.
_WRITABLE = "w"


def forms(secret: bytes | bytearray) -> dict[bytes, str]:
    """Return the byte strings to look for: the encoded halves of a secret. A copy of it contains both."""
    forms = {}
    middle = len(secret) // 2
    for half in (bytes(secret[:middle]), bytes(secret[middle:])):
        forms[half] = "raw"
        forms[half.hex().encode()] = "hex"
        forms[half.hex().upper().encode()] = "hex"
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            for shift in range(3):
                # The first and last digits share bits with unknown neighbors.
                text = encode(bytes(shift) + half).rstrip(b"=")
                first = -(-shift * 8 // 6)
                last = (shift + len(half)) * 8 // 6
                forms[text[first:last]] = "base64"
    return forms


def count(data: bytes, secrets: Sequence[bytes | bytearray]) -> Counter[str]:
    """Return how often halves of secrets are in ``data``, by encoding."""
    hits: Counter[str] = Counter()
    for secret in secrets:
        for form, kind in forms(secret).items():
            if times := data.count(form):
                hits[kind] += times
    return hits


def memory(pid: int) -> Iterator[tuple[bytes, int]]:
    """Yield the content of each writable mapping of a process, and how many of its bytes cannot be read.

    Linux only. Some pages cannot be read, such as those of a file that was truncated.

    Raises:
        OSError: this process may not read that one's memory.
    """
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            if _WRITABLE in rights:
                start, end = (int(part, 16) for part in place.split("-"))
                yield read(file, start, end)


def read(file: RawIOBase, start: int, end: int) -> tuple[bytes, int]:
    """Return the readable bytes of a range of memory, and how many cannot be read."""
    parts = []
    unread = 0
    while start < end:
        try:
            file.seek(start)
            part = file.read(end - start) or b""
        except OSError:
            part = b""
        if part:
            parts.append(part)
            start += len(part)
        else:
            # A read ends before such a page, or fails if it starts with one.
            after = min(end, (start // mmap.PAGESIZE + 1) * mmap.PAGESIZE)
            unread += after - start
            start = after
    return b"".join(parts), unread
