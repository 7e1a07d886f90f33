"""Look for secrets in another process's memory and in text: raw, and as a log or a wire would encode them."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
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


def memory(pid: int) -> Iterator[bytes]:
    """Yield each mapping that the process has written to or may have. Linux only.

    Raises:
        OSError: this process may not look into that one.
    """
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
                pass  # a mapping that nobody can read, such as [vvar]
            yield b"".join(parts)
