"""A registry whose operations are observed, with OpenTelemetry's providers of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from purveyor.providers.registry import Family, ProviderRegistry, ProviderTypes, register_provider
from purveyor.providers.telemetry import Telemetry
from purveyor.providers.telemetry.prometheus import exposition
from purveyor.settings import RegistrySettings
from tests.providers.registry.samples import Backend, Sample

Labels = dict[str, Any]


class Observed:
    """A telemetry, and what it told: the ended spans, the metrics by both ways out."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = TracerProvider()
        self.tracing.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.metering = MeterProvider([self.reader])
        self.telemetry = Telemetry(tracer_provider=self.tracing, meter_provider=self.metering)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def kept(self, name: str = "purveyor.operation.duration") -> list[tuple[Labels, int]]:
        """Return the attributes and the count of every series that has values."""
        return [
            (dict(series.attributes), sum(series.read()[0]))
            for metric in self.telemetry.metrics
            if metric.name == name
            for series in metric.all()
            if sum(series.read()[0])
        ]

    def exported(self, name: str) -> list[Any]:
        """Return the data points that the SDK's reader gets."""
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def outcomes(self) -> dict[str, int]:
        """Return how often each kind of end came: ``ok``, ``cancelled``, an error's class."""
        found: dict[str, int] = {}
        for labels, count in self.kept():
            kind = labels.get("error.type") or labels["purveyor.outcome"]
            found[kind] = found.get(kind, 0) + count
        return found

    def text(self) -> str:
        return exposition(self.telemetry)[0].decode()

    def close(self) -> None:
        self.tracing.shutdown()
        self.metering.shutdown()


@pytest.fixture
def observed() -> Any:
    made = Observed()
    yield made
    made.close()


@pytest.fixture
def types() -> ProviderTypes:
    catalogue = ProviderTypes(scan_entry_points=False)
    catalogue.add_family(Family("storage", fallback="filesystem"))
    register_provider("sample", types=catalogue)(Sample)
    return catalogue


@pytest.fixture
async def registry(
    observed: Observed, types: ProviderTypes, tmp_path: Path
) -> AsyncIterator[ProviderRegistry[Any]]:
    settings = RegistrySettings()
    made: ProviderRegistry[Any] = ProviderRegistry(
        "storage", types=types, home=tmp_path, settings=settings, observer=observed.telemetry
    )
    yield made
    await made.graceful_shutdown(5)


@pytest.fixture
def backend() -> Backend:
    return Backend()
