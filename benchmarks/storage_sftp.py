"""
What SFTP storage costs beside bare asyncssh: ``uv run python benchmarks/storage_sftp.py``.

Puts and gets of 4 KiB at concurrency 32, and one object of 256 MiB from file to file, through the
registry and by asyncssh alone, in turn, on one sshd on loopback. Small files are written beside
their place and renamed onto it by both; large ones asyncssh writes in place. Both use one cipher.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, Self

import asyncssh
from measure import ratio, table, verdict

from purveyor.containers import ApplicationContainer
from purveyor.providers.storage import StorageProvider
from purveyor.settings import Settings
from purveyor.testing.servers import OpenSSH

BODY = os.urandom(4 * 1024)
CONCURRENCY = 32
SMALL, ROUNDS = 1000, 9
MIB = 1024 * 1024
LARGE, LARGE_ROUNDS = 256 * MIB, 5


class Contender(Protocol):
    """What is measured."""

    async def put(self, key: str, data: bytes) -> object: ...

    async def get(self, key: str) -> bytes: ...

    async def upload(self, path: Path, key: str) -> object: ...

    async def download(self, key: str, path: Path) -> object: ...


class Ours:
    """A provider from a container."""

    def __init__(self, storage: StorageProvider[Any]) -> None:
        self.put = storage.put
        self.get = storage.get
        self._storage = storage

    async def upload(self, path: Path, key: str) -> None:
        """Put a file."""
        await self._storage.put(key, path)

    async def download(self, key: str, path: Path) -> None:
        """Write an object into a file."""
        with path.open("wb") as file:
            async for chunk in self._storage.stream(key):
                file.write(chunk)


class Bare:
    """asyncssh alone."""

    def __init__(self, client: asyncssh.SFTPClient, root: str) -> None:
        self._client = client
        self._root = root

    async def put(self, key: str, data: bytes) -> None:
        """Write a file beside its place, and put it there."""
        path = f"{self._root}/{key}"
        async with self._client.open(f"{path}.part", "wb") as file:
            await file.write(data)
        await self._client.posix_rename(f"{path}.part", path)

    async def get(self, key: str) -> bytes:
        """Read a file."""
        async with self._client.open(f"{self._root}/{key}", "rb") as file:
            return await file.read()

    async def upload(self, path: Path, key: str) -> None:
        """Send a file."""
        await self._client.put(str(path), f"{self._root}/{key}")

    async def download(self, key: str, path: Path) -> None:
        """Fetch a file."""
        await self._client.get(f"{self._root}/{key}", str(path))


class Clock:
    """Seconds of wall time and of this process's CPU while the block runs."""

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter(), _cpu()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, _cpu() - self._cpu


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def all_at_once(work: Callable[[str], Awaitable[object]]) -> None:
    """Do the small calls, 32 at a time."""
    numbers = iter(range(SMALL))

    async def worker() -> None:
        for number in numbers:
            await work(f"object-{number:06}")

    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))


async def measured(
    what: str, count: int, work: dict[str, Callable[[], Awaitable[object]]], units: int
) -> None:
    """Measure both in turn, who begins changing; print times a unit and their ratios."""
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    for number in range(count + 1):
        for name, run in list(work.items())[:: 1 if number % 2 else -1]:
            with Clock() as clock:
                await run()
            if number:
                wall.setdefault(name, []).append(clock.wall / units * 1e6)
                cpu.setdefault(name, []).append(clock.cpu / units * 1e6)
    print(f"\n{what}")
    table(wall, "µs", "bare")
    print("of which CPU of this process")
    table(cpu, "µs", "bare")
    verdict(f"{what} over bare", ratio(wall, "purveyor", "bare"), 1.1)


@contextlib.asynccontextmanager
async def contenders(server: OpenSSH, home: Path) -> AsyncIterator[dict[str, Contender]]:
    """Give both, each with a folder of its own on the server."""
    provider = {"type": "sftp", "root": server.create_root(), **server.login}
    settings = Settings(home=home, storage={"providers": {"remote": provider}})  # pyright: ignore[reportArgumentType]
    container = ApplicationContainer(settings=settings)
    async with (
        container.lifespan(),
        asyncssh.connect(
            "127.0.0.1",
            server.port,
            username=server.username,
            client_keys=[str(server.client_key)],
            known_hosts=None,
            config=None,
            encryption_algs=["aes128-gcm@openssh.com"],
            compression_algs=["none"],
        ) as connection,
        connection.start_sftp_client() as client,
    ):
        ours = Ours(container.storage("remote"))
        yield {"purveyor": ours, "bare": Bare(client, server.create_root())}


async def main() -> None:
    """Run the comparisons named on the command line (small, large), or all."""
    wanted = sys.argv[1:] or ["small", "large"]
    with OpenSSH() as server, tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        async with contenders(server, home) as both:
            if "small" in wanted:

                def puts(one: Contender) -> Callable[[], Awaitable[object]]:
                    return lambda: all_at_once(lambda key: one.put(key, BODY))

                def gets(one: Contender) -> Callable[[], Awaitable[object]]:
                    return lambda: all_at_once(one.get)

                for what, make in (("put 4 KiB", puts), ("get 4 KiB", gets)):
                    work = {name: make(one) for name, one in both.items()}
                    await measured(what, ROUNDS, work, SMALL)
            if "large" in wanted:
                source, target = home / "source", home / "target"
                source.write_bytes(os.urandom(LARGE))

                def upload(one: Contender) -> Callable[[], Awaitable[object]]:
                    return lambda: one.upload(source, "large")

                def download(one: Contender) -> Callable[[], Awaitable[object]]:
                    return lambda: one.download("large", target)

                for what, make in (("put 256 MiB", upload), ("get 256 MiB", download)):
                    work = {name: make(one) for name, one in both.items()}
                    await measured(what, LARGE_ROUNDS, work, LARGE // MIB)


if __name__ == "__main__":
    asyncio.run(main())
