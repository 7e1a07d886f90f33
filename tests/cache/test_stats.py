"""What the keyrings have asked of KMS, what the cache spared them, and what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

import sealwax
from sealwax._core.cache.entries import CacheStats
from sealwax.events import KmsStats
from sealwax.lab import Lab
from tests.fakes import FakeKeyring, timed_cache


def test_calls_savings_and_cost(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="demo")
        inner = sealwax.KmsKeyring("alias/demo", session=lab.session())
        with sealwax.CachingKeyring(inner, max_age=60) as cache:
            sealer = sealwax.Sealer(cache, local_context=("id",))
            for number in range(100):
                context = {"table": "users", "id": str(number)}
                assert sealer.decrypt(sealer.encrypt(b"x", context=context), context=context) == b"x"
            assert sealer.stats() == KmsStats(calls=2, failures=0, saved=198)
            assert sealer.stats().cost_usd == pytest.approx(0.000006)
            assert sealer.stats().saved_usd == pytest.approx(0.000594)
        # As the lab counts them.
        operations = [event.record["eventName"] for event in lab.trail.events()]
        assert operations.count("GenerateDataKey") + operations.count("Decrypt") == 2


def test_a_cache_counts_what_each_key_has_served() -> None:
    now = [0.0, 0.0]
    with timed_cache(FakeKeyring(), max_age=100, max_bytes=1000, capacity=2, clocks=lambda: (now[0], now[1])) as cache:
        sealer = sealwax.Sealer(cache, local_context=("id",))
        sealed = [
            sealer.encrypt(bytes(size), context={"table": table, "id": str(size)})
            for table, size in (("a", 10), ("a", 20), ("b", 5), ("b", 2000), ("b", 6))
        ]
        assert cache.stats() == CacheStats(
            hits=2, misses=2, calls=2, waits=0, refreshes=0, stale_serves=0, evictions=0, bypasses=1,
            entries=((2, 30), (2, 11)),
        )  # fmt: skip
        sealer.decrypt(sealed[0], context={"table": "a", "id": "10"})
        # The least recently used one went for it; what is opened is not counted.
        assert cache.stats().evictions == 1
        assert cache.stats().entries == ((2, 11), (0, 0))


def test_repetitions_and_failures_count(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="demo")
        lab.faults.add("us-east-1", "throttle", 1.0, operation=None, code=None, seed=1)
        keyring = sealwax.KmsKeyring("alias/demo", session=lab.session(), retries=sealwax.RetryPolicy(attempts=3))
        sealer = sealwax.Sealer(keyring)
        with pytest.raises(sealwax.ThrottledError):
            sealer.encrypt(b"x", context={"a": "b"})
        assert sealer.stats() == KmsStats(calls=3, failures=3)


def test_a_refresh_ahead_saves_nothing() -> None:
    now = [0.0, 0.0]
    with timed_cache(FakeKeyring(), max_age=100, clocks=lambda: (now[0], now[1])) as cache:
        for seconds in (0.0, 90.0):
            now[:] = [seconds, seconds]
            cache.generate({"a": "b"}, lambda *_: None, plaintext_bytes=1)
        # Two loans, and two calls: one at first, one ahead of the end.
        assert cache.stats().calls == 2
        assert cache.kms_stats().saved == 0


def test_a_keyring_that_does_not_count_is_no_error() -> None:
    sealer = sealwax.Sealer(FakeKeyring())
    sealer.encrypt(b"x", context={"a": "b"})
    assert sealer.stats() == KmsStats()
