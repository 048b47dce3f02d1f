"""Starting, stopping and restarting providers, alone and together, in the order they need."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import pytest

from purveyor.providers.registry import (
    BreakerState,
    ConnectionFailedError,
    Declaration,
    Family,
    HookFailedError,
    InUseError,
    InvalidConfigError,
    InvalidStateError,
    NotFoundError,
    ProviderDiscovery,
    ProviderErrorOccurred,
    ProviderRegistered,
    ProviderRegistry,
    ProviderTypes,
    ShuttingDownError,
    Status,
    lifetime,
    register_provider,
)
from purveyor.settings import ProviderSettings, Settings
from tests.providers.registry.samples import (
    Backend,
    BackendError,
    Gate,
    Sample,
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


class Model(Sample):
    """Of another family."""

    family = "ai"


@pytest.fixture
def ai(types: ProviderTypes, registry: Registry) -> Registry:
    """A second registry, beside the one of storages: each knows the other."""
    types.add_family(Family("ai", fallback="model"))
    register_provider("model", types=types)(Model)
    both: dict[str, Registry] = {"storage": registry}
    both["ai"] = ProviderRegistry("ai", types=types, peers=lambda: both)
    registry._peers = lambda: both
    return both["ai"]


def logged(log: list[str], name: str) -> Backend:
    """Return a backend that writes into a log it shares with others."""

    async def connect() -> None:
        await turns(3)
        log.append(f"+{name}")

    async def close() -> None:
        await turns(3)
        log.append(f"-{name}")

    return Backend(connect=connect, close=close)


async def chain(registry: Registry, log: list[str], needs: Mapping[str, str]) -> None:
    for name, depends_on in needs.items():
        config = {"type": "sample", "backend": logged(log, name), "depends_on": depends_on}
        await registry.register(name, config)


class TestOne:
    @pytest.mark.requirement("S4.27", "S4.56")
    async def test_starts_stops_and_starts_again(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await registry.register("sample", SampleConfig(backend=backend))
        await registry.start("sample")
        assert registry.info("sample").status is Status.READY
        assert await registry.stop("sample") == ["storage:sample"]
        assert registry.info("sample").status is Status.DISPOSED
        with pytest.raises(InvalidStateError):
            await sample.echo()
        with pytest.raises(InvalidStateError), registry.lease("sample"):
            pass
        await registry.start("sample")
        assert await sample.echo(1) == 1
        await registry.stop("sample")
        assert backend.log == ["connect", "close"] * 2

    @pytest.mark.parametrize("work", ["initialize", "start", "stop", "restart", "dispose"])
    async def test_there_must_be_one_of_that_name(self, registry: Registry, work: str) -> None:
        with pytest.raises(NotFoundError, match="nowhere"):
            await getattr(registry, work)("nowhere")

    async def test_an_object_without_a_guard_has_nothing_to_start(self, registry: Registry) -> None:
        await registry.register_instance("thing", object())
        await registry.start("thing")
        assert await registry.stop("thing") == ["storage:thing"]
        await registry.dispose("thing")
        await registry.stop_all()

    async def test_starting_asks_no_permission_of_the_breaker(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, "sample", backend)
        sample._guard.breaker.force_open()
        await registry.stop("sample")
        await registry.start("sample")
        assert registry.info("sample").status is Status.READY

    async def test_restarting_closes_the_breaker(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, "sample", backend)
        sample._guard.breaker.force_open()
        await registry.restart("sample")
        assert sample._guard.breaker.state is BreakerState.CLOSED
        assert await sample.echo(1) == 1
        assert backend.log == ["connect", "close", "connect"]
        await registry.stop_all()

    @pytest.mark.parametrize("watched", [True, False])
    async def test_restarting_watches_its_health_as_before(
        self, registry: Registry, backend: Backend, watched: bool
    ) -> None:
        await registry.register("sample", {"type": "sample", "backend": backend})
        await registry.initialize("sample")
        if watched:
            registry.start_health_monitoring("sample", 77)
        await registry.restart("sample")
        assert registry.health("sample").monitored is watched
        assert [wish.interval for wish in registry._wishes.values()] == [77] * watched
        await registry.stop_all()

    async def test_a_stop_that_does_not_end_in_time_leaves_it_running(
        self, registry: Registry, backend: Backend
    ) -> None:
        sample = await started(registry, "sample", backend)
        gate = Gate()
        call = asyncio.create_task(sample.do(gate))
        await gate.reached.wait()
        with pytest.raises(InUseError, match="1 call in flight"):
            await registry.stop("sample", timeout=0.02)
        assert await sample.echo(1) == 1
        stopping = asyncio.create_task(registry.stop("sample"))
        await turns()
        gate.opened.set()
        await stopping
        await call
        assert backend.log == ["connect", "close"]

    async def test_a_closing_that_fails_is_told_and_it_counts_as_stopped(
        self, registry: Registry, backend: Backend
    ) -> None:
        backend.close = raising(BackendError("lost"))
        await started(registry, "sample", backend)
        with pytest.raises(BackendError):
            await registry.stop("sample")
        assert registry.info("sample").status is Status.DISPOSED

    async def test_a_failed_connection_is_told_and_tried_anew_by_the_next(
        self, registry: Registry, backend: Backend
    ) -> None:
        backend.connect = raising(BackendError("refused"))
        await registry.register("sample", SampleConfig(backend=backend))
        heard: list[ProviderErrorOccurred] = []
        registry.on(ProviderErrorOccurred, heard.append)
        with pytest.raises(ConnectionFailedError, match="refused"):
            await registry.start("sample")
        assert [event.name for event in heard] == ["sample"]
        backend.connect = Backend().connect
        await registry.initialize("sample")
        assert registry.info("sample").status is Status.READY


class TestAll:
    @pytest.mark.requirement("S4.28")
    async def test_all_are_started_and_stopped(self, registry: Registry) -> None:
        backends = [Backend() for _ in range(3)]
        for number, backend in enumerate(backends):
            await registry.register(f"p{number}", SampleConfig(backend=backend), type="sample")
        for begin in (registry.initialize_all, registry.start_all):
            report = await begin()
            assert sorted(row.name for row in report.rows) == ["p0", "p1", "p2"]
            assert not report.failed
            assert (await registry.stop_all()).clean
        assert [backend.log for backend in backends] == [["connect", "close"] * 2] * 3
        await turns()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_one_that_fails_is_a_row_and_does_not_stop_the_rest(
        self, registry: Registry, caplog: pytest.LogCaptureFixture
    ) -> None:
        bad, good = Backend(connect=raising(BackendError("refused"))), Backend()
        await registry.register("bad", SampleConfig(backend=bad), type="sample")
        await registry.register("good", SampleConfig(backend=good), type="sample")
        report = await registry.start_all()
        (row,) = report.failed
        assert (row.name, row.code) == ("bad", "CONNECTION_FAILED")
        assert "Starting provider bad failed" in caplog.text
        assert good.connects == 1
        await registry.stop_all()


class TestDependencies:
    @pytest.mark.requirement("S1.37")
    @pytest.mark.parametrize("how", ["initialize", "use", "all"])
    async def test_what_is_needed_starts_first_and_stops_last(
        self, registry: Registry, how: str
    ) -> None:
        log: list[str] = []
        await chain(registry, log, {"base": "", "middle": "base", "top": "storage:middle, base"})
        if how == "initialize":
            await registry.initialize("top")
        elif how == "use":
            await registry.require("top").echo()
        else:
            await registry.initialize_all()
        assert log == ["+base", "+middle", "+top"]
        assert await registry.stop("base") == ["storage:top", "storage:middle", "storage:base"]
        assert log[3:] == ["-top", "-middle", "-base"]

    @pytest.mark.requirement("S1.37")
    async def test_over_two_families(self, registry: Registry, ai: Registry) -> None:
        log: list[str] = []
        config = {"type": "model", "backend": logged(log, "model"), "depends_on": "storage:base"}
        await ai.register("model", config)
        await registry.register("base", {"type": "sample", "backend": logged(log, "base")})
        await ai.start("model")
        assert log == ["+base", "+model"]
        await registry.restart("base")
        assert log[2:] == ["-model", "-base", "+base", "+model"]
        assert await registry.stop("base") == ["ai:model", "storage:base"]
        assert log[6:] == ["-model", "-base"]

    async def test_restarting_brings_back_only_dependents_that_ran(
        self, registry: Registry
    ) -> None:
        log: list[str] = []
        await chain(registry, log, {"base": "", "used": "base", "unused": "base"})
        await registry.initialize("used")
        await registry.restart("base")
        assert log == ["+base", "+used", "-used", "-base", "+base", "+used"]
        assert registry.info("unused").status is Status.REGISTERED
        await registry.stop_all()

    async def test_what_is_needed_starts_once_however_many_need_it(
        self, registry: Registry
    ) -> None:
        log: list[str] = []
        names = [f"p{number}" for number in range(20)]
        await chain(registry, log, {"base": "", **dict.fromkeys(names, "base")})
        assert not (await registry.initialize_all()).failed
        assert (log.count("+base"), log[0]) == (1, "+base")

    async def test_one_that_fails_is_named_with_who_needs_it(self, registry: Registry) -> None:
        bad = Backend(connect=raising(BackendError("refused")))
        await registry.register("base", SampleConfig(backend=bad), type="sample")
        mine = Backend()
        top = {"type": "sample", "backend": mine, "depends_on": "base"}
        sample = await registry.register("top", top)
        with pytest.raises(ConnectionFailedError, match=r"'top'.*depends on storage:base.*refused"):
            await sample.echo()
        assert mine.connects == 0
        report = await registry.start_all()
        assert sorted(row.name for row in report.failed) == ["base", "top"]

    @pytest.mark.parametrize("missing", ["base", "storage:base", "nowhere:base"])
    async def test_one_that_is_missing_is_named_with_who_needs_it(
        self, registry: Registry, missing: str
    ) -> None:
        await registry.register("top", {"type": "sample", "depends_on": missing})
        with pytest.raises(NotFoundError, match=r"'top'.*depends on .*base.*not found"):
            await registry.initialize("top")

    async def test_a_stopped_one_is_started_again_by_who_needs_it(self, registry: Registry) -> None:
        log: list[str] = []
        await chain(registry, log, {"base": "", "top": "base"})
        await registry.initialize("base")
        await registry.stop("base")
        await registry.initialize("top")
        assert log == ["+base", "-base", "+base", "+top"]

    async def test_cycles_are_refused_by_name_when_registered(self, registry: Registry) -> None:
        with pytest.raises(InvalidConfigError, match="storage:a needs storage:a"):
            await registry.register("a", {"type": "sample", "depends_on": "a"})
        await chain(registry, [], {"a": "b", "b": "c"})
        with pytest.raises(InvalidConfigError) as caught:
            await registry.register("c", {"type": "sample", "depends_on": "a"})
        for one, other in (("a", "b"), ("b", "c"), ("c", "a")):
            assert f"storage:{one} needs storage:{other}" in str(caught.value)
        assert not registry.has("c")
        await registry.register("c", {"type": "sample"})

    async def test_cycles_are_refused_by_name_when_reloaded(
        self, registry: Registry, backend: Backend
    ) -> None:
        await chain(registry, [], {"a": "b", "b": "c"})
        sample = await started(registry, "c", backend)
        with pytest.raises(InvalidConfigError, match="storage:c needs storage:a"):
            await registry.reload("c", {"type": "sample", "backend": backend, "depends_on": "a"})
        assert await sample.echo(1) == 1
        assert backend.log == ["connect"]

    async def test_cycles_through_another_family(self, registry: Registry, ai: Registry) -> None:
        await registry.register("s", {"type": "sample", "depends_on": "ai:m"})
        with pytest.raises(
            InvalidConfigError,
            match=r"ai:m needs storage:s needs ai:m|"
            r"storage:s needs ai:m needs storage:s",
        ):
            await ai.register("m", {"type": "model", "depends_on": "storage:s"})


class TestForeignCode:
    async def test_a_hook_that_raises_registers_nothing(self, registry: Registry) -> None:
        def defective(_: str) -> None:
            raise ZeroDivisionError("odd")

        registry.add_init_hook(defective)
        with pytest.raises(HookFailedError, match="defective raised ZeroDivisionError: odd"):
            await registry.register("sample")
        assert not registry.has("sample")

    async def test_a_hook_that_hangs_holds_its_own_name_and_nobody_else(
        self, registry: Registry
    ) -> None:
        gate = Gate()
        registry.add_init_hook(lambda name: gate() if name == "slow" else None)
        slow = asyncio.create_task(registry.register("slow", {"type": "sample"}))
        await gate.reached.wait()
        await registry.register("quick", {"type": "sample"}, start="ready")
        await registry.unregister("quick")
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        gate.opened.set()
        await registry.register("slow", {"type": "sample"})

    async def test_a_hook_may_call_the_registry(self, registry: Registry) -> None:
        async def companion(name: str) -> None:
            if name == "sample":
                await registry.register("companion", {"type": "sample"}, start="ready")
                await registry.reload("companion")
                await registry.stop("companion")

        registry.add_init_hook(companion)
        await registry.register("sample")
        assert registry.names() == ["companion", "sample"]

    async def test_a_listener_may_remove_what_it_is_told_of(self, registry: Registry) -> None:
        async def remove(event: ProviderRegistered) -> None:
            await registry.unregister(event.name)

        registry.on(ProviderRegistered, remove)
        await registry.register("sample")
        await registry.events.settle()
        assert not registry.has("sample")


FORGETFUL = """
import asyncio
from purveyor.providers.registry import *

class Sample(Provider[ProviderConfig]):
    family = "storage"
    @operation
    async def use(self): ...

async def main(end):
    types = ProviderTypes(scan_entry_points=False)
    types.add_family(Family("storage", fallback="sample"))
    register_provider("sample", types=types)(Sample)
    registry = ProviderRegistry("storage", types=types)
    for name in ("connected", "swapped", "stopped"):
        await (await registry.register(name, {"type": "sample"})).use()
    await registry.register("unused", {"type": "sample"})
    await registry.reload("swapped")
    await registry.stop("stopped")
    if end:
        await registry.graceful_shutdown()
    return registry

kept = asyncio.run(main(END))
"""


class TestForgotten:
    async def test_what_was_never_closed_is_named_when_it_is_dropped(
        self, registry: Registry
    ) -> None:
        gc.collect()  # what other tests left
        await started(registry, "sample", Backend())
        own: Any = registry.create("sample")
        await own.echo()
        held = [own]
        del own
        with pytest.warns(ResourceWarning, match="storage provider 'sample' was never closed"):
            held.clear()
        await registry.dispose_all()

    async def test_what_was_closed_is_not(self, registry: Registry) -> None:
        gc.collect()
        own: Any = await started(registry, "sample", Backend())
        await registry.reload("sample", {"label": "two"})
        await turns()
        failed = Backend(connect=raising(BackendError("refused")))
        with pytest.raises(ConnectionFailedError):
            await registry.reload("sample", {"backend": failed})
        await registry.unregister("sample")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del own
            gc.collect()
        assert [str(one.message) for one in caught] == []

    @pytest.mark.parametrize("end", [False, True])
    def test_when_the_process_ends(self, end: bool) -> None:
        done = subprocess.run(
            [sys.executable, "-W", "always", "-c", FORGETFUL.replace("END", str(end))],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        told = [line for line in done.stderr.splitlines() if "never closed" in line]
        named = sorted(line.split("'")[1] for line in told)
        assert named == ([] if end else ["connected", "swapped"])
        assert all("ResourceWarning: The storage provider" in line for line in told)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("start", ["ready", "test"])
async def test_a_provider_started_while_it_is_registered_starts_what_it_needs(
    registry: Registry, backend: Backend, start: Any
) -> None:
    await registry.register("base", {"type": "sample", "backend": backend})
    top = {"type": "sample", "depends_on": "base"}
    await registry.register("top", top, start=start)
    assert backend.connects == 1
    await registry.dispose_all()
