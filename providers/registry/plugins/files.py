"""Reading a plugin's folder, each file once: what was read is judged, and runs."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from .manifest import Fault

__all__ = ["PluginFiles", "permission_faults", "read_alone", "read_folder"]

MAX_FILES = 2_000
MAX_FILE = 16 * 1024 * 1024
MAX_TOTAL = 64 * 1024 * 1024
MAX_DEPTH = 16

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a FIFO that was put there would wait for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(slots=True)
class PluginFiles:
    """
    The bytes of a folder, each file read once, and everything that forbids to trust them.

    ``contents`` and ``hashes`` (SHA-256, hexadecimal) go by path below the folder, with ``/``.
    """

    contents: dict[str, bytes] = field(default_factory=dict[str, bytes])
    hashes: dict[str, str] = field(default_factory=dict[str, str])
    faults: list[Fault] = field(default_factory=list[Fault])
    total: int = 0


def permission_faults(where: str, status: os.stat_result) -> list[Fault]:
    """Return what is wrong with owner and mode: only root and this user may change it."""
    faults: list[Fault] = []
    owners = {0, os.geteuid()}
    if status.st_uid not in owners:
        names = " or ".join(map(str, sorted(owners)))
        faults.append(
            Fault(
                where=where,
                reason=f"belongs to user {status.st_uid}, who may change it at any time",
                remedy=f"Look who put it there; then: chown {names} {where}",
            )
        )
    if status.st_mode & 0o022:
        faults.append(
            Fault(
                where=where,
                reason=f"can be written by others (mode {stat.S_IMODE(status.st_mode):04o})",
                remedy=f"chmod go-w {where}",
            )
        )
    return faults


def read_alone(path: Path, limit: int = MAX_FILE) -> tuple[bytes, list[Fault]]:
    """
    Return the bytes of one file and what is wrong with its owner and mode.

    Raises:
        OSError: It cannot be read, or is a symlink.
    """
    with _opened(str(path), _FILE) as file:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise OSError(f"is no file of at most {limit} bytes")
        return _read(file, limit), permission_faults(str(path), status)


def read_folder(folder: Path) -> PluginFiles:
    """
    Read every file below ``folder``, by descriptors, so that no path is looked up twice.

    Symlinks, special files, foreign owners and writable modes are told, not followed.
    """
    files = PluginFiles()
    try:
        with _opened(str(folder), _DIRECTORY) as directory:
            files.faults += permission_faults(str(folder), os.fstat(directory))
            _read_into(files, directory, folder, "", 0)
    except OSError as error:
        files.faults.append(_unreadable(str(folder), error))
    return files


def _read_into(files: PluginFiles, directory: int, folder: Path, prefix: str, depth: int) -> None:
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = prefix + entry.name
        where = str(folder / name)
        if entry.is_symlink():
            files.faults.append(
                Fault(
                    where=where,
                    reason="is a symlink, and what it leads to may change",
                    remedy="Replace it by the file itself.",
                )
            )
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        try:
            if is_folder and depth < MAX_DEPTH:
                with _opened(entry.name, _DIRECTORY, directory) as below:
                    files.faults += permission_faults(where, os.fstat(below))
                    _read_into(files, below, folder, f"{name}/", depth + 1)
                continue
            with _opened(entry.name, _FILE, directory) as file:
                status = os.fstat(file)
                files.faults += permission_faults(where, status)
                if is_folder or not stat.S_ISREG(status.st_mode):
                    raise OSError("is no regular file" if not is_folder else "lies too deep")
                if len(files.contents) >= MAX_FILES or files.total > MAX_TOTAL:
                    raise OSError(f"is more than {MAX_FILES} files or {MAX_TOTAL} bytes together")
                content = _read(file, MAX_FILE)
        except OSError as error:
            files.faults.append(_unreadable(where, error))
            continue
        files.total += len(content)
        files.contents[name] = content
        files.hashes[name] = sha256(content).hexdigest()


def _read(file: int, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := os.read(file, 1024 * 1024):
        size += len(chunk)
        if size > limit:
            raise OSError(f"has more than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _unreadable(where: str, error: OSError) -> Fault:
    return Fault(
        where=where,
        reason=f"cannot be read: {error.strerror or error}",
        remedy="Put a folder of regular, readable files there.",
    )


@contextmanager
def _opened(path: str, flags: int, directory: int | None = None) -> Generator[int]:
    descriptor = os.open(path, flags, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
