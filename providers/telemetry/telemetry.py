"""Who observes the operations of a container's providers."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...settings import TelemetrySettings
from ..registry import Event, Operation, ProviderRegistry, Watch, import_extra
from .calls import CallWatch
from .chat import ChatWatch
from .names import (
    CHAT,
    DURATION_BOUNDS,
    GEN_AI_BOUNDS,
    HTTP_BOUNDS,
    SCHEMA_URL,
    SCOPE,
    TOKEN_BOUNDS,
)
from .series import Metric
from .state import GAUGES, Reading, readings

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider
    from opentelemetry.trace import TracerProvider

    from .spans import Spans

__all__ = ["Telemetry"]


class Telemetry:
    """
    Counts, times and traces the operations of all providers of a container.

    It sets up nothing of OpenTelemetry's: spans and metrics go to the providers that the
    application set up, before or after, and nowhere if there are none. Metrics are kept here as
    well, for Prometheus.

    Args:
        settings: What to observe; everything when not given.
        tracer_provider: Makes the spans; the process-wide one when not given.
        meter_provider: Gets the metrics; the process-wide one when not given.

    Raises:
        ImportFailedError: OpenTelemetry is not installed; the message has the install line.
    """

    def __init__(
        self,
        settings: TelemetrySettings | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self.settings = settings or TelemetrySettings(enabled=True)
        self.metrics: list[Metric] = []
        """All metrics but the gauges."""
        self.spans: Spans | None = None
        """Begins the spans; None: there are to be none."""
        self._meter: Meter | None = None
        self._registries: weakref.WeakSet[ProviderRegistry[Any]] = weakref.WeakSet()
        self._heard: weakref.WeakSet[Any] = weakref.WeakSet()
        if self.settings.traces:
            trace = import_extra("opentelemetry.trace", extra="telemetry")
            provider = tracer_provider or trace.get_tracer_provider()
            from .spans import Spans

            self.spans = Spans(provider.get_tracer(SCOPE, __version__, SCHEMA_URL))
        if self.settings.metrics and self.settings.meter:
            metrics = import_extra("opentelemetry.metrics", extra="telemetry")
            provider = meter_provider or metrics.get_meter_provider()
            self._meter = provider.get_meter(SCOPE, __version__, SCHEMA_URL)
            self._show_gauges(meter_provider or metrics)
        self.duration = self.histogram(
            "purveyor.operation.duration", "s", "Duration of operations.", DURATION_BOUNDS
        )
        self.first_item = self.histogram(
            "purveyor.operation.time_to_first_item",
            "s",
            "Time until a stream's first item.",
            DURATION_BOUNDS,
        )
        self.chat_duration = self.histogram(
            "gen_ai.client.operation.duration", "s", "GenAI operation duration.", GEN_AI_BOUNDS
        )
        self.tokens = self.histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            TOKEN_BOUNDS,
        )
        self.requests = self.histogram(
            "http.server.request.duration", "s", "Duration of HTTP server requests.", HTTP_BOUNDS
        )
        self.events = self.counter("purveyor.events", "{event}", "Events of the registries.")

    def __deepcopy__(self, memo: object) -> Telemetry:
        """Stay the same: dependency-injector copies what a container is given."""
        return self

    def histogram(
        self, name: str, unit: str, description: str, bounds: Sequence[float]
    ) -> Metric | None:
        """Return a new histogram; None where no metrics are wanted."""
        if not self.settings.metrics:
            return None
        record = None
        if self._meter is not None:
            record = self._meter.create_histogram(
                name, unit, description, explicit_bucket_boundaries_advisory=bounds
            ).record
        limit = self.settings.max_series
        self.metrics.append(Metric(name, unit, description, bounds, limit=limit, record=record))
        return self.metrics[-1]

    def counter(self, name: str, unit: str, description: str) -> Metric | None:
        """Return a new counter; None where no metrics are wanted."""
        if not self.settings.metrics:
            return None
        record = None
        if self._meter is not None:
            record = self._meter.create_counter(name, unit, description).add
        limit = self.settings.max_series
        self.metrics.append(Metric(name, unit, description, limit=limit, record=record))
        return self.metrics[-1]

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """
        Return the metrics for Prometheus, those of this process among them, and their media type.

        Args:
            accept: The header ``Accept`` of who asks: OpenMetrics, or Prometheus' own text.

        Raises:
            ImportFailedError: ``prometheus_client`` is not installed.
        """
        import_extra("prometheus_client", extra="telemetry")
        from .prometheus import exposition

        return exposition(self, accept)

    # -- as an observer ------------------------------------------------------------------

    def know(self, registry: ProviderRegistry[Any]) -> None:
        """Show a registry's providers in the gauges, and count its events."""
        self._registries.add(registry)
        if self.events is not None and registry.events not in self._heard:
            self._heard.add(registry.events)
            for event in Event.__subclasses__():
                registry.events.on(event, self._count)

    def watch(self, operation: Operation) -> Watch:
        """Return what observes each call of an operation."""
        chat = operation.family == "ai" and operation.name in CHAT and not operation.composed
        return (ChatWatch if chat else CallWatch)(self, operation).begin

    def _count(self, event: Event) -> None:
        if self.events is not None:
            attributes = {"purveyor.family": event.family, "purveyor.event": event.event_name}
            self.events.series(attributes).add(1)

    # -- the gauges ----------------------------------------------------------------------

    def readings(self) -> Iterator[Reading]:
        """Yield what the gauges show now."""
        # Of the gauges' attributes, one has up to four values.
        return readings(list(self._registries), self.settings.max_series // 4)

    def _show_gauges(self, of: Any) -> None:
        """Show the gauges of all containers that share a meter provider in one instrument each."""
        sharing = _sharing.setdefault(of, weakref.WeakSet())
        sharing.add(self)
        if self._meter is None or len(sharing) > 1:
            return
        observation = import_extra("opentelemetry.metrics", extra="telemetry").Observation
        for gauge, (unit, description) in GAUGES.items():

            def observe(_: CallbackOptions, gauge: str = gauge) -> Iterator[Any]:
                for telemetry in list(sharing):
                    for one in telemetry.readings():
                        if one.name == gauge:
                            yield observation(one.value, one.attributes)

            self._meter.create_observable_gauge(gauge, [observe], unit, description)


_sharing: weakref.WeakKeyDictionary[Any, weakref.WeakSet[Telemetry]] = weakref.WeakKeyDictionary()
"""Who shows gauges by a meter provider, which takes each instrument once only; by the module of
OpenTelemetry's metrics where it is the process-wide one, which may be set up later."""
