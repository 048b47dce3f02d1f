"""What is done ten thousand times leaves no memory, no task and no thread behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from purveyor.providers.registry import (
    CircuitOpenError,
    ProviderRegistered,
    ProviderRegistry,
    ProviderTypes,
    ProviderUnregistered,
    register_provider,
)
from tests.providers.registry.samples import Backend, Sample, SampleConfig, turns

Registry = ProviderRegistry[Any]

NOISE = 32 * 1024
"""Bytes that caches, counters and the tracer itself may take; a leak of 4 bytes a cycle is more."""


class Quiet(Sample):
    """A sample that writes no log, which would grow."""

    async def _connect(self) -> None: ...

    async def _close(self) -> None: ...


class Blocking(Sample):
    """Connects and closes in threads."""

    def _connect(self) -> None: ...  # type: ignore[override]

    def _close(self) -> None: ...  # type: ignore[override]


@pytest.fixture
def types(types: ProviderTypes) -> ProviderTypes:
    register_provider("quiet", types=types)(Quiet)
    register_provider("blocking", types=types)(Blocking)
    return types


@pytest.fixture
def config() -> dict[str, Any]:
    return {"type": "quiet", "backend": Backend()}


async def grown(cycle: Callable[[], Awaitable[object]], cycles: int = 10_000) -> int:
    """Return the bytes that ``cycles`` runs of ``cycle`` leave behind, tasks and threads none."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    for _ in range(cycles // 20):
        await cycle()
    await turns()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(cycles):
            await cycle()
            if number % 500 == 0:
                gc.collect(0)
        await turns()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert asyncio.all_tasks() == tasks
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
        assert not thread.is_alive()
    return after - before


pytestmark = pytest.mark.requirement("S4.69")


async def test_registering_and_unregistering(registry: Registry, config: dict[str, Any]) -> None:
    model = SampleConfig(backend=config["backend"])

    async def cycle() -> None:
        await registry.register("quiet", model, type="quiet")
        await registry.unregister("quiet")

    assert await grown(cycle) < NOISE


async def test_rejected_calls(registry: Registry, config: dict[str, Any]) -> None:
    quiet = await registry.register("quiet", config, start="ready")
    quiet._guard.breaker.force_open()

    async def cycle() -> None:
        try:
            await quiet.echo()
        except CircuitOpenError:
            return

    assert await grown(cycle) < NOISE
    await registry.dispose_all()


async def test_subscribing_and_unsubscribing(registry: Registry) -> None:
    async def cycle() -> None:
        async def listener(_: object) -> None: ...

        registry.on(ProviderRegistered, listener)
        registry.on("provider-unregistered", listener)
        registry.events.emit(ProviderUnregistered("storage", "sample"))
        registry.off("provider-registered", listener)
        registry.off(ProviderUnregistered, listener)
        await registry.events.settle()

    assert await grown(cycle) < NOISE


async def test_starting_and_stopping(registry: Registry, config: dict[str, Any]) -> None:
    await registry.register("quiet", config)

    async def cycle() -> None:
        await registry.initialize("quiet")
        await registry.dispose("quiet")

    assert await grown(cycle) < NOISE


async def test_starting_and_stopping_in_threads(registry: Registry) -> None:
    await registry.register("blocking")

    async def cycle() -> None:
        await registry.initialize("blocking")
        await registry.dispose("blocking")

    assert await grown(cycle, 500) < NOISE


async def test_reloading(registry: Registry, config: dict[str, Any]) -> None:
    quiet = await registry.register("quiet", config, start="ready")

    async def cycle() -> None:
        await registry.reload("quiet", config)
        await quiet.echo()

    assert await grown(cycle, 2_000) < NOISE
    await registry.dispose_all()


async def test_changing_the_type(registry: Registry, config: dict[str, Any]) -> None:
    quiet = await registry.register("quiet", config, start="ready")

    async def cycle() -> None:
        for type_name in ("blocking", "quiet"):
            await registry.reload("quiet", {**config, "type": type_name})
            await quiet.echo()
            await turns()

    assert await grown(cycle, 150) < NOISE
    await registry.dispose_all()
