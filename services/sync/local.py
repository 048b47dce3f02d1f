"""Folders and files of this machine as the two ends of a sync."""

from __future__ import annotations

import asyncio
import itertools
import os
import stat
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime
from pathlib import Path

from ...providers.registry import RegistryError, guarded
from ...providers.storage import InvalidKeyError, ObjectInfo, StoragePermissionError, check_key
from ...providers.storage.base import reason_of
from ...providers.storage.filesystem import FilesystemConfig, FilesystemStorage
from ...providers.storage.keys import MANIFEST_NAME, RESERVED_PREFIX
from .merge import Entry

__all__ = ["local_storage", "walk"]

PAGE = 500


def local_storage(folder: Path) -> FilesystemStorage:
    """
    Return a storage of the files below ``folder``, which makes the folder when it connects.

    New files get the permissions that the process's umask leaves. Dispose it in the end.
    """
    config = FilesystemConfig(root=folder, file_mode=0o666)
    return guarded(FilesystemStorage(config), name=str(folder))


async def walk(folder: Path) -> AsyncGenerator[Entry]:
    """
    Iterate over the files below ``folder`` in order of their keys.

    A storage's own listing leaves out what is no object of it; a sync has to tell: links and
    special files are ignored by name, and names that are no keys, and folders that cannot be
    read, are faults. Nothing in the folder is changed.
    """
    found = _entries(os.fspath(folder), "")
    while page := await asyncio.to_thread(lambda: [*itertools.islice(found, PAGE)]):
        for entry in page:
            yield entry


def _entries(folder: str, base: str) -> Iterator[Entry]:
    try:
        with os.scandir(folder) as scanned:
            # As part of a key a folder's name is followed by a slash, and so it is sorted.
            names = sorted(
                (f"{item.name}/" if item.is_dir(follow_symlinks=False) else item.name)
                for item in scanned
            )
    except OSError as error:
        yield Entry(base, fault=_fault(error, folder))
        return
    for name in names:
        key = base + name
        if name.endswith("/"):
            yield from _entries(f"{folder}{os.sep}{name}", key)
        elif (entry := _entry(f"{folder}{os.sep}{name}", key, name)) is not None:
            yield entry


def _entry(path: str, key: str, name: str) -> Entry | None:
    if name == MANIFEST_NAME or (name.startswith(RESERVED_PREFIX) and name.endswith(".part")):
        return None  # an object that another process is writing, or what is known of objects
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None  # gone since its folder was read
    except OSError as error:
        return Entry(key, fault=_fault(error, path))
    if stat.S_ISLNK(status.st_mode):
        return Entry(key, ignored="a symbolic link; links are not followed")
    if not stat.S_ISREG(status.st_mode):
        return Entry(key, ignored="no regular file")
    try:
        check_key(key)
    except InvalidKeyError as error:
        return Entry(key, fault=error)
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return Entry(key, ObjectInfo(key, status.st_size, modified))


def _fault(error: OSError, path: str) -> RegistryError:
    return StoragePermissionError(f"{path!r} cannot be read: {reason_of(error)}.")
