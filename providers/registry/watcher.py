"""Has a file or folder changed? Told by polling, which misses no atomic replacement."""

from __future__ import annotations

import hashlib
import logging
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

__all__ = ["FileWatcher"]

logger = logging.getLogger(__name__)

_MAX_FILES = 10_000
_GRAIN = 2_000_000_000
"""Nanoseconds within which two changes may bear the same time; file systems have up to 2 s."""
_State = tuple[int, int, int, int]


class FileWatcher:
    """
    Remembers the state of files and folders, and their content.

    A look costs one ``stat`` a file. Only where the state differs (times of change, inode, size),
    or the last change is so young that another could bear the same time, is the content read;
    and only another content counts as a change: a file that was merely touched or replaced by
    its like does not.

    Args:
        clock: The time of day in nanoseconds.
    """

    def __init__(self, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._states: dict[Path, _State] = {}
        self._hashes: dict[Path, bytes] = {}
        self._overflowed = False

    def look(self, paths: Iterable[Path]) -> list[Path]:
        """
        Return what changed since the last look: other content, new or gone.

        Args:
            paths: Files and folders, whether they exist or not; folders with all below them,
                10,000 in all, those named here first.
        """
        young = self._clock() - _GRAIN
        before, self._states = self._states, {}
        known, self._hashes = self._hashes, {}
        for path, state in self._walk(paths):
            trusted = before.get(path) == state and max(state[:2]) < young
            self._hashes[path] = known[path] if trusted and path in known else _digest(path)
            self._states[path] = state
        differing = known.items() ^ self._hashes.items()
        return sorted({path for path, _ in differing})

    def _walk(self, paths: Iterable[Path]) -> Iterator[tuple[Path, _State]]:
        waiting = deque(dict.fromkeys(paths))
        seen: set[Path] = set(waiting)
        folders: set[tuple[int, int]] = set()
        left = _MAX_FILES
        while waiting:
            path = waiting.popleft()
            try:
                status = path.stat()
                folder = (status.st_dev, status.st_ino)
                if stat.S_ISDIR(status.st_mode) and folder not in folders:
                    folders.add(folder)  # a link may lead to it again, and round in circles
                    below = [one for one in sorted(path.iterdir()) if one not in seen]
                    waiting += below
                    seen.update(below)
            except OSError:  # it is not there, or not for us
                continue
            if not left:
                self._tell_overflow(path)
                return
            left -= 1
            yield path, (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)

    def _tell_overflow(self, path: Path) -> None:
        if not self._overflowed:
            self._overflowed = True
            logger.warning(
                "Only %d files and folders are watched for changes: not %s, nor any after it",
                _MAX_FILES,
                path,
            )


def _digest(path: Path) -> bytes:
    try:
        if path.is_dir():
            return "\0".join(sorted(one.name for one in path.iterdir())).encode(errors="replace")
        if not path.is_file():  # a pipe, say: opening one waits for its other end
            return b""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError as error:
        return str(error.errno).encode()
