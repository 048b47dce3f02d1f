"""The folder behind a local file source: system calls only, for any thread; it changes nothing."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from .base import check_item
from .errors import (
    DataSourceConnectionError,
    DataSourcePermissionError,
    InvalidItemError,
    ItemNotFoundError,
)

__all__ = ["POSIX", "Folder", "check_pattern", "matches"]

logger = logging.getLogger(__name__)

POSIX = os.open in os.supports_dir_fd
"""Whether this system can do what :class:`Folder` needs."""
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC if POSIX else 0
_FOLDER = _ROOT | os.O_NOFOLLOW if POSIX else 0
# Not blocking: opening a pipe would wait for its other end.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC if POSIX else 0
_LINKS = 40
"""Links that lead from one to the next at most, as in Linux."""
_BATCH = 500
_NAMED = 10
"""How many names that are none a warning quotes."""


class Folder:
    """
    The files below a root, by name; what is hidden is not there.

    Every folder is opened by its name in the one above. A link to a file is followed part by part
    as far as it stays below the root, one to a folder not at all: no name leads out of the root,
    whatever happens there meanwhile. Nothing stays open between two calls, so a root that was
    replaced is found again.

    Args:
        root: The folder.
        patterns: Globs of the files that are items.
    """

    def __init__(self, root: Path, patterns: Sequence[str]) -> None:
        self.root = root
        self._patterns = [pattern.split("/") for pattern in patterns]

    def check(self) -> None:
        """
        See that the root can be listed.

        Raises:
            DataSourceConnectionError: It is not there, or is no folder.
        """
        with self._opened([]) as root, os.scandir(root) as entries:
            next(entries, None)

    def is_item(self, name: str) -> bool:
        """Tell whether a file of that name is an item: not hidden, and one of those wanted."""
        parts = name.split("/")
        return not any(part.startswith(".") for part in parts) and any(
            matches(parts, pattern) for pattern in self._patterns
        )

    # -- opening -------------------------------------------------------------------------

    @contextmanager
    def open(self, item: str) -> Generator[BinaryIO, None, None]:
        """
        Open an item for reading.

        Raises:
            InvalidItemError: No item can have that name.
            ItemNotFoundError: There is no such item.
            DataSourcePermissionError: It is behind a link that is not followed.
            DataSourceConnectionError: The root is not there.
        """
        if _is_odd(check_item(item)) or not self.is_item(item):
            raise self._no_item(item)
        parts = item.split("/")
        try:
            descriptor = self._open(parts, _FILE, len(parts) - 1)
        except OSError as error:
            match error.errno:
                case errno.ELOOP | errno.EXDEV:
                    raise DataSourcePermissionError(
                        f"{item!r} is behind a symbolic link that is not followed: "
                        f"{error.strerror}. Put what it points to below {str(self.root)!r}."
                    ) from error
                case errno.ENOENT | errno.ENOTDIR | errno.ENXIO | errno.ENAMETOOLONG:
                    raise self._no_item(item) from error
                case _:
                    raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._no_item(item)
        with os.fdopen(descriptor, "rb") as file:
            yield file

    @contextmanager
    def _opened(self, parts: Sequence[str]) -> Generator[int, None, None]:
        """Open a folder for listing."""
        folder = self._open(parts, _FOLDER, len(parts))
        try:
            yield folder
        finally:
            os.close(folder)

    def _open(self, parts: Sequence[str], flags: int, unlinked: int) -> int:
        """
        Open what lies below the root.

        A link that must not be followed is an :class:`OSError`: ``ELOOP`` if it is one of the
        first ``unlinked`` parts, ``EXDEV`` if it leads out.
        """
        with ExitStack() as opened:
            way = [self._open_root()]  # the folders from the root to here
            opened.callback(os.close, way[0])
            ahead, links = deque(parts), 0
            while ahead:
                part = ahead.popleft()
                unlinked -= 1
                if part == "..":  # of a link
                    if len(way) == 1:
                        raise OSError(errno.EXDEV, "it leads out of the root")
                    way.pop()
                    continue
                try:
                    descriptor = os.open(part, _FOLDER if ahead else flags, dir_fd=way[-1])
                except OSError as error:
                    target = _target(part, way[-1], error)
                    links += 1
                    if unlinked >= 0 or links > _LINKS:
                        raise OSError(errno.ELOOP, "it is one of a folder, or of itself") from None
                    if target.startswith("/"):
                        target = self._relative(target)
                        del way[1:]
                    ahead.extendleft(p for p in reversed(target.split("/")) if p not in ("", "."))
                    continue
                if not ahead:
                    return descriptor
                opened.callback(os.close, descriptor)
                way.append(descriptor)
            return os.dup(way[-1])

    def _relative(self, target: str) -> str:
        for root in (str(self.root), os.path.realpath(self.root)):
            if target.startswith(f"{root}/"):
                return target.removeprefix(f"{root}/")
        raise OSError(errno.EXDEV, "it leads out of the root")

    def _open_root(self) -> int:
        try:
            return os.open(self.root, _ROOT)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataSourceConnectionError(
                f"The folder {str(self.root)!r} is not there, or is no folder. Make it, mount it, "
                "or set root to another one."
            ) from error

    def _no_item(self, item: str) -> ItemNotFoundError:
        return ItemNotFoundError(
            f"There is no item {item!r} below {str(self.root)!r}: no such file, or it is hidden, "
            "or not one of `patterns`. `list_items()` has the names there are.",
            context={"item": item},
        )

    # -- listing -------------------------------------------------------------------------

    def walk(self, prefix: str) -> Generator[tuple[str, os.stat_result], None, None]:
        """
        Yield the items whose name begins with a prefix, in order of the names' bytes.

        Holds the names of the folders on one path at a time.
        """
        above, slash, _ = prefix.rpartition("/")
        if not slash:
            yield from self._walk("", prefix)
        elif _is_name(above) and not any(part.startswith(".") for part in above.split("/")):
            yield from self._walk(f"{above}/", prefix)

    def _walk(self, base: str, prefix: str) -> Generator[tuple[str, os.stat_result], None, None]:
        names = self._names(base, prefix)
        for begin in range(0, len(names), _BATCH):
            batch = names[begin : begin + _BATCH]
            for name, status in zip(batch, self._statuses(base, batch), strict=True):
                if name.endswith("/"):
                    yield from self._walk(base + name, prefix)
                elif status is not None:
                    yield base + name, status

    def _names(self, base: str, prefix: str) -> list[str]:
        """
        Return the names in a folder that lead to items, in order.

        As part of an item's name a folder's is followed by a slash, and so it is sorted.
        """
        found: list[bytes] = []
        odd: list[str] = []
        try:
            with self._opened(base.split("/")[:-1]) as folder, os.scandir(folder) as entries:
                for entry in entries:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    name = base + entry.name + "/" * is_folder
                    if entry.name.startswith(".") or not (
                        name.startswith(prefix) or (is_folder and prefix.startswith(name))
                    ):
                        continue
                    if is_folder or self.is_item(name):
                        if _is_name(base + entry.name):
                            found.append(name.removeprefix(base).encode())
                        else:
                            odd.append(name)
        except OSError as error:
            # Since the folder above was read it is gone, or something else has its name.
            if not base or not _is_gone(error):
                raise
        if odd:
            logger.warning(
                "Left out of the list below %s, %d in all, with names no item can have: %s",
                self.root,
                len(odd),
                ", ".join(map(ascii, odd[:_NAMED])),
            )
        return [name.decode() for name in sorted(found)]

    def _statuses(self, base: str, names: Sequence[str]) -> list[os.stat_result | None]:
        try:
            with self._opened(base.split("/")[:-1]) as folder:
                return [
                    None if name.endswith("/") else self._status(folder, base, name)
                    for name in names
                ]
        except OSError as error:
            if not base or not _is_gone(error):
                raise
            return [None] * len(names)

    def _status(self, folder: int, base: str, name: str) -> os.stat_result | None:
        """Return the status of a regular file, None of anything else."""
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                parts = (base + name).split("/")
                descriptor = self._open(parts, _FILE, len(parts) - 1)
                try:
                    status = os.fstat(descriptor)
                finally:
                    os.close(descriptor)
        except OSError as error:
            if _is_gone(error) or error.errno in (errno.EXDEV, errno.EACCES, errno.ENXIO):
                return None
            raise
        return status if stat.S_ISREG(status.st_mode) else None


def matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tell whether the parts of a name match the parts of a glob."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(matches(names[place:], pattern[1:]) for place in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and matches(names[1:], pattern[1:])


def check_pattern(pattern: str) -> str:
    """
    Return a glob as it is used, ``**/**`` as ``**``.

    Raises:
        ValueError: It can match no name.
    """
    parts = pattern.split("/")
    if {"", ".", ".."} & set(parts):
        raise ValueError(
            f"holds {pattern!r}, and a pattern is relative to the root, without an empty part, "
            "'.' or '..'"
        )
    kept = [part for place, part in enumerate(parts) if parts[place : place + 2] != ["**", "**"]]
    return "/".join(kept)


def _target(part: str, folder: int, error: OSError) -> str:
    """Return where a link that could not be opened points to; raise the error if it is none."""
    if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
        with suppress(OSError):
            return os.readlink(part, dir_fd=folder)
    raise error


def _is_gone(error: OSError) -> bool:
    gone = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EMLINK, errno.ENAMETOOLONG)
    return error.errno in gone


def _is_odd(name: str) -> bool:
    """Tell whether a name has what is no text: bytes that are not UTF-8."""
    return any("\ud800" <= character <= "\udfff" for character in name)


def _is_name(name: str) -> bool:
    try:
        return not _is_odd(check_item(name))
    except InvalidItemError:
        return False
