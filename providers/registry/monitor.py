"""When to check: one timer for any number of checks, each on a fixed schedule of its own."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

__all__ = ["HealthMonitor"]

logger = logging.getLogger(__name__)

Check = Callable[[], Awaitable[object]]


@dataclass(slots=True, eq=False)
class _Watch:
    """One check and its schedule: ``base`` is the schedule's next time, before chance moves it."""

    key: str
    check: Check
    interval: float
    jitter: float
    first_within: float | None
    base: float = 0.0
    busy: bool = False
    """Waiting for its turn, or under way."""
    ended: bool = False
    task: asyncio.Task[None] | None = None


class HealthMonitor:
    """
    Runs checks in the background; knows nothing of what they check.

    The first run of each comes at a random moment of its interval, so that many do not come
    at once; from then on the schedule is fixed, each run moved to a later moment by chance, by
    at most ``jitter`` of the interval. A check that is still under way when its next time comes
    skips that time. What is due while ``max_concurrent`` checks are under way waits, first come,
    first served. After a pause (a suspended machine) each check runs once, not once for every
    time it missed; should the clock jump back, the schedule moves with it.

    A check must end by itself: give it a timeout. One that raises is logged, and goes on being
    run. Any thread may watch and unwatch; checks run on the event loop that :meth:`start` was
    called on. Where nothing is watched there is neither task nor timer.

    Args:
        max_concurrent: Checks under way at most; may be set at any time.
        clock: Seconds that only grow.
        chance: A number from 0 up to 1.
        observe: Told of each run by how many seconds it came too late.
    """

    def __init__(
        self,
        *,
        max_concurrent: int = 32,
        clock: Callable[[], float] = monotonic,
        chance: Callable[[], float] = random.random,
        observe: Callable[[float], None] | None = None,
    ) -> None:
        self.max_concurrent = max_concurrent
        self.clock = clock
        self._chance = chance
        self._observe = observe
        self._watches: dict[str, _Watch] = {}
        self._heap: list[tuple[float, int, _Watch]] = []
        self._numbers = itertools.count()
        self._seen = clock()
        self._waiting: deque[tuple[float, _Watch]] = deque()
        self._running: set[_Watch] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: object) -> HealthMonitor:
        """Stay the same: dependency-injector copies what a container is given."""
        return self

    @property
    def watched(self) -> Collection[str]:
        """The keys of all checks."""
        return tuple(self._watches.copy())

    @property
    def is_running(self) -> bool:
        """Whether checks are run."""
        return self._loop is not None and self._loop.is_running()

    # -- what to check -------------------------------------------------------------------

    def watch(
        self,
        key: str,
        check: Check,
        interval: float,
        *,
        jitter: float = 0.1,
        first_within: float | None = None,
    ) -> None:
        """
        Run a check from now on; for a key that is watched already, replace check and interval.

        Args:
            key: What is checked, for logs and for :meth:`unwatch`.
            check: Gives what to await.
            interval: Seconds between two runs.
            jitter: Part of the interval by which chance may move a run.
            first_within: Seconds within which a first run comes, before the schedule begins.

        Raises:
            ValueError: The interval is not a positive number.
        """
        if not 0 < interval < math.inf:
            raise ValueError(f"The interval of {key} must be a positive number, not {interval!r}.")
        with self._lock:
            watch = self._watches.get(key)
            if watch is None:
                watch = _Watch(key, check, interval, jitter, first_within)
                self._watches[key] = watch
            else:
                watch.check, watch.jitter = check, jitter
                if watch.interval == interval:
                    return
                watch.interval, watch.first_within = interval, None
                self._heap = [entry for entry in self._heap if entry[2] is not watch]
                heapq.heapify(self._heap)
            self._enter(watch, self._now())
        self._on_loop(self._arm)

    def unwatch(self, key: str) -> None:
        """Run a check no more, and cancel it if it is under way; no error if it is not watched."""
        with self._lock:
            watch = self._watches.pop(key, None)
            if watch is None:
                return
            watch.ended = True
            if not self._watches or len(self._heap) > 2 * len(self._watches) + 8:  # mostly dead
                self._heap = [entry for entry in self._heap if not entry[2].ended]
                heapq.heapify(self._heap)
        self._on_loop(lambda: self._end(watch))

    # -- whether to check ----------------------------------------------------------------

    def start(self) -> None:
        """Run the checks on this event loop from now on; if they are run already, do nothing."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self.is_running:
                return
            self._forget_runs()
            self._loop = loop
            self._heap = []
            now = self._now()
            for watch in self._watches.values():
                self._enter(watch, now)
        self._arm()

    async def stop(self, *, timeout: float = 5.0) -> None:
        """
        Run no more checks until :meth:`start`; cancel what is under way and wait for its end.

        Args:
            timeout: Seconds to wait for checks that do not heed their cancellation.
        """
        loop = self._loop
        if loop is None or not loop.is_running():
            self._loop = None
        elif loop is asyncio.get_running_loop():
            await self._stop(timeout)
        else:
            stopping = asyncio.run_coroutine_threadsafe(self._stop(timeout), loop)
            await asyncio.wrap_future(stopping)

    async def _stop(self, timeout: float) -> None:
        with self._lock:
            self._loop = None
            tasks = {watch.task for watch in self._running if watch.task is not None}
            self._forget_runs()
        tasks -= {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=timeout)
            for task in left:
                logger.error("The %s does not heed its cancellation; it is left", task.get_name())

    def _forget_runs(self) -> None:
        for watch in (*self._running, *(watch for _, watch in self._waiting)):
            watch.busy, watch.task = False, None
        self._running = set()
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- the schedule, under the lock ----------------------------------------------------

    def _now(self) -> float:
        now = self.clock()
        if now < self._seen:  # the clock jumped back, and the schedule with it
            back = self._seen - now
            self._heap = [(due - back, number, watch) for due, number, watch in self._heap]
            for watch in self._watches.values():
                watch.base -= back
        self._seen = now
        return now

    def _enter(self, watch: _Watch, now: float) -> None:
        """Begin the schedule of a check at a random moment, perhaps with one run before that."""
        due = watch.base = now + watch.interval * self._chance()
        if watch.first_within is not None:
            due = min(due, now + watch.first_within * self._chance())
            watch.base -= watch.interval
        heapq.heappush(self._heap, (due, next(self._numbers), watch))

    def _advance(self, watch: _Watch, now: float) -> None:
        """Go on to the next time of the schedule that is not over."""
        watch.base += watch.interval * ((now - watch.base) // watch.interval + 1)
        due = watch.base + watch.jitter * watch.interval * self._chance()
        heapq.heappush(self._heap, (due, next(self._numbers), watch))

    # -- on the event loop ---------------------------------------------------------------

    def _on_loop(self, function: Callable[[], None]) -> None:
        loop = self._loop
        if loop is None or not loop.is_running():
            return
        if loop is asyncio._get_running_loop():
            function()
        else:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(function)

    def _arm(self) -> None:
        """Make sure to wake up when the next check is due."""
        if self._loop is None:
            return
        with self._lock:
            now = self._now()
            due = self._heap[0][0] if self._heap else None
        if self._timer is not None:
            if due is not None and self._wakes_at <= due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._wakes_at = due
            self._timer = self._loop.call_later(max(0.0, due - now), self._tick)

    def _tick(self) -> None:
        self._timer = None
        with self._lock:
            now = self._now()
            while self._heap and self._heap[0][0] <= now:
                due, _, watch = heapq.heappop(self._heap)
                if watch.ended:
                    continue
                if not watch.busy:
                    watch.busy = True
                    self._waiting.append((due, watch))
                self._advance(watch, now)
        self._begin()
        self._arm()

    def _begin(self) -> None:
        """Begin what is due, as far as there is room."""
        while self._loop is not None and self._waiting:
            if len(self._running) >= self.max_concurrent:
                return
            due, watch = self._waiting.popleft()
            if watch.ended:
                continue
            if self._observe is not None:
                self._observe(max(0.0, self.clock() - due))
            self._running.add(watch)
            watch.task = self._loop.create_task(_run(watch), name=f"check of {watch.key}")
            watch.task.add_done_callback(lambda task, watch=watch: self._ended(watch, task))

    def _ended(self, watch: _Watch, task: asyncio.Task[None]) -> None:
        if watch.task is task:  # else stopped meanwhile
            watch.busy, watch.task = False, None
            self._running.discard(watch)
            self._begin()

    def _end(self, watch: _Watch) -> None:
        if watch.task is not None:
            watch.task.cancel()
        if not self._watches:
            self._arm()


async def _run(watch: _Watch) -> None:
    try:
        await watch.check()
    except Exception:
        logger.exception("The check of %s raised; it will be run again", watch.key)
