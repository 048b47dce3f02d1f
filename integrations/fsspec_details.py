"""What fsspec is told of an object or a folder, and of what goes wrong with it."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, cast

from ..providers.registry import NotFoundError
from ..providers.storage import (
    ObjectExistsError,
    ObjectInfo,
    ObjectNotFoundError,
    StorageFullError,
)

if TYPE_CHECKING:
    from ..providers.storage import StorageProvider

__all__ = ["Details", "errors_of_files", "file_at", "folder_at", "listing_of", "not_found"]

Details = dict[str, Any]


@contextmanager
def errors_of_files(path: str) -> Generator[None]:
    """Raise what a Python programmer catches around files, with the message that says why."""
    try:
        yield
    except (ObjectNotFoundError, NotFoundError) as error:
        raise FileNotFoundError(errno.ENOENT, str(error), path) from error
    except ObjectExistsError as error:
        raise FileExistsError(errno.EEXIST, str(error), path) from error
    except StorageFullError as error:
        raise OSError(errno.ENOSPC, str(error), path) from error


def not_found(path: str) -> FileNotFoundError:
    """Return the error for a path that names nothing."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def listing_of(storage: StorageProvider[Any], prefix: str) -> aclosing[AsyncGenerator[ObjectInfo]]:
    """Return a listing that is closed at the end of its ``async with``."""
    return aclosing(cast("AsyncGenerator[ObjectInfo]", storage.list(prefix)))


def folder_at(path: str) -> Details:
    """Return what is known of a folder."""
    return {"name": path, "size": 0, "type": "directory"}


def file_at(path: str, info: ObjectInfo) -> Details:
    """Return what is known of an object."""
    details: Details = {
        "name": path,
        "size": info.size,
        "type": "file",
        "modified": info.modified,
        "mtime": info.modified.timestamp(),
        "etag": info.etag,
    }
    if info.content_type is not None:
        details["content_type"] = info.content_type
    if info.metadata:
        details["metadata"] = dict(info.metadata)
    return details
