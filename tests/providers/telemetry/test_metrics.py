"""What is counted and timed of every call, however it ends, and who is told."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.parser import text_string_to_metric_families

from purveyor.providers.registry import (
    CircuitOpenError,
    ConnectionFailedError,
    Declaration,
    OperationTimeoutError,
    ProviderRegistry,
    RegistryError,
    guarded,
    register_provider,
)
from purveyor.providers.registry.guarded import guarded_class
from purveyor.providers.registry.observed import observed_class
from purveyor.providers.telemetry import Metric, Telemetry
from purveyor.providers.telemetry.calls import error_type
from purveyor.providers.telemetry.prometheus import exposition
from purveyor.settings import ProviderSettings, TelemetrySettings
from tests.providers.registry.samples import Backend, BackendError, Gate, Sample, SampleConfig
from tests.providers.telemetry.conftest import Observed

Registry = ProviderRegistry[Any]
SECRET = "sk-hunter2-0123456789"


async def fail(error: BaseException) -> None:
    raise error


class TestEveryEndIsCountedOnce:
    async def test_an_answer(self, registry: Registry, observed: Observed) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        assert await sample.echo("a") == "a"
        assert await sample.echo(value="b") == "b"
        ((labels, count),) = observed.kept()
        assert count == 2
        assert labels == {
            "purveyor.family": "storage",
            "purveyor.provider": "one",
            "purveyor.provider.type": "sample",
            "purveyor.operation": "echo",
            "purveyor.outcome": "ok",
        }

    async def test_an_error_by_its_code(self, registry: Registry, observed: Observed) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        with pytest.raises(ConnectionFailedError):
            await sample.do(lambda _: fail(BackendError("gone")))
        with pytest.raises(KeyError):
            await sample.do(lambda _: fail(KeyError("x")))
        with pytest.raises(ForeignError):
            await sample.do(lambda _: fail(ForeignError()))
        assert observed.outcomes() == {
            "CONNECTION_FAILED": 1,
            "KeyError": 1,
            f"{__name__}.ForeignError": 1,
        }

    async def test_a_timeout(self, registry: Registry, observed: Observed) -> None:
        sample = registry.register_nowait("one", {"type": "sample", "timeout": 0.01})
        with pytest.raises(OperationTimeoutError):
            await sample.do(lambda _: asyncio.sleep(60))
        assert observed.outcomes() == {"TIMEOUT": 1}

    async def test_a_call_refused_by_the_breaker(
        self, registry: Registry, observed: Observed
    ) -> None:
        settings = {"type": "sample", "circuit_breaker": {"failure_threshold": 1}}
        sample = registry.register_nowait("one", settings)
        with pytest.raises(ConnectionFailedError):
            await sample.do(lambda _: fail(BackendError("gone")))
        with pytest.raises(CircuitOpenError):
            await sample.echo()
        assert observed.outcomes() == {"CONNECTION_FAILED": 1, "CIRCUIT_OPEN": 1}
        assert (
            _value(
                observed.text(),
                "purveyor_circuit_breaker_state",
                purveyor_circuit_breaker_state="open",
            )
            == 1
        )

    async def test_a_cancelled_call(self, registry: Registry, observed: Observed) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        gate = Gate()
        task = asyncio.create_task(sample.do(gate))
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert observed.outcomes() == {"cancelled": 1}

    async def test_a_plain_operation(self, registry: Registry, observed: Observed) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        assert sample.plain(lambda _: "x") == "x"
        with pytest.raises(ZeroDivisionError):
            sample.plain(lambda _: 1 / 0)
        assert observed.outcomes() == {"ok": 1, "ZeroDivisionError": 1}

    async def test_a_method_that_is_no_operation_only_by_those_it_is_made_of(
        self, registry: Registry, observed: Observed
    ) -> None:
        await registry.register_nowait("one", {"type": "sample"}).helper("a")
        assert [labels["purveyor.operation"] for labels, _ in observed.kept()] == ["echo"]


class ForeignError(Exception):
    pass


class TestStreams:
    async def test_a_whole_one(self, registry: Registry, observed: Observed) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        assert [item async for item in sample.items(3)] == [0, 1, 2]
        assert [item async for item in sample.items(0)] == []
        assert observed.outcomes() == {"ok": 2}
        first = observed.kept("purveyor.operation.time_to_first_item")
        assert [count for _, count in first] == [1]

    async def test_one_that_fails_after_some(self, registry: Registry, observed: Observed) -> None:
        async def before(number: int) -> None:
            if number == 2:
                raise BackendError("gone")

        sample = registry.register_nowait("one", {"type": "sample"})
        got: list[int] = []
        with pytest.raises(ConnectionFailedError):
            async for item in sample.items(3, before_each=before):
                got.append(item)  # noqa: PERF401
        assert got == [0, 1]
        assert observed.outcomes() == {"CONNECTION_FAILED": 1}

    async def test_one_that_is_left(
        self, registry: Registry, observed: Observed, backend: Backend
    ) -> None:
        sample = registry.register_nowait("one", SampleConfig(backend=backend), type="sample")
        stream = sample.items(3)
        assert await anext(stream) == 0
        await stream.aclose()
        await stream.aclose()
        assert observed.outcomes() == {"abandoned": 1}
        assert backend.log.count("stream ended") == 1

    async def test_one_that_is_left_to_the_collector(
        self, registry: Registry, observed: Observed
    ) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        async for _ in sample.items(3):
            break
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert observed.outcomes() == {"abandoned": 1}

    async def test_one_that_is_never_begun(self, registry: Registry, observed: Observed) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        await sample.items(3).aclose()
        assert observed.outcomes() == {}


class TestWhoIsObserved:
    async def test_nobody_where_nobody_observes(self, types: Any) -> None:
        registry: Registry = ProviderRegistry("storage", types=types)
        sample = registry.register_nowait("one", {"type": "sample"})
        assert type(sample) is guarded_class(Sample)
        assert type(sample).echo is guarded_class(Sample).echo
        observed_class(Sample)  # that there is an observed one changes nothing
        assert type(registry.register_nowait("two", {"type": "sample"})) is type(sample)
        assert type(guarded(Sample(SampleConfig()), name="x")) is type(sample)

    async def test_a_renewed_instance_goes_on_as_before(
        self, registry: Registry, observed: Observed
    ) -> None:
        sample = registry.register_nowait("one", {"type": "sample", "label": "a"})
        await sample.echo()
        await registry.reload("one", {"label": "b"})
        assert registry.require("one") is sample
        await sample.echo()
        assert observed.outcomes() == {"ok": 2}

    async def test_the_heir_of_another_type_is_counted_once(
        self, registry: Registry, observed: Observed, types: Any
    ) -> None:
        class Other(Sample):
            pass

        register_provider("other", types=types)(Other)
        sample = registry.register_nowait("one", {"type": "sample"})
        await registry.reload("one", {"type": "other"})
        await sample.echo()
        sample.plain(lambda _: None)
        assert [item async for item in sample.items(1)] == [0]
        assert {labels["purveyor.provider.type"] for labels, _ in observed.kept()} == {"other"}
        assert observed.outcomes() == {"ok": 3}

    async def test_instances_of_callers_and_objects_that_exist(
        self, registry: Registry, observed: Observed
    ) -> None:
        registry.register_nowait("one", {"type": "sample"})
        async with registry.create("one") as mine:
            await mine.echo()
        wrapped = await registry.register_instance("two", Sample(SampleConfig()))
        await registry.require("two").echo()
        assert wrapped is not None
        assert [labels["purveyor.provider"] for labels, _ in observed.kept()] == ["one", "two"]
        await registry.unregister("two")

    async def test_it_cannot_be_pickled_and_shows_itself_as_before(
        self, registry: Registry
    ) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        with pytest.raises(TypeError, match="cannot be pickled"):
            sample.__reduce__()
        assert repr(sample) == "<Sample 'one' registered>"
        assert isinstance(sample, Sample)


class TestTheMeterProvider:
    async def test_gets_the_same(self, registry: Registry, observed: Observed) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        await sample.echo()
        (point,) = observed.exported("purveyor.operation.duration")
        ((labels, _),) = observed.kept()
        assert dict(point.attributes) == labels
        metric = observed.telemetry.duration
        assert metric is not None
        assert (point.count, tuple(point.explicit_bounds)) == (1, metric.bounds)
        assert metric.all()[0].read()[1] == point.sum

    async def test_gets_gauges_and_events(self, registry: Registry, observed: Observed) -> None:
        registry.register_nowait("one", {"type": "sample"})
        (events,) = observed.exported("purveyor.events")
        assert events.attributes["purveyor.event"] == "provider-registered"
        states = observed.exported("purveyor.circuit_breaker.state")
        shown = {
            point.attributes["purveyor.circuit_breaker.state"]: point.value for point in states
        }
        assert shown == {"closed": 1, "open": 0, "half-open": 0}

    async def test_of_two_containers_that_share_it_both_are_shown(
        self, types: Any, registry: Registry, observed: Observed
    ) -> None:
        registry.register_nowait("one", {"type": "sample"})
        second = Telemetry(tracer_provider=observed.tracing, meter_provider=observed.metering)
        other: Registry = ProviderRegistry("storage", types=types, observer=second)
        other.register_nowait("two", {"type": "sample"})
        points = observed.exported("purveyor.provider.leases")
        assert {point.attributes["purveyor.provider"] for point in points} == {"one", "two"}

    async def test_gets_nothing_where_it_is_not_to(self, types: Any) -> None:
        reader = InMemoryMetricReader()
        metering = MeterProvider([reader])
        settings = TelemetrySettings(enabled=True, meter=False, traces=False)
        telemetry = Telemetry(settings, meter_provider=metering)
        registry: Registry = ProviderRegistry("storage", types=types, observer=telemetry)
        sample = registry.register_nowait("one", {"type": "sample"})
        await sample.echo()
        await sample.dispose()
        assert reader.get_metrics_data() is None
        assert "purveyor_operation_duration_seconds_count" in exposition(telemetry)[0].decode()
        metering.shutdown()


class TestPrometheus:
    async def test_the_text_is_what_its_own_parser_reads(
        self, registry: Registry, observed: Observed
    ) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        await sample.echo()
        with registry.lease("one"):
            text = observed.text()
        assert _value(text, "purveyor_operation_duration_seconds_count") == 1
        inf = _value(text, "purveyor_operation_duration_seconds_bucket", le="+Inf")
        assert inf == 1
        assert _value(text, "purveyor_provider_leases") == 1
        assert _value(text, "purveyor_providers", purveyor_status="ready") == 1
        assert _value(text, "purveyor_events_total") == 1
        assert _value(text, "process_resident_memory_bytes") > 0

    async def test_buckets_add_up(self, observed: Observed) -> None:
        metric = observed.telemetry.histogram("test.size", "By", "Sizes.", (1.0, 10.0))
        assert metric is not None
        for value in (0.5, 1.0, 5.0, 100.0):
            metric.series({}).add(value)
        text = observed.text()
        found = [_value(text, "test_size_bucket", le=le) for le in ("1.0", "10.0", "+Inf")]
        assert found == [2, 3, 4]
        assert _value(text, "test_size_sum") == 106.5

    async def test_health_and_its_age(self, registry: Registry, observed: Observed) -> None:
        registry.register_nowait("one", {"type": "sample"})
        await registry.get_provider_health("one")
        text = observed.text()
        assert _value(text, "purveyor_health_status", purveyor_health_status="healthy") == 1
        assert _value(text, "purveyor_health_check_duration_seconds") >= 0
        assert _value(text, "purveyor_health_check_age_seconds") >= 0

    async def test_calls_under_way(self, registry: Registry, observed: Observed) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        gate = Gate()
        task = asyncio.create_task(sample.do(gate))
        await gate.reached.wait()
        assert _value(observed.text(), "purveyor_operation_active") == 1
        gate.opened.set()
        await task
        assert _value(observed.text(), "purveyor_operation_active") == 0

    async def test_looking_registers_nothing(self, types: Any, observed: Observed) -> None:
        declared = {"one": Declaration(ProviderSettings(type="sample"), "config", "here")}
        registry: Registry = ProviderRegistry(
            "storage", types=types, declared=declared, observer=observed.telemetry
        )
        assert _value(observed.text(), "purveyor_providers", purveyor_status="declared") == 1
        assert not registry.is_registered("one")

    def test_openmetrics_where_it_is_accepted(self, observed: Observed) -> None:
        text, media_type = exposition(observed.telemetry, "application/openmetrics-text")
        assert media_type.startswith("application/openmetrics-text")
        assert text.endswith(b"# EOF\n")


class TestLimits:
    async def test_no_metric_has_more_series_than_it_may(self, types: Any) -> None:
        settings = TelemetrySettings(enabled=True, traces=False, meter=False, max_series=10)
        telemetry = Telemetry(settings)
        registry: Registry = ProviderRegistry("storage", types=types, observer=telemetry)
        for number in range(50):
            sample = registry.register_nowait(f"p{number}", {"type": "sample"})
            sample.plain(lambda _: None)
        text = exposition(telemetry)[0].decode()
        counts = [
            sample
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "purveyor_operation_duration_seconds_count"
        ]
        assert len(counts) == 10
        assert sum(sample.value for sample in counts) == 50
        (beyond,) = (one for one in counts if one.labels["otel_metric_overflow"])
        assert beyond.value == 41
        for gauge in ("purveyor_health_status", "purveyor_circuit_breaker_state"):
            assert text.count(f"{gauge}{{") <= 10
        assert _value(text, "purveyor_providers", purveyor_status="registered") == 50

    async def test_no_secret_is_told(self, registry: Registry, observed: Observed) -> None:
        sample = registry.register_nowait("one", {"type": "sample", "password": SECRET})
        with pytest.raises(ConnectionFailedError):
            await sample.do(lambda _: fail(BackendError(f"refused {SECRET}")))
        with pytest.raises(ValueError, match="secret"):
            await sample.do(lambda _: fail(ValueError(f"secret {SECRET}")))
        await sample.echo(value=SECRET)
        await registry.get_provider_health("one")
        told = observed.text() + "".join(span.to_json() for span in observed.spans)
        assert SECRET not in told
        assert "hunter2" not in told

    def test_a_code_that_is_none_is_not_told(self) -> None:
        strange = RegistryError(f"it is {SECRET}", "text")
        assert error_type(strange) == "purveyor.providers.registry.errors.RegistryError"

    def test_no_value_is_lost_between_threads(self) -> None:
        metric = Metric("a", "s", "", (1.0,), limit=10)

        def work() -> None:
            for _ in range(2000):
                metric.series({"a": "b"}).add(0.5)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (series,) = metric.all()
        assert series.read() == ([8000, 0], 4000.0)


def _value(text: str, name: str, **labels: str) -> float:
    """Return the sum of what Prometheus reads under a name with some labels."""
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert found, f"no {name} with {labels}"
    return sum(found)
