"""What watching many providers costs: ``uv run python benchmarks/monitoring.py``."""

from __future__ import annotations

import asyncio
import gc
import logging
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from measure import verdict

from purveyor.providers.registry import (
    Provider,
    ProviderConfig,
    ProviderRegistry,
    ProviderTypes,
    operation,
    register_provider,
)
from purveyor.providers.registry.monitor import HealthMonitor
from purveyor.providers.registry.types import Family
from purveyor.settings import HealthSettings, RegistrySettings

PROVIDERS = 1_000
INTERVAL = 30.0
FASTER = 10
"""How many times as often they are checked here; the figures are told for ``INTERVAL``."""
SECONDS = 15.0
ROUNDS = 8

TYPES = ProviderTypes(scan_entry_points=False)
FAMILY = TYPES.add_family(Family("things"))


class NothingConfig(ProviderConfig):
    """Settings of a provider that does nothing."""


@register_provider("nothing", types=TYPES)
class Nothing(Provider[NothingConfig]):
    """A provider that is well, and does nothing."""

    family = "things"

    @operation
    async def do(self) -> None:
        """Do nothing."""
        await asyncio.sleep(0)


def quantile(values: list[float], part: float) -> float:
    """Return the value below which ``part`` of them lie."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


async def cpu_of(seconds: float) -> float:
    """Return the part of a core this process uses while it is left alone."""
    started, before = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    return (time.process_time() - before) / (time.perf_counter() - started)


async def call_latency(provider: Any, seconds: float) -> list[float]:
    """Return microseconds of guarded calls, one after the other."""
    figures: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        before = time.perf_counter()
        await provider.do()
        figures.append((time.perf_counter() - before) * 1e6)
    return figures


async def main() -> None:
    """Print CPU share, lateness, and the latency of calls with and without the monitor."""
    logging.disable(logging.CRITICAL)
    late: list[float] = []
    monitor = HealthMonitor(observe=late.append)
    settings = RegistrySettings(health=HealthSettings(check_interval=INTERVAL / FASTER))
    registry: ProviderRegistry[Nothing] = ProviderRegistry(
        FAMILY, types=TYPES, home=Path("unused"), settings=settings, monitor=monitor
    )
    for number in range(PROVIDERS):
        registry.register_nowait(f"p{number}", {"type": "nothing"})
    await registry.initialize_all()
    gc.collect()

    idle = await cpu_of(2.0)
    registry.start_health_monitoring_all()
    await asyncio.sleep(INTERVAL / FASTER)
    late.clear()
    used = await cpu_of(SECONDS) - idle
    checks, lateness = len(late), [seconds * 1000 for seconds in late]
    each = used * SECONDS / checks * 1e6
    print(
        f"{checks} checks in {SECONDS:g} s ({checks / SECONDS:.0f} a second): "
        f"{100 * used:.2f} % of a core, {each:.0f} us a check\n"
        f"lateness, ms: p50 {quantile(lateness, 0.5):.2f}, p99 {quantile(lateness, 0.99):.2f}, "
        f"max {max(lateness):.2f}",
        file=sys.stderr,
    )
    registry.stop_health_monitoring_all()

    provider = registry.require("p0")
    await call_latency(provider, 1.0)
    figures: dict[str, dict[float, list[float]]] = {
        name: {0.5: [], 0.99: []} for name in ("without", "with")
    }
    registry.apply(RegistrySettings(health=HealthSettings(check_interval=INTERVAL)))
    for _ in range(ROUNDS):
        for name, found in figures.items():
            if name == "with":
                registry.start_health_monitoring_all()
            latencies = await call_latency(provider, 2.0)
            registry.stop_health_monitoring_all()
            for part, values in found.items():
                values.append(quantile(latencies, part))
    medians = {
        name: {part: statistics.median(values) for part, values in found.items()}
        for name, found in figures.items()
    }
    for name, found in medians.items():
        spread = figures[name][0.99]
        print(
            f"call {name} the monitor, us: p50 {found[0.5]:.1f}, p99 {found[0.99]:.1f} "
            f"(p99 of the rounds: {min(spread):.1f} to {max(spread):.1f})",
            file=sys.stderr,
        )
    await registry.dispose_all()

    share = 100 * each * PROVIDERS / INTERVAL / 1e6
    verdict(f"percent of a core, {PROVIDERS} providers every {INTERVAL:g} s", share, 2)
    verdict("p99 lateness, ms", quantile(lateness, 0.99), 50)
    verdict("p50 of a call, with over without", medians["with"][0.5] / medians["without"][0.5], 1.1)
    # "Within noise": no further off than two rounds without the monitor are from each other.
    noise = max(figures["without"][0.99]) / min(figures["without"][0.99])
    ratio = medians["with"][0.99] / medians["without"][0.99]
    verdict("p99 of a call, with over without", ratio, max(1.1, noise))


if __name__ == "__main__":
    asyncio.run(main())
