"""The spans of calls: when there are any, what they tell, whose parents they are."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    get_current_span,
    use_span,
)

from purveyor.providers.registry import ConnectionFailedError, ProviderRegistry
from purveyor.providers.telemetry import Telemetry
from purveyor.settings import TelemetrySettings
from tests.providers.registry.samples import BackendError, Gate, Sample
from tests.providers.telemetry.conftest import Observed

Registry = ProviderRegistry[Any]


def id_of(span: ReadableSpan) -> int:
    """Return the id of a span that is recorded."""
    context = span.get_span_context()
    assert context is not None
    return context.span_id


async def current(_: Sample) -> Any:
    """Give the span that is current within a call."""
    return get_current_span()


class Asked(Sampler):
    """Decides as it is told, and counts how often it is asked."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.attributes: list[Any] = []

    def should_sample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, parent_context: Any, trace_id: int, name: str, kind: Any = None,
        attributes: Any = None, links: Any = None, trace_state: Any = None,
    ) -> SamplingResult:  # fmt: skip
        self.attributes.append(attributes)
        return SamplingResult(self.decision)

    def get_description(self) -> str:
        return "asked"


class TestWhatTheyTell:
    async def test_an_answer(self, registry: Registry, observed: Observed) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        await sample.echo("a")
        (span,) = observed.spans
        assert (span.name, span.kind) == ("echo sample", SpanKind.CLIENT)
        assert span.status.status_code is StatusCode.UNSET
        assert dict(span.attributes or {}) == {
            "purveyor.family": "storage",
            "purveyor.provider": "one",
            "purveyor.provider.type": "sample",
            "purveyor.operation": "echo",
        }
        scope = span.instrumentation_scope
        assert scope is not None
        assert (scope.name, scope.schema_url) == (
            "purveyor",
            "https://opentelemetry.io/schemas/1.44.0",
        )

    async def test_an_error_by_its_class_and_no_message(
        self, registry: Registry, observed: Observed
    ) -> None:
        async def fail(_: Sample) -> None:
            raise BackendError("the password is hunter2")

        sample = registry.register_nowait("one", {"type": "sample"})
        with pytest.raises(ConnectionFailedError):
            await sample.do(fail)
        (span,) = observed.spans
        assert (span.attributes or {})["error.type"] == "CONNECTION_FAILED"
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
        assert not span.events

    async def test_a_cancelled_call_is_no_error(
        self, registry: Registry, observed: Observed
    ) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        gate = Gate()
        task = asyncio.create_task(sample.do(gate))
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (span,) = observed.spans
        assert (span.attributes or {})["purveyor.outcome"] == "cancelled"
        assert span.status.status_code is StatusCode.UNSET


class TestWhenThereAreAny:
    async def test_the_sampler_sees_the_attributes(self, types: Any) -> None:
        sampler = Asked(Decision.DROP)
        sample = _traced(types, TracerProvider(sampler=sampler))
        await sample.echo()
        assert sampler.attributes[0]["purveyor.provider"] == "one"
        await sample.dispose()

    async def test_what_a_trace_leaves_out_it_leaves_out_whole(self, types: Any) -> None:
        sampler = Asked(Decision.DROP)
        sample = _traced(types, TracerProvider(sampler=sampler))

        async def nested(_: Sample) -> bool:
            return await sample.echo(get_current_span().is_recording())

        assert await sample.do(nested) is False
        assert len(sampler.attributes) == 1
        await sample.dispose()

    async def test_none_within_a_trace_that_is_not_sampled(
        self, registry: Registry, observed: Observed
    ) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        with use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=True))):
            await sample.echo()
        assert observed.spans == []
        assert observed.outcomes() == {"ok": 1}

    async def test_one_within_a_trace_from_elsewhere_that_is(
        self, registry: Registry, observed: Observed
    ) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        with use_span(NonRecordingSpan(parent)):
            await sample.echo()
        (span,) = observed.spans
        assert span.parent == parent

    async def test_none_where_none_are_wanted(self, types: Any, observed: Observed) -> None:
        settings = TelemetrySettings(enabled=True, traces=False, meter=False)
        telemetry = Telemetry(settings, tracer_provider=observed.tracing)
        registry: Registry = ProviderRegistry("storage", types=types, observer=telemetry)
        sample = registry.register_nowait("one", {"type": "sample"})
        assert await sample.do(current) is INVALID_SPAN
        await sample.dispose()
        assert observed.spans == []

    async def test_none_where_the_application_set_up_nothing(self, types: Any) -> None:
        registry: Registry = ProviderRegistry("storage", types=types, observer=Telemetry())
        sample = registry.register_nowait("one", {"type": "sample"})
        assert await sample.do(current) is INVALID_SPAN
        await sample.dispose()


class TestParents:
    async def test_the_span_is_current_within_its_call_and_not_after(
        self, registry: Registry, observed: Observed
    ) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        with observed.tracing.get_tracer("test").start_as_current_span("outer") as outer:
            within = await sample.do(current)
            assert get_current_span() is outer
        inner, last = observed.spans
        assert within.get_span_context() == inner.context
        assert inner.parent == last.context
        assert get_current_span() is INVALID_SPAN

    async def test_calls_at_the_same_time_do_not_mix(
        self, registry: Registry, observed: Observed
    ) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})

        async def nested(_: Sample) -> None:
            before = get_current_span()
            await asyncio.sleep(0)
            await sample.echo()
            assert get_current_span() is before

        await asyncio.gather(*(sample.do(nested) for _ in range(20)))
        outer = {id_of(span) for span in observed.spans if span.name == "do sample"}
        inner = [span.parent.span_id for span in observed.spans if span.parent is not None]
        assert len(inner) == 20
        assert set(inner) == outer

    async def test_after_a_failure_the_callers_span_is_current_again(
        self, registry: Registry
    ) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        for error in (ValueError(), asyncio.CancelledError()):

            async def fail(_: Sample, error: BaseException = error) -> None:
                raise error

            with pytest.raises(type(error)):
                await sample.do(fail)
            assert get_current_span() is INVALID_SPAN


class TestStreams:
    async def test_the_span_is_current_in_each_step_and_never_at_the_caller(
        self, registry: Registry, observed: Observed
    ) -> None:
        within: list[Any] = []

        async def before(_: int) -> None:
            within.append(get_current_span())

        sample = registry.register_nowait("one", {"type": "sample"})
        async for _ in sample.items(3, before_each=before):
            assert get_current_span() is INVALID_SPAN
        (span,) = observed.spans
        assert {one.get_span_context().span_id for one in within} == {id_of(span)}
        assert len(within) == 3

    async def test_each_step_may_come_from_another_task(
        self, registry: Registry, observed: Observed, caplog: pytest.LogCaptureFixture
    ) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        stream = sample.items(3)

        async def step() -> int:
            return await anext(stream)

        assert [await asyncio.create_task(step()) for _ in range(3)] == [0, 1, 2]
        await asyncio.create_task(stream.aclose())
        assert len(observed.spans) == 1
        assert caplog.messages == []

    async def test_one_that_is_left_ends_its_span_and_resets_nobodys(
        self, registry: Registry, observed: Observed, caplog: pytest.LogCaptureFixture
    ) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})

        async def leave() -> None:
            async for _ in sample.items(3):
                break

        with observed.tracing.get_tracer("test").start_as_current_span("outer") as outer:
            await asyncio.create_task(leave())
            gc.collect()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert get_current_span() is outer
        assert [span.name for span in observed.spans] == ["items sample", "outer"]
        assert (observed.spans[0].attributes or {})["purveyor.outcome"] == "abandoned"
        assert caplog.messages == []

    async def test_a_call_that_is_thrown_away_resets_nobodys(
        self, registry: Registry, observed: Observed, caplog: pytest.LogCaptureFixture
    ) -> None:
        sample = registry.register_nowait("one", {"type": "sample"})
        await sample.echo()
        call = sample.do(Gate())

        async def begin() -> None:
            call.send(None)

        await asyncio.create_task(begin())
        call.close()
        assert get_current_span() is INVALID_SPAN
        assert observed.outcomes() == {"ok": 1, "abandoned": 1}
        assert caplog.messages == []


def _traced(types: Any, tracing: TracerProvider) -> Any:
    settings = TelemetrySettings(enabled=True, meter=False)
    telemetry = Telemetry(settings, tracer_provider=tracing)
    registry: Registry = ProviderRegistry("storage", types=types, observer=telemetry)
    return registry.register_nowait("one", {"type": "sample"})
