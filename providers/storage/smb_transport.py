"""The socket below an SMB connection: no wait in it is without an end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Protocol

__all__ = ["Transport"]


class _Packable(Protocol):
    def pack(self) -> bytes: ...


class Transport:
    """
    What smbprotocol's ``Tcp`` is, with time limits.

    Its own blocks for ever in sending to a server that reads no more, and closing it waits for
    that. This one also notes when something moved last, so that who waits for an answer can tell a
    slow connection from a dead one.

    Args:
        server: Name or address.
        port: Its port.
        connect_timeout: Seconds until a connection stands.
        stall_timeout: Seconds that sending may wait.
    """

    def __init__(
        self, server: str, port: int, connect_timeout: float, stall_timeout: float
    ) -> None:
        self._address = (server, port)
        self._connect_timeout = connect_timeout
        self._stall_timeout = stall_timeout
        self._sending = threading.Lock()
        self._socket: socket.socket | None = None
        self.connected = False
        self.moved = time.monotonic()
        """When bytes last came or went."""

    def connect(self) -> None:
        """Connect; an ``OSError`` says why not."""
        self._socket = socket.create_connection(self._address, self._connect_timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(self._stall_timeout)
        self.connected = True

    def close(self) -> None:
        """Break the connection, from any thread and without waiting; see :meth:`release`."""
        self.connected = False
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the socket back, when no thread receives from it any more."""
        with self._sending:
            if self._socket is not None:
                self._socket.close()

    def send(self, header: bytes | _Packable) -> None:
        """
        Send one message. (The lock orders messages: who waits for it waits for the line.)

        Raises:
            TimeoutError: The server took nothing for so long.
            OSError: The connection broke.
        """
        data = header if isinstance(header, bytes) else header.pack()
        prefix = len(data).to_bytes(4, "big")
        with self._sending:
            if self._socket is None or not self.connected:
                raise ConnectionResetError("the connection is closed")
            try:
                sent = self._socket.sendmsg((prefix, data)) - len(prefix)
                self.moved = time.monotonic()
                if sent < len(data):
                    rest = memoryview(prefix + data)[len(prefix) + sent :]
                    while rest:
                        rest = rest[self._socket.send(rest) :]
                        self.moved = time.monotonic()
            except OSError:
                self.close()
                raise

    def recv(self, timeout: float) -> bytes | None:
        """
        Return the next message, None at the connection's end.

        Raises:
            TimeoutError: None has begun for so many seconds.
        """
        head = self._receive(4, timeout)
        return head and self._receive(int.from_bytes(head, "big"), None)

    def _receive(self, size: int, timeout: float | None) -> bytes | None:
        assert self._socket is not None  # noqa: S101
        started = time.monotonic()
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            try:
                count = self._socket.recv_into(rest)
            except TimeoutError:
                waited = time.monotonic() - started
                if timeout is not None and len(rest) == size and waited > timeout:
                    raise
                continue  # who waits for an answer closes what has stalled
            except OSError:
                count = 0
            if not count:
                self.close()
                return None
            self.moved = time.monotonic()
            rest = rest[count:]
        return bytes(data)
