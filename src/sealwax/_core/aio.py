"""asyncio: the same code, run where it does not hold up the event loop.

What is ready at once is done at once: a small value under a data key that is in the cache. Everything that may wait,
for KMS or for a disk, or that takes a while, goes to a thread. Cancelling a task ends its waiting, not the thread's
work, so a KMS call that others wait for as well goes on for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import io
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from sealwax._core import fork_locks
from sealwax._core.format.io import refuse_copies
from sealwax._core.keyring import asked_at, now

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return ``work(...)``, done in a thread; here and now while the interpreter ends, when no thread takes work."""
    token = asked_at.set(now())
    try:
        call = functools.partial(contextvars.copy_context().run, work, *args, **kwargs)
        begun: asyncio.Future[T] | None = None
        # Exit handlers run when the main thread is over.
        if threading.main_thread().is_alive():
            with contextlib.suppress(RuntimeError):
                begun = asyncio.get_running_loop().run_in_executor(None, call)
        return call() if begun is None else await begun
    finally:
        asked_at.reset(token)


class AsyncFile:
    """A file of plaintext, as ``Sealer.open`` returns it, but all coroutines; used with ``async with``.

    Leaving the block by an exception, a cancellation included, abandons what was being written.
    """

    __copy__ = __reduce_ex__ = refuse_copies

    def __init__(self, opening: Callable[[], Any]) -> None:
        self._opening = opening
        self._file: Any = None
        # A cancelled task's operation may still be running in its thread; the next one waits for it there.
        self._lock = threading.Lock()
        fork_locks.renew_lock_in_children(self)

    def _locked(self, work: Callable[[Any], T]) -> T:
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
            # It cannot be called back; when it is there, it goes.
            opening.add_done_callback(self._forget)
            raise
        return self

    def _forget(self, opening: asyncio.Future[None]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            asyncio.get_running_loop().run_in_executor(None, self._finish, False)

    async def __aexit__(self, kind: object, *_: object) -> None:
        await asyncio.shield(in_thread(self._finish, kind is None))

    def _finish(self, complete: bool) -> None:
        self._locked(lambda file: file.close() if complete or file.readable() else file.abandon())

    async def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes of plaintext, all that is left by default."""
        return await in_thread(self._locked, lambda file: file.read(size) or b"")

    async def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill ``buffer``; return how many bytes of it."""
        return await in_thread(self._locked, lambda file: file.readinto(buffer) or 0)

    async def write(self, data: ReadableBuffer) -> int:
        """Take all of ``data``, which must not change until this returns."""
        return await in_thread(self._locked, lambda file: file.write(data))

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place of the plaintext; return it."""
        return await in_thread(self._locked, lambda file: file.seek(offset, whence))

    async def tell(self) -> int:
        """Return the present place."""
        return await in_thread(self._locked, lambda file: file.tell())

    async def close(self) -> None:
        """Finish the file, as leaving the block does."""
        await asyncio.shield(in_thread(self._finish, True))
