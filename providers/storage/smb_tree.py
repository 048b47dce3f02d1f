"""The folders and files behind an SMB storage: requests to the server, for any thread."""

from __future__ import annotations

import contextlib
import errno
import itertools
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING

from . import smb_messages as smb
from .base import ObjectInfo
from .errors import KeyConflictError, ObjectExistsError, StorageError, StorageRootNotFoundError
from .keys import RESERVED_PREFIX
from .smb_errors import (
    BUSY,
    DELETE_PENDING,
    MISSING,
    NAME_COLLISION,
    NOT_A_DIRECTORY,
    SHARING_VIOLATION,
    StatusError,
)
from .smb_link import Link
from .smb_names import in_other_case, path_of

if TYPE_CHECKING:
    from smbprotocol.connection import Request

    from .smb_config import SMBConfig
    from .smb_connection import Channel

__all__ = ["PART", "SMBTree", "info_of"]

PART = ".part"
"""How the names of files that are being written end."""
BUSY_TIMEOUT = 5.0
"""Seconds a put waits for others to close the object it replaces, where the server needs it."""
_ATTEMPTS = 1000
_REFUSALS = 5
_LOOK = smb.READ_ATTRIBUTES
_WRITE = smb.READ_ATTRIBUTES | smb.WRITE_ATTRIBUTES | smb.WRITE_DATA | smb.DELETE


class SMBTree:
    """
    Objects as files below a folder of a share.

    There are two connections. What is read is open on one of them, what is written on the other:
    Samba replaces a file while somebody reads it, unless on the very connection that asks it to.

    Most servers take names that differ only in case for one. Here they are two keys, of which such
    a server holds one at a time: the real name is asked wherever a file is opened.
    """

    def __init__(self, config: SMBConfig) -> None:
        self.reading = Link(config)
        self.writing = Link(config)
        self._root = config.root
        self._place = config.place
        self._patience = min(BUSY_TIMEOUT, config.request_timeout)
        self._mark = f"{RESERVED_PREFIX}{secrets.token_hex(8)}"
        self._numbers = itertools.count()
        self._leftovers: deque[str] = deque()

    def path(self, key: str) -> str:
        """Return where an object, or a folder, is in the share."""
        return path_of(self._root, key)

    def temporary(self, key: str) -> str:
        """Return a new name for a file beside an object, as if it were a key."""
        above, slash, _ = key.rpartition("/")
        return f"{above}{slash}{self._mark}-{next(self._numbers)}{PART}"

    def open_root(self) -> None:
        """Connect, and make the root if it is not there."""
        self._make_folders(self.writing.channel(), "")

    def check(self) -> None:
        """See that the root can be listed."""
        self.reading.channel().ask(
            smb.create(self.path(""), smb.READ_DATA | _LOOK, smb.FOLDER), smb.close()
        )

    def free_bytes(self) -> int:
        """Return the space left for this account."""
        root = smb.create(self.path(""), _LOOK, smb.FOLDER)
        answers = self.reading.channel().ask(root, smb.query_free_space(), smb.close())
        return smb.free_bytes_of(answers[1])

    # -- folders -------------------------------------------------------------------------

    def _make_folders(self, channel: Channel, key: str) -> None:
        """
        Make the folders above a key, the root among them.

        Raises:
            KeyConflictError: There is an object, or a folder in other letters, in the way.
        """
        root = self._root.split("/") if self._root else []
        parts = [*root, *key.split("/")[:-1]]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[len(root) : depth])
            path = "\\".join(parts[:depth])
            for _ in range(_ATTEMPTS):
                made = smb.create(path, _LOOK, smb.FOLDER, smb.OPEN_IF)
                try:
                    answers = channel.ask(made, smb.query_everything(), smb.close())
                except StatusError as error:
                    if error.status in (NOT_A_DIRECTORY, NAME_COLLISION):
                        raise _conflict(key, folder) from None
                    if error.status not in MISSING:
                        raise
                    if error.status != DELETE_PENDING:
                        if depth == 1:
                            raise StorageRootNotFoundError(
                                f"The folder behind {self._place} is gone on the server. Put it "
                                "back, or correct the settings share and root."
                            ) from None
                        return  # one above was just removed: who asked tries again
                    time.sleep(0.001)
                else:
                    _refuse_other_case(smb.everything_of(answers[1]), folder, key)
                    break

    def remove_empty_folders(self, key: str) -> None:
        """Remove the empty folders above a key; who puts there meanwhile makes them anew."""
        parts = key.split("/")[:-1]
        with contextlib.suppress(OSError, StatusError):
            while parts:
                self._remove_folder("/".join(parts))
                parts.pop()

    def _remove_folder(self, folder: str) -> None:
        opened = smb.create(self.path(folder), smb.DELETE, smb.FOLDER)
        self.writing.channel().ask(opened, smb.set_deleted(True), smb.close())

    # -- files ---------------------------------------------------------------------------

    def ask_for(self, channel: Channel, key: str) -> list[Request]:
        """Ask what there is under a name, in whatever letters."""
        opened = smb.create(self.path(key), _LOOK)
        return channel.send(opened, smb.query_everything(), smb.close())

    def found(self, channel: Channel, asked: list[Request]) -> smb.Entry | None:
        """Wait for the answer to that; None means nothing."""
        try:
            return smb.everything_of(channel.bodies(asked)[1])
        except StatusError as error:
            if error.status in MISSING:
                return None
            raise

    def look(self, channel: Channel, key: str) -> smb.Entry | None:
        """Return what there is under a name, in whatever letters, None for nothing."""
        return self.found(channel, self.ask_for(channel, key))

    def stat(self, key: str) -> ObjectInfo:
        """Return what is known of an object; :class:`FileNotFoundError` if there is none."""
        found = self.look(self.reading.channel(), key)
        if found is None or found.is_folder or in_other_case(found.path, key):
            raise _no_file(key)
        return info_of(key, found.size, found.modified, found.number)

    def open(
        self, channel: Channel, key: str, access: int, *chain: smb.Message
    ) -> tuple[bytes, smb.Entry, list[tuple[int, bytes]]]:
        """
        Open an object, and send what else there is to ask in the same packet.

        Returns:
            The open file, what is known of it, and the answers to ``chain``.

        Raises:
            FileNotFoundError: There is no such object.
        """
        request = smb.create(self.path(key), access | _LOOK, smb.NO_FOLDER)
        opened, told, *rest = channel.statuses(
            channel.send(request, smb.query_everything(), *chain)
        )
        if opened[0] in MISSING:
            raise _no_file(key)
        if status := opened[0] or told[0]:
            raise StatusError(status)
        file = smb.Opened.parse(opened[1]).file
        found = smb.everything_of(told[1])
        if in_other_case(found.path, key):
            with contextlib.suppress(StatusError):  # unless the chain has closed it
                channel.ask(smb.close(file))
            raise _no_file(key)
        return file, found, rest

    def create(
        self, channel: Channel, key: str, *chain: smb.Message
    ) -> tuple[str, bytes, int, list[tuple[int, bytes]]]:
        """
        Make a file beside an object's place, with its folders, and send what else there is to ask.

        Returns:
            The file's name as if it were a key, the open file, its number, and the answers.
        """
        if self._leftovers:
            self._clean(channel)
        for _ in range(_ATTEMPTS):
            beside = self.temporary(key)
            request = smb.create(
                self.path(beside), _WRITE | smb.READ_DATA, smb.NO_FOLDER, smb.CREATE
            )
            try:
                opened, told, *rest = channel.statuses(
                    channel.send(request, smb.query_everything(), *chain)
                )
            except OSError:  # perhaps it was made
                self._leftovers.append(beside)
                raise
            if opened[0] in MISSING:
                self._make_folders(channel, key)
                continue
            if status := opened[0] or told[0]:
                raise StatusError(status)
            file = smb.Opened.parse(opened[1]).file
            found = smb.everything_of(told[1])
            try:
                _refuse_other_case(found, beside, key)
            except KeyConflictError:
                channel.ask(smb.set_deleted(True, file), smb.close(file))
                raise
            return beside, file, found.number, rest
        raise self._unstable(key)

    def delete(self, key: str) -> None:
        """
        Remove an object if there is one; folders left empty go too.

        It is renamed first: a server lets a file go when nobody reads it any more, and until then
        its name would be taken.
        """
        channel = self.writing.channel()
        try:
            file, _, _ = self.open(channel, key, smb.DELETE)
        except FileNotFoundError:
            return
        aside = smb.rename(self.path(self.temporary(key)), False, file)
        channel.ask(aside, smb.set_deleted(True, file), smb.close(file))
        self.remove_empty_folders(key)

    def throw_away(self, channel: Channel, name: str) -> None:
        """Remove a file that was not placed, with its folders; if that cannot be, later."""
        self._leftovers.append(name)
        if channel.is_open:
            self._clean(channel)

    def _clean(self, channel: Channel) -> None:
        options = smb.NO_FOLDER | smb.DELETE_ON_CLOSE
        with contextlib.suppress(OSError, IndexError):
            while True:
                name = self._leftovers.popleft()
                with contextlib.suppress(StatusError):
                    channel.ask(smb.create(self.path(name), smb.DELETE, options), smb.close())
                self.remove_empty_folders(name)

    def move(self, source: str, target: str, overwrite: bool) -> ObjectInfo:
        """Rename an object."""
        channel = self.writing.channel()
        above, _, _ = target.rpartition("/")
        if above and (folder := self.look(channel, above)):
            _refuse_other_case(folder, above, target)
        file, found, _ = self.open(channel, source, smb.DELETE)
        if source == target:
            channel.ask(smb.close(file))
        else:
            there = self.look(channel, target)
            self.place(channel, file, source, target, there, overwrite)
            self.remove_empty_folders(source)
        return info_of(target, found.size, found.modified, found.number)

    def place(
        self,
        channel: Channel,
        file: bytes,
        name: str,
        key: str,
        there: smb.Entry | None,
        overwrite: bool,
    ) -> smb.Closed:
        """
        Rename an open file onto a key, to all others in one step, and close it in any case.

        Args:
            channel: The connection it is open on.
            file: The file.
            name: Its name, as if it were a key.
            key: Where it goes.
            there: What has been there lately.
            overwrite: Whether that is replaced.

        Raises:
            KeyConflictError: There are objects below the key, or one in other letters.
            ObjectExistsError: ``overwrite`` is False and the key is taken.
        """
        chain = [smb.close(file)]
        path, refusals, until = self.path(key), 0, time.monotonic() + self._patience
        try:
            for _ in range(_ATTEMPTS):
                if there is not None:
                    self._make_room(key, there, overwrite)
                replace = there is not None and not there.is_folder
                target = file if len(chain) == 1 else smb.SAME
                chain[-1:-1] = [smb.rename(path, replace, target)]
                *_, (status, _), (_, body) = channel.statuses(channel.send(*chain))
                if not status:
                    return smb.Closed.parse(body)
                # A chain goes on when a request in it fails: by now the file is closed.
                chain = [smb.create(self.path(name), smb.DELETE, smb.NO_FOLDER), smb.close()]
                if status in BUSY and replace:
                    # Or it was, until now: what this connection itself has just put there.
                    if self._is_open(channel, path):
                        status = SHARING_VIOLATION
                    else:
                        refusals += 1
                    if refusals > _REFUSALS or time.monotonic() > until:
                        raise StatusError(status)
                    time.sleep(0.02)
                elif status in MISSING:
                    time.sleep(0.001)
                    self._make_folders(channel, key)
                elif status != NAME_COLLISION:
                    raise StatusError(status)
                there = self.look(channel, key)
                if there is None and status == NAME_COLLISION and not overwrite:
                    raise _exists(key)  # there was one, at the moment that counts
        except BaseException:
            if len(chain) == 1:
                channel.ask(*chain)
            raise
        raise self._unstable(key)

    def _make_room(self, key: str, there: smb.Entry, overwrite: bool) -> None:
        """Refuse to place an object onto what must stay; remove an empty folder."""
        if there.is_folder:
            try:
                self._remove_folder(key)  # one that is empty stands for no object
            except StatusError as error:
                if error.status not in MISSING:
                    raise _conflict(key, f"{key}/...") from None
        elif in_other_case(there.path, key):
            raise _case_conflict(key, there)
        elif not overwrite:
            raise _exists(key)

    def _is_open(self, channel: Channel, path: str) -> bool:
        """Tell whether somebody else has a file open."""
        alone = smb.create(path, smb.DELETE, smb.NO_FOLDER, share=0)
        status = channel.statuses(channel.send(alone, smb.close()))[0][0]
        return status == SHARING_VIOLATION or status in MISSING

    def _unstable(self, key: str) -> StorageError:
        return StorageError(
            f"The folder of {key!r} on {self._place} is removed as often as it is made. "
            "Find out what else works in there."
        )


def info_of(key: str, size: int, modified: int, number: int) -> ObjectInfo:
    """Return an object's info; the number tells apart what was written at the same time."""
    return ObjectInfo(
        key=key,
        size=size,
        modified=smb.as_datetime(modified),
        etag=f"{modified:x}-{size:x}-{number:x}",
    )


def _refuse_other_case(found: smb.Entry, name: str, key: str) -> None:
    if in_other_case(found.path, name):
        raise _case_conflict(key, found)


def _case_conflict(key: str, found: smb.Entry) -> KeyConflictError:
    return KeyConflictError(
        f"The server takes {key!r} and the path {found.path!r} that it has already for one: they "
        "differ only in upper and lower case. Choose another key."
    )


def _conflict(key: str, other: str) -> KeyConflictError:
    return KeyConflictError(
        f"An SMB server cannot hold {key!r} beside {other!r}: one is a file, the other a folder. "
        "Choose another key, or a type with the capability flat-keys (sqlite, s3)."
    )


def _exists(key: str) -> ObjectExistsError:
    return ObjectExistsError(f"There is an object {key!r} already; it was not replaced.")


def _no_file(key: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "no such object", key)
