"""Look for secrets in another process's memory and in text: raw, and as a log or a wire would encode them."""

from __future__ import annotations

import base64
import mmap
from collections import Counter
from collections.abc import Iterator, Sequence
from io import RawIOBase
from pathlib import Path

# Read-only mappings of files hold what the files hold; a secret is where somebody wrote.
_WRITABLE = "w"


def forms(secret: bytes | bytearray) -> dict[bytes, str]:
    """Return what to look for: a whole secret cannot be there without its halves."""
    found = {}
    middle = len(secret) // 2
    for half in (bytes(secret[:middle]), bytes(secret[middle:])):
        found[half] = "raw"
        found[half.hex().encode()] = "hex"
        found[half.hex().upper().encode()] = "hex"
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            for shift in range(3):
                # Digits that share bits with what comes before or after are not known.
                text = encode(bytes(shift) + half).rstrip(b"=")
                first = -(-shift * 8 // 6)
                last = (shift + len(half)) * 8 // 6
                found[text[first:last]] = "base64"
    return found


def count(data: bytes, secrets: Sequence[bytes | bytearray]) -> Counter[str]:
    """Return how often halves of secrets are in ``data``, by their form."""
    hits: Counter[str] = Counter()
    for secret in secrets:
        for form, kind in forms(secret).items():
            if times := data.count(form):
                hits[kind] += times
    return hits


def memory(pid: int) -> Iterator[tuple[bytes, int]]:
    """Yield what each mapping holds that the process has written to or may have, and how much of it stays unread.

    Linux only. What is unread is in bytes: pages that nobody can read, such as those of a file that was cut off since.

    Raises:
        OSError: this process may not look into that one.
    """
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            if _WRITABLE in rights:
                start, end = (int(part, 16) for part in place.split("-"))
                yield read(file, start, end)


def read(file: RawIOBase, start: int, end: int) -> tuple[bytes, int]:
    """Return what can be read of a memory's bytes, and how many of them cannot."""
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
            # A read that meets such a page ends before it, or fails where it begins with it.
            after = min(end, (start // mmap.PAGESIZE + 1) * mmap.PAGESIZE)
            unread += after - start
            start = after
    return b"".join(parts), unread
