"""What a SQLite storage asks of its database: each function is one job for a worker."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any

from .base import Delete, ObjectInfo, Put, check_range, not_found
from .errors import ObjectExistsError, StorageError
from .metadata import check_metadata

__all__ = ["CHUNK_BYTES", "INLINE_LIMIT", "PAGE_ROWS", "WHOLE_LIMIT", "Snapshot"]

INLINE_LIMIT = 64 * 1024
"""Objects up to so many bytes lie in their row, larger ones in chunks."""
CHUNK_BYTES = 1024 * 1024
"""Bytes of every chunk but an object's last. Part of the file's format."""
WHOLE_LIMIT = 4 * CHUNK_BYTES
"""Bytes that one job reads at most; more would let other readers wait."""
PAGE_ROWS = 500
"""Objects that one job lists, or makes searchable, at most."""

STORE = """
    INSERT INTO objects (key, version, size, modified, content_type, metadata, data)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET
        version = excluded.version, size = excluded.size, modified = excluded.modified,
        content_type = excluded.content_type, metadata = excluded.metadata, data = excluded.data
"""
COPY = STORE.replace(
    "VALUES (?, ?, ?, ?, ?, ?, ?)",
    "SELECT ?, version, size, ?, content_type, metadata, data FROM objects WHERE key = ?",
)
STAT = "SELECT key, size, modified, version, content_type, metadata FROM objects WHERE key = ?"
# 0xFF is in no UTF-8, so what ends with it is greater than every key that begins like it.
# Manifests (keys.MANIFEST_NAME) are never listed.
PAGE = """
    SELECT key, size, modified, version, NULL, NULL FROM objects
    WHERE key >= ? AND key < CAST(? AS TEXT)
        AND substr('/' || key, -19) != '/.purveyor-manifest' ORDER BY key LIMIT ?
"""
TOTALS = """
    SELECT count(*), coalesce(sum(size), 0) FROM objects
    WHERE substr('/' || key, -19) != '/.purveyor-manifest'
"""
# Objects that changed since they went into the index are left out: it is behind on them.
SEARCH = """
    SELECT o.key, o.size, o.modified, o.version, o.content_type, o.metadata
    FROM words JOIN objects AS o ON o.id = words.rowid
    WHERE words MATCH ? AND o.id NOT IN (SELECT id FROM pending)
        AND substr('/' || o.key, -19) != '/.purveyor-manifest'
    ORDER BY words.rank, o.key LIMIT ?
"""


def new_version() -> int:
    """Return a name for a content that no other process gives to another."""
    return secrets.randbits(63)


def dump_metadata(metadata: Mapping[str, str] | None) -> str | None:
    """Return metadata as it is stored, checked."""
    return json.dumps(check_metadata(metadata), ensure_ascii=False) if metadata else None


def info_of(row: Sequence[Any]) -> ObjectInfo:
    """Return a row of ``STAT`` as the interface has it."""
    key, size, modified, version, content_type, metadata = row
    return ObjectInfo(
        key,
        size,
        datetime.fromtimestamp(modified, UTC),
        f"{version:016x}",
        content_type,
        MappingProxyType(json.loads(metadata) if metadata else {}),
    )


# -- writing ------------------------------------------------------------------------------


def store(
    connection: sqlite3.Connection,
    *,
    key: str,
    size: int,
    content: bytes | None = None,
    version: int | None = None,
    overwrite: bool,
    content_type: str | None,
    metadata: str | None,
    modified: float | None = None,
) -> ObjectInfo:
    """Write an object's row: with its ``content``, or the ``version`` that was uploaded."""
    if version is not None:
        _claim(connection, version)
    else:
        version = new_version()
    if content is not None and size > INLINE_LIMIT:
        connection.execute("INSERT INTO chunks VALUES (?, 0, ?)", (version, content))
        content = None
    if not overwrite:
        refuse_existing(connection, key=key)
    modified = time.time() if modified is None else modified
    connection.execute(STORE, (key, version, size, modified, content_type, metadata, content))
    return info_of((key, size, modified, version, content_type, metadata))


def add_chunk(connection: sqlite3.Connection, *, version: int, number: int, data: bytes) -> None:
    """Write a chunk of an upload; the first one begins it."""
    if number > 0:
        _claim(connection, version)
    connection.execute("INSERT INTO loose VALUES (?, ?)", (version, time.time()))
    connection.execute("INSERT INTO chunks VALUES (?, ?, ?)", (version, number, data))


def abandon(connection: sqlite3.Connection, *, version: int) -> None:
    """Leave an upload's chunks to the sweep, unless they became an object."""
    connection.execute("UPDATE loose SET touched = 0 WHERE version = ?", (version,))


def delete(connection: sqlite3.Connection, *, key: str) -> None:
    """Remove an object."""
    connection.execute("DELETE FROM objects WHERE key = ?", (key,))


def copy(
    connection: sqlite3.Connection, *, source: str, target: str, overwrite: bool
) -> ObjectInfo:
    """Copy a row; chunks are shared, not copied."""
    stat(connection, key=source)
    if not overwrite:
        refuse_existing(connection, key=target)
    if source != target:
        connection.execute(COPY, (target, time.time(), source))
    return stat(connection, key=target)


def move(
    connection: sqlite3.Connection, *, source: str, target: str, overwrite: bool
) -> ObjectInfo:
    """Give a row another key."""
    stat(connection, key=source)
    if source != target:
        if overwrite:
            delete(connection, key=target)
        else:
            refuse_existing(connection, key=target)
        connection.execute("UPDATE objects SET key = ? WHERE key = ?", (target, source))
    return stat(connection, key=target)


def apply(connection: sqlite3.Connection, *, changes: Sequence[Put | Delete]) -> None:
    """Make all changes; the first that fails undoes those before it."""
    for change in changes:
        if isinstance(change, Delete):
            delete(connection, key=change.key)
            continue
        put = partial(
            store,
            connection,
            key=change.key,
            size=len(change.data),
            overwrite=change.overwrite,
            content_type=change.content_type,
            metadata=dump_metadata(change.metadata),
        )
        if len(change.data) <= CHUNK_BYTES:
            put(content=change.data)
            continue
        version = new_version()
        for number, begin in enumerate(range(0, len(change.data), CHUNK_BYTES)):
            block = change.data[begin : begin + CHUNK_BYTES]
            add_chunk(connection, version=version, number=number, data=block)
        put(version=version)


def _claim(connection: sqlite3.Connection, version: int) -> None:
    """Take an upload from those the sweep may remove."""
    if not connection.execute("DELETE FROM loose WHERE version = ?", (version,)).rowcount:
        raise StorageError(
            "The upload moved no byte for so long that it counted as abandoned and was removed. "
            "Put the object again."
        )


def _taken(key: str) -> ObjectExistsError:
    return ObjectExistsError(
        f"There already is an object {key!r}, and overwrite=False keeps it. "
        "Choose another key, or overwrite it."
    )


# -- reading ------------------------------------------------------------------------------


def read(
    connection: sqlite3.Connection,
    key: str,
    start: int,
    end: int | None,
    *,
    limit: int = WHOLE_LIMIT,
) -> bytes | None:
    """Return what is asked of an object, None when that is more than ``limit`` bytes."""
    version, size, data = content_of(connection, key=key)
    if start or end is not None:
        check_range(start, end, size)
    if data is not None:
        return data[start:end]
    end = size if end is None else min(end, size)
    if end - start > limit:
        return None
    return b"".join(map(partial(read_part, connection, version), parts_of(start, end)))


def content_of(connection: sqlite3.Connection, *, key: str) -> tuple[int, int, bytes | None]:
    """Return an object's version, size and, unless it lies in chunks, content."""
    row = connection.execute(
        "SELECT version, size, data FROM objects WHERE key = ?", (key,)
    ).fetchone()
    if row is None:
        raise not_found(key)
    return row


def parts_of(start: int, end: int) -> list[tuple[int, slice]]:
    """Return which part of which chunk holds the bytes from ``start`` to ``end``."""
    return [
        (number, slice(max(start - number * CHUNK_BYTES, 0), end - number * CHUNK_BYTES))
        for number in range(start // CHUNK_BYTES, -(-end // CHUNK_BYTES))
    ]


def read_part(connection: sqlite3.Connection, version: int, part: tuple[int, slice]) -> bytes:
    """Return a part of a chunk."""
    number, wanted = part
    row = connection.execute(
        "SELECT data FROM chunks WHERE version = ? AND number = ?", (version, number)
    ).fetchone()
    if row is None:
        raise StorageError(
            f"Chunk {number} of the content {version:016x} is missing: the database is damaged. "
            "Restore it from a backup."
        )
    return row[0][wanted]


class Snapshot:
    """A connection that keeps seeing the database as it was; used in the reader's thread only."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None

    def open(self, _: sqlite3.Connection, *, key: str) -> tuple[int, int, bytes | None]:
        """Freeze the view; return the object's :func:`content_of` in it."""
        self._connection = self._connect()
        self._connection.execute("BEGIN")
        return content_of(self._connection, key=key)

    def read(self, _: sqlite3.Connection, *, version: int, part: tuple[int, slice]) -> bytes:
        """Return a part of a chunk, as it was."""
        if self._connection is None:
            raise StorageError("The storage was closed in the middle of the stream.")
        return read_part(self._connection, version, part)

    def close(self, _: sqlite3.Connection) -> None:
        """Let the view go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def stat(connection: sqlite3.Connection, *, key: str) -> ObjectInfo:
    """Return an object's info."""
    row = connection.execute(STAT, (key,)).fetchone()
    if row is None:
        raise not_found(key)
    return info_of(row)


def exists(connection: sqlite3.Connection, *, key: str) -> bool:
    """Tell whether there is an object."""
    return bool(connection.execute("SELECT 1 FROM objects WHERE key = ?", (key,)).fetchone())


def refuse_existing(connection: sqlite3.Connection, *, key: str) -> None:
    """Raise when there is an object."""
    if exists(connection, key=key):
        raise _taken(key)


def page(connection: sqlite3.Connection, *, start: str, prefix: str) -> list[ObjectInfo]:
    """Return the first objects from ``start`` on whose key begins with ``prefix``."""
    rows = connection.execute(PAGE, (start, prefix.encode() + b"\xff", PAGE_ROWS))
    return [info_of(row) for row in rows]


def totals(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the number of objects and of their bytes."""
    return connection.execute(TOTALS).fetchone()


def ping(connection: sqlite3.Connection) -> None:
    """Read something from the file."""
    connection.execute("SELECT 1 FROM objects LIMIT 1").fetchone()


# -- searching ----------------------------------------------------------------------------


def index(connection: sqlite3.Connection) -> bool:
    """Make some pending objects searchable, or forget them; tell whether there may be more."""
    rows = connection.execute(
        "SELECT id, fresh, key, metadata FROM pending LEFT JOIN objects USING (id) LIMIT ?",
        (PAGE_ROWS,),
    ).fetchall()
    connection.executemany(
        "DELETE FROM words WHERE rowid = ?", [(rowid,) for rowid, fresh, _, _ in rows if not fresh]
    )
    connection.executemany(
        "INSERT INTO words (rowid, key, metadata) VALUES (?, ?, ?)",
        [(rowid, key, _words(metadata)) for rowid, _, key, metadata in rows if key is not None],
    )
    connection.executemany("DELETE FROM pending WHERE id = ?", [(row[0],) for row in rows])
    return len(rows) == PAGE_ROWS


def search(connection: sqlite3.Connection, *, match: str, limit: int) -> list[ObjectInfo]:
    """Return the objects the index finds, but for those that changed since they went into it."""
    return [info_of(row) for row in connection.execute(SEARCH, (match, limit))]


def _words(metadata: str | None) -> str:
    items = json.loads(metadata).items() if metadata else ()
    return "\n".join(f"{name} {value}" for name, value in items)
