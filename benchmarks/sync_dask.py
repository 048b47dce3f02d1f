"""
A sync by two Dask workers beside one process: ``uv run python benchmarks/sync_dask.py``.

Copies a folder of files of 4 KiB to a SeaweedFS on loopback, each time below a new prefix: in this
process, and by two worker processes that were started before, with as many objects under way
altogether. Then what a task costs: a range of no objects, there and back.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster
from measure import ratio, table, verdict

from purveyor.containers import ApplicationContainer
from purveyor.services.sync import StoragePlace, SyncOptions, sync
from purveyor.services.sync_dask import RangeTask, sync_on_dask
from purveyor.services.sync_dask.worker import copy_range
from purveyor.testing.servers import SeaweedFS

FILES = 3000
ROUNDS = 5
ALTOGETHER = 32
"""Objects under way at the same time: in one process, or two workers of two threads."""


async def copies(folder: Path, address: str) -> dict[str, list[float]]:
    """Return the seconds of each sync, round by round; the first round is not counted."""
    container = ApplicationContainer(monitoring=False)
    figures: dict[str, list[float]] = {"one process": [], "two workers": []}
    async with container.lifespan():
        for number in range(ROUNDS + 1):
            alone = await sync(
                folder,
                f"cloud:alone-{number}",
                container=container,
                options=SyncOptions(jobs=ALTOGETHER),
            )
            together = await sync_on_dask(
                folder,
                f"cloud:together-{number}",
                container=container,
                scheduler=address,
                options=SyncOptions(jobs=ALTOGETHER // 4),
            )
            for name, result in zip(figures, (alone, together), strict=True):
                if result.files != FILES or not result.success:
                    raise RuntimeError(f"{name}: {result.to_dict()}")
                if number:
                    figures[name].append(result.seconds)
    return figures


def task_costs(client: Client, count: int = 200) -> tuple[float, float]:
    """Return the seconds of a range of no objects: alone, and as one of many."""
    place = StoragePlace("cloud", "")

    def submit(number: int) -> object:
        target = StoragePlace("filesystem", "nothing/")
        task = RangeTask("bench", number, place, target, (), SyncOptions(jobs=8))
        return client.submit(copy_range, task, key=f"bench-{number}", pure=False)

    client.gather([submit(-1 - number) for number in range(8)])
    single: list[float] = []
    for number in range(50):
        started = time.perf_counter()
        client.gather([submit(number)])
        single.append(time.perf_counter() - started)
    started = time.perf_counter()
    client.gather([submit(1000 + number) for number in range(count)])
    return statistics.median(single), (time.perf_counter() - started) / count


def main() -> None:
    """Print the table and what is promised."""
    with tempfile.TemporaryDirectory() as home, SeaweedFS() as server:
        login = {"bucket": server.create_bucket(), **server.login}
        os.environ["PURVEYOR_HOME"] = home
        os.environ["PURVEYOR_STORAGE__PROVIDERS__CLOUD__TYPE"] = "s3"
        for name, value in login.items():
            os.environ[f"PURVEYOR_STORAGE__PROVIDERS__CLOUD__{name.upper()}"] = str(value)
        folder = Path(home) / "files"
        for number in range(FILES):
            path = folder / f"{number % 10}" / f"{number:05}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(4096))
        started = time.perf_counter()
        options: dict[str, Any] = {"dashboard_address": None}
        options["scheduler_kwargs"] = {"dashboard_address": "127.0.0.1:0"}
        with LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, host="127.0.0.1", **options
        ) as cluster:
            print(f"starting two workers: {time.perf_counter() - started:.1f} s")
            figures = asyncio.run(copies(folder, cluster.scheduler_address))
            table(figures, f"s for {FILES} files of 4 KiB", "one process")
            with Client(cluster, set_as_default=False) as client:
                alone, many = task_costs(client)
            print(f"a task: {alone * 1000:.1f} ms there and back, {many * 1000:.1f} ms of many")
        verdict("two workers over one process", ratio(figures, "two workers", "one process"), 1.1)


if __name__ == "__main__":
    sys.exit(main())
