"""SQLite storage: objects, searchable and in transactions, in one database file."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from pydantic import Field, ValidationInfo, field_validator

from ..registry.provider import Call, ProviderConfig, home_of, name_of
from . import sqlite_jobs as jobs
from .base import (
    Delete,
    ObjectInfo,
    ObjectSource,
    Put,
    StorageProvider,
    StorageStats,
    check_range,
    chunks_of,
    timestamp,
)
from .errors import StorageError
from .keys import check_key, check_prefix
from .sqlite_jobs import CHUNK_BYTES
from .sqlite_schema import can_search, explain, open_reader, open_writer, sweep
from .sqlite_worker import SQLiteWorker

__all__ = ["SQLiteConfig", "SQLiteStorage"]


class SQLiteConfig(ProviderConfig):
    """Where the database is and what it may lose in a power cut."""

    aliases: ClassVar[Mapping[str, str]] = {"database_path": "path"}

    path: Path = Field(default=cast("Path", None), validate_default=True)
    """The database file; folder and file are made when missing, the file for this account only.
    Must be on a local disk. Default: ``storage/<provider name>.sqlite3`` below Purveyor's home."""

    synchronous: Literal["off", "normal", "full", "extra"] = "normal"
    """When writes reach the disk. With every choice a crash of the process alone loses nothing.
    ``normal``: a power cut may lose the last writes, never the database. ``full``: what ``put``
    returned from survives a power cut, at the price of a disk flush for each group of writes.
    ``extra``: ``full``, also where a power cut may undo changes of folders. ``off``: a power cut
    may destroy the database."""

    busy_timeout: float = Field(default=5.0, gt=0, le=3600)
    """Seconds to wait for another process that writes."""

    @field_validator("path", mode="before")
    @classmethod
    def _below_home(cls, path: Any, info: ValidationInfo) -> Any:
        if path is None:
            return home_of(info) / "storage" / f"{name_of(info, 'sqlite')}.sqlite3"
        return path

    @field_validator("path")
    @classmethod
    def _is_file(cls, path: Path) -> Path:
        if path.name in ("", "..") or path.name.startswith(":memory:"):
            raise ValueError("give the path of a file; a database in memory cannot be shared")
        return path.expanduser().absolute()


class SQLiteStorage(StorageProvider[SQLiteConfig]):
    """
    Objects in one SQLite database.

    Several processes may use it at once. One thread writes and commits what waits together,
    another reads; readers and the writer never wait for each other. While a large object is
    streamed, the log beside the file grows with every write: close streams you do not finish.
    """

    def __init__(self, config: SQLiteConfig) -> None:
        super().__init__(config)
        self._path = config.path
        self._open_reader = partial(open_reader, config.path, config.busy_timeout)
        self._writer = SQLiteWorker(
            "purveyor-sqlite-writer",
            partial(open_writer, config.path, config.synchronous, config.busy_timeout),
            writes=True,
            idle=sweep,
        )
        self._reader = SQLiteWorker("purveyor-sqlite-reader", self._open_reader, writes=False)
        self._uploads: set[int] = set()
        self._snapshots: set[jobs.Snapshot] = set()
        # Dropped unclosed, as when its event loop is gone, it must not leave its threads behind.
        for worker in (self._reader, self._writer):
            weakref.finalize(self, worker.abandon)

    async def _connect(self) -> None:
        try:
            await self._writer.start()
            await self._reader.start()
        except (sqlite3.Error, OSError) as error:
            raise explain(error, self._path, "Cannot open the database") or error from error
        self._file = _identity(self._path)

    async def _close(self) -> None:
        for snapshot in self._snapshots:
            self._reader.post(snapshot.close)
        for version in self._uploads:
            self._writer.post(partial(jobs.abandon, version=version))
        try:
            await self._reader.stop()
        finally:
            await self._writer.stop()  # the last connection: closing it empties the log

    async def check_health(self) -> None:
        """Read the database, and see that its file is still the one that was opened."""
        await self._reader.run(jobs.ping)
        if _identity(self._path) != self._file:
            raise StorageError(
                f"The database file {self._path} was removed or replaced while it was in use. "
                "Restore it, then restart: what is written now may be lost."
            )

    async def put(
        self,
        key: str,
        data: ObjectSource,
        *,
        overwrite: bool = True,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        modified: datetime | None = None,
    ) -> ObjectInfo:
        check_key(key)
        store = partial(
            jobs.store,
            key=key,
            overwrite=overwrite,
            content_type=content_type,
            metadata=jobs.dump_metadata(metadata),
            modified=None if modified is None else timestamp(modified),
        )
        if isinstance(data, bytes) and len(data) <= CHUNK_BYTES:
            return await self._writer.run(partial(store, size=len(data), content=data))
        async with aclosing(_blocks_of(data)) as blocks:
            first = await anext(blocks, b"")
            if len(first) < CHUNK_BYTES:
                return await self._writer.run(partial(store, size=len(first), content=first))
            if not overwrite:  # a cheap early answer; the one that counts comes with the last step
                await self._reader.run(partial(jobs.refuse_existing, key=key))
            return await self._upload(store, first, blocks)

    async def _upload(
        self, store: partial[ObjectInfo], block: bytes, blocks: AsyncIterator[bytes]
    ) -> ObjectInfo:
        """Write chunk by chunk, each a job of its own, and make the object visible at the end."""
        version = jobs.new_version()
        self._uploads.add(version)
        try:
            number = 0
            await self._writer.run(partial(jobs.add_chunk, version=version, number=0, data=block))
            size = len(block)
            async for block in blocks:
                number += 1
                await self._writer.run(
                    partial(jobs.add_chunk, version=version, number=number, data=block)
                )
                size += len(block)
            return await self._writer.run(partial(store, size=size, version=version))
        except BaseException:
            # Not awaited: a cancelled caller shall not wait. The queue keeps the order.
            self._writer.post(partial(jobs.abandon, version=version))
            raise
        finally:
            self._uploads.discard(version)

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        check_key(key)
        data = await self._reader.run(lambda connection: jobs.read(connection, key, start, end))
        if data is not None:
            return data
        return b"".join([block async for block in self._read_blocks(key, start, end)])

    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes]:
        check_key(key)
        data = await self._reader.run(
            partial(jobs.read, key=key, start=start, end=end, limit=CHUNK_BYTES)
        )
        if data is None:
            async with aclosing(self._read_blocks(key, start, end)) as blocks:
                async for block in blocks:
                    yield block
        elif data:
            yield data

    async def _read_blocks(self, key: str, start: int, end: int | None) -> AsyncGenerator[bytes]:
        """Read in blocks, from a connection of its own that keeps seeing one version."""
        snapshot = jobs.Snapshot(self._open_reader)
        self._snapshots.add(snapshot)
        try:
            version, size, data = await self._reader.run(partial(snapshot.open, key=key))
            check_range(start, end, size)
            end = size if end is None else min(end, size)
            if data is not None:
                yield data[start:end]
                return
            for part in jobs.parts_of(start, end):
                yield await self._reader.run(partial(snapshot.read, version=version, part=part))
        finally:
            self._snapshots.discard(snapshot)
            self._reader.post(snapshot.close)

    async def stat(self, key: str) -> ObjectInfo:
        check_key(key)
        return await self._reader.run(partial(jobs.stat, key=key))

    async def exists(self, key: str) -> bool:
        check_key(key)
        return await self._reader.run(partial(jobs.exists, key=key))

    async def delete(self, key: str) -> None:
        check_key(key)
        await self._writer.run(partial(jobs.delete, key=key))

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo]:
        start = check_prefix(prefix)
        while True:
            page = await self._reader.run(partial(jobs.page, start=start, prefix=prefix))
            for info in page:
                yield info
            if len(page) < jobs.PAGE_ROWS:
                return
            start = page[-1].key + "\0"  # the least key after it

    async def copy(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        copy = partial(jobs.copy, source=check_key(source), target=check_key(target))
        return await self._writer.run(partial(copy, overwrite=overwrite))

    async def move(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        move = partial(jobs.move, source=check_key(source), target=check_key(target))
        return await self._writer.run(partial(move, overwrite=overwrite))

    async def stats(self) -> StorageStats:
        count, size = await self._reader.run(jobs.totals)
        usage = await asyncio.to_thread(shutil.disk_usage, self._path.parent)
        return StorageStats(count, size, usage.free)

    async def search(self, query: str, *, limit: int = 100) -> Sequence[ObjectInfo]:
        if not await self._reader.run(can_search):
            raise self._unsupported("search", "this Python's SQLite was built without FTS5")
        words = query.replace("\0", " ").split()
        if not words or limit < 1:
            return []
        while await self._writer.run(jobs.index):
            pass
        # A quoted word is never syntax, whatever it holds; the star lets it match as a beginning.
        match = " ".join('"{}"*'.format(word.replace('"', '""')) for word in words)
        return await self._reader.run(partial(jobs.search, match=match, limit=limit))

    async def apply(self, changes: Sequence[Put | Delete]) -> None:
        for change in changes:
            check_key(change.key)
        if changes:
            await self._writer.run(partial(jobs.apply, changes=tuple(changes)))

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        if isinstance(error, sqlite3.Error):
            what = f"{call.operation} on storage {call.provider_name!r} failed"
            return explain(error, self._path, what, call.provider_name)
        return super()._translate(error, call)


async def _blocks_of(data: ObjectSource) -> AsyncGenerator[bytes]:
    """Iterate over a source in blocks of exactly a chunk's size, but for the last."""
    rest = bytearray()
    source = chunks_of(data, CHUNK_BYTES)
    async with aclosing(source) as chunks:
        async for chunk in chunks:
            if not rest and len(chunk) == CHUNK_BYTES:
                yield chunk
                continue
            rest += chunk
            while len(rest) >= CHUNK_BYTES:
                yield bytes(rest[:CHUNK_BYTES])
                del rest[:CHUNK_BYTES]
    if rest:
        yield bytes(rest)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another that took its place, None when it is gone."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
