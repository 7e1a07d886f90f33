"""OpenTelemetry, with its real SDK: what arrives in a collector, and what never does."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import sealwax
from sealwax import events
from sealwax.lab import Lab
from sealwax.otel import Telemetry
from tests.fakes import FakeKeyring, timed_cache

CONTEXT = {"table": "context-value-of-the-caller", "id": "local-value-of-the-caller"}


class Collector:
    """An SDK set up as a program would, exporting into memory."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self._meter_provider = MeterProvider([self._reader])
        self.telemetry = Telemetry(tracer_provider=self.tracer_provider, meter_provider=self._meter_provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    @property
    def points(self) -> dict[str, list[Any]]:
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="demo")
        yield lab


def test_spans_and_metrics_of_a_cached_keyring(lab: Lab) -> None:
    collector = Collector()
    inner = sealwax.KmsKeyring("alias/demo", session=lab.session(), on_event=collector.telemetry)
    tracer = collector.tracer_provider.get_tracer("the program")
    with sealwax.CachingKeyring(inner, max_age=60, on_event=collector.telemetry) as cache:
        sealer = sealwax.Sealer(cache, local_context=("id",))
        with tracer.start_as_current_span("request") as request:
            sealed = [sealer.encrypt(b"plaintext-of-the-caller", context=CONTEXT) for _ in range(5)]
            sealer.decrypt(sealed[0], context=CONTEXT)
    *calls, outer = collector.spans
    assert outer.name == "request"
    assert [span.name for span in calls] == ["KMS.GenerateDataKey", "KMS.Decrypt"]
    for span in calls:
        assert span.kind is SpanKind.CLIENT
        assert span.status.status_code is StatusCode.UNSET
        assert span.parent is not None
        assert span.parent.span_id == request.get_span_context().span_id
        assert span.start_time is not None
        assert span.end_time is not None
        assert outer.start_time is not None
        assert outer.start_time < span.start_time < span.end_time
        assert span.attributes is not None
        assert set(span.attributes) == {
            "rpc.system",
            "rpc.service",
            "rpc.method",
            "cloud.region",
            "sealwax.kms.key",
            "sealwax.attempt",
            "aws.request_id",
        }
    points = collector.points
    loans = {
        (point.attributes["kind"], point.attributes["direction"]): point.value
        for point in points["sealwax.cache.loans"]
    }
    assert loans == {("miss", "encrypt"): 1, ("hit", "encrypt"): 4, ("miss", "decrypt"): 1}
    durations = {point.attributes["rpc.method"]: point.count for point in points["sealwax.kms.duration"]}
    assert durations == {"GenerateDataKey": 1, "Decrypt": 1}


def _of_caches(collector: Collector) -> dict[tuple[str, str], int]:
    return {
        (name.removeprefix("sealwax.cache."), point.attributes["sealwax.cache.name"]): point.value
        for name, points in collector.points.items()
        for point in points
        if "sealwax.cache.name" in point.attributes
    }


def test_what_a_cache_does_while_nobody_waits() -> None:
    collector = Collector()
    now = [0.0]
    settings: dict[str, Any] = {"max_age": 100, "on_event": collector.telemetry, "clocks": lambda: (now[0], now[0])}
    with (
        timed_cache(FakeKeyring(), capacity=2, **settings) as small,
        timed_cache(FakeKeyring(), **settings) as other,
    ):
        assert _of_caches(collector) == {}
        collector.telemetry.observe(small, "small")
        collector.telemetry.observe(other)
        for number in range(5):
            sealwax.Sealer(small).encrypt(b"x", context={"n": str(number)})
        sealwax.Sealer(other).encrypt(b"x", context=CONTEXT)
        assert _of_caches(collector) == {
            ("calls", "small"): 5,
            ("evictions", "small"): 3,
            ("refreshes", "small"): 0,
            ("entries", "small"): 2,
            ("calls", "cache"): 1,
            ("evictions", "cache"): 0,
            ("refreshes", "cache"): 0,
            ("entries", "cache"): 1,
        }
        # In the last fifth of its life an entry is replaced, by a thread that nobody waits for.
        now[0] = 90.0
        sealwax.Sealer(other).encrypt(b"x", context=CONTEXT)
        end = time.monotonic() + 30
        while _of_caches(collector)["refreshes", "cache"] < 1 and time.monotonic() < end:
            time.sleep(0.01)
        told = _of_caches(collector)
        assert (told["refreshes", "cache"], told["calls", "cache"], told["entries", "cache"]) == (1, 2, 1)
        # It is the same that the cache itself says.
        stats = other.stats()
        assert (stats.refreshes, stats.calls, stats.evictions, len(stats.entries)) == (1, 2, 0, 1)


def test_caches_of_one_name_are_added_up_and_let_go() -> None:
    collector = Collector()
    caches = [sealwax.CachingKeyring(FakeKeyring(), max_age=100) for _ in range(3)]
    for cache in caches:
        collector.telemetry.observe(cache, "tenants")
        sealwax.Sealer(cache).encrypt(b"x", context=CONTEXT)
    assert (_of_caches(collector)["calls", "tenants"], _of_caches(collector)["entries", "tenants"]) == (3, 3)
    gone = weakref.ref(caches[0])
    caches[0].close()
    del cache, caches[0]
    gc.collect()
    assert gone() is None
    # A counter never falls; what is held does.
    assert (_of_caches(collector)["calls", "tenants"], _of_caches(collector)["entries", "tenants"]) == (3, 2)
    for cache in caches:
        cache.close()


def test_a_failed_call_and_a_lost_region(lab: Lab) -> None:
    collector = Collector()
    arn = lab.call("CreateKey", region="eu-west-1", MultiRegion=True)["KeyMetadata"]["Arn"]
    lab.call("ReplicateKey", region="eu-west-1", KeyId=arn, ReplicaRegion="us-east-1")
    lab.faults.add("eu-west-1", "down", 1.0, operation=None, code=None, seed=1)
    keyring = sealwax.MultiRegionKeyring(
        arn, regions=["eu-west-1", "us-east-1"], session=lab.session(), on_event=collector.telemetry
    )
    sealer = sealwax.Sealer(keyring)
    for _ in range(3):
        sealer.encrypt(b"x", context=CONTEXT)
    failed = [span for span in collector.spans if span.status.status_code is StatusCode.ERROR]
    assert len(failed) == 3
    assert len(collector.spans) == 6
    assert {span.attributes["error.type"] for span in failed if span.attributes} == {failed[0].status.description}
    (change,) = collector.points["sealwax.region.changes"]
    assert (change.value, dict(change.attributes)) == (1, {"cloud.region": "eu-west-1", "healthy": False})
    stats = sealer.stats()
    assert (stats.calls, stats.failures, stats.saved) == (6, 3, 0)


def test_nothing_secret_goes_out(lab: Lab) -> None:
    collector = Collector()
    kept: list[bytes] = []

    class Watching(sealwax.KmsKeyring):
        def unwrap(self, wrapped_keys: Any, context: Any, use: Any) -> Any:
            def look(key: sealwax.DataKey) -> Any:
                kept.append(bytes(key.buffer))
                return use(key)

            return super().unwrap(wrapped_keys, context, look)

    sealer = sealwax.Sealer(
        Watching("alias/demo", session=lab.session(), on_event=collector.telemetry), local_context=("id",)
    )
    sealed = sealer.encrypt(b"plaintext-of-the-caller", context=CONTEXT)
    sealer.decrypt(sealed, context=CONTEXT)
    with pytest.raises(sealwax.KmsError):
        sealwax.Sealer(sealwax.KmsKeyring("alias/none", session=lab.session(), on_event=collector.telemetry)).encrypt(
            b"plaintext-of-the-caller", context={"table": CONTEXT["table"]}
        )
    assert len(collector.spans) == 3
    told = "".join(span.to_json() for span in collector.spans) + repr(collector.points)
    (key,) = kept
    wrapped = sealwax.inspect(sealed).wrapped_keys[0].ciphertext
    secrets = [*CONTEXT.values(), "table", "plaintext-of", key.hex(), repr(key), wrapped.hex(), sealed.hex()]
    assert [secret for secret in secrets if secret in told] == []


def test_unknown_events_are_let_pass() -> None:
    collector = Collector()
    collector.telemetry(object())  # type: ignore[arg-type]  # an event of a later release
    collector.telemetry(events.CacheLookup("hit", decrypting=True))
    assert len(collector.points["sealwax.cache.loans"]) == 1


def test_without_the_extra_it_says_what_to_install_and_the_rest_works() -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None
import sealwax
sealwax.Sealer
try:
    import sealwax.otel
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'sealwax[otel]'" in done.stdout
