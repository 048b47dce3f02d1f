"""The same families without ``await``, for code that has no event loop."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, cast

from ..providers.registry import InvalidStateError

if TYPE_CHECKING:
    from ..providers.storage.blocking import BlockingStorage

__all__ = ["BlockingContainer", "BlockingProvider", "BlockingSelector"]

ResultT = TypeVar("ResultT")
BlockingT = TypeVar("BlockingT")


class Container(Protocol):
    """What is needed of the container whose families are to block."""

    def init_resources(self) -> object: ...

    def lifespan(self) -> AbstractAsyncContextManager[object]: ...


class Portal:
    """An event loop in a daemon thread of its own, started when first needed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def run(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        """
        Run ``coroutine`` on the portal's loop and return its result.

        Raises:
            InvalidStateError: An event loop runs in this thread, which waiting would block.
        """
        if _in_event_loop():
            coroutine.close()
            raise InvalidStateError(
                "container.blocking would block the event loop that runs in this thread. Leave "
                "out .blocking and await the call."
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, self.running_loop())
        try:
            return future.result()
        except BaseException:  # Ctrl-C while waiting: what waits on the other side ends too
            future.cancel()
            raise

    def running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, started if need be."""
        with self._lock:
            if self._loop is None or self._pid != os.getpid():  # a fork leaves the thread behind
                loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(loop,), name="purveyor-blocking", daemon=True
                )
                self._thread.start()
                self._loop, self._pid = loop, os.getpid()
            return self._loop

    def close(self) -> None:
        """Stop the loop and its thread; the next call starts them anew."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None and self._pid == os.getpid():
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def awaited(answer: object) -> None:
    """Await what dependency-injector returns if there is something to wait for."""
    if inspect.isawaitable(answer):
        await answer


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class BlockingContainer:
    """
    The container's families, their operations made plain calls.

    ``with container.blocking as services:`` shuts everything down in the end; without the
    block, call :meth:`close`. Threads may share it.
    """

    def __init__(self, container: Container) -> None:
        self._container = container
        self._portal = Portal()

    @property
    def storage(self) -> BlockingSelector[BlockingStorage]:
        """The storage family."""
        return self.family("storage")

    @property
    def data_sources(self) -> BlockingSelector[Any]:
        """The data source family."""
        return self.family("data_sources")

    @property
    def ai(self) -> BlockingAISelector:
        """The AI family."""
        return BlockingAISelector(cast(Any, self._container).ai, self._portal)

    @property
    def images(self) -> BlockingSelector[Any]:
        """The image family."""
        return self.family("images")

    @property
    def audio(self) -> BlockingSelector[Any]:
        """The audio family."""
        return self.family("audio")

    @property
    def flashcards(self) -> BlockingSelector[Any]:
        """The flashcard family."""
        return self.family("flashcards")

    def family(self, name: str) -> BlockingSelector[Any]:
        """Return any family's selector."""
        return BlockingSelector(getattr(self._container, name), self._portal)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the calls run on, in its own thread; after a fork, a new one."""
        return self._portal.running_loop()

    def run(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        """
        Run a coroutine on :attr:`loop`, where it can await the container's providers.

        Raises:
            InvalidStateError: An event loop runs in this thread, which waiting would block.
        """
        return self._portal.run(coroutine)

    def close(self) -> None:
        """Dispose all providers of the container, and end the thread."""
        self._portal.run(self._shutdown())
        self._portal.close()

    async def _start(self) -> None:
        await awaited(self._container.init_resources())

    async def _shutdown(self) -> None:
        async with self._container.lifespan():
            pass

    def __enter__(self) -> Self:
        self._portal.run(self._start())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class BlockingSelector(Generic[BlockingT]):
    """A family's selector whose providers block."""

    def __init__(self, select: Any, portal: Portal) -> None:
        self._select = select
        self._portal = portal

    def __call__(self, name: str | None = None) -> BlockingT:
        """Return a provider by name, or the default one; errors as the selector's own."""
        return cast(BlockingT, BlockingProvider(self._select(name), self._portal))


class BlockingAISelector(BlockingSelector[Any]):
    """The AI family's selector, whose providers block."""

    def select(
        self, *, capabilities: Iterable[str] = (), max_cost: Decimal | float | None = None
    ) -> Any:
        """Return the best provider for a purpose; see :meth:`AISelector.select`."""
        found = self._select.select(capabilities=capabilities, max_cost=max_cost)
        return BlockingProvider(found, self._portal)


class BlockingProvider:
    """A provider whose coroutines block, and whose async iterators are plain iterators."""

    def __init__(self, provider: Any, portal: Portal) -> None:
        self._provider = provider
        self._portal = portal

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._provider, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            if inspect.iscoroutine(answer):
                return self._portal.run(answer)
            if isinstance(answer, AsyncIterator):
                return self._iterate(cast("AsyncIterator[Any]", answer))
            return answer

        return call

    def _iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        async def step() -> Any:
            return await anext(items, _END)

        async def close() -> None:
            await cast(Any, items).aclose()

        try:
            while (item := self._portal.run(step())) is not _END:
                yield item
        finally:
            self._portal.run(close())

    def __repr__(self) -> str:
        return f"<blocking {self._provider!r}>"


_END = object()
