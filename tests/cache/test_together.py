"""Thirty-two threads and thirty-two tasks want one data key at the same moment: one call, and one answer for all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax.errors import AccessDeniedError
from sealwax.events import CacheLookup, Event, KmsCall
from sealwax.lab import Lab
from tests.cache.test_bounds import SlowKeyring, in_threads, until
from tests.fakes import FakeKeyring

MANY = 32
WORKERS = 8  # threads in which tasks wait; the other tasks wait for one of these


def context(number: int) -> dict[str, str]:
    return {"table": "users", "id": str(number)}


def both(sealer: sealwax.Sealer, ready: Callable[[], bool], release: Callable[[], None]) -> list[Any]:
    """Encrypt in 32 threads and 32 tasks at once; return each one's envelope or error. ``release`` lets KMS answer."""
    outcomes: list[Any] = []

    def thread(number: int) -> None:
        try:
            outcomes.append(sealer.encrypt(b"x", context=context(number)))
        except sealwax.SealwaxError as error:
            outcomes.append(error)

    async def tasks() -> list[Any]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(WORKERS))
        return await asyncio.gather(
            *(sealer.encrypt_async(b"x", context=context(number)) for number in range(MANY)), return_exceptions=True
        )

    def answer() -> None:
        try:
            until(ready)
        finally:
            release()

    others = [
        threading.Thread(target=answer),
        threading.Thread(target=in_threads, args=(MANY, thread)),
    ]
    for other in others:
        other.start()
    found = asyncio.run(tasks())
    for other in others:
        other.join(60)
    assert len(outcomes) == len(found) == MANY
    return outcomes + found


@pytest.mark.parametrize("fails", [False, True])
def test_threads_and_tasks_share_one_call(fails: bool) -> None:
    inner = SlowKeyring()
    inner.gate.clear()
    if fails:
        inner.error = AccessDeniedError("no")
    with sealwax.CachingKeyring(inner, max_age=60) as cache:
        sealer = sealwax.Sealer(cache, local_context=("id",))
        outcomes = both(sealer, lambda: cache.stats().waits >= MANY + WORKERS - 1, inner.gate.set)
    assert inner.calls == ["failed" if fails else "GenerateDataKey"]
    assert {type(outcome) for outcome in outcomes} == {AccessDeniedError if fails else bytes}
    # An error of one's own, since a traceback is written into it, and an envelope of one's own.
    assert len({id(outcome) for outcome in outcomes}) == 2 * MANY


def test_a_throttled_call_is_repeated_once_for_all(tmp_path: Path) -> None:
    """As often as one caller would repeat it, and not for each of the sixty-four."""
    gate = threading.Event()
    calls: list[KmsCall] = []

    def watch(event: Event) -> None:
        assert isinstance(event, KmsCall)
        calls.append(event)

    def hold(**_: object) -> None:
        assert gate.wait(60)

    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="demo")
        lab.faults.add("us-east-1", "throttle", 1.0, operation=None, code=None, seed=1)
        session = lab.session()
        session.events.register("before-call.kms", hold)
        inner = sealwax.KmsKeyring(
            "alias/demo", session=session, retries=sealwax.RetryPolicy(attempts=3), on_event=watch
        )
        with sealwax.CachingKeyring(inner, max_age=60) as cache:
            sealer = sealwax.Sealer(cache, local_context=("id",))
            outcomes = both(sealer, lambda: cache.stats().waits >= MANY + WORKERS - 1, gate.set)
    assert {type(outcome) for outcome in outcomes} == {sealwax.ThrottledError}
    assert [call.attempt for call in calls] == [1, 2, 3]


def test_the_loop_encrypts_no_more_than_a_group_itself() -> None:
    """A MiB takes less than a millisecond; what is larger goes to a thread, though its data key is there."""
    threads: list[int] = []

    def watch(event: Event) -> None:
        if isinstance(event, CacheLookup):
            threads.append(threading.get_ident())

    with sealwax.CachingKeyring(FakeKeyring(), max_age=60, on_event=watch) as cache:
        sealer = sealwax.Sealer(cache, local_context=("id",))
        small, large = bytes(1 << 20), bytes((1 << 20) + 1)
        sealed = [sealer.encrypt(value, context=context(1)) for value in (small[:1000], large)]
        sealer.decrypt(sealed[0], context=context(1))
        threads.clear()

        async def main() -> None:
            await sealer.encrypt_async(small, context=context(2))
            await sealer.decrypt_async(sealed[0], context=context(1))
            assert set(threads) == {threading.get_ident()}
            threads.clear()
            await sealer.encrypt_async(large, context=context(2))
            assert await sealer.decrypt_async(sealed[1], context=context(1)) == large
            assert len(threads) == 2
            assert threading.get_ident() not in threads

        asyncio.run(main())
