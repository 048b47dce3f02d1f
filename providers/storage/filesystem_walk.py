"""Listing the folders of a file system storage as if they were one sorted list of keys."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Generator

from .base import ObjectInfo
from .errors import InvalidKeyError
from .filesystem_tree import FOLDER, PART, FileTree, info_of
from .keys import RESERVED_PREFIX, check_key

__all__ = ["walk"]

logger = logging.getLogger(__name__)

ABANDONED = 24 * 3600.0
"""Seconds after which a file half-written is taken for the remains of a killed process."""
NAMED = 10
"""How many names that are no keys a warning quotes."""


def walk(tree: FileTree, prefix: str) -> Generator[ObjectInfo, None, None]:
    """
    Yield the objects whose key begins with a prefix, in order of the keys' bytes.

    Holds the names of the folders on one path at a time.
    """
    above, slash, _ = prefix.rpartition("/")
    base = f"{above}{slash}"
    try:
        # A descriptor of its own: those who list a folder through one share their place in it.
        folder = tree.open_folder(base)
    except FileNotFoundError:
        tree.check_not_removed()
        return
    try:
        tree.check_not_removed()
        yield from _walk(tree, folder, base, prefix)
    finally:
        os.close(folder)


def _walk(tree: FileTree, folder: int, base: str, prefix: str) -> Generator[ObjectInfo, None, None]:
    for name in _names(tree, folder, base, prefix):
        try:
            if name.endswith("/"):
                below = os.open(name[:-1], FOLDER, dir_fd=folder)
                try:
                    yield from _walk(tree, below, base + name, prefix)
                finally:
                    os.close(below)
            else:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield info_of(base + name, status)
        except OSError as error:
            # Since its folder was read it is gone, or something else has its name.
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EMLINK):
                raise


def _names(tree: FileTree, folder: int, base: str, prefix: str) -> list[str]:
    """
    Return the names in a folder that lead to keys with the prefix, in order.

    As part of a key a folder's name is followed by a slash, and so it is sorted.
    """
    found: list[bytes] = []
    faults: list[str] = []
    left_out = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(RESERVED_PREFIX):
                _remove_if_abandoned(folder, entry.name)
                continue
            is_folder = entry.is_dir(follow_symlinks=False)
            name = f"{entry.name}/" if is_folder else entry.name
            key = base + name
            if not (key.startswith(prefix) or (is_folder and prefix.startswith(key))):
                continue
            try:
                check_key(base + entry.name)
            except InvalidKeyError as error:
                left_out += 1
                if left_out <= NAMED:
                    faults.append(error.message)
            else:
                found.append(name.encode())
    if faults:
        logger.warning(
            "Left out of the list below %s, %d in all: %s",
            tree.path,
            left_out,
            " ".join(faults),
        )
    found.sort()
    return [name.decode() for name in found]


def _remove_if_abandoned(folder: int, name: str) -> None:
    if name.endswith(PART):
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > ABANDONED:
                os.unlink(name, dir_fd=folder)
