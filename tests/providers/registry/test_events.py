"""What a registry tells to whom it may concern."""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
import sys
from typing import Any

import pytest

from purveyor.providers.registry import (
    CircuitBreakerClosed,
    CircuitBreakerHalfOpened,
    CircuitBreakerOpened,
    ConnectionFailedError,
    DiscoveryFailed,
    Event,
    Events,
    HealthStatus,
    HealthStatusChanged,
    InvalidStateError,
    LeaseDenied,
    NotFoundError,
    ProviderErrorOccurred,
    ProviderFailedOver,
    ProviderRegistered,
    ProviderRegistry,
    ProviderReloaded,
    ProviderTypes,
    ProviderUnregistered,
)
from tests.providers.registry.samples import (
    Backend,
    BackendError,
    Gate,
    SampleConfig,
    raising,
    turns,
)

Registry = ProviderRegistry[Any]


@pytest.mark.requirement("S4.11", "S4.16")
async def test_registered_and_unregistered_are_told_with_the_record(registry: Registry) -> None:
    heard: list[Event] = []
    registry.on("provider-registered", heard.append)
    registry.on(ProviderUnregistered, heard.append)
    await registry.register("backups", {"type": "sample"})
    await registry.unregister("backups")
    registered, unregistered = heard
    assert isinstance(registered, ProviderRegistered)
    assert (registered.name, registered.family) == ("backups", "storage")
    assert registered.provider.name == "backups"
    assert unregistered == ProviderUnregistered("storage", "backups")


def test_telling_of_a_registration_is_no_dearer_among_many(registry: Registry) -> None:
    registry.on(ProviderRegistered, lambda _: None)
    names = map(str, itertools.count())

    def calls() -> int:
        """Return how many functions registering one more calls."""
        seen: list[str] = []
        sys.setprofile(lambda _, event, __: seen.append(event))
        try:
            registry.register_nowait(next(names), {"type": "sample"})
        finally:
            sys.setprofile(None)
        return len(seen)

    few = [calls() for _ in range(10)][-1]
    for _ in range(300):
        registry.register_nowait(next(names), {"type": "sample"})
    assert calls() <= 1.2 * few


@pytest.mark.requirement("S4.11")
async def test_off_ends_one_subscription(registry: Registry) -> None:
    heard: list[Event] = []
    registry.on(ProviderRegistered, heard.append)
    registry.on(ProviderRegistered, heard.append)
    registry.off("provider-registered", heard.append)
    await registry.register("a", {"type": "sample"})
    assert len(heard) == 1
    registry.off(ProviderRegistered, heard.append)
    registry.off(ProviderRegistered, heard.append)
    await registry.register("b", {"type": "sample"})
    assert len(heard) == 1
    assert not registry.events.wanted(ProviderRegistered)


async def test_failures_of_the_backend_are_told_and_callers_mistakes_are_not(
    registry: Registry, backend: Backend
) -> None:
    heard: list[ProviderErrorOccurred] = []
    sample = registry.register_nowait("sample", SampleConfig(backend=backend))
    with pytest.raises(Exception, match="unheard"):
        await sample.do(lambda _: raising(BackendError("unheard"))())
    registry.on("provider-error", heard.append)
    for error in (BackendError("lost"), ValueError("caller's")):
        with pytest.raises(Exception, match=str(error)):
            await sample.do(lambda _, error=error: raising(error)())
    (event,) = heard
    assert (event.name, event.error.code) == ("sample", "CONNECTION_FAILED")
    assert registry.info("sample").last_error == "do: lost"


async def test_a_listener_that_raises_does_not_stop_the_others(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def defective(_: Event) -> None:
        raise ZeroDivisionError

    async def defective_later(_: Event) -> None:
        raise ZeroDivisionError

    async def later(event: Event) -> None:
        heard.append(f"later {event.name}")

    for listener in (defective, defective_later, later, lambda event: heard.append(event.name)):
        registry.on(ProviderRegistered, listener)
    await registry.register("sample")
    await registry.events.settle()
    assert heard == ["sample", "later sample"]
    assert caplog.text.count("A listener of provider-registered raised") == 2
    assert registry.has("sample")


async def test_a_listener_may_call_the_registry(registry: Registry) -> None:
    def companion(event: ProviderRegistered) -> None:
        assert registry.has(event.name)
        if event.name == "sample":
            registry.register_nowait("companion", {"type": "sample"})

    registry.on(ProviderRegistered, companion)
    await registry.register("sample")
    assert registry.names() == ["companion", "sample"]


async def test_a_coroutine_listener_that_hangs_holds_nobody(registry: Registry) -> None:
    gate = Gate()
    registry.on(ProviderRegistered, gate)
    await registry.register("sample")
    await gate.reached.wait()
    gate.opened.set()
    await registry.events.settle()
    await registry.events.settle()


def test_without_an_event_loop_a_coroutine_listener_is_told_of(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    class Awaited:
        def __await__(self) -> Any:
            yield

    registry.on(ProviderRegistered, lambda _: asyncio.sleep(0))
    registry.on(ProviderRegistered, lambda _: Awaited())
    registry.register_nowait("sample")
    told = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(told) == 2
    assert "Subscribe a plain function" in told[0].getMessage()


def test_a_copied_container_shares_them() -> None:
    events = Events()
    assert copy.deepcopy([events])[0] is events


@pytest.mark.requirement("S4.11")
def test_an_unknown_event_is_told_with_those_there_are() -> None:
    with pytest.raises(NotFoundError, match="provider-registered"):
        Events().on("provider-registerd", print)


NAMES: dict[str, type[Event]] = {
    "provider-registered": ProviderRegistered,
    "provider-unregistered": ProviderUnregistered,
    "provider-error": ProviderErrorOccurred,
    "provider-reloaded": ProviderReloaded,
    "provider-failed-over": ProviderFailedOver,
    "health-status-changed": HealthStatusChanged,
    "circuit-breaker-opened": CircuitBreakerOpened,
    "circuit-breaker-half-opened": CircuitBreakerHalfOpened,
    "circuit-breaker-closed": CircuitBreakerClosed,
    "lease-denied": LeaseDenied,
    "discovery-failed": DiscoveryFailed,
}


@pytest.mark.requirement("S4.66")
def test_every_event_has_a_name_and_a_class_and_they_are_the_same() -> None:
    assert {cls.event_name: cls for cls in Event.__subclasses__()} == NAMES
    for name, cls in NAMES.items():
        events = Events()
        heard: list[Event] = []
        events.on(name, heard.append)
        events.on(cls, heard.append)
        assert events.wanted(cls)
        assert not any(events.wanted(other) for other in NAMES.values() if other is not cls)
        event = object.__new__(cls)
        events.emit(event)
        assert heard == [event, event]
        events.off(cls, heard.append)
        events.off(name, heard.append)
        assert not events.wanted(cls)


@pytest.mark.requirement("S4.66")
async def test_a_provider_tells_its_whole_life(types: ProviderTypes, backend: Backend) -> None:
    now = 0.0
    registry = Registry("storage", types=types, clock=lambda: now)
    heard: list[Event] = []
    for name in NAMES:
        registry.on(name, heard.append)
    breaker = {"failure_threshold": 2, "recovery_timeout": 10}
    config = {"type": "sample", "backend": backend, "circuit_breaker": breaker}
    sample = await registry.register("sample", config)
    for _ in range(2):
        with pytest.raises(ConnectionFailedError):
            await sample.do(lambda _: raising(BackendError("lost"))())
    now = 11.0
    await sample.echo()
    await registry.get_provider_health("sample")
    await registry.reload("sample")
    await registry.stop("sample")
    with pytest.raises(InvalidStateError):
        registry.lease("sample", holder="late")
    await registry.unregister("sample")
    assert [event.event_name for event in heard] == [
        "provider-registered",
        "provider-error",
        "circuit-breaker-opened",
        "provider-error",
        "circuit-breaker-half-opened",
        "circuit-breaker-closed",
        "health-status-changed",
        "provider-reloaded",
        "lease-denied",
        "provider-unregistered",
    ]
    assert {(event.family, event.name) for event in heard} == {("storage", "sample")}
    opened, changed, denied = heard[2], heard[6], heard[8]
    assert isinstance(opened, CircuitBreakerOpened)
    assert (opened.failures, opened.retry_after) == (2, 10.0)
    assert isinstance(changed, HealthStatusChanged)
    assert (changed.before, changed.after) == (HealthStatus.UNKNOWN, HealthStatus.HEALTHY)
    assert isinstance(denied, LeaseDenied)
    assert (denied.holder, denied.error.code) == ("late", "INVALID_STATE")


async def test_nothing_is_built_where_nobody_listens(
    registry: Registry, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[object] = []
    for cls in NAMES.values():
        monkeypatch.setattr(cls, "__init__", lambda self, *_: built.append(self))
    breaker = {"failure_threshold": 1}
    config = {"type": "sample", "backend": backend, "circuit_breaker": breaker}
    sample = await registry.register("sample", config)
    with pytest.raises(ConnectionFailedError):
        await sample.do(lambda _: raising(BackendError("lost"))())
    await registry.get_provider_health("sample")
    await registry.reload("sample")
    await registry.stop("sample")
    with pytest.raises(InvalidStateError):
        registry.lease("sample")
    await registry.unregister("sample")
    assert built == []
    registry.on(ProviderRegistered, lambda _: None)
    await registry.register("other", {"type": "sample"})
    assert len(built) == 1


class TestCoroutineListeners:
    async def test_are_bounded_and_what_is_dropped_is_said(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        events, gate = Events(max_tasks=2), Gate()
        heard: list[Event] = []

        async def slow(event: Event) -> None:
            await gate()
            heard.append(event)

        events.on(ProviderUnregistered, slow)
        sent = [ProviderUnregistered("storage", str(number)) for number in range(5)]
        for event in sent:
            events.emit(event)
        await turns()
        assert len(asyncio.all_tasks()) == 3
        gate.opened.set()
        await events.settle()
        assert heard == sent[:2]
        events.emit(sent[4])
        await events.settle()
        assert heard == [*sent[:2], sent[4]]
        full, dropped = caplog.messages
        assert "2 listeners are under way" in full
        assert dropped == "3 events were not told to coroutine listeners"

    async def test_can_be_ended(self, registry: Registry) -> None:
        gate = Gate()
        registry.on(ProviderRegistered, gate)
        await registry.register("sample")
        await gate.reached.wait()
        registry.events.cancel()
        await registry.events.settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_plain_ones_are_told_even_when_there_is_no_room(self) -> None:
        events, gate = Events(max_tasks=0), Gate()
        heard: list[Event] = []
        events.on(ProviderUnregistered, gate)
        events.on(ProviderUnregistered, heard.append)
        events.emit(ProviderUnregistered("storage", "sample"))
        assert len(heard) == 1

    async def test_a_listener_may_unsubscribe_itself_and_the_others_still_hear(self) -> None:
        events = Events()
        heard: list[str] = []

        def once(_: Event) -> None:
            events.off(ProviderUnregistered, once)
            heard.append("once")

        events.on(ProviderUnregistered, once)
        events.on(ProviderUnregistered, lambda _: heard.append("always"))
        for _ in range(2):
            events.emit(ProviderUnregistered("storage", "sample"))
        assert heard == ["once", "always", "always"]


async def test_listeners_of_a_breaker_that_raise_harm_no_call(
    registry: Registry, backend: Backend
) -> None:
    def defective(_: Event) -> None:
        raise ZeroDivisionError

    registry.on(CircuitBreakerOpened, defective)
    registry.on(ProviderErrorOccurred, defective)
    config = {"type": "sample", "backend": backend, "circuit_breaker": {"failure_threshold": 1}}
    sample = await registry.register("sample", config)
    with pytest.raises(ConnectionFailedError, match="lost"):
        await sample.do(lambda _: raising(BackendError("lost"))())


async def test_the_record_tells_whether_it_is_the_default_provider(registry: Registry) -> None:
    heard: list[tuple[str, bool]] = []
    for event in (ProviderRegistered, ProviderReloaded):
        registry.on(event, lambda told: heard.append((told.name, told.provider.is_default)))
    registry.declare_default("b")
    for name in ("a", "b"):
        await registry.register(name, {"type": "sample"})
        await registry.reload(name)
    assert heard == [("a", False), ("a", False), ("b", True), ("b", True)]
