"""One object from one storage to another, and proof that it arrived."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from ...providers.registry import RegistryError
from ...providers.storage import ObjectInfo, StorageProvider
from ...providers.storage.base import CHUNK_SIZE
from .ends import End
from .errors import SourceChangedError, VerificationError
from .events import Verification
from .merge import Entry
from .options import SyncOptions
from .pace import Pace

__all__ = ["Copied", "CopyError", "Transfer", "content_of"]

HASHED = 8 * CHUNK_SIZE
"""Bytes up to which an etag may be the MD5 of the content; larger ones are put in parts."""
LARGE_AT_ONCE = 4
"""Objects above that on their way at once: each may hold several parts in memory."""

_MD5 = re.compile(r'"?([0-9a-fA-F]{32})"?')


class CopyError(Exception):
    """A copy that failed: why, and at which end."""

    def __init__(self, error: RegistryError | OSError, end: End) -> None:
        super().__init__(str(error))
        self.error = error
        self.end = end


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that was made: what the target says of it, by what it was compared, and its MD5."""

    info: ObjectInfo
    verified: Verification
    md5: str | None


class Transfer:
    """
    Copies objects from ``source`` to ``target``.

    A copy is compared with what was read as ``options.verify`` says. ``size``: by what the
    target says of its size. ``full``: by reading it back. ``auto``: by reading it back where the
    target is on this machine, else by an etag that is the content's MD5, else by size. Within
    one storage the storage itself copies, unless a copy is to be verified in full.

    Args:
        source: Where they are read.
        target: Where they are written.
        options: How.
        moved: Told key and count whenever bytes were read from the source.
    """

    def __init__(
        self, source: End, target: End, options: SyncOptions, moved: Callable[[str, int], None]
    ) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._moved = moved
        self._bytes = Pace(options.bytes_per_second)
        self._requests = Pace(options.requests_per_second)
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._keeps_metadata = "metadata" in source.capabilities & target.capabilities
        self._notes_md5 = options.compare == "checksum" or not target.keeps_times
        self._within = source.storage is target.storage and options.verify != "full"

    async def copy(self, info: ObjectInfo, key: str, modified: datetime | None = None) -> Copied:
        """
        Copy an object to ``key``.

        An object that changes while it is read never gets its place at the target; one that did
        not arrive as it was sent is removed. Both are tried once more.

        Args:
            info: The object, as the source lists it.
            key: What it is called at the target.
            modified: The time it gets where the target keeps times; its own when not given.

        Raises:
            CopyError: With the error, and at which end it came up.
        """
        last = False
        while True:
            reading = self._reading(info)
            try:
                if self._within:
                    return await self._copy_within(info, key)
                if last or self._keeps_metadata:
                    reading.before = await reading.stat()
                if info.size <= HASHED:
                    return await self._attempt(reading, key, modified or info.modified)
                async with self._large:
                    return await self._attempt(reading, key, modified or info.modified)
            except (RegistryError, OSError) as failure:
                # A library between may have wrapped the reader's error: the reader knows it.
                error = reading.error or failure
                if last or not isinstance(error, SourceChangedError | VerificationError):
                    end = self._source if reading.error else self._target
                    raise CopyError(error, end) from failure
            last = True

    async def delete(self, key: str) -> None:
        """
        Remove an object of the target.

        Raises:
            RegistryError: It is still there.
        """
        await self._requests.take()
        await self._target.storage.delete(key)

    async def is_same(self, here: Entry, there: Entry, *, full: bool = False) -> bool:
        """
        Tell whether two objects of the same size have the same content.

        Compared are the checksums that are known of them; where one is not, or ``full`` is set,
        the content is read.

        Raises:
            CopyError: With the error, and at which end it came up.
        """
        if full:
            return await self._read(self._source, here) == await self._read(self._target, there)
        if _said(here) & _said(there):
            return True
        one = _noted(here) or await self._read(self._source, here)
        # An etag of another value need not be the content's MD5.
        return one in _said(there) or one == (
            _noted(there) or await self._read(self._target, there)
        )

    async def _read(self, end: End, entry: Entry) -> str:
        key = entry.info.key if entry.info else f"{end.prefix}{entry.path}"
        await self._requests.take()
        try:
            return await content_of(end.storage, key, self._bytes)
        except (RegistryError, OSError) as error:
            raise CopyError(error, end) from error

    def _reading(self, info: ObjectInfo) -> _Reading:
        options, here = self._options, self._target.is_here
        hashed = (
            info.size <= HASHED
            or options.verify == "full"
            or options.compare == "checksum"
            or (options.verify == "auto" and here)
        )
        return _Reading(self._source.storage, info, self._moved, self._bytes, hashed=hashed)

    async def _copy_within(self, info: ObjectInfo, key: str) -> Copied:
        await self._requests.take()
        written = await self._target.storage.copy(info.key, key)
        if written.size != info.size:
            raise SourceChangedError(info.key)
        self._moved(info.key, info.size)
        return Copied(written, "size", None)

    async def _attempt(self, reading: _Reading, key: str, modified: datetime) -> Copied:
        storage, before = self._target.storage, reading.before
        details: dict[str, Any] = {}
        if self._keeps_metadata:
            details = {"content_type": before.content_type, "metadata": before.metadata or None}
        if self._target.keeps_times:
            details["modified"] = modified
        await self._requests.take()
        if before.size <= CHUNK_SIZE:
            written = await storage.put(key, await reading.whole(), **details)
        else:
            async with aclosing(reading.chunks()) as chunks:
                written = await storage.put(key, chunks, **details)
        verified = await self._verified(written, reading)
        return Copied(written, verified, reading.md5() if self._notes_md5 else None)

    async def _verified(self, written: ObjectInfo, reading: _Reading) -> Verification:
        """Compare; what differs is removed, for a later run would take it for done."""
        storage, key, verify = self._target.storage, written.key, self._options.verify
        etag = _md5_in(written.etag)
        if verify == "auto" and etag and etag == reading.md5():
            return "etag"
        # An etag of that form need not be the MD5 (S3 with its own keys): the content decides.
        how: Verification = "size"
        if verify == "full" or (
            verify == "auto" and reading.hashed and (etag or self._target.is_here)
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


async def content_of(storage: StorageProvider[Any], key: str, pace: Pace) -> str:
    """Read an object and return the MD5 of its content, as hexadecimal digits."""
    digest = _new_digest()
    stream = cast("AsyncGenerator[bytes]", storage.stream(key))
    async with aclosing(stream):
        async for chunk in stream:
            await pace.take(len(chunk))
            await asyncio.to_thread(digest.update, chunk)
    return digest.hexdigest()


class _Reading:
    """One pass over an object of the source: what was read, and whether it stayed the same."""

    def __init__(
        self,
        storage: StorageProvider[Any],
        info: ObjectInfo,
        moved: Callable[[str, int], None],
        pace: Pace,
        *,
        hashed: bool,
    ) -> None:
        self.before = info
        self.hashed = hashed
        self.size = 0
        self.error: RegistryError | OSError | None = None
        self._whole: bytes | None = None
        self._md5: str | None = None
        self._digest = _new_digest()
        self._storage = storage
        self._moved = moved
        self._pace = pace

    async def stat(self) -> ObjectInfo:
        """Return what the source says of the object now."""
        with self._noting_errors():
            return await self._storage.stat(self.before.key)

    async def whole(self) -> bytes:
        """Return the content of a small object."""
        with self._noting_errors():
            await self._pace.take(self.before.size)
            # No more than it was said to have: it may have grown beyond memory.
            after, data = await self._storage.get_with_info(self.before.key, end=CHUNK_SIZE + 1)
            self._whole = data
            self._count(data)
            self._check_unchanged(after)
        return data

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Iterate over the content; raises at its end, while a put can still be given up."""
        stream = cast("AsyncGenerator[bytes]", self._storage.stream(self.before.key))
        with self._noting_errors():
            async with aclosing(stream):
                async for chunk in stream:
                    await self._pace.take(len(chunk))
                    if self.hashed:
                        await asyncio.to_thread(self._digest.update, chunk)
                    self._count(chunk)
                    yield chunk
            self._check_unchanged(await self._storage.stat(self.before.key))

    def md5(self) -> str | None:
        """Return the MD5 of what was read; None if nobody would compare it."""
        if not self.hashed:
            return None
        if self._md5 is None:
            digest = self._digest if self._whole is None else _new_digest(self._whole)
            self._md5 = digest.hexdigest()
        return self._md5

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

    def _check_unchanged(self, after: ObjectInfo) -> None:
        before = self.before
        both_etags = before.etag is not None and after.etag is not None
        if (
            self.size != after.size
            or before.size != after.size
            or (before.etag != after.etag if both_etags else before.modified != after.modified)
        ):
            raise SourceChangedError(before.key)


def _noted(entry: Entry) -> str | None:
    return entry.known.md5 if entry.known else None


def _said(entry: Entry) -> set[str]:
    """Return what the content's MD5 is, by the manifest or by the etag."""
    etag = _md5_in(entry.info.etag) if entry.info else None
    return {md5 for md5 in (_noted(entry), etag) if md5 is not None}


def _md5_in(etag: str | None) -> str | None:
    """Return the MD5 that an etag may be, as hexadecimal digits."""
    found = _MD5.fullmatch(etag or "")
    return found[1].lower() if found else None


def _new_digest(data: bytes = b"") -> hashlib._Hash:
    # Against accidents, not against attackers; and it is what S3 gives as etag.
    return hashlib.md5(data, usedforsecurity=False)
