"""The connections of an SFTP storage, and the sessions on them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..registry.errors import RegistryError
from .base import reason_of
from .errors import StorageConnectionError, StorageError, StorageTimeoutError, not_connected
from .sftp_channel import Channel, Line
from .sftp_config import SFTPConfig
from .sftp_login import Login
from .sftp_tree import Tree

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection

__all__ = ["Pool"]

logger = logging.getLogger(__name__)

ENOUGH = 6
"""Operations on one session from which another is opened."""
WINDOW = 8 * 1024 * 1024
"""Bytes a server may send before it is told that they were read."""
PAUSE = 30.0
"""Seconds until more is opened after that failed."""
CLOSING = 5.0
"""Seconds a connection may take to close."""


@dataclass(eq=False)
class _Connection:
    connection: SSHClientConnection
    line: Line
    trees: list[Tree] = field(default_factory=list[Tree])

    def is_open(self) -> bool:
        self.trees = [tree for tree in self.trees if tree.channel.is_open]
        return not self.connection.is_closed()


class Pool:
    """
    Gives each operation the session with least to do; opens more as they fill, and new ones in
    place of those that break.
    """

    def __init__(self, config: SFTPConfig) -> None:
        self._config = config
        self._login = Login(config)
        self._connections: list[_Connection] = []
        self._growing: asyncio.Task[Tree] | None = None
        self._grow_after = 0.0
        self._closed = True

    @property
    def size(self) -> tuple[int, int]:
        """How many connections are open, and how many sessions on them."""
        self._forget_closed()
        return len(self._connections), sum(len(one.trees) for one in self._connections)

    @contextlib.asynccontextmanager
    async def tree(self) -> AsyncGenerator[Tree, None]:
        """Lend the files as one session shows them; it may be lent to others too."""
        tree = self._least_busy()
        if tree is None:
            tree = await self._grow()
        elif tree.channel.load >= ENOUGH:
            self._grow_beside()
        tree.channel.load += 1
        try:
            yield tree
        finally:
            tree.channel.load -= 1

    async def open(self) -> None:
        """Make the first connection."""
        self._closed = False
        async with self.tree():
            pass

    async def close(self) -> None:
        """Close everything; what is under way fails."""
        self._closed = True
        growing, self._growing = self._growing, None
        if growing is not None:
            growing.cancel()
            await asyncio.wait([growing])
        connections, self._connections = self._connections, []
        for one in connections:
            one.connection.close()
        for one in connections:
            try:
                async with asyncio.timeout(CLOSING):
                    await one.connection.wait_closed()
            except TimeoutError:
                one.connection.abort()

    def _least_busy(self) -> Tree | None:
        if self._closed:
            raise not_connected()
        best: Tree | None = None
        for one in self._connections:
            for tree in one.trees:
                channel = tree.channel
                if channel.is_open and (best is None or channel.load < best.channel.load):
                    best = tree
        return best

    # -- growing -------------------------------------------------------------------------

    def _grow_beside(self) -> None:
        """Open another session while the present ones go on."""
        now = asyncio.get_running_loop().time()
        if self._growing is None and now >= self._grow_after and self._room() is not False:
            self._start_growing()

    async def _grow(self) -> Tree:
        """Return a new session; all who wait at once wait for the same."""
        growing = self._growing or self._start_growing()
        return await asyncio.shield(growing)

    def _start_growing(self) -> asyncio.Task[Tree]:
        self._growing = growing = asyncio.create_task(self._open())
        growing.add_done_callback(self._grown)
        return growing

    def _grown(self, growing: asyncio.Task[Tree]) -> None:
        if self._growing is growing:
            self._growing = None
        if not growing.cancelled() and (error := growing.exception()) is not None:
            self._grow_after = asyncio.get_running_loop().time() + PAUSE
            logger.debug("No further session at %s: %s", self._config.place, reason_of(error))

    def _forget_closed(self) -> None:
        self._connections = [one for one in self._connections if one.is_open()]

    def _room(self) -> _Connection | bool:
        """Return the connection to open a session on; True: a new one; False: all are full."""
        self._forget_closed()
        if len(self._connections) < self._config.connections:
            return True
        emptiest = min(self._connections, key=lambda one: len(one.trees))
        return emptiest if len(emptiest.trees) < self._config.channels else False

    async def _open(self) -> Tree:
        room = self._room()
        if isinstance(room, bool):
            connection = await self._login.connect()
            room = _Connection(connection, Line(self._config.place, connection.abort))
            self._warn_of(connection)
        try:
            tree = await self._session(room)
        except BaseException:
            if not room.trees:
                room.connection.abort()
            raise
        room.trees.append(tree)
        if room not in self._connections:
            self._connections.append(room)
        return tree

    async def _session(self, one: _Connection) -> Tree:
        place = self._config.place
        channel = Channel(one.line, self._config.request_timeout)
        try:
            async with asyncio.timeout(self._config.connect_timeout):
                await one.connection.create_session(  # pyright: ignore[reportUnknownMemberType]
                    lambda: channel,  # pyright: ignore[reportArgumentType]
                    subsystem="sftp",
                    encoding=None,
                    window=WINDOW,
                )
                await channel.start()
                return await Tree.open(channel, self._config.root, place)
        except BaseException as error:
            channel.abort()
            if isinstance(error, TimeoutError) and not isinstance(error, RegistryError):
                raise StorageTimeoutError(
                    f"{place} opened no SFTP session within {self._config.connect_timeout:g} s. "
                    "Try again, or raise connect_timeout."
                ) from None
            lost = type(error) is StorageConnectionError
            if not isinstance(error, Exception) or (isinstance(error, StorageError) and not lost):
                raise
            raise StorageConnectionError(
                f"{place} opens no SFTP session: {reason_of(error)}. See that the server offers "
                "SFTP (for OpenSSH: Subsystem sftp) and allows one more (MaxSessions)."
            ) from error

    def _warn_of(self, connection: SSHClientConnection) -> None:
        if not self._config.host_key_checking:
            key = connection.get_server_host_key()
            logger.warning(
                "The host key of %s was not checked, for host_key_checking is off: %s. To have it "
                "checked, set host_key to it.",
                self._config.place,
                "none" if key is None else key.get_fingerprint(),
            )
