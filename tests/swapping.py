"""Somebody who changes a folder at one chosen moment of what a program does there: before its n-th system call.

The functions of ``os`` and ``io`` that take a path are wrapped in this process, so what is tested runs as it is.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

_CALLS: Final = ("open", "stat", "lstat", "mkdir", "link", "unlink", "rename", "replace", "scandir", "readlink")


class _Moments:
    def __init__(self, folder: Path, besides: Path, at: int, swap: Callable[[], None]) -> None:
        self._folder, self._at, self._swap = os.fspath(folder), at, swap
        self._besides = besides.stat()
        self.met = 0

    def before(self, place: Any, named: dict[str, Any]) -> None:
        opened = named.get("dir_fd", named.get("src_dir_fd"))
        inside = opened is not None and not os.path.samestat(os.fstat(opened), self._besides)
        if inside or os.path.abspath(os.fspath(place)).startswith(self._folder):
            here, self.met = self.met, self.met + 1
            if here == self._at:
                self._swap()

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(place: Any = ".", *args: Any, **named: Any) -> Any:
            self.before(place, named)
            return call(place, *args, **named)

        return wrapped


@contextlib.contextmanager
def _wrapped(moments: _Moments) -> Iterator[None]:
    class FileIO(io.FileIO):
        def __init__(self, file: Any, mode: str = "r", **more: Any) -> None:
            if not isinstance(file, int) and more.get("opener") is None:
                moments.before(file, {})
            super().__init__(file, mode, **more)

    with pytest.MonkeyPatch.context() as patch:
        for name in _CALLS:
            patch.setattr(os, name, moments.around(getattr(os, name)))
        patch.setattr(io, "FileIO", FileIO)
        yield


def at_every_moment(
    folder: Path, besides: Path, prepare: Callable[[], None], swap: Callable[[], None], act: Callable[[], object]
) -> Iterator[int]:
    """Yield each moment after ``prepare`` and ``act`` were done with ``swap`` in that moment.

    Moments are the system calls that name a place from ``folder`` on, or one in an open folder other than ``besides``;
    what ``swap`` does itself is not counted.
    """
    at = 0
    while True:
        prepare()
        moments: _Moments

        def unseen() -> None:
            met = moments.met  # noqa: B023  of this round
            with contextlib.suppress(OSError):  # it came too late: what it would change has moved on
                swap()
            moments.met = met  # noqa: B023

        moments = _Moments(folder, besides, at, unseen)
        with _wrapped(moments):
            act()
        if moments.met <= at:
            return
        yield at
        at += 1
