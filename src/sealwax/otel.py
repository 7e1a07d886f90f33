"""OpenTelemetry: a span for each request to KMS, and metrics of requests, Regions and caches.

An instance is an ``on_event`` function::

    telemetry = sealwax.otel.Telemetry()
    keyring = sealwax.KmsKeyring("alias/payments", on_event=telemetry)
    keyring = sealwax.CachingKeyring(keyring, max_age=300, on_event=telemetry)

It needs ``pip install 'sealwax[otel]'``, which brings the API alone; the program brings the SDK and its exporters. What
goes out: operation, Region, the name of the KMS key, error code, request id, times and counts. Neither a key's bytes
nor data nor any part of a context is among them.
"""

from __future__ import annotations

import time
from typing import Final

try:
    from opentelemetry import metrics, trace
except ImportError as error:
    raise ImportError("sealwax.otel needs OpenTelemetry: pip install 'sealwax[otel]'") from error

from sealwax.events import CacheUse, Event, KmsCall, RegionHealth

_NAME: Final = "sealwax"


class Telemetry:
    """Turns events into spans and metrics.

    A span is the child of the span that was current where the sealer was called. These are the metrics:

    - ``sealwax.kms.duration``, a histogram in seconds, by operation, Region and error; its count is that of the calls.
    - ``sealwax.cache.loans``, a counter by kind (hit, miss, wait, stale, bypass) and direction.
    - ``sealwax.region.changes``, a counter of Regions given up and taken back.

    Args:
        tracer_provider, meter_provider: default: the ones that the program has set.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._durations = meter.create_histogram(
            "sealwax.kms.duration", unit="s", description="How long requests to KMS take."
        )
        self._loans = meter.create_counter("sealwax.cache.loans", description="Data keys that a cache has lent.")
        self._changes = meter.create_counter(
            "sealwax.region.changes", description="Regions that were given up or taken back."
        )

    def __call__(self, event: Event) -> None:
        if isinstance(event, KmsCall):
            self._call(event)
        elif isinstance(event, CacheUse):
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
