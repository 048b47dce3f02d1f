"""Events over HTTP: the last ones as a page, those to come as a stream."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app, event_stream
from purveyor.entrypoints.http.event_log import EventLog
from purveyor.providers.registry import Role
from purveyor.providers.registry.events import (
    CircuitBreakerClosed,
    ProviderErrorOccurred,
    event_classes,
)
from purveyor.providers.storage.errors import StorageConnectionError

from .conftest import Serve, Served

PATH = "/api/v1/events"
STREAM = f"{PATH}/stream"


@dataclass
class Message:
    """One server-sent event, as a browser would take it in."""

    event: str = "message"
    data: Any = None
    id: str | None = None
    comments: list[str] = field(default_factory=list[str])
    retry: int | None = None


async def messages(response: httpx2.Response) -> AsyncIterator[Message]:
    """Parse a stream, by the rules of the HTML standard that matter here."""
    message = Message()
    async for line in response.aiter_lines():
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            yield message
            message = Message()
        elif not name:
            message.comments.append(value)
        elif name == "data":
            message.data = json.loads(value)
        elif name == "retry":
            message.retry = int(value)
        elif name == "event":
            message.event = value
        elif name == "id":
            message.id = value
        else:
            raise AssertionError(line)


class Follower:
    """A client of a stream."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._messages = messages(response)

    async def next(self) -> Message:
        """Return what comes next, within some seconds."""
        return await asyncio.wait_for(anext(self._messages), 10)

    async def rest(self) -> list[Message]:
        """Return what comes until the stream ends, within some seconds."""
        async with asyncio.timeout(10):
            return [message async for message in self._messages]


Follow = Callable[..., AbstractAsyncContextManager[Follower]]


@pytest.fixture
def follow(served: Served) -> Follow:
    """Follow the stream of a served application; its first words are taken away."""
    return following(served)


def following(served: Served) -> Follow:
    @asynccontextmanager
    async def follow(*, headers: Any = None, **params: Any) -> AsyncGenerator[Follower]:
        async with (
            httpx2.AsyncClient(base_url=served.base_url) as client,
            client.stream("GET", STREAM, params=params, headers=headers) as response,
        ):
            assert response.status_code == 200, await response.aread()
            follower = Follower(response)
            hello = await follower.next()
            assert hello.retry
            yield follower

    return follow


@pytest.fixture
def log(app: FastAPI) -> EventLog:
    """What the application keeps of events."""
    return app.state.parts.events()


async def until(claim: Callable[[], bool]) -> None:
    """Wait until something is so, some seconds at most."""
    async with asyncio.timeout(10):
        while not claim():  # noqa: ASYNC110 - what it asks has no event
            await asyncio.sleep(0.005)


@pytest.fixture
def emit(container: ApplicationContainer) -> Callable[..., None]:
    """Let something happen to providers of some names."""

    def emit(*names: str, family: str = "storage") -> None:
        for name in names:
            container.events().emit(CircuitBreakerClosed(family, name, "the probe succeeded"))

    return emit


# -- the page ------------------------------------------------------------------------------


@pytest.mark.requirement("S4.66")
async def test_each_event_of_the_registry_is_told_with_its_data(
    client: httpx2.AsyncClient, container: ApplicationContainer
) -> None:
    storage = container.registries()["storage"]
    await storage.register("archive", {"type": "filesystem"})
    await storage.unregister("archive")
    container.events().emit(
        ProviderErrorOccurred("storage", "archive", StorageConnectionError("no route", "archive"))
    )
    page = (await client.get(PATH)).json()
    told = [(one["event"], one["family"], one["name"]) for one in page["items"][:3]]
    assert told == [
        ("provider-error", "storage", "archive"),
        ("provider-unregistered", "storage", "archive"),
        ("provider-registered", "storage", "archive"),
    ]
    failure, _, registered = page["items"][:3]
    assert failure["data"] == {"error": {"code": "CONNECTION_FAILED", "message": "no route"}}
    assert registered["data"]["provider"]["type"] == "filesystem"
    assert [one["id"] for one in page["items"]] == list(range(page["items"][0]["id"], 0, -1))


async def test_pages_go_back_to_the_oldest_that_is_kept(
    client: httpx2.AsyncClient, log: EventLog, emit: Callable[..., None]
) -> None:
    emit("a", "b", "c", "d", "e")
    names: list[str] = []
    before: dict[str, int] = {}
    while True:
        page = (await client.get(PATH, params={"limit": 2, "event": EVENT, **before})).json()
        names += [one["name"] for one in page["items"]]
        assert page["cursor"] == f"{log.boot}-{log.last}"
        if page["next"] is None:
            break
        assert len(page["items"]) == 2
        before = {"before": page["next"]}
    assert names == ["e", "d", "c", "b", "a"]


EVENT = "circuit-breaker-closed"


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"family": "ai"}, ["b"]),
        ({"family": ["ai", "images"]}, ["c", "b"]),
        ({"family": "image"}, ["c"]),  # an alias of images
        ({"name": ["a", "c"]}, ["c", "a"]),
        ({"name": "a", "family": "ai"}, []),
        ({"event": "provider-reloaded"}, []),
    ],
)
async def test_filters_narrow_it_down(
    client: httpx2.AsyncClient,
    emit: Callable[..., None],
    params: dict[str, Any],
    expected: list[str],
) -> None:
    emit("a")
    emit("b", family="ai")
    emit("c", family="images")
    page = (await client.get(PATH, params={"event": EVENT, **params})).json()
    assert [one["name"] for one in page["items"]] == expected


@pytest.mark.parametrize("path", [PATH, STREAM])
async def test_an_unknown_family_or_event_is_told_with_those_there_are(
    client: httpx2.AsyncClient, path: str
) -> None:
    answer = await client.get(path, params={"family": "storrage"})
    assert (answer.status_code, answer.json()["code"]) == (422, "UNKNOWN_FAMILY")
    assert "storrage" in answer.json()["detail"]
    assert answer.json()["context"]["available"][0] == "storage"
    answer = await client.get(path, params={"event": "provider-eror"})
    assert answer.status_code == 422
    assert set(answer.json()["context"]["available"]) == set(event_classes())
    assert answer.json()["context"]["available"][0] == "provider-error"


@pytest.mark.parametrize("path", [PATH, STREAM])
async def test_who_has_no_token_is_told_nothing(container: ApplicationContainer, path: str) -> None:
    transport = httpx2.ASGITransport(app=create_app(container))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        assert (await client.get(path)).status_code == 401


# -- the stream ----------------------------------------------------------------------------


async def test_events_come_as_they_happen(
    follow: Follow, log: EventLog, emit: Callable[..., None]
) -> None:
    async with follow() as follower:
        headers = follower.response.headers
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["x-accel-buffering"] == "no"
        assert headers["cache-control"] == "no-store"
        emit("a")
        message = await follower.next()
        assert (message.event, message.data["name"]) == (EVENT, "a")
        assert message.id == f"{log.boot}-{log.last}"
        emit("b", "c")
        assert [(await follower.next()).data["name"] for _ in "bc"] == ["b", "c"]


async def test_events_of_other_threads_come_too(follow: Follow, emit: Callable[..., None]) -> None:
    async with follow() as follower:
        await asyncio.to_thread(emit, "a")
        assert (await follower.next()).data["name"] == "a"


async def test_only_what_was_asked_for_comes(follow: Follow, emit: Callable[..., None]) -> None:
    async with follow(name="b", family="storage", event=EVENT) as follower:
        emit(*["a"] * 250, "b")
        emit("b", family="ai")
        emit("b")
        assert [(await follower.next()).data["family"] for _ in range(2)] == ["storage"] * 2


async def test_who_comes_back_gets_what_came_up_meanwhile(
    follow: Follow, log: EventLog, emit: Callable[..., None]
) -> None:
    async with follow() as follower:
        emit("a")
        last = (await follower.next()).id
    assert last
    emit("b", "c")
    for how in ({"headers": {"Last-Event-ID": last}}, {"after": last}):
        async with follow(**how) as follower:
            assert [(await follower.next()).data["name"] for _ in "bc"] == ["b", "c"]
    async with follow(headers={"Last-Event-ID": f"{log.boot}-{log.last}"}, after=last) as follower:
        emit("d")
        assert (await follower.next()).data["name"] == "d"


async def test_who_comes_back_too_late_is_told_how_many_events_he_missed(
    serve: Serve, container: ApplicationContainer, emit: Callable[..., None]
) -> None:
    async with serve(small_app(container, event_history=10)) as served:
        log: EventLog = served.app.state.parts.events()
        emit(*map(str, range(25)))
        async with following(served)(after=f"{log.boot}-3") as follower:
            missed = await follower.next()
            assert (missed.event, missed.data) == ("missed", {"missed": 12})
            assert missed.id == f"{log.boot}-15"
            rest = [await follower.next() for _ in range(10)]
            assert [one.data["id"] for one in rest] == list(range(16, 26))


@pytest.mark.parametrize(
    "last", ["0badcafe-3", "nonsense", "-", "{boot}-99999", "{boot}-²", "9" * 6000]
)
async def test_an_id_of_another_process_is_answered_by_what_there_is(
    follow: Follow, log: EventLog, emit: Callable[..., None], last: str
) -> None:
    emit("a", "b")
    last = last.format(boot=log.boot)
    async with follow(event=EVENT, headers={"Last-Event-ID": last.encode()}) as follower:
        missed = await follower.next()
        assert (missed.event, missed.data) == ("missed", {"missed": None})
        assert [(await follower.next()).data["name"] for _ in "ab"] == ["a", "b"]


async def test_a_quiet_stream_shows_that_it_lives_and_where_it_is(
    follow: Follow, log: EventLog, emit: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert event_stream.HEARTBEAT == 15
    monkeypatch.setattr(event_stream, "HEARTBEAT", 0.1)
    async with follow(name="nobody") as follower:
        emit("a")
        await until(lambda: log.last > 0)
        message = await follower.next()
        assert message.comments
        assert message.data is None
        assert message.id == f"{log.boot}-{log.last}"


def small_app(container: ApplicationContainer, **http: Any) -> FastAPI:
    """Return an application with other settings of its HTTP part."""
    settings = container.settings()
    changed = settings.model_copy(update={"http": settings.http.model_copy(update=http)})
    with container.settings.override(changed):
        app = create_app(container, anonymous=Role.ADMIN)
    app.state.parts.settings.override(changed.http)
    return app


async def test_more_streams_than_there_may_be_are_refused_until_one_ends(
    serve: Serve, container: ApplicationContainer
) -> None:
    async with serve(small_app(container, max_streams=2)) as served:
        follow, log = following(served), served.app.state.parts.events()
        async with httpx2.AsyncClient(base_url=served.base_url) as client:
            async with follow(), follow():
                answer = await client.get(STREAM)
                assert answer.status_code == 503
                assert int(answer.headers["Retry-After"]) > 0
                assert answer.json()["code"] == "TOO_MANY_STREAMS"
            await until(lambda: log.followers == 0)
            async with follow():
                assert log.followers == 1


async def test_a_client_that_goes_frees_its_place_at_once(follow: Follow, log: EventLog) -> None:
    async with follow():
        assert log.followers == 1
    await asyncio.wait_for(until(lambda: log.followers == 0), 2)


async def test_a_client_that_does_not_read_costs_bounded_memory_and_is_told_what_it_missed(
    serve: Serve, container: ApplicationContainer
) -> None:
    app = small_app(container, event_history=200)
    async with serve(app) as served:
        log: EventLog = app.state.parts.events()
        port = int(served.base_url.rpartition(":")[2])
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            lazy.connect(("127.0.0.1", port))
            lazy.sendall(f"GET {STREAM} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            await until(lambda: log.followers == 1)
            reason = "x" * 5_000
            async with following(served)() as other:
                for _ in range(100):  # 100 rounds of 20 events of 5 kB: far more than buffers hold
                    for _ in range(20):
                        container.events().emit(CircuitBreakerClosed("storage", "a", reason))
                    await asyncio.sleep(0.01)
                assert (await other.next()).event == EVENT  # another one is not held up
            waiting = [
                connection.transport.get_write_buffer_size()  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
                for connection in served.server.server_state.connections
            ]
            assert max(waiting) < 64 * 1024 + event_stream.BATCH * 6_000
            lazy.setblocking(False)
            received = b""
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(10):
                while f"id: {log.boot}-{log.last}\n".encode() not in received:
                    received += await loop.sock_recv(lazy, 1 << 20)
        missed = received.count(b"event: missed\n")
        assert missed
        lines = received.decode().splitlines()
        gone = sum(json.loads(line[6:])["missed"] for line in lines if '"missed"' in line)
        assert gone + received.count(f"event: {EVENT}\n".encode()) == 2_000


async def test_the_end_of_the_service_is_told_to_those_who_listen(
    follow: Follow, served: Served, log: EventLog
) -> None:
    async with follow() as follower, follow() as another:
        served.app.state.stopping.set()
        for one in (follower, another):
            assert [message.event for message in await one.rest()] == ["shutdown"]
    assert log.followers == 0


async def test_a_client_that_does_not_read_does_not_hold_up_the_end(
    serve: Serve, container: ApplicationContainer, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "PATIENCE", 0.05)
    async with serve(app) as served:
        log: EventLog = app.state.parts.events()
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect(("127.0.0.1", int(served.base_url.rpartition(":")[2])))
            lazy.sendall(f"GET {STREAM} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            await until(lambda: log.followers == 1)
            (connection,) = served.server.server_state.connections
            flow: Any = connection.flow  # pyright: ignore[reportAttributeAccessIssue]
            while not flow.write_paused:  # now its stream waits for it
                container.events().emit(CircuitBreakerClosed("storage", "a", "x" * 100_000))
                await asyncio.sleep(0.01)
            app.state.stopping.set()
            await asyncio.wait_for(until(lambda: log.followers == 0), 2)


async def test_a_stream_ends_soon_after_its_token_was_revoked(
    serve: Serve, container: ApplicationContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert event_stream.RECHECK <= 5
    monkeypatch.setattr(event_stream, "RECHECK", 0.05)
    app = create_app(container)
    tokens = app.state.parts.tokens()
    _, kept = await tokens.create("kept", Role.READER)
    _, gone = await tokens.create("gone", Role.READER)
    _, brief = await tokens.create("brief", Role.READER, lifetime=timedelta(seconds=1))
    async with serve(app) as served:
        follow = following(served)
        async with (
            follow(headers=bearer(kept)) as reader,
            follow(headers=bearer(gone)) as revoked,
            follow(headers=bearer(brief)) as expired,
        ):
            await tokens.revoke("gone")
            for one in (revoked, expired):
                assert [message.event for message in await one.rest()] == ["refused"]
            container.events().emit(CircuitBreakerClosed("storage", "a", ""))
            assert (await reader.next()).data["name"] == "a"


async def test_whoever_needed_no_token_does_not_stay_when_one_is_needed(
    served: Served, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "RECHECK", 0.05)
    async with follow() as follower:
        await served.app.state.parts.tokens().create("first", Role.ADMIN)
        assert [message.event for message in await follower.rest()] == ["refused"]


def bearer(token: str) -> dict[str, str]:
    """Return the header that shows a token."""
    return {"Authorization": f"Bearer {token}"}
