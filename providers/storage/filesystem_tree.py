"""The folders and files behind a file system storage: system calls only, for any thread."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import stat
import weakref
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

from .base import ObjectInfo
from .errors import (
    KeyConflictError,
    ObjectExistsError,
    StorageError,
    StoragePermissionError,
    StorageRootNotFoundError,
)
from .keys import RESERVED_PREFIX

__all__ = ["FOLDER", "PART", "POSIX", "FileTree", "info_of"]

POSIX = os.open in os.supports_dir_fd
"""Whether this system can do what :class:`FileTree` needs."""
PART = ".part"
"""How the names of files that are being written end."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC if POSIX else 0
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC if POSIX else 0
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC if POSIX else 0
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
_ATTEMPTS = 1000


class FileTree:
    """
    Objects as files below a root folder, which stays open.

    Every folder is opened by its name in the one above and no link is followed, so no key leads
    out of the root, whatever happens there meanwhile.

    Args:
        root: The folder; made if it is not there.
        file_mode: Permissions of new files; who may read those may enter new folders.
        fsync: Whether changes reach the disk before a call returns.

    Raises:
        StorageRootNotFoundError: The root is not a folder, or cannot be made.
        StoragePermissionError: The root may not be made or opened.
    """

    def __init__(self, root: Path, file_mode: int, fsync: bool) -> None:
        self.path = root
        self.file_mode = file_mode
        self.fsync = fsync
        self._mark = f"{RESERVED_PREFIX}{secrets.token_hex(8)}"
        self._numbers = itertools.count()
        self._folder_mode = file_mode | 0o300 | (file_mode & 0o444) >> 2
        try:
            root.mkdir(mode=self._folder_mode, parents=True, exist_ok=True)
            self.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileExistsError, NotADirectoryError):
            raise StorageRootNotFoundError(
                f"The storage's root {str(root)!r} is not a folder. Set root to a folder."
            ) from None
        except OSError as error:
            told = f"The storage's root {str(root)!r} cannot be opened: {error.strerror}. "
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise StoragePermissionError(
                    f"{told}Give the account that runs this process access to it, or set root to "
                    "another folder."
                ) from error
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG):
                raise StorageRootNotFoundError(
                    f"{told}Set root to a folder that can be made there."
                ) from error
            raise
        self._closer = weakref.finalize(self, os.close, self.root)

    def close(self) -> None:
        """Close the root, when nothing is being written any more."""
        self._closer()

    def check(self) -> None:
        """
        See that the root is the folder of its name still, and can be written.

        Raises:
            StorageRootNotFoundError: It was removed or replaced.
            StoragePermissionError: It cannot be written.
        """
        try:
            there = self.path.stat()
        except FileNotFoundError:
            there = None
        if there is None or not os.path.samestat(there, os.fstat(self.root)):
            raise self._gone()
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise StoragePermissionError(
                f"The storage's root {str(self.path)!r} cannot be written. Give the account that "
                "runs this process access to it, or set root to another folder."
            )

    def check_not_removed(self) -> None:
        """Raise :class:`StorageRootNotFoundError` if the root was removed."""
        if os.fstat(self.root).st_nlink == 0:
            raise self._gone()

    def free_bytes(self) -> int:
        """Return the space left for this account."""
        disk = os.fstatvfs(self.root)
        return disk.f_bavail * disk.f_frsize

    # -- folders -------------------------------------------------------------------------

    def enter(self, key: str, *, create: bool = False) -> tuple[int, str]:
        """Open the folder a key's last part lies in, to be closed by :meth:`leave`."""
        if "/" not in key:
            return self.root, key
        *parts, name = key.split("/")
        folder = self.root
        try:
            for depth, part in enumerate(parts, 1):
                below = self._enter(folder, part, parts[:depth], create)
                self.leave(folder)
                folder = below
        except BaseException:
            self.leave(folder)
            raise
        return folder, name

    def open_folder(self, base: str) -> int:
        """Open a folder, named with a slash at the end; the root's name is empty."""
        with self._entered(f"{base}.") as (folder, name):
            return os.open(name, FOLDER, dir_fd=folder)

    def leave(self, folder: int) -> None:
        """Close what :meth:`enter` opened."""
        if folder != self.root:
            os.close(folder)

    @contextlib.contextmanager
    def _entered(self, key: str, *, create: bool = False) -> Generator[tuple[int, str], None, None]:
        folder, name = self.enter(key, create=create)
        try:
            yield folder, name
        finally:
            self.leave(folder)

    def _enter(self, folder: int, part: str, path: list[str], create: bool) -> int:
        while True:
            try:
                return os.open(part, FOLDER, dir_fd=folder)
            except FileNotFoundError:
                if not create:
                    raise
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EMLINK):
                    raise
                status = os.stat(part, dir_fd=folder, follow_symlinks=False)
                shown = "/".join(path)
                if stat.S_ISLNK(status.st_mode):
                    raise StoragePermissionError(
                        f"{shown!r} is a symbolic link, which might lead out of the storage's root "
                        f"{str(self.path)!r}; it is not followed. Remove it."
                    ) from None
                if create:
                    raise _conflict(f"{shown}/...", shown) from None
                raise FileNotFoundError(errno.ENOENT, "no such folder", shown) from None
            with contextlib.suppress(FileExistsError):  # another writer was faster
                os.mkdir(part, self._folder_mode, dir_fd=folder)
                if self.fsync:
                    os.fsync(folder)

    def remove_empty_folders(self, key: str) -> None:
        """Remove the empty folders above a key; who puts there meanwhile makes them anew."""
        parts = key.split("/")[:-1]
        with contextlib.suppress(OSError, StorageError):
            while parts:
                with self._entered("/".join(parts)) as (folder, name):
                    os.rmdir(name, dir_fd=folder)
                parts.pop()

    # -- files ---------------------------------------------------------------------------

    def stat(self, key: str) -> ObjectInfo:
        """Return what is known of an object; :class:`FileNotFoundError` if there is none."""
        with self._entered(key) as (folder, name):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise _no_file(key)
        return info_of(key, status)

    def open(self, key: str) -> tuple[int, os.stat_result]:
        """Open an object for reading; :class:`FileNotFoundError` if there is none."""
        folder, name = self.enter(key)
        try:
            descriptor = os.open(name, _READ, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):  # a link, a socket
                raise _no_file(key) from None
            raise
        finally:
            self.leave(folder)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise _no_file(key)
        return descriptor, status

    def delete(self, key: str) -> None:
        """Remove an object if there is one; folders left empty go too."""
        try:
            with self._entered(key) as (folder, name):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    return
                os.unlink(name, dir_fd=folder)
                self._sync(folder)
        except FileNotFoundError:
            return
        self.remove_empty_folders(key)

    def move(self, source: str, target: str, overwrite: bool) -> ObjectInfo:
        """Rename an object."""
        descriptor, status = self.open(source)
        os.close(descriptor)
        if source != target:
            with self._entered(source) as (folder, name):
                self._move(folder, name, target, overwrite)
                self._sync(folder)
            self.remove_empty_folders(source)
        return info_of(target, status)

    def _move(self, from_folder: int, from_name: str, target: str, overwrite: bool) -> None:
        for _ in range(_ATTEMPTS):
            try:
                with self._entered(target, create=True) as (folder, name):
                    self.place(from_folder, from_name, folder, name, target, overwrite)
                return
            except FileNotFoundError:
                self.check_not_removed()
                os.stat(from_name, dir_fd=from_folder, follow_symlinks=False)  # or it is the source
            except (OSError, StorageError):
                self.remove_empty_folders(target)
                raise
        raise self._unstable(target)

    def place(
        self, from_folder: int, from_name: str, folder: int, name: str, key: str, overwrite: bool
    ) -> None:
        """
        Rename onto a key, or link to it if it must be new: to all others one step.

        Raises:
            KeyConflictError: There are objects below the key.
            ObjectExistsError: ``overwrite`` is False and the key is taken.
        """
        try:
            if overwrite:
                os.replace(from_name, name, src_dir_fd=from_folder, dst_dir_fd=folder)
            else:
                os.link(
                    from_name,
                    name,
                    src_dir_fd=from_folder,
                    dst_dir_fd=folder,
                    follow_symlinks=False,
                )
                os.unlink(from_name, dir_fd=from_folder)
        except (IsADirectoryError, FileExistsError) as error:
            try:
                os.rmdir(name, dir_fd=folder)  # a folder that is empty stands for no object
            except NotADirectoryError:
                raise ObjectExistsError(
                    f"There is an object {key!r} already; it was not replaced."
                ) from None
            except FileNotFoundError:
                if isinstance(error, FileExistsError):  # there was one, at the moment that counts
                    raise ObjectExistsError(
                        f"There was an object {key!r} already; it was not replaced."
                    ) from None
            except OSError:
                raise _conflict(key, f"{key}/...") from None
            self.place(from_folder, from_name, folder, name, key, overwrite)
        except OSError as error:
            if overwrite or error.errno not in _NO_LINKS:
                raise
            raise StorageError(
                "overwrite=False needs hard links, which the file system of "
                f"{str(self.path)!r} lacks. Put with overwrite=True, or set root to a "
                "folder of another file system."
            ) from error
        else:
            self._sync(folder)

    def _sync(self, folder: int) -> None:
        if self.fsync:
            os.fsync(folder)

    def _gone(self) -> StorageRootNotFoundError:
        return StorageRootNotFoundError(
            f"The storage's root {str(self.path)!r} was removed or replaced while in use. "
            "Put it back, or restart the application."
        )

    def _unstable(self, key: str) -> StorageError:
        return StorageError(
            f"The folder of {key!r} below {str(self.path)!r} is removed as often as it is made. "
            "Find out what else works in there."
        )

    def create(self, key: str) -> tuple[int, str, int, str]:
        """Open a key's folder, and a new file in it; return both with their names."""
        beside = f"{self._mark}-{next(self._numbers)}{PART}"
        for _ in range(_ATTEMPTS):
            try:
                folder, name = self.enter(key, create=True)
                try:
                    file = os.open(beside, _CREATE, self.file_mode, dir_fd=folder)
                except BaseException:
                    self.leave(folder)
                    raise
            except FileNotFoundError:  # the folder was empty, and removed, between two steps
                self.check_not_removed()
            else:
                return folder, name, file, beside
        raise self._unstable(key)


def info_of(key: str, status: os.stat_result) -> ObjectInfo:
    """Return an object's info; the inode tells apart what was written at the same time."""
    return ObjectInfo(
        key=key,
        size=status.st_size,
        modified=datetime.fromtimestamp(status.st_mtime, UTC),
        etag=f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}",
    )


def _conflict(key: str, other: str) -> KeyConflictError:
    return KeyConflictError(
        f"A file system cannot hold {key!r} beside {other!r}: one is a file, the other a "
        "folder. Choose another key, or a type with the capability flat-keys (sqlite, s3)."
    )


def _no_file(key: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "not a regular file", key)
