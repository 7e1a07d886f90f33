"""OpenTelemetry: a span for each request to KMS, and metrics of requests, Regions and caches.

An instance is an ``on_event`` function::

    telemetry = sealwax.otel.Telemetry()
    keyring = sealwax.KmsKeyring("alias/payments", on_event=telemetry)
    keyring = sealwax.CachingKeyring(keyring, max_age=300, on_event=telemetry)
    telemetry.observe(keyring)  # what happens to data keys while nobody waits

It needs ``pip install 'sealwax[otel]'``, which brings the API alone; the program brings the SDK and its exporters. What
goes out: operation, Region, the name of the KMS key, error code, request id, times and counts. Neither a key's bytes
nor data nor any part of a context is among them.
"""

from __future__ import annotations

import operator
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

__all__ = ["Telemetry"]

try:
    from opentelemetry import metrics, trace
except ImportError as error:
    raise ImportError("sealwax.otel needs OpenTelemetry: pip install 'sealwax[otel]'") from error

from sealwax._core import fork_locks
from sealwax.errors import NotPicklableError
from sealwax.events import CacheLookup, Event, KmsCall, RegionHealth

if TYPE_CHECKING:
    from sealwax._core.cache import CacheStats, CachingKeyring

_NAME: Final = "sealwax"


@dataclass(slots=True)
class _Observed:
    cache: Callable[[], CachingKeyring | None]
    name: str
    last: CacheStats


class Telemetry:
    """Turns events into spans and metrics.

    A span is the child of the span that was current where the sealer was called. These are the metrics:

    - ``sealwax.kms.duration``, a histogram in seconds, by operation, Region and error; its count is that of the calls.
    - ``sealwax.cache.loans``, a counter by kind (hit, miss, wait, stale, bypass) and direction.
    - ``sealwax.region.changes``, a counter of Regions given up and taken back.
    - ``sealwax.cache.calls``, ``.refreshes`` and ``.evictions``, counters, and ``sealwax.cache.entries``, how many data
      keys are held now; of the caches that :meth:`observe` was told of, by name.

    Args:
        tracer_provider, meter_provider: default: the ones that the program has set.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._has_providers = tracer_provider is not None or meter_provider is not None
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        self._meter = meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._durations = meter.create_histogram(
            "sealwax.kms.duration", unit="s", description="How long requests to KMS take."
        )
        self._loans = meter.create_counter("sealwax.cache.loans", description="Data keys that a cache has lent.")
        self._changes = meter.create_counter(
            "sealwax.region.changes", description="Regions that were given up or taken back."
        )
        self._observed: list[_Observed] = []
        self._lock = threading.Lock()
        fork_locks.renew_in_children(self)
        for what, description in (
            ("calls", "Calls of a cache to the keyring it is around."),
            ("refreshes", "Data keys of a cache that were replaced ahead of their end."),
            ("evictions", "Data keys that a cache gave up for room."),
        ):
            meter.create_observable_counter(
                f"sealwax.cache.{what}",
                [self._reader(operator.attrgetter(what))],
                description=description,
            )
        meter.create_observable_up_down_counter(
            "sealwax.cache.entries",
            [self._reader(lambda stats: len(stats.entries))],
            description="Data keys that a cache holds.",
        )

    def __reduce__(self) -> tuple[type[Telemetry], tuple[()]]:
        if self._has_providers:
            raise NotPicklableError(
                "telemetry with a tracer_provider or meter_provider of its own cannot be pickled: make it in the other "
                "process, or set the providers for the whole program in each"
            )
        return Telemetry, ()

    def _after_fork(self) -> tuple[object, ...]:
        self._lock = threading.Lock()
        # The SDK frees only some of its locks.
        return self._tracer, self._meter

    def observe(self, cache: CachingKeyring, name: str = "cache") -> None:
        """Count what a cache does besides lending, whenever metrics are read.

        Args:
            cache: is not kept alive by this.
            name: goes out with the metrics, as ``sealwax.cache.name``; the counts of caches with one name are added up.
        """
        observed = _Observed(weakref.ref(cache), name, cache.stats())
        with self._lock:
            self._observed.append(observed)

    def _reader(
        self, count: Callable[[CacheStats], int]
    ) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
        def read(_: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
            totals: dict[str, int] = {}
            with self._lock:
                for one in self._observed:
                    cache = one.cache()
                    # What a cache has done stays done when it is gone; what it held does not.
                    one.last = replace(one.last, entries=()) if cache is None else cache.stats()
                    totals[one.name] = totals.get(one.name, 0) + count(one.last)
            return [metrics.Observation(total, {"sealwax.cache.name": name}) for name, total in totals.items()]

        return read

    def __call__(self, event: Event) -> None:
        if isinstance(event, KmsCall):
            self._call(event)
        elif isinstance(event, CacheLookup):
            self._loans.add(1, {"kind": event.kind, "direction": "decrypt" if event.decrypting else "encrypt"})
        elif isinstance(event, RegionHealth):
            self._changes.add(1, {"cloud.region": event.region, "healthy": event.healthy})

    def _call(self, call: KmsCall) -> None:
        common = {"rpc.method": call.operation, "cloud.region": call.region}
        if call.error is not None:
            common["error.type"] = call.error
        self._durations.record(call.seconds, common)
        # The event comes when all is over, and knows how long it took.
        end = time.time_ns()
        span = self._tracer.start_span(
            f"KMS.{call.operation}",
            kind=trace.SpanKind.CLIENT,
            start_time=end - int(call.seconds * 1e9),
            attributes={
                **common,
                "rpc.system": "aws-api",
                "rpc.service": "KMS",
                "sealwax.kms.key": call.key,
                "sealwax.attempt": call.attempt,
            },
        )
        if call.request_id is not None:
            span.set_attribute("aws.request_id", call.request_id)
        if call.error is not None:
            span.set_status(trace.StatusCode.ERROR, call.error)
        span.end(end)
