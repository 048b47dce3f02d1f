"""Breakers, health, dependencies and shutdown of a whole application, from its settings."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.registry import (
    CircuitBreakerOpened,
    CircuitOpenError,
    InvalidConfigError,
    InvalidStateError,
    Provider,
    ProviderConfig,
    ProviderError,
    ProviderTypes,
    operation,
    register_provider,
)
from purveyor.settings import load_settings

LOG: list[str] = []


class ModelConfig(ProviderConfig):
    storage: str = ""


class Model(Provider[ModelConfig]):
    """An AI provider that tells when it starts and ends."""

    family = "ai"

    async def _connect(self) -> None:
        LOG.append("start model")

    async def _close(self) -> None:
        LOG.append("end model")

    @operation
    async def ask(self) -> str:
        return "answer"


@pytest.fixture(autouse=True)
def log() -> list[str]:
    LOG.clear()
    return LOG


def made(types: ProviderTypes, tmp_path: Path, **values: Any) -> Any:
    if types.find("ai", "model") is None:
        register_provider("model", types=types)(Model)
    return ApplicationContainer(settings=load_settings(home=tmp_path, **values), types=types)


@pytest.mark.requirement("S4.48", "S4.61", "S4.64")
async def test_a_breaker_is_set_by_the_environment_for_all_and_for_one(
    types: ProviderTypes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_REGISTRY__CIRCUIT_BREAKER__FAILURE_THRESHOLD", "3")
    one = "PURVEYOR_STORAGE__PROVIDERS__FIRST"
    monkeypatch.setenv(f"{one}__TYPE", "memory")
    monkeypatch.setenv(f"{one}__CIRCUIT_BREAKER__FAILURE_THRESHOLD", "2")
    container = made(types, tmp_path)
    opened: list[CircuitBreakerOpened] = []
    container.events().on("circuit-breaker-opened", opened.append)
    async with container.lifespan():
        storage = container.storage("first")
        for _ in range(2):
            with pytest.raises(ProviderError):
                [item async for item in storage.list()]
        with pytest.raises(CircuitOpenError) as caught:
            await storage.get("key")
        assert caught.value.retry_after == pytest.approx(300, abs=1)
        assert caught.value.context["state"] == "open"
        assert [(one.family, one.name, one.failures) for one in opened] == [("storage", "first", 2)]
        assert container.storage("sqlite")._guard.breaker.settings.failure_threshold == 3


@pytest.mark.requirement("S1.37")
async def test_dependencies_reach_across_families(
    types: ProviderTypes, tmp_path: Path, log: list[str]
) -> None:
    providers = {"clever": {"type": "model", "depends_on": "storage:first"}}
    container = made(
        types,
        tmp_path,
        ai={"providers": providers},
        storage={"providers": {"first": {"type": "memory"}}},
    )
    async with container.lifespan():
        assert await container.ai("clever").ask() == "answer"
        instance = container.storage("first")._guard.peek()
        assert instance.connected == 1
        assert await container.storage.registry.stop("first") == ["ai:clever", "storage:first"]
        assert log == ["start model", "end model"]
        assert instance.closed == 1
        with pytest.raises(InvalidStateError):
            await container.ai("clever").ask()
        await container.ai.registry.start("clever")
        assert await container.ai("clever").ask() == "answer"


async def test_providers_that_need_each_other_are_refused_by_name(
    types: ProviderTypes, tmp_path: Path
) -> None:
    container = made(
        types,
        tmp_path,
        ai={"providers": {"clever": {"type": "model", "depends_on": ["storage:first"]}}},
        storage={"providers": {"first": {"type": "memory", "depends_on": "ai:clever"}}},
    )
    with pytest.raises(InvalidConfigError, match=r"needs .*ai:clever|needs .*storage:first"):
        container.storage("first")


async def test_only_what_is_used_or_required_is_watched(
    types: ProviderTypes, tmp_path: Path
) -> None:
    every = {"check_interval": 0.02, "jitter": 0.0}
    container = made(
        types,
        tmp_path,
        registry={"health": every},
        storage={
            "providers": {
                "used": {"type": "memory", "label": "x"},
                "unused": {"type": "memory"},
                "needed": {"type": "memory", "required": True},
            }
        },
    )
    changed: asyncio.Queue[str] = asyncio.Queue()
    container.events().on("health-status-changed", lambda event: changed.put_nowait(event.name))
    async with container.lifespan(), asyncio.timeout(10):
        await container.storage("used").get("key")
        assert {await changed.get(), await changed.get()} == {"used", "needed"}
        assert container.storage("unused")._guard.status == "registered"
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.requirement("S4.69")
async def test_an_application_that_forgets_to_shut_down_is_told_what_is_open(
    types: ProviderTypes, tmp_path: Path
) -> None:
    async def forget() -> None:
        container = made(types, tmp_path, storage={"providers": {"first": {"type": "memory"}}})
        await container.storage("first").initialize()

    await forget()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    told = [str(one.message) for one in caught if issubclass(one.category, ResourceWarning)]
    assert [text for text in told if "'first' was never closed" in text]


def test_and_also_at_the_end_of_its_process(tmp_path: Path) -> None:
    program = """
import asyncio
from purveyor.containers import ApplicationContainer
container = ApplicationContainer()
asyncio.run(container.storage("sqlite").put("key", b"x"))
"""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "ResourceWarning: The storage provider 'sqlite' was never closed." in done.stderr
