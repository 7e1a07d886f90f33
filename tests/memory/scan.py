"""Look for secrets in another process's memory and registers.

Registers are looked at too: what is in them gets into memory with the next signal, or with the first call of a
function that the dynamic linker has yet to find, both of which save them on the stack.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator

from sealwax.prove._scan import count, memory

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


def whole(pid: int) -> list[bytes]:
    """Return all of a process's memory; a thread of it that is just ending takes its stack away meanwhile."""
    for _ in range(100):
        found = list(memory(pid))
        if not any(unread for _, unread in found):
            return [data for data, _ in found]
        time.sleep(0.1)
    raise AssertionError("some of the process's memory cannot be read")


def process(pid: int, secrets: dict[str, list[bytes]]) -> Counter[str]:
    """Count the secrets of each kind in all of a process's memory and registers, which are read once."""
    hits: Counter[str] = Counter()

    def look(data: bytes, where: str) -> None:
        for kind, of_kind in secrets.items():
            hits.update({f"{kind} {form}{where}": times for form, times in count(data, of_kind).items()})

    size = 0
    for data in whole(pid):
        size += len(data)
        look(data, "")
    for data in registers(pid):
        assert data
        look(data, " in a register")
    assert size > 1 << 20, "the process's memory could not be read"
    return hits
