"""
What telemetry costs an operation: ``uv run python benchmarks/telemetry.py``.

One operation of a provider from a registry that answers at once, so that all that is measured is
around it. The peer is the same operation with OpenTelemetry written around it by hand, as its
documentation does it: a span, a histogram, the time. All candidates in turn, CPU time of this
thread; spans go to an exporter that throws them away.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from measure import ratio, rounds, verdict
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracerProvider,
    SpanContext,
    SpanKind,
    StatusCode,
    use_span,
)

from purveyor.providers.registry import (
    Family,
    Provider,
    ProviderConfig,
    ProviderRegistry,
    ProviderTypes,
    operation,
    register_provider,
)
from purveyor.providers.telemetry import Telemetry
from purveyor.settings import TelemetrySettings

CALLS, ROUNDS = 20_000, 9
OFF, BARE = "off", "off, once more"
METRICS, UNSAMPLED = "metrics", "metrics, in a trace not sampled"
ROOT = "metrics, a trace of its own, not sampled"
METER = "metrics, to the SDK too"
SPANS, ALL = "metrics, spans", "metrics, to the SDK too, spans"
HAND_METER, HAND_ROOT = "by hand: metrics", "by hand: metrics, spans not sampled"
HAND_ALL = "by hand: metrics, spans"


class Backend(Provider[ProviderConfig]):
    """Answers at once."""

    family = "samples"

    async def check_health(self) -> None:
        """It is always well."""

    @operation
    async def get(self, key: str) -> str:
        """Return the key."""
        return key


class Nowhere(SpanExporter):
    """Throws spans away."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take them."""
        return SpanExportResult.SUCCESS


def tracing(*, sampled: bool) -> TracerProvider:
    """Return a tracer provider of the SDK."""
    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON if sampled else ALWAYS_OFF))
    provider.add_span_processor(SimpleSpanProcessor(Nowhere()))
    return provider


def metering() -> MeterProvider:
    """Return a meter provider of the SDK."""
    return MeterProvider([InMemoryMetricReader()])


def provided(telemetry: Telemetry | None = None) -> Backend:
    """Return a provider from a registry of its own."""
    types = ProviderTypes(scan_entry_points=False)
    types.add_family(Family("samples"))
    register_provider("backend", types=types)(Backend)
    registry: ProviderRegistry[Any] = ProviderRegistry("samples", types=types, observer=telemetry)
    return registry.register_nowait("backend")


def observed(tracer: Any = None, meter: Any = None) -> Backend:
    """Return an observed provider."""
    settings = TelemetrySettings(
        enabled=True, traces=tracer is not None, metrics=True, meter=meter is not None
    )
    return provided(
        Telemetry(
            settings,
            tracer_provider=tracer or NoOpTracerProvider(),
            meter_provider=meter or NoOpMeterProvider(),
        )
    )


def by_hand(backend: Backend, tracer_provider: Any = None) -> Callable[[str], Awaitable[str]]:
    """Write OpenTelemetry around an operation."""
    duration = (
        metering()
        .get_meter("by hand")
        .create_histogram("operation.duration", "s", explicit_bucket_boundaries_advisory=[0.1, 1])
    )
    attributes = {"family": "samples", "provider": "backend", "type": "backend", "operation": "get"}
    succeeded = {**attributes, "outcome": "ok"}

    async def get(key: str) -> str:
        started = time.perf_counter()
        try:
            answer = await backend.get(key)
        except Exception as error:
            failed = {**attributes, "error.type": type(error).__name__}
            duration.record(time.perf_counter() - started, failed)
            raise
        duration.record(time.perf_counter() - started, succeeded)
        return answer

    if tracer_provider is None:
        return get
    tracer = tracer_provider.get_tracer("by hand")

    async def traced(key: str) -> str:
        with tracer.start_as_current_span(
            "get backend", kind=SpanKind.CLIENT, attributes=attributes
        ) as span:
            try:
                return await get(key)
            except Exception:
                span.set_status(StatusCode.ERROR)
                raise

    return traced


async def per_call(call: Callable[[str], Awaitable[Any]]) -> float:
    """Return microseconds of this thread's CPU time per call."""
    await call("key")
    gc.disable()
    try:
        started = time.thread_time_ns()
        for _ in range(CALLS):
            await call("key")
        return (time.thread_time_ns() - started) / CALLS / 1000
    finally:
        gc.enable()


def main() -> None:
    """Measure, and print."""
    off, again = provided(), provided()
    not_sampled = NonRecordingSpan(SpanContext(1, 1, is_remote=False))
    candidates: dict[str, Callable[[str], Awaitable[Any]]] = {
        OFF: off.get,
        BARE: again.get,
        METRICS: observed().get,
        UNSAMPLED: observed(tracing(sampled=False)).get,
        ROOT: observed(tracing(sampled=False)).get,
        SPANS: observed(tracing(sampled=True)).get,
        METER: observed(meter=metering()).get,
        ALL: observed(tracing(sampled=True), metering()).get,
        HAND_METER: by_hand(off),
        HAND_ROOT: by_hand(off, tracing(sampled=False)),
        HAND_ALL: by_hand(off, tracing(sampled=True)),
    }
    with asyncio.Runner() as runner:

        def measure(name: str) -> float:
            if name != UNSAMPLED:
                return runner.run(per_call(candidates[name]))

            async def within() -> float:
                with use_span(not_sampled):
                    return await per_call(candidates[name])

            return runner.run(within())

        figures = rounds({name: lambda name=name: measure(name) for name in candidates}, ROUNDS)

        async def close() -> None:
            for one in candidates.values():
                backend = getattr(one, "__self__", None)
                if backend is not None:
                    await backend.dispose()

        runner.run(close())

    print(f"{'':42}{'µs a call':>10}{'above off':>12}")
    above: dict[str, float] = {}
    for name, values in figures.items():
        pairs = zip(values, figures[OFF], strict=True)
        above[name] = statistics.median(one - other for one, other in pairs)
        print(f"{name:42}{statistics.median(values):10.2f}{above[name]:12.2f}")
    same = type(off).get is type(again).get and type(off).__dict__.get("__observed__") is None
    verdict("off is the very same function as without telemetry", float(same), 1, at_least=True)
    verdict("off over off", ratio(figures, BARE, OFF), 1.03)
    for name in (METRICS, UNSAMPLED, ROOT):
        verdict(f"µs above off: {name}", above[name], 5)
    verdict("to the SDK too, over by hand", above[METER] / above[HAND_METER], 1.2)
    verdict("with spans too, over by hand", above[ALL] / above[HAND_ALL], 1.0)


if __name__ == "__main__":
    main()
