"""Put another process back to where it was: its memory and registers, as a restored snapshot of its machine would.

Since glibc 2.41, getrandom() keeps a state in memory that the kernel may drop at any time. It draws a new one once the
kernel has new randomness, which a restored machine has (VMGENID). Such memory is zero after a restore.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.memory.scan import ATTACH, DETACH, GET_REGISTER_SET, REGISTER_SETS, Buffer, ptrace

_SET_REGISTER_SET = 0x4205
_GENERAL_REGISTERS = 1
# The number of the system call read, which is 0 on x86-64 and 63 on ARM.
_READ = "0" if os.uname().machine == "x86_64" else "63"
_KINDS = tuple(sorted({_GENERAL_REGISTERS, *REGISTER_SETS}))


@dataclass(frozen=True)
class Snapshot:
    """The writable mappings, what they hold by address, and each kind of the main thread's registers."""

    mappings: tuple[tuple[int, int], ...]
    memory: dict[int, bytes]
    registers: dict[int, bytes]


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """Hold the main thread while it waits for input, where it is known to be."""
    for _ in range(3000):
        if Path(f"/proc/{pid}/syscall").read_text().split()[:2] == [_READ, "0x0"]:
            break
        time.sleep(0.01)
    else:
        raise AssertionError("the process never came to wait for input")
    ptrace(ATTACH, pid)
    try:
        os.waitpid(pid, 0)
        yield
    finally:
        ptrace(DETACH, pid)


def _mappings(pid: int) -> tuple[tuple[int, int], ...]:
    return tuple(place for place, rights, _ in _all_mappings(pid) if rights.startswith("rw"))


def _droppable(pid: int) -> Iterator[tuple[int, int]]:
    return (place for place, _, flags in _all_mappings(pid) if "dp" in flags)


def _all_mappings(pid: int) -> Iterator[tuple[tuple[int, int], str, list[str]]]:
    """Yield the place, the rights and the flags of each mapping: https://docs.kernel.org/filesystems/proc.html"""
    place, rights = (0, 0), ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ", line):
            place, rights = (int(match[1], 16), int(match[2], 16)), match[3]
        elif line.startswith("VmFlags:"):
            yield place, rights, line.split()[1:]


def _parts(file: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Read a mapping around its guard pages, which hold nothing; glibc 2.42 and later has one in each stack."""
    while start < end:
        try:
            part = os.pread(file, end - start, start)
        except OSError:
            start += mmap.PAGESIZE
            continue
        yield start, part
        start += len(part)


def take(pid: int) -> Snapshot:
    with _stopped(pid), Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        mappings = _mappings(pid)
        memory = dict(part for start, end in mappings for part in _parts(file.fileno(), start, end))
        registers = {}
        for kind in _KINDS:
            space = ctypes.create_string_buffer(1 << 14)
            buffer = Buffer(ctypes.addressof(space), len(space))
            ptrace(GET_REGISTER_SET, pid, kind, ctypes.cast(ctypes.pointer(buffer), ctypes.c_void_p))
            registers[kind] = space.raw[: buffer.size]
    assert sum(map(len, memory.values())) > 1 << 20
    return Snapshot(mappings, memory, registers)


def restore(pid: int, snapshot: Snapshot) -> None:
    with _stopped(pid), Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as file:
        assert _mappings(pid) == snapshot.mappings, "the process has mapped other memory since"
        for start, data in snapshot.memory.items():
            assert os.pwrite(file.fileno(), data, start) == len(data)
        for start, end in _droppable(pid):
            os.pwrite(file.fileno(), bytes(end - start), start)
        for kind, data in snapshot.registers.items():
            space = ctypes.create_string_buffer(data, len(data))
            buffer = Buffer(ctypes.addressof(space), len(data))
            ptrace(_SET_REGISTER_SET, pid, kind, ctypes.cast(ctypes.pointer(buffer), ctypes.c_void_p))
