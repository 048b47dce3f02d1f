"""What settings say of providers, and say again, while they are in use."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from purveyor.providers.registry import (
    AlreadyExistsError,
    Declaration,
    InUseError,
    NotFoundError,
    Outcome,
    ProviderRegistered,
    ProviderRegistry,
    ProviderTypes,
    ProviderUnregistered,
    register_provider,
)
from purveyor.settings import ProviderSettings
from tests.providers.registry.samples import Backend, Sample, SampleConfig, turns

Registry = ProviderRegistry[Any]


class Other(Sample):
    """Another type, with the same settings."""


@pytest.fixture
def types(types: ProviderTypes) -> ProviderTypes:
    register_provider("other", types=types)(Other)
    return types


def said(
    backend: Backend | None = None, *, origin: str = "a file:1", **settings: Any
) -> Declaration:
    """Return what settings say of a provider."""
    settings = {"type": "sample", **settings}
    if backend is not None:
        settings["backend"] = backend
    return Declaration(ProviderSettings.model_validate(settings), "config", origin)


async def running(registry: Registry, backend: Backend, **settings: Any) -> Any:
    """Declare a provider and connect it."""
    assert await registry.declare("a", said(backend, **settings)) is Outcome.REGISTERED
    await registry.initialize("a")
    return registry.require("a")


class TestDeclaringAgain:
    async def test_the_same_changes_nothing_but_where_it_was_said(
        self, registry: Registry, backend: Backend
    ) -> None:
        await running(registry, backend)
        assert await registry.declare("a", said(backend, origin="b:2")) is Outcome.UNCHANGED
        assert registry.info("a").origin == "b:2"
        assert [row.origin for row in registry.load().rows] == ["b:2"]
        assert backend.log == ["connect"]

    async def test_another_envelope_is_in_force_on_the_same_instance(
        self, registry: Registry, backend: Backend
    ) -> None:
        await running(registry, backend)
        assert await registry.declare("a", said(backend, priority=7)) is Outcome.RELOADED
        assert registry.info("a").priority == 7
        assert backend.log == ["connect"]

    async def test_other_settings_of_its_own_make_a_new_instance(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await running(registry, backend)
        assert await registry.declare("a", said(backend, label="new")) is Outcome.RELOADED
        await turns()
        assert sample.config.label == "new"
        assert backend.log == ["connect", "connect", "close"]

    async def test_so_does_another_type(self, registry: Registry, backend: Backend) -> None:
        await running(registry, backend)
        assert await registry.declare("a", said(backend, type="other")) is Outcome.RELOADED
        await turns()
        assert registry.info("a").type == "other"
        assert backend.log == ["connect", "connect", "close"]

    async def test_what_it_needs_now_is_started_with_the_new_instance(
        self, registry: Registry, backend: Backend
    ) -> None:
        needed = Backend()
        await registry.declare("b", said(needed))
        await running(registry, backend)
        assert await registry.declare("a", said(backend, depends_on=["b"])) is Outcome.RELOADED
        assert needed.log == ["connect"]

    async def test_a_type_that_is_another_class_by_now_makes_a_new_instance_too(
        self, registry: Registry, types: ProviderTypes, backend: Backend
    ) -> None:
        await running(registry, backend)
        types.remove("storage", "sample")
        register_provider("sample", types=types)(Other)
        assert await registry.declare("a", said(backend)) is Outcome.RELOADED
        await turns()
        assert backend.log == ["connect", "connect", "close"]
        assert await registry.declare("a", said(backend)) is Outcome.UNCHANGED

    async def test_a_type_that_is_gone_is_told_and_the_provider_goes_on(
        self, registry: Registry, types: ProviderTypes, backend: Backend
    ) -> None:
        sample = await running(registry, backend)
        types.remove("storage", "sample")
        with pytest.raises(NotFoundError, match="sample"):
            await registry.declare("a", said(backend))
        assert await sample.echo(1) == 1

    async def test_disabled_it_is_removed_and_says_so(
        self, registry: Registry, backend: Backend
    ) -> None:
        await running(registry, backend)
        assert await registry.declare("a", said(backend, enabled=False)) is Outcome.REMOVED
        assert backend.log == ["connect", "close"]
        with pytest.raises(NotFoundError, match="disabled"):
            registry.require("a")

    async def test_one_that_is_being_removed_is_not_taken_from_its_users(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await registry.register("a", {"type": "sample", "backend": backend}, start="ready")
        with registry.lease("a", holder="report"):
            removal = asyncio.create_task(registry.unregister("a", mode="drain", timeout=0.01))
            await turns()
            with pytest.raises(AlreadyExistsError):
                await registry.declare("a", said())
            with pytest.raises(InUseError, match="report"):
                await removal
        assert registry.require("a") is sample
        assert registry.declared() == []
        assert await sample.echo(1) == 1


class TestWithdrawing:
    async def test_what_nobody_needed_yet_is_forgotten_and_told(self, registry: Registry) -> None:
        heard: list[str] = []
        registry.on(ProviderUnregistered, lambda event: heard.append(event.name))
        registry._take("a", said())
        assert await registry.withdraw("a") is True
        assert (registry.declared(), heard) == ([], ["a"])
        assert await registry.withdraw("a") is False

    async def test_what_is_in_use_stays_with_what_was_said_of_it(
        self, registry: Registry, backend: Backend
    ) -> None:
        await running(registry, backend)
        with registry.lease("a"):
            with pytest.raises(InUseError):
                await withdrawn_at_once(registry)
            assert (registry.names(), registry.declared()) == (["a"], ["a"])
        assert await registry.withdraw("a") is True
        assert (registry.names(), registry.declared()) == ([], [])

    async def test_what_a_listener_registers_in_its_place_is_registered_by_hand(
        self, registry: Registry, backend: Backend
    ) -> None:
        registry.on(
            ProviderUnregistered,
            lambda event: registry.register_nowait(event.name, {"type": "other"}),
        )
        await running(registry, backend)
        assert await registry.withdraw("a") is True
        assert (registry.names(), registry.declared()) == (["a"], [])
        assert registry.info("a").source == "api"


async def withdrawn_at_once(registry: Registry) -> None:
    """Withdraw a provider, with no time for its work."""
    limits = registry._settings.lifecycle.model_copy(update={"graceful_shutdown_timeout": 0.0})
    registry.apply(registry._settings.model_copy(update={"lifecycle": limits}))
    await registry.withdraw("a")


class TestWhileOneIsBuilt:
    """A type's own validation runs under no lock: all kinds of things can happen meanwhile."""

    @pytest.fixture
    def building(self, types: ProviderTypes) -> list[Any]:
        """Give a list: what is put into it is called while a ``building`` is built."""
        meanwhile: list[Any] = []

        class BuildingConfig(SampleConfig):
            def model_post_init(self, _: Any) -> None:
                if meanwhile:
                    meanwhile.pop()()

        class Building(Sample):
            config_class = BuildingConfig

        register_provider("building", types=types)(Building)
        return meanwhile

    async def test_another_may_be_faster_and_both_get_the_same(
        self, types: ProviderTypes, building: list[Any]
    ) -> None:
        registry = Registry("storage", types=types, declared={"a": said(type="building")})
        faster: list[Any] = []
        building.append(lambda: faster.append(registry.require("a")))
        assert registry.require("a") is faster[0]

    async def test_settings_may_say_something_else_which_counts(
        self, types: ProviderTypes, building: list[Any]
    ) -> None:
        registry = Registry("storage", types=types, declared={"a": said(type="building")})
        building.append(lambda: registry._take("a", said(type="building", label="new")))
        assert registry.require("a").config.label == "new"

    async def test_of_one_that_is_withdrawn_meanwhile_nobody_hears(
        self, types: ProviderTypes, building: list[Any]
    ) -> None:
        registry = Registry("storage", types=types, declared={"a": said(type="building")})
        heard: list[Any] = []
        registry.on(ProviderRegistered, heard.append)
        building.append(lambda: registry._forget_declared("a"))
        assert registry.get("a") is None
        assert heard == []


async def test_the_default_goes_with_its_own_provider_only(types: ProviderTypes) -> None:
    registry = Registry("storage", types=types, declared={"a": said(), "b": said(), "c": said()})
    registry.set_default("a")
    await registry.unregister("b")
    assert registry.default_name() == "a"
    await registry.unregister("a")
    assert registry.default_name() == "c"


async def test_what_follows_from_there_being_only_one_ends_with_it(types: ProviderTypes) -> None:
    registry = Registry("storage", types=types, declared={"a": said()})
    assert registry.default_name() == "a"
    await registry.withdraw("a")
    with pytest.raises(NotFoundError, match="no provider yet"):
        registry.default_name()
