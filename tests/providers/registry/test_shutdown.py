"""The end of many providers, of which some hang, raise, heed no cancellation or block."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from purveyor.providers.registry import (
    ConnectionFailedError,
    Family,
    InvalidStateError,
    ProviderRegistry,
    ProviderTypes,
    ShuttingDownError,
    graceful_shutdown,
    register_provider,
)
from purveyor.settings import LifecycleSettings
from tests.providers.registry.samples import (
    Backend,
    BackendError,
    Gate,
    Sample,
    deaf,
    raising,
    turns,
)

Registry = ProviderRegistry[Any]


class Blocking(Sample):
    """Whose library knows no coroutines: all it does blocks."""

    release = threading.Event()
    threads: list[threading.Thread] = []  # noqa: RUF012  # one for the class

    def _connect(self) -> None:  # type: ignore[override]
        self.threads.append(threading.current_thread())

    def _close(self) -> None:  # type: ignore[override]
        self.threads.append(threading.current_thread())
        self.release.wait(20)

    def check_health(self) -> None:  # type: ignore[override]
        self.threads.append(threading.current_thread())


@pytest.fixture
def types(types: ProviderTypes) -> Iterator[ProviderTypes]:
    register_provider("blocking", types=types)(Blocking)
    Blocking.release.clear()
    Blocking.threads.clear()
    yield types
    Blocking.release.set()
    for thread in Blocking.threads:
        thread.join(5)


@pytest.fixture
def limits() -> LifecycleSettings:
    return LifecycleSettings(dispose_timeout=30)


class TestDeadline:
    @pytest.mark.requirement("S4.30", "S4.41", "S4.49")
    async def test_two_hundred_of_which_many_misbehave_are_named_rightly(
        self, registry: Registry, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.CRITICAL)
        gate = Gate()
        kinds: dict[str, tuple[str, Backend]] = {
            "good": ("sample", Backend()),
            "hanging": ("sample", Backend(close=gate)),
            "raising": ("sample", Backend(close=raising(BackendError("lost")))),
            "deaf": ("sample", Backend(close=deaf(gate))),
            "blocking": ("blocking", Backend()),
        }
        for number in range(40):
            for kind, (type_name, backend) in kinds.items():
                name, config = f"{kind}{number}", {"type": type_name, "backend": backend}
                await registry.register(name, config, start="ready")
        started = monotonic()
        report = await registry.graceful_shutdown(timeout=1)
        assert monotonic() - started < 2
        assert report.seconds < 2
        expected = {kind: {f"storage:{kind}{number}" for number in range(40)} for kind in kinds}
        assert set(report.disposed) == expected["good"]
        assert report.failed == dict.fromkeys(expected["raising"], "BackendError: lost")
        late = expected["hanging"] | expected["deaf"] | expected["blocking"]
        assert report.abandoned == dict.fromkeys(late, "not closed within 1 s")
        assert not report.clean
        gate.opened.set()
        await turns(30)

    @pytest.mark.parametrize("limits", [LifecycleSettings(dispose_timeout=0.05)])
    @pytest.mark.parametrize("kind", ["hanging", "deaf", "blocking"])
    async def test_one_that_takes_longer_than_its_own_time_is_abandoned_too(
        self, registry: Registry, kind: str
    ) -> None:
        gate = Gate()
        backend = Backend(close={"hanging": gate, "deaf": deaf(gate)}.get(kind, gate))
        type_name = "blocking" if kind == "blocking" else "sample"
        await registry.register("one", {"type": type_name, "backend": backend}, start="ready")
        report = await registry.dispose_all(timeout=5)
        assert report.abandoned == {"storage:one": "not closed within 0.05 s"}
        assert report.seconds < 1
        gate.opened.set()
        await turns()

    async def test_a_timeout_that_closing_itself_raises_is_a_failure(
        self, registry: Registry
    ) -> None:
        backend = Backend(close=raising(TimeoutError("the server does not answer")))
        await registry.register("one", {"type": "sample", "backend": backend}, start="ready")
        report = await registry.dispose_all()
        assert report.failed == {"storage:one": "TimeoutError: the server does not answer"}

    @pytest.mark.parametrize("limits", [LifecycleSettings(dispose_timeout=30)])
    async def test_a_connection_that_heeds_no_cancellation_is_abandoned(
        self, registry: Registry
    ) -> None:
        gate = Gate()
        backend = Backend(connect=deaf(gate))
        sample = await registry.register("one", {"type": "sample", "backend": backend})
        call = asyncio.create_task(sample.echo())
        await gate.reached.wait()
        report = await registry.graceful_shutdown(timeout=0.1)
        assert list(report.abandoned) == ["storage:one"]
        with pytest.raises(InvalidStateError, match="takes no more calls"):
            await call
        gate.opened.set()
        await turns()
        assert backend.log == ["connect", "close"]


class TestOrder:
    @pytest.mark.requirement("S1.37", "S4.41")
    async def test_dependents_close_before_what_they_need(self, registry: Registry) -> None:
        log: list[str] = []

        def closing(name: str) -> Backend:
            async def close() -> None:
                await turns(3)
                log.append(name)

            return Backend(close=close)

        needs = {"base": [], "middle": ["base"], "top": ["storage:middle"], "alone": []}
        for name, depends_on in needs.items():
            await registry.register(
                name, {"type": "sample", "backend": closing(name), "depends_on": depends_on}
            )
        await registry.initialize_all()
        assert (await registry.graceful_shutdown()).clean
        assert log.index("alone") < log.index("middle")  # it waits for nobody
        assert [name for name in log if name != "alone"] == ["top", "middle", "base"]

    async def test_a_dependent_that_hangs_leaves_time_for_what_it_needs(
        self, registry: Registry
    ) -> None:
        base, gate = Backend(), Gate()
        await registry.register("base", {"type": "sample", "backend": base})
        top = {"type": "sample", "backend": Backend(close=gate), "depends_on": "base"}
        await registry.register("top", top)
        await registry.initialize("top")
        report = await registry.graceful_shutdown(timeout=0.3)
        assert report.disposed == ["storage:base"]
        assert list(report.abandoned) == ["storage:top"]
        assert base.log == ["connect", "close"]

    async def test_also_over_several_families(self, types: ProviderTypes) -> None:
        log: list[str] = []
        registries: dict[str, Registry] = {}
        types.add_family(Family("ai", fallback="model"))
        register_provider("model", types=types)(Model)
        for family in ("storage", "ai"):
            registries[family] = Registry(family, types=types, peers=lambda: registries)

        def closing(name: str) -> Backend:
            async def close() -> None:
                await turns(3)
                log.append(name)

            return Backend(close=close)

        await registries["storage"].register("s", {"type": "sample", "backend": closing("s")})
        model = {"type": "model", "backend": closing("m"), "depends_on": "storage:s"}
        await registries["ai"].register("m", model)
        await registries["ai"].initialize("m")
        report = await graceful_shutdown(list(registries.values()), 5)
        assert log == ["m", "s"]
        assert sorted(report.disposed) == ["ai:m", "storage:s"]


class Model(Sample):
    """Of another family."""

    family = "ai"


class TestMeanwhile:
    async def test_while_starting_ends_what_has_started_and_what_has_not(
        self, registry: Registry
    ) -> None:
        gate = Gate()
        good, slow = Backend(), Backend(connect=gate)
        await registry.register("good", {"type": "sample", "backend": good})
        await registry.register("slow", {"type": "sample", "backend": slow})
        starting = asyncio.create_task(registry.start_all())
        await gate.reached.wait()
        report = await registry.graceful_shutdown(timeout=0.2)
        assert report.clean
        rows = {row.name: row.code for row in (await starting).failed}
        assert rows.get("slow") == "INVALID_STATE"
        assert (good.log, slow.log) == (["connect", "close"], ["connect", "close"])
        await turns()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_a_start_that_succeeds_meanwhile_leaves_no_monitor(
        self, registry: Registry
    ) -> None:
        gate = Gate()
        backend = Backend(connect=gate)
        await registry.register("slow", {"type": "sample", "backend": backend})
        starting = asyncio.create_task(registry.start("slow"))
        await gate.reached.wait()
        ending = asyncio.create_task(registry.graceful_shutdown())
        await turns()
        gate.opened.set()
        with pytest.raises(ShuttingDownError):
            await starting
        assert (await ending).clean
        await turns()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert backend.log == ["connect", "close"]

    async def test_a_dependent_does_not_start_what_is_closed(self, registry: Registry) -> None:
        await registry.register("base", {"type": "sample"})
        top = await registry.register("top", {"type": "sample", "depends_on": "base"})
        registry.close()
        with pytest.raises(ConnectionFailedError, match=r"depends on storage:base.*shutting down"):
            await top.echo()

    async def test_a_registration_whose_hook_ends_after_it_is_refused(
        self, registry: Registry, backend: Backend
    ) -> None:
        gate = Gate()
        registry.add_init_hook(gate)
        config = {"type": "sample", "backend": backend}
        registration = asyncio.create_task(registry.register("late", config, start="ready"))
        await gate.reached.wait()
        assert (await registry.graceful_shutdown()).clean
        gate.opened.set()
        with pytest.raises(ShuttingDownError):
            await registration
        assert backend.connects == backend.closes
        assert not registry.has("late")

    async def test_twice_at_once_the_second_waits_for_the_closing_too(
        self, registry: Registry
    ) -> None:
        gate = Gate()
        backend = Backend(close=gate)
        await registry.register("one", {"type": "sample", "backend": backend}, start="ready")
        first = asyncio.create_task(registry.graceful_shutdown())
        await gate.reached.wait()
        second = asyncio.create_task(registry.graceful_shutdown())
        await turns()
        assert not second.done()
        gate.opened.set()
        assert (await first).disposed == (await second).disposed == ["storage:one"]
        assert backend.closes == 1

    async def test_twice_one_after_the_other_is_no_error(self, registry: Registry) -> None:
        backend = Backend()
        await registry.register("one", {"type": "sample", "backend": backend}, start="ready")
        assert (await registry.graceful_shutdown()).clean
        assert (await registry.graceful_shutdown()).clean
        assert backend.log == ["connect", "close"]

    async def test_a_listener_that_calls_back_cannot_bring_anything_back(
        self, registry: Registry
    ) -> None:
        refused: list[Exception] = []

        async def again(_: object) -> None:
            try:
                await registry.register("another", {"type": "sample"})
            except ShuttingDownError as error:
                refused.append(error)

        async def close() -> None:
            await again(None)

        backend = Backend(close=close)
        await registry.register("one", {"type": "sample", "backend": backend}, start="ready")
        assert (await registry.graceful_shutdown()).clean
        assert len(refused) == 1


class TestBlockingLibraries:
    async def test_what_is_no_coroutine_runs_in_threads_that_keep_no_process(
        self, registry: Registry
    ) -> None:
        await registry.register("one", {"type": "blocking"}, start="test")
        Blocking.release.set()
        await registry.dispose("one")
        connect, health, close = Blocking.threads
        assert threading.main_thread() not in Blocking.threads
        assert all(thread.daemon for thread in (connect, health, close))


PROGRAM = """
import asyncio, time
from purveyor.providers.registry import *
from purveyor.settings import LifecycleSettings, RegistrySettings

class Stubborn(Provider[ProviderConfig]):
    family = "storage"
    how = "deaf"
    @operation
    async def use(self): ...
    async def sit(self):
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

class DeafToClose(Stubborn):
    async def _close(self): await self.sit()

class DeafToConnect(Stubborn):
    async def _connect(self): await self.sit()

class Blocked(Stubborn):
    def _close(self): time.sleep(3600)

class BlockedInConnect(Stubborn):
    def _connect(self): time.sleep(3600)

async def main():
    types = ProviderTypes(scan_entry_points=False)
    types.add_family(Family("storage", fallback="none"))
    registry = ProviderRegistry("storage", types=types)
    calls = []
    for cls in (DeafToClose, DeafToConnect, Blocked, BlockedInConnect):
        register_provider(cls.__name__.lower(), types=types)(cls)
        for number in range(5):
            name = f"{cls.__name__.lower()}{number}"
            one = registry.register_nowait(name, {"type": cls.__name__.lower()})
            calls.append(asyncio.ensure_future(one.use()))
    swapped = registry.register_nowait("swapped", {"type": "deaftoclose"})
    await swapped.use()
    await registry.reload("swapped")
    await asyncio.sleep(0.1)
    report = await registry.graceful_shutdown(0.5)
    print(len(report.disposed), len(report.failed), len(report.abandoned), report.seconds < 1.5)
    await asyncio.gather(*calls, return_exceptions=True)

begun = time.monotonic()
asyncio.run(main())
print("ended", time.monotonic() - begun < 5)
"""


@pytest.mark.requirement("S4.49")
def test_the_process_ends_at_once_whatever_still_hangs() -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False
    )
    assert "Traceback" not in done.stderr
    assert "RuntimeWarning" not in done.stderr
    first, second = done.stdout.splitlines()
    disposed, _, abandoned, in_time = first.split()
    assert (disposed, abandoned, in_time) == ("5", "16", "True")
    assert second == "ended True"
    assert done.returncode == 0
    assert time.monotonic() - started < 15
