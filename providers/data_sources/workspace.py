"""The local folder that data is fetched into: names that cannot collide, files that are whole."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..registry.errors import RegistryError
from .errors import WorkspaceError

__all__ = ["Draft", "Workspace"]

_ODD = re.compile(r"[^A-Za-z0-9._-]+")
_MARKED = re.compile(r"-[0-9a-f]{24}(\.[a-z0-9_-]{1,10})?$")
_LONGEST = 100
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))]
)


class Workspace:
    """
    A folder, and how items get into it.

    Each item has one file, whose name tells two items apart even where the file system does not
    tell case apart, and which stays in the folder whatever the item is called. A file is written
    beside its place and put there when it is whole.

    Args:
        root: The folder; it is made when first needed.
    """

    def __init__(self, root: os.PathLike[str] | str) -> None:
        self.root = Path(root)

    @classmethod
    def of(cls, target: Workspace | os.PathLike[str] | str) -> Workspace:
        """Return a workspace as it is, or that of a folder."""
        return target if isinstance(target, Workspace) else cls(target)

    def path_of(self, item: str, *, suffix: str = "") -> Path:
        """
        Return the path of an item's file: readable, and different for each item.

        Args:
            item: Any text.
            suffix: ``.csv``, for items whose name is not that of a file.
        """
        name = item + suffix
        plain = _ODD.sub("_", name).strip("._-") or "item"
        lower = name.lower()
        if (
            plain == name == lower
            and len(name) <= _LONGEST
            and name.partition(".")[0] not in _RESERVED
            and not _MARKED.search(name)
        ):
            return self.root / name
        # Anything else gets a mark of its own: "a/b", "a_b" and "A_b" are three files.
        stem, dot, ending = plain.rpartition(".")
        if not dot or len(ending) > 10:
            stem, dot, ending = plain, "", ""
        mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        return self.root / f"{stem[:_LONGEST]}-{mark}{dot}{ending}"

    @asynccontextmanager
    async def create(self, item: str, *, suffix: str = "") -> AsyncGenerator[Draft, None]:
        """
        Write an item's file; it is in its place when the block ends well, else there is nothing.

        A file of the item that was there before stays until then.

        Raises:
            WorkspaceError: The folder is full, or cannot be written.
        """
        path = self.path_of(item, suffix=suffix)
        draft = _begin(path)  # not in a thread: a cancelled caller would leave it open
        try:
            yield draft
            await asyncio.to_thread(draft.finish)
        except RegistryError:
            raise
        except OSError as error:
            if draft.is_about(error):
                raise _failure(path, error) from error
            raise
        finally:
            draft.discard()

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r})"


class Draft:
    """
    A file in the making.

    ``path`` is where it will be, ``part`` where it is until then: write through :meth:`write`,
    or give ``part`` to a library that writes files. ``size`` (bytes) and ``sha256`` are known
    when it is whole.
    """

    def __init__(self, path: Path, part: Path, file: BinaryIO) -> None:
        self.path = path
        self.part = part
        self.size = 0
        self.sha256 = ""
        self._file = file
        self._digest = hashlib.sha256()

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add ``data``."""
        await asyncio.to_thread(self.write_now, data)

    def write_now(self, data: bytes | bytearray | memoryview) -> None:
        """Add ``data``, in a thread of the caller's own."""
        try:
            self._file.write(data)
        except OSError as error:
            raise _failure(self.path, error) from error
        self._digest.update(data)
        self.size += len(data)

    def is_about(self, error: OSError) -> bool:
        """Tell whether an error is about this file, and not about where its data comes from."""
        if error.filename is None:
            return error.errno in _NO_SPACE
        return error.filename in (str(self.part), str(self.path))

    def finish(self) -> None:
        """Put the whole file in its place."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if self.part.stat().st_size != self.size:  # a library wrote it
                with self.part.open("rb") as file:
                    self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                self.size = self.part.stat().st_size
            else:
                self.sha256 = self._digest.hexdigest()
            self.part.replace(self.path)
        except OSError as error:
            raise _failure(self.path, error) from error

    def discard(self) -> None:
        """Remove what is not whole; nothing if it is in its place."""
        with suppress(OSError):  # of what could not be written
            self._file.close()
        with suppress(OSError):
            self.part.unlink(missing_ok=True)


def _begin(path: Path) -> Draft:
    # Not of the item's name: it might be as long as a name can be.
    part = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        return Draft(path, part, os.fdopen(number, "wb"))
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise _failure(path, error) from error


def _failure(path: Path, error: OSError) -> WorkspaceError:
    remedy = "Make it writable for this user, or choose another folder."
    if error.errno in _NO_SPACE:
        remedy = "Free space, or choose another folder. Nothing of the item was kept."
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        remedy = "A file is where a folder must be; choose another folder."
    elif error.errno == errno.EISDIR:
        remedy = "A folder is where the file must be; remove it, or choose another folder."
    reason = error.strerror or type(error).__name__
    return WorkspaceError(f"Cannot write {path.name} in {path.parent}: {reason}. {remedy}")
