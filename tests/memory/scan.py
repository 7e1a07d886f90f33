"""Look for secrets in another process's memory, raw and in the encodings that a log or a wire would give them.

Registers are looked at too: what is in them gets into memory with the next signal, or with the first call of a
function that the dynamic linker has yet to find, both of which save them on the stack.
"""

from __future__ import annotations

import base64
import ctypes
import os
import platform
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


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long
# From <sys/ptrace.h>, <elf.h> and <sys/wait.h>: the vector registers are in the first set on x86, in the second on ARM.
ATTACH, DETACH, GET_REGISTER_SET = 16, 17, 0x4204
REGISTER_SETS = (0x202,) if platform.machine() == "x86_64" else (1, 2)
_ANY_THREAD = 0x40000000


class Buffer(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


def ptrace(request: int, thread: int, kind: int = 0, data: ctypes.c_void_p | None = None) -> None:
    if _libc.ptrace(request, thread, kind, data) == -1:
        raise OSError(ctypes.get_errno(), "ptrace")


def registers(pid: int) -> Iterator[bytes]:
    """Yield the registers of each of the process's threads, with the vector registers."""
    for thread in map(int, os.listdir(f"/proc/{pid}/task")):
        ptrace(ATTACH, thread)
        try:
            os.waitpid(thread, _ANY_THREAD)
            for kind in REGISTER_SETS:
                space = ctypes.create_string_buffer(1 << 14)
                buffer = Buffer(ctypes.addressof(space), len(space))
                ptrace(GET_REGISTER_SET, thread, kind, ctypes.cast(ctypes.pointer(buffer), ctypes.c_void_p))
                yield space.raw[: buffer.size]
        finally:
            ptrace(DETACH, thread)


def process(pid: int, secrets: list[bytes]) -> Counter[str]:
    hits: Counter[str] = Counter()
    size = 0
    for data in memory(pid):
        size += len(data)
        hits += count(data, secrets)
    for data in registers(pid):
        assert data
        hits.update({f"{kind} in a register": times for kind, times in count(data, secrets).items()})
    assert size > 1 << 20, "the process's memory could not be read"
    return hits
