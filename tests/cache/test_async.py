"""asyncio: one call for all tasks, nobody else cancelled, the event loop never held up."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax.errors import AccessDeniedError
from tests.cache.test_bounds import SlowKeyring
from tests.fakes import FakeKeyring

CONTEXT = {"table": "users", "id": "1"}


def sealer_over(inner: FakeKeyring) -> tuple[sealwax.Sealer, sealwax.CachingKeyring]:
    cache = sealwax.CachingKeyring(inner, max_age=60)
    return sealwax.Sealer(cache, local_context=("id",)), cache


def test_thirty_two_tasks_that_miss_together_make_one_call() -> None:
    inner = SlowKeyring()
    inner.gate.clear()
    sealer, cache = sealer_over(inner)

    async def main() -> list[bytes]:
        asyncio.get_running_loop().call_later(0.3, inner.gate.set)
        return await asyncio.gather(
            *(sealer.encrypt_async(b"x", context={"table": "users", "id": str(n)}) for n in range(32))
        )

    sealed = asyncio.run(main())
    assert inner.calls == ["GenerateDataKey"]
    assert [sealer.decrypt(one, context={"table": "users", "id": str(n)}) for n, one in enumerate(sealed)] == [
        b"x"
    ] * 32
    cache.close()


def test_one_failure_is_told_to_all_tasks_though_few_have_a_thread_to_wait_in() -> None:
    inner = SlowKeyring()
    inner.gate.clear()
    inner.error = AccessDeniedError("no")
    sealer, cache = sealer_over(inner)

    async def main() -> list[Any]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4))
        asyncio.get_running_loop().call_later(0.3, inner.gate.set)
        return await asyncio.gather(
            *(sealer.encrypt_async(b"x", context=CONTEXT) for _ in range(32)), return_exceptions=True
        )

    failures = asyncio.run(main())
    assert [type(result) for result in failures] == [AccessDeniedError] * 32
    assert len({id(error) for error in failures}) == 32
    assert inner.calls == ["failed"]
    # Who asks after that hears of a new call.
    with pytest.raises(AccessDeniedError):
        asyncio.run(sealer.encrypt_async(b"x", context=CONTEXT))
    assert inner.calls == ["failed"] * 2
    inner.error = None
    assert asyncio.run(sealer.encrypt_async(b"x", context=CONTEXT))
    cache.close()


def test_a_time_out_ends_the_waiting_and_nothing_else() -> None:
    inner = SlowKeyring()
    inner.gate.clear()
    sealer, cache = sealer_over(inner)

    async def main() -> bytes:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await sealer.encrypt_async(b"x", context=CONTEXT)
        inner.gate.set()
        return await sealer.encrypt_async(b"x", context=CONTEXT)

    assert asyncio.run(main())
    assert inner.calls == ["GenerateDataKey"]
    cache.close()


def test_the_loop_runs_on_while_kms_is_slow() -> None:
    inner = SlowKeyring()
    inner.gate.clear()
    sealer, cache = sealer_over(inner)

    async def main() -> int:
        waiting = asyncio.ensure_future(sealer.encrypt_async(b"x", context=CONTEXT))
        turns = 0
        while not waiting.done():
            await asyncio.sleep(0.001)
            turns += 1
            if turns == 100:
                inner.gate.set()
        await waiting
        return turns

    assert asyncio.run(main()) >= 100
    cache.close()


def test_a_warm_cache_needs_no_thread() -> None:
    sealer, cache = sealer_over(FakeKeyring())
    sealed = sealer.encrypt(b"x", context=CONTEXT)
    sealer.decrypt(sealed, context=CONTEXT)

    async def main() -> set[str]:
        before = {thread.name for thread in threading.enumerate()}
        await sealer.encrypt_async(b"x", context=CONTEXT)
        assert await sealer.decrypt_async(sealed, context=CONTEXT) == b"x"
        return {thread.name for thread in threading.enumerate()} - before

    assert asyncio.run(main()) == set()
    cache.close()


def test_cancelling_a_task_cancels_nobody_else() -> None:
    inner = SlowKeyring()
    inner.gate.clear()
    sealer, cache = sealer_over(inner)

    async def main() -> list[Any]:
        tasks = [asyncio.ensure_future(sealer.encrypt_async(b"x", context=CONTEXT)) for _ in range(4)]
        while not cache.stats().waits:
            await asyncio.sleep(0.001)
        tasks[0].cancel()  # the first came first, and makes the call
        await asyncio.sleep(0.01)
        inner.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, *others = asyncio.run(main())
    assert isinstance(first, asyncio.CancelledError)
    assert all(isinstance(other, bytes) for other in others)
    assert inner.calls == ["GenerateDataKey"]
    cache.close()


def test_files(tmp_path: Path) -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    data = os.urandom(3_000_000)
    path = tmp_path / "a.swx"

    async def main() -> None:
        async with sealer.open_async(path, "wb", context=CONTEXT) as file:
            assert await file.write(data[:1_000_000]) == 1_000_000
            assert await file.tell() == 1_000_000
            await file.write(data[1_000_000:])
        async with sealer.open_async(path, context=CONTEXT) as file:
            assert await file.seek(2_000_000) == 2_000_000
            assert await file.read(10) == data[2_000_000:2_000_010]
            await file.seek(0)
            assert await file.read() == data
            buffer = bytearray(5)
            await file.seek(7)
            assert await file.readinto(buffer) == 5
            assert buffer == data[7:12]

    asyncio.run(main())


def test_a_block_left_by_an_exception_or_a_cancellation_writes_nothing(tmp_path: Path) -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    path = tmp_path / "a.swx"

    async def fails() -> None:
        async with sealer.open_async(path, "wb", context=CONTEXT) as file:
            await file.write(b"x" * 100)
            raise LookupError

    async def hangs() -> None:
        async with sealer.open_async(path, "wb", context=CONTEXT) as file:
            await file.write(b"x" * 100)
            await asyncio.sleep(60)

    async def main() -> None:
        with pytest.raises(LookupError):
            await fails()
        task = asyncio.ensure_future(hangs())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


class Gated(io.BytesIO):
    """Lets nobody read or write while the gate is closed."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(data)
        self.gate = threading.Event()
        self.gate.set()
        self.waits = threading.Event()

    def _pass(self) -> None:
        self.waits.set()
        assert self.gate.wait(30)

    def readinto(self, buffer: Any, /) -> int:
        self._pass()
        return super().readinto(buffer)

    def write(self, data: Any, /) -> int:
        self._pass()
        return super().write(data)


def test_after_a_cancelled_read_or_write_the_file_tells_how_far_it_is() -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    data = os.urandom(3 << 20)

    async def cancelled(work: Coroutine[Any, Any, object], file: Gated) -> None:
        file.gate.clear()
        file.waits.clear()
        task = asyncio.ensure_future(work)
        while not file.waits.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        file.gate.set()

    async def main() -> None:
        sink = Gated()
        async with sealer.open_async(sink, "wb", context=CONTEXT) as file:
            await cancelled(file.write(data[: 2 << 20]), sink)
            await file.write(data[await file.tell() :])
        assert sealer.decrypt(sink.getvalue(), context=CONTEXT) == data
        source = Gated(sink.getvalue())
        async with sealer.open_async(source, context=CONTEXT) as file:
            await cancelled(file.read(1 << 20), source)
            assert await file.tell() == 1 << 20
            assert await file.seek(0) == 0
            assert await file.read() == data

    asyncio.run(main())


def test_cancelled_while_opening(tmp_path: Path) -> None:
    inner = SlowKeyring()
    inner.gate.clear()
    sealer = sealwax.Sealer(inner)

    async def opens() -> None:
        async with sealer.open_async(tmp_path / "a.swx", "wb", context=CONTEXT):
            raise AssertionError("unreachable")

    async def main() -> None:
        task = asyncio.ensure_future(opens())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        inner.gate.set()
        for _ in range(500):
            if inner.calls and not list(tmp_path.iterdir()):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the half-written file stayed")

    asyncio.run(main())
