"""The end of many providers at once: one deadline, and a report of who did not make it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from purveyor.providers.registry import (
    Declaration,
    InvalidStateError,
    ProviderDiscovery,
    ProviderRegistry,
    ProviderTypes,
    ShuttingDownError,
    lifetime,
)
from purveyor.settings import ProviderSettings, Settings
from tests.providers.registry.samples import (
    Backend,
    BackendError,
    Gate,
    SampleConfig,
    raising,
    turns,
)

Registry = ProviderRegistry[Any]


async def started(registry: Registry, name: str, backend: Backend) -> Any:
    return await registry.register(name, SampleConfig(backend=backend), start="ready")


class TestDisposeAll:
    @pytest.mark.requirement("S4.9", "S4.56")
    async def test_closes_every_provider_and_every_instance(self, registry: Registry) -> None:
        backends = [Backend() for _ in range(3)]
        for number, backend in enumerate(backends):
            await started(registry, f"p{number}", backend)
        own = registry.create("p0")
        await own.echo()
        report = await registry.dispose_all()
        assert report.clean
        assert sorted(report.disposed) == ["storage:p0", "storage:p0", "storage:p1", "storage:p2"]
        assert [backend.closes for backend in backends] == [2, 1, 1]
        with pytest.raises(InvalidStateError):
            await own.echo()

    async def test_one_that_fails_or_hangs_does_not_stop_the_rest(
        self, registry: Registry, caplog: pytest.LogCaptureFixture
    ) -> None:
        good, bad, hanging = Backend(), Backend(), Backend()
        bad.close = raising(BackendError("lost"))
        hanging.close = Gate()
        await started(registry, "good", good)
        await started(registry, "bad", bad)
        await started(registry, "hanging", hanging)
        report = await registry.dispose_all(timeout=0.05)
        assert report.disposed == ["storage:good"]
        assert report.failed == {"storage:bad": "BackendError: lost"}
        assert report.abandoned == {"storage:hanging": "not closed within 0.05 s"}
        assert report.seconds < 1
        assert "bad failed: BackendError: lost" in caplog.text
        assert "hanging was abandoned: not closed within 0.05 s" in caplog.text

    async def test_one_that_heeds_no_cancellation_is_abandoned(self, registry: Registry) -> None:
        gate, backend = Gate(), Backend()

        async def stubborn() -> None:
            while not gate.opened.is_set():
                try:
                    await gate()
                except asyncio.CancelledError:
                    continue

        backend.close = stubborn
        await started(registry, "stubborn", backend)
        try:
            report = await registry.dispose_all(timeout=0.02)
            assert list(report.abandoned) == ["storage:stubborn"]
        finally:
            gate.opened.set()
            await turns()

    async def test_calls_under_way_get_a_third_of_the_time(
        self, registry: Registry, backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        sample = await started(registry, "sample", backend)
        gate = Gate()
        call = asyncio.create_task(sample.do(gate))
        await gate.reached.wait()
        ending = asyncio.create_task(registry.dispose_all(timeout=5))
        await turns()
        assert not ending.done()
        gate.opened.set()
        assert (await ending).clean
        await call
        assert caplog.messages == []

    async def test_a_call_that_does_not_end_is_named(
        self, registry: Registry, backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        await started(registry, "sample", backend)
        with registry.lease("sample", holder="report"):
            assert (await registry.dispose_all(timeout=0.06)).clean
        assert "sample is disposed while in use: report" in caplog.text

    async def test_ends_what_is_still_connecting(
        self, registry: Registry, backend: Backend
    ) -> None:
        backend.connect = gate = Gate()
        sample = registry.register_nowait("sample", SampleConfig(backend=backend))
        call = asyncio.create_task(sample.echo())
        await gate.reached.wait()
        assert (await registry.dispose_all(timeout=0.06)).clean
        assert backend.log == ["connect", "close"]
        with pytest.raises(InvalidStateError):
            await call

    async def test_cancelled_it_leaves_no_task_behind(
        self, registry: Registry, backend: Backend
    ) -> None:
        backend.close = gate = Gate()
        await started(registry, "sample", backend)
        ending = asyncio.create_task(registry.dispose_all())
        await gate.reached.wait()
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        await turns()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_of_nothing_is_nothing(self, registry: Registry) -> None:
        report = await registry.dispose_all()
        assert (report.disposed, report.clean) == ([], True)


class TestLifetime:
    @pytest.mark.requirement("S1.28", "S1.41", "S2.32", "S0.43")
    async def test_registers_what_is_declared_and_closes_it_in_the_end(
        self, types: ProviderTypes, backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        settings = ProviderSettings.model_validate({"type": "sample", "backend": backend})
        registry = Registry(
            "storage",
            types=types,
            declared={"sample": Declaration(settings, "config", "a file")},
        )
        configured = Settings(storage={"providers": {"sample": settings}})
        discovery = ProviderDiscovery(lambda: {"storage": registry}, configured)
        for _ in range(2):
            life = lifetime(discovery)
            assert await anext(life) is discovery
            sample = registry.handles["sample"]
            assert await sample.echo(1) == 1
            assert [one async for one in life] == []
            with pytest.raises(InvalidStateError):
                await sample.echo()
            with pytest.raises(ShuttingDownError):
                await registry.register("other", {"type": "sample"})
        assert backend.log == ["connect", "close"] * 2
        assert caplog.messages[-1].startswith("Shut down 1 providers in")

    @pytest.mark.requirement("S4.9")
    async def test_single_providers_start_and_stop_by_name(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = registry.register_nowait("sample", SampleConfig(backend=backend))
        await registry.initialize("sample")
        assert backend.log == ["connect"]
        await registry.dispose("sample")
        assert registry.has("sample")
        with pytest.raises(InvalidStateError):
            await sample.echo()
