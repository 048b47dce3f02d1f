"""
What layers cost: ``uv run python benchmarks/layers.py [filesystem] [s3]``.

One object of 256 MiB, put from an iterator and streamed back, by the same type with and without
layers, in turn: text that compresses to about a third, and noise that does not. Each round begins
with another candidate. Peak memory is measured apart, since watching it slows everything down.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

from measure import ratio, table, verdict

from purveyor.containers import ApplicationContainer
from purveyor.providers.storage.layers.keys import new_identity
from purveyor.settings import Settings
from purveyor.testing.servers import SeaweedFS

MIB = 1024 * 1024
SIZE = 256
ROUNDS = 5

COMPRESSION = {"compression": "zstd"}
ENCRYPTION = {"encryption": "age", "encryption_identities": new_identity()}
CANDIDATES: dict[str, dict[str, str]] = {
    "plain": {},
    "compression": COMPRESSION,
    "encryption": ENCRYPTION,
    "both": {**COMPRESSION, **ENCRYPTION},
}


def pieces(kind: str) -> list[bytes]:
    """Return 16 MiB of content, to be repeated: no window of the compressor is as wide."""
    if kind == "noise":
        return [os.urandom(MIB) for _ in range(16)]
    source = random.Random(5)
    words = [f"{source.getrandbits(40):x}"[: source.randint(3, 9)] for _ in range(20_000)]
    made: list[bytes] = []
    for _ in range(16):
        lines = " ".join(words[int(source.paretovariate(0.6)) % 20_000] for _ in range(190_000))
        made.append(lines.encode()[:MIB].ljust(MIB))
    return made


async def content(parts: list[bytes]) -> AsyncIterator[bytes]:
    """Yield all of an object."""
    for number in range(SIZE):
        yield parts[number % len(parts)]


class Peak:
    """The most memory the process used meanwhile, beyond what it used before, in MiB."""

    def __enter__(self) -> Self:
        self.most = 0.0
        self._before = self._now()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.most = max(self.most, self._now() - self._before)

    @staticmethod
    def _now() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MIB


async def put(storage: Any, parts: list[bytes]) -> float:
    """Return MiB a second of a put."""
    started = time.perf_counter()
    await storage.put("object", content(parts))
    return SIZE / (time.perf_counter() - started)


async def stream(storage: Any) -> float:
    """Return MiB a second of reading all of it."""
    started, size = time.perf_counter(), 0
    async for chunk in storage.stream("object"):
        size += len(chunk)
    if size != SIZE * MIB:
        raise RuntimeError(f"{size} bytes came back")
    return SIZE / (time.perf_counter() - started)


async def compare(name: str, storages: dict[str, Any], kind: str) -> None:
    """Measure all candidates in turn, and print rates, ratios and memory."""
    parts = pieces(kind)
    figures: dict[str, dict[str, list[float]]] = {"put": {}, "stream": {}}
    for number in range(ROUNDS + 1):
        order = list(storages.items())
        for candidate, storage in order[number % 4 :] + order[: number % 4]:
            rates = {"put": await put(storage, parts), "stream": await stream(storage)}
            for operation, rate in rates.items():
                if number:
                    figures[operation].setdefault(candidate, []).append(rate)
            await storage.delete("object")
    for operation, rates in figures.items():
        print(f"\n{name}, {kind}, {operation}")
        table({candidate: rates[candidate] for candidate in storages}, "MiB a second", "plain")
        for candidate in ("compression", "encryption", "both"):
            what = f"{name} {kind} {operation}, {candidate} over plain"
            verdict(what, ratio(rates, candidate, "plain"), 0.6, at_least=True)
    for candidate, storage in storages.items():
        with Peak() as peak:
            await put(storage, parts)
            await stream(storage)
        await storage.delete("object")
        print(f"peak memory, {candidate}: {peak.most:.0f} MiB more")


async def main() -> None:
    """Run the comparisons named on the command line, or all."""
    wanted = sys.argv[1:] or ["filesystem", "s3"]
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(SeaweedFS()) if "s3" in wanted else None
        for name in wanted:
            providers: dict[str, Any] = {}
            for candidate, layers in CANDIDATES.items():
                own: dict[str, Any] = {"type": name}
                if server is not None and name == "s3":
                    own |= {"bucket": server.create_bucket(), **server.login}
                providers[candidate] = {**own, **layers}
            settings = Settings(home=home, storage={"providers": providers})
            container = ApplicationContainer(settings=settings)
            async with container.lifespan():
                storages = {candidate: container.storage(candidate) for candidate in CANDIDATES}
                for kind in ("text", "noise"):
                    await compare(name, storages, kind)


if __name__ == "__main__":
    asyncio.run(main())
