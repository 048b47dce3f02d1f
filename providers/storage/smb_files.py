"""One file of an SMB storage while it is written or read."""

from __future__ import annotations

import contextlib
import io
import time
from collections import deque
from typing import TYPE_CHECKING

from . import smb_messages as smb
from .base import ObjectInfo, check_range
from .errors import StorageError
from .smb_errors import END_OF_FILE, StatusError
from .smb_tree import SMBTree, info_of

if TYPE_CHECKING:
    from smbprotocol.connection import Request

    from .smb_connection import Channel
    from .smb_link import Link

__all__ = ["SMALL", "Draft", "Reader", "get_small", "put_small"]

SMALL = 256 * 1024
"""Bytes that are written, or read on trial, in one packet with the file's opening."""
MOMENT = 0.1
"""Seconds."""
COPY_CHUNK = 1024 * 1024
COPY_CHUNKS = 16
"""What every server copies at a time ([MS-SMB2] 3.3.3: 256 chunks, 1 MiB of one, 16 MiB in all)."""


class Draft:
    """
    An object that is being written, under a temporary name beside its place.

    Until it is placed the server has orders to remove it when it is closed, so that nothing
    is left where the connection breaks. Made without a request. Each call is a step for any thread,
    one at a time; the last one must be :meth:`discard`.

    Args:
        tree: Where.
        key: Its key.
        link: The connection to write on.
    """

    def __init__(self, tree: SMBTree, key: str, link: Link | None = None) -> None:
        self._tree = tree
        self._key = key
        self._link = link or tree.writing
        self._channel: Channel | None = None
        self._file = b""
        self._size = 0
        self._sent: deque[tuple[Request, int, memoryview]] = deque()

    def _opened(self) -> Channel:
        if self._channel is None:
            channel = self._link.channel()
            mark = smb.set_deleted(True)
            self._beside, self._file, self._number, ((status, _),) = self._tree.create(
                channel, self._key, mark
            )
            self._channel = channel
            if status:
                raise StatusError(status)
        return self._channel

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append."""
        channel = self._opened()
        view = memoryview(data).cast("B")
        for begin in range(0, len(view), channel.chunk):
            part = view[begin : begin + channel.chunk]
            if len(self._sent) >= smb.WINDOW:
                self._settle(channel)
            (request,) = channel.send(smb.write(part, self._size, self._file))
            self._sent.append((request, self._size, part))
            self._size += len(part)

    def _settle(self, channel: Channel) -> None:
        """Wait for the oldest write; a server may have written less than it was given."""
        request, offset, part = self._sent.popleft()
        written = smb.count_of(channel.bodies([request])[0])
        while written < len(part):
            rest = smb.write(part[written:], offset + written, self._file)
            count = smb.count_of(channel.ask(rest)[0])
            if not count:
                raise StorageError(f"The server writes no more of {self._key!r}, and says no why.")
            written += count

    def copy_from(self, key: bytes, offset: int, size: int) -> int:
        """Let the server append the next part of an open file, by its key; return how much."""
        end = min(offset + COPY_CHUNKS * COPY_CHUNK, size)
        chunks = [(at, min(COPY_CHUNK, end - at)) for at in range(offset, end, COPY_CHUNK)]
        self._opened().ask(smb.copy_chunks(key, chunks, self._file))
        self._size = end
        return end - offset

    def commit(self, overwrite: bool, modified: int | None = None) -> ObjectInfo:
        """Put the object in its place; see :meth:`SMBTree.place`."""
        channel = self._opened()
        while self._sent:
            self._settle(channel)
        times = [] if modified is None else [smb.set_modified(modified, self._file)]
        keep = channel.send(*times, smb.set_deleted(False, self._file))
        there = self._tree.look(self._tree.writing.channel(), self._key)
        channel.bodies(keep)
        if self._link is not self._tree.writing:
            channel.ask(smb.close(self._file))
            channel = self._tree.writing.channel()
            self._file, _, _ = self._tree.open(channel, self._beside, smb.DELETE)
        closed = self._tree.place(channel, self._file, self._beside, self._key, there, overwrite)
        self._channel = None
        return info_of(self._key, closed.size, closed.modified, self._number)

    def discard(self) -> None:
        """Remove what was not put in its place. A second time it does nothing."""
        channel, self._channel = self._channel, None
        if channel is not None:
            with contextlib.suppress(OSError, StatusError):
                channel.statuses([request for request, _, _ in self._sent])
                channel.ask(smb.close(self._file))
            self._sent.clear()
            self._tree.throw_away(channel, self._beside)


def put_small(
    tree: SMBTree, key: str, view: memoryview, overwrite: bool, modified: int | None
) -> ObjectInfo:
    """Write an object of at most :data:`SMALL` bytes: in two packets, and their answers."""
    channel = tree.writing.channel()
    chain = [smb.write(view, 0)] if view else []
    if modified is not None:
        chain.append(smb.set_modified(modified))
    # While that is under way: what is there already?
    asked = tree.ask_for(channel, key) if overwrite else None
    try:
        beside, file, number, answers = tree.create(channel, key, *chain)
    finally:
        there = tree.found(channel, asked) if asked else None
    try:
        for status, _ in answers:
            if status:
                raise StatusError(status)
        if view and (written := smb.count_of(answers[0][1])) < len(view):
            raise StorageError(f"The server wrote {written} of {len(view)} bytes of {key!r}.")
        closed = tree.place(channel, file, beside, key, there, overwrite)
    except BaseException:
        with contextlib.suppress(OSError, StatusError):
            channel.ask(smb.close(file))
        tree.throw_away(channel, beside)
        raise
    return info_of(key, closed.size, closed.modified, number)


class Reader:
    """
    A range of an object that is being read: of one version, also when it is replaced.

    Made without a request. Each call is a step for any thread, one at a time; the last one must be
    :meth:`close`.
    """

    found: smb.Entry
    """What the server knows of the file, when it is open."""
    left: int
    """How many bytes are still to be read, when it is open."""

    def __init__(self, tree: SMBTree, key: str, start: int = 0, end: int | None = None) -> None:
        self._tree = tree
        self._key = key
        self._at = start
        self._end = end
        self._channel: Channel | None = None
        self._asked: deque[tuple[Request, int]] = deque()

    def open(self) -> None:
        """
        Open the file.

        Raises:
            FileNotFoundError: There is no such object.
            InvalidRangeError: The range starts past its end.
        """
        channel = self._tree.reading.channel()
        self._file, self.found, _ = self._tree.open(channel, self._key, smb.READ_DATA)
        self._channel = channel
        size = self.found.size
        check_range(self._at, self._end, size)
        self._stop = size if self._end is None else min(self._end, size)
        self.left = self._stop - self._at

    def resume_key(self) -> bytes:
        """Return the key by which the server copies from it."""
        assert self._channel is not None  # noqa: S101
        return smb.resume_key_of(self._channel.ask(smb.request_resume_key(self._file))[0])

    def read(self) -> bytes:
        """Return the next bytes, and ask for those after them."""
        channel = self._channel
        assert channel is not None  # noqa: S101
        while self._at < self._stop and len(self._asked) < smb.WINDOW:
            size = min(channel.chunk, self._stop - self._at)
            (request,) = channel.send(smb.read(size, self._at, self._file))
            self._asked.append((request, size))
            self._at += size
        request, size = self._asked.popleft()
        ((status, body),) = channel.statuses([request])
        data = b"" if status == END_OF_FILE else smb.data_of(body)
        if status not in (0, END_OF_FILE):
            raise StatusError(status)
        if len(data) < size:
            raise _cut_short(self._key)
        self.left -= size
        return data

    def read_into(self, target: io.BytesIO) -> None:
        """Read on for a moment only, so that who is cancelled need not wait for long."""
        until = time.monotonic() + MOMENT
        while self.left:
            target.write(self.read())
            if time.monotonic() > until:
                return

    def close(self) -> None:
        """Close the file if it is open; what was asked for is waited for."""
        channel, self._channel = self._channel, None
        if channel is not None:
            with contextlib.suppress(OSError, StatusError):
                channel.statuses([request for request, _ in self._asked])
                channel.ask(smb.close(self._file))


def get_small(tree: SMBTree, key: str, start: int, end: int | None) -> bytes | None:
    """Return a range of an object from one packet; None if it has more than :data:`SMALL` bytes."""
    size = SMALL if end is None else min(end - start, SMALL)
    trial = smb.read(max(1, size), start)
    channel = tree.reading.channel()
    _, found, ((status, body), _) = tree.open(channel, key, smb.READ_DATA, trial, smb.close())
    check_range(start, end, found.size)
    wanted = (found.size if end is None else min(end, found.size)) - start
    if not wanted:
        return b""
    if wanted > size:
        return None
    if status not in (0, END_OF_FILE):
        raise StatusError(status)
    data = b"" if status else smb.data_of(body)
    if len(data) < wanted:
        raise _cut_short(key)
    return data[:wanted]


def _cut_short(key: str) -> StorageError:
    return StorageError(f"{key!r} was cut short on the server while it was read.")
