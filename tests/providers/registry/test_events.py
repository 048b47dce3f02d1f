"""What a registry tells to whom it may concern."""

from __future__ import annotations

import asyncio
import copy
import logging
from typing import Any

import pytest

from purveyor.providers.registry import (
    Event,
    Events,
    NotFoundError,
    ProviderErrorOccurred,
    ProviderRegistered,
    ProviderRegistry,
    ProviderUnregistered,
)
from tests.providers.registry.samples import Backend, BackendError, Gate, SampleConfig, raising

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
