"""Has a file or folder changed? Told by polling, which misses no atomic replacement."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["FileWatcher"]

_MAX_FILES = 10_000
_State = tuple[int, int, int]


class FileWatcher:
    """
    Remembers the state of files and folders, and their content.

    A look costs one ``stat`` a file. Only where the state differs (time of change, inode, size) is
    the content read, and only another content counts as a change: a file that was merely touched
    or replaced by its like does not.
    """

    def __init__(self) -> None:
        self._states: dict[Path, _State] = {}
        self._hashes: dict[Path, bytes] = {}

    def look(self, paths: Iterable[Path]) -> list[Path]:
        """
        Return what changed since the last look: other content, new or gone.

        Args:
            paths: Files and folders, whether they exist or not; folders with all below them.
        """
        states = dict(_states(paths))
        changed = [path for path in self._states.keys() - states.keys() if path in self._hashes]
        for path, state in states.items():
            if self._states.get(path) == state and path in self._hashes:
                continue
            digest = _digest(path)
            if self._hashes.get(path) != digest:
                changed.append(path)
            self._hashes[path] = digest
        for path in self._hashes.keys() - states.keys():
            del self._hashes[path]
        self._states = states
        return sorted(changed)


def _states(paths: Iterable[Path]) -> Iterable[tuple[Path, _State]]:
    left = _MAX_FILES
    waiting = list(paths)
    seen: set[Path] = set()
    while waiting and left:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        left -= 1
        try:
            status = path.stat()
            if path.is_dir():
                waiting += path.iterdir()
            yield path, (status.st_mtime_ns, status.st_ino, status.st_size)
        except OSError:  # it is not there, or not for us: reading it will tell
            continue


def _digest(path: Path) -> bytes:
    try:
        if path.is_dir():
            return "\0".join(sorted(one.name for one in path.iterdir())).encode(errors="replace")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError as error:
        return str(error.errno).encode()
