"""A file system that fails, or a machine that stops, at the n-th thing a program does to it.

The functions of ``os``, ``fcntl`` and ``io`` that change files are wrapped in this process, so what is tested runs as
it is. Every call has two points, before it and after it. At the chosen point the process is killed, or the call reports
an error, once or from then on.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import signal
from collections.abc import Callable
from typing import Any, Final, Literal

Mode = Literal["count", "kill", "fail once", "fail from then on"]
SECTOR_BYTES: Final = 512

_OS_CALLS: Final = (
    "open",
    "pwrite",
    "pread",
    "write",
    "copy_file_range",
    "fsync",
    "ftruncate",
    "fchmod",
    "fchown",
    "utime",
    "link",
    "unlink",
    "rename",
    "replace",
)


class Faults:
    """Counts points; acts at ``at``. ``names`` holds what was called, in order."""

    def __init__(self, mode: Mode = "count", at: int = -1) -> None:
        self.mode = mode
        self.at = at
        self.points = 0
        self.names: list[str] = []
        self._acting = False

    def _point(self) -> None:
        here = self.points
        self.points += 1
        if self.mode == "kill" and here == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        if (self.mode == "fail once" and here == self.at) or (
            self.mode == "fail from then on" and here >= self.at >= 0
        ):
            raise OSError(errno.EIO, "injected")

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.names.append(name)
            self._point()
            if name == "open" and self.mode != "kill":
                self._point()  # what fails to open has made no file, so both points are before it
                return call(*args, **kwargs)
            result = call(*args, **kwargs)
            self._point()
            return result

        return wrapped

    def install(self) -> None:
        for name in _OS_CALLS:
            if hasattr(os, name):
                setattr(os, name, self.around(name, getattr(os, name)))
        fcntl.flock = self.around("flock", fcntl.flock)
        if hasattr(fcntl, "F_FULLFSYNC"):
            fcntl.fcntl = self.around("fsync", fcntl.fcntl)  # what macOS has for it
        faults = self

        class FileIO(io.FileIO):
            def __init__(self, file: Any, mode: str, **more: Any) -> None:
                if isinstance(file, int):  # it is open already
                    super().__init__(file, mode, **more)
                else:
                    faults.around("open", super().__init__)(file, mode, **more)

            def write(self, data: Any, /) -> Any:
                return faults.around("write", super().write)(data)

            def close(self) -> None:
                if self.closed:
                    super().close()
                else:
                    faults.around("close", super().close)()

        io.FileIO = FileIO  # type: ignore[assignment,misc]


def tear(at_write: int, sectors: slice) -> None:
    """At the n-th ``os.pwrite``, bring only these sectors of its data to the file, and die."""
    real = os.pwrite
    seen = 0

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal seen
        if seen == at_write:
            for at in range(0, len(data), SECTOR_BYTES)[sectors]:
                real(descriptor, data[at : at + SECTOR_BYTES], offset + at)
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1
        return real(descriptor, data, offset)

    os.pwrite = pwrite  # type: ignore[assignment]


def misread(at_read: int) -> None:
    """At the n-th ``os.pread``, return a changed byte."""
    real = os.pread
    seen = 0

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal seen
        data = bytearray(real(descriptor, size, offset))
        if seen == at_read:
            data[0] ^= 1
        seen += 1
        return bytes(data)

    os.pread = pread


def write_little(most: int) -> None:
    """Let every write to a file take at most so many bytes."""
    real_pwrite, real_write = os.pwrite, os.write
    os.pwrite = lambda descriptor, data, offset: real_pwrite(descriptor, memoryview(data)[:most], offset)
    os.write = lambda descriptor, data: real_write(descriptor, memoryview(data)[:most])
