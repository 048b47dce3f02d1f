"""Connections to PostgreSQL: pooled, and used for one transaction at a time, within time limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from .errors import DataSourceTimeoutError
from .postgresql_config import PostgreSQLConfig
from .postgresql_errors import is_lost

__all__ = ["Session", "Sessions"]

GRACE = 2.0
"""Seconds by which we outwait the server, which knows better how long its work took."""
GIVE_BACK_TIMEOUT = 5.0
"""Seconds in which a connection must be as good as new, or it is closed."""

SETTINGS = {
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
"""How values are written as text, whatever the server or the role prefers."""

WATCH = """;
    SELECT pg_catalog.set_config(name, '2s', true) FROM pg_catalog.pg_settings
     WHERE name OPERATOR(pg_catalog.=) 'client_connection_check_interval'
       AND pg_catalog.strpos(pg_catalog.version(), 'linux') OPERATOR(pg_catalog.>) 0
"""
"""Has the server end a statement without a time limit when its client is gone. Servers before
version 14 have no such setting, and those on other systems may refuse it."""


@dataclass(frozen=True, slots=True)
class Session:
    """A connection within a transaction, and the patience with it."""

    connection: Any  # asyncpg's pooled connection; the library has no type stubs
    _limit: asyncio.Timeout
    _patience: float

    def progressed(self) -> None:
        """Start the patience anew: something came."""
        now, due = asyncio.get_running_loop().time(), self._limit.when()
        if due is not None and due - now < 0.95 * self._patience:  # cheap, however often it comes
            self._limit.reschedule(now + self._patience)


class Sessions:
    """
    A pool of connections, opened when needed.

    One that the server has closed meanwhile is replaced unseen: by the pool, or, when it is found
    out only by the first statement on it, here.
    """

    def __init__(self, asyncpg: Any, config: PostgreSQLConfig) -> None:
        self._asyncpg = asyncpg
        self._config = config
        self._pool: Any = asyncpg.create_pool(
            min_size=0, max_size=config.pool_size, reset=_leave, **config.connect_arguments()
        )
        self._returning: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Make the pool usable, which connects to nothing yet."""
        await self._pool

    async def close(self) -> None:
        """Close all connections; those in use have a moment to come back."""
        try:
            async with asyncio.timeout(GIVE_BACK_TIMEOUT):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def ping(self) -> None:
        """Ask for the number 1."""
        connection = await self._begin("SELECT 1")
        await self._pool.release(connection)

    @asynccontextmanager
    async def transaction(
        self, *, catalogue: bool = False, read_only: bool = True, streaming: bool = False
    ) -> AsyncGenerator[Session, None]:
        """
        Give a connection within a transaction, which is rolled back unless it may write.

        Args:
            catalogue: Names mean those of the system catalogue, whatever the role's search path.
            read_only: Nothing can be changed.
            streaming: ``query_timeout`` is how long it may stand still, not how long it takes.

        Raises:
            DataSourceTimeoutError: It takes, or stands still, too long.
        """
        patience = self._config.query_timeout
        begin = _begin(read_only, None if streaming else patience, catalogue)
        connection = await self._begin(begin + WATCH if streaming else begin)
        limit = asyncio.timeout(patience + GRACE)
        try:
            try:
                async with limit:
                    yield Session(connection, limit, patience + GRACE)
                    if not read_only:
                        await connection.execute("COMMIT")
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise DataSourceTimeoutError(
                    f"{self._config.place} did not answer for {patience:g} s. Try again, ask for "
                    "less, or raise query_timeout."
                ) from error
        finally:
            returning = asyncio.ensure_future(self._give_back(connection))
            self._returning.add(returning)  # also if nobody can wait for it any more
            returning.add_done_callback(self._returning.discard)
            await asyncio.shield(returning)

    async def _begin(self, statement: str) -> Any:
        while True:
            reused = self._pool.get_idle_size() > 0
            connection = await self._acquire()
            try:
                async with asyncio.timeout(self._config.connect_timeout):
                    await connection.execute(statement)
                return connection
            except BaseException as error:
                await self._discard(connection)
                if isinstance(error, TimeoutError):
                    raise self._silence() from error
                if not (reused and is_lost(error)):
                    raise
            # Each turn rids the pool of a connection that died while it was idle.

    async def _acquire(self) -> Any:
        try:
            return await self._pool.acquire()
        except TimeoutError as error:
            raise self._silence() from error

    def _silence(self) -> DataSourceTimeoutError:
        return DataSourceTimeoutError(
            f"{self._config.place} did not answer within {self._config.connect_timeout:g} s. Check "
            "that it is running and can be reached, or raise connect_timeout."
        )

    async def _give_back(self, connection: Any) -> None:
        """Undo all a transaction left, also settings and locks of the session; or close it."""
        try:
            async with asyncio.timeout(GIVE_BACK_TIMEOUT):  # asyncpg waits for a cancellation too
                await connection.execute(f"ROLLBACK;{connection.get_reset_query()}")
            await self._pool.release(connection)
        except BaseException as error:  # whatever it is: such a connection is of no use to anybody
            await self._discard(connection)
            if not isinstance(error, Exception):
                raise

    async def _discard(self, connection: Any) -> None:
        with suppress(self._asyncpg.InterfaceError):  # closed already, it has left the pool
            connection.terminate()
        await self._pool.release(connection)


async def _leave(_: object) -> None:
    """Reset nothing when a connection is released: it was done with the rollback."""


def _begin(read_only: bool, timeout: float | None, catalogue: bool) -> str:
    settings = SETTINGS | {"statement_timeout": str(round((timeout or 0) * 1000))}
    if catalogue:
        settings["search_path"] = "pg_catalog"
    calls = ", ".join(
        f"pg_catalog.set_config('{name}', '{value}', true)" for name, value in settings.items()
    )
    # A transaction in which a query was run can no longer be made to write, and this is one.
    return f"BEGIN READ {'ONLY' if read_only else 'WRITE'}; SELECT {calls}"
