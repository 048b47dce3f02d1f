"""That the service ends: who holds a stream open listens to it, and tells the client."""

from __future__ import annotations

import asyncio
import threading

__all__ = ["Stopping"]


class Stopping:
    """
    Whether the service is ending, for any number of streams on any event loops.

    ::

        await request.app.state.stopping.wait()
    """

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._lock = threading.Lock()

    def is_set(self) -> bool:
        """Tell whether the service is ending."""
        return self._is_set

    def set(self) -> None:
        """Tell everybody that it is; from any thread."""
        with self._lock:
            self._is_set = True
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            loop = future.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, future)

    def clear(self) -> None:
        """Begin anew: the service starts again."""
        self._is_set = False

    async def wait(self) -> None:
        """Return when the service is ending."""
        future = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._is_set:
                return
            self._waiting.add(future)
        try:
            await future
        finally:
            with self._lock:
                self._waiting.discard(future)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
