"""What the tests of the storage kit share: how one runs, and the things it works with."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from ...providers.storage import ObjectInfo, StorageProvider
from .case import PROVIDER_NAME, Case, provider_test, refusal, secrets_in

__all__ = [
    "MIB",
    "PROVIDER_NAME",
    "PausedSource",
    "Storage",
    "StorageCase",
    "calls_on",
    "drained",
    "each",
    "infos",
    "keys",
    "pieces",
    "refusal",
    "secrets_in",
    "storage_test",
]

MIB = 1024 * 1024

Storage = StorageProvider[Any]


class StorageCase(Case):
    """What an author tells of the type under test, and how its instances come and go."""

    provider_class: ClassVar[type[StorageProvider[Any]]]
    """The class under test."""
    persistent: ClassVar[bool] = True
    """Whether objects outlive the instance that put them."""
    case_sensitive: ClassVar[bool] = True
    """Whether keys that differ only in case can stand beside each other; the second is a
    KeyConflictError where they cannot. Leave them out of ``odd_keys`` then."""
    racers: ClassVar[int] = 20
    """How many writers race for one new key; fewer where the backend makes losers wait."""

    @pytest.fixture
    def storage_config(self) -> BaseModel:
        """Return the settings of an empty storage, another one for each test."""
        raise NotImplementedError(
            f"{type(self).__name__} must define a fixture storage_config that returns the settings "
            f"of an empty {self.provider_class.__name__}."
        )

    def make_storage(self, config: Any) -> Storage:
        """Return a guarded instance, as a registry would give it, named ``conformance``."""
        return self.guarded(config)


storage_test = provider_test("storage_config", "make_storage")
"""Make a coroutine method that takes a storage into a plain test that takes ``storage_config``."""


async def each(function: Callable[[Any], Awaitable[object]], values: Iterable[Any]) -> None:
    """Call a coroutine function with every value, 32 at once."""
    waiting = iter(values)

    async def work() -> None:
        for value in waiting:
            await function(value)

    async with asyncio.TaskGroup() as group:
        for _ in range(32):
            group.create_task(work())


async def infos(storage: Storage, prefix: str = "") -> list[ObjectInfo]:
    """Return what ``list`` yields."""
    return [info async for info in storage.list(prefix)]


async def keys(storage: Storage, prefix: str = "") -> list[str]:
    """Return the keys that ``list`` yields."""
    return [info.key for info in await infos(storage, prefix)]


async def drained(chunks: AsyncIterable[bytes]) -> bytes:
    """Return all bytes of a stream."""
    return b"".join([chunk async for chunk in chunks])


async def pieces(data: bytes, size: int = MIB) -> AsyncIterator[bytes]:
    """Yield ``data`` piece by piece, letting others run in between."""
    for begin in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[begin : begin + size]


def calls_on(storage: Storage, key: str, other: str) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return every operation that takes a key, as calls; ``other`` is the key of an object."""
    return {
        "put": lambda: storage.put(key, b"new"),
        "put(overwrite=False)": lambda: storage.put(key, b"new", overwrite=False),
        "put of an iterator": lambda: storage.put(key, pieces(b"new")),
        "get": lambda: storage.get(key),
        "get_with_info": lambda: storage.get_with_info(key),
        "stream": lambda: drained(storage.stream(key)),
        "stat": lambda: storage.stat(key),
        "exists": lambda: storage.exists(key),
        "delete": lambda: storage.delete(key),
        "copy from": lambda: storage.copy(key, "target"),
        "copy to": lambda: storage.copy(other, key),
        "move from": lambda: storage.move(key, "target"),
        "move to": lambda: storage.move(other, key),
    }


class PausedSource:
    """Three chunks, and a pause after the second until ``go_on`` is set, or an error there."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.error: Exception | None = None
        self._paused = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield bytes(MIB)
        yield bytes(MIB)
        self._paused.set()
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        yield bytes(MIB)

    async def reached(self, put: asyncio.Task[Any]) -> None:
        """Wait until the put has come to the pause."""
        pause = asyncio.create_task(self._paused.wait())
        await asyncio.wait([put, pause], return_when=asyncio.FIRST_COMPLETED)
        pause.cancel()
        if put.done():
            pytest.fail(f"put did not read its source to the end: {put.exception()!r}")
