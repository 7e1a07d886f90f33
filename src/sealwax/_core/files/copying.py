"""From one file to the other, each a path or a file object."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from typing import BinaryIO, Final, TypeVar, cast

from sealwax._core import validate
from sealwax._core.files.reading import InputFile
from sealwax._core.files.whole import WholeFile
from sealwax._core.sources import AnyPath

T = TypeVar("T")

COPY_BYTES: Final = 1 << 20


def copy_rest(source: io.FileIO, target: io.FileIO, offset: int) -> None:
    """Append everything in ``source`` from ``offset`` on to ``target``, inside the kernel if possible."""
    if hasattr(os, "copy_file_range"):
        try:
            os.lseek(source.fileno(), offset, os.SEEK_SET)
            while (size := os.copy_file_range(source.fileno(), target.fileno(), 1 << 30)) > 0:
                offset += size
            return
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
    while data := os.pread(source.fileno(), COPY_BYTES, offset):
        offset += len(data)
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                done += os.write(target.fileno(), view[done:])


def copy_between(
    source: AnyPath | BinaryIO,
    output: AnyPath | BinaryIO,
    copy: Callable[[BinaryIO, BinaryIO | WholeFile], None],
) -> None:
    """Call ``copy(source, output)`` with open files; the file at an output path appears whole or not at all."""
    if isinstance(source, str | os.PathLike):
        with InputFile(source) as file:
            copy_between(cast("BinaryIO", file), output, copy)
    elif isinstance(output, str | os.PathLike):
        with WholeFile(output, overwrite=True) as whole:
            copy(validate.file(source, "read"), whole)
    else:
        copy(validate.file(source, "read"), validate.file(output, "write"))


def use_input(file: AnyPath | BinaryIO, use: Callable[[BinaryIO, Callable[[], None] | None], T]) -> T:
    """Return ``use(file, on_close)``; a path is opened, and closed by ``on_close`` or if ``use`` fails."""
    if not isinstance(file, str | os.PathLike):
        return use(validate.file(file, "read"), None)
    opened = InputFile(file)
    try:
        return use(cast("BinaryIO", opened), opened.close)
    except BaseException:
        opened.close()
        raise
