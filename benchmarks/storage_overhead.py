"""
What a storage costs beside the bare library: ``uv run python benchmarks/storage_overhead.py``.

Puts and gets of 16 KiB at concurrency 32, through the registry and by the library alone, in
turn: obstore for ``s3`` (a SeaweedFS on loopback), ``os`` in threads for ``filesystem``, sqlite3
in one thread with group commit for ``sqlite``. For ``azure_blob`` (an Azurite on loopback,
``npm install azurite``) obstore too, with 4 KiB, and one object of 128 MiB.
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
from obstore.store import AzureStore, S3Store

from purveyor.containers import ApplicationContainer
from purveyor.providers.azure.config import AzureBlobConfig
from purveyor.settings import Settings
from purveyor.testing.servers import Azurite, SeaweedFS

BODY = os.urandom(16 * 1024)
SMALL = BODY[: 4 * 1024]
LARGE = os.urandom(1024 * 1024)
"""Put 128 times over, as one object."""
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


class BareAzure:
    """obstore alone, with the timeouts and the login that ours has."""

    def __init__(self, server: Azurite, container: str) -> None:
        config = AzureBlobConfig.model_validate({"container": container, **server.login})
        self._store = AzureStore(**config.store_arguments())

    async def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        await obstore.put_async(self._store, key, data, use_multipart=False)

    async def get(self, key: str) -> bytes:
        """Get an object."""
        return bytes(await (await obstore.get_async(self._store, key)).bytes_async())

    async def put_large(self, key: str) -> None:
        """Put a large object from an iterator, in blocks of the size that ours has."""
        await obstore.put_async(
            self._store, key, large(), chunk_size=8 * 1024 * 1024, max_concurrency=8
        )

    async def get_large(self, key: str) -> None:
        """Read a large object in chunks of the size that ours has."""
        result = await obstore.get_async(self._store, key)
        async for chunk in result.stream(min_chunk_size=1024 * 1024):
            bytes(chunk)


async def large() -> AsyncIterator[bytes]:
    """Yield the large object."""
    for _ in range(128):
        yield LARGE


async def compare_large(name: str, ours: Any, bare: BareAzure, rounds: int) -> None:
    """Measure one large object in turn, and print MB a second and their ratios."""

    async def drain() -> None:
        async for _ in ours.stream("large"):
            pass

    calls: dict[str, dict[str, Callable[[], Awaitable[object]]]] = {
        "large put": {
            "purveyor": lambda: ours.put("large", large()),
            "bare": lambda: bare.put_large("large"),
        },
        "large get": {"purveyor": drain, "bare": lambda: bare.get_large("large")},
    }
    for operation, contenders in calls.items():
        rates: dict[str, list[float]] = {}
        for number in range(rounds + 1):
            for contender, call in list(contenders.items())[:: 1 if number % 2 else -1]:
                started = time.perf_counter()
                await call()
                if number:
                    speed = 128 * len(LARGE) / 1e6 / (time.perf_counter() - started)
                    rates.setdefault(contender, []).append(speed)
        print(f"\n{name} {operation}")
        table(rates, "MB a second", "bare")
        verdict(
            f"{name} {operation} over bare", ratio(rates, "purveyor", "bare"), 0.9, at_least=True
        )


async def rate(count: int, work: Callable[[str], Awaitable[object]]) -> float:
    """Return operations a second of ``count`` calls, 32 at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(f"object-{number:06}")

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return count / (time.perf_counter() - started)


async def compare(
    name: str, ours: Store, bare: Store, count: int, rounds: int, body: bytes = BODY
) -> None:
    """Measure both in turn, who begins changing, and print their rates and ratios."""
    figures: dict[str, dict[str, list[float]]] = {"put": {}, "get": {}}
    contenders = {"purveyor": ours, "bare": bare}
    for number in range(rounds + 1):
        for contender, store in list(contenders.items())[:: 1 if number % 2 else -1]:
            put = await rate(count, lambda key, store=store: store.put(key, body))
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
async def storages(
    home: Path, server: SeaweedFS | None, azurite: Azurite | None
) -> AsyncIterator[Any]:
    """Give the container's selector, with all types configured."""
    providers: dict[str, Any] = {}
    if server is not None:
        providers["s3"] = {"type": "s3", "bucket": server.create_bucket(), **server.login}
    if azurite is not None:
        login = {"container": azurite.create_container(), **azurite.login}
        providers["azure_blob"] = {"type": "azure_blob", **login}
    container = ApplicationContainer(settings=Settings(home=home, storage={"providers": providers}))
    async with container.lifespan():
        yield container.storage


async def main() -> None:
    """Run the comparisons named on the command line, or all."""
    wanted = sys.argv[1:] or ["filesystem", "sqlite", "s3", "azure_blob"]
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(SeaweedFS()) if "s3" in wanted else None
        azurite = stack.enter_context(Azurite()) if "azure_blob" in wanted else None
        async with storages(home, server, azurite) as storage:
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
            if azurite is not None:
                ours, bare_azure = (
                    storage("azure_blob"),
                    BareAzure(azurite, azurite.create_container()),
                )
                await compare("azure_blob", ours, bare_azure, 200, 40, SMALL)
                await compare_large("azure_blob", ours, bare_azure, 7)


if __name__ == "__main__":
    asyncio.run(main())
