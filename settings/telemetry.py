"""What the environment may say of telemetry."""

from __future__ import annotations

from pydantic import Field

from .branches import Count, _Branch

__all__ = ["TelemetrySettings"]


class TelemetrySettings(_Branch):
    """
    Traces and metrics of operations.

    Whether a trace is sampled and where it is sent is said by OpenTelemetry's own variables
    (``OTEL_TRACES_SAMPLER``, ``OTEL_EXPORTER_OTLP_ENDPOINT`` ...), which its SDK reads.
    """

    enabled: bool = Field(
        default=False, description="Whether operations are observed; needs the extra `telemetry`."
    )
    traces: bool = Field(
        default=True,
        description="Whether operations are spans, where the application set up tracing.",
    )
    metrics: bool = Field(
        default=True, description="Whether operations are counted and timed, for `/metrics`."
    )
    meter: bool = Field(
        default=True,
        description="Whether the metrics go to the application's OpenTelemetry meter provider too, "
        "where it set one up.",
    )
    max_series: Count = Field(
        default=2000,
        ge=10,
        le=100_000,
        description="Time series a metric may have; what comes beyond is counted in one.",
    )
