"""When checks are run: on a fixed schedule, spread, never twice at once, not too many at once."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import tracemalloc
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from purveyor.providers.registry.monitor import HealthMonitor
from tests.providers.registry.samples import Gate, loop_in_thread, turns
from tests.providers.registry.virtual_time import now, on_virtual_time

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0


def monitor_of_this_loop(
    *,
    max_concurrent: int = 32,
    seed: int = 1,
    chance: Callable[[], float] | None = None,
    observe: Callable[[float], None] | None = None,
) -> HealthMonitor:
    return HealthMonitor(
        max_concurrent=max_concurrent,
        clock=asyncio.get_running_loop().time,
        chance=chance or random.Random(seed).random,
        observe=observe,
    )


class Runs:
    """A check that notes when it was run, and takes its time."""

    def __init__(self, takes: float = 0.0) -> None:
        self.takes = takes
        self.times: list[float] = []
        self.under_way = 0
        self.most = 0

    async def __call__(self) -> None:
        self.times.append(now())
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.under_way -= 1


class TestSchedule:
    @on_virtual_time
    async def test_the_first_runs_are_spread_over_the_interval(self) -> None:
        monitor, times = monitor_of_this_loop(), list[float]()

        async def check() -> None:
            times.append(now())

        begun = now()
        for number in range(300):
            monitor.watch(f"p{number}", check, 30)
        monitor.start()
        await asyncio.sleep(29.999)
        await monitor.stop()
        assert len(times) == 300
        for third in range(3):
            share = [time for time in times if third * 10 <= time - begun < (third + 1) * 10]
            assert 70 < len(share) < 130

    @on_virtual_time
    async def test_a_first_run_may_come_sooner_and_the_schedule_is_spread_all_the_same(
        self,
    ) -> None:
        monitor, times = monitor_of_this_loop(), list[float]()

        async def check() -> None:
            times.append(now())

        begun = now()
        for number in range(300):
            monitor.watch(f"p{number}", check, 30, jitter=0, first_within=1)
        monitor.start()
        await asyncio.sleep(31)
        await monitor.stop()
        assert len([time for time in times if time <= begun + 1]) in range(300, 320)
        assert 70 < len([time for time in times if 10 <= time - begun < 20]) < 130

    @on_virtual_time
    async def test_each_goes_on_at_its_interval_moved_by_no_more_than_the_jitter(self) -> None:
        monitor, runs = monitor_of_this_loop(), Runs()
        monitor.watch("p", runs, 30, jitter=0.2)
        monitor.start()
        await asyncio.sleep(HOUR)
        await monitor.stop()
        first = runs.times[0]
        late = [time - first - 30 * number for number, time in enumerate(runs.times)]
        assert len(late) in (119, 120)
        assert all(0 <= seconds <= 6 + 1e-6 for seconds in late)
        assert max(late) > 5
        assert len({round(seconds, 3) for seconds in late}) > 100

    @on_virtual_time
    async def test_without_jitter_it_is_exact_and_does_not_drift(self) -> None:
        monitor, runs = monitor_of_this_loop(), Runs(takes=7)
        monitor.watch("p", runs, 30, jitter=0)
        monitor.start()
        await asyncio.sleep(DAY)
        await monitor.stop()
        assert [second - first for first, second in pairwise(runs.times)] == pytest.approx(
            [30.0] * (len(runs.times) - 1)
        )

    @on_virtual_time
    async def test_a_run_that_takes_longer_than_the_interval_skips_times(self) -> None:
        monitor, runs = monitor_of_this_loop(chance=lambda: 0.0), Runs(takes=70)
        monitor.watch("p", runs, 30)
        begun = now()
        monitor.start()
        await asyncio.sleep(300)
        await monitor.stop()
        assert runs.most == 1
        assert [time - begun for time in runs.times] == pytest.approx([0, 90, 180, 270])

    @on_virtual_time
    async def test_watching_again_changes_the_interval_and_doubles_nothing(self) -> None:
        monitor, old, new = monitor_of_this_loop(), Runs(), Runs()
        monitor.start()
        monitor.watch("p", old, 30)
        monitor.watch("p", new, 10, jitter=0)
        await asyncio.sleep(100)
        assert old.times == []
        assert len(new.times) == 10
        monitor.watch("p", new, 10, jitter=0)  # the same: the schedule goes on
        await asyncio.sleep(100)
        assert [b - a for a, b in pairwise(new.times)] == pytest.approx([10] * 19)
        await monitor.stop()

    @pytest.mark.parametrize("interval", [0, -1, float("inf"), float("nan")])
    def test_an_interval_that_is_none_is_refused(self, interval: float) -> None:
        with pytest.raises(ValueError, match="positive number"):
            HealthMonitor().watch("p", Runs(), interval)


class TestBounds:
    @on_virtual_time
    async def test_no_more_than_allowed_are_under_way_and_the_first_due_goes_first(self) -> None:
        order: list[str] = []
        runs = Runs(takes=1)
        late: list[float] = []
        phases = iter([number / 100 for number in range(100)])
        monitor = monitor_of_this_loop(
            max_concurrent=3, chance=lambda: next(phases, 0.0), observe=late.append
        )

        def check(key: str) -> Callable[[], Awaitable[None]]:
            async def run() -> None:
                order.append(key)
                await runs()

            return run

        keys = [f"p{number}" for number in range(12)]
        for key in keys:
            monitor.watch(key, check(key), 10, jitter=0)
        monitor.start()
        await asyncio.sleep(9.9)
        await monitor.stop()
        assert order == keys
        assert runs.most == 3
        assert late[:3] == pytest.approx([0, 0, 0])
        assert late[3] == pytest.approx(0.7)

    @on_virtual_time
    async def test_one_that_never_returns_holds_up_nobody_else(self) -> None:
        monitor, runs, gate = monitor_of_this_loop(), Runs(), Gate()
        monitor.watch("hangs", gate, 30)
        monitor.watch("p", runs, 30)
        monitor.start()
        await asyncio.sleep(HOUR)
        assert gate.reached.is_set()
        assert len(runs.times) in (119, 120)
        await monitor.stop()

    @pytest.mark.requirement("S4.35")
    @on_virtual_time
    async def test_one_that_raises_is_logged_and_run_again(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        monitor, runs = monitor_of_this_loop(), Runs()

        async def check() -> None:
            await runs()
            raise ZeroDivisionError

        monitor.watch("p", check, 30)
        monitor.start()
        await asyncio.sleep(95)
        await monitor.stop()
        assert len(runs.times) >= 3
        assert {record.levelname for record in caplog.records} == {"ERROR"}
        assert len(caplog.records) == len(runs.times)

    @on_virtual_time
    async def test_one_that_is_cancelled_is_run_again(self) -> None:
        monitor, runs = monitor_of_this_loop(), Runs()

        async def check() -> None:
            await runs()
            raise asyncio.CancelledError

        monitor.watch("p", check, 30)
        monitor.start()
        await asyncio.sleep(95)
        await monitor.stop()
        assert len(runs.times) >= 3


class TestClock:
    @on_virtual_time
    async def test_a_clock_that_jumps_back_costs_one_run_at_most(self) -> None:
        loop, shift, runs = asyncio.get_running_loop(), 0.0, Runs()
        monitor = HealthMonitor(clock=lambda: loop.time() + shift)
        for key in ("p", "q"):
            monitor.watch(key, runs, 30, jitter=0)
        monitor.start()
        for _ in range(5):
            await asyncio.sleep(300)
            shift -= DAY
        await asyncio.sleep(300)
        await monitor.stop()
        assert len(runs.times) >= 2 * (60 - 6)  # one time lost at each jump, at most
        assert max(b - a for a, b in pairwise(runs.times)) <= 60

    @on_virtual_time
    async def test_after_a_jump_ahead_each_is_run_once(self) -> None:
        loop, shift, runs = asyncio.get_running_loop(), 0.0, Runs()
        monitor = HealthMonitor(clock=lambda: loop.time() + shift)
        for number in range(10):
            monitor.watch(f"p{number}", runs, 30, jitter=0)
        monitor.start()
        await asyncio.sleep(300)
        before = len(runs.times)
        shift += DAY  # the machine slept
        await asyncio.sleep(29.9)
        assert 10 <= len(runs.times) - before <= 20
        await asyncio.sleep(300)
        assert len(runs.times) - before <= 20 + 100
        await monitor.stop()


class TestStartAndStop:
    @pytest.mark.requirement("S4.36", "S4.69")
    @on_virtual_time
    async def test_stop_cancels_what_is_under_way_and_leaves_no_task(self) -> None:
        monitor, runs = monitor_of_this_loop(chance=lambda: 0.0), Runs(takes=100)
        for number in range(50):
            monitor.watch(f"p{number}", runs, 30)
        monitor.start()
        await asyncio.sleep(1)
        assert runs.under_way == 32
        await monitor.stop()
        assert runs.under_way == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await asyncio.sleep(100)
        assert len(runs.times) == 32

    @on_virtual_time
    async def test_it_starts_again_where_it_stopped(self) -> None:
        monitor, runs = monitor_of_this_loop(), Runs(takes=100)
        monitor.watch("p", runs, 30)
        monitor.start()
        monitor.start()  # once more does nothing
        await asyncio.sleep(40)
        await monitor.stop()
        await monitor.stop()
        assert not monitor.is_running
        await asyncio.sleep(HOUR)
        assert len(runs.times) == 1
        monitor.start()
        await asyncio.sleep(30)
        assert len(runs.times) == 2
        await monitor.stop()

    @on_virtual_time
    async def test_unwatching_cancels_its_run_and_there_is_no_timer_after_the_last(self) -> None:
        monitor, runs, other = monitor_of_this_loop(chance=lambda: 0.0), Runs(takes=100), Runs()
        monitor.watch("p", runs, 30)
        monitor.watch("q", other, 30)
        monitor.start()
        await asyncio.sleep(1)
        assert runs.under_way == 1
        monitor.unwatch("p")
        monitor.unwatch("p")  # not watched is no error
        await turns()
        assert runs.under_way == 0
        assert monitor.watched == ("q",)
        monitor.unwatch("q")
        assert monitor._timer is None

    @on_virtual_time
    async def test_a_check_may_unwatch_itself_and_stop_the_monitor(self) -> None:
        monitor, ended = monitor_of_this_loop(), asyncio.Event()

        async def check() -> None:
            monitor.unwatch("q")
            await monitor.stop()
            ended.set()

        monitor.watch("p", check, 30)
        monitor.watch("q", Runs(), 3000)
        monitor.start()
        await ended.wait()
        assert not monitor.is_running

    @on_virtual_time
    async def test_one_that_heeds_no_cancellation_is_left_and_named(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        monitor, free = monitor_of_this_loop(chance=lambda: 0.0), asyncio.Event()

        async def check() -> None:
            while not free.is_set():
                try:
                    await free.wait()
                except asyncio.CancelledError:
                    continue

        monitor.watch("p", check, 30)
        monitor.start()
        await asyncio.sleep(1)
        begun = now()
        await monitor.stop(timeout=2)
        assert now() - begun == pytest.approx(2)
        assert [record.message for record in caplog.records] == [
            "The check of p does not heed its cancellation; it is left"
        ]
        free.set()
        await turns()

    @pytest.mark.requirement("S4.69")
    async def test_a_thousand_starts_and_stops_leave_nothing(self) -> None:
        monitor, runs = HealthMonitor(chance=lambda: 0.0), Runs(takes=100)

        async def cycles(count: int) -> None:
            for _ in range(count):
                monitor.start()
                monitor.watch("p", runs, 30)
                monitor.watch("q", runs, 30)
                await turns(3)
                monitor.unwatch("p")
                await monitor.stop()
                monitor.unwatch("q")
                runs.times.clear()

        await cycles(100)
        gc.collect()
        tracemalloc.start()
        await cycles(1_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert grown < 20_000
        assert runs.under_way == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_watching_and_unwatching_ten_thousand_times_does_not_grow(self) -> None:
        monitor, runs = HealthMonitor(), Runs()
        monitor.start()
        monitor.watch("other", runs, 3_000)
        for number in range(10_000):
            monitor.watch(f"p{number % 7}", runs, 3_000 + number)
            monitor.unwatch(f"p{number % 7}")
        assert len(monitor._heap) < 20
        await monitor.stop()

    async def test_any_thread_may_watch_and_unwatch(self) -> None:
        monitor, ran = HealthMonitor(chance=lambda: 0.0), threading.Event()
        threads: set[int] = set()

        async def check() -> None:
            threads.add(threading.get_ident())
            ran.set()

        with loop_in_thread() as there:

            async def start() -> int:
                monitor.start()
                return threading.get_ident()

            home = there(start())
            monitor.watch("p", check, 1_000)
            assert await asyncio.to_thread(ran.wait, 10)
            monitor.unwatch("p")
            await monitor.stop()
        assert threads == {home}
        assert not monitor.is_running

    async def test_it_begins_anew_on_another_loop_when_its_own_is_gone(self) -> None:
        monitor, ran = HealthMonitor(chance=lambda: 0.0), asyncio.Event()

        async def check() -> None:
            ran.set()

        async def start() -> None:
            monitor.watch("p", Gate(), 1_000)
            monitor.start()
            await turns()

        await asyncio.to_thread(asyncio.run, start())
        assert not monitor.is_running
        monitor.watch("p", check, 1_000)
        monitor.start()
        await asyncio.wait_for(ran.wait(), 10)
        await monitor.stop()


@pytest.mark.requirement("S4.43", "S4.47", "S4.71")
@on_virtual_time
async def test_a_month(caplog: pytest.LogCaptureFixture) -> None:
    """Some well, one slow, one failing now and then, one that hangs until its timeout."""
    dice = random.Random(7)
    late: list[float] = []
    monitor = monitor_of_this_loop(max_concurrent=4, observe=late.append)
    intervals = {"well": 30.0, "slow": 300.0, "failing": 240.0, "hanging": 600.0}
    runs = {key: Runs() for key in intervals}
    runs["slow"].takes = 45

    async def failing() -> None:
        await runs["failing"]()
        if dice.random() < 0.01:
            raise ConnectionError

    async def hanging() -> None:
        async with asyncio.timeout(10):
            await runs["hanging"]()
            await asyncio.Event().wait()

    checks = {**runs, "failing": failing, "hanging": hanging}
    for key, interval in intervals.items():
        monitor.watch(key, checks[key], interval)
    monitor.start()
    caplog.set_level("CRITICAL")
    await asyncio.sleep(30 * DAY)
    await monitor.stop()
    for key, interval in intervals.items():
        assert abs(len(runs[key].times) - 30 * DAY / interval) <= 1
        assert runs[key].most == 1
        gaps = [b - a for a, b in pairwise(runs[key].times)]
        assert 0.9 * interval - 1e-3 <= min(gaps)
        assert max(gaps) <= 1.1 * interval + 1e-3
    assert max(late) < 1e-3
