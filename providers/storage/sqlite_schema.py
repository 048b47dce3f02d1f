"""The file of a SQLite storage: how it is opened, what tables it has, what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from pathlib import Path

from .errors import StorageError, StorageFullError, StoragePermissionError, StorageTimeoutError

__all__ = [
    "UPLOAD_EXPIRY",
    "can_search",
    "explain",
    "open_reader",
    "open_writer",
    "sweep",
]

SCHEMA_VERSION = 1
APPLICATION_ID = 0x50555256  # "PURV"

UPLOAD_EXPIRY = 3600.0
"""Seconds after which an upload that moved no byte counts as abandoned."""
SWEEP_CHUNKS = 32
"""Chunks removed in one step, between which other writers get their turn."""

SCHEMA = """
-- version names a content: it is its etag and the id of its chunks. Copies share it. data is
-- NULL where the content lies in chunks; it stands last so that it is not read with the rest.
CREATE TABLE objects (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    size INTEGER NOT NULL,
    modified REAL NOT NULL,
    content_type TEXT,
    metadata TEXT,
    data BLOB
);
CREATE INDEX objects_in_chunks ON objects (version) WHERE data IS NULL;
CREATE TABLE chunks (
    version INTEGER NOT NULL,
    number INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (version, number)
);
-- Contents in chunks that belong to no object: being uploaded, or (once touched is long ago)
-- left for sweep() to remove.
CREATE TABLE loose (version INTEGER PRIMARY KEY, touched REAL NOT NULL);
-- Objects the search index does not know in their present form; fresh are those it never knew.
CREATE TABLE pending (id INTEGER PRIMARY KEY, fresh INTEGER NOT NULL);

CREATE TRIGGER objects_inserted AFTER INSERT ON objects BEGIN
    INSERT INTO pending VALUES (NEW.id, 1) ON CONFLICT (id) DO NOTHING;
END;
CREATE TRIGGER objects_updated AFTER UPDATE ON objects BEGIN
    INSERT INTO pending VALUES (NEW.id, 0) ON CONFLICT (id) DO NOTHING;
END;
CREATE TRIGGER objects_deleted AFTER DELETE ON objects BEGIN
    INSERT INTO pending VALUES (OLD.id, 0) ON CONFLICT (id) DO NOTHING;
    DELETE FROM pending WHERE id = OLD.id AND fresh;
END;
CREATE TRIGGER chunks_replaced AFTER UPDATE OF version ON objects
WHEN OLD.data IS NULL AND OLD.version <> NEW.version
AND NOT EXISTS (SELECT 1 FROM objects WHERE version = OLD.version AND data IS NULL) BEGIN
    INSERT INTO loose VALUES (OLD.version, 0);
END;
CREATE TRIGGER chunks_deleted AFTER DELETE ON objects
WHEN OLD.data IS NULL
AND NOT EXISTS (SELECT 1 FROM objects WHERE version = OLD.version AND data IS NULL) BEGIN
    INSERT INTO loose VALUES (OLD.version, 0);
END;
"""

SEARCH_SCHEMA = """
CREATE VIRTUAL TABLE IF NOT EXISTS words
USING fts5 (key, metadata, tokenize = "unicode61 remove_diacritics 2")
"""


def open_writer(path: Path, synchronous: str, busy_timeout: float) -> sqlite3.Connection:
    """
    Open the database for writing; make folder, file and tables where they are missing.

    Raises:
        StorageError: The file is another application's, or of a newer release.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.touch(mode=0o600, exist_ok=False)  # SQLite gives its side files the same mode
    connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None)
    try:
        _check_owner(connection, path)
        connection.execute("PRAGMA page_size = 8192")  # of a new file; measured best for 16 KiB
        _use_write_ahead_log(connection, path, busy_timeout)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA secure_delete = FAST")  # some builds write zeros over it all
        connection.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            if _check_owner(connection, path) == 0:
                for statement in _statements(SCHEMA):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            if can_search(connection):
                connection.execute(SEARCH_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open a connection that can only read, to a database that :func:`open_writer` opened."""
    connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    return connection


def can_search(connection: sqlite3.Connection) -> bool:
    """Tell whether SQLite was built with full-text search."""
    (built_in,) = connection.execute("SELECT sqlite_compileoption_used('ENABLE_FTS5')").fetchone()
    return bool(built_in)


def sweep(connection: sqlite3.Connection) -> bool:
    """Remove some chunks that belong to no object; tell whether there may be more."""
    expired = "SELECT version FROM loose WHERE touched < ? LIMIT 1"
    before = (time.time() - UPLOAD_EXPIRY,)
    if connection.execute(expired, before).fetchone() is None:
        return False
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        row = connection.execute(expired, before).fetchone()  # its upload may have gone on
        if row is not None:
            removed = connection.execute(
                "DELETE FROM chunks WHERE version = ?1 AND number IN"
                " (SELECT number FROM chunks WHERE version = ?1 LIMIT ?2)",
                (row[0], SWEEP_CHUNKS),
            )
            if removed.rowcount < SWEEP_CHUNKS:
                connection.execute("DELETE FROM loose WHERE version = ?", row)
    return True


def explain(
    error: sqlite3.Error | OSError, path: Path, what: str, name: str = ""
) -> StorageError | None:
    """
    Return the storage family's error for one of SQLite's, None for a mistake in its use.

    Args:
        error: What SQLite raised, or the operating system while the file was made.
        path: The database file.
        what: What failed, as the beginning of a sentence.
        name: The provider's name.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, PermissionError):
        code = sqlite3.SQLITE_PERM
    elif isinstance(error, OSError):
        code = sqlite3.SQLITE_FULL if error.errno == errno.ENOSPC else sqlite3.SQLITE_IOERR
    if code is None:
        return None
    what = f"{what}: {error}"
    match code & 0xFF:  # the rest is detail
        case sqlite3.SQLITE_FULL:
            return StorageFullError(
                f"{what} ({path}). Free space or choose another storage; what was stored before "
                "is untouched.",
                name or None,
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StorageTimeoutError(
                f"{what}. Another process kept {path} locked for longer than busy_timeout. Try "
                "again, or raise busy_timeout.",
                name or None,
            )
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return StorageError(
                f"{what}. {path} is damaged or not a SQLite database; nothing in it was changed. "
                "Restore it from a backup, or set 'path' to another file.",
                name or None,
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            pass
        case sqlite3.SQLITE_CANTOPEN if path.is_file() and not os.access(path, os.R_OK | os.W_OK):
            pass
        case _:
            return StorageError(f"{what} ({path}).", name or None)
    return StoragePermissionError(
        f"{what}. Give the account that runs this process the right to read and write {path} and "
        "its folder.",
        name or None,
    )


def _check_owner(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema version, 0 for an empty database; refuse what is not ours."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise StorageError(
            f"{path} is the database of another application; nothing in it was changed. Set "
            "'path' to another file."
        )
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"{path} was written by a newer release of Purveyor (its schema is version {version}, "
            f"this release knows {SCHEMA_VERSION}); nothing in it was changed. Install that "
            "release, or set 'path' to another file."
        )
    return version


def _use_write_ahead_log(connection: sqlite3.Connection, path: Path, busy_timeout: float) -> None:
    """Switch to WAL, so that readers and the writer do not wait for each other."""
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            # Two processes that open a new file at once: SQLite does not wait by itself here.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise StorageError(
            f"{path} cannot be shared by readers and a writer (journal mode {mode!r} instead of "
            "'wal'), as on a network file system. Set 'path' to a file on a local disk."
        )


def _statements(script: str) -> list[str]:
    """Split a script, because ``executescript`` would commit the transaction it runs in."""
    statements: list[str] = []
    rest = ""
    for line in script.splitlines(keepends=True):
        rest += line
        if sqlite3.complete_statement(rest):
            statements.append(rest)
            rest = ""
    return statements
