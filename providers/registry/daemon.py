"""What may block, or not heed its end, without keeping anybody: threads, and tasks left behind."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["in_daemon_thread", "leave_behind", "within"]

ResultT = TypeVar("ResultT")

_GRACE = 0.05
"""Seconds for what is cancelled to heed it."""


async def in_daemon_thread(function: Callable[..., ResultT], *args: Any) -> ResultT:
    """
    Run a plain function in a daemon thread of its own and return what it returns.

    ``asyncio.to_thread`` would keep the process alive for as long as the function blocks; this
    one is left behind when it is cancelled, or when the process ends.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[ResultT] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: ResultT | None, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: ResultT | None = None
        failure: BaseException | None = None
        try:
            result = context.run(function, *args)
        except BaseException as error:
            failure = error
            if isinstance(error, StopIteration):  # no future can carry it
                failure = RuntimeError("the function raised StopIteration")
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    name = getattr(function, "__qualname__", "function")
    threading.Thread(target=run, name=f"purveyor {name}", daemon=True).start()
    return await future


async def within(limit: float, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """
    Await ``coroutine`` for ``limit`` seconds at most, even if it heeds no cancellation.

    Raises:
        TimeoutError: It did not end in time.
    """
    task = asyncio.create_task(coroutine, name=coroutine.__qualname__)
    try:
        done, _ = await asyncio.wait([task], timeout=limit)
        if not done:
            raise TimeoutError
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            try:
                await asyncio.wait([task], timeout=_GRACE)
            finally:
                leave_behind(task)


def leave_behind(task: asyncio.Task[Any]) -> None:
    """
    Let the event loop end without a task that heeds no cancellation.

    ``asyncio.run`` would wait for it as long as it likes.
    """
    task.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody asks for it
    if not task.done():
        asyncio._unregister_task(task)  # type: ignore[attr-defined]
        task._log_destroy_pending = False  # type: ignore[attr-defined]
