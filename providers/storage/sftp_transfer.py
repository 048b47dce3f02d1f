"""One file of an SFTP storage while it is written or read: many requests under way at once."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import deque
from collections.abc import AsyncGenerator

from . import sftp_protocol as sftp
from .base import CHUNK_SIZE, ObjectInfo, check_range
from .errors import StorageError
from .keys import RESERVED_PREFIX
from .sftp_channel import HEAVY, SMALLEST_BLOCK, Answer, settle
from .sftp_protocol import StatusError, parse_attributes, text, u32, u64
from .sftp_tree import ATTEMPTS, Tree, info_of, missing

__all__ = ["PART", "Draft", "read"]

PART = ".part"
"""How the names of files that are being written end."""
UNDER_WAY = 3 * 1024 * 1024
"""Bytes of one file that are asked for, or sent, before the first of them must be answered."""
COPY_STEP = 64 * 1024 * 1024
"""Bytes the server copies by one request, so that others on the session get their turn."""

_mark = f"{RESERVED_PREFIX}{secrets.token_hex(8)}"
_numbers = itertools.count()


class Draft:
    """
    An object that is being written, under a temporary name beside its place.

    Begun by :meth:`open`, ended by :meth:`commit` or, whatever happened, :meth:`discard`.
    """

    def __init__(self, tree: Tree, key: str) -> None:
        self._tree = tree
        self._channel = tree.channel
        self._key = key
        above, slash, _ = key.rpartition("/")
        self._path = tree.path(f"{above}{slash}{_mark}-{next(_numbers)}{PART}")
        self._opening: asyncio.Future[Answer] | None = None
        self._handle = b""
        self._size = 0
        self._sent: deque[asyncio.Future[Answer]] = deque()
        self._most = max(1, UNDER_WAY // self._channel.block)
        self._heavy = False
        self._placed = False

    async def open(self) -> None:
        """Create the file, and the folders above it."""
        for attempt in range(ATTEMPTS):
            await self._tree.check_folder(self._key)
            self._opening = self._channel.send(
                sftp.OPEN, text(self._path), u32(sftp.NEW_FOR_WRITING), sftp.NO_ATTRIBUTES
            )
            try:
                # A future that is cancelled with us would not tell what there is to clean up.
                answer = settle(await asyncio.shield(self._opening))
            except StatusError as error:
                if error.code == sftp.NO_SUCH_FILE or (error.code == sftp.FAILURE and attempt == 0):
                    await self._tree.make_folders(self._key)
                    continue
                raise
            self._handle = sftp.parse_text(answer)[0]
            return
        raise self._tree.unstable(self._key)

    async def write(self, data: bytes) -> None:
        """Append; returns before it is answered."""
        handle, block = text(self._handle), self._channel.block
        view = memoryview(data)
        for begin in range(0, len(data), block):
            part = view[begin : begin + block]
            while len(self._sent) >= self._most:
                settle(await self._sent.popleft())
            await self._channel.writable()
            if not self._heavy and self._size >= CHUNK_SIZE:
                self._heavy = True
                self._channel.load += HEAVY
            where = handle + u64(self._size) + u32(len(part))
            self._sent.append(self._channel.send(sftp.WRITE, where, part))
            self._size += len(part)

    async def copy_from(self, source: bytes) -> None:
        """Let the server fill it with the content of an open file."""
        answer = await self._channel.ask(sftp.FSTAT, text(source))
        size = parse_attributes(answer)[0].size or 0
        for begin in range(0, size, COPY_STEP):
            length = min(COPY_STEP, size - begin)
            await self._channel.ask(
                sftp.EXTENDED,
                text(sftp.COPY_DATA) + text(source) + u64(begin) + u64(length),
                text(self._handle) + u64(begin),
            )
        self._size = size

    async def commit(self, overwrite: bool, modified: int | None = None) -> ObjectInfo:
        """Put the object in its place; see :meth:`Tree.place`."""
        handle = text(self._handle)
        if modified is not None:
            self._sent.append(self._channel.send(sftp.FSETSTAT, handle + sftp.times(modified)))
        looking = self._channel.send(sftp.FSTAT, handle)
        closing = self._channel.send(sftp.CLOSE, handle)
        while self._sent:
            settle(await self._sent.popleft())
        there = parse_attributes(settle(await looking))[0]
        settle(await closing)
        if there.size != self._size:
            raise StorageError(
                f"The server kept {there.size} of {self._size} bytes of {self._key!r}. Put it "
                "again."
            )
        await self._tree.place(self._path, self._key, overwrite)
        self._placed = overwrite
        if not overwrite:
            await self._tree.remove(self._path)
            self._placed = True
        return info_of(self._key, there)

    def end(self) -> None:
        """Take its weight from the session."""
        if self._heavy:
            self._heavy = False
            self._channel.load -= HEAVY

    async def discard(self) -> None:
        """Remove what was not put in its place. A second time it does nothing."""
        opening, self._opening = self._opening, None
        if opening is None or self._placed:
            return
        answer = await opening
        if isinstance(answer, StatusError):
            await self._tree.remove_empty_folders(self._key)
            return
        if isinstance(answer, bytes):
            self._channel.close_handle(sftp.parse_text(answer)[0])
        await self.remove_from(self._tree)

    async def remove_from(self, tree: Tree) -> None:
        """Remove the temporary file, over this session or another one."""
        await tree.remove(self._path)
        await tree.remove_empty_folders(self._key)


async def read(
    tree: Tree, key: str, start: int = 0, end: int | None = None
) -> AsyncGenerator[bytes, None]:
    """
    Yield the bytes of a range of an object: of one version, also when it is replaced.

    Raises:
        FileNotFoundError: There is no such object.
        InvalidRangeError: The range starts past its end.
    """
    channel = tree.channel
    handle, size = await open_file(tree, key)
    try:
        if size < SMALLEST_BLOCK:
            # One byte more than there should be shows whether it still is that size.
            data = await _read_block(tree, handle, 0, size + 1)
            if len(data) == size:
                check_range(start, end, size)
                yield data if start == 0 and end is None else data[start:end]
                return
        stat = parse_attributes(await channel.ask(sftp.FSTAT, text(handle)))[0]
        size = stat.size or 0
        check_range(start, end, size)
        end = size if end is None else min(end, size)
        channel.load += HEAVY
        try:
            async for chunk in _chunks(tree, handle, start, end):
                yield chunk
        finally:
            channel.load -= HEAVY
    finally:
        channel.close_handle(handle)


async def open_file(tree: Tree, key: str) -> tuple[bytes, int]:
    """
    Open an object and return its handle, and what its size was a moment before.

    Raises:
        FileNotFoundError: There is no such object.
    """
    await tree.check_folder(key)
    channel, path = tree.channel, text(tree.path(key))
    looking = channel.send(sftp.LSTAT, path)
    opening = channel.send(sftp.OPEN, path, u32(sftp.FOR_READING), sftp.NO_ATTRIBUTES)
    try:
        there = parse_attributes(settle(await looking))[0]
        if not there.is_file:
            raise missing(key)
        return sftp.parse_text(settle(await opening))[0], there.size or 0
    except BaseException as error:
        channel.release(opening)
        if isinstance(error, StatusError) and error.code == sftp.NO_SUCH_FILE:
            await tree.check_root()
            raise missing(key) from None
        raise


async def _read_block(tree: Tree, handle: bytes, at: int, size: int) -> bytes:
    try:
        return sftp.parse_text(
            await tree.channel.ask(sftp.READ, text(handle) + u64(at) + u32(size))
        )[0]
    except StatusError as error:
        if error.code == sftp.END_OF_FILE:
            return b""
        raise


async def _chunks(tree: Tree, handle: bytes, at: int, end: int) -> AsyncGenerator[bytes, None]:
    channel, head = tree.channel, text(handle)
    block = channel.block
    most = max(1, UNDER_WAY // block)
    asked: deque[tuple[int, int, asyncio.Future[Answer]]] = deque()
    held: list[bytes] = []
    held_size = 0
    while asked or at < end:
        while at < end and len(asked) < most:
            size = min(block, end - at)
            asked.append((at, size, channel.send(sftp.READ, head + u64(at) + u32(size))))
            at += size
        begin, size, future = asked.popleft()
        try:
            data = sftp.parse_text(settle(await future))[0]
        except StatusError as error:
            if error.code != sftp.END_OF_FILE:
                raise
            data = b""
        if not data:
            raise StorageError("The object was cut short on the server while it was read.")
        held.append(data)
        held_size += len(data)
        if len(data) < size:  # a server may give less than it is asked for
            begin, size = begin + len(data), size - len(data)
            asked.appendleft((begin, size, channel.send(sftp.READ, head + u64(begin) + u32(size))))
        if held_size >= CHUNK_SIZE:
            yield b"".join(held)
            held.clear()
            held_size = 0
    if held:
        yield b"".join(held)
