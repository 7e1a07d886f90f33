"""asyncio: the same code, run where it does not block the event loop.

A small value under a cached data key is handled at once. Everything that takes long, or may wait for KMS or a disk,
goes to a thread. Cancelling a task ends its waiting but not the thread's work: others may wait for the same KMS call.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import io
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from sealwax._core import fork_locks
from sealwax._core.format.io import refuse_copies
from sealwax._core.keyring import asked_at, now

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from sealwax._core.format.stream import StreamWriter

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return ``work(...)``, run in a thread, or in this one while the interpreter ends and no thread takes work."""
    token = asked_at.set(now())
    try:
        call = functools.partial(contextvars.copy_context().run, work, *args, **kwargs)
        begun: asyncio.Future[T] | None = None
        # Exit handlers run after the main thread has ended.
        if threading.main_thread().is_alive():
            with contextlib.suppress(RuntimeError):
                begun = asyncio.get_running_loop().run_in_executor(None, call)
        return call() if begun is None else await begun
    finally:
        asked_at.reset(token)


class AsyncFile:
    """A file of plaintext whose methods are coroutines, for ``async with``; ``Sealer.open_async`` returns it.

    Leaving the block by an exception, including a cancellation, abandons what was being written.

    Example:
        >>> async with sealer.open_async("backup.tar.swx", context={"purpose": "backup"}) as file:
        ...     data = await file.read()
    """

    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(self, opening: Callable[[], io.BufferedReader | StreamWriter]) -> None:
        self._opening = opening
        self._file: io.BufferedReader | StreamWriter | None = None
        # The operation of a cancelled task may still be running in its thread; the next one waits for it there.
        self._lock = threading.Lock()
        fork_locks.renew_lock_in_children(self)

    def _locked(self, work: Callable[[io.BufferedReader | StreamWriter], T]) -> T:
        with self._lock:
            if self._file is None:
                raise ValueError("the file is not open; use it with 'async with'")
            return work(self._file)

    def _open(self) -> None:
        with self._lock:
            self._file = self._opening()

    async def __aenter__(self) -> Self:
        opening = asyncio.ensure_future(in_thread(self._open))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread cannot be stopped; once the file is open, it is closed.
            opening.add_done_callback(self._forget)
            raise
        return self

    def _forget(self, opening: asyncio.Future[None]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            asyncio.get_running_loop().run_in_executor(None, self._finish, False)

    async def __aexit__(self, kind: object, *_: object) -> None:
        await asyncio.shield(in_thread(self._finish, kind is None))

    def _finish(self, complete: bool) -> None:
        def finish(file: io.BufferedReader | StreamWriter) -> None:
            if complete or isinstance(file, io.BufferedReader):
                file.close()
            else:
                file.abandon()

        self._locked(finish)

    async def read(self, size: int = -1) -> bytes:
        """Read plaintext.

        Args:
            size: how many bytes at most; by default all that are left.

        Returns:
            The bytes; empty at the end.

        Raises:
            FileError, TamperedError, ValueError: as for the file of ``Sealer.open``.
        """
        return await in_thread(self._locked, lambda file: file.read(size) or b"")

    async def readinto(self, buffer: WriteableBuffer) -> int:
        """Read plaintext into a buffer.

        Args:
            buffer: what to fill.

        Returns:
            How many bytes were read; 0 at the end.

        Raises:
            FileError, TamperedError, ValueError: as for the file of ``Sealer.open``.
        """
        return await in_thread(self._locked, lambda file: file.readinto(buffer) or 0)

    async def write(self, data: ReadableBuffer) -> int:
        """Write plaintext.

        Args:
            data: all of it is written; it must not change until this returns.

        Returns:
            How many bytes were written.

        Raises:
            FileError, ValueError: as for the file of ``Sealer.open``.
        """
        return await in_thread(self._locked, lambda file: file.write(data))

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position in the plaintext.

        Args:
            offset, whence: as for ``io.IOBase.seek``.

        Returns:
            The new position.

        Raises:
            ValueError: the position is before the start.
        """
        return await in_thread(self._locked, lambda file: file.seek(offset, whence))

    async def tell(self) -> int:
        """Get the current position.

        Returns:
            The position in the plaintext.
        """
        return await in_thread(self._locked, lambda file: file.tell())

    async def close(self) -> None:
        """Finish the file, as the end of ``async with`` does.

        Raises:
            FileError: the last part could not be written, and the file at a path did not appear.
        """
        await asyncio.shield(in_thread(self._finish, True))
