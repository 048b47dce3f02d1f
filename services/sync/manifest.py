"""
What a target cannot keep itself: the times that its objects had at their source.

An object store tells when an object was put, not when its content was last changed, and would
have to be asked for every single object's metadata. So what is known of all objects below a
place stands in one further object of it, ``.purveyor-manifest``: lines of JSON, compressed
by zlib (RFC 1950). First ``{"version": 1}``, then, in order of the paths, ``[path, size, etag,
time, MD5]`` with the time in microseconds since 1970 and the MD5 as hexadecimal digits or null.
A line counts as long as the object still has that size and etag: who writes to the target by
other means, or at the same time, makes nothing wrong.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

from ...providers.registry import RegistryError
from ...providers.storage import ObjectNotFoundError, StorageProvider
from ...providers.storage.keys import MANIFEST_NAME
from .errors import StopError, SyncError
from .merge import Entry, Known

__all__ = ["Ledger", "ManifestError", "joined", "read_manifest"]

HEADER: dict[str, int] = {"version": 1}
LINE_LIMIT = 16 * 1024
"""Bytes; no path, size, etag and checksum needs more."""
STEP = 64 * 1024
"""Bytes unpacked at a time, whatever they are made of."""
BATCH = 500


class ManifestError(Exception):
    """A manifest that cannot be read."""


async def read_manifest(storage: StorageProvider[Any], prefix: str) -> AsyncGenerator[Known]:
    """
    Iterate over the manifest of a place in order of the paths; over nothing where it has none.

    Raises:
        ManifestError: It is damaged, or of a version of the future.
        RegistryError: It cannot be got.
    """
    rest, last, header = b"", "", None
    unpack = zlib.decompressobj()
    try:
        async with aclosing(_unpacked(storage, f"{prefix}{MANIFEST_NAME}", unpack)) as parts:
            async for part in parts:
                *lines, rest = (rest + part).split(b"\n")
                if len(rest) > LINE_LIMIT:
                    raise ManifestError("a line is too long")
                for line in lines:
                    if header is None:
                        header = json.loads(line)
                        if header != HEADER:
                            raise ManifestError("it is of another version")
                        continue
                    known = _read(line)
                    if known.path <= last:
                        raise ManifestError("it is out of order")
                    last = known.path
                    yield known
    except ObjectNotFoundError:
        return
    except (ValueError, TypeError, RecursionError, zlib.error) as error:
        raise ManifestError("it is damaged") from error
    if not unpack.eof or rest:
        raise ManifestError("it is cut short")


async def _unpacked(
    storage: StorageProvider[Any], key: str, unpack: zlib._Decompress
) -> AsyncGenerator[bytes]:
    stream = cast("AsyncGenerator[bytes]", storage.stream(key))
    async with aclosing(stream):
        async for packed in stream:
            part = unpack.decompress(packed, STEP)
            while part:
                yield part
                part = unpack.decompress(unpack.unconsumed_tail, STEP)


def _read(line: bytes) -> Known:
    path, size, etag, modified, md5 = json.loads(line)
    for value, kinds in (
        (path, (str,)),
        (size, (int,)),
        (etag, (str, type(None))),
        (modified, (int,)),
        (md5, (str, type(None))),
    ):
        if not isinstance(value, kinds):
            raise ManifestError("a line has another form")
    return Known(path, size, etag, modified, md5)


async def joined(
    entries: AsyncGenerator[Entry],
    manifest: AsyncGenerator[Known],
    warn: Callable[[str], object],
) -> AsyncGenerator[Entry]:
    """
    Iterate over a listing, each entry with what the manifest knows of it, if that still holds.

    A manifest that cannot be read counts as none: ``warn`` is told why.
    """
    async with aclosing(entries), aclosing(_or_none(manifest, warn)) as lines:
        known = await anext(lines, None)
        async for entry in entries:
            while known is not None and known.path < entry.path:
                known = await anext(lines, None)
            info = entry.info
            if (
                known is not None
                and info is not None
                and known.path == entry.path
                and (known.size, known.etag) == (info.size, info.etag)
            ):
                yield replace(entry, known=known)
            else:
                yield entry


async def _or_none(
    manifest: AsyncGenerator[Known], warn: Callable[[str], object]
) -> AsyncGenerator[Known]:
    try:
        async with aclosing(manifest):
            async for known in manifest:
                yield known
    except (ManifestError, RegistryError) as error:
        reason = error.message if isinstance(error, RegistryError) else str(error)
        warn(f"The times kept in {MANIFEST_NAME} are not used: {reason}")


class Ledger:
    """
    What is at the target and what is to be removed there, in order, on disk and not in memory.

    The file has no name and goes with its process.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(
            """
            CREATE TABLE known (path TEXT PRIMARY KEY, size, etag, modified, md5) WITHOUT ROWID;
            CREATE TABLE extra (path TEXT PRIMARY KEY) WITHOUT ROWID;
            """
        )
        self._buffer: list[Known] = []
        self._extras: list[tuple[str]] = []
        self.extra_count = 0
        """How many objects are only at the target."""
        self.changed = False
        """Whether a manifest of what is noted here would differ from that of the target."""

    def note(self, known: Known, *, new: bool) -> None:
        """Note an object of the target, ``new`` if the manifest does not have it so."""
        self.changed = self.changed or new
        self._buffer.append(known)
        if len(self._buffer) >= BATCH:
            self._flush()

    def note_extra(self, path: str) -> None:
        """Note an object that is only at the target."""
        self.extra_count += 1
        self._extras.append((path,))
        if len(self._extras) >= BATCH:
            self._flush()

    def forget(self, path: str) -> None:
        """Take back what was noted of an object, which is gone now."""
        self._flush()
        self._database.execute("DELETE FROM known WHERE path = ?", (path,))
        self.changed = True

    def _flush(self) -> None:
        known, self._buffer = self._buffer, []
        extras, self._extras = self._extras, []
        try:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?)", known)
            self._database.executemany("INSERT OR REPLACE INTO extra VALUES (?)", extras)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise StopError(
                SyncError(
                    "NO_ROOM",
                    f"What a sync has to remember cannot be written to a temporary file: {error}. "
                    "Free space there, or name another folder with SQLITE_TMPDIR.",
                )
            ) from error

    def extras(self) -> Iterator[str]:
        """Iterate over what is only at the target."""
        self._flush()
        for (path,) in self._database.execute("SELECT path FROM extra ORDER BY path"):
            yield path

    async def manifest(self) -> AsyncGenerator[bytes]:
        """Iterate over a manifest of what was noted, in chunks."""
        self._flush()
        pack = zlib.compressobj(6)
        yield pack.compress(_line(HEADER))
        rows = self._database.execute("SELECT * FROM known ORDER BY path")
        while page := rows.fetchmany(BATCH):
            yield pack.compress(b"".join(map(_line, page)))
        yield pack.flush()

    def close(self) -> None:
        """Give the file back."""
        self._database.close()


def _line(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
