"""
``purveyor://NAME/key`` for every library that reads and writes through fsspec.

pandas, Polars, DuckDB, PyArrow, Dask and others find the protocol by its entry point, with no
import: ``pandas.read_csv("purveyor://backups/report.csv")``.
"""
# fsspec is annotated in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import errno
import pickle
import stat
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import uuid4

from fsspec.asyn import AsyncFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import stringify_path

from ..containers.process import find_container, process_container
from ..providers.storage import (
    InvalidKeyError,
    InvalidRangeError,
    ObjectNotFoundError,
)
from ..providers.storage.base import CHUNK_SIZE, chunks_of
from ..providers.storage.keys import RESERVED_PREFIX
from .fsspec_details import Details, errors_of_files, file_at, folder_at, listing_of, not_found
from .fsspec_file import PurveyorFile, PurveyorTextFile

if TYPE_CHECKING:
    from ..containers import ApplicationContainer
    from ..providers.storage import StorageProvider

__all__ = ["PurveyorFileSystem"]

ResultT = TypeVar("ResultT")


class PurveyorFileSystem(AsyncFileSystem):
    """
    Storage providers as one file system: ``NAME/key``, and ``/key`` in the default provider.

    ``purveyor://NAME/key`` is the same as a URL, and ``purveyor:///key`` in the default
    provider. The root lists the providers. Folders are what the slashes in keys make of them:
    ``mkdir`` has nothing to do, and an empty folder is none.

    Every operation runs on one event loop, whichever thread or loop asks for it, because a
    provider belongs to the loop that first used it: the loop that runs where this is built,
    or ``loop``, or else that of ``container.blocking``.

    Args:
        container: Gives the providers by name: a container, or the dotted path of one
            (``shop.services.container``), by which other processes find theirs. Without it,
            each process has one from its own environment.
        asynchronous: The caller will await the coroutines (``_cat_file`` and the like).
        loop: The event loop that the given container's providers are used on.
        options: Those of every fsspec file system, such as ``batch_size``.

    Raises:
        InvalidConfigError: A dotted path names no container.
    """

    protocol = "purveyor"
    cachable = False  # it holds nothing worth keeping, and a cache would keep a container alive
    root_marker = ""

    def __init__(
        self,
        *args: Any,
        container: ApplicationContainer | str | None = None,
        asynchronous: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        **options: Any,
    ) -> None:
        self._given = None if isinstance(container, str) else container
        self._container = find_container(container) if isinstance(container, str) else container
        self._home = loop or (_running_loop() if self._given is not None else None)
        super().__init__(*args, asynchronous=True, **options)  # else it starts a loop of its own
        self.asynchronous = asynchronous

    # -- where it runs -------------------------------------------------------------------

    @property
    def container(self) -> ApplicationContainer:
        """The container that gives the providers."""
        return cast("ApplicationContainer", self._container or process_container())

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that every operation runs on."""
        return self._home or self.container.blocking.loop

    async def _run(self, work: Coroutine[Any, Any, ResultT], path: str) -> ResultT:
        """Await ``work`` on the loop of the providers, with the errors that a file has."""
        with errors_of_files(path):
            home = self.loop
            if home is asyncio.get_running_loop():
                return await work
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, home))

    def _at(self, path: str) -> tuple[StorageProvider[Any], str]:
        """Return the storage that a path is in, and the key there."""
        name, _, key = self._strip_protocol(path).partition("/")
        with errors_of_files(path):
            return self.container.storage(name or None), key

    def __reduce__(self) -> Any:
        self._refuse_given("pickled")
        return super().__reduce__()

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Return how to build it again; there is no password in it."""
        self._refuse_given("written as JSON")
        return super().to_dict(include_password=include_password)

    def _refuse_given(self, what: str) -> None:
        if self._given is not None:
            raise pickle.PicklingError(
                f"A purveyor file system with a container object cannot be {what}: the container "
                "holds connections and secrets. Leave container out, so that each process builds "
                "its own from its environment, or give it by its dotted path: "
                "container='shop.services.container'."
            )

    # -- paths ---------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in cast("list[Any]", path)]
        bare = stringify_path(path).removeprefix(f"{cls.protocol}://")
        return bare.rstrip("/") or bare[:1]  # "/" is the default provider, "" the root of all

    @classmethod
    def _parent(cls, path: str) -> str:
        above, slash, _ = cls._strip_protocol(path).rpartition("/")
        return above or slash

    # -- looking -------------------------------------------------------------------------

    async def _info(self, path: str, **kwargs: Any) -> Details:
        path = self._strip_protocol(path)
        if path == "":
            return folder_at(path)
        storage, key = self._at(path)
        if key == "":
            return folder_at(path)

        async def look() -> Details:
            try:
                return file_at(path, await storage.stat(key))
            except InvalidKeyError as error:  # no object can be called so
                raise not_found(path) from error
            except ObjectNotFoundError:
                async with listing_of(storage, f"{key}/") as found:
                    if await anext(found, None) is None:
                        raise
                return folder_at(path)

        return await self._run(look(), path)

    async def _ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        path = self._strip_protocol(path)
        found = await self._below(path, depth=1, folders=True)
        if not found and path.strip("/"):
            _, key = self._at(path)
            found = [await self._info(path)] if key else []
        return found if detail else [one["name"] for one in found]

    async def _find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        prefix: str = "",
        **kwargs: Any,
    ) -> Any:
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = self._strip_protocol(path)
        found = await self._below(path, maxdepth, withdirs, prefix)
        try:
            if path and (not found or withdirs) and not prefix:
                itself = await self._info(path)
                if not found or itself["type"] == "directory":
                    found.append(itself)
        except FileNotFoundError:
            pass
        if not withdirs:
            found = [one for one in found if one["type"] == "file"]
        out = {one["name"]: one for one in sorted(found, key=lambda one: one["name"])}
        return out if detail else list(out)

    async def _below(
        self, path: str, depth: int | None, folders: bool, prefix: str = ""
    ) -> list[Details]:
        """Return what lies below a path, down to ``depth``: one listing, however deep."""
        if path == "":
            return await self._below_root(depth, folders, prefix)
        storage, key = self._at(path)
        base = path if path == "/" else f"{path}/"
        above = f"{key}/" if key else ""

        async def collect() -> list[Details]:
            found: list[Details] = []
            seen = ""
            async with listing_of(storage, above + prefix) as listing:
                async for info in listing:
                    parts = info.key[len(above) :].split("/")
                    for level in range(1, len(parts) if folders else 0):
                        folder = "/".join(parts[:level])
                        if depth is not None and level > depth:
                            break
                        if f"{seen}/".startswith(f"{folder}/"):
                            continue
                        found.append(folder_at(base + folder))
                    seen = "/".join(parts[:-1])
                    if depth is None or len(parts) <= depth:
                        found.append(file_at(base + "/".join(parts), info))
            return found

        try:
            return await self._run(collect(), path)
        except InvalidKeyError:
            return []

    async def _below_root(self, depth: int | None, folders: bool, prefix: str) -> list[Details]:
        found: list[Details] = []
        for name in self.container.storage.registry.names():
            if name.startswith(prefix):
                found += [folder_at(name)] if folders else []
                if depth is None or depth > 1:
                    found += await self._below(name, depth and depth - 1, folders)
        return found

    async def _du(
        self, path: str, total: bool = True, maxdepth: int | None = None, **kwargs: Any
    ) -> Any:
        found: dict[str, Details] = await self._find(path, maxdepth, detail=True)
        sizes = {name: one["size"] for name, one in found.items()}
        return sum(sizes.values()) if total else sizes

    def modified(self, path: str) -> datetime:
        """Return when an object was last changed, in UTC."""
        return cast(datetime, self.info(path)["modified"])

    def created(self, path: str) -> datetime:
        """Refuse: storages know only of the last change, see :meth:`modified`."""
        raise NotImplementedError("Storages keep no time of creation; ask for modified() instead.")

    # -- reading -------------------------------------------------------------------------

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        storage, key = self._at(path)
        if (start or 0) < 0 or (end or 0) < 0:
            size = (await self._info(path))["size"]
            start = max(0, start + size) if start and start < 0 else start
            end = max(0, end + size) if end and end < 0 else end
        first = start or 0
        last = None if end is None else max(first, end)
        try:
            return await self._run(storage.get(key, start=first, end=last), path)
        except InvalidRangeError:  # past the end a file has nothing
            return b""
        except InvalidKeyError as error:
            raise not_found(path) from error

    async def _get_file(
        self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, **kwargs: Any
    ) -> None:
        """Copy an object to a local file, which appears whole or not at all."""
        storage, key = self._at(rpath)
        if (found := await self._info(rpath))["type"] == "directory":
            return  # a recursive get names the folders too
        callback.set_size(found["size"])
        target = Path(lpath)
        part = target.with_name(f"{RESERVED_PREFIX}{uuid4().hex}.part")

        async def fetch() -> None:
            try:
                with await asyncio.to_thread(part.open, "wb") as file:
                    stream = cast("AsyncGenerator[bytes]", storage.stream(key))
                    async with aclosing(stream):
                        async for chunk in stream:
                            await asyncio.to_thread(file.write, chunk)
                            callback.relative_update(len(chunk))
                await asyncio.to_thread(part.replace, target)
            finally:
                part.unlink(missing_ok=True)

        await self._run(fetch(), rpath)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> PurveyorFile:
        return PurveyorFile(
            self,
            path,
            mode,
            block_size or self.blocksize,
            autocommit,
            cache_options=cache_options,
            **kwargs,
        )

    def open(self, path: Any, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        """
        Open an object for reading in blocks, or for writing in bounded memory.

        What is written appears when the file is closed, whole; not at all if its ``with``
        block raises, it is discarded, or it is never closed.

        Args:
            path: The object.
            mode: ``r``, ``w``, or ``x`` for one that must be new; with ``b`` for bytes.
            args: ``block_size``: bytes fetched or sent at a time.
            kwargs: Those of every fsspec file system.

        Raises:
            FileNotFoundError: There is no such object, or no such provider.
            FileExistsError: Mode ``x``, and the key is taken; also when the file is closed.
        """
        if "b" in mode or "r" in mode or kwargs.get("compression") is not None:
            return super().open(path, mode, *args, **kwargs)
        text = {one: kwargs.pop(one) for one in ("encoding", "errors", "newline") if one in kwargs}
        return PurveyorTextFile(
            self.open(path, mode.replace("t", "") + "b", *args, **kwargs), **text
        )

    # -- writing -------------------------------------------------------------------------

    async def _pipe_file(
        self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any
    ) -> None:
        storage, key = self._at(path)
        await self._run(storage.put(key, value, overwrite=mode != "create"), path)

    async def _put_file(
        self,
        lpath: Any,
        rpath: str,
        mode: str = "overwrite",
        callback: Any = DEFAULT_CALLBACK,
        **kwargs: Any,
    ) -> None:
        source = Path(lpath)
        status = await asyncio.to_thread(source.stat)
        if stat.S_ISDIR(status.st_mode):
            return
        storage, key = self._at(rpath)
        callback.set_size(status.st_size)

        async def chunks() -> AsyncGenerator[bytes]:
            async with aclosing(chunks_of(source, CHUNK_SIZE)) as found:
                async for chunk in found:
                    yield chunk
                    callback.relative_update(len(chunk))

        async def send() -> None:
            async with aclosing(chunks()) as content:
                await storage.put(key, content, overwrite=mode != "create")

        await self._run(send(), rpath)

    async def _cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        (source, key), (target, other) = self._at(path1), self._at(path2)

        async def copy() -> None:
            if source is target:
                await source.copy(key, other)
                return
            stream = cast("AsyncGenerator[bytes]", source.stream(key))
            async with aclosing(stream):
                await target.put(other, stream)

        if (await self._info(path1))["type"] == "file":  # a recursive copy names the folders too
            await self._run(copy(), path1)

    async def _rm_file(self, path: str, **kwargs: Any) -> None:
        storage, key = self._at(path)
        # To a storage, deleting what is not there is no error.
        if (await self._info(path))["type"] == "directory":
            raise IsADirectoryError(errno.EISDIR, "A folder is removed with recursive=True", path)
        await self._run(storage.delete(key), path)

    async def _rm(
        self,
        path: Any,
        recursive: bool = False,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> list[None]:
        if not recursive:
            return await super()._rm(path, False, batch_size, maxdepth, **kwargs)
        limit = asyncio.Semaphore(batch_size or self.batch_size or 32)

        async def remove(one: str) -> None:
            storage, key = self._at(one)
            async with limit:
                if key:  # the folders are named too: there is nothing to delete of them
                    await self._run(storage.delete(key), one)

        expanded: list[str] = await self._expand_path(path, recursive=True, maxdepth=maxdepth)
        return await asyncio.gather(*map(remove, expanded))

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Make an object empty, or make an empty one; one that is there cannot be dated anew."""
        if truncate or not self.exists(path):
            self.pipe_file(path, b"")
        else:
            raise NotImplementedError("An object's time changes with its content only.")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
