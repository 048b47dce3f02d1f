"""What an operator sees of providers, and tries before he registers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.registry import (
    Declaration,
    HealthStatus,
    InvalidConfigError,
    NotFoundError,
    Operation,
    ProviderErrorOccurred,
    ProviderRegistry,
    ProviderTypes,
    RegistryError,
    Status,
    Watch,
)
from purveyor.settings import ProviderSettings
from tests.providers.registry.samples import Backend, BackendError, SampleConfig

Registry = ProviderRegistry[Any]


def declaration(**settings: Any) -> Declaration:
    values = {"type": "sample", **settings}
    return Declaration(ProviderSettings.model_validate(values), "config", "a file:1")


async def test_a_moment_is_another_whenever_what_is_told_is(registry: Registry) -> None:
    async def fail() -> None:
        raise BackendError("no answer")

    backend = Backend()
    await registry.register("one", SampleConfig(backend=backend))

    async def failing_check() -> None:
        backend.health = fail
        await registry.get_provider_health("one")

    async def renew() -> None:
        await registry.reload("one", SampleConfig(backend=backend, label="other"))

    async def default() -> None:
        await registry.register("two", {"type": "sample"})
        registry.set_default("two")

    held: list[Any] = []

    async def create() -> None:
        held.append(registry.create("one"))

    async def lease() -> None:
        held.append(registry.lease("one").__enter__())

    steps: list[Callable[[], Awaitable[Any]]] = [
        lambda: registry.initialize("one"),
        lambda: registry.get_provider_health("one"),
        failing_check,
        default,
        create,
        lease,
    ]
    for step in steps:
        info, moment = registry.info("one"), registry.moment("one")
        assert registry.moment("one") == moment
        await step()
        assert registry.info("one") != info
        assert registry.moment("one") != moment
    backend.health = Backend().health
    moment = registry.moment("one")
    await renew()
    assert registry.moment("one") != moment
    assert registry.moment("nobody") is None
    await held[0].dispose()


async def test_what_is_tried_is_connected_asked_and_closed_and_nothing_else(
    registry: Registry,
) -> None:
    events: list[Any] = []
    registry.on(ProviderErrorOccurred, events.append)
    backend = Backend()
    tried = await registry.try_out("one", declaration(backend=backend))
    assert tried.status is HealthStatus.HEALTHY
    assert backend.log == ["connect", "close"]
    assert registry.names() == []

    async def fail() -> None:
        raise BackendError("no answer")

    failing = Backend(health=fail)
    await registry.register("one", SampleConfig(backend=backend))
    tried = await registry.try_out("one", declaration(backend=failing))
    assert (tried.status, tried.message) == (HealthStatus.UNHEALTHY, "check_health: no answer")
    assert failing.log == ["connect", "close"]
    tried = await registry.try_out("one", declaration(backend=Backend(connect=fail)))
    assert tried.status is HealthStatus.UNHEALTHY
    assert registry.health("one").history == ()
    assert events == []


async def test_what_cannot_be_closed_after_a_try_was_tried_all_the_same(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise BackendError("stuck")

    tried = await registry.try_out("one", declaration(backend=Backend(close=fail)))
    assert tried.status is HealthStatus.HEALTHY
    (told,) = [one for one in caplog.messages if one.startswith("Closing")]
    assert told.startswith("Closing provider one after a try failed: ")
    assert "stuck" in told


async def test_one_that_needs_itself_is_not_tried(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="one"):
        await registry.try_out("one", declaration(depends_on=("one",)))


def test_an_observer_knows_whose_providers_he_observes(
    types: ProviderTypes, tmp_path: Path
) -> None:
    class Knowing:
        def __init__(self) -> None:
            self.known: list[Any] = []

        def know(self, registry: Any) -> None:
            self.known.append(registry)

        def watch(self, operation: Operation) -> Watch:
            raise NotImplementedError

    observer = Knowing()
    registry: Registry = ProviderRegistry("storage", types=types, home=tmp_path, observer=observer)
    assert observer.known == [registry]


async def test_settings_with_faults_are_not_tried(registry: Registry) -> None:
    with pytest.raises(InvalidConfigError, match="port"):
        await registry.try_out("one", declaration(port=0))


async def test_a_circuit_breaker_is_reset_by_name(registry: Registry) -> None:
    await registry.register("one", {"type": "sample"})
    breaker = registry._find("one").breaker
    assert breaker is not None
    breaker.force_open("by hand")
    assert registry.info("one").breaker == "open"
    registry.reset_breaker("one")
    assert registry.info("one").breaker == "closed"
    with pytest.raises(NotFoundError):
        registry.reset_breaker("nobody")


async def test_faulty_and_disabled_providers_can_be_seen(registry: Registry) -> None:
    await registry.declare("off", declaration(enabled=False))
    with pytest.raises(InvalidConfigError):
        await registry.declare("bad", declaration(port=0, required=True))
    with pytest.raises(InvalidConfigError):
        registry.info("bad")
    bad, off = registry.info("bad", faulty=True), registry.info("off", faulty=True)
    assert (bad.status, bad.required, bad.origin) == (Status.ERROR, True, "a file:1")
    assert "port" in (bad.last_error or "")
    assert bad.to_dict()["registered_at"] is None
    assert (off.status, off.registered_at) == (Status.DISPOSED, None)
    with pytest.raises(NotFoundError):
        registry.info("nobody", faulty=True)
