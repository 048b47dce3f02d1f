"""The OpenAPI document says what the API does: requests made from it get answers it knows."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import openapi
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.entrypoints.http.server import Server
from purveyor.providers.registry import Role

CHECKS: list[Any] = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
PLACES = [
    ("storage", "filesystem"),
    ("storage", "sqlite"),
    ("storage", "made"),
    ("data_sources", "local_file"),
    ("data_sources", "made"),
    ("ai", "absent"),
    ("nothing", "größe"),
]
BODIES: dict[str, list[dict[str, Any]]] = {
    "storage": [
        {"type": "filesystem"},
        {"type": "filesystem", "priority": 70, "metadata": {"a": [1.5, None]}},
        {"type": "sqlite", "path": "made.db"},
        {"type": "s3", "bucket": "b", "access_key": "k", "secret_key": "**********"},
        {"type": "filesystem", "enabled": False},
        {"type": "failover", "providers": ["filesystem"]},
    ],
    "data_sources": [{"type": "local_file"}, {"type": "nothing"}, {"type": "local_file", "a": 1}],
}
HARMLESS = {"filesystem", "sqlite", "local_file"}
"""Types that are tried out: they open no connection."""


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses beyond this machine that Python's sockets were to connect to."""
    found: list[Any] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] != "127.0.0.1":
            found.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", watched, raising=False)
    return found


@contextmanager
def _served(app: FastAPI) -> Iterator[str]:
    """Serve an application in a thread, on an event loop of its own."""
    started = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    options: Any = {"log_config": None, "http": "h11", "ws": "none", "lifespan": "on"}
    config = uvicorn.Config(app, timeout_graceful_shutdown=1, **options)
    server = Server(config, started.set)

    thread = threading.Thread(target=asyncio.run, args=[server.serve([listener])])
    thread.start()
    try:
        assert started.wait(20)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def _api(folder: Path, anonymous: Role | None) -> Iterator[str]:
    (folder / "data").mkdir()
    (folder / "data" / "orders.csv").write_text("id,name\n1,a\n2,b\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PURVEYOR_HOME", str(folder))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "keys"))
        app = create_app(ApplicationContainer(monitoring=False), anonymous=anonymous)
        with _served(app) as url:
            yield url


@pytest.fixture(scope="module")
def open_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API, of which anybody may ask anything, with the embedded providers and a file."""
    with _api(tmp_path_factory.mktemp("open"), Role.ADMIN) as url:
        yield url


@pytest.fixture(scope="module")
def closed_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API, which wants a token."""
    with _api(tmp_path_factory.mktemp("closed"), None) as url:
        yield url


def _operations(url: str) -> list[Any]:
    schema = openapi.from_url(f"{url}/openapi.json")
    found = [one.ok() for one in schema.get_all_operations()]
    return [
        one
        for one in found
        if one.path.startswith("/api/") and not one.path.endswith("/stream")  # it does not end
    ]


def _aimed(case: Any, data: st.DataObject) -> None:
    """Let a made request have something to do with what there is, most of the time."""
    family = "data_sources"
    case.headers = {
        name: value for name, value in (case.headers or {}).items() if name != "Authorization"
    }
    case.cookies = {}
    if data.draw(st.integers(0, 3)):
        place = data.draw(st.sampled_from(PLACES))
        if "name" in case.path_parameters:
            case.path_parameters["name"] = place[1]
        if "family" in case.path_parameters:
            case.path_parameters["family"] = family = place[0]
        if "item" in (case.query or {}):
            case.query["item"] = "orders.csv"
        else:
            kept = data.draw(st.sets(st.sampled_from(sorted(case.query or {"": ""}))))
            case.query = {key: (case.query or {}).get(key) for key in kept if key}
    settings_wanted = isinstance(case.body, dict) and not case.path.endswith("/query")
    if settings_wanted and (case.path.endswith("/test") or data.draw(st.integers(0, 3))):
        case.body = data.draw(st.sampled_from(BODIES.get(family, [{"type": "nothing"}])))
    tries = case.path.endswith("/test") or (case.query or {}).get("test")
    if tries and isinstance(case.body, dict) and case.body.get("type") not in HARMLESS:
        case.body = {"type": "filesystem"}


def _ask(operation: Any, examples: int, answered: list[int]) -> None:
    @seed(7)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=cast(Any, list(HealthCheck)),
    )
    @given(case=operation.as_strategy(), data=st.data())
    def ask(case: Any, data: st.DataObject) -> None:
        _aimed(case, data)
        response = case.call(timeout=10)
        answered.append(response.status_code)
        case.validate_response(response, checks=CHECKS)

    ask()


def test_requests_made_from_the_document_get_answers_that_it_knows(
    open_api: str, strangers: list[Any]
) -> None:
    answered: list[int] = []
    for operation in _operations(open_api):
        _ask(operation, 5, answered)
    assert strangers == []
    assert {200, 404, 422} <= set(answered)


def test_without_a_token_nothing_is_answered(closed_api: str) -> None:
    answered: list[int] = []
    for operation in _operations(closed_api):
        _ask(operation, 1, answered)
    assert set(answered) <= {401, 422}  # what is no request at all is told first


async def test_the_document_needs_no_token_and_is_complete(closed_api: str) -> None:
    async with httpx2.AsyncClient(base_url=closed_api) as client:
        answer = await client.get("/openapi.json")
        assert [(await client.get(path)).status_code for path in ("/docs", "/redoc")] == [404, 404]
    document = answer.json()
    operations = [
        operation
        for path, found in document["paths"].items()
        if path.startswith("/api/")
        for operation in found.values()
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names)) >= 25
    assert {"list_providers", "put_provider", "query_data_source", "refresh"} <= set(names)
    for operation in operations:
        assert operation["tags"]
        assert operation["description"]
        assert operation["security"]
        assert {"401", "403", "422"} <= operation["responses"].keys()
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"]
