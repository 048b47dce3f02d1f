"""File system storage: objects are files below a folder of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import secrets
import shutil
import stat
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar

from pydantic import Field, ValidationInfo, field_serializer, field_validator

from ..registry.provider import Call, ProviderConfig, home_of, name_of, operation
from .base import (
    CHUNK_SIZE,
    ObjectInfo,
    ObjectSource,
    StorageProvider,
    StorageStats,
    check_range,
    chunks_of,
)
from .errors import (
    InvalidKeyError,
    KeyConflictError,
    ObjectExistsError,
    StorageError,
    StoragePermissionError,
    StorageRootNotFoundError,
)
from .keys import RESERVED_PREFIX, check_key, check_prefix

__all__ = ["FilesystemConfig", "FilesystemStorage"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

_POSIX = os.open in os.supports_dir_fd
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC if _POSIX else 0
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC if _POSIX else 0
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC if _POSIX else 0
_THREADS = 16
_PAGE = 500
_ABANDONED = 24 * 3600.0
_ATTEMPTS = 20


class FilesystemConfig(ProviderConfig):
    """Where the folder is, and how files are written."""

    aliases: ClassVar[Mapping[str, str]] = {"directory": "root"}

    root: Path = Field(default=Path(), validate_default=True)
    """The folder; it is made if it is not there. By default `storage/<name>` below
    `PURVEYOR_HOME`; a relative path is taken from the current folder."""
    fsync: bool = False
    """Whether an object is on the disk itself before `put` returns, to survive a power cut."""
    file_mode: int = Field(default=0o600, ge=0o400, le=0o777)
    """Permissions of new files, as octal text (`0640`); folders may also be entered by whom
    files may be read by."""

    @field_validator("root", mode="after")
    @classmethod
    def _make_absolute(cls, root: Path, info: ValidationInfo) -> Path:
        if root == Path():
            root = home_of(info) / "storage" / name_of(info, "filesystem")
        return root.expanduser().absolute()

    @field_serializer("file_mode")
    def _show_octal(self, mode: int) -> str:
        return f"{mode:04o}"

    @field_validator("file_mode", mode="before")
    @classmethod
    def _read_octal(cls, mode: Any) -> Any:
        if not isinstance(mode, str):
            return mode
        try:
            return int(mode, 8)
        except ValueError:
            raise ValueError("must be an octal number such as 0640") from None


class FilesystemStorage(StorageProvider[FilesystemConfig]):
    """
    Objects as files below ``root``.

    A file is written under a temporary name beside its place and renamed onto it. No key leads
    out of ``root``: every folder is opened by its name in the one above, and symbolic links are
    not followed. What is no regular file is no object. ``a`` beside ``a/b`` cannot be.
    """

    async def _connect(self) -> None:
        if not _POSIX:
            raise StorageError("The filesystem storage needs a POSIX system (Linux, macOS).")
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="filesystem")
        self._root = await self._run(self._open_root)

    def _open_root(self) -> int:
        root, mode = self.config.root, self._folder_mode
        try:
            root.mkdir(mode=mode, parents=True, exist_ok=True)
            return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileExistsError, NotADirectoryError):
            raise StorageRootNotFoundError(
                f"The storage's root {str(root)!r} is not a folder. Set root to a folder."
            ) from None
        except PermissionError as error:
            raise StoragePermissionError(
                f"The storage's root {str(root)!r} cannot be opened: {error.strerror}. Give the "
                "account that runs this process access to it, or set root to another folder."
            ) from error

    async def _close(self) -> None:
        pool: ThreadPoolExecutor | None = self.__dict__.pop("_pool", None)
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)
        descriptor = self.__dict__.pop("_root", None)
        if descriptor is not None:
            os.close(descriptor)

    async def check_health(self) -> None:
        """See that the folder opened is still the one of its name."""
        await self._run(self._check_root)

    def _check_root(self) -> None:
        try:
            there = self.config.root.stat()
        except FileNotFoundError:
            there = None
        if there is None or not os.path.samestat(there, os.fstat(self._root)):
            raise self._root_gone()

    def _root_gone(self) -> StorageRootNotFoundError:
        return StorageRootNotFoundError(
            f"The storage's root {str(self.config.root)!r} was removed or replaced while in use. "
            "Put it back, or restart the application."
        )

    @property
    def _folder_mode(self) -> int:
        mode = self.config.file_mode
        return mode | 0o300 | (mode & 0o444) >> 2

    async def _run(
        self, function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs
    ) -> ResultT:
        """Run in a thread; a caller that is cancelled waits for the step to end."""
        step = asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: function(*args, **kwargs)
        )
        try:
            return await asyncio.shield(step)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                await asyncio.wait([step])
                step.exception()
            raise

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
    ) -> ObjectInfo:
        """See :meth:`StorageProvider.put`; a cancelled put happened whole or not at all."""
        check_key(key)
        if content_type or metadata:
            raise self._unsupported("metadata", "a file has no place for it")
        if isinstance(data, bytes | bytearray | memoryview):
            return await self._run(self._put_bytes, key, data, overwrite)
        draft = await self._run(_Draft, self, key)
        try:
            async for chunk in chunks_of(data):
                await self._run(draft.write, chunk)
            return await self._run(draft.commit, overwrite)
        finally:
            await self._run(draft.discard)

    def _put_bytes(
        self, key: str, data: bytes | bytearray | memoryview, overwrite: bool
    ) -> ObjectInfo:
        draft = _Draft(self, key)
        try:
            draft.write(data)
            return draft.commit(overwrite)
        finally:
            draft.discard()

    @operation
    async def copy(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """See :meth:`StorageProvider.copy`; the system copies, where it can without reading."""
        check_key(target)
        return await self._run(self._copy, check_key(source), target, overwrite)

    def _copy(self, source: str, target: str, overwrite: bool) -> ObjectInfo:
        with self._opened(source) as (descriptor, status):
            if source == target and overwrite:
                return _info(source, status)
            draft = _Draft(self, target)
            try:
                draft.copy_from(descriptor)
                return draft.commit(overwrite)
            finally:
                draft.discard()

    @operation
    async def move(self, source: str, target: str, *, overwrite: bool = True) -> ObjectInfo:
        """See :meth:`StorageProvider.move`; one rename."""
        check_key(target)
        return await self._run(self._move, check_key(source), target, overwrite)

    def _move(self, source: str, target: str, overwrite: bool) -> ObjectInfo:
        with self._opened(source) as (_, status):
            if source == target:
                return _info(source, status)
        with self._folder(source) as (source_folder, source_name):
            for attempt in range(_ATTEMPTS):
                try:
                    with self._folder(target, create=True) as (folder, name):
                        self._place(source_folder, source_name, folder, name, target, overwrite)
                    break
                except FileNotFoundError:
                    if attempt == _ATTEMPTS - 1:
                        raise
        self._remove_empty_folders(source)
        return _info(target, status)

    @operation
    async def delete(self, key: str) -> None:
        """See :meth:`StorageProvider.delete`; folders left empty are removed."""
        await self._run(self._delete, check_key(key))

    def _delete(self, key: str) -> None:
        try:
            with self._folder(key) as (folder, name):
                if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return
        self._remove_empty_folders(key)

    def _remove_empty_folders(self, key: str) -> None:
        """Remove the empty folders above a key; who puts there meanwhile makes them anew."""
        parts = key.split("/")[:-1]
        while parts:
            try:
                with self._folder("/".join(parts)) as (folder, name):
                    os.rmdir(name, dir_fd=folder)
            except OSError:
                return
            parts.pop()

    def _place(
        self, from_folder: int, from_name: str, folder: int, name: str, key: str, overwrite: bool
    ) -> None:
        """Rename onto the key, or link to it if it must be new: to all others one step."""
        try:
            if overwrite:
                os.replace(from_name, name, src_dir_fd=from_folder, dst_dir_fd=folder)
                return
            os.link(
                from_name, name, src_dir_fd=from_folder, dst_dir_fd=folder, follow_symlinks=False
            )
        except IsADirectoryError:
            raise self._conflict(key, f"{key}/...") from None
        except FileExistsError:
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(there.st_mode):
                raise self._conflict(key, f"{key}/...") from None
            raise ObjectExistsError(
                f"There is an object {key!r} already; it was not replaced."
            ) from None
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK) and not overwrite:
                raise StorageError(
                    "overwrite=False needs hard links, which the file system of "
                    f"{str(self.config.root)!r} lacks. Put with overwrite=True, or set root to a "
                    "folder of another file system."
                ) from error
            raise
        os.unlink(from_name, dir_fd=from_folder)

    def _conflict(self, key: str, other: str) -> KeyConflictError:
        return KeyConflictError(
            f"A file system cannot hold {key!r} beside {other!r}: one is a file, the other a "
            "folder. Choose another key, or a type with the capability flat-keys (sqlite, s3)."
        )

    # -- reading -------------------------------------------------------------------------

    @operation
    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        """See :meth:`StorageProvider.get`."""
        check_range(start, end)
        return await self._run(self._get, check_key(key), start, end)

    def _get(self, key: str, start: int, end: int | None) -> bytes:
        with self._opened(key) as (descriptor, status):
            check_range(start, end, status.st_size)
            end = status.st_size if end is None else min(end, status.st_size)
            return _pread(descriptor, end - start, start)

    @operation
    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """See :meth:`StorageProvider.stream`; reads the file that was open at the first step."""
        check_range(start, end)
        descriptor, status = await self._run(self._open, check_key(key))
        try:
            check_range(start, end, status.st_size)
            end = status.st_size if end is None else min(end, status.st_size)
            while start < end:
                chunk = await self._run(_pread, descriptor, min(CHUNK_SIZE, end - start), start)
                if not chunk:
                    raise StorageError(f"{key!r} was cut short on disk while it was read.")
                start += len(chunk)
                yield chunk
        finally:
            os.close(descriptor)

    @operation
    async def stat(self, key: str) -> ObjectInfo:
        """See :meth:`StorageProvider.stat`."""
        return await self._run(self._stat, check_key(key))

    def _stat(self, key: str) -> ObjectInfo:
        with self._folder(key) as (folder, name):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file", key)
        return _info(key, status)

    @operation
    async def exists(self, key: str) -> bool:
        """See :meth:`StorageProvider.exists`."""
        try:
            await self._run(self._stat, check_key(key))
        except FileNotFoundError:
            return False
        return True

    @operation
    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """See :meth:`StorageProvider.list`; holds the names of one path of folders at a time."""
        items = self._walk(check_prefix(prefix))
        try:
            while page := await self._run(lambda: [*itertools.islice(items, _PAGE)]):
                for item in page:
                    yield item
        finally:
            items.close()

    @operation
    async def stats(self) -> StorageStats:
        """See :meth:`StorageProvider.stats`; walks through all folders."""
        return await self._run(self._stats)

    def _stats(self) -> StorageStats:
        count = total = 0
        for item in self._walk(""):
            count += 1
            total += item.size
        disk = os.fstatvfs(self._root)
        return StorageStats(count, total, disk.f_bavail * disk.f_frsize)

    def _walk(self, prefix: str) -> Generator[ObjectInfo]:
        """Yield the objects below a prefix in order of their keys' bytes."""
        above, slash, _ = prefix.rpartition("/")
        if not slash:
            yield from self._walk_folder(self._root, "", prefix)
            return
        try:
            with self._folder(f"{above}/-") as (folder, _):
                yield from self._walk_folder(folder, f"{above}/", prefix)
        except FileNotFoundError:
            return

    def _walk_folder(self, folder: int, base: str, prefix: str) -> Iterator[ObjectInfo]:
        with os.scandir(folder) as entries:
            # As part of a key a folder's name is followed by a slash, and so it is sorted.
            found = sorted(
                (
                    (
                        os.fsencode(entry.name) + b"/" * entry.is_dir(follow_symlinks=False),
                        entry.name,
                    )
                    for entry in entries
                ),
            )
        for encoded, name in found:
            key = base + name
            if name.startswith(RESERVED_PREFIX):
                self._remove_if_abandoned(folder, name)
                continue
            is_folder = encoded.endswith(b"/")
            whole = f"{key}/" if is_folder else key
            if not (whole.startswith(prefix) or (is_folder and prefix.startswith(whole))):
                continue
            try:
                check_key(key)
            except InvalidKeyError as error:
                logger.warning("Left out of the list below %s: %s", self.config.root, error)
                continue
            try:
                if is_folder:
                    below = os.open(name, _FOLDER, dir_fd=folder)
                    try:
                        yield from self._walk_folder(below, whole, prefix)
                    finally:
                        os.close(below)
                else:
                    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield _info(key, status)
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone, or replaced, since its folder was read

    def _remove_if_abandoned(self, folder: int, name: str) -> None:
        """Remove what a killed process left half-written long ago."""
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > _ABANDONED:
                os.unlink(name, dir_fd=folder)

    # -- folders and files ---------------------------------------------------------------

    @contextlib.contextmanager
    def _folder(self, key: str, *, create: bool = False) -> Generator[tuple[int, str]]:
        """Open the folder a key's last part lies in, part by part; no link is followed."""
        *parts, name = key.split("/")
        folder = self._root
        try:
            for depth, part in enumerate(parts):
                below = self._enter(folder, part, "/".join(parts[: depth + 1]), create)
                if folder != self._root:
                    os.close(folder)
                folder = below
            yield folder, name
        finally:
            if folder != self._root:
                os.close(folder)

    def _enter(self, folder: int, part: str, path: str, create: bool) -> int:
        while True:
            try:
                return os.open(part, _FOLDER, dir_fd=folder)
            except FileNotFoundError:
                if not create:
                    raise
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EMLINK):
                    raise
                status = os.stat(part, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    raise StoragePermissionError(
                        f"{path!r} is a symbolic link, which might lead out of the storage's root "
                        f"{str(self.config.root)!r}; it is not followed. Remove it."
                    ) from None
                if create:
                    raise self._conflict(f"{path}/...", path) from None
                raise FileNotFoundError(errno.ENOENT, "no such folder", path) from None
            try:
                os.mkdir(part, self._folder_mode, dir_fd=folder)
            except FileExistsError:
                continue  # another writer was faster
            except FileNotFoundError:
                if os.fstat(self._root).st_nlink == 0:
                    raise self._root_gone() from None
                raise

    @contextlib.contextmanager
    def _opened(self, key: str) -> Generator[tuple[int, os.stat_result]]:
        descriptor, status = self._open(key)
        try:
            yield descriptor, status
        finally:
            os.close(descriptor)

    def _open(self, key: str) -> tuple[int, os.stat_result]:
        try:
            with self._folder(key) as (folder, name):
                descriptor = os.open(name, _READ, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):  # a link, a socket
                raise FileNotFoundError(errno.ENOENT, "not a regular file", key) from None
            raise
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "not a regular file", key)
        return descriptor, status

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            return InvalidKeyError(
                f"A part of the key is longer than the file system of {str(self.config.root)!r} "
                "allows.",
                call.provider_name,
            )
        return super()._translate(error, call)


class _Draft:
    """A file under a temporary name beside the place of its key; used in one thread at a time."""

    def __init__(self, storage: FilesystemStorage, key: str) -> None:
        self._storage = storage
        self._key = key
        self._name = f"{RESERVED_PREFIX}{secrets.token_hex(8)}.part"
        self._placed = False
        mode = storage.config.file_mode
        for attempt in range(_ATTEMPTS):
            try:
                with storage._folder(key, create=True) as (folder, self._target):
                    self._folder = os.dup(folder)
                try:
                    self._file = os.open(self._name, _CREATE, mode, dir_fd=self._folder)
                except BaseException:
                    os.close(self._folder)
                    raise
                return
            except FileNotFoundError:
                # The folder was empty, and removed, between the two steps: once more.
                if os.fstat(storage._root).st_nlink == 0:
                    raise storage._root_gone() from None
                if attempt == _ATTEMPTS - 1:
                    raise

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; a write of the system may take less than it is given."""
        written = os.write(self._file, data)
        if written < len(data):
            view = memoryview(data)
            while written < len(view):
                written += os.write(self._file, view[written:])

    def copy_from(self, descriptor: int) -> None:
        """Append a whole file; on some file systems this shares its blocks."""
        with (
            open(descriptor, "rb", closefd=False) as source,
            open(self._file, "wb", closefd=False) as file,
        ):
            try:
                while os.copy_file_range(descriptor, self._file, 1 << 30):
                    pass
            except (AttributeError, OSError) as error:
                if isinstance(error, OSError) and error.errno in (
                    errno.ENOSPC,
                    errno.EDQUOT,
                    errno.EIO,
                ):
                    raise
                source.seek(0)
                file.seek(0)
                shutil.copyfileobj(source, file, CHUNK_SIZE)

    def commit(self, overwrite: bool) -> ObjectInfo:
        """Put the file in its place."""
        if self._storage.config.fsync:
            os.fsync(self._file)
        status = os.fstat(self._file)
        try:
            self._storage._place(
                self._folder, self._name, self._folder, self._target, self._key, overwrite
            )
        except KeyConflictError:
            with contextlib.suppress(OSError):  # a folder that is empty stands for no object
                os.rmdir(self._target, dir_fd=self._folder)
                self._storage._place(
                    self._folder, self._name, self._folder, self._target, self._key, overwrite
                )
                self._placed = True
            if not self._placed:
                raise
        self._placed = True
        if self._storage.config.fsync:
            os.fsync(self._folder)
        return _info(self._key, status)

    def discard(self) -> None:
        """Close, and remove what was not put in place."""
        os.close(self._file)
        if not self._placed:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder)
        os.close(self._folder)
        if not self._placed:
            self._storage._remove_empty_folders(self._key)


def _pread(descriptor: int, size: int, start: int) -> bytes:
    """Read ``size`` bytes unless the file ends before; a read of the system may give less."""
    data = os.pread(descriptor, size, start)
    if len(data) == size or not data:
        return data
    parts = [data]
    read = len(data)
    while read < size and (more := os.pread(descriptor, size - read, start + read)):
        parts.append(more)
        read += len(more)
    return b"".join(parts)


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size=status.st_size,
        modified=datetime.fromtimestamp(status.st_mtime, UTC),
        etag=f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}",
    )
