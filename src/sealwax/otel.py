"""OpenTelemetry: a span for each request to KMS, and metrics of requests, Regions and caches.

Pass an instance as ``on_event``::

    telemetry = sealwax.otel.Telemetry()
    keyring = sealwax.KmsKeyring("alias/payments", on_event=telemetry)
    keyring = sealwax.CachingKeyring(keyring, max_age=300, on_event=telemetry)
    telemetry.observe(keyring)  # also count what a cache does in the background

``pip install 'sealwax[otel]'`` installs only the API; the program brings the SDK and its exporters. The operation,
Region, name of the KMS key, error code, request id, times and counts are exported; key bytes, data and contexts never
are.
"""

from __future__ import annotations

import operator
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

try:
    from opentelemetry import metrics, trace
except ImportError as error:
    raise ImportError("sealwax.otel needs OpenTelemetry: pip install 'sealwax[otel]'") from error

from sealwax._core import fork_locks
from sealwax.errors import NotPicklableError
from sealwax.events import CacheLookup, Event, KmsCall, RegionHealth

if TYPE_CHECKING:
    from sealwax._core.cache import CacheStats, CachingKeyring

__all__ = ["Telemetry"]

_NAME: Final = "sealwax"


@dataclass(slots=True)
class _Observed:
    cache: Callable[[], CachingKeyring | None]
    name: str
    last: CacheStats


class Telemetry:
    """Turns events into spans and metrics.

    Each span is a child of the span that was current when the sealer was called. The metrics are:

    - ``sealwax.kms.duration``: a histogram in seconds, by operation, Region and error; it counts calls too.
    - ``sealwax.cache.loans``: a counter by kind (hit, miss, wait, stale, bypass) and direction.
    - ``sealwax.region.changes``: a counter of Regions that are avoided, or used again.
    - ``sealwax.cache.calls``, ``.refreshes`` and ``.evictions``: counters, by the name of an observed cache.
    - ``sealwax.cache.entries``: how many data keys an observed cache holds now.

    Args:
        tracer_provider, meter_provider: by default those that the program has set.

    Raises:
        NotPicklableError: when it is pickled with a provider of its own.
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
            "sealwax.region.changes", description="Regions that are avoided, or used again."
        )
        self._observed: list[_Observed] = []
        self._lock = threading.Lock()
        fork_locks.renew_in_children(self)
        for what, description in (
            ("calls", "Calls of a cache to its keyring."),
            ("refreshes", "Data keys that a cache replaced before they expired."),
            ("evictions", "Data keys that a cache dropped for lack of room."),
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
                "telemetry with its own tracer_provider or meter_provider cannot be pickled: make it in the other "
                "process, or set the providers for the whole program in each"
            )
        return Telemetry, ()

    def _after_fork(self) -> tuple[object, ...]:
        self._lock = threading.Lock()
        # The SDK frees only some of its locks after a fork.
        return self._tracer, self._meter

    def observe(self, cache: CachingKeyring, name: str = "cache") -> None:
        """Also export what a cache does in the background, whenever metrics are read.

        Args:
            cache: the cache; it is not kept alive.
            name: exported as ``sealwax.cache.name``; the counts of caches with the same name are added up.
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
                for observed in self._observed:
                    cache = observed.cache()
                    # The counts of a deleted cache stay, but it holds no entries.
                    observed.last = replace(observed.last, entries=()) if cache is None else cache.stats()
                    totals[observed.name] = totals.get(observed.name, 0) + count(observed.last)
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
        # The event comes after the request, and says how long it took.
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
