"""Hearing of what other replicas change: LISTEN and NOTIFY of PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import suppress
from typing import ClassVar

from .address import Address

__all__ = ["Follower"]

logger = logging.getLogger(__name__)

Key = tuple[str, str]


class Follower:
    """
    Listens on a connection of its own, and takes in what it hears of.

    A connection that is lost, or that does not answer any more, is replaced by another; then, as at
    the beginning, everything is compared, since what was announced meanwhile was not heard.

    Args:
        address: Of the server.
        take_in: Takes in what changed, of the families and names given or of all (None); False if
            it could not, and is to be asked again.
    """

    heartbeat: ClassVar[float] = 5.0
    """Seconds between two questions whether the connection is there still, and for the answer."""
    longest_wait: ClassVar[float] = 15.0
    """Seconds between two attempts at most."""

    def __init__(
        self, address: Address, take_in: Callable[[Collection[Key] | None], Awaitable[bool]]
    ) -> None:
        self._address = address
        self._take_in = take_in
        self._heard: set[Key] = set()
        self._everything = False
        self._news = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._listen(), name="catalogue listener"),
            loop.create_task(self._follow(), name="catalogue follower"),
        ]

    async def close(self) -> None:
        """End both."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _listen(self) -> None:
        wait = 0.0
        told = False
        while True:
            try:
                async for _ in self._beats():
                    if told:
                        logger.info("The %s answers again", self._address.shown)
                    wait, told = 0.0, False
            except Exception as error:  # whatever it is, the next attempt may be better
                if not told:
                    reason = str(error).strip() or type(error).__name__
                    logger.warning(
                        "Lost the %s: %s; what is known of it stays in force, and it is tried "
                        "again",
                        self._address.shown,
                        reason,
                    )
                told = True
            await asyncio.sleep(wait)
            wait = min(max(2 * wait, 0.1), self.longest_wait)

    async def _beats(self) -> AsyncGenerator[None]:
        """Give a turn at once and at every heartbeat, until the connection is lost."""
        from .store import CHANNEL

        connection = await self._address.connect()
        lost = asyncio.Event()

        def on_end(_: object) -> None:
            lost.set()

        connection.add_termination_listener(on_end)
        try:
            await connection.add_listener(CHANNEL, self._hear)
            self._tell(None)
            while not lost.is_set():
                yield
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.heartbeat):
                        await lost.wait()
                if not lost.is_set():
                    await connection.fetchval("SELECT 1", timeout=self.heartbeat)
            raise ConnectionResetError("the connection was closed by the server")
        finally:
            connection.terminate()

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        try:
            family, name = json.loads(str(payload))
        except (ValueError, TypeError):  # somebody else's: see what it may have been
            self._tell(None)
        else:
            self._tell((str(family), str(name)))

    def _tell(self, key: Key | None) -> None:
        if key is None:
            self._everything = True
        else:
            self._heard.add(key)
        self._news.set()

    async def _follow(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            keys, self._heard = self._heard, set[Key]()
            everything, self._everything = self._everything, False
            try:
                done = await self._take_in(None if everything else keys)
            except Exception:  # whatever it is, the next time may be better
                logger.exception("Taking in changes of the %s failed", self._address.shown)
                done = False
            if not done:
                self._everything = True
                self._news.set()
                await asyncio.sleep(1)
