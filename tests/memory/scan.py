"""Look for secrets in another process's memory, raw and in the encodings that a log or a wire would give them."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# Read-only mappings of files hold what the files hold; a secret is where somebody wrote.
_WRITABLE = "w"


def forms(secret: bytes) -> dict[bytes, str]:
    """Return what to look for: a whole secret cannot be there without its halves."""
    found = {}
    middle = len(secret) // 2
    for half in (secret[:middle], secret[middle:]):
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


def count(data: bytes, secrets: list[bytes]) -> Counter[str]:
    hits: Counter[str] = Counter()
    for secret in secrets:
        for form, kind in forms(secret).items():
            if times := data.count(form):
                hits[kind] += times
    return hits


def memory(pid: int) -> Iterator[bytes]:
    """Yield each mapping that the process has written to or may have."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            if _WRITABLE not in rights:
                continue
            start, end = (int(part, 16) for part in place.split("-"))
            parts = []
            try:
                file.seek(start)
                while start < end and (part := file.read(end - start)):
                    parts.append(part)
                    start += len(part)
            except OSError:
                pass
            yield b"".join(parts)


def process(pid: int, secrets: list[bytes]) -> Counter[str]:
    hits: Counter[str] = Counter()
    size = 0
    for data in memory(pid):
        size += len(data)
        hits += count(data, secrets)
    assert size > 1 << 20, "the process's memory could not be read"
    return hits
