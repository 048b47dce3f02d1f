"""Registering many providers: ``uv run python benchmarks/registration.py``."""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
import tracemalloc
from pathlib import Path

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

ROUNDS = 7
FAMILY = Family("things")
TYPES = ProviderTypes(scan_entry_points=False)
TYPES.add_family(FAMILY)


class NothingConfig(ProviderConfig):
    """Settings of a provider that does nothing."""

    value: int = 0


@register_provider("nothing", types=TYPES)
class Nothing(Provider[NothingConfig]):
    """A provider that does nothing."""

    family = "things"

    @operation
    async def do(self) -> None:
        """Do nothing."""


def registry() -> ProviderRegistry[Nothing]:
    """Return an empty registry."""
    return ProviderRegistry(FAMILY, types=TYPES, home=Path("unused"))


async def fill(count: int) -> tuple[float, float]:
    """Register ``count`` providers; return seconds for all and for the slowest."""
    target = registry()
    slowest = 0.0
    gc.collect()
    started = time.perf_counter()
    for number in range(count):
        before = time.perf_counter()
        await target.register(f"p{number}", {"type": "nothing", "value": number})
        slowest = max(slowest, time.perf_counter() - before)
    return time.perf_counter() - started, slowest


async def bytes_per_provider(count: int) -> float:
    """Return traced bytes a registered provider takes beside its config model."""
    target = registry()
    configs = [NothingConfig(value=number) for number in range(count)]
    await target.register("warm", configs[0])
    gc.collect()
    tracemalloc.start()
    for number, config in enumerate(configs):
        await target.register(f"p{number}", config)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / count


async def main() -> None:
    """Print time, the slowest single registration, and memory."""
    await fill(1_000)
    ratios: list[float] = []
    slowest = 0.0
    for number in range(ROUNDS):
        small = (await fill(1_000))[0]
        large, slowest_of_round = await fill(10_000)
        slowest = max(slowest, slowest_of_round)
        ratios.append(large / small)
        print(
            f"round {number + 1}: 1,000 in {small:.3f} s, 10,000 in {large:.3f} s "
            f"({large / 10_000 * 1e6:.0f} us each)",
            file=sys.stderr,
        )
    verdict("time of 10,000 over time of 1,000", statistics.median(ratios), 12)
    verdict("slowest single registration, ms", slowest * 1000, 100)
    few, many = await bytes_per_provider(1_000), await bytes_per_provider(10_000)
    verdict("bytes a provider at 10,000", many, 4096)
    verdict("bytes a provider, 10,000 over 1,000", many / few, 1.1)


if __name__ == "__main__":
    asyncio.run(main())
