"""The folders and files behind an SFTP storage: what one session can do with them."""

from __future__ import annotations

import contextlib
import errno
import re
from datetime import UTC, datetime

from . import sftp_protocol as sftp
from .base import ObjectInfo
from .errors import (
    KeyConflictError,
    ObjectExistsError,
    StorageError,
    StoragePermissionError,
    StorageRootNotFoundError,
)
from .sftp_channel import Channel
from .sftp_protocol import Attributes, StatusError, parse_attributes, text

__all__ = ["ATTEMPTS", "Tree", "info_of", "missing"]

ATTEMPTS = 100
"""How often a folder that others remove, as often as it is made, is made."""
KNOWN_FOR = 5.0
"""Seconds for which a folder that was no symbolic link is taken to be none."""
KNOWN_FOLDERS = 10_000
SPARE = 1024 * 1024
"""Free bytes below which a disk counts as full when a write fails for no reason told."""


class Tree:
    """
    Objects as files below a root folder of the server.

    The protocol knows paths only, so a symbolic link among the folders is looked for, not made
    impossible: who can write on the server may still put one there between two requests.
    """

    def __init__(self, channel: Channel, root: bytes, shown: str) -> None:
        self.channel = channel
        """Where requests are sent."""
        self.root = root
        """The root's path, resolved by the server."""
        self.shown = shown
        """The root as the settings have it, for messages."""
        self._known: dict[bytes, float] = {}

    @classmethod
    async def open(cls, channel: Channel, root: str, place: str) -> Tree:
        """
        Find the root.

        Raises:
            StorageRootNotFoundError: It is not there, or is no folder.
        """
        shown = f"{root!r} on {place}"
        try:
            answer = await channel.ask(sftp.REALPATH, text(root.encode()))
            path = sftp.parse_text(answer, 4)[0]
            tree = cls(channel, path.rstrip(b"/"), shown)
            await tree.check_root()
        except StatusError as error:
            if error.code in (sftp.NO_SUCH_FILE, sftp.FAILURE):
                raise cls._no_root(shown) from error
            raise StoragePermissionError(
                f"The storage's root {shown} cannot be opened: {error}. Give the account access "
                "to it, or set root to another folder."
            ) from error
        return tree

    @staticmethod
    def _no_root(shown: str) -> StorageRootNotFoundError:
        return StorageRootNotFoundError(
            f"The storage's root {shown} is not there, or is no folder. Make it, or set root to "
            "another folder."
        )

    def path(self, key: str) -> bytes:
        """Return the path of a key, or of the root for none."""
        return self.root + b"/" + key.encode() if key else self.root or b"/"

    async def check_root(self) -> None:
        """Raise :class:`StorageRootNotFoundError` unless the root is a folder."""
        try:
            answer = await self.channel.ask(sftp.STAT, text(self.path("")))
        except StatusError as error:
            if error.code == sftp.NO_SUCH_FILE:
                raise self._no_root(self.shown) from error
            raise
        there = parse_attributes(answer)[0]
        if there.mode is not None and not there.is_folder:
            raise self._no_root(self.shown)

    # -- looking -------------------------------------------------------------------------

    async def look(self, path: bytes) -> Attributes | None:
        """Return what is at a path, without following a link; None: nothing."""
        try:
            return parse_attributes(await self.channel.ask(sftp.LSTAT, text(path)))[0]
        except StatusError as error:
            if error.code == sftp.NO_SUCH_FILE:
                return None
            raise

    async def find(self, key: str) -> Attributes | None:
        """Return what is known of an object; None: there is none."""
        await self.check_folder(key)
        there = await self.look(self.path(key))
        if there is None:
            await self.check_root()
            return None
        return there if there.is_file else None

    async def info(self, key: str) -> ObjectInfo:
        """Return what is known of an object; :class:`FileNotFoundError` if there is none."""
        there = await self.find(key)
        if there is None:
            raise missing(key)
        return info_of(key, there)

    async def check_folder(self, key: str) -> None:
        """
        See that no folder above a key is a symbolic link. One that is missing is no error.

        Raises:
            StoragePermissionError: One is.
        """
        above = key.rpartition("/")[0]
        if not above:
            return
        path = self.path(above)
        now = self.channel.time()
        if self._known.get(path, 0.0) > now:
            return
        try:
            answer = await self.channel.ask(sftp.REALPATH, text(path))
        except StatusError as error:
            if error.code in (sftp.NO_SUCH_FILE, sftp.FAILURE):
                return
            raise
        if sftp.parse_text(answer, 4)[0] != path:
            raise self._is_link(above)
        if len(self._known) >= KNOWN_FOLDERS:
            self._known.clear()
        self._known[path] = now + KNOWN_FOR

    def _is_link(self, folder: str) -> StoragePermissionError:
        return StoragePermissionError(
            f"{folder!r}, or a folder above it, is a symbolic link, which might lead out of the "
            f"storage's root {self.shown}; it is not followed. Remove it."
        )

    async def free_bytes(self) -> int | None:
        """Return the space left for the account; None: the server does not tell."""
        if sftp.STATVFS not in self.channel.extensions:
            return None
        body = text(sftp.STATVFS) + text(self.path(""))
        disk = await self.channel.ask(sftp.EXTENDED, body)
        block, available = (int.from_bytes(disk[at : at + 8], "big") for at in (8, 32))
        return block * available

    async def is_full(self, error: StatusError) -> bool:
        """Tell whether a full disk is what an error means, as far as the server tells."""
        if error.code != sftp.FAILURE:  # which is all that version 3 has for it
            return error.code in (sftp.NO_SPACE, sftp.QUOTA_EXCEEDED)
        if re.search("no space|quota|disk full", str(error), re.IGNORECASE):
            return True
        with contextlib.suppress(StatusError, StorageError):
            free = await self.free_bytes()
            return free is not None and free < SPARE
        return False

    # -- folders -------------------------------------------------------------------------

    async def make_folders(self, key: str) -> None:
        """
        Make the folders above a key.

        Raises:
            KeyConflictError: One of them is an object.
            StoragePermissionError: One of them is a symbolic link.
            StorageRootNotFoundError: The root is gone.
        """
        parts = key.split("/")[:-1]
        depth = len(parts)
        while depth:  # up to what is there
            if await self._make_folder("/".join(parts[:depth])):
                break
            depth -= 1
        else:
            await self.check_root()
        for below in range(depth + 1, len(parts) + 1):
            await self._make_folder("/".join(parts[:below]))

    async def _make_folder(self, folder: str) -> bool:
        """Make one folder; False: the one above it is missing."""
        path = self.path(folder)
        try:
            await self.channel.ask(sftp.MKDIR, text(path), sftp.NO_ATTRIBUTES)
        except StatusError as error:
            if error.code == sftp.NO_SUCH_FILE:
                return False
            there = await self.look(path)  # the protocol has no number for "it is there"
            if there is None:
                if error.code == sftp.FAILURE:
                    return False  # for some servers, what is below a file
                raise
            if there.is_link:
                raise self._is_link(folder) from None
            if not there.is_folder:
                raise _conflict(f"{folder}/...", folder) from None
        return True

    async def remove_empty_folders(self, key: str) -> None:
        """Remove the empty folders above a key; who puts there meanwhile makes them anew."""
        parts = key.split("/")[:-1]
        while parts:
            try:
                await self.channel.ask(sftp.RMDIR, text(self.path("/".join(parts))))
            except StatusError as error:
                if error.code != sftp.NO_SUCH_FILE:
                    return
            parts.pop()

    # -- files ---------------------------------------------------------------------------

    async def remove(self, path: bytes) -> None:
        """Remove a file; one that is not there is no error."""
        try:
            await self.channel.ask(sftp.REMOVE, text(path))
        except StatusError as error:
            if error.code != sftp.NO_SUCH_FILE:
                raise

    async def delete(self, key: str) -> None:
        """Remove an object if there is one; folders left empty go too."""
        if await self.find(key) is not None:
            await self.remove(self.path(key))
            await self.remove_empty_folders(key)

    async def move(self, source: str, target: str, overwrite: bool) -> ObjectInfo:
        """Rename an object."""
        there = await self.find(source)
        if there is None:
            raise missing(source)
        if source != target:
            await self._move(source, target, overwrite)
            if not overwrite:
                await self.remove(self.path(source))
            await self.remove_empty_folders(source)
        return info_of(target, there)

    async def _move(self, source: str, target: str, overwrite: bool) -> None:
        for _ in range(ATTEMPTS):
            await self.check_folder(target)
            try:
                await self.place(self.path(source), target, overwrite)
                return
            except StatusError as error:
                if error.code not in (sftp.NO_SUCH_FILE, sftp.FAILURE):
                    raise
                if await self.find(source) is None:
                    raise missing(source) from None
                await self.make_folders(target)
            except StorageError:
                await self.remove_empty_folders(target)
                raise
        raise self.unstable(target)

    async def place(self, path: bytes, key: str, overwrite: bool) -> None:
        """
        Rename a file onto a key, or, if the key must be new, give it a second name there: to all
        others one step. Then the first name may stay, to be removed by the caller.

        Raises:
            KeyConflictError: There are objects below the key.
            ObjectExistsError: ``overwrite`` is False and the key is taken.
        """
        target = self.path(key)
        request, body = self._placing(overwrite)
        for last in (False, True):
            try:
                await self.channel.ask(request, body + text(path) + text(target))
                return
            except StatusError as error:
                if error.code in (sftp.NO_SUCH_FILE, sftp.PERMISSION_DENIED):
                    raise
                there = await self.look(target)
                if there is None:
                    if last and not overwrite:
                        raise self._no_links() from error
                    if last:
                        raise
                elif there.is_folder:
                    await self._clear(target, key)
                elif not overwrite:
                    raise ObjectExistsError(
                        f"There is an object {key!r} already; it was not replaced."
                    ) from None
                elif request == sftp.RENAME:
                    raise self._no_replacing(key) from None
                else:
                    raise
        raise self.unstable(key)

    def _placing(self, overwrite: bool) -> tuple[int, bytes]:
        """Return the request that puts a file in its place, and how its body begins."""
        extension = sftp.POSIX_RENAME if overwrite else sftp.HARDLINK
        if extension in self.channel.extensions:
            return sftp.EXTENDED, text(extension)
        return sftp.RENAME, b""  # which must fail where there is something, says the draft

    async def _clear(self, path: bytes, key: str) -> None:
        """Remove a folder that is empty, and so stands for no object."""
        try:
            await self.channel.ask(sftp.RMDIR, text(path))
        except StatusError as error:
            if error.code != sftp.NO_SUCH_FILE:
                raise _conflict(key, f"{key}/...") from None

    def _no_links(self) -> StorageError:
        return StorageError(
            f"overwrite=False needs hard links, which the file system of {self.shown} lacks. Put "
            "with overwrite=True, or set root to a folder of another file system."
        )

    def _no_replacing(self, key: str) -> StorageError:
        return StorageError(
            f"{key!r} cannot be replaced in one step: the server lacks the extension "
            f"{sftp.POSIX_RENAME.decode()}. Delete the object first, or use a server that has it."
        )

    def unstable(self, key: str) -> StorageError:
        """Return the error for a folder that does not stay."""
        return StorageError(
            f"The folder of {key!r} below {self.shown} is removed as often as it is made. Find out "
            "what else works in there."
        )


def info_of(key: str, there: Attributes) -> ObjectInfo:
    """
    Return an object's info.

    The protocol tells a size and whole seconds, which do not tell two versions apart: no ETag.
    """
    return ObjectInfo(key, there.size or 0, datetime.fromtimestamp(there.modified or 0, UTC))


def missing(key: str) -> FileNotFoundError:
    """Return the error for a key that names no object."""
    return FileNotFoundError(errno.ENOENT, "no such object", key)


def _conflict(key: str, other: str) -> KeyConflictError:
    return KeyConflictError(
        f"A file system cannot hold {key!r} beside {other!r}: one is a file, the other a "
        "folder. Choose another key, or a type with the capability flat-keys (sqlite, s3)."
    )
