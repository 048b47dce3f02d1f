"""Files of what was made or loaded: there whole, or not at all."""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path

from ..registry.daemon import in_daemon_thread

__all__ = ["check_target", "write_file"]


def check_target(path: str | Path) -> Path:
    """
    Return the path, of which a file can be made as far as one can tell before.

    To be asked before anything is paid for.

    Raises:
        FileNotFoundError: The folder is not there.
        NotADirectoryError: What should be the folder is something else.
        IsADirectoryError: The path is a folder.
        PermissionError: No file may be made in the folder.
    """
    path = Path(path)
    folder = path.parent
    if not folder.exists():
        raise FileNotFoundError(f"The folder {str(folder)!r} is not there. Make it first.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{str(folder)!r} is no folder. Choose another path.")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder. Add the name of a file.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"No file may be made in {str(folder)!r}. Choose another folder.")
    return path


async def write_file(path: str | Path, data: bytes) -> Path:
    """
    Write a file, whole or not at all; one that is there is replaced. Returns its path.

    It is written beside its place, by a thread, and renamed. Who is cancelled before that leaves
    what was there, for good: no thread comes late and puts it over what another call wrote.

    Raises:
        OSError: It cannot be written; nothing of it is left.
    """
    path = check_target(path)
    beside = path.with_name(f".{secrets.token_hex(8)}.part")
    given_up = threading.Event()

    def write() -> None:
        try:
            beside.write_bytes(data)
        finally:
            if given_up.is_set():
                beside.unlink(missing_ok=True)

    try:
        await in_daemon_thread(write)
        os.replace(beside, path)  # noqa: PTH105 - here, where no cancellation comes between
    except BaseException:
        given_up.set()
        beside.unlink(missing_ok=True)
        raise
    return path
