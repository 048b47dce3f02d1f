"""One object from one storage to another, and proof that it arrived."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from ...providers.registry import RegistryError
from ...providers.storage import ObjectInfo, StorageProvider
from ...providers.storage.base import CHUNK_SIZE
from .ends import End
from .errors import SourceChangedError, VerificationError
from .events import Verification

__all__ = ["CopyError", "Transfer", "Verify"]

Verify: TypeAlias = Literal["auto", "full", "size"]

_MD5 = re.compile(r'"?([0-9a-fA-F]{32})"?')


class CopyError(Exception):
    """A copy that failed: why, and at which end."""

    def __init__(self, error: RegistryError | OSError, end: End) -> None:
        super().__init__(str(error))
        self.error = error
        self.end = end


@dataclass(frozen=True, slots=True)
class Transfer:
    """
    Copies objects from ``source`` to ``target``.

    Args:
        source: Where they are read.
        target: Where they are written.
        verify: How a copy is compared with what was read. ``size``: by what the target says of
            its size. ``full``: by reading it back. ``auto``: by reading it back where the target
            is on this machine, else by an etag that is the content's MD5, else by size.
        moved: Told key and count whenever bytes were read from the source.
    """

    source: End
    target: End
    verify: Verify
    moved: Callable[[str, int], None]

    async def copy(self, info: ObjectInfo, key: str) -> tuple[int, Verification]:
        """
        Copy an object to ``key``; return its bytes, and by what the copy was compared.

        An object that changes while it is read never gets its place at the target; one that did
        not arrive as it was sent is removed. Both are tried once more.

        Raises:
            CopyError: With the error, and at which end it came up.
        """
        last = False
        while True:
            reading = _Reading(self.source.storage, info, self.moved)
            try:
                if last or self._keeps_metadata:
                    reading.before = await reading.stat()
                return await self._attempt(reading, key)
            except (RegistryError, OSError) as failure:
                # A library between may have wrapped the reader's error: the reader knows it.
                error = reading.error or failure
                if last or not isinstance(error, SourceChangedError | VerificationError):
                    end = self.source if reading.error else self.target
                    raise CopyError(error, end) from failure
            last = True

    @property
    def _keeps_metadata(self) -> bool:
        return "metadata" in self.source.capabilities and "metadata" in self.target.capabilities

    async def _attempt(self, reading: _Reading, key: str) -> tuple[int, Verification]:
        storage, before = self.target.storage, reading.before
        details: dict[str, Any] = {}
        if self._keeps_metadata:
            details = {"content_type": before.content_type, "metadata": before.metadata or None}
        if before.size <= CHUNK_SIZE:
            written = await storage.put(key, await reading.whole(), **details)
        else:
            async with aclosing(reading.chunks()) as chunks:
                written = await storage.put(key, chunks, **details)
        return reading.size, await self._verified(written, reading)

    async def _verified(self, written: ObjectInfo, reading: _Reading) -> Verification:
        """Compare; what differs is removed, for a later run would take it for done."""
        storage, key = self.target.storage, written.key
        etag = _MD5.fullmatch(written.etag or "")
        if self.verify == "auto" and etag and etag[1].lower() == reading.md5():
            return "etag"
        # An etag of that form need not be the MD5 (S3 with its own keys): the content decides.
        how: Verification = "size"
        if self.verify == "full" or (
            self.verify == "auto" and (etag or "local-storage" in self.target.capabilities)
        ):
            how = "content"
            difference = await reading.difference(storage, key)
        else:
            size = (await storage.stat(key)).size
            difference = None if size == reading.size else f"{size} bytes of {reading.size}"
        if difference is None:
            return how
        await storage.delete(key)
        raise VerificationError(key, f"the target has {difference}")


class _Reading:
    """One pass over an object of the source: what was read, and whether it stayed the same."""

    def __init__(
        self, storage: StorageProvider[Any], info: ObjectInfo, moved: Callable[[str, int], None]
    ) -> None:
        self.before = info
        self.size = 0
        self.error: RegistryError | OSError | None = None
        self._whole: bytes | None = None
        self._digest = _new_digest()
        self._storage = storage
        self._moved = moved

    async def stat(self) -> ObjectInfo:
        """Return what the source says of the object now."""
        with self._noting_errors():
            return await self._storage.stat(self.before.key)

    async def whole(self) -> bytes:
        """Return the content of a small object."""
        with self._noting_errors():
            # No more than it was said to have: it may have grown beyond memory.
            data = await self._storage.get(self.before.key, end=CHUNK_SIZE + 1)
            self._whole = data
            self._count(data)
            await self._check_unchanged()
        return data

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Iterate over the content; raises at its end, while a put can still be given up."""
        stream = cast("AsyncGenerator[bytes]", self._storage.stream(self.before.key))
        with self._noting_errors():
            async with aclosing(stream):
                async for chunk in stream:
                    await asyncio.to_thread(self._digest.update, chunk)
                    self._count(chunk)
                    yield chunk
            await self._check_unchanged()

    def md5(self) -> str:
        """Return the MD5 of what was read."""
        return (self._digest if self._whole is None else _new_digest(self._whole)).hexdigest()

    async def difference(self, storage: StorageProvider[Any], key: str) -> str | None:
        """Read an object back; return what it has instead of what was read."""
        if self._whole is not None:
            back = await storage.get(key, end=CHUNK_SIZE + 1)
            size, same = len(back), back == self._whole
        else:
            size, digest = 0, _new_digest()
            stream = cast("AsyncGenerator[bytes]", storage.stream(key))
            async with aclosing(stream):
                async for chunk in stream:
                    await asyncio.to_thread(digest.update, chunk)
                    size += len(chunk)
            same = digest.digest() == self._digest.digest()
        if size != self.size:
            return f"{size} bytes of {self.size}"
        return None if same else "other content"

    @contextmanager
    def _noting_errors(self) -> Generator[None]:
        try:
            yield
        except (RegistryError, OSError) as error:
            self.error = error
            raise

    def _count(self, data: bytes) -> None:
        self.size += len(data)
        self._moved(self.before.key, len(data))

    async def _check_unchanged(self) -> None:
        before, after = self.before, await self._storage.stat(self.before.key)
        both_etags = before.etag is not None and after.etag is not None
        if (
            self.size != after.size
            or before.size != after.size
            or (before.etag != after.etag if both_etags else before.modified != after.modified)
        ):
            raise SourceChangedError(before.key)


def _new_digest(data: bytes = b"") -> hashlib._Hash:
    # Against accidents, not against attackers; and it is what S3 gives as etag.
    return hashlib.md5(data, usedforsecurity=False)
