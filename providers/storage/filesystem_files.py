"""One file of a file system storage while it is written or read."""

from __future__ import annotations

import contextlib
import os

from .base import CHUNK_SIZE, ObjectInfo, check_range
from .errors import StorageError
from .filesystem_tree import FileTree, info_of

__all__ = ["Draft", "Reader"]

COPY_STEP = 64 * CHUNK_SIZE
"""Bytes the system copies at a time, so that a cancelled copy ends soon."""


class Draft:
    """
    An object that is being written, under a temporary name beside its place.

    Made without a system call. Each call is a step for any thread, one at a time; the last one
    must be :meth:`discard`.
    """

    def __init__(self, tree: FileTree, key: str) -> None:
        self._tree = tree
        self._key = key
        self._file: int | None = None
        self._placed = False

    def _opened(self) -> int:
        if self._file is None:
            self._folder, self._name, self._file, self._beside = self._tree.create(self._key)
        return self._file

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; a write of the system may take less than it is given."""
        file = self._opened()
        written = os.write(file, data)
        view = memoryview(data).cast("B")
        while written < len(view):
            written += os.write(file, view[written:])

    def copy_from(self, descriptor: int) -> int:
        """
        Append the next part of an open file; return its size, 0 at the end.

        Some file systems share the blocks. Others cannot copy, or do nothing and say so: then the
        part is read and written.
        """
        file = self._opened()
        try:
            copied = os.copy_file_range(descriptor, file, COPY_STEP)
        except (AttributeError, OSError):  # if the target is the reason, writing will tell
            copied = 0
        if not copied:
            data = os.read(descriptor, CHUNK_SIZE)
            self.write(data)
            copied = len(data)
        return copied

    def commit(self, overwrite: bool, modified: float | None = None) -> ObjectInfo:
        """Put the object in its place; see :meth:`FileTree.place`."""
        file = self._opened()
        if modified is not None:
            os.utime(file, (modified, modified))
        if self._tree.fsync:
            os.fsync(file)
        status = os.fstat(file)
        self._tree.place(self._folder, self._beside, self._folder, self._name, self._key, overwrite)
        self._placed = True
        return info_of(self._key, status)

    def discard(self) -> None:
        """Close, and remove what was not put in its place. A second time it does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            if not self._placed:
                with contextlib.suppress(OSError):
                    os.unlink(self._beside, dir_fd=self._folder)
            self._tree.leave(self._folder)
            if not self._placed:
                self._tree.remove_empty_folders(self._key)


class Reader:
    """
    A range of an object that is being read: of one version, also when it is replaced.

    Made without a system call. Each call is a step for any thread, one at a time; the last one
    must be :meth:`close`.
    """

    status: os.stat_result
    """What the system knows of the file, when it is open."""
    left: int
    """How many bytes are still to be read, when it is open."""

    def __init__(self, tree: FileTree, key: str, start: int = 0, end: int | None = None) -> None:
        self._tree = tree
        self._key = key
        self._at = start
        self._end = end
        self._file = -1

    def open(self) -> int:
        """
        Open the file and return its descriptor.

        Raises:
            FileNotFoundError: There is no such object.
            InvalidRangeError: The range starts past its end.
        """
        self._file, self.status = self._tree.open(self._key)
        size = self.status.st_size
        check_range(self._at, self._end, size)
        self.left = (size if self._end is None else min(self._end, size)) - self._at
        return self._file

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer than ``size`` where the system gives fewer."""
        data = os.pread(self._file, min(size, self.left), self._at)
        if not data and self.left:
            raise StorageError(f"{self._key!r} was cut short on disk while it was read.")
        self._at += len(data)
        self.left -= len(data)
        return data

    def close(self) -> None:
        """Close the file if it is open."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
