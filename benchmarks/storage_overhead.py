"""
What a storage costs beside the bare library: ``uv run python benchmarks/storage_overhead.py``.

Puts and gets of 16 KiB at concurrency 32, through the registry and by the library alone, in
turn: obstore for ``s3`` (a SeaweedFS on loopback), ``os`` in threads for ``filesystem``, sqlite3
in one thread with group commit for ``sqlite``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import obstore
from measure import ratio, table, verdict
from obstore.store import S3Store

from purveyor.containers import ApplicationContainer
from purveyor.settings import Settings
from purveyor.testing.servers import SeaweedFS

BODY = os.urandom(16 * 1024)
CONCURRENCY = 32


class Store(Protocol):
    """What is measured."""

    async def put(self, key: str, data: bytes, /) -> object: ...

    async def get(self, key: str, /) -> bytes: ...


class BareFiles:
    """``os`` in threads: written beside, then put in place."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._pool = ThreadPoolExecutor(16)

    async def put(self, key: str, data: bytes) -> None:
        """Write a file."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._put, key, data)

    def _put(self, key: str, data: bytes) -> None:
        path = f"{self._root}/{key}"
        beside = f"{path}.{threading.get_ident()}"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
        os.replace(beside, path)

    async def get(self, key: str) -> bytes:
        """Read a file."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._get, key)

    def _get(self, key: str) -> bytes:
        with open(f"{self._root}/{key}", "rb") as file:
            return file.read()


class BareSQLite:
    """sqlite3 in one thread: whatever waits is committed together."""

    def __init__(self, path: Path) -> None:
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(str(path),), daemon=True)
        self._thread.start()

    def _run(self, path: str) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("page_size=8192", "secure_delete=FAST"):  # as ours has them
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("CREATE TABLE objects (key TEXT PRIMARY KEY, data BLOB)")
        while (job := self._jobs.get()) is not None:
            batch = [job]
            with contextlib.suppress(queue.Empty):
                while (job := self._jobs.get_nowait()) is not None:
                    batch.append(job)
            connection.execute("BEGIN IMMEDIATE")
            answers = [
                (future, connection.execute(statement, values).fetchall())
                for future, statement, values in batch
            ]
            connection.execute("COMMIT")
            batch[0][0].get_loop().call_soon_threadsafe(self._answer, answers)
            if job is None:
                break
        connection.close()

    @staticmethod
    def _answer(answers: list[tuple[asyncio.Future[Any], Any]]) -> None:
        for future, rows in answers:
            future.set_result(rows)

    async def _do(self, statement: str, *values: object) -> Any:
        future = asyncio.get_running_loop().create_future()
        self._jobs.put((future, statement, values))
        return await future

    async def put(self, key: str, data: bytes) -> None:
        """Write a row."""
        await self._do("INSERT OR REPLACE INTO objects VALUES (?, ?)", key, data)

    async def get(self, key: str) -> bytes:
        """Read a row."""
        return (await self._do("SELECT data FROM objects WHERE key = ?", key))[0][0]

    def close(self) -> None:
        """End the thread."""
        self._jobs.put(None)
        self._thread.join()


class BareS3:
    """obstore alone."""

    def __init__(self, server: SeaweedFS, bucket: str) -> None:
        self._store = S3Store(
            bucket,
            endpoint=server.endpoint_url,
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    async def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        await obstore.put_async(self._store, key, data, use_multipart=False)

    async def get(self, key: str) -> bytes:
        """Get an object."""
        return bytes(await (await obstore.get_async(self._store, key)).bytes_async())


async def rate(count: int, work: Callable[[str], Awaitable[object]]) -> float:
    """Return operations a second of ``count`` calls, 32 at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(f"object-{number:06}")

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return count / (time.perf_counter() - started)


async def compare(name: str, ours: Store, bare: Store, count: int, rounds: int) -> None:
    """Measure both in turn, who begins changing, and print their rates and ratios."""
    figures: dict[str, dict[str, list[float]]] = {"put": {}, "get": {}}
    contenders = {"purveyor": ours, "bare": bare}
    for number in range(rounds + 1):
        for contender, store in list(contenders.items())[:: 1 if number % 2 else -1]:
            put = await rate(count, lambda key, store=store: store.put(key, BODY))
            get = await rate(count, lambda key, store=store: store.get(key))
            if number:
                figures["put"].setdefault(contender, []).append(put)
                figures["get"].setdefault(contender, []).append(get)
    for operation, rates in figures.items():
        print(f"\n{name} {operation}")
        table(rates, "operations a second", "bare")
        verdict(
            f"{name} {operation} over bare", ratio(rates, "purveyor", "bare"), 0.9, at_least=True
        )


@contextlib.asynccontextmanager
async def storages(home: Path, server: SeaweedFS | None) -> AsyncIterator[Any]:
    """Give the container's selector, with all three types configured."""
    providers: dict[str, Any] = {}
    if server is not None:
        providers["s3"] = {"type": "s3", "bucket": server.create_bucket(), **server.login}
    container = ApplicationContainer(settings=Settings(home=home, storage={"providers": providers}))
    async with container.lifespan():
        yield container.storage


async def main() -> None:
    """Run the comparisons named on the command line, or all."""
    wanted = sys.argv[1:] or ["filesystem", "sqlite", "s3"]
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(SeaweedFS()) if "s3" in wanted else None
        async with storages(home, server) as storage:
            if "filesystem" in wanted:
                (home / "bare").mkdir()
                await compare(
                    "filesystem", storage("filesystem"), BareFiles(home / "bare"), 1500, 15
                )
            if "sqlite" in wanted:
                bare = BareSQLite(home / "bare.sqlite3")
                await compare("sqlite", storage("sqlite"), bare, 1500, 15)
                bare.close()
            if server is not None:
                bare_s3 = BareS3(server, server.create_bucket())
                await compare("s3", storage("s3"), bare_s3, 200, 40)  # a server is noisier


if __name__ == "__main__":
    asyncio.run(main())
