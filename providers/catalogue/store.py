"""The database: connections, transactions, and what can go wrong with them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, func, select, text, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ..registry.daemon import in_daemon_thread
from ..registry.errors import InvalidStateError, RegistryError
from ..registry.extras import import_extra
from . import migrations
from .address import Address
from .errors import CatalogueError, CatalogueUnavailableError
from .model import revision

__all__ = ["CHANNEL", "Store"]

CHANNEL = "purveyor_catalogue"
"""Where PostgreSQL announces changes: family and name as a JSON list."""

_BUSY = 15.0
"""Seconds to wait for another process that is writing the file."""
_MIGRATING = 7_094_315_821_604
"""The advisory lock of who brings the database to its present form; any number will do."""
_UNUSABLE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


class Store:
    """
    An open catalogue database, which belongs to the event loop that runs when it is made.

    Args:
        address: Where it is. A file is made if it is not there.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.loop = asyncio.get_running_loop()
        self._is_server = address.path is None
        self._engine = _engine(address)
        # Of a file, who reads has a connection of his own: he need not wait for who writes.
        self._reading = self._engine if self._is_server else _engine(address)
        self._opening = asyncio.Lock()
        self._is_open = False

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection]:
        """
        Give a transaction that reads.

        Raises:
            CatalogueUnavailableError: The database cannot be reached or read.
            CatalogueError: It is none of ours, or a newer release's.
        """
        with self._explained():
            await self._open()
            async with self._reading.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[tuple[AsyncConnection, int]]:
        """
        Give a transaction that writes, and its number; there is only one at a time.

        It ends with the block: committed, or undone if the block raises.

        Raises:
            RegistryError: As :meth:`reading`.
        """
        with self._explained():
            await self._open()
            async with self._transaction() as connection:
                taken = update(revision).values(number=revision.c.number + 1)
                number = await connection.scalar(taken.returning(revision.c.number))
                yield connection, number or 0

    @asynccontextmanager
    async def writing_aside(self) -> AsyncGenerator[AsyncConnection]:
        """
        Give a transaction that writes what is no registration: nobody else need look anew.

        Raises:
            RegistryError: As :meth:`reading`.
        """
        with self._explained():
            await self._open()
            async with self._transaction() as connection:
                yield connection

    async def revision(self) -> int:
        """Return how many changes there were."""
        async with self.reading() as connection:
            return await connection.scalar(select(revision.c.number)) or 0

    async def announce(self, connection: AsyncConnection, family: str, name: str) -> None:
        """Tell the other replicas, if there is a way, when the transaction is committed."""
        if self._is_server:
            await connection.execute(select(func.pg_notify(CHANNEL, json.dumps([family, name]))))

    async def close(self) -> None:
        """Close all connections."""
        is_here = self.loop is asyncio.get_running_loop()  # else they ended with their loop
        for engine in {self._engine, self._reading}:
            await engine.dispose(close=is_here)

    def check_loop(self) -> bool:
        """
        Tell whether the store may be used on the running event loop; False: its own has ended.

        Raises:
            InvalidStateError: It belongs to another one, which is there still.
        """
        if self.loop is asyncio.get_running_loop():
            return True
        if self.loop.is_closed():
            return False
        raise InvalidStateError(
            f"The {self.address.shown} is open on another event loop. Use it there, or close it "
            "there first (`await catalogue.close()`)."
        )

    # -- inside --------------------------------------------------------------------------

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[AsyncConnection]:
        async with self._engine.execution_options(purveyor_writes=True).begin() as connection:
            yield connection

    async def _open(self) -> None:
        """Bring the database to its present form, at the first use."""
        if self._is_open:
            return
        async with self._opening:
            if self._is_open:
                return
            if self.address.path is not None:
                await in_daemon_thread(_prepare, self.address.path)
            async with self._engine.connect() as connection:
                version = await connection.run_sync(migrations.found)
            if version != migrations.HEAD:
                import_extra("alembic", extra="catalogue")
                async with self._transaction() as connection:
                    if self._is_server:
                        await connection.execute(select(func.pg_advisory_xact_lock(_MIGRATING)))
                    await connection.run_sync(migrations.upgrade, self.address.shown)
            self._is_open = True

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Turn what drivers raise into errors that say what to do."""
        try:
            yield
        except RegistryError:
            raise
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise self._error(error) from error
        except Exception as error:
            if not _is_asyncpg(error):  # who connects gets the driver's own, not SQLAlchemy's
                raise
            raise self._error(error) from error

    def _error(self, error: Exception) -> RegistryError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        code = getattr(cause, "sqlite_errorcode", None)
        reason = str(cause).strip() or type(cause).__name__
        reason = reason.removeprefix("<class 'asyncpg.exceptions.").replace("'>: ", ": ", 1)
        if code is not None and code & 0xFF in _UNUSABLE:
            return CatalogueError(
                f"The {self.address.shown} cannot be used: {reason}. Name another file in "
                "PURVEYOR_CATALOGUE__URL, or put the right one there."
            )
        return CatalogueUnavailableError(
            f"The {self.address.shown} cannot be used at the moment: {reason}. Look at "
            "PURVEYOR_CATALOGUE__URL, and whether the database may be reached and written."
        )


def _is_asyncpg(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] == "asyncpg"


def _engine(address: Address) -> AsyncEngine:
    if address.path is None:
        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=address.connect,
            pool_size=5,
            max_overflow=0,
            pool_pre_ping=True,
            pool_use_lifo=True,
            hide_parameters=True,
        )
    import_extra("aiosqlite", extra="catalogue")
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(address.path)),
        connect_args={"timeout": _BUSY},
        pool_size=1,  # who waits here waits in turn; SQLite itself lets luck decide
        max_overflow=0,
        pool_timeout=_BUSY,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "connect", _begin_nothing)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _prepare(path: Path) -> None:
    """Make the file, if it is not there, and find out whether it is of use."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Or it would get the mode that the umask says. Never opened so when it is there: closing it
    # would drop the locks that SQLite has on it in this process.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    # Not through aiosqlite: where that fails to connect, its thread may outlive the event loop.
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY)) as connection:
        deadline = time.monotonic() + _BUSY
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # Of several that change the mode at once SQLite tells one so, and lets none wait.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.01)


def _begin_nothing(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver begins no transaction by itself


def _begin(connection: Any) -> None:
    writes = connection.get_execution_options().get("purveyor_writes")
    connection.execute(text("BEGIN IMMEDIATE" if writes else "BEGIN"))
