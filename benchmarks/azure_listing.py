"""
What a listing costs beside the bare library: ``uv run python benchmarks/azure_listing.py``.

Lists 10,000 blobs through the guarded data source and by obstore alone, in turn, on an Azurite
on loopback (``npm install azurite``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import obstore
from measure import ratio, rounds, table, verdict
from obstore.store import AzureStore

from purveyor.providers.data_sources.azure_blob import AzureBlobConfig, AzureBlobSource
from purveyor.providers.registry import guarded
from purveyor.testing.servers import Azurite

BLOBS = 10_000
ROUNDS = 7


async def fill(store: AzureStore) -> None:
    names = iter(range(BLOBS))

    async def put() -> None:
        for number in names:
            await obstore.put_async(store, f"year={number % 10}/part-{number:05}.csv", b"a,b\n")

    await asyncio.gather(*(put() for _ in range(32)))


def timed(run: Callable[[], Awaitable[int]], runner: asyncio.Runner) -> Callable[[], float]:
    async def count() -> int:
        return await run()

    def measure() -> float:
        began = time.perf_counter()
        assert runner.run(count()) == BLOBS
        return (time.perf_counter() - began) * 1000

    return measure


def main() -> None:
    with Azurite() as server, asyncio.Runner() as runner:
        values = {"container": server.create_container(), **server.login}
        config = AzureBlobConfig.model_validate(values)
        store = AzureStore(**config.store_arguments())
        source = guarded(AzureBlobSource(config), name="benchmark")
        runner.run(fill(store))

        async def bare() -> int:
            count = 0
            async for page in obstore.list(store, chunk_size=1000):
                count += len(page)
            return count

        async def ours() -> int:
            count = 0
            async for _ in source.list_items():
                count += 1
            return count

        async def by_name() -> int:
            count = 0
            async for _ in source.list_items("year"):
                count += 1
            return count

        runs = {"bare obstore": bare, "list_items": ours, "list_items, by name": by_name}
        figures = rounds({name: timed(run, runner) for name, run in runs.items()}, ROUNDS)
        runner.run(source.dispose())
    print(f"{BLOBS:,} blobs on Azurite, {ROUNDS} rounds")
    table(figures, "ms", "bare obstore")
    verdict("list_items", ratio(figures, "list_items", "bare obstore"), 1.2)


if __name__ == "__main__":
    main()
