"""Keeps what can be read once only, still encrypted, in a temporary file: other formats are read twice."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from typing import BinaryIO, cast

from sealwax._core.envelope import read_full
from sealwax._core.files import COPY_BYTES, reported

OnClose = Callable[[], None] | None


def reading(file: BinaryIO, first: bytes) -> Callable[[int], bytes]:
    """Return what reads a file from its start; it returns fewer bytes than asked for only at the end.

    Args:
        first: the file's first bytes, which have been read already.
    """
    ahead = io.BytesIO(first)

    def read(size: int) -> bytes:
        begun = ahead.read(size)
        return begun + read_full(file, size - len(begun))

    return read


def copied(file: BinaryIO, what: str) -> BinaryIO:
    """Copy the rest of a file to a temporary file without a name; return that, at its end.

    Args:
        what: such as ``"message"``, for the error.

    Raises:
        FileError: the temporary file cannot be written.
    """
    doing, place = f"copying a {what} to a temporary file in", tempfile.gettempdir()
    with reported(doing, place):
        spool = tempfile.TemporaryFile()  # noqa: SIM115  # the caller's
    try:
        while part := file.read(COPY_BYTES):
            with reported(doing, place):
                spool.write(part)
    except BaseException:
        spool.close()
        raise
    return cast("BinaryIO", spool)


def closing(spool: BinaryIO, on_close: OnClose) -> Callable[[], None]:
    """Return what closes a copy, and then calls ``on_close``."""

    def close() -> None:
        spool.close()
        if on_close is not None:
            on_close()

    return close
