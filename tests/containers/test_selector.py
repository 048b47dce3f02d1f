"""Selecting by name, and replacing what is selected."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from dependency_injector import containers
from dependency_injector import providers as di

from purveyor.containers import ApplicationContainer, ProviderSelector
from purveyor.providers.registry import InvalidConfigError, NotFoundError, ProviderRegistry
from purveyor.settings import Settings

from .conftest import MemoryStorage


async def test_each_name_selects_its_provider(container: Any) -> None:
    assert await container.storage("first").get("any") == b"one"
    assert await container.storage("second").get("any") == b"two"


def test_the_same_name_selects_the_same_provider(container: Any) -> None:
    assert container.storage("first") is container.storage("first")
    assert isinstance(container.storage("first"), MemoryStorage)


def test_without_a_name_the_default_is_selected(container: Any) -> None:
    assert container.storage() is container.storage("first")


def test_selecting_connects_nothing(container: Any) -> None:
    assert container.storage("first").connected == 0


@pytest.mark.requirement("S0.35")
def test_an_unknown_name_is_refused_with_the_names_there_are_nearest_first(container: Any) -> None:
    with pytest.raises(NotFoundError, match=r"secnd.*providers: second, faulty, filesystem, first"):
        container.storage("secnd")


def test_a_disabled_provider_is_refused_by_that_reason(container: Any) -> None:
    with pytest.raises(NotFoundError, match="off is disabled"):
        container.storage("off")


def test_a_faulty_provider_is_refused_and_the_others_work(container: Any) -> None:
    with pytest.raises(InvalidConfigError, match="lable"):
        container.storage("faulty")
    assert container.storage("second") is not None


def test_containers_do_not_share_providers(settings: Settings, types: Any) -> None:
    one = ApplicationContainer(settings=settings, types=types)
    other = ApplicationContainer(settings=settings, types=types)
    assert one.storage("first") is not other.storage("first")
    with one.storage.override_provider("first", "fake"):
        assert other.storage("first") != "fake"


def test_a_hundred_threads_select_the_same_provider(container: Any) -> None:
    barrier = threading.Barrier(100)
    seen: list[Any] = []

    def select() -> None:
        barrier.wait()
        seen.append(container.storage("first"))

    threads = [threading.Thread(target=select) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 100
    assert all(one is seen[0] for one in seen)


class TestOverridingOneProvider:
    def test_replaces_it_and_restores_it(self, container: Any) -> None:
        original = container.storage("second")
        with container.storage.override_provider("second", "fake") as fake:
            assert fake == "fake"
            assert container.storage("second") == "fake"
            assert container.storage("first") is not None
        assert container.storage("second") is original

    def test_restores_it_also_when_the_body_raises(self, container: Any) -> None:
        with (
            pytest.raises(ZeroDivisionError),
            container.storage.override_provider("second", "fake"),
        ):
            raise ZeroDivisionError
        assert isinstance(container.storage("second"), MemoryStorage)

    def test_replaces_the_default_by_its_name(self, container: Any) -> None:
        with container.storage.override_provider("first", "fake"):
            assert container.storage() == "fake"

    def test_needs_no_settings(self, container: Any) -> None:
        with container.storage.override_provider("nowhere-configured", "fake"):
            assert container.storage("nowhere-configured") == "fake"
        with pytest.raises(NotFoundError):
            container.storage("nowhere-configured")

    def test_takes_a_di_provider(self, container: Any) -> None:
        with container.storage.override_provider("first", di.Factory(list)):
            assert container.storage("first") == []
            assert container.storage("first") is not container.storage("first")

    def test_nests_and_ends_in_any_order(self, container: Any) -> None:
        outer = container.storage.override_provider("first", "outer")
        inner = container.storage.override_provider("first", "inner")
        assert container.storage("first") == "inner"
        outer.restore()
        assert container.storage("first") == "inner"
        inner.restore()
        inner.restore()
        assert isinstance(container.storage("first"), MemoryStorage)

    def test_is_undone_by_reset_override(self, container: Any) -> None:
        container.storage.override_provider("first", "fake")
        container.storage.override("everything")
        container.storage.reset_override()
        assert isinstance(container.storage("first"), MemoryStorage)

    def test_on_the_class_holds_for_instances_made_meanwhile(self, settings: Settings) -> None:
        with ApplicationContainer.storage.override_provider("x", {"a": 1}):
            container = ApplicationContainer(settings=settings)
            assert container.storage("x") == {"a": 1}
        assert "x" not in ApplicationContainer(settings=settings).storage.registry


class TestOverridingTheWholeSelector:
    def test_gives_the_replacement_for_every_name(self, container: Any) -> None:
        with container.storage.override("fake"):
            assert container.storage() == "fake"
            assert container.storage("whatever") == "fake"
        assert isinstance(container.storage("first"), MemoryStorage)

    def test_passes_the_name_on(self, container: Any) -> None:
        with container.storage.override(di.Factory("fake {}".format)):
            assert container.storage("first") == "fake first"

    def test_by_another_selector(self, container: Any, settings: Settings, types: Any) -> None:
        other = ApplicationContainer(settings=settings, types=types)
        container.storage.override(other.storage)
        assert container.storage("first") is other.storage("first")
        container.storage.reset_last_overriding()
        assert container.storage("first") is not other.storage("first")

    def test_by_the_container(self, container: Any) -> None:
        with container.override_providers(storage="fake"):
            assert container.storage("first") == "fake"
        assert isinstance(container.storage("first"), MemoryStorage)


class TestAsADIProvider:
    def test_is_injected_as_itself(self, container: Any) -> None:
        service = di.Factory(dict, storage=container.storage)
        assert service()["storage"] is container.storage

    def test_an_entry_is_injected_as_the_provider(self, container: Any) -> None:
        service = di.Factory(dict, storage=container.storage.entry("second"))
        assert service()["storage"] is container.storage("second")

    def test_an_entry_follows_overrides(self, container: Any) -> None:
        entry = container.storage.entry("second")
        with container.storage.override_provider("second", "fake"):
            assert entry() == "fake"

    def test_attributes_are_entries_of_providers_that_are_there(self, container: Any) -> None:
        assert container.storage.second() is container.storage("second")
        with pytest.raises(AttributeError, match="nowhere"):
            _ = container.storage.nowhere

    def test_traversal_finds_what_overrides(self, container: Any) -> None:
        replacement = di.Object("fake")
        with container.storage.override_provider("first", replacement):
            assert replacement in container.traverse()

    def test_reset_singletons_makes_a_new_registry(self, container: Any) -> None:
        before, provider = container.storage.registry, container.storage("first")
        container.reset_singletons()
        assert container.storage.registry is not before
        assert container.storage("first") is not provider

    def test_is_usable_by_itself(self) -> None:
        class Own(containers.DeclarativeContainer):
            things = ProviderSelector(ProviderRegistry, "ai")

        own = Own()
        assert own.things.registry.names() == []
        with pytest.raises(NotFoundError, match="There is no ai provider yet"):
            own.things("x")
