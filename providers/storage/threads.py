"""Threads for what blocks: the calls of a file system, or of a library."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar, TypeVarTuple

__all__ = ["Threads"]

ArgsT = TypeVarTuple("ArgsT")
ResultT = TypeVar("ResultT")

_Step: TypeAlias = "tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]"
_Outcome: TypeAlias = "tuple[asyncio.Future[Any], Any, BaseException | None]"


class Threads:
    """
    Runs steps in threads for one event loop.

    Steps that end at about the same time wake the loop once: with small files, waking it for each
    would cost as much as the files do. The threads are daemons: a disk that hangs must not keep
    the process from exiting.
    """

    def __init__(self, count: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._steps: SimpleQueue[_Step | None] = SimpleQueue()
        self._outcomes: deque[_Outcome] = deque()
        self._waking = False
        self._left = count
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, function: Callable[[*ArgsT], ResultT], *args: *ArgsT) -> ResultT:
        """Return what ``function`` returns; who is cancelled waits for it to end nevertheless."""
        step = self.start(function, *args)
        try:
            return await asyncio.shield(step)
        except asyncio.CancelledError:
            while not step.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([step])
            step.exception()  # nobody else will ask for it
            raise

    def start(
        self, function: Callable[[*ArgsT], ResultT], *args: *ArgsT
    ) -> asyncio.Future[ResultT]:
        """Return a future of what ``function`` returns; it runs also if that is cancelled."""
        future: asyncio.Future[ResultT] = self._loop.create_future()
        self._steps.put((future, function, args))
        return future

    def abandon(self) -> None:
        """End the threads after the steps they were given, from anywhere, without waiting."""
        for _ in range(self._left):
            self._steps.put(None)

    async def end(self) -> None:
        """End the threads, and wait until all steps they were given have ended."""
        self.abandon()
        await asyncio.shield(self._ended)
        for thread in self._threads:  # which have nothing left to do but to be gone
            thread.join()

    def _work(self) -> None:
        while (step := self._steps.get()) is not None:
            future, function, args = step
            try:
                outcome = future, function(*args), None
            except BaseException as error:  # whatever it is, who waits for the step must hear it
                outcome = future, None, error
            self._outcomes.append(outcome)
            # The loop takes the mark down before it looks: an outcome without a call is not missed.
            if not self._waking:
                self._waking = True
                self._call(self._settle)
            del step, future, function, args, outcome  # or they live until the next step

        self._call(self._leave)

    def _call(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function)

    def _leave(self) -> None:
        self._left -= 1
        if not self._left:
            self._ended.set_result(None)

    def _settle(self) -> None:
        self._waking = False
        while self._outcomes:
            future, result, error = self._outcomes.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
