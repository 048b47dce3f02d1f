"""SMB storage: objects are files on a share of a Windows or Samba server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import TypeVar, TypeVarTuple

from ..registry.extras import import_extra
from ..registry.provider import Call, operation
from . import smb_messages as messages
from .base import (
    ObjectInfo,
    ObjectSource,
    StorageProvider,
    StorageStats,
    check_range,
    chunks_of,
    timestamp,
)
from .errors import not_connected
from .keys import check_prefix
from .smb_config import SMBConfig
from .smb_errors import explain
from .smb_files import SMALL, Draft, Reader, get_small, put_small
from .smb_link import Link
from .smb_names import check_path
from .smb_tree import SMBTree, info_of
from .smb_walk import walk
from .threads import Threads

__all__ = ["SMBConfig", "SMBStorage"]

ArgsT = TypeVarTuple("ArgsT")
ResultT = TypeVar("ResultT")

_PAGE = 500


class SMBStorage(StorageProvider[SMBConfig]):
    """
    Objects as files below ``root`` on a share.

    A file is written under a temporary name beside its place and renamed onto it by the server.
    ``a`` beside ``a/b`` cannot be, nor can keys that differ only in case, on a server that takes
    them for one.

    A call that is cancelled ends when the thread that works for it has ended its step, after
    ``request_timeout`` at the latest: what was asked happened whole or not at all, and nothing
    happens afterwards.
    """

    def __init__(self, config: SMBConfig) -> None:
        super().__init__(config)
        self._threads: Threads | None = None
        self._opened_tree: SMBTree | None = None

    async def _connect(self) -> None:
        import_extra("smbprotocol", extra="smb")
        self._threads = Threads(self.config.threads, "purveyor-smb")
        tree = self._opened_tree = SMBTree(self.config)
        # Dropped unclosed, as when its event loop is gone, it must not leave its threads behind.
        weakref.finalize(self, _abandon, self._threads, tree.reading, tree.writing)
        await self._run(tree.open_root)

    async def _close(self) -> None:
        threads, self._threads = self._threads, None
        tree, self._opened_tree = self._opened_tree, None
        if threads is None or tree is None:
            return
        links = tree.reading, tree.writing
        for link in links:  # steps under way end now, and the server drops what they had open
            link.abort()
        for link in links:
            threads.start(link.release).add_done_callback(lambda done: done.exception())
        with contextlib.suppress(TimeoutError):  # one that still connects is a daemon
            async with asyncio.timeout(self.config.connect_timeout):
                await threads.end()

    async def check_health(self) -> None:
        """See that the root can be listed."""
        await self._run(self._tree.check)

    @property
    def _tree(self) -> SMBTree:
        if self._opened_tree is None:
            raise not_connected()
        return self._opened_tree

    async def _run(self, function: Callable[[*ArgsT], ResultT], *args: *ArgsT) -> ResultT:
        if self._threads is None:
            raise not_connected()
        return await self._threads.run(function, *args)

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
        check_path(key)
        if content_type or metadata:
            raise self._unsupported("metadata", "a file has no place for it")
        time = None
        if modified is not None:
            timestamp(modified)
            time = messages.as_filetime(modified)
        if isinstance(data, bytes | bytearray | memoryview):
            view = memoryview(data).cast("B")
            if len(view) <= SMALL:
                return await self._run(put_small, self._tree, key, view, overwrite, time)
        async with self._draft(key) as draft, contextlib.aclosing(chunks_of(data)) as chunks:
            async for chunk in chunks:
                await self._run(draft.write, chunk)
            return await self._run(draft.commit, overwrite, time)

    @contextlib.asynccontextmanager
    async def _draft(self, key: str, link: Link | None = None) -> AsyncGenerator[Draft, None]:
        draft = Draft(self._tree, key, link)
        try:
            yield draft
        finally:
            if self._threads is not None:  # or the server has dropped it
                await self._run(draft.discard)

    @operation
    async def copy(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """See :meth:`StorageProvider.copy`; the server copies."""
        check_path(target)
        async with self._reader(source) as reader:
            found = reader.found
            if source == target and overwrite:
                return info_of(source, found.size, found.modified, found.number)
            key, copied = await self._run(reader.resume_key), 0
            # A server copies between files of one connection.
            async with self._draft(target, self._tree.reading) as draft:
                while copied < found.size:
                    copied += await self._run(draft.copy_from, key, copied, found.size)
                return await self._run(draft.commit, overwrite)

    @operation
    async def move(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """See :meth:`StorageProvider.move`; one rename."""
        check_path(source)
        return await self._run(self._tree.move, source, check_path(target), overwrite)

    @operation
    async def delete(self, key: str) -> None:
        """See :meth:`StorageProvider.delete`; folders left empty are removed."""
        await self._run(self._tree.delete, check_path(key))

    # -- reading -------------------------------------------------------------------------

    @operation
    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        """See :meth:`StorageProvider.get`."""
        check_range(start, end)
        data = await self._run(get_small, self._tree, check_path(key), start, end)
        if data is not None:
            return data
        whole = io.BytesIO()  # which gives its bytes away without another copy
        async with self._reader(key, start, end) as reader:
            while reader.left:
                await self._run(reader.read_into, whole)
        return whole.getvalue()

    @operation
    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """See :meth:`StorageProvider.stream`; reads the file that was open at the first step."""
        async with self._reader(key, start, end) as reader:
            while reader.left:
                yield await self._run(reader.read)

    @contextlib.asynccontextmanager
    async def _reader(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[Reader, None]:
        check_range(start, end)
        reader = Reader(self._tree, check_path(key), start, end)
        try:
            await self._run(reader.open)
            yield reader
        finally:
            if self._threads is not None:
                await self._run(reader.close)

    @operation
    async def stat(self, key: str) -> ObjectInfo:
        """See :meth:`StorageProvider.stat`."""
        return await self._run(self._tree.stat, check_path(key))

    @operation
    async def exists(self, key: str) -> bool:
        """See :meth:`StorageProvider.exists`."""
        try:
            await self._run(self._tree.stat, check_path(key))
        except FileNotFoundError:
            return False
        return True

    @operation
    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """See :meth:`StorageProvider.list`; holds the names of one path of folders at a time."""
        items = walk(self._tree, check_prefix(prefix))
        try:
            while page := await self._run(lambda: [*itertools.islice(items, _PAGE)]):
                for item in page:
                    yield item
        finally:
            items.close()

    @operation
    async def stats(self) -> StorageStats:
        """See :meth:`StorageProvider.stats`; walks through all folders."""
        count = total = 0
        async for item in self.list():
            count += 1
            total += item.size
        return StorageStats(count, total, await self._run(self._tree.free_bytes))

    # -- errors --------------------------------------------------------------------------

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        """Map what the server and the connection say; names share and server, where to look."""
        about_file = isinstance(error, OSError) and error.filename is not None
        if about_file or isinstance(error, FileNotFoundError):
            return super()._translate(error, call)
        config = self.config
        host = f"{config.host}:{config.port}"
        explained = explain(error, call, place=config.place, host=host)
        return explained or super()._translate(error, call)


def _abandon(threads: Threads, *links: Link) -> None:
    for link in links:
        link.abort()
        threads.start(link.release)
    threads.abandon()
