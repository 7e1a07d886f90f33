"""The three bounds hold exactly, however many threads there are, and who misses together calls once."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwax import CacheWarning, CachingKeyring, DataKey, UnavailableError, WrappedKey
from sealwax._core.keyring import asked_at, now
from sealwax.errors import (
    AccessDeniedError,
    AllKeysFailedError,
    CommitmentError,
    DataKeyError,
    SealwaxError,
    ThrottledError,
    WrappedKeyRefusedError,
)
from sealwax.events import CacheLookup, Event
from tests.fakes import ALPHA, BETA, FakeKeyring, timed_cache

T = TypeVar("T")
CONTEXT = {"table": "users"}


class Clock:
    """Both clocks of a machine, moved by hand."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.wall = 1_800_000_000.0

    def __call__(self) -> tuple[float, float]:
        return self.monotonic, self.wall

    def advance(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


class SlowKeyring(FakeKeyring):
    """Holds every call until it is let go, and fails while told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None = None,
    ) -> T:
        if self.error is not None:
            self.calls.append("failed")
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        return super().generate(context, use, plaintext_bytes=plaintext_bytes)

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        assert self.gate.wait(30)
        if self.error is not None:
            self.calls.append("failed")
            raise self.error
        return super().unwrap(wrapped_keys, context, use)


def peek(key: DataKey, wrapped: tuple[WrappedKey, ...] = ()) -> tuple[bytes, tuple[WrappedKey, ...]]:
    return bytes(key.buffer), wrapped


def in_threads(count: int, work: Callable[[int], None]) -> None:
    start = threading.Barrier(count)

    def run(index: int) -> None:
        start.wait()
        work(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


# Small numbers, so that keys come to serve just as many bytes as the bound, and one more would show.
@settings(max_examples=40, deadline=None)
@given(
    max_messages=st.integers(1, 40),
    max_bytes=st.integers(0, 40),
    sizes=st.lists(st.integers(0, 9), min_size=16, max_size=160),
)
def test_message_and_byte_bounds_hold_exactly_under_sixteen_threads(
    max_messages: int, max_bytes: int, sizes: list[int]
) -> None:
    inner = FakeKeyring()
    served: list[tuple[bytes, int]] = []
    with CachingKeyring(inner, max_age=60, max_messages=max_messages, max_bytes=max_bytes) as cache:

        def work(index: int) -> None:
            for size in sizes[index::16]:
                key, _ = cache.generate(CONTEXT, peek, plaintext_bytes=size)
                served.append((key, size))

        in_threads(16, work)
    assert len(served) == len(sizes)
    messages = Counter(key for key, _ in served)
    total: Counter[bytes] = Counter()
    for key, size in served:
        total[key] += size
    assert max(messages.values()) <= max_messages
    # Alone in its key, a value may be larger than the bound.
    assert all(total[key] <= max_bytes or messages[key] == 1 for key in total)
    assert len(inner.calls) == len(messages)


@settings(max_examples=100, deadline=None)
@given(max_messages=st.integers(1, 9), max_bytes=st.integers(1, 30), sizes=st.lists(st.integers(0, 9), max_size=60))
def test_a_key_serves_up_to_its_bounds_and_not_less(max_messages: int, max_bytes: int, sizes: list[int]) -> None:
    expected: list[list[int]] = []
    for size in sizes:
        if size > max_bytes:
            continue
        if not expected or len(expected[-1]) == max_messages or sum(expected[-1]) + size > max_bytes:
            expected.append([])
        expected[-1].append(size)
    served: dict[bytes, list[int]] = {}
    with CachingKeyring(FakeKeyring(), max_age=60, max_messages=max_messages, max_bytes=max_bytes) as cache:
        for size in sizes:
            if size <= max_bytes:
                served.setdefault(cache.generate(CONTEXT, peek, plaintext_bytes=size)[0], []).append(size)
    assert list(served.values()) == expected


@settings(max_examples=100, deadline=None)
@given(
    max_age=st.floats(0.1, 100),
    steps=st.lists(st.tuples(st.floats(0, 30), st.booleans()), min_size=1, max_size=40),
)
def test_no_key_is_lent_at_its_age_or_later(max_age: float, steps: list[tuple[float, bool]]) -> None:
    clock = Clock()
    inner = FakeKeyring()
    born: dict[bytes, float] = {}
    with timed_cache(inner, max_age=max_age, clocks=clock) as cache:
        for seconds, decrypting in steps:
            clock.advance(seconds)
            if decrypting:
                _, wrapped = inner.generate(CONTEXT, peek)
                cache.unwrap(wrapped, CONTEXT, lambda key: peek(key))
            key, _ = cache.generate(CONTEXT, peek, plaintext_bytes=1)
            since = born.setdefault(key, clock.monotonic)
            assert clock.monotonic - since < max_age


class Telltale(FakeKeyring):
    """Gives another data key with each call, opening one included, so that a loan tells which call it comes from."""

    def __init__(self, clock: SharedClock) -> None:
        super().__init__()
        self.opened: set[bytes] = set()
        self._clock = clock

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None = None,
    ) -> T:
        def watched(key: DataKey, wrapped_keys: tuple[WrappedKey, ...]) -> T:
            self._clock.mine.comes = bytes(key.buffer)
            return use(key, wrapped_keys)

        return super().generate(context, watched, plaintext_bytes=plaintext_bytes)

    def unwrap(
        self,
        wrapped_keys: Sequence[WrappedKey],  # noqa: ARG002
        context: Mapping[str, str],
        use: Callable[[DataKey], T],
    ) -> T:
        def watched(key: DataKey, _: object) -> T:
            self.opened.add(bytes(key.buffer))
            return use(key)

        return self.generate(context, watched)


class SharedClock(Clock):
    """A clock that many threads move and read. It notes when each key that :class:`Telltale` gave is kept.

    Attributes:
        mine: of each thread, what it ``read`` last, and the key that ``comes``, which the next reading is the birth of.
        born: when each key was kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mine = threading.local()
        self.born: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def __call__(self) -> tuple[float, float]:
        with self._lock:
            now = super().__call__()
            self.mine.read = now[0]
            comes = self.mine.__dict__.pop("comes", None)
            if comes is not None:
                self.born[comes] = now[0]
            return now

    def advance(self, seconds: float) -> None:
        with self._lock:
            super().advance(seconds)


# Whole seconds: floats hold them exactly, and keys come to be just as old as the bound.
@settings(max_examples=40, deadline=None)
@given(
    max_age=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=16, max_size=160),
)
def test_age_bound_holds_exactly_under_sixteen_threads(max_age: int, steps: list[tuple[int, bool]]) -> None:
    clock = SharedClock()
    inner = Telltale(clock)
    loans: list[tuple[bytes, float]] = []
    _, wrapped = FakeKeyring().generate(CONTEXT, peek)

    def note(key: DataKey, _: object = None) -> None:
        # The last look at the clock, in this thread, is the one that decided on the loan.
        loans.append((bytes(key.buffer), clock.mine.read))

    with timed_cache(inner, max_age=max_age, clocks=clock) as cache:

        def work(index: int) -> None:
            for seconds, decrypting in steps[index::16]:
                clock.advance(seconds)
                clock()
                if decrypting:
                    cache.unwrap(wrapped, CONTEXT, note)
                else:
                    cache.generate(CONTEXT, note, plaintext_bytes=1)

        in_threads(16, work)
        until(lambda: not cache._held.flights)
    assert len(loans) == len(steps)
    assert all(lent_at - clock.born[key] < max_age for key, lent_at in loans)
    # Nor is a key given up before it is due to be replaced.
    for opened in (False, True):
        births = sorted(at for key, at in clock.born.items() if (key in inner.opened) is opened)
        assert all(later - earlier >= max_age * 0.8 for earlier, later in pairwise(births))


def test_thirty_two_threads_that_miss_together_make_one_call() -> None:
    inner = SlowKeyring()
    inner.gate.clear()
    keys: list[bytes] = []
    with CachingKeyring(inner, max_age=60) as cache:
        threading.Timer(0.3, inner.gate.set).start()
        in_threads(32, lambda _: keys.append(cache.generate(CONTEXT, peek, plaintext_bytes=1)[0]))
        assert inner.calls == ["GenerateDataKey"]
        assert len(keys) == 32
        assert len(set(keys)) == 1
        assert cache.stats().calls == 1


def test_one_failure_is_told_to_all_who_wait() -> None:
    inner = SlowKeyring()
    inner.gate.clear()
    inner.error = AccessDeniedError("no", code="AccessDeniedException", request_id="r", key="k")
    failures: list[Exception] = []

    def work(_: int) -> None:
        with pytest.raises(AccessDeniedError) as caught:
            cache.generate(CONTEXT, peek, plaintext_bytes=1)
        failures.append(caught.value)

    with CachingKeyring(inner, max_age=60) as cache:

        def release() -> None:
            # Only when everybody else waits for the one call.
            while cache.stats().waits < 31:
                time.sleep(0.01)
            inner.gate.set()

        releaser = threading.Thread(target=release)
        releaser.start()
        in_threads(32, work)
        releaser.join()
    assert inner.calls == ["failed"]
    assert len(failures) == 32
    assert len({id(error) for error in failures}) == 32
    assert {(str(error), getattr(error, "code", None)) for error in failures} == {("no", "AccessDeniedException")}


def test_an_error_of_one_payload_is_nobody_elses() -> None:
    inner = FakeKeyring()
    _, wrapped = inner.generate(CONTEXT, peek)

    def refuse(_: DataKey) -> None:
        raise LookupError("about this payload")

    with CachingKeyring(inner, max_age=60) as cache:
        with pytest.raises(LookupError):
            cache.unwrap(wrapped, CONTEXT, refuse)
        cache.unwrap(wrapped, CONTEXT, peek)
        cache.unwrap(wrapped, CONTEXT, peek)
    assert inner.calls.count("Decrypt") == 2


class TwoKeyrings(SlowKeyring):
    """Opens what is under ALPHA and BETA."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = self.allowed = (ALPHA, BETA)


def test_a_forged_envelope_fails_nobody_who_waits_for_the_same_wrapped_keys() -> None:
    """Of several wrapped keys one is refused by KMS, and one fits the payload of honest envelopes alone."""
    inner = TwoKeyrings()
    _, (alpha, beta) = inner.generate(CONTEXT, peek)
    wrapped = (replace(alpha, ciphertext=b"x" * 60), beta)
    outcomes: list[object] = []

    def forged(_: DataKey) -> None:
        raise CommitmentError("not of this payload")

    with CachingKeyring(inner, max_age=60) as cache:

        def unwrap(use: Callable[[DataKey], object]) -> None:
            try:
                outcomes.append(cache.unwrap(wrapped, CONTEXT, use))
            except SealwaxError as error:
                outcomes.append(type(error))

        inner.gate.clear()
        threads = [threading.Thread(target=unwrap, args=(forged,))]
        threads[0].start()
        until(lambda: cache.stats().calls == 1)
        threads += [threading.Thread(target=unwrap, args=(peek,)) for _ in range(8)]
        for thread in threads[1:]:
            thread.start()
        until(lambda: cache.stats().waits == 8)
        inner.gate.set()
        for thread in threads:
            thread.join(60)
    assert outcomes.count(AllKeysFailedError) == 1
    assert len(outcomes) == 9
    # The forged one's two attempts, and those of one honest caller for all.
    assert inner.calls.count("Decrypt") == 4


def test_keys_that_are_all_refused_are_refused_to_all_who_wait() -> None:
    inner = TwoKeyrings()
    _, wrapped = inner.generate(CONTEXT, peek)
    refused = tuple(replace(key, ciphertext=b"x" * 60) for key in wrapped)
    outcomes: list[object] = []

    with CachingKeyring(inner, max_age=60) as cache:

        def unwrap(_: int) -> None:
            try:
                cache.unwrap(refused, CONTEXT, peek)
            except AllKeysFailedError as error:
                outcomes.append(error)

        inner.gate.clear()

        def let_go() -> None:
            until(lambda: cache.stats().waits == 7)
            inner.gate.set()

        opening = threading.Thread(target=let_go)
        opening.start()
        in_threads(8, unwrap)
        opening.join(60)
    assert len(outcomes) == len({id(outcome) for outcome in outcomes}) == 8
    assert inner.calls.count("Decrypt") == 2


def test_one_wrapped_key_of_several_in_common_is_no_entry_in_common() -> None:
    """A forged envelope may have an honest one's first wrapped key, and behind it one of its own."""
    inner = TwoKeyrings()
    honest, (alpha, beta) = inner.generate(CONTEXT, peek)
    forged, (_, other) = inner.generate(CONTEXT, peek)
    refused = replace(alpha, ciphertext=b"x" * 60)
    with CachingKeyring(inner, max_age=60) as cache:
        assert cache.unwrap((refused, other), CONTEXT, peek)[0] == forged
        assert cache.unwrap((refused, beta), CONTEXT, peek)[0] == honest
        assert cache.unwrap((refused, other), CONTEXT, peek)[0] == forged
    assert inner.calls.count("Decrypt") == 4


@pytest.mark.parametrize("slow", ["monotonic", "wall"])
def test_the_clock_that_says_more_counts(slow: str) -> None:
    """Two clocks that run a little apart are no reason to lend a key for longer."""
    clock, inner = Clock(), FakeKeyring()
    with timed_cache(inner, max_age=60, clocks=clock) as cache:
        cache.generate(CONTEXT, peek, plaintext_bytes=1)
        clock.advance(60)
        setattr(clock, slow, getattr(clock, slow) - 3)
        cache.generate(CONTEXT, peek, plaintext_bytes=1)
        assert (cache.stats().misses, cache.stats().hits) == (2, 0)
    assert inner.calls == ["GenerateDataKey"] * 2


def test_at_its_very_age_a_key_is_not_lent_without_an_outage() -> None:
    clock, inner = Clock(), FakeKeyring()
    with timed_cache(inner, max_age=60, serve_stale_for=600, clocks=clock) as cache:
        cache.generate(CONTEXT, peek, plaintext_bytes=1)
        clock.advance(60)
        cache.generate(CONTEXT, peek, plaintext_bytes=1)
        assert cache.stats().stale_serves == 0
    assert inner.calls == ["GenerateDataKey"] * 2


def test_contexts_and_wrapped_keys_share_no_entry() -> None:
    inner = FakeKeyring()
    with CachingKeyring(inner, max_age=60) as cache:
        first, wrapped = cache.generate({"a": "1"}, peek, plaintext_bytes=1)
        second, _ = cache.generate({"a": "2"}, peek, plaintext_bytes=1)
        assert first != second
        with pytest.raises(WrappedKeyRefusedError):
            cache.unwrap(wrapped, {"a": "2"}, peek)
        assert cache.unwrap(wrapped, {"a": "1"}, peek)[0] == first
        with pytest.raises(WrappedKeyRefusedError):
            cache.unwrap(wrapped, {"a": "2"}, peek)


def test_least_recently_used_goes_first_and_is_wiped() -> None:
    inner = FakeKeyring()
    lent: list[DataKey] = []
    with CachingKeyring(inner, max_age=60, capacity=2) as cache:
        for name in ("a", "b", "a", "c"):
            cache.generate({"n": name}, lambda key, _: lent.append(key), plaintext_bytes=1)
        assert cache.stats().evictions == 1
        assert lent[0] is lent[2]
        lent[0].buffer  # noqa: B018  still there
        with pytest.raises(ValueError, match="wiped"):
            lent[1].buffer  # noqa: B018


def test_what_is_lent_is_wiped_only_when_it_comes_back() -> None:
    cache = CachingKeyring(FakeKeyring(), max_age=60)
    kept: list[DataKey] = []

    def use(key: DataKey, _: tuple[WrappedKey, ...]) -> None:
        kept.append(key)
        cache.close()
        assert len(key.buffer) == 32

    cache.generate(CONTEXT, use, plaintext_bytes=1)
    with pytest.raises(ValueError, match="wiped"):
        kept[0].buffer  # noqa: B018
    with pytest.raises(ValueError, match="closed"):
        cache.generate(CONTEXT, peek, plaintext_bytes=1)


def test_plaintext_of_unknown_size_gets_a_key_of_its_own() -> None:
    inner = FakeKeyring()
    with CachingKeyring(inner, max_age=60, max_bytes=100) as cache:
        keys = {cache.generate(CONTEXT, peek, plaintext_bytes=size)[0] for size in (None, None, 101, 1, 2)}
        assert len(keys) == 4
        assert cache.stats().bypasses == 3


def test_old_entries_are_wiped_though_nobody_asks() -> None:
    lent: list[DataKey] = []
    with CachingKeyring(FakeKeyring(), max_age=0.2) as cache:
        cache.generate(CONTEXT, lambda key, _: lent.append(key), plaintext_bytes=1)
        lent[0].buffer  # noqa: B018
        for _ in range(500):
            if not cache.stats().entries:
                break
            time.sleep(0.02)
        assert not cache.stats().entries
        with pytest.raises(ValueError, match="wiped"):
            lent[0].buffer  # noqa: B018


def test_an_entry_is_replaced_ahead_of_its_end() -> None:
    clock = Clock()
    inner = FakeKeyring()
    with timed_cache(inner, max_age=100, clocks=clock) as cache:
        first, wrapped = cache.generate(CONTEXT, peek, plaintext_bytes=1)
        cache.unwrap(wrapped, CONTEXT, peek)
        clock.advance(79)
        assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] == first
        assert inner.calls == ["GenerateDataKey", "Decrypt"]
        clock.advance(2)
        assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] == first
        cache.unwrap(wrapped, CONTEXT, peek)
        for _ in range(500):
            if cache.stats().refreshes == 2:
                break
            time.sleep(0.01)
        assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] != first
        assert cache.unwrap(wrapped, CONTEXT, peek)[0] == first
        assert sorted(inner.calls) == ["Decrypt", "Decrypt", "GenerateDataKey", "GenerateDataKey"]


def test_beyond_its_age_a_key_is_served_only_where_permitted_and_only_in_an_outage() -> None:
    clock = Clock()
    inner = SlowKeyring()
    with timed_cache(inner, max_age=100, serve_stale_for=50, clocks=clock) as cache:
        first, _ = cache.generate(CONTEXT, peek, plaintext_bytes=1)
        clock.advance(101)
        inner.error = UnavailableError("out of reach")
        with pytest.warns(CacheWarning, match="beyond max_age"):
            assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] == first
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] == first
            assert inner.calls.count("failed") == 1  # KMS is left alone for a second
            clock.advance(2)
            # Then it is asked again, and nobody waits for it.
            inner.gate.clear()
            assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] == first
            inner.error = AccessDeniedError("no")
            inner.gate.set()
            until(lambda: not cache._held.flights)
        assert cache.stats().stale_serves == 3
        with pytest.raises(AccessDeniedError):
            cache.generate(CONTEXT, peek, plaintext_bytes=1)
        inner.error = UnavailableError("out of reach")
        clock.advance(47)  # 150 seconds old, to the second
        with pytest.raises(UnavailableError):
            cache.generate(CONTEXT, peek, plaintext_bytes=1)


def test_at_the_very_end_of_its_permission_a_key_is_served_no_more() -> None:
    clock = Clock()
    inner = SlowKeyring()
    with timed_cache(inner, max_age=100, serve_stale_for=50, clocks=clock) as cache:
        first, _ = cache.generate(CONTEXT, peek, plaintext_bytes=1)
        inner.error = UnavailableError("out of reach")
        clock.advance(149.5)
        with pytest.warns(CacheWarning, match="beyond max_age"):
            assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] == first
        clock.advance(0.5)  # KMS would be left alone for another half second
        with pytest.raises(UnavailableError):
            cache.generate(CONTEXT, peek, plaintext_bytes=1)


def test_an_outage_in_every_region_is_an_outage() -> None:
    clock = Clock()
    inner = SlowKeyring()
    with timed_cache(inner, max_age=100, serve_stale_for=50, clocks=clock) as cache:
        first, _ = cache.generate(CONTEXT, peek, plaintext_bytes=1)
        clock.advance(101)
        inner.error = AllKeysFailedError("all", (("a", UnavailableError("away")), ("b", AccessDeniedError("no"))))
        with pytest.raises(AllKeysFailedError):
            cache.generate(CONTEXT, peek, plaintext_bytes=1)
        inner.error = AllKeysFailedError("all", (("a", UnavailableError("away")), ("b", ThrottledError("much"))))
        with pytest.warns(CacheWarning, match="beyond max_age"):
            assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] == first


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to it")


def test_without_threads_there_is_no_refresh_and_nothing_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with timed_cache(FakeKeyring(), max_age=100, clocks=clock) as cache:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        first, _ = cache.generate(CONTEXT, peek, plaintext_bytes=1)
        clock.advance(90)
        assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] == first
        assert cache._held.flights == {}
        monkeypatch.undo()
        clock.advance(20)
        assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] != first


@pytest.mark.parametrize("error", [UnavailableError("away"), DataKeyError("no data key")])
def test_a_refresh_that_fails_is_not_tried_again_at_once(error: Exception) -> None:
    clock = Clock()
    inner = SlowKeyring()
    with timed_cache(inner, max_age=100, clocks=clock) as cache:
        cache.generate(CONTEXT, peek, plaintext_bytes=1)
        clock.advance(90)
        inner.error = error
        for _ in range(5):
            cache.generate(CONTEXT, peek, plaintext_bytes=1)
            until(lambda: not cache._held.flights)
        assert inner.calls.count("failed") == 1


def test_only_so_many_refreshes_run_at_once() -> None:
    clock = Clock()
    inner = SlowKeyring()
    with timed_cache(inner, max_age=100, clocks=clock) as cache:
        contexts = [{"table": str(number)} for number in range(40)]
        for context in contexts:
            cache.generate(context, peek, plaintext_bytes=1)
        clock.advance(90)
        inner.gate.clear()
        for context in contexts:
            cache.generate(context, peek, plaintext_bytes=1)
        assert sum(thread.name == "sealwax-refresh" for thread in threading.enumerate()) <= 8
        inner.gate.set()
        until(lambda: not cache._held.flights)


def test_what_was_asked_for_before_everything_was_wiped_is_not_kept() -> None:
    inner = SlowKeyring()
    inner.gate.clear()
    lent: list[DataKey] = []
    with CachingKeyring(inner, max_age=60) as cache:
        thread = threading.Thread(
            target=lambda: cache.generate(CONTEXT, lambda key, _: lent.append(key), plaintext_bytes=1)
        )
        thread.start()
        until(lambda: cache.stats().calls == 1)
        cache.clear()
        inner.gate.set()
        thread.join(30)
        assert cache.stats().entries == ()
        with pytest.raises(ValueError, match="wiped"):
            lent[0].buffer  # noqa: B018


def test_what_a_refresh_asked_for_before_everything_was_wiped_is_not_kept() -> None:
    clock, inner = Clock(), SlowKeyring()
    with timed_cache(inner, max_age=100, clocks=clock) as cache:
        cache.generate(CONTEXT, peek, plaintext_bytes=1)
        clock.advance(90)
        inner.gate.clear()
        cache.generate(CONTEXT, peek, plaintext_bytes=1)  # lent, and replaced behind it
        until(lambda: cache.stats().calls == 2)
        cache.clear()
        inner.gate.set()
        until(lambda: cache._held.refreshing == 0)
        assert (cache.stats().entries, cache.stats().refreshes) == ((), 0)


@pytest.mark.parametrize("decrypting", [False, True], ids=["generate", "unwrap"])
def test_a_refresh_binds_to_the_context_as_it_was_given(decrypting: bool) -> None:
    """Callers use one dict again for the next value: a refresh behind the call must not see that."""
    clock, inner = Clock(), SlowKeyring()
    with timed_cache(inner, max_age=100, clocks=clock) as cache:
        context = dict(CONTEXT)
        first, wrapped = cache.generate(context, peek, plaintext_bytes=1)
        if decrypting:
            assert cache.unwrap(wrapped, context, peek)[0] == first
        clock.advance(90)
        inner.gate.clear()
        if decrypting:
            cache.unwrap(wrapped, context, peek)
        else:
            cache.generate(context, peek, plaintext_bytes=1)  # lent, and replaced behind it
        context["table"] = "orders"
        inner.gate.set()
        until(lambda: not cache._held.flights)
        assert cache.stats().refreshes == 1
        if not decrypting:
            second, wrapped = cache.generate(CONTEXT, peek, plaintext_bytes=1)
            assert second != first
            assert inner.unwrap(wrapped, CONTEXT, peek)[0] == second


def test_a_key_that_is_used_up_is_not_served_in_an_outage_and_kms_is_asked_once() -> None:
    clock, inner = Clock(), SlowKeyring()
    with timed_cache(inner, max_age=100, max_messages=1, serve_stale_for=50, clocks=clock) as cache:
        cache.generate(CONTEXT, peek, plaintext_bytes=1)
        clock.advance(101)
        inner.error = UnavailableError("out of reach")
        with pytest.raises(UnavailableError):
            cache.generate(CONTEXT, peek, plaintext_bytes=1)
    assert inner.calls == ["GenerateDataKey", "failed"]


def test_a_failure_is_told_to_who_asked_before_it_and_until_a_call_succeeds() -> None:
    inner = SlowKeyring()
    with CachingKeyring(inner, max_age=100) as cache:
        token = asked_at.set(now())  # as for what queues for a thread meanwhile
        try:
            inner.error = AccessDeniedError("no")
            for _ in range(3):
                with pytest.raises(AccessDeniedError):
                    cache.generate(CONTEXT, peek, plaintext_bytes=1)
            assert inner.calls == ["failed"]
            inner.error = None
            asked_at.set(now())
            cache.generate(CONTEXT, peek, plaintext_bytes=1)
            cache.clear()
            asked_at.reset(token)
            token = asked_at.set(0.0)
            cache.generate(CONTEXT, peek, plaintext_bytes=1)
        finally:
            asked_at.reset(token)
    assert inner.calls == ["failed", "GenerateDataKey", "GenerateDataKey"]


def test_a_cache_that_nobody_closed_leaves_neither_key_nor_thread() -> None:
    lent: list[DataKey] = []
    cache = CachingKeyring(FakeKeyring(), max_age=600)
    cache.generate(CONTEXT, lambda key, _: lent.append(key), plaintext_bytes=1)
    reaper = cache._held.reaper
    assert reaper is not None
    buffer = lent.pop().buffer
    time.sleep(0.1)  # it waits by now
    del cache
    gc.collect()
    reaper.join(30)
    assert not reaper.is_alive()
    assert bytes(buffer) == bytes(32)


def test_each_loan_is_told() -> None:
    told: list[tuple[str, bool]] = []

    def watch(event: Event) -> None:
        assert isinstance(event, CacheLookup)
        told.append((event.kind, event.decrypting))

    with CachingKeyring(FakeKeyring(), max_age=60, on_event=watch) as cache:
        _, wrapped = cache.generate(CONTEXT, peek, plaintext_bytes=1)
        cache.generate(CONTEXT, peek, plaintext_bytes=1)
        cache.generate(CONTEXT, peek, plaintext_bytes=None)
        cache.unwrap(wrapped, CONTEXT, peek)
        cache.unwrap(wrapped, CONTEXT, peek)
    assert told == [("miss", False), ("hit", False), ("bypass", False), ("miss", True), ("hit", True)]


def test_opening_many_different_envelopes_is_no_reason_to_warn() -> None:
    inner = FakeKeyring()
    with warnings.catch_warnings(), CachingKeyring(inner, max_age=60) as cache:
        warnings.simplefilter("error")
        for _ in range(150):
            _, wrapped = inner.generate(CONTEXT, peek)
            cache.unwrap(wrapped, CONTEXT, peek)


def test_without_permission_nothing_is_served_beyond_its_age() -> None:
    clock = Clock()
    inner = SlowKeyring()
    with timed_cache(inner, max_age=100, clocks=clock) as cache:
        cache.generate(CONTEXT, peek, plaintext_bytes=1)
        inner.error = UnavailableError("out of reach")
        clock.advance(100)
        with pytest.raises(UnavailableError):
            cache.generate(CONTEXT, peek, plaintext_bytes=1)


def test_clocks_that_ran_apart_end_every_entry() -> None:
    clock = Clock()
    with timed_cache(FakeKeyring(), max_age=1000, clocks=clock) as cache:
        first, _ = cache.generate(CONTEXT, peek, plaintext_bytes=1)
        clock.wall += 60  # as after a restored snapshot, whose monotonic clock stood still
        assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] != first


def test_a_context_that_changes_with_every_value_is_warned_about_once() -> None:
    def work() -> None:
        for index in range(250):
            cache.generate({"id": str(index)}, peek, plaintext_bytes=1)

    with CachingKeyring(FakeKeyring(), max_age=60) as cache:
        with pytest.warns(CacheWarning, match="local_context") as caught:
            work()
        assert len(caught) == 1


@pytest.mark.parametrize(
    "bounds",
    [
        {"max_age": float("nan")},
        {"max_age": 1, "serve_stale_for": float("nan")},
        {"max_age": 1, "capacity": float("nan")},
        {"max_age": 0},
        {"max_age": -1},
        {"max_age": 1, "max_messages": 0},
        {"max_age": 1, "max_messages": 2**32 + 1},
        {"max_age": 1, "max_bytes": -1},
        {"max_age": 1, "capacity": 0},
        {"max_age": 1, "serve_stale_for": -1},
    ],
)
def test_bounds_that_bound_nothing_are_refused(bounds: dict[str, float]) -> None:
    name = list(bounds)[-1]
    with pytest.raises((TypeError, ValueError), match=f"{name} must be "):
        CachingKeyring(FakeKeyring(), **bounds)  # type: ignore[arg-type]


def test_nobody_waits_for_ever_for_anothers_call() -> None:
    inner = SlowKeyring()
    inner.gate.clear()
    with timed_cache(inner, max_age=60, longest_wait=0.1) as cache:
        first = threading.Thread(target=lambda: cache.generate(CONTEXT, peek, plaintext_bytes=1))
        first.start()
        until(lambda: cache.stats().calls == 1)
        with pytest.raises(UnavailableError, match="another thread"):
            cache.generate(CONTEXT, peek, plaintext_bytes=1)
        inner.gate.set()
        first.join(30)
        cache.generate(CONTEXT, peek, plaintext_bytes=1)
    assert inner.calls == ["GenerateDataKey"]
