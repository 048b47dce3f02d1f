"""Telemetry of a container: switched on by settings or in code, and free of cost when off."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind

from purveyor.containers import ApplicationContainer
from purveyor.providers.ai.errors import OverloadedError
from purveyor.providers.registry import ImportFailedError
from purveyor.providers.registry.guarded import guarded_class
from purveyor.providers.registry.observed import Observed as ObservedOutside
from purveyor.providers.telemetry import Telemetry
from purveyor.providers.telemetry.prometheus import exposition
from purveyor.settings import Settings
from purveyor.testing.doubles import OpenAIDouble
from tests.providers.ai.parrots import instance_of, parrot_types
from tests.providers.telemetry.conftest import Observed

OFF = """
import asyncio, sys
from pathlib import Path

sys.modules["fastapi"] = None  # dependency-injector imports it, and it imports OpenTelemetry
from purveyor.containers import ApplicationContainer
from purveyor.settings import Settings

async def main():
    container = ApplicationContainer(settings=Settings(home=Path(sys.argv[1])))
    async with container.lifespan():
        await container.storage().put("a", b"x")
        assert await container.storage().get("a") == b"x"
        assert container.telemetry() is None
    container.registries()

asyncio.run(main())
foreign = ("opentelemetry", "prometheus_client", "purveyor.providers.telemetry")
print(*[name for name in sys.modules if name.startswith(foreign)])
"""


@pytest.fixture
def observed() -> Iterator[Observed]:
    made = Observed()
    yield made
    made.close()


class TestOff:
    def test_nothing_of_it_is_imported(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-c", OFF, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert (done.stdout.strip(), done.stderr) == ("", "")

    async def test_what_is_handed_out_is_the_very_same_class(self, container: Any) -> None:
        handle = container.storage("first")
        assert type(handle) is guarded_class(type(handle._guard.peek()))
        assert not isinstance(handle, ObservedOutside)


class TestOn:
    async def test_by_settings(self, settings: Settings, types: Any) -> None:
        settings = settings.model_copy(
            update={"telemetry": settings.telemetry.model_copy(update={"enabled": True})}
        )
        container: Any = ApplicationContainer(settings=settings, types=types)
        async with container.lifespan():
            await container.storage("first").get("a")
            text = exposition(container.telemetry())[0].decode()
        assert 'purveyor_operation="get"' in text
        assert 'purveyor_provider="first"' in text

    async def test_in_code(self, settings: Settings, types: Any, observed: Observed) -> None:
        container: Any = ApplicationContainer(
            settings=settings, types=types, telemetry=observed.telemetry
        )
        assert container.telemetry() is observed.telemetry
        async with container.lifespan():
            await container.storage("first").get("a")
        assert observed.outcomes() == {"ok": 1}

    def test_without_the_library_the_install_line_is_told(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "opentelemetry", None)
        given = settings.telemetry.model_copy(update={"enabled": True})
        with pytest.raises(ImportFailedError, match=r"pip install 'purveyor\[telemetry\]'"):
            Telemetry(given)

    async def test_a_replacement_is_handed_out_as_it_is(
        self, settings: Settings, types: Any, observed: Observed
    ) -> None:
        container: Any = ApplicationContainer(
            settings=settings, types=types, telemetry=observed.telemetry
        )
        fake = object()
        with container.storage.override_provider("first", fake):
            assert container.storage("first") is fake

    def test_blocking_calls_are_within_the_callers_span(
        self, settings: Settings, types: Any, observed: Observed
    ) -> None:
        container: Any = ApplicationContainer(
            settings=settings, types=types, telemetry=observed.telemetry
        )
        with (
            observed.tracing.get_tracer("test").start_as_current_span("outer"),
            container.blocking as services,
        ):
            assert services.storage("first").get("a") == b"one"
        inner, outer = observed.spans
        assert inner.parent == outer.context

    async def test_members_of_a_group_are_within_the_groups_span(
        self, tmp_path: Path, observed: Observed
    ) -> None:
        settings = Settings(
            home=tmp_path,
            storage={"providers": {"both": {"type": "failover", "members": "filesystem,sqlite"}}},
        )
        container: Any = ApplicationContainer(settings=settings, telemetry=observed.telemetry)
        async with container.lifespan():
            await container.storage("both").put("a", b"x")
        member, group = observed.spans
        assert (member.name, member.kind) == ("put filesystem", SpanKind.CLIENT)
        assert (group.name, group.kind) == ("put failover", SpanKind.INTERNAL)
        assert member.parent == group.context

    async def test_a_database_is_named(self, tmp_path: Path, observed: Observed) -> None:
        container: Any = ApplicationContainer(
            settings=Settings(home=tmp_path), telemetry=observed.telemetry
        )
        async with container.lifespan():
            await container.storage("sqlite").put("a", b"x")
        (span,) = observed.spans
        assert (span.attributes or {})["db.system.name"] == "sqlite"


class TestModels:
    @pytest.fixture
    async def container(self, tmp_path: Path, observed: Observed) -> Any:
        settings = Settings(
            home=tmp_path,
            ai={
                "providers": {"polly": {"type": "parrot", "model": "grey"}},
                "aliases": {"fast": "polly:macaw"},
            },
        )
        made: Any = ApplicationContainer(
            settings=settings, types=parrot_types(), telemetry=observed.telemetry, monitoring=False
        )
        async with made.lifespan():
            yield made

    async def test_a_call_by_the_conventions(self, container: Any, observed: Observed) -> None:
        await container.ai("polly").complete("tell no one: hunter2", model="macaw")
        (span,) = observed.spans
        told = dict(span.attributes or {})
        assert span.name == "chat macaw"
        assert told["gen_ai.operation.name"] == "chat"
        assert told["gen_ai.provider.name"] == "parrot"
        assert told["gen_ai.request.model"] == told["gen_ai.response.model"] == "macaw"
        assert told["gen_ai.usage.input_tokens"] == 1_000_000
        assert told["gen_ai.usage.output_tokens"] == 0
        assert told["gen_ai.response.finish_reasons"] == ("stop",)
        ((labels, count),) = observed.kept("gen_ai.client.operation.duration")
        assert (labels["gen_ai.request.model"], count) == ("macaw", 1)
        tokens = observed.kept("gen_ai.client.token.usage")
        assert {labels["gen_ai.token.type"] for labels, _ in tokens} == {"input", "output"}
        assert "hunter2" not in span.to_json() + observed.text()

    async def test_a_stream_by_its_last_piece(self, container: Any, observed: Observed) -> None:
        assert [one.text async for one in container.ai("polly").stream("hello")] == ["grey", ""]
        (span,) = observed.spans
        assert (span.attributes or {})["gen_ai.usage.input_tokens"] == 1_000_000
        assert len(observed.kept("gen_ai.client.token.usage")) == 2

    async def test_a_stream_that_is_left_used_nobody_knows_what(
        self, container: Any, observed: Observed
    ) -> None:
        stream = container.ai("polly").stream("hello")
        await anext(stream)
        await stream.aclose()
        assert observed.kept("gen_ai.client.token.usage") == []
        assert observed.outcomes() == {"abandoned": 1}

    async def test_a_failure_by_its_class(self, container: Any, observed: Observed) -> None:
        instance_of(container.ai("polly")).errors.append(OverloadedError("hunter2"))
        with pytest.raises(OverloadedError):
            await container.ai("polly").complete("hello")
        ((labels, _),) = observed.kept("gen_ai.client.operation.duration")
        assert labels["error.type"] == OverloadedError.default_code
        assert "hunter2" not in observed.text()

    async def test_an_alias_asks_once(self, container: Any, observed: Observed) -> None:
        await container.ai("fast").complete("hello")
        inner, outer = observed.spans
        assert (inner.name, outer.name) == ("chat macaw", "complete alias")
        ((_, count),) = observed.kept("gen_ai.client.operation.duration")
        assert count == 1

    async def test_a_real_service_over_http(self, tmp_path: Path, observed: Observed) -> None:
        with OpenAIDouble() as openai:
            provider = {"type": "openai", "base_url": openai.base_url, "api_key": openai.key}
            settings = Settings(
                home=tmp_path, ai={"providers": {"chat": {**provider, "model": "model-a"}}}
            )
            container: Any = ApplicationContainer(
                settings=settings, telemetry=observed.telemetry, monitoring=False
            )
            async with container.lifespan():
                await container.ai("chat").complete("hello")
            assert openai.key not in observed.text() + "".join(
                span.to_json() for span in observed.spans
            )
        told = dict(observed.spans[0].attributes or {})
        assert told["gen_ai.provider.name"] == "openai"
        assert told["gen_ai.usage.input_tokens"] == 11
        assert told["gen_ai.usage.output_tokens"] == 7


async def test_many_calls_at_once_are_all_counted(tmp_path: Path) -> None:
    reader = InMemoryMetricReader()
    metering = MeterProvider([reader])
    telemetry = Telemetry(meter_provider=metering)
    container: Any = ApplicationContainer(settings=Settings(home=tmp_path), telemetry=telemetry)
    async with container.lifespan():
        storage = container.storage("sqlite")
        await asyncio.gather(*(storage.put(str(number), b"x") for number in range(100)))
    data = reader.get_metrics_data()
    assert data is not None
    found = [
        point.count
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "purveyor.operation.duration"
        for point in metric.data.data_points
    ]
    assert found == [100]
    metering.shutdown()
