"""
What ``smb`` storage costs beside smbprotocol alone: ``uv run python benchmarks/storage_smb.py``.

Puts and gets of 4 KiB at concurrency 32 (new keys and keys that are replaced), and of one object
of 64 MiB, through the registry and by smbprotocol's own file functions, in turn, on a Samba on
loopback. As many threads on both sides; both write beside and put in place.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import smbclient
from measure import ratio, table, verdict

from purveyor.containers import ApplicationContainer
from purveyor.settings import Settings
from purveyor.testing.servers import Samba

SMALL = os.urandom(4 * 1024)
LARGE = os.urandom(64 * 1024 * 1024)
CONCURRENCY = 32
THREADS = 8
CHUNK = 1024 * 1024


class Store(Protocol):
    """What is measured."""

    async def put(self, key: str, data: bytes, /) -> object: ...

    async def get(self, key: str, /) -> bytes: ...


class BareSMB:
    """smbclient in threads."""

    def __init__(self, server: Samba) -> None:
        self._folder = rf"\\127.0.0.1\{server.share}\bare"
        self._options: dict[str, Any] = {
            "port": server.port,
            "username": server.username,
            "password": server.password,
            "connection_cache": {},
        }
        self._numbers = itertools.count()
        self._pool = ThreadPoolExecutor(THREADS)
        smbclient.mkdir(self._folder, **self._options)
        (connection,) = self._options["connection_cache"].values()
        # Without more of them several threads are refused by the library itself.
        connection.echo(next(iter(connection.session_table)), credit_request=2048)

    async def put(self, key: str, data: bytes) -> None:
        """Write a file."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._put, key, data)

    def _put(self, key: str, data: bytes) -> None:
        path = rf"{self._folder}\{key}"
        beside = rf"{self._folder}\beside-{next(self._numbers)}"
        with smbclient.open_file(
            beside, "xb", buffering=0, share_access="rwd", **self._options
        ) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view[:CHUNK].tobytes()) :]
        smbclient.replace(beside, path, **self._options)

    async def get(self, key: str) -> bytes:
        """Read a file."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._get, key)

    def _get(self, key: str) -> bytes:
        path = rf"{self._folder}\{key}"
        parts = io.BytesIO()
        with smbclient.open_file(
            path, "rb", buffering=0, share_access="rwd", **self._options
        ) as file:
            while data := file.read(CHUNK):
                parts.write(data)
        return parts.getvalue()

    def close(self) -> None:
        """End threads and connection."""
        self._pool.shutdown()
        smbclient.reset_connection_cache(connection_cache=self._options["connection_cache"])


async def rate(keys: list[str], work: Callable[[str], Awaitable[object]]) -> float:
    """Return operations a second of one call for each key, 32 at a time."""
    waiting = iter(keys)

    async def worker() -> None:
        for key in waiting:
            await work(key)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return len(keys) / (time.perf_counter() - started)


async def compare(
    name: str, contenders: dict[str, Store], count: int, rounds: int, body: bytes, bound: float
) -> None:
    """Measure all in turn, who begins changing, and print their rates and ratios."""
    figures: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds + 1):
        keys = [f"{name[:5]}-{number}-{one:06}" for one in range(count)]
        for contender, store in list(contenders.items())[:: 1 if number % 2 else -1]:

            async def put(key: str, store: Store = store) -> None:
                await store.put(key, body)

            async def get(key: str, store: Store = store) -> None:
                assert len(await store.get(key)) == len(body)

            for what, work in (("put", put), ("replace", put), ("get", get)):
                reached = await rate(keys, work)
                if number:
                    figures.setdefault(what, {}).setdefault(contender, []).append(reached)
    for what, rates in figures.items():
        print(f"\n{name} {what}")
        table(rates, "operations a second", "bare")
        verdict(f"{name} {what} over bare", ratio(rates, "purveyor", "bare"), bound, at_least=True)


async def main() -> None:
    """Run the comparisons named on the command line, or all."""
    wanted = sys.argv[1:] or ["small", "large"]
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(Samba())
        smb = {"type": "smb", "root": "ours", "threads": THREADS, **server.login}
        settings = Settings(home=home, storage={"providers": {"smb": smb}})
        container = ApplicationContainer(settings=settings)
        async with container.lifespan():
            bare = BareSMB(server)
            contenders: dict[str, Store] = {"purveyor": container.storage("smb"), "bare": bare}
            if "small" in wanted:
                await compare("small", contenders, 100, 10, SMALL, 0.9)
            if "large" in wanted:
                await compare("large", contenders, 1, 10, LARGE, 0.9)
            bare.close()


if __name__ == "__main__":
    asyncio.run(main())
