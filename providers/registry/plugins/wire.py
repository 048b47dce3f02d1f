"""Frames over a pipe, and streams over frames: what both ends of a plugin's pipe share."""

from __future__ import annotations

import asyncio
import struct
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import AsyncIterator, Callable
from enum import IntEnum
from typing import Any

from .codec import Codec

__all__ = ["CHUNK", "WINDOW", "Credit", "Inflow", "Kind", "Wire", "WireError"]

_HEAD = struct.Struct("!BBQI")
"""Kind, whether more of the message follows, number of the call or stream, size."""
CHUNK = 256 * 1024
"""Bytes of a frame at most; a longer message is several frames."""
MAX_ITEM = 16 * 1024 * 1024
"""Bytes of one item of a stream at most."""
MAX_UNFINISHED = 4096
"""Messages that may be half-sent at the same time."""
WINDOW = 8
"""Items of a stream that may be under way before the reader asks for more."""


class WireError(Exception):
    """The other side broke the rules of the wire."""


class Kind(IntEnum):
    """What a frame is about; the number is that of a call, or of a stream."""

    HELLO = 1
    START = 2
    CALL = 3
    RESULT = 4
    ERROR = 5
    CANCEL = 6
    CANCELLED = 7
    ITEM = 8
    END = 9
    CREDIT = 10
    PING = 11
    PONG = 12


class Wire:
    """
    One end of a pipe.

    Args:
        reader: Where frames come from.
        writer: Where frames go.
        codec: How their content is written.
        limit: Bytes that unfinished and finished messages may take before they are read.
    """

    def __init__(
        self, reader: StreamReader, writer: StreamWriter, codec: Codec, limit: int
    ) -> None:
        self.codec = codec
        self._reader = reader
        self._writer = writer
        self._limit = limit
        self._unfinished: dict[tuple[Kind, int], bytearray] = {}
        self._held = 0

    async def send(self, kind: Kind, number: int = 0, value: Any = None) -> None:
        """
        Write a message; waits while the other side is slow to read.

        Raises:
            TypeError: The value cannot cross; nothing was written.
            ConnectionError: The other side is gone.
        """
        data = b"".join(self.codec.dumps(value))
        if kind is Kind.ITEM and len(data) > MAX_ITEM:
            raise TypeError(f"an item of {len(data)} bytes; {MAX_ITEM} may cross at a time")
        for begin in range(0, len(data), CHUNK):
            piece = data[begin : begin + CHUNK]
            more = begin + CHUNK < len(data)
            # Before and not after: who is cancelled here has not sent the message as a whole.
            await self._writer.drain()
            self._writer.write(_HEAD.pack(kind, more, number, len(piece)) + piece)

    def post(self, kind: Kind, number: int = 0, value: Any = None) -> None:
        """Write a small message without waiting."""
        data = b"".join(self.codec.dumps(value))
        self._writer.write(_HEAD.pack(kind, False, number, len(data)) + data)

    async def receive(self) -> tuple[Kind, int, bytes | bytearray]:
        """
        Return the next message: its kind, number and content, still encoded.

        Raises:
            WireError: What came is no frame, or too large.
            EOFError: The other side is gone.
        """
        while True:
            kind, more, number, size = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
            try:
                kind = Kind(kind)
            except ValueError:
                raise WireError(f"a frame of the unknown kind {kind}") from None
            if size > CHUNK or more > 1:
                raise WireError(f"a frame of {size} bytes, where {CHUNK} are allowed")
            piece = await self._reader.readexactly(size)
            key = (kind, number)
            if not more and key not in self._unfinished:
                return kind, number, piece
            whole = self._unfinished.setdefault(key, bytearray())
            whole += piece
            self._held += size
            limit = MAX_ITEM if kind is Kind.ITEM else self._limit
            if len(whole) > limit or self._held > self._limit:
                raise WireError(f"messages of more than {limit} bytes")
            if len(self._unfinished) > MAX_UNFINISHED:
                raise WireError(f"more than {MAX_UNFINISHED} unfinished messages")
            if not more:
                self._held -= len(whole)
                return kind, number, self._unfinished.pop(key)

    def forget(self, number: int) -> None:
        """Drop what came of unfinished messages of a call or stream."""
        for key in [key for key in self._unfinished if key[1] == number]:
            self._held -= len(self._unfinished.pop(key))

    def close(self) -> None:
        """Close this end's writing half."""
        self._writer.close()


class Credit:
    """How many items a writer may still send; the reader grants more as it takes them."""

    def __init__(self, amount: int) -> None:
        self._semaphore = asyncio.Semaphore(amount)

    async def take(self) -> None:
        """Wait for the right to send one item."""
        await self._semaphore.acquire()

    def grant(self, amount: int) -> None:
        """Allow some more; a nonsensical amount is cut."""
        for _ in range(min(amount, WINDOW)):
            self._semaphore.release()


class Inflow:
    """
    The reading end of a stream: items in order, then its end or an error.

    Args:
        grant: Called with how many more items the writer may send.
        opened: How many it may send before it is asked.
    """

    def __init__(self, grant: Callable[[int], None], opened: int = WINDOW) -> None:
        self._grant = grant
        self._open = opened
        self._items: deque[Any] = deque()
        self._end: BaseException | None = None
        self._arrived = asyncio.Event()

    def put(self, item: Any) -> None:
        """
        Add an item.

        Raises:
            WireError: The writer sends more than it was granted, or after the end.
        """
        if self._open <= 0 or self._end is not None:
            raise WireError("more items of a stream than were asked for")
        self._open -= 1
        self._items.append(item)
        self._arrived.set()

    def end(self, error: BaseException | None = None) -> None:
        """Note that no more will come, and why; only the first end counts."""
        if self._end is None:
            self._end = error or StopAsyncIteration()
            self._arrived.set()

    @property
    def ended(self) -> bool:
        """Whether no more will come."""
        return self._end is not None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if not self._items and self._end is None and self._open == 0:
            self._more()  # the first look of a reader who granted nothing beforehand
        while not self._items:
            if self._end is not None:
                raise self._end
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        if self._end is None and self._open + len(self._items) <= WINDOW // 2:
            self._more()
        return item

    def _more(self) -> None:
        amount = WINDOW - self._open - len(self._items)
        self._open += amount
        self._grant(amount)
