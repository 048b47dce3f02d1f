"""What operations are counted, timed and traced by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ... import __version__
from ...settings import TelemetrySettings
from ..registry import import_extra
from .names import DURATION_BOUNDS, GEN_AI_BOUNDS, HTTP_BOUNDS, SCHEMA_URL, SCOPE, TOKEN_BOUNDS
from .series import Metric

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import TracerProvider

    from .spans import Spans

__all__ = ["Instruments"]


class Instruments:
    """
    The metrics of a container's operations, and what begins their spans.

    Arguments and errors are those of :class:`~purveyor.providers.telemetry.Telemetry`.
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
        if self.settings.traces:
            trace = import_extra("opentelemetry.trace", extra="telemetry")
            provider = tracer_provider or trace.get_tracer_provider()
            from .spans import Spans

            self.spans = Spans(provider.get_tracer(SCOPE, __version__, SCHEMA_URL))
        if self.settings.metrics and self.settings.meter:
            metrics = import_extra("opentelemetry.metrics", extra="telemetry")
            provider = meter_provider or metrics.get_meter_provider()
            self._meter = provider.get_meter(SCOPE, __version__, SCHEMA_URL)
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
