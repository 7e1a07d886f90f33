"""Many values at a time: order kept, memory bounded, one value's error its own; few KMS calls for many values."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import pytest

import sealwax
from sealwax._core.keyring import DataKey, WrappedKey
from sealwax.events import CacheLookup, Event
from tests.cache.test_bounds import SlowKeyring, until
from tests.fakes import FakeKeyring

T = TypeVar("T")


def test_a_hundred_thousand_values_need_a_handful_of_calls() -> None:
    inner = FakeKeyring()
    value = b"v" * 1024
    with sealwax.CachingKeyring(inner, max_age=3600) as cache:
        sealer = sealwax.Sealer(cache, local_context=("id",))
        items = ((value, {"table": "users", "id": str(number)}) for number in range(100_000))
        count = 0
        kept: list[tuple[int, bytes]] = []
        for number, sealed in enumerate(sealer.encrypt_many(items)):
            count += 1
            if number % 1000 == 0:
                kept.append((number, sealed))
        assert count == 100_000
        for number, sealed in kept:
            assert sealer.decrypt(sealed, context={"table": "users", "id": str(number)}) == value
            with pytest.raises(sealwax.CommitmentError):
                sealer.decrypt(sealed, context={"table": "users", "id": str(number + 1)})
    assert len(inner.calls) <= 10


def test_order_is_kept_and_an_error_is_one_values_own() -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    sizes = [0, 5, 2_000_000, 1, 70_000, 3, 1_500_000, 2]
    items = [(bytes([index]) * size, {"n": str(index)}) for index, size in enumerate(sizes)]
    sealed = list(sealer.encrypt_many(items))
    contexts: list[dict[str, str]] = [context for _, context in items]
    contexts[3] = {"n": "other"}
    sealed[5] = b"no envelope"
    opened = list(sealer.decrypt_many(zip(sealed, contexts, strict=True), return_exceptions=True))
    assert isinstance(opened[3], sealwax.ContextError)
    assert isinstance(opened[5], sealwax.NotAnEnvelopeError)
    for index, (plaintext, _) in enumerate(items):
        if index not in (3, 5):
            assert opened[index] == plaintext
    results = sealer.decrypt_many(zip(sealed, contexts, strict=True))
    assert [next(results) for _ in range(3)] == [plaintext for plaintext, _ in items[:3]]
    with pytest.raises(sealwax.ContextError):
        next(results)
    with pytest.raises(StopIteration):  # the first error is the end
        next(results)


def test_no_more_is_taken_than_a_bounded_number_ahead() -> None:
    taken = 0

    def endless() -> Iterator[tuple[bytes, dict[str, str]]]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x", {"n": "1"}

    results = sealwax.Sealer(FakeKeyring()).encrypt_many(endless())
    for _ in range(3):
        next(results)
    assert taken <= 70
    results.close()  # type: ignore[attr-defined]  # a generator


def test_large_values_are_worked_on_in_threads_and_small_ones_at_once() -> None:
    """To hand a small value over takes longer than to encrypt it."""
    threads: dict[str, list[int]] = {"small": [], "large": []}
    kind = ""

    def watch(event: Event) -> None:
        assert isinstance(event, CacheLookup)
        threads[kind].append(threading.get_ident())

    with sealwax.CachingKeyring(FakeKeyring(), max_age=60, on_event=watch) as cache:
        sealer = sealwax.Sealer(cache, local_context=("id",))
        kind = "small"
        sealed = [sealer.encrypt(bytes(size), context={"id": "1"}) for size in (1000, 100_000)]
        sealer.decrypt(sealed[0], context={"id": "1"})
        sealer.decrypt(sealed[1], context={"id": "1"})
        for kind, size, one in (("small", 1000, sealed[0]), ("large", 100_000, sealed[1])):
            threads[kind].clear()
            assert len(list(sealer.encrypt_many([(bytes(size), {"id": "1"})] * 8))) == 8
            assert list(sealer.decrypt_many([(one, {"id": "1"})] * 8)) == [bytes(size)] * 8
            assert len(threads[kind]) == 16
    assert set(threads["small"]) == {threading.get_ident()}
    assert threading.get_ident() not in threads["large"]


def test_a_batch_that_is_garbage_is_collected_in_its_own_thread_too() -> None:
    """What goes wrong in a generator that is collected is a warning, and so an error here."""
    begun, go, collected = threading.Event(), threading.Event(), threading.Event()

    class Collecting(FakeKeyring):
        def generate(
            self,
            context: Mapping[str, str],
            use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
            *,
            plaintext_bytes: int | None = None,
        ) -> T:
            if context["n"] == "0":
                assert begun.wait(30)  # so that there is somebody left when this one is taken
            if context["n"] == "1":
                begun.set()
                assert go.wait(30)
                gc.collect()
                collected.set()
            return super().generate(context, use, plaintext_bytes=plaintext_bytes)

    def left_early() -> None:
        results = sealwax.Sealer(Collecting()).encrypt_many([(b"x", {"n": str(n)}) for n in range(100)], threads=2)
        assert next(results)
        cycle: list[object] = [results]
        cycle.append(cycle)

    gc.disable()
    try:
        left_early()
        go.set()
        assert collected.wait(30)
    finally:
        gc.enable()
    until(lambda: not any(thread.name.startswith("sealwax-batch") for thread in threading.enumerate()))


def test_an_outage_costs_a_batch_no_call_for_each_value() -> None:
    inner = SlowKeyring()
    inner.error = sealwax.UnavailableError("away")
    inner.gate.clear()

    def items() -> Iterator[tuple[bytes, dict[str, str]]]:
        for number in range(60):
            yield b"x", {"table": "users", "id": str(number)}
        inner.gate.set()  # all are waiting by now, three of them in a thread

    with sealwax.CachingKeyring(inner, max_age=60) as cache:
        sealer = sealwax.Sealer(cache, local_context=("id",))
        results = list(sealer.encrypt_many(items(), threads=3, return_exceptions=True))
    assert [type(result) for result in results] == [sealwax.UnavailableError] * 60
    assert inner.calls == ["failed"]
