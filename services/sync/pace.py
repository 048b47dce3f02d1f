"""A limit on how fast something goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

__all__ = ["Pace"]

BURST = 0.1
"""Seconds whose share may be taken at once after a pause."""


class Pace:
    """
    Lets through so much a second, for any number of tasks of one event loop together.

    Args:
        rate: Units a second; None: no limit.
        clock: Gives seconds.
    """

    def __init__(self, rate: float | None, clock: Callable[[], float] = monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._next = clock()

    async def take(self, amount: float = 1) -> None:
        """Wait for the turn of ``amount`` units."""
        if self._rate is None:
            return
        now = self._clock()
        turn = max(self._next, now - BURST)
        self._next = turn + amount / self._rate
        if turn > now:
            await asyncio.sleep(turn - now)
