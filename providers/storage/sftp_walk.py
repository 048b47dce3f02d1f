"""Listing the folders of an SFTP storage as if they were one sorted list of keys."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

from . import sftp_protocol as sftp
from .base import ObjectInfo
from .errors import InvalidKeyError
from .keys import RESERVED_PREFIX, check_key
from .sftp_channel import Answer, settle
from .sftp_protocol import Attributes, StatusError, parse_names, text
from .sftp_transfer import PART
from .sftp_tree import Tree, info_of

__all__ = ["walk"]

logger = logging.getLogger(__name__)

AHEAD = 4
"""Folders read before their turn, on each level."""
PAGES = 3
"""Requests for names under way at once."""
ABANDONED = 24 * 3600.0
"""Seconds after which a file half-written is taken for the remains of a killed process."""
NAMED = 10
"""How many names that are no keys a warning quotes."""

Entry = tuple[bytes, str, Attributes]
"""What an entry is sorted by, its name (a folder's with a slash), what is known of it."""


async def walk(tree: Tree, prefix: str) -> AsyncGenerator[ObjectInfo, None]:
    """
    Yield the objects whose key begins with a prefix, in order of the keys' bytes.

    Holds the names of the folders on one path, and of a few that come next.
    """
    above, slash, _ = prefix.rpartition("/")
    base = f"{above}{slash}"
    await tree.check_folder(base)
    entries = await _entries(tree, base, prefix)
    if entries is None:
        await tree.check_root()
        return
    async with aclosing(_walk(tree, base, prefix, entries)) as found:
        async for info in found:
            yield info


async def _walk(
    tree: Tree, base: str, prefix: str, entries: list[Entry]
) -> AsyncGenerator[ObjectInfo, None]:
    folders = iter([name for _, name, _ in entries if name.endswith("/")])
    ahead: deque[asyncio.Task[list[Entry] | None]] = deque()

    def read_ahead() -> None:
        for name in folders:
            ahead.append(asyncio.create_task(_entries(tree, base + name, prefix)))
            return

    try:
        for _ in range(AHEAD):
            read_ahead()
        for _, name, attributes in entries:
            if not name.endswith("/"):
                yield info_of(base + name, attributes)
                continue
            below = await ahead[0]
            ahead.popleft()
            read_ahead()
            if below:
                async with aclosing(_walk(tree, base + name, prefix, below)) as found:
                    async for info in found:
                        yield info
    finally:
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


async def _entries(tree: Tree, base: str, prefix: str) -> list[Entry] | None:
    """
    Return what is in a folder and leads to keys with the prefix, in order; None: no such folder.

    As part of a key a folder's name is followed by a slash, and so it is sorted.
    """
    found: list[Entry] = []
    faults: list[str] = []
    left_out = 0
    try:
        for name, attributes in await _names(tree, tree.path(base.rstrip("/"))):
            if name.startswith(RESERVED_PREFIX.encode()):
                await _remove_if_abandoned(tree, base, name, attributes)
                continue
            there: Attributes | None = attributes
            if attributes.mode is None:  # a server that tells nothing in its lists
                there = await tree.look(tree.path(base.rstrip("/")) + b"/" + name)
            if there is None or not (there.is_file or there.is_folder):
                continue
            try:
                key = base + name.decode()
                if there.is_folder:
                    key += "/"
                if not (key.startswith(prefix) or (key[-1] == "/" and prefix.startswith(key))):
                    continue
                check_key(key.removesuffix("/"))
            except (InvalidKeyError, UnicodeDecodeError) as error:
                left_out += 1
                if left_out <= NAMED:
                    faults.append(_told(base, name, error))
            else:
                shown = key[len(base) :]
                found.append((shown.encode(), shown, there))
    except StatusError as error:
        if error.code == sftp.NO_SUCH_FILE:
            return None  # since its name was read it is gone
        raise
    if faults:
        logger.warning(
            "Left out of the list below %s, %d in all: %s", tree.shown, left_out, " ".join(faults)
        )
    found.sort(key=_order)
    return found


def _order(entry: Entry) -> bytes:
    return entry[0]


def _told(base: str, name: bytes, error: Exception) -> str:
    if isinstance(error, InvalidKeyError):
        return error.message
    return f"{base + ascii(name)}: it is no UTF-8."


async def _names(tree: Tree, path: bytes) -> list[tuple[bytes, Attributes]]:
    channel = tree.channel
    opening = channel.send(sftp.OPENDIR, text(path))
    try:
        handle = text(sftp.parse_text(settle(await opening))[0])
    except BaseException:
        channel.release(opening)
        raise
    found: list[tuple[bytes, Attributes]] = []
    asked: deque[asyncio.Future[Answer]] = deque()
    try:
        while True:
            while len(asked) < PAGES:
                asked.append(channel.send(sftp.READDIR, handle))
            found += parse_names(settle(await asked.popleft()))
    except StatusError as error:
        if error.code != sftp.END_OF_FILE:
            raise
    finally:
        channel.release(opening)
    return [entry for entry in found if entry[0] not in (b".", b"..")]


async def _remove_if_abandoned(tree: Tree, base: str, name: bytes, there: Attributes) -> None:
    if (
        name.endswith(PART.encode())
        and there.is_file
        and there.modified is not None
        and time.time() - there.modified > ABANDONED
    ):
        await tree.remove(tree.path(base.rstrip("/")) + b"/" + name)
