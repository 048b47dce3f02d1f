"""SFTP storage: objects are files on any SSH server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from datetime import datetime

from ..registry.provider import Call, operation
from . import sftp_protocol as sftp
from .base import (
    ObjectInfo,
    ObjectSource,
    StorageProvider,
    StorageStats,
    check_range,
    chunks_of,
)
from .errors import StorageError, StorageFullError
from .keys import check_key, check_prefix
from .sftp_config import SFTPConfig
from .sftp_errors import HostKeyChangedError, HostKeyUnknownError, explain
from .sftp_pool import Pool
from .sftp_protocol import StatusError, whole_seconds
from .sftp_transfer import Draft, open_file, read
from .sftp_tree import Tree
from .sftp_walk import walk

__all__ = ["HostKeyChangedError", "HostKeyUnknownError", "SFTPConfig", "SFTPStorage"]

CLEANING = 5.0
"""Seconds a call that failed may take to remove what it left; then that goes on by itself."""


class SFTPStorage(StorageProvider[SFTPConfig]):
    """
    Objects as files below ``root`` on an SFTP server.

    A file is written under a temporary name beside its place and renamed onto it, by the server's
    ``posix-rename``; ``overwrite=False`` makes a hard link there, which fails if anything is
    there. (A server that has neither is asked for a plain rename, which must not replace:
    replacing is then refused.) What is no regular file is no object, and a folder that is a
    symbolic link is not entered. ``a`` beside ``a/b`` cannot be.

    Times are whole seconds, as the protocol has them, and there are no ETags.
    """

    def __init__(self, config: SFTPConfig) -> None:
        super().__init__(config)
        self._pool = Pool(config)
        self._cleaning: set[asyncio.Task[None]] = set()

    async def _connect(self) -> None:
        await self._pool.open()

    async def _close(self) -> None:
        if self._cleaning:
            await asyncio.wait(self._cleaning, timeout=CLEANING)
        await self._pool.close()
        for task in self._cleaning:
            task.cancel()
        await asyncio.gather(*self._cleaning, return_exceptions=True)

    async def check_health(self) -> None:
        """See that the root is there: one round trip."""
        async with self._pool.tree() as tree:
            await tree.check_root()

    @property
    def sessions(self) -> tuple[int, int]:
        """How many connections are open, and how many SFTP sessions on them."""
        return self._pool.size

    # -- writing -------------------------------------------------------------------------

    @operation
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
        """See :meth:`StorageProvider.put`."""
        check_key(key)
        if content_type or metadata:
            raise self._unsupported("metadata", "a file has no place for it")
        seconds = None if modified is None else whole_seconds(modified)
        async with self._pool.tree() as tree, self._draft(tree, key) as draft:
            if isinstance(data, bytes):
                await draft.write(data)
            else:
                async with aclosing(chunks_of(data)) as chunks:
                    async for chunk in chunks:
                        await draft.write(chunk)
            return await draft.commit(overwrite, seconds)

    @contextlib.asynccontextmanager
    async def _draft(self, tree: Tree, key: str) -> AsyncGenerator[Draft, None]:
        draft = Draft(tree, key)
        try:
            try:
                await draft.open()
                yield draft
            finally:
                draft.end()
        except BaseException as error:
            try:  # before what was written is removed
                full = isinstance(error, StatusError) and await tree.is_full(error)
            finally:
                await self._clean(tree, draft)
            if full:
                raise StorageFullError(
                    f"No space is left for {key!r} on {self.config.place}. Free space or choose "
                    "another storage; what was stored before is untouched."
                ) from error
            raise

    async def _clean(self, tree: Tree, draft: Draft) -> None:
        """Remove what a put left, in this call if that is soon done, and else beside it."""
        task = asyncio.create_task(self._remove(tree, draft))
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)
        if tree.channel.is_open:
            await asyncio.wait([task], timeout=CLEANING)

    async def _remove(self, tree: Tree, draft: Draft) -> None:
        # What cannot be removed is never listed, and goes a day later.
        with contextlib.suppress(StatusError, StorageError):
            if tree.channel.is_open:
                with contextlib.suppress(StorageError):
                    await draft.discard()
            if not tree.channel.is_open:
                async with self._pool.tree() as other:
                    await draft.remove_from(other)

    @operation
    async def copy(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """See :meth:`StorageProvider.copy`; the server copies, where it can."""
        check_key(source)
        check_key(target)
        async with self._pool.tree() as tree:
            if source == target and overwrite:
                return await tree.info(source)
            handle, _ = await open_file(tree, source)
            try:
                async with self._draft(tree, target) as draft:
                    if sftp.COPY_DATA in tree.channel.extensions:
                        await draft.copy_from(handle)
                    else:
                        async with aclosing(read(tree, source)) as chunks:
                            async for chunk in chunks:
                                await draft.write(chunk)
                    return await draft.commit(overwrite)
            finally:
                tree.channel.close_handle(handle)

    @operation
    async def move(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """See :meth:`StorageProvider.move`; one rename."""
        check_key(source)
        check_key(target)
        async with self._pool.tree() as tree:
            return await tree.move(source, target, overwrite)

    @operation
    async def delete(self, key: str) -> None:
        """See :meth:`StorageProvider.delete`; folders left empty are removed."""
        check_key(key)
        async with self._pool.tree() as tree:
            await tree.delete(key)

    # -- reading -------------------------------------------------------------------------

    @operation
    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        """See :meth:`StorageProvider.get`."""
        chunks = [chunk async for chunk in self._read(key, start, end)]
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    @operation
    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """See :meth:`StorageProvider.stream`; reads the file that was open at the first step."""
        async with aclosing(self._read(key, start, end)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _read(self, key: str, start: int, end: int | None) -> AsyncGenerator[bytes, None]:
        check_key(key)
        check_range(start, end)
        async with self._pool.tree() as tree, aclosing(read(tree, key, start, end)) as chunks:
            async for chunk in chunks:
                yield chunk

    @operation
    async def stat(self, key: str) -> ObjectInfo:
        """See :meth:`StorageProvider.stat`."""
        check_key(key)
        async with self._pool.tree() as tree:
            return await tree.info(key)

    @operation
    async def exists(self, key: str) -> bool:
        """See :meth:`StorageProvider.exists`."""
        check_key(key)
        async with self._pool.tree() as tree:
            return await tree.find(key) is not None

    @operation
    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """See :meth:`StorageProvider.list`; reads a few folders ahead."""
        check_prefix(prefix)
        async with self._pool.tree() as tree, aclosing(walk(tree, prefix)) as items:
            async for item in items:
                yield item

    @operation
    async def stats(self) -> StorageStats:
        """See :meth:`StorageProvider.stats`; walks through all folders."""
        count = total = 0
        async with self._pool.tree() as tree:
            async with aclosing(walk(tree, "")) as items:
                async for item in items:
                    count += 1
                    total += item.size
            return StorageStats(count, total, await tree.free_bytes())

    # -- errors --------------------------------------------------------------------------

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        """See :meth:`StorageProvider._translate`; statuses of the server have no other meaning."""
        if isinstance(error, StatusError):
            return explain(error, call, self.config.place)
        return super()._translate(error, call)
