"""
A table of PostgreSQL into a CSV file: ``uv run python benchmarks/postgresql_copy.py``.

1,000,000 rows by ``fetch`` of a source from a container, and by ``psql \\copy``, in turn, from one
server on loopback; and by how much the memory of this process grows meanwhile. Parquet and a query
with parameters, which COPY does not take, beside it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

from measure import ratio, table, verdict

from purveyor.containers import ApplicationContainer
from purveyor.settings import Settings
from purveyor.testing.servers import PostgreSQL

ROWS = 1_000_000
ROUNDS = 11
TABLE = f"""
    CREATE TABLE readings AS
    SELECT g::int AS id, 'station-' || g % 500 AS station,
           timestamptz '2026-01-01' + g * interval '1 second' AS taken_at,
           (g % 4000 / 100.0)::numeric(6, 2) AS celsius, g * 1.5::float8 AS pressure,
           g % 7 = 0 AS checked
      FROM generate_series(1, {ROWS}) AS g
"""


def memory() -> int:
    """Return the resident memory of this process in bytes."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


class Peak:
    """The most memory that was in use within the block, beyond what it was before."""

    def __enter__(self) -> Self:
        self._before = self._most = memory()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        self._thread.join()
        self.mebibytes = (self._most - self._before) / 2**20

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self._most = max(self._most, memory())


def by_psql(server: PostgreSQL, database: str, path: Path, relation: str) -> float:
    """Return the seconds psql takes, its own start among them."""
    psql = Path(server.executable()).with_name("psql")
    command = f"\\copy {relation} to '{path}' with (format csv, header)"
    started = time.perf_counter()
    subprocess.run(
        [psql, "--no-psqlrc", "--quiet", f"--command={command}", server.dsn(database)], check=True
    )
    return time.perf_counter() - started


async def main() -> None:
    """Measure in turn, who begins changing."""
    with PostgreSQL() as server, tempfile.TemporaryDirectory() as folder:
        database = server.create_database()
        server.execute(TABLE, database)
        server.execute("VACUUM ANALYZE readings", database)
        sources: Any = {
            "providers": {"warehouse": {"type": "postgresql", "dsn": server.dsn(database)}}
        }
        container = ApplicationContainer(settings=Settings(home=Path(folder), data_sources=sources))
        async with container.lifespan():
            await compare(container.data_sources("warehouse"), server, database, Path(folder))


async def compare(source: Any, server: PostgreSQL, database: str, folder: Path) -> None:
    """Print the figures."""
    figures: dict[str, list[float]] = {"purveyor": [], "psql": []}
    await source.check_health()
    grown = 0.0

    async def ours() -> float:
        started = time.perf_counter()
        fetched = await source.fetch("public.readings", folder / "ours")
        seconds = time.perf_counter() - started
        assert fetched.rows == ROWS
        return seconds

    async def psql() -> float:
        path = folder / "psql.csv"
        return await asyncio.to_thread(by_psql, server, database, path, "readings")

    for number in range(ROUNDS + 1):
        for name, measure in (("purveyor", ours), ("psql", psql))[:: 1 if number % 2 else -1]:
            with Peak() as peak:
                seconds = await measure()
            if name == "purveyor":
                grown = max(grown, peak.mebibytes)
            if number:
                figures[name].append(seconds)
    same = (folder / "ours" / "public.readings.csv").read_bytes() == (
        folder / "psql.csv"
    ).read_bytes()
    print(
        f"{ROWS:,} rows, {(folder / 'psql.csv').stat().st_size / 2**20:.0f} MiB of CSV, "
        f"the same bytes: {same}"
    )
    table(figures, "seconds", "psql")
    verdict("CSV over psql \\copy", ratio(figures, "purveyor", "psql"), 1.15)
    verdict("MiB that memory grew at most", grown, 64)
    await source.fetch_query("SELECT 1", folder, format="parquet")  # the library is loaded
    for what, call in {
        "Parquet": lambda: source.fetch("public.readings", folder, format="parquet"),
        "CSV of a query with parameters": lambda: source.fetch_query(
            "SELECT * FROM readings WHERE id > $1", folder, (0,)
        ),
    }.items():
        with Peak() as peak:
            started = time.perf_counter()
            await call()
            seconds = time.perf_counter() - started
        print(f"{what}: {seconds:.2f} s, memory grew by {peak.mebibytes:.0f} MiB")


if __name__ == "__main__":
    if sys.platform != "linux":
        sys.exit("This benchmark reads /proc, which only Linux has.")
    asyncio.run(main())
