"""Peers that misbehave on purpose, for tests of what happens then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self

__all__ = ["FaultyProxy", "Peer", "RecordingServer"]


class Peer:
    """A server in this event loop, whose connections end with it, however far they are."""

    port = 0
    """Where it listens on 127.0.0.1."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client; the connection is closed afterwards."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, after a stop on the same port as before."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections, and break those there are."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:  # also of those whose task had not begun
            writer.transport.abort()

    # A plain function is called as soon as there is a connection: none goes unseen.
    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):  # the client is gone
                await self.serve(reader, writer)
        finally:
            writer.close()


class FaultyProxy(Peer):
    """
    Passes connections on to a server, until told to do worse.

    Args:
        port: The server's port on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.cut_upstream_after: int | None = None
        """Bytes from the client after which a connection breaks."""
        self.cut_downstream_after: int | None = None
        """Bytes to the client after which a connection breaks."""
        self.broken = asyncio.Event()
        """Set when a connection broke for one of these."""
        self.silent = False
        """Take connections, and never answer."""
        self.passed = 0
        """Bytes that came through, both ways together."""
        self.flowing = asyncio.Event()
        """While it is not set, everything waits: connections there are, and others."""
        self.flowing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: asyncio.StreamWriter | None = None
        try:
            if self.silent:
                await asyncio.Event().wait()
            await self.flowing.wait()
            answers, peer = await asyncio.open_connection("127.0.0.1", self._target)
            pumps = {
                asyncio.create_task(self._pump(reader, peer, lambda: self.cut_upstream_after)),
                asyncio.create_task(self._pump(answers, writer, lambda: self.cut_downstream_after)),
            }
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            for end in (writer, peer):
                if end is not None:
                    end.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limit: Callable[[], int | None],
    ) -> None:
        passed = 0
        while data := await reader.read(65536):
            passed += len(data)
            most = limit()  # may be set while the connection is open
            if most is not None and passed > most:
                self.broken.set()
                return
            await self.flowing.wait()
            self.passed += len(data)
            writer.write(self.passing(data))
            await writer.drain()

    def passing(self, data: bytes) -> bytes:
        """Return what is passed on of what came."""
        return data


class RecordingServer(Peer):
    """An HTTP server that answers 200 to everything and keeps the request lines and headers."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(head)
        writer.write(
            b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
        )
        await writer.drain()
