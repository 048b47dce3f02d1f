"""The transport: JSON and events over HTTP, retries, and what every fault is called."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr, ValidationError

from purveyor.providers.web.config import WebConfig, proxy_of
from purveyor.providers.web.errors import (
    ApplicationNotRunningError,
    AuthenticationError,
    BadResponseError,
    InvalidRequestError,
    OverloadedError,
    RateLimitedError,
    ServiceConnectionError,
    ServiceError,
    ServiceTimeoutError,
)
from purveyor.providers.web.retry import retry_after
from purveyor.providers.web.transport import Answer, Transport
from purveyor.testing.doubles import Double, Fault


class Echo(Double):
    """A service that says what it was asked."""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/echo", self.echo),
            web.get("/echo", self.echo),
            web.post("/events", self.events),
            web.get("/html", self.html),
            web.get("/elsewhere", self.elsewhere),
        ]

    async def echo(self, request: web.Request) -> web.Response:
        return web.json_response({"said": (await request.read()).decode()})

    async def events(self, request: web.Request) -> web.StreamResponse:
        return await self.send_pieces(request, [b"data: %d\n\n" % n for n in range(5)])

    async def html(self, _: web.Request) -> web.Response:
        return web.Response(text="<title>Log in</title>", content_type="text/html")

    async def elsewhere(self, _: web.Request) -> web.Response:
        raise web.HTTPFound("/echo")


def explain(answer: Answer) -> ServiceError:
    wait = retry_after(answer.headers)
    if answer.status == 429:
        return RateLimitedError("too many", retry_after=wait)
    if answer.status == 504:
        return ServiceTimeoutError("gave up")
    if answer.status >= 500:
        return OverloadedError("no", retry_after=wait)
    return ServiceError(f"{answer.status}")


@pytest.fixture
def double() -> Iterator[Echo]:
    with Echo() as double:
        yield double


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
async def transport(double: Echo, pauses: list[float]) -> AsyncIterator[Transport]:
    transport = made(double.url, pauses)
    yield transport
    await transport.close()


def made(url: str, pauses: list[float], **settings: Any) -> Transport:
    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    return Transport(
        WebConfig(base_url=url, **settings),
        headers=lambda: {"X-Key": "k"},
        explain=explain,
        extra="openai",
        pause=pause,
    )


async def test_json_goes_and_comes(transport: Transport, double: Echo) -> None:
    answer = await transport.json("POST", "/echo", {"a": "ü"}, headers={"X-More": "m"})
    assert answer == {"said": '{"a": "ü"}'}
    asked = double.last
    assert (asked.headers["X-Key"], asked.headers["X-More"]) == ("k", "m")
    assert asked.headers["Content-Type"] == "application/json"


async def test_headers_that_cannot_be_made_are_no_lost_connection(double: Echo) -> None:
    def no_key() -> dict[str, str]:
        raise AuthenticationError("no key")

    transport = Transport(
        WebConfig(base_url=double.url), headers=no_key, explain=explain, extra="openai"
    )
    with pytest.raises(AuthenticationError, match="no key"):
        await transport.json("GET", "/echo")
    assert double.requests == []
    await transport.close()


async def test_events_come_one_by_one(transport: Transport) -> None:
    assert [event.data async for event in transport.events("/events", {})] == list("01234")


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_what_was_not_taken_is_sent_again(
    transport: Transport, double: Echo, pauses: list[float], status: int
) -> None:
    double.fail(Fault(status, {"Retry-After": "3"}), Fault(status))
    assert await transport.json("POST", "/echo") == {"said": ""}
    assert len(double.requests) == 3
    assert pauses[0] == 3.0
    assert 0.5 <= pauses[1] <= 1.0


async def test_retries_are_bounded(transport: Transport, double: Echo) -> None:
    double.fail(*[Fault(429, {"retry-after-ms": "1500"})] * 5)
    with pytest.raises(RateLimitedError) as caught:
        await transport.json("POST", "/echo")
    assert caught.value.retry_after == 1.5
    assert len(double.requests) == 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500),
        Fault(504),
        Fault(429, {"Retry-After": "31"}),
        Fault(400),
        Fault(hang_up=True),
    ],
    ids=[
        "it may have been done",
        "a gateway gave up, not the service",
        "the wait is the caller's",
        "a mistake",
        "it was sent",
    ],
)
async def test_what_may_have_been_done_is_not_sent_again(
    transport: Transport, double: Echo, pauses: list[float], fault: Fault
) -> None:
    double.fail(fault)
    with pytest.raises(ServiceError):
        await transport.json("POST", "/echo")
    assert (len(double.requests), pauses) == (1, [])


async def test_what_changes_nothing_is_sent_again(
    transport: Transport, double: Echo, pauses: list[float]
) -> None:
    double.fail(Fault(500), Fault(502))
    assert await transport.json("GET", "/echo") == {"said": ""}
    assert len(pauses) == 2


async def test_what_is_said_to_change_nothing_is_sent_again(
    transport: Transport, double: Echo, pauses: list[float]
) -> None:
    double.fail(Fault(500), Fault(hang_up=True))
    assert await transport.json("POST", "/echo", repeatable=True) == {"said": ""}
    assert len(pauses) == 2


async def test_nothing_below_sends_again_unsaid(double: Echo, pauses: list[float]) -> None:
    transport = made(double.url, pauses, retries=0)
    double.fail(Fault(hang_up=True), Fault(), Fault(hang_up=True))
    with pytest.raises(ServiceConnectionError):  # over a new connection
        await transport.json("GET", "/echo")
    await transport.json("GET", "/echo")
    with pytest.raises(ServiceConnectionError):  # over one that was used before
        await transport.json("GET", "/echo")
    assert len(double.requests) == 3
    await transport.close()


async def test_html_is_told_by_its_title(transport: Transport) -> None:
    with pytest.raises(BadResponseError, match="answered 200 with text/html titled 'Log in'"):
        await transport.json("GET", "/html")


async def test_an_empty_body_is_no_answer(transport: Transport, double: Echo) -> None:
    double.fail(Fault(200))
    with pytest.raises(BadResponseError, match="an empty body, not with JSON"):
        await transport.json("POST", "/echo")


async def test_a_redirect_is_not_followed(transport: Transport, double: Echo) -> None:
    with pytest.raises(BadResponseError, match="Redirects are not followed"):
        await transport.json("GET", "/elsewhere")
    assert len(double.requests) == 1


async def test_a_body_cut_short_is_a_lost_connection(transport: Transport, double: Echo) -> None:
    double.fail(Fault(cut_after=3))
    with pytest.raises(ServiceConnectionError, match="was lost"):
        await transport.json("POST", "/echo")


async def test_a_stream_cut_short_is_a_lost_connection(transport: Transport, double: Echo) -> None:
    double.fail(Fault(cut_after=2))
    got: list[str] = []
    with pytest.raises(ServiceConnectionError):
        async for event in transport.events("/events", {}):
            got.append(event.data)  # noqa: PERF401 - what came before the error is wanted too
    assert got == ["0", "1"]


async def test_a_stalled_stream_times_out(double: Echo, pauses: list[float]) -> None:
    transport = made(double.url, pauses, first_byte_timeout=0.2)
    double.fail(Fault(stall_after=2))
    with pytest.raises(ServiceTimeoutError, match=r"0\.2 s \(first_byte_timeout\)"):
        async for _ in transport.events("/events", {}):
            pass
    await transport.close()


async def test_a_late_answer_times_out(double: Echo, pauses: list[float]) -> None:
    transport = made(double.url, pauses, request_timeout=0.2)
    double.fail(Fault(delay=5))
    with pytest.raises(ServiceTimeoutError, match=r"within 0\.2 s \(request_timeout\)"):
        await transport.json("POST", "/echo")
    await transport.close()


async def test_nobody_at_home_is_told(pauses: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    transport = made(f"http://127.0.0.1:{port}", pauses)
    with pytest.raises(ApplicationNotRunningError, match="is not running"):
        await transport.json("POST", "/echo")
    assert len(pauses) == 2
    await transport.close()


async def test_who_is_cancelled_breaks_the_connection(transport: Transport, double: Echo) -> None:
    double.fail(Fault(stall_after=1))
    task = asyncio.create_task(_all(transport))
    await until(lambda: double.open_streams == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: double.broken_streams == 1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - another thread makes it true
            await asyncio.sleep(0.01)


async def _all(transport: Transport) -> None:
    async for _ in transport.events("/events", {}):
        pass


class ForwardProxy(Double):
    """A proxy for plain HTTP, which answers itself."""

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/{tail:.*}", self.forward)]

    async def forward(self, request: web.Request) -> web.Response:
        return web.json_response({"asked": str(request.url)})


async def test_a_proxy_is_used_and_the_passwords_of_netrc_are_not(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hunter2-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with ForwardProxy() as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:pass-of-proxy@127.0.0.1:{proxy.port}")
        transport = made("http://service.example.com", pauses)
        answer = await transport.json("POST", "/v1/ask", {})
        await transport.close()
    assert answer == {"asked": "http://service.example.com/v1/ask"}
    assert "Authorization" not in proxy.last.headers
    assert proxy.last.headers["Proxy-Authorization"].startswith("Basic ")


def test_this_machine_needs_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example.com:3128")
    assert proxy_of("http://127.0.0.1:11434/v1") is None
    assert proxy_of("http://service.example.com/v1") == "http://proxy.example.com:3128"
    assert proxy_of("https://service.example.com/v1") is None


async def test_half_a_character_is_refused_and_not_sent(transport: Transport, double: Echo) -> None:
    with pytest.raises(InvalidRequestError, match="half a character") as caught:
        await transport.json("POST", "/echo", {"text": "\udcff", "key": "hunter2"})
    assert caught.value.__context__ is None
    assert double.requests == []


async def test_json_too_deep_to_be_read_is_no_answer(transport: Transport, double: Echo) -> None:
    double.fail(Fault(200, body=b"[" * 200_000))
    with pytest.raises(BadResponseError):
        await transport.json("POST", "/echo")


class Keyed(WebConfig):
    api_key: SecretStr | None = None


def test_a_key_is_one_line_and_may_come_from_a_file_with_its_end() -> None:
    config = Keyed.model_validate({"base_url": "https://a.example.com", "api_key": "sk-1\n"})
    assert config.api_key is not None
    assert config.api_key.get_secret_value() == "sk-1"
    with pytest.raises(ValidationError, match="one line"):
        Keyed.model_validate({"base_url": "https://a.example.com", "api_key": "sk-1\nsk-2"})


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 +9999999999"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_what_is_no_wait_is_none(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after(headers) == wait
