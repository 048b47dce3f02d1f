"""File system storage: objects are files below a folder of this machine."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, TypeVar, TypeVarTuple, cast

from pydantic import Field, ValidationInfo, field_serializer, field_validator

from ..registry.errors import InvalidStateError
from ..registry.provider import Call, ProviderConfig, home_of, name_of, operation
from .base import (
    CHUNK_SIZE,
    ObjectInfo,
    ObjectSource,
    StorageProvider,
    StorageStats,
    check_range,
    chunks_of,
    timestamp,
)
from .errors import (
    InvalidKeyError,
    StorageError,
    StoragePermissionError,
    StorageRootNotFoundError,
    not_connected,
)
from .filesystem_files import Draft, Reader
from .filesystem_tree import POSIX, FileTree, info_of
from .filesystem_walk import walk
from .keys import check_key, check_prefix
from .threads import Threads

__all__ = ["FilesystemConfig", "FilesystemStorage"]

ArgsT = TypeVarTuple("ArgsT")
ResultT = TypeVar("ResultT")

_THREADS = 8
_PAGE = 500


class FilesystemConfig(ProviderConfig):
    """Where the folder is, and how files are written."""

    aliases: ClassVar[Mapping[str, str]] = {"directory": "root"}

    root: Path = Field(default=cast("Path", None), validate_default=True)
    """The folder; it is made if it is not there. By default `storage/<name>` below
    `PURVEYOR_HOME`; a relative path is taken from the current folder."""
    fsync: bool = False
    """Whether an object is on the disk itself before `put` returns, to survive a power cut."""
    file_mode: int = 0o600
    """Permissions of new files, as octal text (`0640`), less what the process's umask takes away;
    folders may also be entered by whom files may be read by."""

    @field_validator("root", mode="before")
    @classmethod
    def _below_home(cls, root: Any, info: ValidationInfo) -> Any:
        if root == "":
            raise ValueError("must not be empty; leave it out for the default")
        return home_of(info) / "storage" / name_of(info, "filesystem") if root is None else root

    @field_validator("root")
    @classmethod
    def _make_absolute(cls, root: Path) -> Path:
        try:
            return root.expanduser().absolute()
        except RuntimeError:
            raise ValueError("begins with '~' and an account that has no home folder") from None

    @field_validator("file_mode", mode="before")
    @classmethod
    def _read_octal(cls, mode: Any) -> Any:
        with contextlib.suppress(ValueError):
            mode = int(mode, 8) if isinstance(mode, str) else mode
        if isinstance(mode, str) or (isinstance(mode, int) and not 0o400 <= mode <= 0o777):
            raise ValueError("must be an octal number from 0400 to 0777, such as 0640")
        return mode

    @field_serializer("file_mode")
    def _show_octal(self, mode: int) -> str:
        return f"{mode:04o}"


class FilesystemStorage(StorageProvider[FilesystemConfig]):
    """
    Objects as files below ``root``.

    A file is written under a temporary name beside its place and renamed onto it. No key leads
    out of ``root``: every folder is opened by its name in the one above, and symbolic links are
    not followed. What is no regular file is no object. ``a`` beside ``a/b`` cannot be.

    A call that is cancelled ends when the thread that works for it has ended its step: what was
    asked happened whole or not at all, and nothing happens afterwards.
    """

    def __init__(self, config: FilesystemConfig) -> None:
        super().__init__(config)
        self._threads: Threads | None = None
        self._opened_tree: FileTree | None = None
        self._drafts: set[Draft] = set()

    async def _connect(self) -> None:
        if not POSIX:
            raise StorageError("The filesystem storage needs a POSIX system (Linux, macOS).")
        config = self.config
        self._threads = Threads(_THREADS, "purveyor-filesystem")
        # Dropped unclosed, as when its event loop is gone, it must not leave its threads behind.
        weakref.finalize(self, self._threads.abandon)
        self._opened_tree = await self._run(FileTree, config.root, config.file_mode, config.fsync)

    async def _close(self) -> None:
        threads, self._threads = self._threads, None
        tree, self._opened_tree = self._opened_tree, None
        if threads is not None:
            await threads.end()
        for draft in self._drafts:  # of puts that were under way
            draft.discard()
        if tree is not None:
            tree.close()

    async def check_health(self) -> None:
        """See that the folder opened is still the one of its name, and can be written."""
        await self._run(self._tree.check)

    @property
    def _tree(self) -> FileTree:
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
        check_key(key)
        if content_type or metadata:
            raise self._unsupported("metadata", "a file has no place for it")
        seconds = None if modified is None else timestamp(modified)
        if isinstance(data, bytes | bytearray | memoryview):
            return await self._run(_put_bytes, self._tree, key, data, overwrite, seconds)
        async with self._draft(key) as draft, contextlib.aclosing(chunks_of(data)) as chunks:
            async for chunk in chunks:
                await self._run(draft.write, chunk)
            return await self._run(draft.commit, overwrite, seconds)

    @contextlib.asynccontextmanager
    async def _draft(self, key: str) -> AsyncGenerator[Draft, None]:
        draft = Draft(self._tree, key)
        self._drafts.add(draft)
        try:
            yield draft
        finally:
            if self._threads is not None:  # or closing discards it
                self._drafts.discard(draft)
                await self._run(draft.discard)

    @operation
    async def copy(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """See :meth:`StorageProvider.copy`; the system copies, where it can without reading."""
        reader = Reader(self._tree, check_key(source))
        check_key(target)
        try:
            descriptor = await self._run(reader.open)
            if source == target and overwrite:
                return info_of(source, reader.status)
            async with self._draft(target) as draft:
                while await self._run(draft.copy_from, descriptor):
                    pass
                return await self._run(draft.commit, overwrite)
        finally:
            reader.close()

    @operation
    async def move(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """See :meth:`StorageProvider.move`; one rename."""
        check_key(source)
        return await self._run(self._tree.move, source, check_key(target), overwrite)

    @operation
    async def delete(self, key: str) -> None:
        """See :meth:`StorageProvider.delete`; folders left empty are removed."""
        await self._run(self._tree.delete, check_key(key))

    # -- reading -------------------------------------------------------------------------

    @operation
    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        """See :meth:`StorageProvider.get`."""
        check_range(start, end)
        return await self._run(_get, Reader(self._tree, check_key(key), start, end))

    @operation
    async def get_with_info(self, key: str, *, end: int | None = None) -> tuple[ObjectInfo, bytes]:
        """See :meth:`StorageProvider.get_with_info`; both are of the file that was opened."""
        reader = Reader(self._tree, check_key(key), 0, end)
        return await self._run(_get_with_info, key, reader)

    @operation
    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """See :meth:`StorageProvider.stream`; reads the file that was open at the first step."""
        check_range(start, end)
        reader = Reader(self._tree, check_key(key), start, end)
        try:
            await self._run(reader.open)
            while reader.left:
                yield await self._run(reader.read, CHUNK_SIZE)
        finally:
            reader.close()

    @operation
    async def stat(self, key: str) -> ObjectInfo:
        """See :meth:`StorageProvider.stat`."""
        return await self._run(self._tree.stat, check_key(key))

    @operation
    async def exists(self, key: str) -> bool:
        """See :meth:`StorageProvider.exists`."""
        try:
            await self._run(self._tree.stat, check_key(key))
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
        """See :meth:`StorageProvider._translate`; names the root, which is where to look."""
        translated = super()._translate(error, call)
        if translated is None or not isinstance(error, OSError) or error.errno is None:
            return translated
        root, name = str(self.config.root), call.provider_name
        what = f"{call.operation} on storage {name!r} failed: {error.strerror} (root {root!r})"
        match error.errno:
            case errno.ENOENT:
                try:
                    self._tree.check_not_removed()
                except (StorageRootNotFoundError, InvalidStateError) as gone:
                    return gone
                return translated
            case errno.ENAMETOOLONG:
                return InvalidKeyError(
                    f"A part of the key is longer than the file system of {root!r} allows.", name
                )
            case errno.EROFS:
                return StoragePermissionError(
                    f"{what}. Make the file system writable, or set root to another folder.", name
                )
            case errno.EMFILE | errno.ENFILE:
                return StorageError(
                    f"{what}. Raise the limit of open files (ulimit -n), or do less at once.", name
                )
            case _:
                located = OSError(error.errno, f"{error.strerror} (root {root!r})")
                return super()._translate(located, call)


def _put_bytes(
    tree: FileTree,
    key: str,
    data: bytes | bytearray | memoryview,
    overwrite: bool,
    modified: float | None,
) -> ObjectInfo:
    draft = Draft(tree, key)
    try:
        draft.write(data)
        return draft.commit(overwrite, modified)
    finally:
        draft.discard()


def _get(reader: Reader) -> bytes:
    try:
        reader.open()
        return _all_of(reader)
    finally:
        reader.close()


def _get_with_info(key: str, reader: Reader) -> tuple[ObjectInfo, bytes]:
    try:
        descriptor = reader.open()
        data = _all_of(reader)
        return info_of(key, os.fstat(descriptor)), data  # who writes to it may have gone on
    finally:
        reader.close()


def _all_of(reader: Reader) -> bytes:
    data = reader.read(reader.left)
    if not reader.left:
        return data
    parts = [data]  # a read of the system may give less than it is asked for
    while reader.left:
        parts.append(reader.read(reader.left))
    return b"".join(parts)
