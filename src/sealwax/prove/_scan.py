"""Searches another process's memory, and text, for secrets: raw, hexadecimal and base64."""

from __future__ import annotations

import base64
import mmap
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from io import RawIOBase
from pathlib import Path

# A secret can only be where the process can write.
_WRITABLE = "w"
# A guard page, in /proc/PID/pagemap since Linux 6.15: https://docs.kernel.org/admin-guide/mm/pagemap.html
_GUARD = 1 << 58
_ENTRY_BYTES = 8


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

    Linux only. Some pages cannot be read, such as those of a file that was truncated. Guard pages do not count: they
    hold nothing, and glibc 2.42 and later has one within the mapping of each thread's stack.

    Raises:
        OSError: this process may not read that one's memory.
    """
    with (
        Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file,
        Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pages,
    ):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            if _WRITABLE in rights:
                start, end = (int(part, 16) for part in place.split("-"))
                yield read(file, start, end, pages)


def read(file: RawIOBase, start: int, end: int, pages: RawIOBase | None = None) -> tuple[bytes, int]:
    """Return the readable bytes of a range of memory, and how many cannot be read.

    Args:
        pages: the process's page map, which tells guard pages; without it, they count as unreadable.
    """
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
            if pages is None or not _is_guard(pages, start // mmap.PAGESIZE):
                unread += after - start
            start = after
    return b"".join(parts), unread


def _is_guard(pages: RawIOBase, number: int) -> bool:
    pages.seek(number * _ENTRY_BYTES)
    return bool(int.from_bytes(pages.read(_ENTRY_BYTES) or b"", sys.byteorder) & _GUARD)
