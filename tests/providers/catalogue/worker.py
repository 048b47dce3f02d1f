"""
A process that uses the catalogue, for tests.

``watch NAME`` uses the storage provider of that name whenever it changes and says what its root is
and when; ``count NAME TIMES`` adds 1 to numbers in the metadata of twenty of them, all at once;
``add PREFIX`` and ``rotate`` do so until they are killed.
"""

from __future__ import annotations

import asyncio
import sys
import time

from purveyor.containers import ApplicationContainer
from purveyor.providers.catalogue import ConflictError, rotate
from purveyor.providers.registry import ProviderRegistered, ProviderReloaded

FILES = {"type": "filesystem", "root": "files"}


def say(*words: object) -> None:
    print(*words, flush=True)


async def watch(app: ApplicationContainer, name: str) -> None:
    registry = app.storage.registry
    changes: asyncio.Queue[float] = asyncio.Queue()
    for event in (ProviderRegistered, ProviderReloaded):
        registry.on(event, lambda _: changes.put_nowait(time.time()))
    say("ready")
    while True:
        at = await changes.get()
        if name in registry:
            await app.storage(name).put("seen", b"x")
            say(registry.config(name).root, at, time.time())  # type: ignore[union-attr]


async def count(app: ApplicationContainer, name: str, times: int) -> None:
    catalogue = app.catalogue()

    async def one(name: str) -> None:
        while True:
            entry = await catalogue.get("storage", name)
            assert entry is not None
            more = {**FILES, "metadata": {"count": entry.settings.metadata["count"] + 1}}
            try:
                await catalogue.update("storage", name, more, version=entry.version)
            except ConflictError:
                continue
            return

    await asyncio.gather(*(one(f"{name}{number % 20}") for number in range(times)))


async def add(app: ApplicationContainer, prefix: str) -> None:
    number = 0
    while True:
        config = {"type": "s3", "bucket": "nightly", "access_key": "a", "secret_key": f"{number}"}
        await app.catalogue().add("storage", f"{prefix}{number}", config)
        say(f"{prefix}{number}")
        number += 1


async def main() -> None:
    what, *arguments = sys.argv[1:]
    app = ApplicationContainer()
    async with app.lifespan():
        if what == "watch":
            await watch(app, arguments[0])
        elif what == "count":
            await count(app, arguments[0], int(arguments[1]))
        elif what == "add":
            await add(app, arguments[0])
        elif what == "rotate":
            await rotate(app.catalogue(), batch_size=10, progress=lambda done: say(done.rotated))


if __name__ == "__main__":
    asyncio.run(main())
