"""One object as a file: read in blocks, written in bounded memory."""
# fsspec is annotated in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import atexit
import functools
import io
import warnings
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from fsspec.asyn import sync
from fsspec.spec import AbstractBufferedFile

if TYPE_CHECKING:
    from .fsspec import PurveyorFileSystem

__all__ = ["PurveyorFile", "PurveyorTextFile"]


class PurveyorFile(AbstractBufferedFile):
    """
    An object opened by :meth:`~purveyor.integrations.fsspec.PurveyorFileSystem.open`.

    What is written goes to the storage a block at a time while more is written, and becomes
    an object when the file is closed, or committed at the end of a transaction.
    """

    fs: PurveyorFileSystem
    path: str

    def __init__(
        self, fs: PurveyorFileSystem, path: str, mode: str = "rb", *args: Any, **kwargs: Any
    ) -> None:
        self._upload: _Upload | None = None
        self._failed = False
        if mode == "ab":
            raise NotImplementedError(
                "An object cannot be appended to: read it, and write it anew."
            )
        super().__init__(fs, path, mode, *args, **kwargs)
        if mode == "xb" and fs.exists(path):
            self.closed = True
            raise FileExistsError(f"The object is there already: {path}")

    def _upload_chunk(self, final: bool = False) -> None:
        data = self.buffer.getvalue()
        try:
            if final and self.autocommit and self._upload is None:  # all of it fits in one block
                self.fs.pipe_file(
                    self.path, data, mode="create" if "x" in self.mode else "overwrite"
                )
                return
            if self._upload is None:
                self._upload = _Upload(self.fs, self.path, overwrite="x" not in self.mode)
            self._on_loop(self._upload.send, data)
        except BaseException:
            self._failed = True
            raise
        if final and self.autocommit:
            self.commit()

    def commit(self) -> None:
        """Make what was written appear."""
        upload, self._upload = self._upload, None
        if upload is not None:
            self._on_loop(upload.send, None)

    def discard(self) -> None:
        """Forget what was written; what was there before stays."""
        upload, self._upload = self._upload, None
        self.closed = True
        if upload is not None:
            self._on_loop(upload.abort)

    def close(self) -> None:
        """Make what was written appear, unless writing it has failed."""
        if self._failed:
            self.discard()
        super().close()

    def __exit__(self, *args: object) -> None:
        if args[0] is not None and self.writable():
            self.discard()
        self.close()

    def __del__(self) -> None:
        if not self.closed and self.mode != "rb":
            self.closed = True
            if self._upload is not None:
                self._upload.abandon()
            warnings.warn(
                f"{self.path} was never closed: what was written to it is lost.",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def _on_loop(self, function: Any, *args: Any) -> None:
        sync(self.fs.loop, self._awaited, function, *args)

    async def _awaited(self, function: Any, *args: Any) -> None:
        await self.fs._run(function(*args), self.path)


class PurveyorTextFile(io.TextIOWrapper):
    """A file opened for writing text: a ``with`` block that raises writes nothing."""

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None and isinstance(self.buffer, PurveyorFile):
            self.buffer.discard()
        else:
            self.close()


class _Upload:
    """An object on its way: chunks go in one at a time, as fast as the storage takes them."""

    def __init__(self, fs: PurveyorFileSystem, path: str, *, overwrite: bool) -> None:
        self._storage, self._key = fs._at(path)
        self._overwrite = overwrite
        self._loop = fs.loop
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._putting: asyncio.Task[None] | None = None
        _under_way.add(self)
        _abort_at_exit()

    async def _put(self) -> None:
        async with aclosing(self._content()) as content:
            await self._storage.put(self._key, content, overwrite=self._overwrite)

    async def _content(self) -> AsyncGenerator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk

    async def send(self, chunk: bytes | None) -> None:
        """Hand over a chunk, or None for the end; raises what the storage has raised."""
        putting = self._putting
        if putting is None:
            putting = self._putting = asyncio.create_task(self._put(), name=f"write {self._key}")
        waiting = asyncio.create_task(self._chunks.put(chunk))
        try:
            await asyncio.wait({waiting, putting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if chunk is None or putting.done():
            await putting

    async def abort(self) -> None:
        """Give it up, and wait until nothing of it is left."""
        if self._putting is not None:
            self._putting.cancel()
            await asyncio.wait({self._putting})

    def abandon(self) -> None:
        """Give it up without waiting, from any thread."""
        if self._putting is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(self._putting.cancel)


_under_way: WeakSet[_Upload] = WeakSet()


@functools.cache
def _abort_at_exit() -> None:
    # Registered after the process's container is, so run before that is shut down and waits.
    atexit.register(_abort_all)


def _abort_all() -> None:
    for upload in [*_under_way]:
        upload.abandon()
