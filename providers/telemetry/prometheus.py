"""The metrics in the words of Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as PrometheusMetric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from .series import Attributes, Metric
from .state import GAUGES, Reading

if TYPE_CHECKING:
    from .telemetry import Telemetry

__all__ = ["TelemetryCollector", "exposition"]


class TelemetryCollector(Collector):
    """
    Gives the metrics to a registry of ``prometheus_client``, such as an application's own::

        prometheus_client.REGISTRY.register(TelemetryCollector(container.telemetry()))

    Names are as OpenTelemetry's own exporter writes them: ``purveyor.operation.duration`` is
    ``purveyor_operation_duration_seconds``.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[PrometheusMetric]:
        """Yield all metrics that have series."""
        for metric in self._telemetry.metrics:
            if series := metric.all():
                names = _label_names(one.attributes for one in series)
                yield _histogram(metric, names) if metric.bounds else _counter(metric, names)
        gauges: dict[str, list[Reading]] = defaultdict(list)
        for reading in self._telemetry.readings():
            gauges[reading.name].append(reading)
        for name, found in gauges.items():
            unit, description = GAUGES[name]
            names = _label_names(one.attributes for one in found)
            gauge = GaugeMetricFamily(_name(name, unit), description, labels=_plain(names))
            for one in found:
                gauge.add_metric(_values(names, one.attributes), one.value)
            yield gauge

    def describe(self) -> Iterator[PrometheusMetric]:
        """Say nothing in advance: what there is changes."""
        return iter(())


def exposition(telemetry: Telemetry, accept: str = "") -> tuple[bytes, str]:
    """
    Return the metrics, those of this process among them, and the media type they are in.

    Args:
        telemetry: Has them.
        accept: The header ``Accept`` of who asks: OpenMetrics or Prometheus' text.
    """
    registry = CollectorRegistry()
    registry.register(TelemetryCollector(telemetry))
    ProcessCollector(registry=registry)
    if "application/openmetrics-text" in accept:
        untyped: Any = openmetrics
        return untyped.generate_latest(registry), openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _histogram(metric: Metric, names: Sequence[str]) -> PrometheusMetric:
    family = HistogramMetricFamily(
        _name(metric.name, metric.unit), metric.description, labels=_plain(names)
    )
    bounds = [*map(str, metric.bounds), "+Inf"]
    for series in metric.all():
        counts, total = series.read()
        buckets = list(zip(bounds, accumulate(counts), strict=True))
        family.add_metric(_values(names, series.attributes), buckets, total)
    return family


def _counter(metric: Metric, names: Sequence[str]) -> PrometheusMetric:
    family = CounterMetricFamily(
        _name(metric.name, metric.unit), metric.description, labels=_plain(names)
    )
    for series in metric.all():
        family.add_metric(_values(names, series.attributes), series.read()[1])
    return family


def _name(name: str, unit: str) -> str:
    return name.replace(".", "_") + ("_seconds" if unit == "s" else "")


def _label_names(series: Iterable[Attributes]) -> list[str]:
    return sorted({name for attributes in series for name in attributes})


def _plain(names: Iterable[str]) -> list[str]:
    return [name.replace(".", "_") for name in names]


def _values(names: Iterable[str], attributes: Attributes) -> list[str]:
    return [str(attributes.get(name, "")) for name in names]
