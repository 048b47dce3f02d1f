"""The application container: settings in, providers out, everything closed in the end."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import containers
from dependency_injector import providers as di

from purveyor.containers import ApplicationContainer, FamilyContainer
from purveyor.providers.families import STORAGE
from purveyor.providers.registry import (
    Events,
    InvalidStateError,
    NotFoundError,
    ProviderRegistered,
    ShuttingDownError,
)
from purveyor.settings import Settings


async def test_an_object_is_stored_with_nothing_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    container = ApplicationContainer()
    async with container.lifespan():
        await container.storage().put("a/b.txt", b"content")
        assert await container.storage("filesystem").get("a/b.txt") == b"content"
        await container.storage("sqlite").put("a/b.txt", b"content")
    assert (
        tmp_path / ".purveyor" / "storage" / "filesystem" / "a" / "b.txt"
    ).read_bytes() == b"content"


@pytest.mark.requirement("S2.4", "S2.11")
async def test_the_same_code_uses_another_type_when_the_environment_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def application() -> str:
        container = ApplicationContainer()
        async with container.lifespan():
            await container.storage("backups").put("key", b"content")
            assert await container.storage().get("key") == b"content"
            return container.storage.registry.info("backups").type or ""

    monkeypatch.setenv("PURVEYOR_STORAGE__DEFAULT", "backups")
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__BACKUPS__TYPE", "filesystem")
    assert await application() == "filesystem"
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__BACKUPS__TYPE", "sqlite")
    assert await application() == "sqlite"


class TestLifespan:
    async def test_closes_what_was_used_and_nothing_else(self, container: Any) -> None:
        async with container.lifespan():
            used, unused = container.storage("first"), container.storage("second")
            instance = used._guard.peek()
            await used.get("key")
        assert (instance.connected, instance.closed) == (1, 1)
        assert unused._guard.peek().closed == 0

    async def test_closes_also_when_the_body_raises(self, container: Any) -> None:
        instance = container.storage()._guard.peek()
        with pytest.raises(ZeroDivisionError):
            async with container.lifespan():
                await container.storage().get("key")
                raise ZeroDivisionError
        assert instance.closed == 1

    async def test_is_what_init_and_shutdown_resources_do(self, container: Any) -> None:
        await container.init_resources()
        await container.storage().get("key")
        instance = container.storage()._guard.peek()
        await container.shutdown_resources()
        assert instance.closed == 1

    @pytest.mark.requirement("S2.1", "S2.19", "S2.20", "S2.26", "S2.32", "S2.47", "S4.1")
    async def test_registers_everything_and_logs_what_is_at_fault(
        self, container: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            async with container.lifespan():
                pass
        assert "Registered storage provider: first (type memory)" in caplog.messages
        assert [r.levelname for r in caplog.records if "faulty" in r.message] == ["ERROR"]

    async def test_after_it_operations_are_refused_until_the_next(self, container: Any) -> None:
        async with container.lifespan():
            storage = container.storage()
            await storage.get("key")
        with pytest.raises(InvalidStateError, match="disposed"):
            await storage.get("key")
        with pytest.raises(ShuttingDownError):
            await container.storage.registry.register("late", {"type": "memory"})
        async with container.lifespan():
            assert await storage.get("key") == b"one"

    def test_works_in_one_event_loop_after_another(self, container: Any) -> None:
        async def once() -> bytes:
            async with container.lifespan():
                return await container.storage().get("key")

        assert asyncio.run(once()) == asyncio.run(once()) == b"one"

    async def test_works_inside_a_larger_container(self, settings: Settings, types: Any) -> None:
        class Service:
            def __init__(self, storage: Any) -> None:
                self.storage = storage

        class Larger(containers.DeclarativeContainer):
            purveyor = di.Container(ApplicationContainer, settings=settings, types=types)
            by_name = di.Factory(Service, storage=purveyor.storage)
            second = di.Factory(Service, storage=purveyor.storage.entry("second"))

        larger: Any = Larger()
        await larger.init_resources()
        assert await larger.by_name().storage("first").get("key") == b"one"
        assert await larger.second().storage.get("key") == b"two"
        instance = larger.purveyor.storage("first")._guard.peek()
        with larger.purveyor.storage.override_provider("second", "fake"):
            assert larger.second().storage == "fake"
        await larger.shutdown_resources()
        assert instance.closed == 1


@pytest.mark.requirement("S0.43")
def test_registries_maps_families_to_registries(container: Any) -> None:
    registries = container.registries()
    assert list(registries) == ["storage", "data_sources", "ai", "audio", "images", "flashcards"]
    assert registries["storage"] is container.storage.registry
    assert registries["storage"].names() == ["faulty", "filesystem", "first", "second", "sqlite"]


def test_a_family_without_types_says_so(container: Any) -> None:
    with pytest.raises(NotFoundError, match="the ai family has no provider yet"):
        container.ai()


async def test_events_of_all_families_come_from_one_place(container: Any) -> None:
    seen: list[str] = []
    container.events().on(ProviderRegistered, lambda event: seen.append(event.name))
    async with container.lifespan():
        pass
    assert seen == ["first", "second", "filesystem", "sqlite"]


@pytest.mark.requirement("S2.5", "S4.2")
async def test_providers_come_and_go_while_the_application_runs(container: Any) -> None:
    async with container.lifespan():
        registry = container.storage.registry
        await registry.register("late", {"type": "memory", "label": "late"})
        assert await container.storage("late").get("key") == b"late"
        await registry.unregister("late")
        with pytest.raises(NotFoundError):
            container.storage("late")
        instance = object()
        await registry.register_instance("existing", instance)
        assert container.storage("existing") is instance


class TestDefault:
    def chosen(self, tmp_path: Path, types: Any, *names: str) -> str:
        providers = {name: {"type": "memory"} for name in names}
        settings = Settings(home=tmp_path, storage={"providers": providers})
        return ApplicationContainer(settings=settings, types=types).storage.registry.default_name()

    @pytest.mark.requirement("S1.18")
    def test_is_filesystem_where_nothing_is_configured(self, tmp_path: Path, types: Any) -> None:
        assert self.chosen(tmp_path, types) == "filesystem"

    def test_is_the_only_configured_provider(self, tmp_path: Path, types: Any) -> None:
        assert self.chosen(tmp_path, types, "only") == "only"

    def test_must_be_named_among_several(self, tmp_path: Path, types: Any) -> None:
        with pytest.raises(NotFoundError, match=r"among a, b.*PURVEYOR_STORAGE__DEFAULT"):
            self.chosen(tmp_path, types, "a", "b")

    def test_that_does_not_exist_is_told_with_its_variable(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path, storage={"default": "filesytem"})
        with pytest.raises(NotFoundError, match=r"PURVEYOR_STORAGE__DEFAULT.*filesystem"):
            ApplicationContainer(settings=settings).storage()


async def test_one_family_can_be_used_by_itself(settings: Settings, types: Any) -> None:
    container = FamilyContainer(
        settings=settings, types=di.Callable(lambda: types), events=Events(), family=STORAGE
    )
    assert await container.select("second").get("key") == b"two"
