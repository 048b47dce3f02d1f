"""What callers notice of a hundred hot swaps: ``uv run python benchmarks/hot_swap.py``."""

from __future__ import annotations

import asyncio
import gc
import logging
import statistics
import sys
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

from measure import verdict

from purveyor.providers.registry import (
    Provider,
    ProviderConfig,
    ProviderRegistry,
    ProviderTypes,
    operation,
    register_provider,
)
from purveyor.providers.registry.types import Family

CALLERS, STREAMERS = 48, 16
SWAPS, PAUSE = 100, 0.01
ROUNDS = 5
CONNECT, CALL, ITEMS = 0.005, 0.001, 5

TYPES = ProviderTypes(scan_entry_points=False)
FAMILY = TYPES.add_family(Family("things"))


class SlowConfig(ProviderConfig):
    """Settings that a swap changes."""

    number: int = 0


@register_provider("slow", types=TYPES)
class Slow(Provider[SlowConfig]):
    """A provider whose backend takes its time, and knows whether it was closed."""

    family = "things"
    made: ClassVar[weakref.WeakSet[Slow]] = weakref.WeakSet()
    closes = 0

    def __init__(self, config: SlowConfig) -> None:
        super().__init__(config)
        self.closed = False
        self.made.add(self)

    async def _connect(self) -> None:
        await asyncio.sleep(CONNECT)

    async def _close(self) -> None:
        self.closed = True
        await asyncio.sleep(CONNECT)
        Slow.closes += 1

    async def check_health(self) -> None:
        """Take as long as a call."""
        await self._answer()

    async def _answer(self) -> None:
        await asyncio.sleep(CALL)
        if self.closed:
            raise RuntimeError("closed under a call")

    @operation
    async def do(self) -> None:
        """Wait for the backend once."""
        await self._answer()

    @operation
    async def items(self) -> AsyncIterator[int]:
        """Wait for the backend before each item."""
        for number in range(ITEMS):
            await self._answer()
            yield number


class Load:
    """Callers that never pause, and what they met with."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._over = False
        self.latencies: list[float] = []
        self.failed = 0

    async def _repeat(self, work: Callable[[], Awaitable[object]], steps: int) -> None:
        while not self._over:
            started = time.perf_counter()
            try:
                await work()
            except Exception as error:
                self.failed += 1
                print(f"failed: {type(error).__name__}: {error}", file=sys.stderr)
            self.latencies.append((time.perf_counter() - started) * 1000 / steps)

    async def _stream(self) -> None:
        async for _ in self._provider.items():
            pass

    async def during(self, work: Awaitable[object]) -> float:
        """Keep calling until ``work`` is done; return how long that took."""
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self._repeat(self._provider.do, 1))
            for _ in range(STREAMERS):
                group.create_task(self._repeat(self._stream, ITEMS))
            await work
            seconds = time.perf_counter() - started
            self._over = True
        return seconds

    def quantile(self, part: float) -> float:
        """Return the milliseconds within which ``part`` of the calls were answered."""
        return statistics.quantiles(self.latencies, n=100)[round(part * 100) - 1]


async def main() -> None:
    """Print calls, failures, latencies with and without swaps, and the time of a swap."""
    logging.disable(logging.CRITICAL)
    registry: ProviderRegistry[Slow] = ProviderRegistry(FAMILY, types=TYPES, home=Path("unused"))
    provider = await registry.register("slow", {"type": "slow"}, start="ready")
    swaps: list[float] = []

    async def swap() -> None:
        for number in range(SWAPS):
            started = time.perf_counter()
            await registry.reload("slow", {"number": number})
            swaps.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(PAUSE)

    await Load(provider).during(asyncio.sleep(0.5))
    figures: dict[str, list[Load]] = {"without": [], "with": []}
    for _ in range(ROUNDS):
        figures["with"].append(Load(provider))
        seconds = await figures["with"][-1].during(swap())
        figures["without"].append(Load(provider))
        await figures["without"][-1].during(asyncio.sleep(seconds))
    await asyncio.sleep(0.1)
    gc.collect()
    alive, closed = len(Slow.made), Slow.closes
    await registry.dispose_all()

    medians: dict[str, dict[float, float]] = {}
    for name, loads in figures.items():
        medians[name] = {
            part: statistics.median(load.quantile(part) for load in loads) for part in (0.5, 0.99)
        }
        spread = [load.quantile(0.99) for load in loads]
        print(
            f"{name} swaps: {sum(len(load.latencies) for load in loads)} calls and streams, "
            f"ms a step: p50 {medians[name][0.5]:.2f}, p99 {medians[name][0.99]:.2f} "
            f"(p99 of the rounds: {min(spread):.2f} to {max(spread):.2f})",
            file=sys.stderr,
        )
    needed = (CONNECT + CALL) * 1000
    print(
        f"a swap, ms: median {statistics.median(swaps):.2f}, slowest {max(swaps):.2f}, of which "
        f"connecting and checking {needed:g}",
        file=sys.stderr,
    )
    verdict("failed calls", sum(load.failed for load in figures["with"]), 0)
    verdict("old instances not closed exactly once", abs(SWAPS * ROUNDS - closed), 0)
    verdict("old instances alive", alive - 1, 0)
    for part in (0.5, 0.99):
        plain = [load.quantile(part) for load in figures["without"]]
        ratio = medians["with"][part] / medians["without"][part]
        # "Within noise": no further off than two rounds without swaps are from each other.
        bound = max(1.1, max(plain) / min(plain))
        verdict(f"p{part * 100:g} of a call, with over without", ratio, bound)


if __name__ == "__main__":
    asyncio.run(main())
