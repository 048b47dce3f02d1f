"""
Comparing a million objects: ``uv run python benchmarks/sync_listing.py``.

Two simulated storages that list the same objects, at no cost of their own, synced in a process
of its own for each number: the first time, which notes the times of all, and again, which reads
them. Seconds, and how much the process grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from measure import verdict

from purveyor.containers import ApplicationContainer
from purveyor.providers.registry import ProviderConfig, guarded, operation
from purveyor.providers.storage import ObjectInfo, ObjectNotFoundError, StorageProvider, chunks_of
from purveyor.services.sync import sync
from purveyor.settings import Settings

TIME = datetime(2026, 1, 1, tzinfo=UTC)


class SimulatedStorage(StorageProvider[ProviderConfig]):
    """Lists ``count`` objects, and keeps what is put in memory: the manifest alone."""

    capabilities = frozenset({"remote-storage", "streaming"})

    def __init__(self, count: int) -> None:
        super().__init__(ProviderConfig())
        self._count = count
        self._kept: dict[str, bytes] = {}

    @operation
    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Iterate over the objects."""
        for number in range(self._count):
            key = f"folder-{number // 1000:06}/object-{number:09}.bin"
            yield ObjectInfo(key, 4096, TIME, f'"{number:032x}"')

    @operation
    async def put(self, key: str, data: Any, **options: Any) -> ObjectInfo:
        """Keep a manifest."""
        self._kept[key] = b"".join([chunk async for chunk in chunks_of(data)])
        return ObjectInfo(key, len(self._kept[key]), TIME)

    @operation
    async def stream(self, key: str, **options: Any) -> AsyncIterator[bytes]:
        """Give a manifest back."""
        if key not in self._kept:
            raise ObjectNotFoundError(f"There is no object {key!r}.")
        async for chunk in chunks_of(self._kept[key], 64 * 1024):
            yield chunk


def peak() -> float:
    """Return the most memory this process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def run(count: int) -> dict[str, float]:
    """Sync twice; return seconds of each, and the growth in MiB."""
    container = ApplicationContainer(settings=Settings(), monitoring=False)
    one, other = SimulatedStorage(count), SimulatedStorage(count)
    selector = container.storage
    with (
        selector.override_provider("one", guarded(one, name="one")),
        selector.override_provider("other", guarded(other, name="other")),
    ):
        await sync("one:", "other:", container=container)
        before, figures = peak(), dict[str, float]()
        for which in ("first", "again"):
            other._kept = {} if which == "first" else other._kept
            started = time.perf_counter()
            result = await sync("one:", "other:", container=container)
            figures[which] = time.perf_counter() - started
            if not result.success or result.skipped != count:
                raise RuntimeError(str(result.to_dict()))
        figures["grown"] = peak() - before
    figures["peak"] = peak()
    return figures


def main() -> None:
    """Measure 100,000 and 1,000,000, each in a process of its own."""
    parser = argparse.ArgumentParser(description="Comparing a million objects.")
    parser.add_argument("--count", type=int)
    options = parser.parse_args()
    if options.count is not None:
        print(json.dumps(asyncio.run(run(options.count))))
        return
    rows: dict[int, dict[str, float]] = {}
    print(f"{'objects':>10} {'first, s':>9} {'again, s':>9} {'peak, MiB':>10}")
    for count in (100_000, 1_000_000):
        command = [sys.executable, __file__, "--count", str(count)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        row = rows[count] = json.loads(said)
        print(f"{count:10,} {row['first']:9.2f} {row['again']:9.2f} {row['peak']:10.0f}")
    verdict("MiB at a million", rows[1_000_000]["peak"], 200)
    verdict("time of a million over 100,000", rows[1_000_000]["first"] / rows[100_000]["first"], 12)


if __name__ == "__main__":
    main()
