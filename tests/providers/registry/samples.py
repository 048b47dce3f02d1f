"""Providers made for the tests of the engine: what they do is said by each test."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ConfigDict, Field, SecretStr

from purveyor.providers.registry import (
    Call,
    ConnectionFailedError,
    Provider,
    ProviderConfig,
    operation,
)

ResultT = TypeVar("ResultT")
Hook = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """Do nothing, at once."""


async def turns(count: int = 10) -> None:
    """Let everybody else go on until they wait."""
    for _ in range(count):
        await asyncio.sleep(0)


@dataclass
class Backend:
    """What stands behind a sample: counts, and does as the test says."""

    connect: Hook = nothing
    close: Hook = nothing
    health: Hook = nothing
    log: list[str] = field(default_factory=list[str])

    @property
    def connects(self) -> int:
        return self.log.count("connect")

    @property
    def closes(self) -> int:
        return self.log.count("close")


class SampleConfig(ProviderConfig):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    aliases = {"old_label": "label"}  # noqa: RUF012  # a ClassVar of the base

    backend: Backend = Field(default_factory=Backend)
    label: str = ""
    port: int = Field(default=1, ge=1, le=65535)
    password: SecretStr | None = None
    pipelines_of_its_own: bool = False


class BackendError(Exception):
    """What the sample's library raises."""


class Sample(Provider[SampleConfig]):
    """A provider whose operations do what they are given."""

    family = "storage"
    used = 0

    async def _connect(self) -> None:
        self.config.backend.log.append("connect")
        await self.config.backend.connect()

    async def _close(self) -> None:
        self.config.backend.log.append("close")
        await self.config.backend.close()

    async def check_health(self) -> None:
        await self.config.backend.health()

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        if isinstance(error, BackendError):
            return ConnectionFailedError(f"{call.operation}: {error}")
        return None

    @operation
    async def do(self, work: Callable[[Sample], Awaitable[ResultT]]) -> ResultT:
        """Await ``work`` with the instance proper."""
        self.used += 1
        return await work(self)

    @operation
    async def echo(self, value: Any = None) -> Any:
        """Answer at once."""
        return value

    @operation
    async def items(
        self, count: int = 3, *, before_each: Callable[[int], Awaitable[None]] | None = None
    ) -> AsyncIterator[int]:
        """Give numbers."""
        try:
            for number in range(count):
                if before_each is not None:
                    await before_each(number)
                yield number
        finally:
            self.config.backend.log.append("stream ended")

    @operation
    def plain(self, work: Callable[[Sample], ResultT]) -> ResultT:
        """Call ``work`` with the instance proper."""
        return work(self)

    async def helper(self, value: Any) -> Any:
        """No operation: made of operations."""
        return await self.echo(value)


class Gate:
    """Something to wait at, that tells when somebody has come."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, *_: object) -> None:
        self.reached.set()
        await self.opened.wait()


def deaf(gate: Gate) -> Hook:
    """Return a hook that waits at ``gate``, whoever cancels it."""

    async def hook() -> None:
        while not gate.opened.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate()

    return hook


def raising(error: BaseException) -> Hook:
    """Return a hook that raises ``error``."""

    async def hook() -> None:
        raise error

    return hook


@contextlib.contextmanager
def loop_in_thread() -> Iterator[Callable[[Coroutine[Any, Any, ResultT]], ResultT]]:
    """Run an event loop in a thread; what is given runs a coroutine there, and waits for it."""
    loop = asyncio.new_event_loop()

    def serve() -> None:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work(number)`` in threads that all start together; return results or exceptions."""
    answers: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        try:
            answers[number] = work(number)
        except Exception as error:
            answers[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
