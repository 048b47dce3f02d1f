"""One SFTP session: requests go out in batches, answers find who asked, silence is noticed."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from . import sftp_protocol as sftp
from .errors import StorageConnectionError, StorageError, StorageTimeoutError
from .sftp_protocol import StatusError, text

if TYPE_CHECKING:
    from asyncssh import SSHClientChannel

__all__ = ["Answer", "Channel", "Line", "settle"]

Body: TypeAlias = bytes | memoryview
Answer: TypeAlias = bytes | Exception
"""What comes of a request: the body of the answer, or what went wrong."""

BLOCK = 64 * 1024
"""Bytes read or written by one request, unless the server allows less."""
SMALLEST_BLOCK = 32 * 1024
"""What every server must allow."""
LONGEST_ANSWER = 1024 * 1024
UNSENT = 1024 * 1024
"""Bytes that may wait for the server before writers wait too."""
HEAVY = 8
"""How many small operations one that moves a large object is like, to those beside it."""
PATIENCE = 4
"""Timeouts after which a session is given up though others of its connection move."""

_HEAD = struct.Struct(">IBI")
_U32 = struct.Struct(">I")
_EXPECTED = {
    sftp.OPEN: sftp.HANDLE,
    sftp.OPENDIR: sftp.HANDLE,
    sftp.READ: sftp.DATA,
    sftp.LSTAT: sftp.ATTRS,
    sftp.FSTAT: sftp.ATTRS,
    sftp.STAT: sftp.ATTRS,
    sftp.READDIR: sftp.NAME,
    sftp.REALPATH: sftp.NAME,
    sftp.EXTENDED: sftp.EXTENDED_REPLY,  # or a status, depending on which
}


class Line:
    """A connection, as its sessions see it: when something last came, and its end."""

    def __init__(self, place: str, abort: Callable[[], None]) -> None:
        self.place = place
        """The server's address, for messages."""
        self.moved = 0.0
        """When anything was last received, by the loop's clock."""
        self.abort = abort
        """Breaks the connection."""


class Channel:
    """
    A session of SSH's subsystem ``sftp``; asyncssh calls its ``..._received`` methods.

    Many requests may be under way at once; the server answers in its own order. Answers of a
    session that ended are errors, never exceptions of a future, so none can be forgotten.
    """

    def __init__(self, line: Line, timeout: float) -> None:
        self.load = 0
        """Operations that work with it now; one that moves much counts as :data:`HEAVY`."""
        self.extensions: frozenset[bytes] = frozenset()
        """What the server can beyond the standard."""
        self.block = SMALLEST_BLOCK
        """Bytes of one read or write."""
        self._line = line
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, tuple[asyncio.Future[Answer] | None, int]] = {}
        self._number = 0
        self._outgoing: list[Body] = []
        self._incoming = bytearray()
        self._moved = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._channel: SSHClientChannel[bytes] | None = None
        self._ended: type[StorageError] | None = None
        self._why = ""
        self._writable = asyncio.Event()
        self._writable.set()
        self._version: asyncio.Future[Answer] = self._loop.create_future()

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._ended is None

    def time(self) -> float:
        """Return the loop's time, in seconds."""
        return self._loop.time()

    # -- asking --------------------------------------------------------------------------

    async def start(self) -> None:
        """Agree on the protocol's version and learn what the server can."""
        self._write([text(bytes([sftp.INIT]) + sftp.u32(3))])
        self.extensions = sftp.parse_extensions(settle(await self._version))
        if sftp.LIMITS in self.extensions:
            limits = await self.ask(sftp.EXTENDED, text(sftp.LIMITS))
            _, most_read, most_written, _ = struct.unpack(">QQQQ", limits[:32])
            most = min(most_read or BLOCK, most_written or BLOCK, BLOCK)
            self.block = max(most, SMALLEST_BLOCK)

    async def ask(self, kind: int, *body: Body) -> bytes:
        """
        Send a request and return the body of its answer.

        Raises:
            StatusError: The server says no.
            StorageConnectionError: The connection broke.
            StorageTimeoutError: Nothing moved for too long.
        """
        return settle(await self.send(kind, *body))

    def send(self, kind: int, *body: Body) -> asyncio.Future[Answer]:
        """Send a request; what comes of it is the future's result, errors too: see `settle`."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        if self._ended is not None:
            future.set_result(self._lost())
        else:
            self._send(kind, future, body)
        return future

    def close_handle(self, handle: bytes) -> None:
        """Close an open file or folder; nobody waits for the answer."""
        if self._ended is None:
            self._send(sftp.CLOSE, None, (text(handle),))

    def release(self, opening: asyncio.Future[Answer]) -> None:
        """Close what a request to open opened, or will have opened."""
        if not opening.done():
            opening.cancel()  # the answer is looked at when it comes
        elif not opening.cancelled() and isinstance(answer := opening.result(), bytes):
            self.close_handle(sftp.parse_text(answer)[0])

    async def writable(self) -> None:
        """Wait while too much waits to be sent."""
        if not self._writable.is_set():
            await self._writable.wait()

    def _send(
        self, kind: int, future: asyncio.Future[Answer] | None, body: tuple[Body, ...]
    ) -> None:
        if not self._waiting:
            self._moved = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._timeout, self._look)
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        self._waiting[number] = (future, _EXPECTED.get(kind, sftp.STATUS))
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        length = sum(map(len, body)) + 5
        self._outgoing.append(_HEAD.pack(length, kind, number))
        self._outgoing += body

    def _flush(self) -> None:
        """Send as one what was asked in one turn of the loop: encryption costs by the packet."""
        outgoing, self._outgoing = self._outgoing, []
        self._write(outgoing)

    def _write(self, parts: list[Body]) -> None:
        if self._ended is None and self._channel is not None:
            try:
                self._channel.write(b"".join(parts))  # pyright: ignore[reportUnknownMemberType]
            except OSError as error:  # the server has closed, and we are about to be told
                self._end(StorageConnectionError, str(error))

    # -- answers -------------------------------------------------------------------------

    def connection_made(self, chan: SSHClientChannel[bytes]) -> None:
        self._channel = chan
        chan.set_write_buffer_limits(high=UNSENT)

    def session_started(self) -> None: ...

    def xon_xoff_requested(self, client_can_do: bool) -> None: ...

    def exit_status_received(self, status: int) -> None: ...

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None: ...

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is not None:  # what a server says on the side, for people
            return
        self._moved = self._line.moved = self._loop.time()
        incoming = self._incoming
        incoming += data
        at, size = 0, len(incoming)
        with memoryview(incoming) as view:
            while size - at >= 9:
                length, kind, number = _HEAD.unpack_from(view, at)
                if length > LONGEST_ANSWER or length < 5:
                    self._end(StorageConnectionError, "the server sent what is no SFTP")
                    self.abort()
                    return
                end = at + 4 + length
                if end > size:
                    break
                if kind == sftp.VERSION:
                    self._answer(self._version, bytes(view[at + 5 : end]))
                else:
                    self._received(kind, number, bytes(view[at + 9 : end]))
                at = end
        if at:
            del incoming[:at]

    def _received(self, kind: int, number: int, body: bytes) -> None:
        future, expected = self._waiting.pop(number, (None, 0))
        if future is None:
            return
        if future.cancelled():
            if kind == sftp.HANDLE:
                self.close_handle(sftp.parse_text(body)[0])
            return
        answer: Answer = body
        if kind == sftp.STATUS:
            answer = sftp.parse_status(body) or b""
            right = isinstance(answer, StatusError) or expected in (kind, sftp.EXTENDED_REPLY)
        else:
            right = kind == expected
        if not right:
            answer = StorageError(f"{self._line.place} answered a request with a wrong message.")
        future.set_result(answer)

    @staticmethod
    def _answer(future: asyncio.Future[Answer], answer: Answer) -> None:
        if not future.done():
            future.set_result(answer)

    # -- the end -------------------------------------------------------------------------

    def _look(self) -> None:
        """See whether something moved lately, while somebody waits."""
        self._timer = None
        if not self._waiting or self._ended is not None:
            return
        now = self._loop.time()
        silent, all_silent = now - self._moved, now - self._line.moved
        left = self._timeout - min(silent, all_silent)
        if silent >= self._timeout * PATIENCE or left <= 0:
            self._end(StorageTimeoutError, f"nothing moved for {self._timeout:g} s")
            self.abort()
            if left <= 0:
                self._line.abort()
            return
        self._timer = self._loop.call_later(max(left, 0.001), self._look)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(StorageConnectionError, str(exc) if exc else "the server closed the session")

    def abort(self) -> None:
        """End at once; whoever waits is told."""
        self._end(StorageConnectionError, "the session was closed")
        if self._channel is not None:
            self._channel.abort()

    def _end(self, kind: type[StorageError], why: str) -> None:
        if self._ended is not None:
            return
        self._ended, self._why = kind, why
        self._writable.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._outgoing.clear()
        waiting, self._waiting = self._waiting, {}
        self._answer(self._version, self._lost())
        for future, _ in waiting.values():
            if future is not None:
                self._answer(future, self._lost())

    def _lost(self) -> StorageError:
        kind = self._ended or StorageConnectionError
        remedy = (
            "Try again, or raise request_timeout."
            if kind is StorageTimeoutError
            else "Try again; a new connection is made."
        )
        return kind(f"The connection to {self._line.place} was lost: {self._why}. {remedy}")


def settle(answer: Answer) -> bytes:
    """Return the body of an answer, or raise the error it is."""
    if isinstance(answer, Exception):
        raise answer
    return answer
