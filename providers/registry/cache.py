"""A cache whose entries live for a while: bounded, and asked for once however many ask."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

__all__ = ["TTLCache"]

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class TTLCache(Generic[KeyT, ValueT]):
    """
    Keeps values, never None, for some seconds; of too many the longest unasked go.

    Any thread may use it; :meth:`get_or_make` belongs to one event loop at a time.

    Args:
        ttl: Seconds a value lives. 0: it is expired at once.
        max_entries: How many values are kept at most.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        ttl: float = 300.0,
        *,
        max_entries: int = 1024,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if ttl < 0 or max_entries < 1:
            raise ValueError("ttl must be 0 or more seconds, and max_entries 1 or more")
        self.ttl = ttl
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[KeyT, tuple[float, ValueT]] = OrderedDict()
        self._making: dict[KeyT, _Making[ValueT]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: KeyT) -> ValueT | None:
        """Return a value that is alive, else None."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            expires, value = found
            if expires <= self._clock():
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return value

    def put(self, key: KeyT, value: ValueT, *, ttl: float | None = None) -> None:
        """Keep a value, for ``ttl`` seconds if that is given."""
        with self._lock:
            self._entries[key] = self._clock() + (self.ttl if ttl is None else ttl), value
            self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    async def get_or_make(self, key: KeyT, make: Callable[[], Awaitable[ValueT]]) -> ValueT:
        """
        Return a value that is alive, else what ``make`` gives, which all who ask wait for.

        What :meth:`clear` drops while it is being made is given to those who wait, and not kept.
        One caller's cancellation leaves the others waiting; that of the last ends ``make``.

        Raises:
            Exception: What ``make`` raised, to all who wait; the next call tries again.
        """
        value = self.get(key)
        if value is not None:
            return value
        loop = asyncio.get_running_loop()
        with self._lock:
            making = self._making.get(key)
            if making is None or making.task.get_loop() is not loop:
                task = loop.create_task(self._make(key, make), name=f"make {key!r}")
                making = self._making[key] = _Making(task)
        making.waiters += 1
        try:
            return await asyncio.shield(making.task)
        finally:
            making.waiters -= 1
            if not making.waiters and not making.task.done():
                self._forget(key, making)
                making.task.cancel()

    async def _make(self, key: KeyT, make: Callable[[], Awaitable[ValueT]]) -> ValueT:
        mine = self._making.get(key)
        try:
            value = await make()
            if mine is not None and self._making.get(key) is mine:
                self.put(key, value)
            return value
        finally:
            if mine is not None:
                self._forget(key, mine)

    def _forget(self, key: KeyT, making: _Making[ValueT]) -> None:
        with self._lock:
            if self._making.get(key) is making:
                del self._making[key]

    def clear(self, where: Callable[[KeyT], bool] | None = None) -> int:
        """Drop the entries whose key ``where`` takes, all without it; return how many lived."""
        with self._lock:
            keys = [key for key in self._entries if where is None or where(key)]
            for key in keys:
                del self._entries[key]
            for key in [key for key in self._making if where is None or where(key)]:
                del self._making[key]
        return len(keys)


class _Making(Generic[ValueT]):
    """A value that is being made, and how many wait for it."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[ValueT]) -> None:
        self.task = task
        self.waiters = 0
