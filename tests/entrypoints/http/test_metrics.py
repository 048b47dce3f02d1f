"""``/metrics``, and what is observed of requests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.entrypoints.http.parts import Container
from purveyor.providers.catalogue import Tokens
from purveyor.providers.registry import Role
from purveyor.providers.telemetry import Telemetry

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


GLOBAL = """
import asyncio, httpx2
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.settings import Settings

exporter, tracing = InMemorySpanExporter(), TracerProvider()
tracing.add_span_processor(SimpleSpanProcessor(exporter))

async def ask(enabled):
    settings = Settings(telemetry={"enabled": enabled})
    app = create_app(ApplicationContainer(settings=settings, monitoring=False))
    trace.set_tracer_provider(tracing)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        await client.get("/livez")
    print(len(exporter.get_finished_spans()))

asyncio.run(ask(False))
asyncio.run(ask(True))
"""


class Traced:
    """A telemetry with a tracer of its own, and the spans that ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = TracerProvider()
        self.tracing.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.telemetry = Telemetry(tracer_provider=self.tracing)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def traced() -> Any:
    made = Traced()
    yield made
    made.tracing.shutdown()


@pytest.fixture
async def container(
    home: Path, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Any]:
    container: Any = ApplicationContainer(monitoring=False, telemetry=traced.telemetry)
    async with container.lifespan():
        yield container


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def samples(text: str, name: str) -> list[tuple[dict[str, str], float]]:
    return [
        (sample.labels, sample.value)
        for family in plain(text)
        for sample in family.samples
        if sample.name == name
    ]


class TestMetrics:
    async def test_has_operations_requests_and_providers(
        self, client: httpx2.AsyncClient, container: Any
    ) -> None:
        await container.storage().put("a", b"x")
        await client.get("/api/v1/providers/storage/filesystem")
        answer = await client.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        ((labels, count),) = samples(answer.text, "purveyor_operation_duration_seconds_count")
        assert (labels["purveyor_operation"], count) == ("put", 1)
        ((labels, count),) = samples(answer.text, "http_server_request_duration_seconds_count")
        assert count == 1
        assert labels["http_route"] == "/api/v1/providers/{family}/{name}"
        assert labels["http_request_method"] == "GET"
        assert labels["http_response_status_code"] == "200"

    async def test_openmetrics_where_the_caller_takes_it(self, client: httpx2.AsyncClient) -> None:
        asked = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.4"
        answer = await client.get("/metrics", headers={"Accept": asked})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert {family.name for family in openmetrics(answer.text)} >= {"purveyor_providers"}

    async def test_needs_a_token_of_a_reader(self, container: Any) -> None:
        async with client_of(create_app(container)) as client:
            assert (await client.get("/metrics")).status_code == 401
            _, token = await Tokens(container.catalogue()).create("prometheus", Role.READER)
            answer = await client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200
            assert token not in answer.text

    async def test_says_how_to_switch_it_on_where_it_is_off(self, home: Path) -> None:
        container: Any = ApplicationContainer(monitoring=False)
        async with container.lifespan():
            app = create_app(container, anonymous=Role.READER)
            async with client_of(app) as client:
                answer = await client.get("/metrics")
        assert answer.status_code == 404
        assert answer.json()["code"] == "TELEMETRY_OFF"
        assert "PURVEYOR_TELEMETRY__ENABLED=true" in answer.json()["detail"]
        assert "ObservedRequests" not in str(app.user_middleware)

    async def test_by_settings(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PURVEYOR_TELEMETRY__ENABLED", "true")
        container: Any = ApplicationContainer(monitoring=False)
        async with container.lifespan():
            await container.storage("sqlite").put("a", b"x")
            async with client_of(create_app(container, anonymous=Role.READER)) as client:
                text = (await client.get("/metrics")).text
        ((labels, _),) = samples(text, "purveyor_operation_duration_seconds_count")
        assert labels["purveyor_provider"] == "sqlite"


class TestRequests:
    async def test_paths_and_methods_of_callers_make_no_series(
        self, client: httpx2.AsyncClient, traced: Traced
    ) -> None:
        for number in range(5):
            await client.get(f"/nothing/{number}")
            await client.request(f"STRANGE{number}", "/api/v1/providers/storage/filesystem")
            await client.get(f"/api/v1/providers/storage/absent{number}")
        requests = traced.telemetry.requests
        assert requests is not None
        told = [dict(series.attributes) for series in requests.all()]
        assert len(told) == 3
        assert {one["http.request.method"] for one in told} == {"GET", "_OTHER"}
        assert "absent" not in str(told)

    async def test_a_span_continues_the_trace_of_the_caller(
        self, client: httpx2.AsyncClient, traced: Traced
    ) -> None:
        secret = "hunter2"
        await client.get(
            f"/api/v1/providers?q={secret}",
            headers={"traceparent": TRACEPARENT},
        )
        (span,) = traced.spans
        assert (span.name, span.kind) == (
            "GET /api/v1/providers",
            SpanKind.SERVER,
        )
        assert span.parent is not None
        assert f"{span.parent.trace_id:032x}" == TRACE
        assert f"{span.parent.span_id:016x}" == SPAN
        told = dict(span.attributes or {})
        assert told["http.response.status_code"] == 200
        assert told["url.path"] == "/api/v1/providers"
        assert secret not in span.to_json()

    async def test_operations_are_within_the_span_of_their_request(
        self, app: FastAPI, traced: Traced
    ) -> None:
        @app.get("/put")
        async def put(container: Container) -> None:
            await container.storage().put("a", b"x")

        async with client_of(app) as client:
            assert (await client.get("/put")).status_code == 200
        inner, outer = traced.spans
        assert (inner.name, outer.name) == ("put filesystem", "GET /put")
        assert inner.parent == outer.context

    async def test_a_defect_is_an_error_and_a_mistake_of_the_caller_is_none(
        self, app: FastAPI, traced: Traced
    ) -> None:
        @app.get("/broken")
        async def broken() -> None:
            raise ZeroDivisionError("hunter2")

        async with client_of(app) as client:
            assert (await client.get("/broken")).status_code == 500
            assert (await client.get("/api/v1/providers/storage/absent")).status_code == 404
        defect, mistake = traced.spans
        assert defect.status.status_code is StatusCode.ERROR
        assert (defect.attributes or {})["error.type"] == "ZeroDivisionError"
        assert (defect.attributes or {})["http.response.status_code"] == 500
        assert "hunter2" not in defect.to_json()
        assert mistake.status.status_code is StatusCode.UNSET
        assert (mistake.attributes or {})["http.response.status_code"] == 404

    async def test_within_an_application_it_is_within_that_ones_span(
        self, app: FastAPI, traced: Traced
    ) -> None:
        with traced.tracing.get_tracer("outer").start_as_current_span("outer"):
            async with client_of(app) as client:
                await client.get("/livez", headers={"traceparent": TRACEPARENT})
        inner, outer = traced.spans
        assert (inner.name, inner.kind) == ("GET /livez", SpanKind.INTERNAL)
        assert inner.parent == outer.context

    def test_one_span_a_request_and_only_if_wanted_where_the_process_is_traced(
        self, folder: Path
    ) -> None:
        done = subprocess.run(
            [sys.executable, "-c", GLOBAL],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PURVEYOR_HOME": str(folder)},
        )
        assert done.stdout.split() == ["0", "1"], done.stderr
