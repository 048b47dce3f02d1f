"""A registry's providers under watch: breaker, record, events, and who is checked when."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.registry import (
    BreakerState,
    Declaration,
    HealthStatus,
    HealthStatusChanged,
    NotFoundError,
    ProviderRegistry,
    ProviderTypes,
    Status,
)
from purveyor.providers.registry.monitor import HealthMonitor
from purveyor.settings import BreakerSettings, HealthSettings, ProviderSettings, RegistrySettings
from tests.providers.registry.samples import (
    Backend,
    BackendError,
    Gate,
    SampleConfig,
    loop_in_thread,
    nothing,
    raising,
    turns,
)
from tests.providers.registry.virtual_time import now, on_virtual_time

Registry = ProviderRegistry[Any]
Make = Callable[..., Registry]
DAY = 86_400.0


@pytest.fixture
def make(types: ProviderTypes, tmp_path: Path) -> Make:
    """Return what makes a registry on the time of the running event loop."""

    def make(
        *,
        health: HealthSettings | None = None,
        breaker: BreakerSettings | None = None,
        declared: dict[str, ProviderSettings] | None = None,
    ) -> Registry:
        clock = asyncio.get_running_loop().time
        return ProviderRegistry(
            "storage",
            types=types,
            home=tmp_path,
            declared={
                name: Declaration(settings, "config", "the test")
                for name, settings in (declared or {}).items()
            },
            settings=RegistrySettings(
                health=health or HealthSettings(retries=0),
                circuit_breaker=breaker or BreakerSettings(),
            ),
            monitor=HealthMonitor(clock=clock, chance=random.Random(0).random),
            clock=clock,
        )

    return make


class Checked(Backend):
    """A backend that notes when it was asked for its health."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = nothing
        self.times: list[float] = []
        self.health = self._ask

    async def _ask(self) -> None:
        self.times.append(now())
        await self.answer()


def add(registry: Registry, name: str, backend: Backend, **envelope: Any) -> Any:
    config = {"type": "sample", **envelope, "options": {"backend": backend}}
    return registry.register_nowait(name, config)


class TestARecordedResult:
    @pytest.mark.requirement("S4.12", "S4.34")
    @on_virtual_time
    async def test_updates_what_is_known_of_the_provider(self, make: Make) -> None:
        registry = make()
        add(registry, "p", Backend())
        assert registry.info("p").health is HealthStatus.UNKNOWN
        assert registry.info("p").to_dict()["last_health_check"] is None
        result = await registry.get_provider_health("p")
        info = registry.info("p")
        assert (info.health, info.last_health_check) == (HealthStatus.HEALTHY, result.checked_at)
        told = json.loads(json.dumps(info.to_dict()))
        assert told["last_health_check"] == result.checked_at.isoformat()

    @pytest.mark.requirement("S4.33")
    @on_virtual_time
    async def test_is_logged_as_a_warning_where_it_is_not_well(
        self, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        registry, backend = make(), Backend()
        add(registry, "p", backend)
        await registry.get_provider_health("p")
        assert caplog.records == []
        backend.health = raising(BackendError("lost"))
        await registry.get_provider_health("p")
        assert [(record.levelname, record.message) for record in caplog.records] == [
            ("WARNING", "The storage provider p is unhealthy: check_health: lost")
        ]

    @pytest.mark.requirement("S4.35")
    @on_virtual_time
    async def test_is_logged_as_an_error_where_the_provider_itself_is_at_fault(
        self, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        registry, backend = make(breaker=BreakerSettings(failure_threshold=1)), Backend()
        add(registry, "p", backend)
        backend.health = raising(ZeroDivisionError("defect"))
        await registry.get_provider_health("p")
        record = caplog.records[-1]
        assert (record.levelname, record.exc_info is None) == ("ERROR", False)
        assert registry.health("p").breaker is BreakerState.OPEN

    @pytest.mark.requirement("S4.66")
    @on_virtual_time
    async def test_is_announced_when_it_changes_the_status(self, make: Make) -> None:
        registry, backend = make(), Backend()
        events: list[HealthStatusChanged] = []
        registry.on("health-status-changed", events.append)
        add(registry, "p", backend)
        for answer in (nothing, nothing, *[raising(BackendError("lost"))] * 3, nothing):
            backend.health = answer
            await registry.get_provider_health("p")
        assert [(event.before.value, event.after.value) for event in events] == [
            ("unknown", "healthy"),
            ("healthy", "degraded"),
            ("degraded", "unhealthy"),
            ("unhealthy", "healthy"),
        ]
        assert {(event.family, event.name) for event in events} == {("storage", "p")}
        assert events[1].result.message == "check_health: lost"

    @on_virtual_time
    async def test_asks_no_permission_of_the_breaker_and_is_no_call(self, make: Make) -> None:
        registry, backend = make(), Checked()
        add(registry, "p", backend)
        registry._registrations["p"].guard.breaker.force_open()  # type: ignore[union-attr]
        result = await registry.get_provider_health("p")
        assert result.status is HealthStatus.HEALTHY
        assert registry.health("p").breaker is BreakerState.OPEN  # by hand is by hand

    @on_virtual_time
    async def test_is_void_if_the_provider_was_swapped_or_removed_meanwhile(
        self, make: Make
    ) -> None:
        registry = make()
        for ending in (
            lambda: registry.unregister("p", mode="force"),
            lambda: registry.reload("p", SampleConfig(label="other")),
            lambda: registry.dispose("p"),
        ):
            gate, backend = Gate(), Backend()
            add(registry, "p", backend)
            await registry.initialize("p")
            registration = registry._registrations["p"]
            backend.health = gate
            check = asyncio.create_task(registry.get_provider_health("p"))
            await gate.reached.wait()
            await ending()
            gate.opened.set()
            await check
            assert registration.health is None
            if registry.has("p"):
                await registry.unregister("p", mode="force")

    @on_virtual_time
    async def test_of_a_disposed_one_nothing_is_recorded(self, make: Make) -> None:
        registry = make()
        add(registry, "p", Backend())
        await registry.dispose("p")
        result = await registry.get_provider_health("p")
        assert (result.status, result.code) == (HealthStatus.UNKNOWN, "INVALID_STATE")
        assert registry.health("p").history == ()


class TestBreaker:
    @pytest.mark.requirement("S4.33")
    @on_virtual_time
    async def test_five_unhealthy_checks_in_a_row_open_it_and_a_good_one_after_the_wait_closes_it(
        self, make: Make
    ) -> None:
        registry, backend = make(), Checked()
        sample = add(registry, "p", backend)
        await sample.echo()
        states: list[tuple[str, float]] = []
        for event in ("circuit-breaker-opened", "circuit-breaker-closed"):
            registry.on(event, lambda event: states.append((event.event_name, now())))
        registry.start_health_monitoring("p")
        await asyncio.sleep(120)
        assert states == []
        backend.answer, asked = raising(BackendError("lost")), len(backend.times)
        await asyncio.sleep(200)
        assert states == [("circuit-breaker-opened", backend.times[asked + 4])]
        backend.answer = nothing
        await asyncio.sleep(400)
        opened, closed = (time for _, time in states)
        # The last failure was told by the last bad check, and each was told while it was open.
        assert closed == next(time for time in backend.times if time >= opened + 300)
        assert registry.health("p").breaker is BreakerState.CLOSED
        assert await sample.echo(1) == 1
        registry.stop_health_monitoring_all()


class TestAll:
    @pytest.mark.requirement("S1.38", "S4.10")
    @on_virtual_time
    async def test_every_one_is_asked_and_none_hides_the_others(self, make: Make) -> None:
        registry = make(
            health=HealthSettings(timeout=10),
            declared={
                "faulty": ProviderSettings.model_validate({"type": "sample", "port": 0}),
                "declared": ProviderSettings.model_validate({"type": "sample"}),
            },
        )
        bad, hanging = Backend(), Backend(health=Gate())
        bad.health = raising(ZeroDivisionError("defect"))
        add(registry, "good", Backend())
        add(registry, "bad", bad)
        add(registry, "hanging", hanging)
        await registry.register_instance("thing", object())
        results = await registry.get_all_provider_health()
        assert {name: (one.status.value, one.code) for name, one in results.items()} == {
            "bad": ("unhealthy", None),
            "declared": ("healthy", None),
            "faulty": ("unhealthy", "INVALID_CONFIG"),
            "good": ("healthy", None),
            "hanging": ("unhealthy", "TIMEOUT"),
            "thing": ("unknown", None),
        }
        assert list(results) == sorted(results)

    @on_virtual_time
    async def test_no_more_than_allowed_are_asked_at_once(self, make: Make) -> None:
        registry, under_way, most = make(health=HealthSettings(max_concurrent=4)), 0, 0

        async def slow() -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(1)
            under_way -= 1

        for number in range(20):
            add(registry, f"p{number}", Backend(health=slow))
        begun = now()
        assert len(await registry.get_all_provider_health()) == 20
        assert (most, now() - begun) == (4, 5)


class TestReport:
    @on_virtual_time
    async def test_tells_what_is_known_and_asks_nobody(self, make: Make) -> None:
        registry, backend = make(), Checked()
        add(registry, "p", backend, required=True, pipelines=["nightly"])
        before = registry.health("p")
        assert (before.status, before.age, before.history) == (HealthStatus.UNKNOWN, None, ())
        assert (before.state, before.monitored, before.usable) == (Status.REGISTERED, False, False)
        await registry.get_provider_health("p")
        await asyncio.sleep(12)
        report = registry.health("p")
        assert (report.status, report.age, report.successes) == (HealthStatus.HEALTHY, 12, 1)
        assert (report.breaker, report.required, report.usable) == ("closed", True, True)
        assert len(backend.times) == 1
        told = json.loads(json.dumps(registry.health_report().to_dict()))
        assert (told["status"], told["ready"]) == ("healthy", True)
        assert told["providers"][0]["history"][0]["status"] == "healthy"
        with pytest.raises(NotFoundError):
            registry.health("nobody")

    @on_virtual_time
    async def test_grows_old(self, make: Make) -> None:
        registry = make()
        add(registry, "p", Backend())
        await registry.get_provider_health("p")
        await asyncio.sleep(91)
        assert registry.health("p").status is HealthStatus.UNKNOWN
        assert registry.info("p").health is HealthStatus.UNKNOWN

    @on_virtual_time
    async def test_readiness_is_the_required_ones_affair(self, make: Make) -> None:
        registry = make(health=HealthSettings(retries=0, unhealthy_threshold=1))
        add(registry, "needed", Backend(), required=True)
        optional = Backend(health=raising(BackendError("lost")))
        add(registry, "optional", optional)
        for _ in range(5):
            await registry.get_all_provider_health()
        summary = registry.health_report()
        assert [one.breaker for one in summary.providers] == ["closed", "open"]
        assert (summary.ready, summary.status) == (True, HealthStatus.HEALTHY)
        needed = registry._registrations["needed"].guard
        assert needed is not None
        needed.breaker.force_open()
        assert not registry.health_report().ready

    @on_virtual_time
    async def test_a_required_one_with_faulty_settings_is_not_ready(self, make: Make) -> None:
        faulty = ProviderSettings.model_validate({"type": "sample", "port": 0, "required": True})
        registry = make(declared={"faulty": faulty})
        registry.start_health_monitoring_all(in_use_only=True)
        assert not registry.health_report().ready
        registry.stop_health_monitoring_all()

    @on_virtual_time
    async def test_by_group(self, make: Make) -> None:
        registry = make()
        add(registry, "a", Backend(), required=True)
        add(registry, "b", Backend(), pipelines=["nightly"])

        def names(group: str) -> list[str]:
            return [one.name for one in registry.health_report(group=group).providers]

        registry.types.add_family(type(registry.family)("ai"))
        assert names("storage") == ["a", "b"]
        assert names("required") == ["a"]
        assert names("nightly") == ["a", "b"]
        assert names("weekly") == ["a"]
        assert names("ai") == []


class TestMonitoring:
    @pytest.mark.requirement("S4.29", "S4.31")
    @on_virtual_time
    async def test_one_is_checked_every_thirty_seconds_until_that_is_stopped(
        self, make: Make
    ) -> None:
        registry, backend, other = make(), Checked(), Checked()
        add(registry, "p", backend)
        add(registry, "other", other)
        registry.start_health_monitoring("p")
        await asyncio.sleep(3_600)
        assert len(backend.times) in (119, 120)
        registry.stop_health_monitoring("p")
        await asyncio.sleep(3_600)
        assert len(backend.times) in (119, 120)
        assert other.times == []
        assert registry.health("p").status is HealthStatus.UNKNOWN  # by now

    @on_virtual_time
    async def test_starting_again_changes_the_interval(self, make: Make) -> None:
        registry, backend = make(), Checked()
        add(registry, "p", backend)
        registry.start_health_monitoring("p")
        registry.start_health_monitoring("p", 600)
        await asyncio.sleep(3_600)
        assert len(backend.times) in (5, 6)
        assert registry.health("p").status is HealthStatus.HEALTHY  # not older than 3 intervals
        registry.stop_health_monitoring_all()

    @pytest.mark.requirement("S4.32")
    @on_virtual_time
    async def test_of_an_unknown_one_it_is_refused(self, make: Make) -> None:
        registry = make()
        for method in (registry.start_health_monitoring, registry.stop_health_monitoring):
            with pytest.raises(NotFoundError, match="not found: nobody") as caught:
                method("nobody")
            assert caught.value.code == "NOT_FOUND"

    @pytest.mark.requirement("S4.29")
    @on_virtual_time
    async def test_all_are_also_those_that_come_later(self, make: Make) -> None:
        registry = make(declared={"d": ProviderSettings.model_validate({"type": "sample"})})
        first, later = Checked(), Checked()
        add(registry, "first", first)
        registry.start_health_monitoring_all(60)
        add(registry, "later", later)
        await asyncio.sleep(600)
        assert len(first.times) in (9, 10)
        assert len(later.times) in (9, 10)
        assert len(registry.health("d").history) in (9, 10)
        await registry.unregister("first", mode="force")
        await asyncio.sleep(600)
        assert len(first.times) in (9, 10)
        registry.stop_health_monitoring_all()
        add(registry, "last", last := Checked())
        await asyncio.sleep(600)
        assert last.times == []
        assert len(later.times) in (19, 20)

    @on_virtual_time
    async def test_nobody_is_connected_that_nobody_uses_unless_it_is_required(
        self, make: Make
    ) -> None:
        names = ("idle", "used", "required", "failed", "disposed")
        backends = {name: Checked() for name in names}
        registry = make()
        used = add(registry, "used", backends["used"])
        registry.start_health_monitoring_all(in_use_only=True)
        add(registry, "idle", backends["idle"])
        add(registry, "required", backends["required"], required=True)
        failed = add(registry, "failed", backends["failed"])
        disposed = add(registry, "disposed", backends["disposed"])
        await used.echo()
        await disposed.echo()
        await disposed.dispose()
        backends["failed"].connect = raising(BackendError("refused"))
        with pytest.raises(Exception, match="refused"):
            await failed.echo()
        backends["failed"].connect = nothing
        await asyncio.sleep(300)
        asked = {name for name, backend in backends.items() if backend.times}
        assert asked == {"used", "required", "failed"}
        assert backends["idle"].connects == 0
        assert registry.health("failed").state is Status.READY
        registry.start_health_monitoring("idle")  # by name is on purpose
        await asyncio.sleep(60)
        assert backends["idle"].connects == 1
        registry.stop_health_monitoring_all()

    @on_virtual_time
    async def test_a_required_one_is_checked_soon_so_that_readiness_need_not_wait(
        self, make: Make
    ) -> None:
        registry = make()
        for number in range(10):
            add(registry, f"p{number}", Backend(), required=True)
        registry.start_health_monitoring_all(in_use_only=True)
        assert not registry.health_report().ready
        await asyncio.sleep(1)
        assert registry.health_report().ready
        registry.stop_health_monitoring_all()

    @on_virtual_time
    async def test_settings_that_change_are_followed(self, make: Make) -> None:
        registry, backend = make(), Checked()
        add(registry, "p", backend)
        registry.start_health_monitoring("p")
        await asyncio.sleep(60)
        registry.apply(RegistrySettings(health=HealthSettings(check_interval=600)))
        await asyncio.sleep(60)
        asked = len(backend.times)
        await asyncio.sleep(3_600)
        assert len(backend.times) - asked in (5, 6, 7)
        registry.stop_health_monitoring_all()

    @pytest.mark.parametrize("way", ["apply", "reload"])
    @on_virtual_time
    async def test_a_shorter_interval_does_not_wait_for_the_longer_one_to_end(
        self, make: Make, way: str
    ) -> None:
        registry, backend = make(health=HealthSettings(check_interval=3_600)), Checked()
        add(registry, "p", backend)
        registry.start_health_monitoring("p")
        await asyncio.sleep(60)
        if way == "apply":
            registry.apply(RegistrySettings(health=HealthSettings(check_interval=10)))
        else:
            await registry.reload("p", {"backend": backend, "health": {"check_interval": 10}})
        await asyncio.sleep(100)
        assert len(backend.times) in (9, 10, 11)
        registry.stop_health_monitoring_all()

    @pytest.mark.requirement("S4.69")
    @on_virtual_time
    async def test_one_that_is_stopped_or_unregistered_while_checked_leaves_no_task(
        self, make: Make
    ) -> None:
        registry = make()
        for end in (registry.stop_health_monitoring, registry.unregister):
            gate, backend = Gate(), Backend()
            add(registry, "p", backend)
            await registry.initialize("p")
            backend.health = gate
            registry.start_health_monitoring("p")
            await gate.reached.wait()
            if (answer := end("p")) is not None:
                await answer
            await turns()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert registry._monitor.watched == ()
            if registry.has("p"):
                await registry.unregister("p", mode="force")

    @pytest.mark.requirement("S4.69")
    @on_virtual_time
    async def test_starting_and_stopping_ten_thousand_times_does_not_grow(self, make: Make) -> None:
        registry = make()
        add(registry, "p", Backend())

        async def cycles(count: int) -> None:
            for _ in range(count):
                registry.start_health_monitoring_all()
                registry.stop_health_monitoring_all()
                await asyncio.sleep(0)

        await cycles(200)
        gc.collect()
        tracemalloc.start()
        await cycles(10_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert grown < 20_000

    def test_without_an_event_loop_it_waits_for_one(
        self, types: ProviderTypes, tmp_path: Path
    ) -> None:
        monitor = HealthMonitor(chance=lambda: 0.0)
        registry: Registry = ProviderRegistry(
            "storage", types=types, home=tmp_path, monitor=monitor
        )
        asked = asyncio.Event()

        async def ask() -> None:
            asked.set()

        add(registry, "p", Backend(health=ask))
        registry.start_health_monitoring("p")

        async def main() -> None:
            monitor.start()
            await asyncio.wait_for(asked.wait(), 10)
            await monitor.stop()
            await registry.dispose_all()

        asyncio.run(main())

    async def test_one_that_lives_on_another_loop_is_checked_there(
        self, registry: Registry
    ) -> None:
        loops: list[asyncio.AbstractEventLoop] = []

        async def ask() -> None:
            loops.append(asyncio.get_running_loop())

        async def home() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        sample = registry.register_nowait("p", SampleConfig(backend=Backend(health=ask)))
        with loop_in_thread() as there:
            there(sample.echo())
            result = await registry.get_provider_health("p")
            assert result.status is HealthStatus.HEALTHY
            assert loops == [there(home())]
            await registry.dispose("p")


@on_virtual_time
async def test_a_month_with_an_outage_every_week(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    registry, backend = make(health=HealthSettings()), Checked()
    sample = add(registry, "p", backend)
    await sample.echo()
    statuses: list[tuple[str, float]] = []
    opened: list[float] = []
    closed: list[float] = []
    registry.on("health-status-changed", lambda event: statuses.append((event.after, now())))
    registry.on("circuit-breaker-opened", lambda _: opened.append(now()))
    registry.on("circuit-breaker-closed", lambda _: closed.append(now()))
    registry.start_health_monitoring_all()
    begun, outages = now(), list[tuple[float, float]]()
    for week in range(4):
        await asyncio.sleep(begun + week * 7 * DAY + 3 * DAY - now())
        down = now()
        backend.answer = raising(BackendError("lost"))
        await asyncio.sleep(4 * 3_600)
        backend.answer = nothing
        outages.append((down, now()))
    await asyncio.sleep(begun + 30 * DAY - now())
    registry.stop_health_monitoring_all()
    assert statuses.pop(0)[0] == "healthy"
    assert [status for status, _ in statuses] == ["degraded", "unhealthy", "healthy"] * 4
    assert len(closed) == 4
    for week, (down, up) in enumerate(outages):
        degraded, unhealthy, healthy = (time for _, time in statuses[week * 3 : week * 3 + 3])
        assert down <= degraded <= down + 40
        assert 25 < unhealthy - degraded < 35
        assert up <= healthy <= up + 40
        first, *probes = [time for time in opened if down <= time <= up]
        assert 115 < first - degraded < 126
        assert all(300 <= later - time < 335 for time, later in pairwise([first, *probes]))
        assert up <= closed[week] <= up + 300 + 40
    assert len(registry.health("p").history) == HealthSettings().history
    assert len(backend.times) > 30 * DAY / 30
