"""Plain functions that may block, in threads that keep no process alive."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["in_daemon_thread"]

ResultT = TypeVar("ResultT")


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
