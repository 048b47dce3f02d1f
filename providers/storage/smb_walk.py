"""Listing the folders of an SMB storage as if they were one sorted list of keys."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from . import smb_messages as smb
from .base import ObjectInfo
from .errors import InvalidKeyError
from .keys import RESERVED_PREFIX, check_key
from .smb_errors import MISSING, NO_MORE_FILES, StatusError
from .smb_names import in_other_case
from .smb_tree import PART, SMBTree, info_of

if TYPE_CHECKING:
    from .smb_connection import Channel

__all__ = ["walk"]

logger = logging.getLogger(__name__)

ABANDONED = timedelta(days=1)
"""After that time a file half-written is taken for the remains of a killed process."""
NAMED = 10
"""How many names that are no keys a warning quotes."""


def walk(tree: SMBTree, prefix: str) -> Generator[ObjectInfo, None, None]:
    """
    Yield the objects whose key begins with a prefix, in order of the keys' bytes.

    Holds what the folders on one path hold at a time.
    """
    above, slash, _ = prefix.rpartition("/")
    if above:
        found = tree.look(tree.reading.channel(), above)
        if found is None or not found.is_folder or in_other_case(found.path, above):
            return
    yield from _walk(tree, f"{above}{slash}", prefix)


def _walk(tree: SMBTree, base: str, prefix: str) -> Generator[ObjectInfo, None, None]:
    for name, entry in _entries(tree, base, prefix):
        key = base + name.decode()
        if entry.is_folder:
            yield from _walk(tree, key, prefix)
        else:
            yield info_of(key, entry.size, entry.modified, entry.number)


def _entries(tree: SMBTree, base: str, prefix: str) -> list[tuple[bytes, smb.Entry]]:
    """
    Return what in a folder leads to keys with the prefix, in order.

    As part of a key a folder's name is followed by a slash, and so it is sorted.
    """
    found: list[tuple[bytes, smb.Entry]] = []
    faults: list[str] = []
    left_out = 0
    try:
        for entry in _read_folder(tree, tree.reading.channel(), base):
            if entry.path.startswith(RESERVED_PREFIX):
                _remove_if_abandoned(tree, base, entry)
                continue
            name = f"{entry.path}/" if entry.is_folder else entry.path
            key = base + name
            if not (key.startswith(prefix) or (entry.is_folder and prefix.startswith(key))):
                continue
            try:
                check_key(base + entry.path)
            except InvalidKeyError as error:
                left_out += 1
                if left_out <= NAMED:
                    faults.append(error.message)
            else:
                found.append((name.encode(), entry))
    except StatusError as error:
        if error.status not in MISSING:  # or since the folder above was read it is gone
            raise
    if faults:
        logger.warning("Left out of a list, %d in all: %s", left_out, " ".join(faults))
    found.sort(key=lambda pair: pair[0])
    return found


def _read_folder(tree: SMBTree, channel: Channel, base: str) -> Iterator[smb.Entry]:
    request = smb.create(
        tree.path(base.rstrip("/")), smb.READ_DATA | smb.READ_ATTRIBUTES, smb.FOLDER
    )
    opened, *answers = channel.statuses(channel.send(request, smb.query_directory(channel.chunk)))
    if opened[0]:
        raise StatusError(opened[0])
    file = smb.Opened.parse(opened[1]).file
    try:
        while True:
            ((status, body),) = answers
            if status in (NO_MORE_FILES, 0xC000000F):
                return
            if status:
                raise StatusError(status)
            yield from smb.entries_of(body)
            answers = channel.statuses(channel.send(smb.query_directory(channel.chunk, file)))
    finally:
        with contextlib.suppress(OSError, StatusError):
            channel.ask(smb.close(file))


def _remove_if_abandoned(tree: SMBTree, base: str, entry: smb.Entry) -> None:
    age = datetime.now(UTC) - smb.as_datetime(entry.modified)
    if entry.path.endswith(PART) and not entry.is_folder and age > ABANDONED:
        request = smb.create(
            tree.path(base + entry.path), smb.DELETE, smb.NO_FOLDER | smb.DELETE_ON_CLOSE
        )
        with contextlib.suppress(StatusError):
            tree.writing.channel().ask(request, smb.close())
