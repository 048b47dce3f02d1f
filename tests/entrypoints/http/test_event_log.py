"""The log of the last events: what it keeps, what it tells, what it costs, and its end."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.entrypoints.http.event_log import EventLog
from purveyor.providers.registry import HealthResult, HealthStatus
from purveyor.providers.registry.errors import ConnectionFailedError
from purveyor.providers.registry.events import (
    CircuitBreakerClosed,
    CircuitBreakerOpened,
    Event,
    Events,
    HealthStatusChanged,
    ProviderErrorOccurred,
    ProviderFailedOver,
    ProviderUnregistered,
    event_classes,
)
from purveyor.providers.registry.redaction import knowing


@pytest.fixture
def events() -> Events:
    """Where events come up."""
    return Events()


@pytest.fixture
def log(events: Events) -> EventLog:
    """A log of the last ten."""
    return EventLog(events, 10)


def gone(name: object) -> Event:
    """Return an event of a provider of some name."""
    return ProviderUnregistered("storage", str(name))


def test_it_hears_of_every_event_there_is(events: Events, log: EventLog) -> None:
    assert all(events.wanted(cls) for cls in event_classes().values())
    events.emit(gone("a"))
    (told,) = log.recent()
    assert (told.id, told.event, told.family, told.name) == (
        1,
        "provider-unregistered",
        "storage",
        "a",
    )
    assert abs((datetime.now(UTC) - told.at).total_seconds()) < 60


def test_it_keeps_the_last_ones_newest_first(events: Events, log: EventLog) -> None:
    assert log.recent() == []
    for number in range(1, 26):
        events.emit(gone(number))
    assert [one.id for one in log.recent()] == list(range(25, 15, -1))
    assert [one.name for one in log.recent(limit=2)] == ["25", "24"]
    assert [one.id for one in log.backwards(before=18)] == [17, 16]
    assert list(log.backwards(before=3)) == []


def test_reading_goes_on_after_what_was_seen_and_tells_what_is_gone(
    events: Events, log: EventLog
) -> None:
    for number in range(25):
        events.emit(gone(number))
    missed, found = log.read(0, 4)
    assert (missed, [one.id for one in found]) == (15, [16, 17, 18, 19])
    missed, found = log.read(19, 100)
    assert (missed, [one.id for one in found]) == (0, list(range(20, 26)))
    assert log.read(25, 100) == (0, [])


def test_what_an_event_says_is_told_as_json(events: Events, log: EventLog) -> None:
    at = datetime(2026, 11, 21, tzinfo=UTC)
    result = HealthResult("a", HealthStatus.UNHEALTHY, 0.25, at, "gone", "TIMEOUT")
    events.emit(HealthStatusChanged("ai", "a", HealthStatus.UNKNOWN, result.status, result))
    events.emit(CircuitBreakerOpened("ai", "a", "5 failures", 5, float("inf")))
    events.emit(ProviderFailedOver("ai", "a", "b", ConnectionRefusedError("no")))
    over, opened, changed = log.recent()
    assert changed.data["after"] == "unhealthy"
    assert changed.data["result"]["checked_at"] == at.isoformat()
    assert opened.data == {"reason": "5 failures", "failures": 5, "retry_after": None}
    assert over.data["error"] == {"code": None, "message": "ConnectionRefusedError: no"}
    for one in (over, opened, changed):
        told = json.loads(json.dumps(one.to_dict(), allow_nan=False))
        assert json.loads(one.frame("x").decode().split("data: ")[1]) == told


def test_known_secrets_are_masked_for_good(events: Events, log: EventLog) -> None:
    with knowing([SecretStr("hunter2hunter2")]):
        events.emit(CircuitBreakerClosed("ai", "a", "said hunter2hunter2"))
        events.emit(ProviderFailedOver("ai", "a", "b", ValueError("hunter2hunter2")))
    assert "hunter2" not in json.dumps([one.to_dict() for one in log.recent()])
    assert "said" in log.recent()[1].data["reason"]


def test_an_error_is_told_without_keeping_what_its_traceback_holds(
    events: Events, log: EventLog
) -> None:
    class Body:
        pass

    def fail() -> weakref.ref[Body]:
        body = Body()
        try:
            raise ConnectionFailedError("no route", "a")
        except ConnectionFailedError as error:
            events.emit(ProviderErrorOccurred("storage", "a", error))
        return weakref.ref(body)

    body = fail()
    gc.collect()
    assert body() is None
    assert log.recent()[0].data == {"error": {"code": "CONNECTION_FAILED", "message": "no route"}}


def test_a_lone_surrogate_in_a_text_is_no_end_of_a_stream(events: Events, log: EventLog) -> None:
    events.emit(CircuitBreakerClosed("ai", "a", "\udc80\nid: 7\n\nevent: x"))
    frame = log.recent()[0].frame("boot")
    assert frame.count(b"\n") == 4
    assert frame.startswith(b"id: boot-1\nevent: circuit-breaker-closed\ndata: {")


def test_threads_get_numbers_of_their_own_without_a_gap(events: Events) -> None:
    log = EventLog(events, 10_000)

    def emit() -> None:
        for number in range(500):
            events.emit(gone(number))

    threads = [threading.Thread(target=emit) for _ in range(8)]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    while len(seen) < 4_000 and (any(one.is_alive() for one in threads) or log.last > len(seen)):
        missed, found = log.read(len(seen), 100)
        assert missed == 0
        seen += [one.id for one in found]
    for thread in threads:
        thread.join()
    assert seen == list(range(1, 4_001))


# -- following ---------------------------------------------------------------------------


async def test_who_follows_is_woken_from_another_thread(events: Events, log: EventLog) -> None:
    with log.following() as bell:
        waiting = asyncio.create_task(bell.wait())
        await asyncio.sleep(0)
        await asyncio.to_thread(events.emit, gone("a"))
        await asyncio.wait_for(waiting, 5)
    assert log.last == 1


async def test_followers_of_two_loops_are_woken_each_in_his_own(
    events: Events, log: EventLog
) -> None:
    follows = threading.Event()

    async def follow() -> int:
        with log.following() as bell:
            follows.set()
            while log.last == 0:
                await asyncio.wait_for(bell.wait(), 5)
            return log.followers

    with log.following() as bell:
        elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, follow()))
        await asyncio.to_thread(follows.wait)
        waiting = asyncio.create_task(bell.wait())
        await asyncio.sleep(0)
        events.emit(gone("a"))
        await asyncio.wait_for(waiting, 5)
        assert await asyncio.wait_for(elsewhere, 5) == 2
    assert log.followers == 0


async def test_a_storm_wakes_a_loop_once_however_many_follow(
    events: Events, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, calls = asyncio.get_running_loop(), list[Any]()
    threadsafe = loop.call_soon_threadsafe

    def counted(callback: Callable[..., object], *arguments: Any) -> asyncio.Handle:
        calls.append(callback)
        return threadsafe(callback, *arguments)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    with log.following() as bell, log.following(), log.following():
        for number in range(1_000):
            events.emit(gone(number))
        await bell.wait()
    assert len(calls) == 1


def test_a_loop_that_is_closed_troubles_nobody(
    events: Events, log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    async def follow() -> Any:
        following = log.following()
        following.__enter__()
        return following

    following = asyncio.run(follow())
    events.emit(gone("a"))
    assert log.last == 1
    assert not caplog.records
    following.__exit__(None, None, None)
    assert log.followers == 0


# -- beginning and end -------------------------------------------------------------------


def test_it_listens_until_it_is_closed_and_again_when_opened(events: Events) -> None:
    log = EventLog(events, 10)
    log.open()
    log.close()
    log.close()
    assert not any(events.wanted(cls) for cls in event_classes().values())
    events.emit(gone("a"))
    with log.listening():
        events.emit(gone("b"))
    events.emit(gone("c"))
    assert [one.name for one in log.recent()] == ["b"]


def test_a_log_that_nobody_has_any_more_leaves_no_listener(events: Events) -> None:
    log = EventLog(events, 10)
    forgotten = weakref.ref(log)
    del log
    gc.collect()
    assert forgotten() is None
    events.emit(gone("a"))
    assert not events.wanted(ProviderUnregistered)


async def test_an_application_listens_from_when_it_is_made_until_its_end(home: Path) -> None:
    container = ApplicationContainer(monitoring=False)
    app = create_app(container)
    events = container.events()
    for _ in range(2):  # it may be started again
        assert events.wanted(ProviderUnregistered)
        async with app.router.lifespan_context(app):
            events.emit(gone("a"))
        assert not events.wanted(ProviderUnregistered)
        app.state.parts.events().open()
    assert [one.name for one in app.state.parts.events().backwards() if one.name == "a"] == [
        "a"
    ] * 2


def test_an_application_and_its_container_leave_nothing(home: Path) -> None:
    app = create_app(ApplicationContainer(monitoring=False))
    log = weakref.ref(app.state.parts.events())
    del app
    gc.collect()
    assert log() is None


def test_keeping_events_imports_nothing_that_providers_need() -> None:
    code = (
        "import sys\n"
        "from purveyor.containers import ApplicationContainer\n"
        "from purveyor.entrypoints.http import create_app\n"
        "before = set(sys.modules)\n"
        "app = create_app(ApplicationContainer())\n"
        "assert app.state.parts.events().last == 0\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    heavy = {"sqlalchemy", "aiosqlite", "obstore", "asyncssh", "aiohttp", "asyncpg"}
    assert not heavy & set(done.stdout.split())
