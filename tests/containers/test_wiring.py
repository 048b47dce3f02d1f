"""Wired by dependency-injector: into functions, a plain class, and a FastAPI application."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from dependency_injector.wiring import Provide, Provider, inject
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from purveyor.containers import ApplicationContainer, ProviderSelector


@inject
def default_storage(storage: Any = Provide[ApplicationContainer.storage]) -> Any:
    return storage


@inject
def selector(storage: Any = Provider[ApplicationContainer.storage]) -> Any:
    return storage


@inject
def by_string(storage: Any = Provide["storage.second"]) -> Any:
    return storage


class Reports:
    """A plain class that is given its storage."""

    @inject
    def __init__(
        self, storages: ProviderSelector[Any] = Provider[ApplicationContainer.storage]
    ) -> None:
        self._storages = storages

    async def read(self, name: str) -> bytes:
        return await self._storages(name).get("report")


@inject
async def endpoint(
    name: str,
    default: Any = Depends(Provide[ApplicationContainer.storage]),
    storages: Any = Depends(Provider[ApplicationContainer.storage]),
) -> dict[str, str]:
    chosen, of_default = await storages(name).get("key"), await default.get("key")
    return {"chosen": chosen.decode(), "default": of_default.decode()}


@pytest.fixture
def wired(container: Any) -> Iterator[Any]:
    container.wire(modules=[sys.modules[__name__]])
    yield container
    container.unwire()


def test_provide_injects_the_default_provider(wired: Any) -> None:
    assert default_storage() is wired.storage("first")


def test_provider_injects_the_selector(wired: Any) -> None:
    assert selector() is wired.storage
    assert selector()("second") is wired.storage("second")


def test_a_string_names_one_provider(wired: Any) -> None:
    assert by_string() is wired.storage("second")


def test_overrides_reach_what_is_wired(wired: Any) -> None:
    with wired.storage.override_provider("first", "fake"):
        assert default_storage() == "fake"
    with wired.storage.override("everything"):
        assert default_storage() == "everything"
    assert default_storage() is wired.storage("first")


async def test_a_plain_class_is_given_the_selector(wired: Any) -> None:
    assert await Reports().read("second") == b"two"


def test_a_fastapi_application_depends_on_it(wired: Any) -> None:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with wired.lifespan():
            yield

    app = FastAPI(lifespan=lifespan)
    app.get("/{name}")(endpoint)
    with TestClient(app) as client:
        assert client.get("/second").json() == {"chosen": "two", "default": "one"}
        instance = wired.storage("second")._guard.peek()

        class Fake:
            async def get(self, key: str) -> bytes:
                return b"fake"

        with wired.storage.override_provider("second", Fake()):
            assert client.get("/second").json() == {"chosen": "fake", "default": "one"}
    assert instance.closed == 1
