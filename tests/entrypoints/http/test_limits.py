"""What a request may cost, and what web pages of others may not do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.entrypoints.http.limits import BodyLimit, RateLimit
from purveyor.entrypoints.http.rates import Rates
from purveyor.providers.registry import Role

from .conftest import Serve

WELL = "/api/v1/providers/storage/filesystem"
ECHO = "/echo"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small limits."""
    monkeypatch.setenv("PURVEYOR_HTTP__MAX_BODY", "2048")
    monkeypatch.setenv("PURVEYOR_HTTP__BODY_TIMEOUT", "0.3")


@pytest.fixture
def app(settings: None, container: ApplicationContainer) -> FastAPI:
    """The application, with routes of the tests' own."""
    app = create_app(container, anonymous=Role.ADMIN)

    @app.post(ECHO)
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.get("/defect")
    async def defect() -> None:
        raise RuntimeError("a defect with canary-secret in it")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncGenerator[bytes]:
            yield b"first"
            await app.state.stopping.wait()
            yield b"last"

        return StreamingResponse(parts(), headers={"Cache-Control": "no-transform"})

    return app


def check(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Return the problem that an answer is."""
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["detail"]
    return problem


def change(app: FastAPI, middleware: type, **options: object) -> None:
    """Change the options of a middleware before the first request."""
    next(one for one in app.user_middleware if one.cls is middleware).kwargs.update(options)


# -- bodies ------------------------------------------------------------------------------


async def test_a_body_within_the_limit_arrives_whole(client: httpx2.AsyncClient) -> None:
    assert (await client.post(ECHO, content=b"x" * 2048)).json() == 2048


async def test_a_body_that_says_it_is_too_large_is_not_read(client: httpx2.AsyncClient) -> None:
    problem = check(await client.post(ECHO, content=b"x" * 2049), 413, "BODY_TOO_LARGE")
    assert "2048 bytes" in problem["detail"]


async def test_a_body_that_turns_out_too_large(client: httpx2.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 1000

    check(await client.post(ECHO, content=chunks()), 413, "BODY_TOO_LARGE")


async def test_who_may_ask_models_may_send_pictures(
    app: FastAPI, client: httpx2.AsyncClient
) -> None:
    @app.post("/v1/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 1000

    tokens = app.state.parts.tokens()
    said = {role: await tokens.create(role.name, role) for role in (Role.READER, Role.OPERATOR)}
    for role, status in ((Role.OPERATOR, 200), (Role.READER, 413)):
        headers = {"Authorization": f"Bearer {said[role][1]}"}
        for content in (b"x" * 3000, chunks()):
            answer = await client.post("/v1/echo", content=content, headers=headers)
            assert answer.status_code == status
        assert (await client.post(ECHO, content=b"x" * 3000, headers=headers)).status_code == 413
    answer = await client.post("/v1/echo", content=b"x" * 3000)  # of nobody
    assert answer.status_code == 413
    assert "2048 bytes (PURVEYOR_HTTP__MAX_BODY)" in answer.json()["error"]["message"]


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "50000000"}])
async def test_a_huge_body_is_answered_though_its_sender_first_sends_all_of_it(
    app: FastAPI, serve: Serve, headers: dict[str, str]
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(500):
            yield b"x" * 100_000

    change(app, BodyLimit, timeout=10.0)
    async with serve(app) as served, httpx2.AsyncClient(base_url=served.base_url) as client:
        answer = await client.post(ECHO, content=chunks(), headers=headers)
        check(answer, 413, "BODY_TOO_LARGE")
        assert answer.headers["Connection"] == "close"


async def test_a_length_beyond_all_numbers(app: FastAPI) -> None:
    sent = await raw_asgi(app, [(b"content-length", b"9" * 5000)], [])
    assert sent[0]["status"] == 413


async def test_a_slow_body_is_given_up(app: FastAPI, serve: Serve) -> None:
    async with serve(app) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(served.base_url))
        writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nxx")
        async with asyncio.timeout(10):
            answer = await reader.read()  # to the connection's end
        assert answer.startswith(b"HTTP/1.1 408 ")
        problem = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert problem["code"] == "BODY_TIMEOUT"
        assert "longer than 0.3 s" in problem["detail"]
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_client_that_goes_in_the_middle_of_its_body_is_no_error(app: FastAPI) -> None:
    part = {"type": "http.request", "body": b"x", "more_body": True}
    sent = await raw_asgi(app, [], [part, {"type": "http.disconnect"}])
    assert sent == []


async def raw_asgi(
    app: FastAPI, headers: list[tuple[bytes, bytes]], received: list[dict[str, Any]]
) -> list[Any]:
    """Return what the application sends for messages that no client would send."""
    sent: list[Any] = []
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
             "scheme": "http", "path": ECHO, "raw_path": ECHO.encode(), "query_string": b"",
             "root_path": "", "headers": headers, "server": ("127.0.0.1", 80),
             "client": ("127.0.0.1", 1)}  # fmt: skip

    async def receive() -> dict[str, Any]:
        return received.pop(0) if received else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(10):
        await app(scope, receive, send)
    return sent


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def test_a_stream_passes_part_by_part(app: FastAPI, serve: Serve) -> None:
    async with (
        serve(app) as served,
        httpx2.AsyncClient(base_url=served.base_url) as client,
        client.stream("GET", "/stream") as answer,
    ):
        parts = answer.aiter_bytes()
        assert await anext(parts) == b"first"  # while the route waits
        app.state.stopping.set()
        assert await anext(parts) == b"last"
        assert answer.headers["Cache-Control"] == "no-transform"


# -- rates -------------------------------------------------------------------------------


class Clock:
    """A time that moves when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_then_the_rate() -> None:
    clock = Clock()
    rates = Rates(10, burst=3, clock=clock)
    assert [rates.take("a") for _ in range(3)] == [0, 0, 0]
    assert rates.take("a") == pytest.approx(0.1)
    assert rates.take("b") == 0
    clock.now = 0.1
    assert rates.take("a") == 0
    assert rates.take("a") > 0
    clock.now = 60
    assert [bool(rates.take("a")) for _ in range(4)] == [False, False, False, True]


def test_who_is_refused_does_not_wait_longer_for_it() -> None:
    clock = Clock()
    rates = Rates(1, burst=1, clock=clock)
    rates.take("a")
    assert {rates.take("a") for _ in range(100)} == {1.0}
    clock.now = 1
    assert rates.take("a") == 0


def test_only_the_latest_callers_are_remembered() -> None:
    rates = Rates(1, burst=1, callers=100, clock=Clock())
    rates.take("often")
    for number in range(10_000):
        rates.take(f"caller {number}")
        assert rates.take("often") > 0
    assert len(rates._paid_back) == 100


@pytest.fixture
def few(app: FastAPI) -> None:
    """Five requests a second of a caller, in a second that does not end."""
    change(app, RateLimit, rates=Rates(5, burst=5, clock=Clock()))


async def test_who_asks_too_often_is_told_when_to_come_again(
    few: None, client: httpx2.AsyncClient
) -> None:
    answers = [await client.get("/none") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [404] * 5 + [429]
    check(answers[-1], 429, "TOO_MANY_REQUESTS")
    assert answers[-1].headers["Retry-After"] == "1"
    assert answers[-1].headers["X-Content-Type-Options"] == "nosniff"


async def test_each_token_and_each_address_counts_by_itself(few: None, app: FastAPI) -> None:
    _, text = await app.state.parts.tokens().create("ci", Role.READER)
    await app.state.parts.tokens().verify(text)

    async def statuses(client: str, **headers: str) -> set[int]:
        transport = httpx2.ASGITransport(app=app, client=(client, 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as one:
            return {(await one.get("/none", headers=headers)).status_code for _ in range(5)}

    assert await statuses("192.0.2.1") == {404}
    assert await statuses("192.0.2.1") == {429}
    assert await statuses("192.0.2.2") == {404}
    assert await statuses("192.0.2.1", Authorization=f"Bearer {text}") == {404}
    assert await statuses("192.0.2.2", Authorization="Bearer pvy_made_up") == {429}
    assert await statuses("2001:db8::1") == {404}
    assert await statuses("2001:db8::ffff:2") == {429}  # the same network


# -- headers -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [WELL, "/none", "/defect", "/openapi.json"])
async def test_every_answer_has_the_headers(client: httpx2.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" not in headers
    assert "Access-Control-Allow-Origin" not in headers


async def test_a_defect_is_a_problem_that_tells_nothing(client: httpx2.AsyncClient) -> None:
    problem = check(await client.get("/defect"), 500, "INTERNAL_ERROR")
    assert "canary" not in json.dumps(problem)


async def test_files_of_the_dashboard_may_be_kept(client: httpx2.AsyncClient) -> None:
    assert "Cache-Control" not in (await client.get("/static/none.css")).headers


async def test_https_stays_https_but_not_for_all_of_localhost(app: FastAPI) -> None:
    async def header(url: str) -> str | None:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as client:
            return (await client.get(url)).headers.get("Strict-Transport-Security")

    assert await header("https://purveyor.example/none") == "max-age=31536000"
    assert await header("https://localhost:8443/none") is None
    assert await header("http://purveyor.example/none") is None


async def test_the_header_of_another_method_stays(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/openapi.json")
    check(answer, 405, "METHOD_NOT_ALLOWED")
    assert "GET" in answer.headers["Allow"]


# -- origins -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Origin": "http://[nonsense"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "same-origin-not"},
    ],
)
async def test_a_page_of_somebody_else_changes_nothing(
    client: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    check(await client.post(ECHO, headers=headers), 403, "CROSS_ORIGIN")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_our_own_pages_and_programs_do(
    client: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    assert (await client.post(ECHO, headers=headers)).status_code == 200


async def test_reading_is_no_change(client: httpx2.AsyncClient) -> None:
    answer = await client.get(WELL, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers  # so the page does not get it


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURVEYOR_HTTP__CORS_ORIGINS", "https://App.example,https://b.example:8443")


async def test_origins_in_the_settings_may_read_and_change(
    others: None, client: httpx2.AsyncClient
) -> None:
    asked = {"Access-Control-Request-Method": "DELETE",
             "Access-Control-Request-Headers": "authorization, if-match"}  # fmt: skip
    origin = {"Origin": "https://app.example"}
    preflight = await client.options(WELL, headers=origin | asked)
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Access-Control-Allow-Credentials" not in preflight.headers
    answer = await client.post(ECHO, headers=origin | {"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    other = await client.post(ECHO, headers={"Origin": "https://evil.example"})
    check(other, 403, "CROSS_ORIGIN")
    assert "Access-Control-Allow-Origin" not in other.headers


@pytest.mark.parametrize(
    "origin", ["*", "shop.example", "https://shop.example/", "https://*.example"]
)
def test_what_is_no_origin_is_refused_by_the_settings(
    origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from purveyor.settings import SettingsError, load_settings

    monkeypatch.setenv("PURVEYOR_HTTP__CORS_ORIGINS", origin)
    with pytest.raises(SettingsError, match="must be origins: each http:// or https:// and a host"):
        load_settings()
